//! Conversion of pixels to other channels or depths: colour to gray, inks to colour, 8 bits to 16.

use crate::pixels::{Depth, PixelFormat};

/// Luma as PIL computes it: ITU-R 601-2 in 16-bit fixed point, rounded.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

pub(super) fn luma16([r, g, b]: [u16; 3]) -> u16 {
    ((u64::from(r) * 19595 + u64::from(g) * 38470 + u64::from(b) * 7471 + 0x8000) >> 16) as u16
}

/// Converts pixels from gray to RGB or back. Both formats have the same depth.
pub(super) fn change_channels(source: &[u8], from: PixelFormat, to: PixelFormat, out: &mut [u8]) {
    match to.depth {
        Depth::Eight => channels(source, from.channels, out, to.channels, luma),
        Depth::Sixteen => channels(
            bytemuck::cast_slice(source),
            from.channels,
            bytemuck::cast_slice_mut(out),
            to.channels,
            luma16,
        ),
    }
}

pub(super) fn channels<T: Copy>(
    source: &[T],
    from: usize,
    out: &mut [T],
    to: usize,
    luma: fn([T; 3]) -> T,
) {
    if from == to {
        out.copy_from_slice(source);
        return;
    }
    for (source, out) in source.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        match (from >= 3, to) {
            (true, 1) => out[0] = luma([source[0], source[1], source[2]]),
            (true, _) => out.copy_from_slice(&source[..3]),
            (false, _) => out.fill(source[0]),
        }
    }
}

/// Converts Adobe's inverted inks (CMYK) to RGB or gray, with PIL's arithmetic.
pub(super) fn cmyk_to(inks: &[u8], channels: usize, out: &mut [u8]) {
    let narrow = inks.len() / 4 * channels;
    for (ink, pixel) in inks
        .chunks_exact(4)
        .zip(out[..narrow].chunks_exact_mut(channels))
    {
        let white = i32::from(ink[3]);
        let rgb = [ink[0], ink[1], ink[2]].map(|ink| {
            let covered = (255 - i32::from(ink)) * white + 128;
            (white - (((covered >> 8) + covered) >> 8)).clamp(0, 255) as u8
        });
        if channels == 1 {
            pixel[0] = luma(rgb);
        } else {
            pixel.copy_from_slice(&rgb);
        }
    }
}

/// Widens the 8-bit values in the first half to 16-bit ones in the whole: `v * 257`, so that full scale stays full
/// scale.
pub(super) fn widen_in_place(out: &mut [u8]) {
    for at in (0..out.len() / 2).rev() {
        let value = out[at];
        out[2 * at] = value;
        out[2 * at + 1] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_keeps_full_scale() {
        let mut bytes = [0, 1, 255, 0, 0, 0];
        widen_in_place(&mut bytes);
        assert_eq!(bytes, [0, 0, 1, 1, 255, 255]);
    }
}
