//! Rows drawn in proportion to weights, each epoch anew.
//!
//! # Idea
//!
//! The weights are laid end to end, and their sum is cut into as many equal pieces as an epoch has samples. Each piece
//! draws one random point of itself; the row whose weight covers the point is the sample (stratified sampling; Cochran,
//! "Sampling Techniques", 1977, chapter 5).
//!
//! ```text
//! rows      |------- 0 -------|- 1 -|---- 2 ----|          widths are weights
//! pieces    |    0    |    1    |    2    |    3    |      one draw in each
//! ```
//!
//! # What it equals
//!
//! A piece that a row covers wholly draws that row for sure. Chance is left to the two pieces at the ends of a row. So
//! a row comes as often as its weight says, with a difference of less than two; independent draws would scatter by the
//! square root. With equal weights and as many samples as rows, each row comes once, but for rounding of the sums.
//!
//! A sample follows from its piece, the seed and the epoch alone.
//!
//! # Cost
//!
//! The running sums take 8 bytes a row, and a draw is a binary search in them.

use crate::error::{Error, Result};
use crate::random::{mix, unit};

/// The weights of a view's rows, summed up, and how many samples an epoch takes.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Running sums: the weights up to and including each row.
    ends: Vec<f64>,
    samples: u64,
}

impl Weights {
    /// Checks the weights and sums them up.
    pub fn new(weights: &[f64], samples: u64) -> Result<Self> {
        let mut sum = 0.0;
        let mut ends = Vec::with_capacity(weights.len());
        for (row, &weight) in weights.iter().enumerate() {
            if !weight.is_finite() || weight < 0.0 {
                let expected = "expected a finite number of at least 0";
                return Err(Error::option(format!(
                    "weight {weight} of row {row}, {expected}"
                )));
            }
            sum += weight;
            ends.push(sum);
        }
        if !(samples == 0 || sum > 0.0 && sum.is_finite()) {
            return Err(Error::option(format!(
                "weights add up to {sum}, expected more than 0"
            )));
        }
        Ok(Self { ends, samples })
    }

    /// How many rows have a weight, be it 0.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.ends.len() as u64
    }

    /// How many samples an epoch draws.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The index in the view of the row that a piece of the sum draws.
    pub(super) fn draw(&self, piece: u64, seed: u64, epoch: u64) -> u64 {
        let total = self.ends.last().copied().unwrap_or(0.0);
        let within = unit(mix(mix(mix(seed) ^ epoch) ^ piece));
        let point = (piece as f64 + within) * (total / self.samples as f64);
        let row = self.ends.partition_point(|&end| end <= point);
        // Rounding may carry the last point to the end: then it is the last row that has any weight.
        let last = || self.ends.partition_point(|&end| end < total);
        (if row < self.ends.len() { row } else { last() }) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(weights: &[f64], samples: u64, epoch: u64) -> Vec<u64> {
        let drawn = Weights::new(weights, samples).unwrap();
        let mut counts = vec![0; weights.len()];
        (0..samples).for_each(|piece| counts[drawn.draw(piece, 5, epoch) as usize] += 1);
        counts
    }

    proptest! {
        #[test]
        fn each_row_comes_as_often_as_its_weight_says(
            weights in proptest::collection::vec(prop_oneof![Just(0.0), 0.01..10.0], 1..200),
            samples in 1u64..2000,
            epoch: u64,
        ) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            for (count, weight) in counts(&weights, samples, epoch).into_iter().zip(weights) {
                let expected = weight / sum * samples as f64;
                prop_assert!((count as f64 - expected).abs() < 2.0 + 1e-9);
                prop_assert!(weight > 0.0 || count == 0);
            }
        }
    }

    #[test]
    fn equal_weights_bring_each_row_once() {
        assert!(
            counts(&[0.3; 1000], 1000, 9)
                .iter()
                .all(|&count| count == 1)
        );
    }

    #[test]
    fn epochs_differ() {
        assert_ne!(counts(&[1.0; 100], 30, 0), counts(&[1.0; 100], 30, 1));
    }

    #[test]
    fn refuses_what_is_no_weight() {
        for bad in [&[1.0, -1.0][..], &[f64::NAN], &[f64::INFINITY], &[0.0, 0.0]] {
            assert!(Weights::new(bad, 2).is_err());
        }
    }
}
