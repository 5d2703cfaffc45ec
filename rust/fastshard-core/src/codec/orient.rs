//! EXIF orientation: turning pixels upright, and writing it. [`super::upright`] reads it.

use crate::error::Result;
use crate::pixels::Scratch;

/// An APP1 segment with an orientation and nothing else.
pub(super) fn exif_segment(orientation: u8) -> Vec<u8> {
    let mut segment = b"\xFF\xE1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    segment.extend_from_slice(b"\x01\x12\0\x03\0\0\0\x01\0");
    segment.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    segment
}

/// Turns an image of `width` x `height` pixels, `size` bytes each, upright. Orientations from 5 on swap width and
/// height.
pub fn orient(
    pixels: &[u8],
    width: usize,
    height: usize,
    size: usize,
    orientation: u8,
    out: &mut Scratch,
) -> Result<()> {
    let (out_width, out_height) = if orientation >= 5 {
        (height, width)
    } else {
        (width, height)
    };
    let out = out.bytes(pixels.len())?;
    for y in 0..out_height {
        for x in 0..out_width {
            let (source_x, source_y) = match orientation {
                2 => (width - 1 - x, y),
                3 => (width - 1 - x, height - 1 - y),
                4 => (x, height - 1 - y),
                5 => (y, x),
                6 => (y, height - 1 - x),
                7 => (width - 1 - y, height - 1 - x),
                8 => (width - 1 - y, x),
                _ => (x, y),
            };
            let (from, to) = (
                (source_y * width + source_x) * size,
                (y * out_width + x) * size,
            );
            out[to..to + size].copy_from_slice(&pixels[from..from + size]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_as_exif_says() {
        // Stored:   0 1 2
        //           3 4 5
        let stored = [0, 1, 2, 3, 4, 5];
        let upright = |orientation| {
            let mut out = Scratch::default();
            orient(&stored, 3, 2, 1, orientation, &mut out).unwrap();
            out.bytes(6).unwrap().to_vec()
        };
        assert_eq!(upright(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(upright(2), [2, 1, 0, 5, 4, 3]);
        assert_eq!(upright(3), [5, 4, 3, 2, 1, 0]);
        assert_eq!(upright(4), [3, 4, 5, 0, 1, 2]);
        assert_eq!(upright(5), [0, 3, 1, 4, 2, 5]);
        assert_eq!(upright(6), [3, 0, 4, 1, 5, 2]);
        assert_eq!(upright(7), [5, 2, 4, 1, 3, 0]);
        assert_eq!(upright(8), [2, 5, 1, 4, 0, 3]);
    }
}
