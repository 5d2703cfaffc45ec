//! The order of samples: a function from (seed, epoch, position) to row.
//!
//! A shuffled order is a keyed permutation: a balanced Feistel network over the smallest power of four that holds the
//! rows, walked along its cycle until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains",
//! 2002). No index array and no shuffle buffer exist, so that a million rows cost what ten do, and position `n` is known
//! without the `n - 1` before it: that is what makes resuming free.

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
        assert!(
            position < self.count,
            "position {position} of {} rows",
            self.count
        );
        let mut value = position;
        loop {
            value = self.encrypt(value);
            if value < self.count {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// Which rows of a dataset an order runs over: a view.
#[derive(Clone, Debug)]
pub enum Rows {
    /// `start, start + step, ...`, `count` of them.
    Range {
        /// First row.
        start: u64,
        /// Distance, possibly negative.
        step: i64,
        /// How many.
        count: u64,
    },
    /// Any rows in any order.
    List(Vec<u64>),
}

impl Rows {
    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(rows) => rows.len() as u64,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of the dataset at an index of the view.
    #[must_use]
    pub fn at(&self, index: u64) -> u64 {
        match self {
            Self::Range { start, step, .. } => start.wrapping_add_signed(step * index as i64),
            Self::List(rows) => rows[index as usize],
        }
    }

    /// Whether every row lies below `limit`.
    #[must_use]
    pub fn all_below(&self, limit: u64) -> bool {
        match self {
            Self::Range { count: 0, .. } => true,
            Self::Range { start, step, count } => {
                let last = i128::from(*start) + i128::from(*step) * i128::from(count - 1);
                *start < limit && (0..i128::from(limit)).contains(&last)
            }
            Self::List(rows) => rows.iter().all(|&row| row < limit),
        }
    }
}

/// One epoch's order over a view.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    rows: &'a Rows,
    shuffle: Option<Permutation>,
}

impl<'a> Order<'a> {
    /// The order of a view for an epoch; without a seed, the view's own.
    #[must_use]
    pub fn new(rows: &'a Rows, seed: Option<u64>, epoch: u64) -> Self {
        let shuffle = seed.map(|seed| Permutation::new(rows.len(), seed, epoch));
        Self { rows, shuffle }
    }

    /// The row at a position.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        self.rows.at(self
            .shuffle
            .as_ref()
            .map_or(position, |shuffle| shuffle.at(position)))
    }

    /// The row at a position when the positions after it are the rows after it.
    #[must_use]
    pub fn run(&self, position: u64) -> Option<u64> {
        match (self.rows, &self.shuffle) {
            (Rows::Range { step: 1, start, .. }, None) => Some(start + position),
            _ => None,
        }
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
                let row = permutation.at(position) as usize;
                prop_assert!(!std::mem::replace(&mut seen[row], true));
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

    #[test]
    fn views_stay_inside() {
        let range = |start, step, count| Rows::Range { start, step, count };
        assert!(range(9, -3, 4).all_below(10));
        assert!(!range(9, -3, 5).all_below(10));
        assert!(!range(0, 5, 3).all_below(10));
        assert!(!range(0, i64::MAX, u64::MAX).all_below(10));
        assert_eq!(range(9, -3, 4).at(3), 0);
        assert!(!Rows::List(vec![1, 10]).all_below(10));
    }
}
