//! Which source pixels an output is made of, and how much of each.
//!
//! # Windows
//!
//! Output `n` of an axis has its centre at `start + (n + 0.5) * scale`, in source pixels. Its window holds the pixels
//! whose middles are at most `support` away from the centre, as in PIL. `support` is the reach of the filter; an
//! antialiased filter is widened by the scale when it shrinks, so that every source pixel counts. A pixel's weight is
//! the filter's value at its distance, divided by the sum over the window.
//!
//! # Layout
//!
//! ```text
//! starts   one u32 an output: the first source pixel of its window
//! values   `pairs` words an output, each with two i16 weights, the earlier one in the lower half
//! lanes    for RGB, vectors of eight words: pair k of output n four times, then pair k of output n + 4 four times
//! ```
//!
//! All windows of an axis have the same number of taps: that of the longest window, rounded up to what a vector holds.
//! Zeros fill the others. They come after the real taps, or before them where the window would otherwise reach beyond
//! the last source pixel. So a load for any window stays inside of the row, if the row is as wide as a window at all.
//!
//! `lanes` and `groups` repeat the same weights in the order in which the AVX2 kernel for RGB reads them: group by
//! group of eight outputs, in each group four vectors a pair. The four copies of a pair serve red, green, blue and an
//! unused lane.
//!
//! # Why sums are exact
//!
//! Weights are integers with 14 fraction bits. Each is rounded to the nearest, and the largest one takes what rounding
//! left, so that the sum is exactly 2^14. A filter with negative lobes has weights above one; with 14 bits, any weight
//! below two fits in 16 bits.
//!
//! # Cost
//!
//! For each image and axis, one evaluation of the filter in double precision for each tap of each output.

use crate::transform::{Filter, Interpolation};

/// Fraction bits of a weight: one is 2^14, and a lobe beyond one still fits 16 bits.
pub(super) const FRACTION: i32 = 14;
/// Half a unit of the result: added before the shift, it makes the shift round to the nearest.
pub(super) const HALF: i32 = 1 << (FRACTION - 1);
/// Bytes behind a source row that may be read, and behind a row in between that may be written; their values mean
/// nothing.
pub(super) const SLACK: usize = 32;

/// One direction of a resampling.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Axis {
    /// Where the first output starts, in source pixels.
    pub(in super::super) start: f64,
    /// Source pixels per output pixel.
    pub(in super::super) scale: f64,
    /// How many outputs to compute.
    pub(in super::super) outputs: usize,
    /// How many source pixels there are; windows end there.
    pub(in super::super) limit: usize,
    /// Whether the outputs are computed in reverse order.
    pub(in super::super) mirrored: bool,
    pub(in super::super) filter: Filter,
}

/// The windows of all outputs of an axis.
#[derive(Debug, Default)]
pub(super) struct Weights {
    starts: Vec<u32>,
    limit: usize,
    /// Pairs of weights per output, the same for all outputs, zeros included.
    pairs: usize,
    /// Two weights a word, the first in the lower half, as `vpmaddwd` takes them.
    values: Vec<i32>,
    exact: Vec<f64>,
    window: Vec<i16>,
    groups: Vec<Group>,
    lanes: Vec<[i32; 8]>,
}

/// Eight outputs that four vectors make together: vector `n` holds output `n` in its lower and `n + 4` in its upper
/// half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The first of the outputs. Where their number is no multiple of eight, the last group overlaps the one before.
    pub(super) first: usize,
    /// Where the windows start, in source pixels.
    pub(super) starts: [u32; 8],
}

/// The two weights of a pair.
pub(super) fn both(pair: i32) -> [i16; 2] {
    [pair as i16, (pair >> 16) as i16]
}

fn value(interpolation: Interpolation, antialias: bool, x: f64) -> f64 {
    let x = x.abs();
    match interpolation {
        Interpolation::Nearest => f64::from(u8::from(x <= 0.5)),
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        // The parameter is -0.5 in PIL and in torchvision with antialiasing, and -0.75 in torch without.
        Interpolation::Bicubic => cubic(if antialias { -0.5 } else { -0.75 }, x),
        Interpolation::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
        Interpolation::Lanczos => 0.0,
    }
}

/// Keys, "Cubic convolution interpolation for digital image processing" (1981).
fn cubic(a: f64, x: f64) -> f64 {
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

impl Weights {
    /// Computes the windows. Each gets a multiple of `lanes` taps: the real ones, and zeros after or before them.
    pub(super) fn compute(&mut self, axis: &Axis, lanes: usize) {
        let Filter {
            interpolation,
            antialias,
        } = axis.filter;
        let widen = if antialias { axis.scale.max(1.0) } else { 1.0 };
        let support = interpolation.support() * widen;
        // Both ends are rounded alike, so a window has at most 2 * support taps, rounded up. Rounding noise may add one
        // more, whose weight is next to nothing: it is cut off.
        let most = ((2.0 * support - 1e-9).ceil() as usize).clamp(1, axis.limit);
        let taps = most.next_multiple_of(lanes);
        (self.pairs, self.limit) = (taps / 2, axis.limit);
        self.starts.clear();
        self.values.clear();
        for output in 0..axis.outputs {
            let place = if axis.mirrored {
                axis.outputs - 1 - output
            } else {
                output
            };
            let centre = axis.start + (place as f64 + 0.5) * axis.scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let first = first.min(axis.limit - 1);
            let end = ((centre + support + 0.5).max(0.0) as usize).clamp(first + 1, axis.limit);
            let end = end.min(first + most);
            self.exact.clear();
            self.exact.extend((first..end).map(|pixel| {
                let distance = (pixel as f64 - centre + 0.5) / widen;
                value(interpolation, antialias, distance)
            }));
            // Near the end of the source the window is moved back, so that all of its taps exist; zeros then come
            // first.
            let start = first.min(axis.limit.saturating_sub(taps));
            self.window.clear();
            self.window.resize(taps, 0);
            quantize(&self.exact, &mut self.window[first - start..]);
            let pairs = self.window.as_chunks::<2>().0.iter();
            let word = |&[low, high]: &[i16; 2]| i32::from(low as u16) | i32::from(high) << 16;
            self.values.extend(pairs.map(word));
            self.starts.push(start as u32);
        }
    }

    /// Lays the weights out for vectors of two outputs by four channels. Fewer than eight outputs have no groups.
    pub(super) fn lay_out(&mut self) {
        self.groups.clear();
        self.lanes.clear();
        let outputs = self.starts.len();
        for at in (0..outputs).step_by(8) {
            let first = at.min(outputs.saturating_sub(8));
            let Some(starts) = self.starts[first..].first_chunk() else {
                return;
            };
            let starts = *starts;
            self.groups.push(Group { first, starts });
            for n in first..first + 4 {
                for k in 0..self.pairs {
                    let low = self.values[n * self.pairs + k];
                    let high = self.values[(n + 4) * self.pairs + k];
                    self.lanes
                        .push([low, low, low, low, high, high, high, high]);
                }
            }
        }
    }

    /// The groups, each with its weights: four vectors for each pair.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&Group, &[[i32; 8]])> {
        self.groups
            .iter()
            .zip(self.lanes.chunks_exact(4 * self.pairs))
    }

    /// The first source pixel that any output needs, and how many pixels there are from the first to the last.
    pub(super) fn reach(&self) -> (usize, usize) {
        let first = self.starts.iter().min().copied().unwrap_or_default() as usize;
        let last = self.starts.iter().max().copied().unwrap_or_default() as usize;
        (first, (last + 2 * self.pairs).min(self.limit) - first)
    }

    /// Start and pairs of weights of an output.
    pub(super) fn of(&self, output: usize) -> (usize, &[i32]) {
        let weights = &self.values[output * self.pairs..][..self.pairs];
        (self.starts[output] as usize, weights)
    }

    /// Starts and weights of eight outputs with four pairs each: two outputs a vector.
    pub(super) fn eight_of_four(&self, first: usize) -> (&[u32; 8], &[[i32; 8]; 4]) {
        let starts = self.starts[first..].first_chunk();
        let words = self.values[4 * first..].as_chunks().0.first_chunk();
        starts.zip(words).expect("eight outputs from there on")
    }

    pub(super) fn outputs(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether a row of `row_bytes` bytes holds every window, and the slack behind the last pixel.
    pub(super) fn fits(&self, row_bytes: usize, channels: usize) -> bool {
        2 * self.pairs <= self.limit && self.limit * channels + SLACK <= row_bytes
    }
}

/// Rounds weights to integers whose sum is exactly one: the largest weight takes what rounding left.
fn quantize(exact: &[f64], values: &mut [i16]) {
    let one = f64::from(1 << FRACTION);
    let sum: f64 = exact.iter().sum();
    let norm = if sum == 0.0 { 0.0 } else { one / sum };
    let (mut left, mut largest) = (1 << FRACTION, 0);
    for (at, (weight, value)) in exact.iter().zip(values.iter_mut()).enumerate() {
        // Rounds to the nearest: the offset makes the number positive, so that the cast rounds down. `f64::round` would
        // be a call into the C library.
        *value = ((weight * norm + 32768.5) as i32 - 32768) as i16;
        left -= i32::from(*value);
        if *weight > exact[largest] {
            largest = at;
        }
    }
    values[largest] += left as i16;
}
