//! A keyed permutation: a balanced Feistel network over the smallest power of four that holds the rows, walked along its
//! cycle until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

use crate::random::mix;

const ROUNDS: usize = 6;

/// A permutation of `0..count`.
#[derive(Clone, Debug)]
pub struct Permutation {
    count: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `count` rows for a seed and an epoch.
    #[must_use]
    pub fn new(count: u64, seed: u64, epoch: u64) -> Self {
        let bits = 64 - count.saturating_sub(1).leading_zeros();
        let mut keys = [0; ROUNDS];
        let mut state = mix(mix(seed) ^ epoch);
        for key in &mut keys {
            state = mix(state);
            *key = state;
        }
        Self {
            count,
            half_bits: bits.div_ceil(2).max(1),
            keys,
        }
    }

    /// The row at a position.
    ///
    /// # Panics
    /// When the position isn't below the count.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        self.walk(position, |value| self.encrypt(value))
    }

    /// The position of a row: the inverse of `at`.
    ///
    /// # Panics
    /// When the row isn't below the count.
    #[must_use]
    pub fn position_of(&self, row: u64) -> u64 {
        self.walk(row, |value| self.decrypt(value))
    }

    fn walk(&self, start: u64, step: impl Fn(u64) -> u64) -> u64 {
        assert!(start < self.count, "{start} of {} rows", self.count);
        let mut value = start;
        loop {
            value = step(value);
            if value < self.count {
                return value;
            }
        }
    }

    fn halves(&self, value: u64) -> (u64, u64) {
        (value >> self.half_bits, value & self.mask())
    }

    fn mask(&self) -> u64 {
        (1 << self.half_bits) - 1
    }

    fn encrypt(&self, value: u64) -> u64 {
        let (mut left, mut right) = self.halves(value);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & self.mask()));
        }
        left << self.half_bits | right
    }

    fn decrypt(&self, value: u64) -> u64 {
        let (mut left, mut right) = self.halves(value);
        for key in self.keys.iter().rev() {
            (left, right) = (right ^ (mix(left ^ key) & self.mask()), left);
        }
        left << self.half_bits | right
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
