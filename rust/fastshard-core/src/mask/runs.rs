//! Run-length encodings, as COCO has them: how many pixels are 0, then 1, then 0, and so on, column by column.
//!
//! The first run is of zeros and may have length 0. The lengths add up to the pixels of the image. COCO's compressed
//! text stores each length as a signed number of 5-bit digits; from the fourth number on, it is the difference to the
//! length before the last one, since runs of neighbouring columns resemble each other.
//!
//! Bounds cost one step a run, and not one a pixel.

use crate::memory::{self, Denied};

/// An encoding whose runs fill its image exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Height and width.
    size: [u32; 2],
    lengths: Vec<u32>,
}

impl Runs {
    /// The encoding of an image of this (height, width); an error unless the runs fill it exactly.
    pub fn new(size: [u32; 2], lengths: Vec<u32>) -> Result<Self, String> {
        let pixels = u64::from(size[0]) * u64::from(size[1]);
        let found: u64 = lengths.iter().copied().map(u64::from).sum();
        if found == pixels {
            return Ok(Self { size, lengths });
        }
        let [height, width] = size;
        Err(format!(
            "a run-length encoding of {found} pixels for {height} x {width} (height x width)"
        ))
    }

    /// Encodes the pixels of an image, given row by row; what isn't 0 counts as 1.
    #[must_use]
    pub fn of_rows(size: [u32; 2], pixels: &[u8]) -> Self {
        let width = size[1] as usize;
        let (mut lengths, mut length, mut last) = (Vec::new(), 0, false);
        for x in 0..width {
            for &pixel in pixels.iter().skip(x).step_by(width) {
                if (pixel != 0) != last {
                    lengths.push(std::mem::take(&mut length));
                    last = !last;
                }
                length += 1;
            }
        }
        lengths.push(length);
        Self { size, lengths }
    }

    /// The lengths of the runs: zeros, ones, zeros, and so on.
    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Lengths from COCO's compressed text. A byte less 48 is a digit of 5 bits, the lowest first, and a bit that says
    /// whether another digit follows. The highest bit of the last digit is the sign. From the fourth number on, the
    /// length is the number plus the length before the last one.
    pub fn uncompressed(text: &str) -> Result<Vec<u32>, String> {
        let wrong =
            |at: usize| format!("byte {at} of a compressed run-length encoding makes no sense");
        let mut lengths: Vec<u32> = Vec::new();
        let (mut value, mut bits) = (0_i64, 0);
        for (at, byte) in text.bytes().enumerate() {
            let digit = byte.checked_sub(48).filter(|digit| *digit < 64);
            let digit = digit.filter(|_| bits < 40).ok_or_else(|| wrong(at))?;
            value |= i64::from(digit & 31) << bits;
            bits += 5;
            if digit & 32 != 0 {
                continue;
            }
            if digit & 16 != 0 {
                value |= -1 << bits;
            }
            if lengths.len() > 2 {
                value += i64::from(lengths[lengths.len() - 2]);
            }
            lengths.push(u32::try_from(value).map_err(|_| wrong(at))?);
            (value, bits) = (0, 0);
        }
        if bits == 0 {
            Ok(lengths)
        } else {
            Err("a compressed run-length encoding ends within a number".into())
        }
    }

    /// Height and width.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Where the runs of ones start and end, counted in pixels column by column.
    fn ones(&self) -> impl Iterator<Item = [usize; 2]> {
        let mut at = 0;
        let ends = self.lengths.iter().map(move |&length| {
            let start = at;
            at += length as usize;
            [start, at]
        });
        let ones = ends.skip(1).step_by(2);
        ones.filter(|[start, end]| start < end)
    }

    /// The box around the ones: left, top, right, bottom; `None` if there are none.
    #[must_use]
    pub fn bounds(&self) -> Option<[f64; 4]> {
        let height = self.size[0] as usize;
        let of_run = |[start, end]: [usize; 2]| {
            let (left, right) = (start / height, (end - 1) / height + 1);
            match right - left {
                1 => [left, start % height, right, (end - 1) % height + 1],
                _ => [left, 0, right, height],
            }
        };
        let around = |a: [usize; 4], b: [usize; 4]| {
            [
                a[0].min(b[0]),
                a[1].min(b[1]),
                a[2].max(b[2]),
                a[3].max(b[3]),
            ]
        };
        let bounds = self.ones().map(of_run).reduce(around)?;
        Some(bounds.map(|side| side as f64))
    }

    /// Decodes every pixel to 0 or 1, column by column.
    pub fn columns(&self, out: &mut Vec<u8>) -> Result<(), Denied> {
        out.clear();
        memory::resize(out, self.size[0] as usize * self.size[1] as usize, 0)?;
        for [start, end] in self.ones() {
            out[start..end].fill(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `pycocotools.mask.frPyObjects` makes of these counts in 7 x 9 pixels.
    #[test]
    fn compressed_as_pycocotools_does() {
        let lengths = Runs::uncompressed(":3d025").unwrap();
        assert_eq!(lengths, [10, 3, 20, 5, 25]);
        let falling = Runs::uncompressed("032k0OK1").unwrap();
        assert_eq!(falling, [0, 3, 2, 30, 1, 25, 2]);
        assert!(Runs::uncompressed("").unwrap().is_empty());
        for text in ["~", "o", "\u{7f}", "/", "O", "oooooooooooo0"] {
            assert!(Runs::uncompressed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_those_of_the_ones() {
        let runs = |lengths: &[u32]| Runs::new([4, 5], lengths.to_vec()).unwrap();
        assert_eq!(runs(&[20]).bounds(), None);
        assert_eq!(runs(&[5, 2, 13]).bounds(), Some([1.0, 1.0, 2.0, 3.0]));
        assert_eq!(runs(&[5, 4, 11]).bounds(), Some([1.0, 0.0, 3.0, 4.0]));
        assert_eq!(runs(&[5, 1, 6, 2, 6]).bounds(), Some([1.0, 0.0, 4.0, 2.0]));
        assert_eq!(runs(&[0, 20]).bounds(), Some([0.0, 0.0, 5.0, 4.0]));
        let mut columns = Vec::new();
        runs(&[5, 2, 13]).columns(&mut columns).unwrap();
        let ones = (0..20).filter(|&at| columns[at] == 1);
        assert!(ones.eq(5..7));
    }

    #[test]
    fn from_rows_and_back() {
        for lengths in [vec![20], vec![5, 2, 13], vec![0, 20], vec![0, 1, 3, 4, 12]] {
            let runs = Runs::new([4, 5], lengths).unwrap();
            let mut columns = Vec::new();
            runs.columns(&mut columns).unwrap();
            let rows: Vec<u8> = (0..20).map(|at| columns[at % 5 * 4 + at / 5]).collect();
            assert_eq!(Runs::of_rows([4, 5], &rows), runs);
        }
    }
}
