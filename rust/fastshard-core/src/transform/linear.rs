//! Scale and normalisation of 8-bit pixels as vector arithmetic.
//!
//! # Why it is exact
//!
//! A value takes the three single-precision steps that torchvision takes: times the scale, minus the mean, divided by
//! the deviation. Each rounds once. So a division is not replaced by a product with the inverse, and no step is fused
//! with the next; the code is compiled for AVX2 but without fused multiply-add.
//!
//! # Layout
//!
//! ```text
//! NHWC    24 values at a time: eight pixels, whose channels are at the same places of whole vectors every time
//! NCHW    64 pixels at a time are taken apart into three arrays on the stack, then each array is one plain loop
//! ```
//!
//! The same source is compiled twice, once for wider registers. The compiler makes vectors of both.
//!
//! # Cost
//!
//! A product, a difference and a quotient for each value, and no table that would occupy the cache.

#![expect(
    clippy::inline_always,
    reason = "bodies that are compiled twice, once for wider vectors"
)]

use super::layout::Layout;

/// The steps of one channel: `(value * scale - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Linear {
    pub(super) scale: f32,
    pub(super) mean: f32,
    pub(super) std: f32,
}

impl Linear {
    #[inline(always)]
    fn apply(self, value: u8) -> f32 {
        (f32::from(value) * self.scale - self.mean) / self.std
    }
}

/// Pixels that are taken apart into planes at once.
const RUN: usize = 64;

/// Converts interleaved pixels of as many channels as there are entries in `channels`.
pub(super) fn convert(channels: &[Linear], layout: Layout, pixels: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2() {
        // SAFETY: the feature was just detected.
        #[expect(unsafe_code, reason = "a call to code for a detected feature")]
        unsafe {
            convert_avx2(channels, layout, pixels, out);
        }
        return;
    }
    run(channels, layout, pixels, out);
}

/// The same code, compiled for wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn convert_avx2(channels: &[Linear], layout: Layout, pixels: &[u8], out: &mut [f32]) {
    run(channels, layout, pixels, out);
}

#[inline(always)]
fn run(channels: &[Linear], layout: Layout, pixels: &[u8], out: &mut [f32]) {
    match (channels, layout) {
        (&[gray], _) => values(gray, pixels, out),
        (&[red, green, blue], Layout::Nchw) => planes([red, green, blue], pixels, out),
        (&[red, green, blue], Layout::Nhwc) => interleaved([red, green, blue], pixels, out),
        _ => unreachable!("images have 1 or 3 channels"),
    }
}

#[inline(always)]
fn values(linear: Linear, values: &[u8], out: &mut [f32]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = linear.apply(value);
    }
}

#[inline(always)]
fn planes(channels: [Linear; 3], pixels: &[u8], out: &mut [f32]) {
    let count = pixels.len() / 3;
    let (red, rest) = out.split_at_mut(count);
    let (green, blue) = rest.split_at_mut(count);
    let mut apart = [[0u8; RUN]; 3];
    let runs = pixels.chunks(3 * RUN).zip(red.chunks_mut(RUN));
    for ((pixels, red), (green, blue)) in runs.zip(green.chunks_mut(RUN).zip(blue.chunks_mut(RUN)))
    {
        let [r, g, b] = &mut apart;
        let (whole, _) = pixels.as_chunks::<3>();
        for (((pixel, r), g), b) in whole.iter().zip(r).zip(g).zip(b) {
            [*r, *g, *b] = *pixel;
        }
        for (plane, (apart, linear)) in [red, green, blue]
            .into_iter()
            .zip(apart.iter().zip(channels))
        {
            values(linear, apart, plane);
        }
    }
}

#[inline(always)]
fn interleaved(channels: [Linear; 3], pixels: &[u8], out: &mut [f32]) {
    // Eight pixels: whole vectors whose channels always lie in the same places.
    let pattern: [Linear; 24] = std::array::from_fn(|at| channels[at % 3]);
    let (runs, rest) = pixels.as_chunks::<24>();
    let (outs, out_rest) = out.as_chunks_mut::<24>();
    for (out, pixels) in outs.iter_mut().zip(runs) {
        for ((out, &value), linear) in out.iter_mut().zip(pixels).zip(&pattern) {
            *out = linear.apply(value);
        }
    }
    for ((out, &value), linear) in out_rest.iter_mut().zip(rest).zip(&pattern) {
        *out = linear.apply(value);
    }
}
