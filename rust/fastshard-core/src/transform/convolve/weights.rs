//! Which source pixels an output is made of, and how much of each.

use crate::transform::{Filter, Interpolation};

/// Fraction bits of a weight: one is 2^14, and a lobe beyond one still fits 16 bits.
pub(super) const FRACTION: i32 = 14;
/// Half, which makes the shift round.
pub(super) const HALF: i32 = 1 << (FRACTION - 1);
/// Bytes that may be read behind a source row, or written behind a row in between, without meaning.
pub(super) const SLACK: usize = 32;

/// One direction of a resampling.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Axis {
    /// Where the window starts, in source pixels.
    pub(in super::super) start: f64,
    /// Source pixels an output pixel.
    pub(in super::super) scale: f64,
    /// Outputs.
    pub(in super::super) outputs: usize,
    /// Source pixels there are.
    pub(in super::super) limit: usize,
    /// Outputs in reverse.
    pub(in super::super) mirrored: bool,
    pub(in super::super) filter: Filter,
}

/// The windows of all outputs of an axis: starts, and as many weights for each.
#[derive(Debug, Default)]
pub(super) struct Weights {
    starts: Vec<u32>,
    limit: usize,
    /// Pairs of weights an output, the same number for all, zeros included.
    pairs: usize,
    /// Two weights in one word, the first in its lower half: as the vector multiplication takes them.
    values: Vec<i32>,
    exact: Vec<f64>,
    window: Vec<i16>,
    groups: Vec<Group>,
    lanes: Vec<[i32; 8]>,
}

/// Eight outputs that vectors make together: two in each of four vectors, `n` in the lower and `n + 4` in the upper half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The first of the outputs. The last group overlaps the one before, where the number is no multiple of eight.
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
        // PIL, and torchvision with antialiasing, take -0.5, torch without takes -0.75.
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
    /// Computes the windows; each gets a multiple of `lanes` taps, zeros behind or before the real ones.
    pub(super) fn compute(&mut self, axis: &Axis, lanes: usize) {
        let Filter {
            interpolation,
            antialias,
        } = axis.filter;
        let widen = if antialias { axis.scale.max(1.0) } else { 1.0 };
        let support = interpolation.support() * widen;
        // Both ends are rounded alike, so a window of 2 * support holds that, rounded up; a tap more that arithmetic's
        // last bit would add weighs nothing.
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
            // All taps lie within the source where it is wide enough; the real ones may then not come first.
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

    /// Lays the weights out for vectors of two outputs by four channels; for fewer than eight outputs there are none.
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

    /// The groups, each with its weights: four times as many vectors as there are pairs.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&Group, &[[i32; 8]])> {
        self.groups
            .iter()
            .zip(self.lanes.chunks_exact(4 * self.pairs))
    }

    /// First source pixel that any output needs, and how many from there on.
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

    /// Pairs of weights an output.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether every window lies in a row of so many bytes, its slack included.
    pub(super) fn fits(&self, row_bytes: usize, channels: usize) -> bool {
        2 * self.pairs <= self.limit && self.limit * channels + SLACK <= row_bytes
    }
}

/// Weights as integers whose sum is exactly one: the largest takes what rounding left.
fn quantize(exact: &[f64], values: &mut [i16]) {
    let one = f64::from(1 << FRACTION);
    let sum: f64 = exact.iter().sum();
    let norm = if sum == 0.0 { 0.0 } else { one / sum };
    let (mut left, mut largest) = (1 << FRACTION, 0);
    for (at, (weight, value)) in exact.iter().zip(values.iter_mut()).enumerate() {
        // Rounds; `f64::round` would be a call into the C library.
        *value = ((weight * norm + 32768.5) as i32 - 32768) as i16;
        left -= i32::from(*value);
        if *weight > exact[largest] {
            largest = at;
        }
    }
    values[largest] += left as i16;
}
