//! Resampling by a windowed sinc: torchaudio's `resample` with its default window.
//!
//! # Idea
//!
//! Both rates are divided by their greatest common divisor. Output `n` is then at `n * from / to` in the input, whose
//! fraction takes only `to` different values: the phases. Each phase has a filter of its own, computed once.
//!
//! # Layout
//!
//! ```text
//! taps      `to` filters of `length` taps, one after the other; `length` is a multiple of 8
//! starts    for each phase, the input of the first tap, counted from where its cycle of `to` outputs begins
//! ```
//!
//! Output `n` has phase `n % to`, and its filter starts at input `n / to * from + starts[phase]`. A filter covers the
//! inputs under the sinc's window. All have the length of the longest, rounded up; taps outside of the window are 0.
//!
//! # Why a part is the same as the whole
//!
//! An output is a sum of `length` products in a fixed order, eight sums side by side, wherever in the signal it is
//! computed. Inputs before the beginning and after the end count as 0. So computing a window of the result gives the
//! window of the whole result, to the bit, from the inputs that `needed` names.
//!
//! # Cost
//!
//! `length` products an output; `length * to` taps of memory, about 64 MiB at most.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Options of a resampling, named as in torchaudio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResampleSpec {
    /// Sample rate of the result, in frames per second.
    pub sample_rate: u32,
    /// Zero crossings of the sinc on each side of the filter.
    pub lowpass_filter_width: u32,
    /// Cut-off frequency, as a share of the lower of both Nyquist frequencies; above 0, at most 1.
    pub rolloff: f64,
}

impl ResampleSpec {
    /// Refuses impossible options.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_RATE).contains(&self.sample_rate) {
            return Err(Error::option(format!(
                "sample_rate is {}, expected 1 to {MAX_RATE}",
                self.sample_rate
            )));
        }
        let width = (1..=1024).contains(&self.lowpass_filter_width);
        if !(width && self.rolloff > 0.0 && self.rolloff <= 1.0) {
            return Err(Error::option(format!(
                "lowpass_filter_width is {}, expected 1 to 1024; rolloff is {}, expected above 0 and at most 1",
                self.lowpass_filter_width, self.rolloff
            )));
        }
        Ok(())
    }
}

const MAX_RATE: u32 = 1 << 20;
/// Most taps of all filters of a pair of rates: 64 MiB.
const MAX_TAPS: u64 = 1 << 24;
/// Products that are summed side by side.
const LANES: usize = 8;

/// The filters of a pair of rates.
#[derive(Debug)]
pub struct Kernel {
    from: u64,
    to: u64,
    /// Taps of each filter; a multiple of [`LANES`].
    length: usize,
    /// For each phase, the input of the first tap, counted from the input where the cycle of `to` outputs begins.
    starts: Vec<i64>,
    taps: Vec<f32>,
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl Kernel {
    /// The filters from a rate to the rate of the spec.
    pub fn new(from: u32, spec: &ResampleSpec) -> Result<Self> {
        let common = divisor(from, spec.sample_rate);
        let (from, to) = (from / common, spec.sample_rate / common);
        let base = f64::from(from.min(to)) * spec.rolloff;
        let width = f64::from(spec.lowpass_filter_width);
        let reach = width * f64::from(from) / base;
        let length = (2.0 * reach).ceil() as u64 + 1;
        if length.saturating_mul(u64::from(to)) > MAX_TAPS {
            return Err(Error::decode(format!(
                "{from} to {to} is too odd a ratio of sample rates to resample by"
            )));
        }
        let length = (length as usize).next_multiple_of(LANES);
        let mut starts = Vec::with_capacity(to as usize);
        let mut taps = Vec::with_capacity(length * to as usize);
        for phase in 0..to {
            let at = f64::from(phase) * f64::from(from) / f64::from(to);
            let start = (at - reach).floor() as i64 + 1;
            starts.push(start);
            taps.extend((0..length as i64).map(|tap| {
                let input = (start + tap) as f64 / f64::from(from);
                let time = (input - f64::from(phase) / f64::from(to)) * base;
                (sinc(time, width) * base / f64::from(from)) as f32
            }));
        }
        Ok(Self {
            from: u64::from(from),
            to: u64::from(to),
            length,
            starts,
            taps,
        })
    }

    /// How many frames so many input frames become.
    #[must_use]
    pub fn frames(&self, input: u64) -> u64 {
        (u128::from(input) * u128::from(self.to)).div_ceil(u128::from(self.from)) as u64
    }

    /// Where the filter of an output starts in the input.
    fn start(&self, output: u64) -> i64 {
        let whole = output / self.to * self.from;
        whole as i64 + self.starts[(output % self.to) as usize]
    }

    /// The range of input frames that outputs are computed from, in a signal of `frames` frames.
    #[must_use]
    pub fn needed(&self, outputs: &Range<u64>, frames: u64) -> Range<u64> {
        if outputs.is_empty() {
            return 0..0;
        }
        let start = self.start(outputs.start).clamp(0, frames as i64) as u64;
        // Each filter starts no earlier than the one before, but for rounding; hence one frame more.
        let end = self.start(outputs.end - 1) + self.length as i64 + 1;
        start..end.clamp(start as i64, frames as i64) as u64
    }

    /// Computes outputs from frames of the signal. `input` begins at frame `first`; frames outside it count as zero.
    pub fn run(&self, input: &[f32], first: u64, outputs: Range<u64>, out: &mut [f32]) {
        let mut edge = vec![0.0; self.length];
        for (out, output) in out.iter_mut().zip(outputs) {
            let start = self.start(output) - first as i64;
            let phase = (output % self.to) as usize;
            let taps = &self.taps[phase * self.length..][..self.length];
            let inside = usize::try_from(start)
                .ok()
                .and_then(|start| input.get(start..start + self.length));
            let samples = inside.unwrap_or_else(|| {
                for (at, sample) in (start..).zip(&mut edge) {
                    let found = usize::try_from(at).ok().and_then(|at| input.get(at));
                    *sample = found.copied().unwrap_or(0.0);
                }
                &edge
            });
            *out = dot(taps, samples);
        }
    }
}

/// The sinc under a squared cosine (a Hann window); `time` is in zero crossings.
fn sinc(time: f64, width: f64) -> f64 {
    if time.abs() >= width {
        return 0.0;
    }
    let window = (time * std::f64::consts::PI / width / 2.0).cos().powi(2);
    let angle = time * std::f64::consts::PI;
    if angle == 0.0 {
        window
    } else {
        angle.sin() / angle * window
    }
}

fn dot(taps: &[f32], samples: &[f32]) -> f32 {
    let (taps, _) = taps.as_chunks::<LANES>();
    let (samples, _) = samples.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (taps, samples) in taps.iter().zip(samples) {
        let products = taps.iter().zip(samples).map(|(tap, sample)| tap * sample);
        sums.iter_mut()
            .zip(products)
            .for_each(|(sum, product)| *sum += product);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(from: u32, to: u32) -> Kernel {
        let spec = ResampleSpec {
            sample_rate: to,
            lowpass_filter_width: 6,
            rolloff: 0.99,
        };
        Kernel::new(from, &spec).unwrap()
    }

    /// Straight from the formula, over all of the input.
    fn plain(input: &[f32], from: u32, to: u32, output: u64) -> f64 {
        let base = f64::from(from.min(to)) * 0.99;
        let time = output as f64 / f64::from(to);
        let products = input.iter().enumerate().map(|(at, sample)| {
            let distance = (at as f64 / f64::from(from) - time) * base;
            f64::from(*sample) * sinc(distance, 6.0) * base / f64::from(from)
        });
        products.sum()
    }

    #[test]
    fn parts_are_those_of_the_whole_and_of_the_formula() {
        let input: Vec<f32> = (0..3000u32)
            .map(|at| ((at * at % 617) as f32 / 308.5 - 1.0) * 0.7)
            .collect();
        for (from, to) in [
            (44_100, 16_000),
            (16_000, 44_100),
            (8000, 11_025),
            (7, 3),
            (3, 7),
        ] {
            let kernel = kernel(from, to);
            let frames = kernel.frames(input.len() as u64);
            let mut whole = vec![0.0; frames as usize];
            kernel.run(&input, 0, 0..frames, &mut whole);
            for output in (0..frames).step_by(97) {
                let expected = plain(&input, from, to, output);
                let found = f64::from(whole[output as usize]);
                assert!((found - expected).abs() < 2e-6, "{from} to {to}, {output}");
            }
            for start in (0..frames).step_by(61) {
                let part = start..(start + 50).min(frames);
                let needed = kernel.needed(&part, input.len() as u64);
                let given = &input[needed.start as usize..needed.end as usize];
                let mut out = vec![0.0; (part.end - part.start) as usize];
                kernel.run(given, needed.start, part.clone(), &mut out);
                assert_eq!(out, whole[part.start as usize..part.end as usize]);
            }
        }
    }

    #[test]
    fn refuses_tables_without_bounds() {
        let spec = ResampleSpec {
            sample_rate: 383_999,
            lowpass_filter_width: 1024,
            rolloff: 0.99,
        };
        assert!(Kernel::new(384_000, &spec).is_err());
    }
}
