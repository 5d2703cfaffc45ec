//! Separable resampling of 8-bit pixels: rows first, then columns, 8 bits in between, as PIL and torchvision do it.
//!
//! # Idea
//!
//! A separable filter weighs the source pixel at (x, y) by a weight of x times a weight of y. So an image is filtered
//! in two passes. The first turns every source row into a row of outputs. The second makes each output row as a
//! weighted sum of such rows. Windows of `n` by `n` pixels then cost `2 * n` products a value and not `n * n`.
//!
//! # Memory
//!
//! ```text
//! source    rows of interleaved pixels, `pitch` bytes apart; the ones from the first to the last that any output needs
//! between   one row of outputs for each of them, without gaps; SLACK bytes at the end
//! target    rows of outputs, `pitch` bytes apart; the bytes between rows are not touched
//! ```
//!
//! The windows and their weights are in [`weights`]. Vector code loads and stores whole registers, so it reads up to
//! `SLACK` bytes behind a source row and writes up to `SLACK` bytes behind a row in between. Where the image ends with
//! the row, the row is first copied to `last_row`, with zeros behind it.
//!
//! # Why every kernel gives the same bits
//!
//! Pixels and weights are integers, and so are their sums, which stay far below 2^31. Integer addition is associative,
//! hence the order in which a kernel adds doesn't matter. [`plain`] is the definition, and a test compares the others
//! with it.
//!
//! The weights of a window add up to exactly 2^14. A flat area of value `v` becomes `(v * 2^14 + 2^13) >> 14`, which is
//! `v`. Windows and filters are PIL's. PIL's weights have 22 bits and these have 14, so that a weight fits the 16-bit
//! operands of vector multiplications; therefore single values may differ from PIL's by rounding.
//!
//! # Cost
//!
//! One product for each tap and value, in either pass, and the memory of `between`. Weights are computed once for each
//! image and axis. Mirroring is free: the windows are computed in reverse order.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
mod weights;

use crate::error::Result;
use crate::pixels::Scratch;
use weights::{SLACK, Weights};

pub(super) use weights::Axis;

/// Source pixels: rows of `width` pixels, `pitch` bytes apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image<'a> {
    pub(super) pixels: &'a [u8],
    pub(super) pitch: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

/// Where outputs go: rows, `pitch` bytes apart.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) pixels: &'a mut [u8],
    pub(super) pitch: usize,
}

/// One thread's tables and buffers, reused from image to image.
#[derive(Debug, Default)]
pub(super) struct Convolution {
    across: Weights,
    down: Weights,
    between: Scratch,
    last_row: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Kernel {
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if crate::cpu::has_avx2() {
            return Self::Avx2;
        }
        Self::Plain
    }
}

impl Convolution {
    /// Resamples `image` along both axes into `target`.
    pub(super) fn run(
        &mut self,
        image: Image<'_>,
        across: &Axis,
        down: &Axis,
        target: &mut Target<'_>,
    ) -> Result<()> {
        self.run_with(Kernel::best(), image, across, down, target)
    }

    fn run_with(
        &mut self,
        kernel: Kernel,
        image: Image<'_>,
        across: &Axis,
        down: &Axis,
        target: &mut Target<'_>,
    ) -> Result<()> {
        // Taps that a vector multiplies at once; windows are filled up with zeros.
        let lanes = if image.channels == 3 { 2 } else { 8 };
        self.across.compute(across, lanes);
        self.down.compute(down, 2);
        if image.channels == 3 {
            self.across.lay_out();
        }
        let (first, rows) = self.down.reach();
        let pitch = across.outputs * image.channels;
        let between = self.between.bytes(rows * pitch + SLACK)?;
        for row in 0..rows {
            let start = (first + row) * image.pitch;
            let length = image.width * image.channels;
            // Vector loads reach beyond the row, and the image may end there.
            let source = image.pixels.get(start..start + length + SLACK);
            let source = source.unwrap_or_else(|| {
                self.last_row.clear();
                self.last_row
                    .extend_from_slice(&image.pixels[start..start + length]);
                self.last_row.resize(length + SLACK, 0);
                &self.last_row
            });
            let out = &mut between[row * pitch..row * pitch + pitch + SLACK];
            across_row(kernel, &self.across, image.channels, source, out);
        }
        for output in 0..down.outputs {
            let (start, weights) = self.down.of(output);
            let rows = &between[(start - first) * pitch..];
            let out = &mut target.pixels[output * target.pitch..][..pitch];
            down_row(kernel, weights, rows, pitch, out);
        }
        Ok(())
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        self.between.shrink(keep);
    }
}

fn across_row(kernel: Kernel, weights: &Weights, channels: usize, source: &[u8], out: &mut [u8]) {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 if weights.fits(source.len(), channels) => {
            // SAFETY: the feature was detected; see `Kernel::best`.
            #[expect(unsafe_code, reason = "a call to code for a detected feature")]
            unsafe {
                avx2::across(weights, channels, source, out);
            }
        }
        _ => plain::across(weights, channels, source, out),
    }
}

fn down_row(kernel: Kernel, weights: &[i32], rows: &[u8], pitch: usize, out: &mut [u8]) {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 if rows.len() >= 2 * weights.len() * pitch => {
            // SAFETY: the feature was detected; see `Kernel::best`.
            #[expect(unsafe_code, reason = "a call to code for a detected feature")]
            unsafe {
                avx2::down(weights, rows, pitch, out);
            }
        }
        _ => plain::down(weights, rows, pitch, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draws, Key, mix};
    use crate::transform::{Filter, Interpolation};

    fn noise(length: usize) -> Vec<u8> {
        (0..length).map(|at| mix(at as u64) as u8).collect()
    }

    fn run(kernel: Kernel, image: Image<'_>, across: &Axis, down: &Axis) -> Vec<u8> {
        let pitch = across.outputs * image.channels;
        let mut pixels = vec![7; pitch * down.outputs];
        let mut target = Target {
            pixels: &mut pixels,
            pitch,
        };
        Convolution::default()
            .run_with(kernel, image, across, down, &mut target)
            .unwrap();
        pixels
    }

    /// The definition in floating point, one output at a time.
    fn twin(image: Image<'_>, across: &Axis, down: &Axis) -> Vec<f64> {
        let window = |axis: &Axis, output: usize| -> Vec<(usize, f64)> {
            let place = if axis.mirrored {
                axis.outputs - 1 - output
            } else {
                output
            };
            let widen = if axis.filter.antialias {
                axis.scale.max(1.0)
            } else {
                1.0
            };
            let centre = axis.start + (place as f64 + 0.5) * axis.scale;
            let weights: Vec<_> = (0..axis.limit)
                .map(|pixel| {
                    let x = ((pixel as f64 + 0.5 - centre) / widen).abs();
                    (pixel, (1.0 - x).max(0.0))
                })
                .filter(|(_, weight)| *weight > 0.0)
                .collect();
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            weights
                .iter()
                .map(|(pixel, weight)| (*pixel, weight / sum))
                .collect()
        };
        let mut out = Vec::new();
        for y in 0..down.outputs {
            for x in 0..across.outputs {
                for channel in 0..image.channels {
                    let mut total = 0.0;
                    for (row, down) in window(down, y) {
                        for (column, across) in window(across, x) {
                            let at = row * image.pitch + column * image.channels + channel;
                            total += down * across * f64::from(image.pixels[at]);
                        }
                    }
                    out.push(total);
                }
            }
        }
        out
    }

    fn axis(draws: &mut Draws, interpolation: Interpolation) -> Axis {
        let limit = 1 + draws.below(90) as usize;
        let start = draws.uniform(0.0, limit as f64 * 0.5);
        let length = draws.uniform(0.5, limit as f64 - start).max(0.1);
        let outputs = 1 + draws.below(60) as usize;
        Axis {
            start,
            scale: length / outputs as f64,
            outputs,
            limit,
            mirrored: draws.unit() < 0.5,
            filter: Filter {
                interpolation,
                antialias: draws.unit() < 0.7,
            },
        }
    }

    fn draws(row: u64) -> Draws {
        let key = Key {
            seed: 5,
            epoch: 0,
            row,
            field: 0,
        };
        Draws::new(key, 0)
    }

    #[test]
    fn bilinear_is_its_definition() {
        for row in 0..300 {
            let draws = &mut draws(row);
            let (across, down) = (
                axis(draws, Interpolation::Bilinear),
                axis(draws, Interpolation::Bilinear),
            );
            let channels = if row % 3 == 0 { 1 } else { 3 };
            let pitch = across.limit * channels;
            let pixels = noise(pitch * down.limit);
            let image = Image {
                pixels: &pixels,
                pitch,
                width: across.limit,
                channels,
            };
            let expected = twin(image, &across, &down);
            for (found, expected) in run(Kernel::Plain, image, &across, &down)
                .iter()
                .zip(expected)
            {
                let off = (f64::from(*found) - expected).abs();
                assert!(off < 1.1, "{found} for {expected}: {across:?} {down:?}");
            }
        }
    }

    #[test]
    fn vectors_change_nothing() {
        for row in 0..400 {
            let draws = &mut draws(row);
            let interpolation = [
                Interpolation::Bilinear,
                Interpolation::Bicubic,
                Interpolation::Lanczos,
            ][row as usize % 3];
            let (across, down) = (axis(draws, interpolation), axis(draws, interpolation));
            let channels = if row % 5 == 0 { 1 } else { 3 };
            let pitch = across.limit * channels + 5;
            let pixels = noise(pitch * down.limit);
            let image = Image {
                pixels: &pixels,
                pitch,
                width: across.limit,
                channels,
            };
            let plain = run(Kernel::Plain, image, &across, &down);
            assert_eq!(run(Kernel::best(), image, &across, &down), plain);
        }
    }
}
