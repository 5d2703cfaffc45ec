//! The kernel without vector instructions: the definition that every other one must equal to the bit.
//!
//! It also runs where vector code can't: on processors without AVX2, for sources narrower than a window, for fewer than
//! eight RGB outputs, and for the last columns of the pass down.

use super::weights::{FRACTION, HALF, Weights, both};

fn to_byte(sum: i32) -> u8 {
    ((sum + HALF) >> FRACTION).clamp(0, 255) as u8
}

fn sum(weights: &[i32], value: impl Fn(usize) -> Option<u8>) -> i32 {
    let taps = weights.iter().flat_map(|&pair| both(pair)).enumerate();
    // Where the source is narrower than a window, the taps beyond its end have weight 0.
    taps.map(|(tap, weight)| i32::from(weight) * value(tap).map_or(0, i32::from))
        .sum()
}

/// Makes the outputs of one row.
pub(super) fn across(weights: &Weights, channels: usize, source: &[u8], out: &mut [u8]) {
    for output in 0..weights.outputs() {
        self::output(weights, output, channels, source, out);
    }
}

pub(super) fn output(
    weights: &Weights,
    output: usize,
    channels: usize,
    source: &[u8],
    out: &mut [u8],
) {
    let (start, weights) = weights.of(output);
    for channel in 0..channels {
        let value = |tap| source.get((start + tap) * channels + channel).copied();
        out[output * channels + channel] = to_byte(sum(weights, value));
    }
}

/// Makes one row out of rows that are `pitch` bytes apart: two for each pair of weights.
pub(super) fn down(weights: &[i32], rows: &[u8], pitch: usize, out: &mut [u8]) {
    for (at, out) in out.iter_mut().enumerate() {
        *out = to_byte(sum(weights, |tap| rows.get(tap * pitch + at).copied()));
    }
}
