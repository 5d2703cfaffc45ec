//! A keyed permutation of `0..count` that is computed and not stored.
//!
//! # Idea
//!
//! Numbers are cells of a grid, and a Feistel network permutes the grid. Half a number is changed by an amount that
//! depends on the other half and a key, then the halves change roles:
//!
//! ```text
//! value = line << column_bits | column          2^column_bits columns, ceil(count / 2^column_bits) lines
//!
//! a pair of rounds:   line   <- (line + step(column, key)) mod lines
//!                     column <- column xor flips(line, next key)
//! ```
//!
//! The network is unbalanced: lines are a modular sum, since their number is no power of two. So the grid exceeds the
//! rows by less than a line, and splitting a number is still a shift.
//!
//! # Why it is a permutation
//!
//! Each round leaves one half alone, so the same amount can be subtracted, or flipped back; `decrypt` does that in
//! reverse order. Hence the network permutes the grid. A value that lands outside of `0..count` is encrypted again
//! until it lands inside (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). That
//! follows the cycle of the position to its next number inside, so two positions never meet.
//!
//! It is meant to look random to statistics, not to resist an attacker. The tests count where positions, pairs and
//! whole orders go, over many seeds.
//!
//! # Cost
//!
//! Less than 200 bytes, whatever the count. Three multiplications of 32 bits in a round over lines and two in one
//! over columns, six rounds in all, and sixteen where there are few rows. A walk is rare: the share of the grid that is
//! outside is less than one over the number of lines, which is about the square root of the rows.
//!
//! Multiplications are of 32 bits because vector units have no 64-bit ones. [`Permutation::map`] sends sixteen
//! positions through the network side by side, in loops that the compiler turns into vector code; the same source is
//! compiled for AVX2 and without, and the products are integers, so both give the same rows.

#![expect(
    clippy::inline_always,
    reason = "code that is compiled for several processors must lie in the function that names them"
)]

use crate::random::mix;

/// Rounds of a large grid.
const ROUNDS: usize = 6;
/// Rounds of a small grid. It needs more, since a round can move its numbers less far.
const ROUNDS_OF_FEW: usize = 16;
/// A grid of fewer rows than this is small.
const FEW: u64 = 1 << 16;

/// Positions that go through the network side by side: they fill a few vector registers.
const LANES: usize = 16;
const LOW: u64 = 0xFFFF_FFFF;

/// Scatters the lower 32 bits of a line or a column over 32 bits: two products of 32 bits, each folded onto itself. The
/// upper half of the key enters before the second.
#[inline(always)]
fn scatter(value: u64, key: u64) -> u64 {
    let product = ((value ^ key) & LOW) * 0x9E37_79B1;
    let product = ((product ^ (product >> 32) ^ (key >> 32)) & LOW) * 0x85EB_CA6B;
    (product ^ (product >> 32)) & LOW
}

/// A permutation of `0..count`.
///
/// A number is a line and a column of a grid. Lines are a power of two long, so splitting a number is a shift. Only the
/// last line may be incomplete, so less than a line of the grid is outside.
#[derive(Clone, Debug)]
pub struct Permutation {
    count: u64,
    lines: u64,
    column_bits: u32,
    /// One key per round.
    keys: [u64; ROUNDS_OF_FEW],
    rounds: usize,
}

impl Permutation {
    /// The permutation of `count` rows for a seed and an epoch.
    #[must_use]
    pub fn new(count: u64, seed: u64, epoch: u64) -> Self {
        let bits = 64 - count.saturating_sub(1).leading_zeros();
        let column_bits = bits.div_ceil(2);
        let rounds = if count < FEW { ROUNDS_OF_FEW } else { ROUNDS };
        let state = mix(mix(mix(seed) ^ epoch));
        let mut keys = [0; ROUNDS_OF_FEW];
        for (key, round) in keys[..rounds].iter_mut().zip(0..) {
            *key = mix(state ^ round);
        }
        Self {
            count,
            lines: count.div_ceil(1 << column_bits),
            column_bits,
            keys,
            rounds,
        }
    }

    /// The row at a position.
    ///
    /// # Panics
    /// When the position isn't below the count.
    #[must_use]
    #[inline]
    pub fn at(&self, position: u64) -> u64 {
        assert!(position < self.count, "{position} of {} rows", self.count);
        let value = self.encrypt(position);
        if value < self.count {
            value
        } else {
            self.walk(value)
        }
    }

    /// Replaces positions by their rows; cheaper than one by one, as sixteen are computed side by side.
    ///
    /// # Panics
    /// When a position isn't below the count.
    pub fn map(&self, positions: &mut [u64]) {
        let (lanes, rest) = positions.as_chunks_mut::<LANES>();
        for lanes in lanes {
            assert!(lanes.iter().all(|&position| position < self.count));
            self.encrypt_lanes(lanes);
            for value in lanes {
                if *value >= self.count {
                    *value = self.walk(*value);
                }
            }
        }
        for value in rest {
            *value = self.at(*value);
        }
    }

    fn encrypt_lanes(&self, values: &mut [u64; LANES]) {
        #[cfg(target_arch = "x86_64")]
        if crate::cpu::has_avx2() {
            // SAFETY: the processor has what the function asks for.
            #[expect(
                unsafe_code,
                reason = "vector code that was compiled for some processors"
            )]
            return unsafe { self.encrypt_lanes_avx2(values) };
        }
        self.encrypt_all(values);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn encrypt_lanes_avx2(&self, values: &mut [u64; LANES]) {
        self.encrypt_all(values);
    }

    /// The position of a row: the inverse of `at`.
    ///
    /// # Panics
    /// When the row isn't below the count.
    #[must_use]
    pub fn position_of(&self, row: u64) -> u64 {
        assert!(row < self.count, "{row} of {} rows", self.count);
        let mut value = self.decrypt(row);
        while value >= self.count {
            value = self.decrypt(value);
        }
        value
    }

    /// Follows the cycle of a value outside of the rows to the first value inside.
    #[cold]
    fn walk(&self, mut value: u64) -> u64 {
        while value >= self.count {
            value = self.encrypt(value);
        }
        value
    }

    #[inline(always)]
    fn split(&self, value: u64) -> (u64, u64) {
        (
            value >> self.column_bits,
            value & ((1 << self.column_bits) - 1),
        )
    }

    #[inline(always)]
    fn join(&self, line: u64, column: u64) -> u64 {
        line << self.column_bits | column
    }

    /// How far a round moves the lines of a column: 32 scattered bits, scaled down to `0..lines` by a product and a
    /// shift. There are fewer than 2^32 lines.
    #[inline(always)]
    fn line_step(&self, column: u64, key: u64) -> u64 {
        (scatter(column, key) * (self.lines & LOW)) >> 32
    }

    /// The bits that a round flips in the columns of a line.
    #[inline(always)]
    fn column_flips(&self, line: u64, key: u64) -> u64 {
        scatter(line, key) & ((1 << self.column_bits) - 1)
    }

    #[inline(always)]
    fn key_pairs(&self) -> &[[u64; 2]] {
        self.keys[..self.rounds].as_chunks::<2>().0
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mut values = [value];
        self.encrypt_all(&mut values);
        values[0]
    }

    #[inline(always)]
    fn encrypt_all<const N: usize>(&self, values: &mut [u64; N]) {
        let (mut lines, mut columns) = ([0; N], [0; N]);
        for at in 0..N {
            (lines[at], columns[at]) = self.split(values[at]);
        }
        for [odd, even] in self.key_pairs() {
            for at in 0..N {
                let line = lines[at] + self.line_step(columns[at], *odd);
                lines[at] = line - if line >= self.lines { self.lines } else { 0 };
                columns[at] ^= self.column_flips(lines[at], *even);
            }
        }
        for at in 0..N {
            values[at] = self.join(lines[at], columns[at]);
        }
    }

    fn decrypt(&self, value: u64) -> u64 {
        let (mut line, mut column) = self.split(value);
        for [odd, even] in self.key_pairs().iter().rev() {
            column ^= self.column_flips(line, *even);
            let step = self.line_step(column, *odd);
            line = if line >= step {
                line - step
            } else {
                line + self.lines - step
            };
        }
        self.join(line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_permutation(count in 1u64..3000, seed: u64, epoch: u64) {
            let permutation = Permutation::new(count, seed, epoch);
            let mut seen = vec![false; count as usize];
            for position in 0..count {
                let row = permutation.at(position);
                prop_assert!(!std::mem::replace(&mut seen[row as usize], true));
                prop_assert_eq!(permutation.position_of(row), position);
            }
            let mut mapped: Vec<u64> = (0..count).collect();
            permutation.map(&mut mapped);
            prop_assert!((0..count).all(|at| mapped[at as usize] == permutation.at(at)));
        }
    }

    /// Large orders go through fewer rounds: places of single rows, and of pairs near and far, by hundredths.
    #[test]
    fn large_orders_are_uniform() {
        const ROWS: u64 = 1 << 20;
        const SEEDS: u64 = 20_000;
        for (first, second) in [
            (0, 1),
            (0, 1 << 10),
            (5, ROWS / 2 + 5),
            (ROWS - 2, ROWS - 1),
        ] {
            let mut hits = [0u32; 100];
            for seed in 0..SEEDS {
                let permutation = Permutation::new(ROWS, seed, 0);
                let tenth = |position| (permutation.at(position) * 10 / ROWS) as usize;
                hits[tenth(first) * 10 + tenth(second)] += 1;
            }
            let expected = SEEDS as f64 / 100.0;
            let distance = |&n: &u32| (f64::from(n) - expected).powi(2) / expected;
            let chi2: f64 = hits.iter().map(distance).sum();
            assert!(chi2 < 170.0, "{first} and {second}: chi-squared {chi2}");
        }
    }

    #[test]
    fn depends_on_seed_and_epoch() {
        let order = |seed, epoch| -> Vec<u64> {
            let p = Permutation::new(100, seed, epoch);
            (0..100).map(|i| p.at(i)).collect()
        };
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(1, 3));
        assert_ne!(order(1, 2), order(2, 2));
        assert_ne!(order(1, 2), order(2, 1));
    }

    /// All orders of a few rows, and all pairs of neighbours, must come about equally often.
    #[test]
    fn orders_and_neighbours_are_uniform() {
        const SEEDS: u64 = 24_000;
        for (count, taken, cells) in [(4, 4, 24), (5, 5, 120), (12, 2, 132), (17, 2, 272)] {
            let mut hits = std::collections::HashMap::new();
            for seed in 0..SEEDS {
                let permutation = Permutation::new(count, seed, 1);
                let first: Vec<u64> = (0..taken).map(|at| permutation.at(at)).collect();
                *hits.entry(first).or_insert(0u32) += 1;
            }
            assert_eq!(hits.len(), cells, "{count} rows");
            let expected = SEEDS as f64 / cells as f64;
            let distance = |&n: &u32| (f64::from(n) - expected).powi(2) / expected;
            let chi2: f64 = hits.values().map(distance).sum();
            let freedom = cells as f64 - 1.0;
            // Five standard deviations.
            let most = freedom + 5.0 * (2.0 * freedom).sqrt();
            assert!(
                chi2 < most,
                "{count} rows: chi-squared {chi2}, at most {most}"
            );
        }
    }

    /// Every position must reach every row about equally often: chi-squared over seeds, with 99 degrees of freedom a
    /// row; 170 is beyond the 99.999th percentile.
    #[test]
    fn is_uniform() {
        const ROWS: usize = 100;
        const SEEDS: u64 = 4000;
        let mut hits = vec![[0u32; ROWS]; ROWS];
        for seed in 0..SEEDS {
            let permutation = Permutation::new(ROWS as u64, seed, 0);
            for (position, hits) in hits.iter_mut().enumerate() {
                hits[permutation.at(position as u64) as usize] += 1;
            }
        }
        let expected = SEEDS as f64 / ROWS as f64;
        for (position, hits) in hits.iter().enumerate() {
            let chi2: f64 = hits
                .iter()
                .map(|&n| (f64::from(n) - expected).powi(2) / expected)
                .sum();
            assert!(chi2 < 170.0, "position {position}: chi-squared {chi2}");
        }
    }
}
