//! The arithmetic of mixing a batch's rows, each with the one before it, in place.
//!
//! ```text
//! saved = last row;   row n <- mix(row n, row n - 1), ..., row 1 <- mix(row 1, row 0);   row 0 <- mix(row 0, saved)
//! ```
//!
//! From the last row to the first, every partner is still untouched, except for the first row's partner, which is the
//! last row. So one saved copy is all the memory that this takes. Rows that failed are passed over.
//!
//! Floats are rounded where torch rounds them, so results are torchvision's to the bit. Integers, which torchvision
//! refuses, are the nearest to the same sum.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::Result;
use crate::pixels::Scratch;
use crate::random::Draws;
use crate::schema::Dtype;

/// Values converted at once; a stack's worth.
const CHUNK: usize = 256;

/// Rows of one field of a batch that nobody else touches.
pub(super) struct Rows<'a> {
    /// The rows, and whatever lies between them.
    pub(super) values: &'a mut [u8],
    /// Bytes a row.
    pub(super) size: usize,
    /// Which take part, ascending.
    pub(super) kept: &'a [usize],
}

impl Rows<'_> {
    /// Calls `mix` with every row and its partner as it was.
    fn each(self, saved: &mut Scratch, mut mix: impl FnMut(&mut [u8], &[u8])) -> Result<()> {
        let size = self.size;
        let (Some(&first), Some(&last)) = (self.kept.first(), self.kept.last()) else {
            return Ok(());
        };
        let saved = saved.bytes(size)?;
        saved.copy_from_slice(&self.values[last * size..][..size]);
        for pair in self.kept.windows(2).rev() {
            let (before, rest) = self.values.split_at_mut(pair[1] * size);
            mix(&mut rest[..size], &before[pair[0] * size..][..size]);
        }
        mix(&mut self.values[first * size..][..size], saved);
        Ok(())
    }

    /// Row times lambda and partner times 1 - lambda.
    pub(super) fn blend(self, saved: &mut Scratch, dtype: Dtype, lambda: f64) -> Result<()> {
        let weights = [lambda as f32, (1.0 - lambda) as f32];
        self.each(saved, |row, partner| blend(dtype, row, partner, weights))
    }

    /// Copies these byte ranges of the partner.
    pub(super) fn paste(
        self,
        saved: &mut Scratch,
        runs: &(impl Iterator<Item = Range<usize>> + Clone),
    ) -> Result<()> {
        self.each(saved, |row, partner| {
            for run in runs.clone() {
                row[run.clone()].copy_from_slice(&partner[run]);
            }
        })
    }
}

fn blend(dtype: Dtype, row: &mut [u8], partner: &[u8], weights: [f32; 2]) {
    let [own, other] = weights;
    let sum = |a: f32, b: f32| a * own + b * other;
    match dtype {
        Dtype::Uint8 => zip(row, partner, |a, b| {
            nearest(sum(f32::from(a), f32::from(b))) as u8
        }),
        Dtype::Uint16 => zip(
            cast_slice_mut(row),
            cast_slice(partner),
            |a: u16, b: u16| nearest(sum(f32::from(a), f32::from(b))) as u16,
        ),
        Dtype::Float16 => blend_halves(cast_slice_mut(row), cast_slice(partner), weights),
        Dtype::Bfloat16 => zip(
            cast_slice_mut(row),
            cast_slice(partner),
            |a: bf16, b: bf16| {
                let a = bf16::from_f32(a.to_f32() * own);
                let b = bf16::from_f32(b.to_f32() * other);
                bf16::from_f32(a.to_f32() + b.to_f32())
            },
        ),
        Dtype::Float32 => zip(cast_slice_mut(row), cast_slice(partner), sum),
        _ => unreachable!("no field that is mixed is {}", dtype.name()),
    }
}

fn zip<T: Copy>(row: &mut [T], partner: &[T], mix: impl Fn(T, T) -> T) {
    for (own, other) in row.iter_mut().zip(partner) {
        *own = mix(*own, *other);
    }
}

/// The nearest integer, ties to even, of a number from 0 to 65535: what is left of the mantissa when 2^23 is added.
fn nearest(value: f32) -> u32 {
    (value + 8_388_608.0).to_bits() & 0xFFFF
}

/// In runs, as converting one value at a time asks for the processor's features every time.
fn blend_halves(row: &mut [f16], partner: &[f16], weights: [f32; 2]) {
    let mut sums = [[0f32; CHUNK]; 2];
    let mut halves = [f16::ZERO; CHUNK];
    for (row, partner) in row.chunks_mut(CHUNK).zip(partner.chunks(CHUNK)) {
        let count = row.len();
        for ((values, sum), weight) in [&*row, partner].iter().zip(&mut sums).zip(weights) {
            let sum = &mut sum[..count];
            values.convert_to_f32_slice(sum);
            for value in sum.iter_mut() {
                *value *= weight;
            }
            halves[..count].convert_from_f32_slice(sum);
            halves[..count].convert_to_f32_slice(sum);
        }
        let [sum, other] = &mut sums;
        sum.iter_mut().zip(other).for_each(|(a, b)| *a += *b);
        row.convert_from_f32_slice(&sum[..count]);
    }
}

/// Beta(alpha, alpha) as the share of one of two gamma variates, whose logarithms don't underflow for small alphas.
pub(super) fn beta(draws: &mut Draws, alpha: f64) -> f64 {
    let one = log_gamma_variate(draws, alpha);
    let other = log_gamma_variate(draws, alpha);
    1.0 / (1.0 + (other - one).exp())
}

/// The logarithm of a variate of Gamma(shape, 1). Source: Marsaglia and Tsang, "A simple method for generating gamma
/// variables", 2000, with its step for shapes below 1.
fn log_gamma_variate(draws: &mut Draws, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - draws.unit()).ln() / shape;
        return log_gamma_variate(draws, shape + 1.0) + boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(draws);
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let v = root * root * root;
        let u = 1.0 - draws.unit();
        if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// One standard normal variate (Box and Muller, 1958).
fn normal(draws: &mut Draws) -> f64 {
    let radius = (-2.0 * (1.0 - draws.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * draws.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn draws(row: u64) -> Draws {
        let key = Key {
            seed: 1,
            epoch: 0,
            row,
            field: 0,
        };
        Draws::new(key, 0)
    }

    /// Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within five standard errors.
    #[test]
    fn batch_lambdas_have_the_moments_of_beta() {
        const COUNT: u64 = 20_000;
        for alpha in [0.1, 0.4, 1.0, 3.0, 50.0] {
            let values: Vec<f64> = (0..COUNT).map(|row| beta(&mut draws(row), alpha)).collect();
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
            let mean = values.iter().sum::<f64>() / COUNT as f64;
            let variance = values.iter().map(|v| (v - 0.5).powi(2)).sum::<f64>() / COUNT as f64;
            let wanted = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (mean - 0.5).abs() < 5.0 * (wanted / COUNT as f64).sqrt(),
                "{alpha}: {mean}"
            );
            assert!(
                (variance / wanted - 1.0).abs() < 0.05,
                "{alpha}: {variance} {wanted}"
            );
        }
        for alpha in [1e-6, 1e6] {
            assert!((0..100).all(|row| (0.0..=1.0).contains(&beta(&mut draws(row), alpha))));
        }
    }

    #[test]
    fn batch_rows_meet_the_row_before_as_it_was() {
        for kept in [&[0, 1, 2, 3, 4][..], &[0, 3], &[1, 2, 4], &[2], &[]] {
            let before: Vec<u8> = (0..5 * 3).collect();
            let mut values = before.clone();
            let rows = Rows {
                values: &mut values,
                size: 3,
                kept,
            };
            rows.each(&mut Scratch::default(), |row, partner| {
                row.copy_from_slice(partner);
            })
            .unwrap();
            let mut expected = before.clone();
            for (at, &row) in kept.iter().enumerate() {
                let partner = kept[(at + kept.len() - 1) % kept.len()];
                expected[row * 3..][..3].copy_from_slice(&before[partner * 3..][..3]);
            }
            assert_eq!(values, expected, "{kept:?}");
        }
    }

    #[test]
    fn batch_values_are_rounded_to_the_nearest() {
        for lambda in [0.0, 0.25, 0.3, 0.5, 1.0 / 3.0, 0.999, 1.0] {
            let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
            for a in 0..=255u8 {
                let b = 255 - a / 2;
                let mut row = [a];
                blend(Dtype::Uint8, &mut row, &[b], [own, other]);
                let exact = f32::from(a) * own + f32::from(b) * other;
                assert_eq!(
                    f32::from(row[0]).to_bits(),
                    exact.round_ties_even().to_bits(),
                    "{a} {b} {lambda}"
                );
            }
            for [a, b] in [[65535u16, 65535], [65535, 0], [1, 2], [40_000, 30_001]] {
                let mut row = [a];
                let weights = [own, other];
                blend(
                    Dtype::Uint16,
                    cast_slice_mut(&mut row),
                    cast_slice(&[b]),
                    weights,
                );
                let exact = f32::from(a) * own + f32::from(b) * other;
                assert_eq!(
                    f32::from(row[0]).to_bits(),
                    exact.round_ties_even().to_bits(),
                    "{a} {b} {lambda}"
                );
            }
        }
    }

    #[test]
    fn batch_halves_are_rounded_after_each_step() {
        let weights = [0.3f32, 0.7];
        let values: Vec<f16> = (0..600)
            .map(|i| f16::from_f32(i as f32 / 37.0 - 8.0))
            .collect();
        let partner: Vec<f16> = values.iter().rev().copied().collect();
        let mut row = values.clone();
        blend(
            Dtype::Float16,
            cast_slice_mut(&mut row),
            cast_slice(&partner),
            weights,
        );
        for ((a, b), mixed) in values.iter().zip(&partner).zip(row) {
            let a = f16::from_f32(a.to_f32() * weights[0]);
            let b = f16::from_f32(b.to_f32() * weights[1]);
            assert_eq!(mixed, f16::from_f32(a.to_f32() + b.to_f32()));
        }
    }
}
