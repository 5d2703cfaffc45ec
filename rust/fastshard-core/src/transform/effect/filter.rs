//! Effects that look at neighbouring pixels.
//!
//! # Sharpness
//!
//! A mean of 3 by 3 pixels, in which the middle counts five times. A row of 16-bit sums holds the three pixels above
//! each other; three neighbouring sums, and four times the middle, give the mean's 13 parts. The pixels before the
//! change are copied, as neighbours must not be changed yet.
//!
//! # Blur
//!
//! A Gaussian is separable, so rows are filtered before columns, in single precision. Kernels are symmetric: two taps
//! at the same distance share one product.
//!
//! ```text
//! line    one row of pixels as floats, with mirrored pixels at both ends
//! ring    the last rows that were filtered along x, as many as the kernel is high
//! sums    the row that is filtered along y
//! ```
//!
//! A row of the image is overwritten only when the rows below that it needs are in the ring, and none above is read
//! again. So the blur runs in place. A value costs one product for each tap of half a kernel, in either direction.

use super::color::fused;
use super::wide::wide;
use crate::error::Result;
use crate::pixels::Scratch;

/// torchvision's sharpness: away from, or towards, the mean of 3 by 3 pixels in which the middle counts five times.
/// The outermost pixels stay as they are.
pub(super) fn sharpness(
    pixels: &mut [u8],
    width: usize,
    channels: usize,
    factor: f64,
    scratch: &mut Scratch,
) -> Result<()> {
    let pitch = width * channels;
    let height = pixels.len() / pitch;
    if width < 3 || height < 3 {
        return Ok(());
    }
    let alpha = (1.0 - factor) as f32;
    let (sums, before) = scratch
        .bytes(2 * pitch + pixels.len())?
        .split_at_mut(2 * pitch);
    let sums = bytemuck::cast_slice_mut::<_, u16>(sums);
    before.copy_from_slice(pixels);
    let inner = pitch - 2 * channels;
    wide(|| {
        for row in 1..height - 1 {
            let rows = [row - 1, row, row + 1].map(|row| &before[row * pitch..][..pitch]);
            let columns = rows[0].iter().zip(rows[1]).zip(rows[2]);
            for (sum, ((above, here), below)) in sums.iter_mut().zip(columns) {
                *sum = u16::from(*above) + u16::from(*here) + u16::from(*below);
            }
            let [left, middle, right] = [0, channels, 2 * channels].map(|at| &sums[at..][..inner]);
            let out = &mut pixels[row * pitch + channels..][..inner];
            for (((out, left), middle), right) in out.iter_mut().zip(left).zip(middle).zip(right) {
                let sum = left + middle + right + 4 * u16::from(*out);
                // Thirteenths have no ties, so this is the nearest integer.
                let blurred = f32::from((2 * sum + 13) / 26);
                let value = f32::from(*out);
                *out = fused(blurred - value, alpha, value) as u8;
            }
        }
    });
    Ok(())
}

/// The weights of the middle and of one side of the kernel, without those that are too small to show.
fn weights(kernel: u32, sigma: f64) -> Vec<f32> {
    let side = (kernel / 2) as usize;
    // torchvision spaces the kernel evenly, with its ends (size - 1) / (sqrt(2) * sigma) apart, and takes exp(-x^2).
    let weight = |at: usize| (-(at as f64 / sigma).powi(2) / 2.0).exp();
    let total: f64 = 1.0 + 2.0 * (1..=side).map(weight).sum::<f64>();
    let mut weights: Vec<_> = (0..=side).map(|at| (weight(at) / total) as f32).collect();
    while weights.len() > 1 && weights.last().is_some_and(|&last| last < 1e-6) {
        weights.pop();
    }
    weights
}

/// The pixel that stands at `at` when the image continues mirrored beyond its edges, without doubling the edge pixels.
fn reflect(at: isize, size: usize) -> usize {
    let period = (2 * size as isize - 2).max(1);
    let at = at.rem_euclid(period) as usize;
    if at < size { at } else { period as usize - at }
}

/// torchvision's Gaussian blur, in place: rows are filtered into a ring, and columns are filtered from it.
pub(super) fn blur(
    pixels: &mut [u8],
    width: usize,
    channels: usize,
    kernel: [u32; 2],
    sigma: f64,
    scratch: &mut Scratch,
) -> Result<()> {
    let (across, down) = (weights(kernel[0], sigma), weights(kernel[1], sigma));
    let (side, reach) = (across.len() - 1, down.len() - 1);
    let pitch = width * channels;
    let height = pixels.len() / pitch;
    let kept = (2 * reach + 1).min(height);
    let padded = pitch + 2 * side * channels;
    let buffer = scratch.bytes(4 * (padded + (kept + 1) * pitch))?;
    let (line, rest) = bytemuck::cast_slice_mut::<_, f32>(buffer).split_at_mut(padded);
    let (sums, ring) = rest.split_at_mut(pitch);
    wide(|| {
        let mut filtered = 0;
        for row in 0..height {
            while filtered < height.min(row + reach + 1) {
                mirror(&pixels[filtered * pitch..][..pitch], line, side, channels);
                let target = &mut ring[filtered % kept * pitch..][..pitch];
                convolve(&across, target, |offset| {
                    let start = (side as isize + offset) * channels as isize;
                    &line[start as usize..][..pitch]
                });
                filtered += 1;
            }
            convolve(&down, sums, |offset| {
                let from = reflect(row as isize + offset, height);
                &ring[from % kept * pitch..][..pitch]
            });
            for (out, &sum) in pixels[row * pitch..][..pitch].iter_mut().zip(&*sums) {
                *out = to_nearest(sum) as u8;
            }
        }
    });
    Ok(())
}

/// Rounds half to even, for values from 0 to 2^22: the sum with 1.5 * 2^23 has no bits for fractions.
#[inline]
fn to_nearest(value: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    (value + WHOLE) - WHOLE
}

/// `row` as floats, continued by `side` mirrored pixels at both ends.
#[inline]
fn mirror(row: &[u8], line: &mut [f32], side: usize, channels: usize) {
    let width = row.len() / channels;
    for (value, &from) in line[side * channels..].iter_mut().zip(row) {
        *value = f32::from(from);
    }
    for at in 0..side {
        for (to, from) in [
            (at, reflect(at as isize - side as isize, width)),
            (side + width + at, reflect((width + at) as isize, width)),
        ] {
            for channel in 0..channels {
                line[to * channels + channel] = f32::from(row[from * channels + channel]);
            }
        }
    }
}

/// The weighted sum of the rows that `row` gives for each offset.
#[inline]
fn convolve<'a>(weights: &[f32], out: &mut [f32], row: impl Fn(isize) -> &'a [f32]) {
    for (out, value) in out.iter_mut().zip(row(0)) {
        *out = weights[0] * value;
    }
    for (offset, &weight) in (0..).zip(weights).skip(1) {
        let (before, after) = (row(-offset), row(offset));
        for ((out, before), after) in out.iter_mut().zip(before).zip(after) {
            *out += weight * (before + after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn mirrors_as_torch_does() {
        let found: Vec<_> = (-4..7).map(|at| reflect(at, 3)).collect();
        assert_eq!(found, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(reflect(-5, 1), 0);
    }

    /// The separable filter against the obvious twin: all of the kernel around each pixel.
    #[test]
    fn rows_and_columns_are_the_whole_kernel() {
        for (width, height, channels, kernel, sigma) in [
            (13, 9, 3, [5, 7], 1.3),
            (4, 3, 1, [9, 23], 3.0),
            (1, 6, 3, [3, 3], 0.7),
        ] {
            let image: Vec<u8> = (0..width * height * channels)
                .map(|at| mix(at as u64) as u8)
                .collect();
            let mut blurred = image.clone();
            blur(
                &mut blurred,
                width,
                channels,
                kernel,
                sigma,
                &mut Scratch::default(),
            )
            .unwrap();
            let sides = kernel.map(|size| (size / 2) as isize);
            let weight = |d: isize| (-(d as f64 / sigma).powi(2) / 2.0).exp();
            for (at, &found) in blurred.iter().enumerate() {
                let (x, y) = (at / channels % width, at / channels / width);
                let (mut sum, mut total) = (0.0, 0.0);
                for dy in -sides[1]..=sides[1] {
                    for dx in -sides[0]..=sides[0] {
                        let from = reflect(y as isize + dy, height) * width
                            + reflect(x as isize + dx, width);
                        let value = f64::from(image[from * channels + at % channels]);
                        sum += weight(dx) * weight(dy) * value;
                        total += weight(dx) * weight(dy);
                    }
                }
                assert!((f64::from(found) - sum / total).abs() < 0.502);
            }
        }
    }
}
