//! Effects that mix the channels of a pixel.
//!
//! Interleaved bytes are taken apart, 32 pixels at a time, into three arrays of floats, so that the arithmetic is plain
//! loops over whole vectors. The last pixels are copied into a block of their own, padded with zeros. Each effect reads
//! and writes every pixel once.

use super::wide::wide;

/// Pixels that are taken apart at a time: one channel of them fills a few vector registers.
const BLOCK: usize = 32;

type Planes = [[f32; BLOCK]; 3];

/// `a * b + c`, rounded once, as torch's vectorised `add(alpha=)` computes it. Quick in loops inside [`wide`].
#[inline]
pub(super) fn fused(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// torchvision's `rgb_to_grayscale`: the weights of ITU-R 601-2 to four digits, in single precision; it truncates.
#[inline]
pub(in crate::transform) fn luma([r, g, b]: [f32; 3]) -> f32 {
    fused(b, 0.114, fused(g, 0.587, r * 0.2989))
}

#[inline]
fn load(block: &[u8; 3 * BLOCK]) -> Planes {
    let mut planes = [[0.0; BLOCK]; 3];
    let [red, green, blue] = &mut planes;
    for (at, [r, g, b]) in block.as_chunks::<3>().0.iter().enumerate() {
        red[at] = f32::from(*r);
        green[at] = f32::from(*g);
        blue[at] = f32::from(*b);
    }
    planes
}

/// Runs `change` on each pixel, a block at a time.
#[inline]
fn each(pixels: &mut [u8], change: impl Fn([f32; 3]) -> [f32; 3]) {
    let run = |block: &mut [u8; 3 * BLOCK]| {
        let [mut red, mut green, mut blue] = load(block);
        for at in 0..BLOCK {
            [red[at], green[at], blue[at]] = change([red[at], green[at], blue[at]]);
        }
        for (at, pixel) in block.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [red[at] as u8, green[at] as u8, blue[at] as u8];
        }
    };
    let (blocks, rest) = pixels.as_chunks_mut::<{ 3 * BLOCK }>();
    let mut last = [0; 3 * BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    // One loop, so that `run` is compiled into it.
    for block in blocks.iter_mut().chain([&mut last]) {
        run(block);
    }
    rest.copy_from_slice(&last[..rest.len()]);
}

pub(super) fn grayscale(pixels: &mut [u8]) {
    wide(|| each(pixels, |rgb| [luma(rgb); 3]));
}

/// Moves the first channel of each pixel to the front.
pub(super) fn keep_first(pixels: &mut [u8]) -> &mut [u8] {
    let count = pixels.len() / 3;
    for at in 0..count {
        pixels[at] = pixels[3 * at];
    }
    &mut pixels[..count]
}

pub(super) fn mean_luma(pixels: &[u8]) -> f32 {
    let of_block = |block: &[u8; 3 * BLOCK]| {
        let [red, green, blue] = load(block);
        let lumas = (0..BLOCK).map(|at| luma([red[at], green[at], blue[at]]) as i32);
        lumas.sum::<i32>()
    };
    let sum = wide(|| {
        let (blocks, rest) = pixels.as_chunks::<{ 3 * BLOCK }>();
        let mut last = [0; 3 * BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let mut sum = 0;
        for block in blocks.iter().chain([&last]) {
            sum += i64::from(of_block(block));
        }
        sum
    });
    (sum as f64 / (pixels.len() / 3) as f64) as f32
}

pub(super) fn saturation(pixels: &mut [u8], factor: f64) {
    let (keep, gray) = (factor as f32, (1.0 - factor) as f32);
    wide(|| {
        each(pixels, |rgb| {
            let luma = luma(rgb).floor();
            rgb.map(|value| fused(luma, gray, value * keep))
        });
    });
}

/// Turns the hue by a part of the circle, `-0.5` to `0.5`.
///
/// In terms of hue, saturation and value, each channel is the value less `chroma * ramp(hue)`. So nothing is divided by
/// the value, and no branch asks which sixth of the circle the hue is in. Values stay on a scale of 0 to 255; the last
/// factor is torchvision's conversion back from floats. The tests compare with torchvision's own steps.
pub(super) fn hue(pixels: &mut [u8], turn: f32) {
    const BACK: f32 = 255.999 / 255.0;
    #[inline]
    fn wrap(value: f32, circle: f32) -> f32 {
        let value = if value < 0.0 { value + circle } else { value };
        if value >= circle {
            value - circle
        } else {
            value
        }
    }
    let turn = 6.0 * turn;
    wide(|| {
        each(pixels, |[r, g, b]| {
            let most = larger(larger(r, g), b);
            let chroma = most - smaller(smaller(r, g), b);
            let unit = 1.0 / if chroma == 0.0 { 1.0 } else { chroma };
            let of_blue = 4.0 + (r - g) * unit;
            let of_green = 2.0 + (b - r) * unit;
            let of_red = (g - b) * unit;
            let hue = if g >= most { of_green } else { of_blue };
            let hue = if r >= most { of_red } else { hue };
            let hue = wrap(wrap(hue, 6.0) + turn, 6.0);
            [5.0, 3.0, 1.0].map(|offset| {
                let place = wrap(hue + offset, 6.0);
                let ramp = smaller(larger(smaller(place, 4.0 - place), 0.0), 1.0);
                (most - chroma * ramp) * BACK
            })
        });
    });
}

/// A maximum in one instruction, unlike `f32::max`: neither value is NaN.
#[inline]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    fn noise(pixels: usize) -> Vec<u8> {
        (0..3 * pixels).map(|at| mix(at as u64) as u8).collect()
    }

    /// Whole blocks, the rest after them, and images smaller than a block are all changed alike.
    #[test]
    fn blocks_leave_no_seams() {
        for pixels in [1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let image = noise(pixels);
            let (mut whole, mut single) = (image.clone(), image.clone());
            saturation(&mut whole, 1.4);
            hue(&mut whole, 0.3);
            for pixel in single.chunks_exact_mut(3) {
                saturation(pixel, 1.4);
                hue(pixel, 0.3);
            }
            assert_eq!(whole, single);
            let lumas = image.as_chunks::<3>().0.iter();
            let sum: f64 = lumas
                .map(|p| f64::from(luma(p.map(f32::from)).floor()))
                .sum();
            assert!((f64::from(mean_luma(&image)) - sum / pixels as f64).abs() < 1e-5);
        }
    }

    #[test]
    fn a_turn_of_nothing_and_half_a_turn_twice_change_nothing() {
        let image = noise(10_000);
        let mut turned = image.clone();
        hue(&mut turned, 0.0);
        assert_eq!(turned, image);
        let mut third = vec![200, 10, 10, 10, 200, 10, 77, 77, 77];
        hue(&mut third, 1.0 / 3.0);
        assert_eq!(third, [10, 200, 10, 10, 10, 200, 77, 77, 77]);
    }
}
