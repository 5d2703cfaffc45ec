//! The tiles of a seekable JPEG: the check of their index, and smaller JPEGs cut out of a file.
//!
//! # Idea
//!
//! Restart markers (ITU-T T.81, table B.1) split the data of a scan into intervals that are decoded without each other:
//! bits are aligned to bytes, and DC predictions start at 0. A tile is one interval, within a row of units. So the
//! tiles of a rectangle, behind a header with the size of that rectangle, are a valid JPEG. Markers count modulo 8, and
//! [`Tiles::cut`] numbers them anew.
//!
//! The index is an array of 32-bit offsets, row by row: the first byte of each tile's data.
//!
//! # Why a wrong index does no harm
//!
//! The index comes from a shard, and its bytes may be anything. [`Tiles::new`] accepts it only if it agrees with the
//! data:
//!
//! 1. The first tile starts where the scan's data start, and the file ends with an EOI.
//! 2. There are as many starts as tiles, in ascending order. In front of each but the first is a restart marker with
//!    the number of the tile before.
//! 3. The data hold one restart marker fewer than there are starts, and no other marker.
//!
//! By 2, the starts name that many different markers. By 3, there are no others, so that these are all, in their order.
//! Only one index passes. With any other, the image is decoded whole.
//!
//! # Cost
//!
//! The check reads all data once, to count markers. [`count_markers`] compares each byte and the one behind it without
//! branches. It adds up the results of 248 bytes in one byte, which can't overflow, so that the compiler can use
//! vectors of bytes.

use super::jpeg_frame::Frame;
use crate::pixels::Rect;

/// Whether the restart marker at the end of interval `number`, counted from 0, is at this place.
fn is_restart(bytes: &[u8], at: usize, number: usize) -> bool {
    bytes.get(at..at + 2) == Some(&[0xFF, 0xD0 | (number % 8) as u8])
}

/// Counts the markers in entropy-coded data: each 0xFF that no zero follows.
fn count_markers(data: &[u8]) -> usize {
    const STRETCH: usize = 248;
    let mut count = 0;
    for start in (0..data.len()).step_by(STRETCH) {
        let here = &data[start..data.len().min(start + STRETCH)];
        let next = &data[(start + 1).min(data.len())..data.len().min(start + STRETCH + 1)];
        let found = here
            .iter()
            .zip(next)
            .map(|(&a, &b)| u8::from(a == 0xFF) & u8::from(b != 0))
            .fold(0u8, u8::wrapping_add);
        count += usize::from(found);
    }
    count
}

/// Makes the index of a file from its markers. `None` if the restart interval doesn't divide the row of units, or if
/// markers are missing.
pub(super) fn index(bytes: &[u8], frame: &Frame) -> Option<Vec<u32>> {
    let (columns, rows) = frame.mcus();
    let whole_tiles = frame.restart_interval > 0 && columns.is_multiple_of(frame.restart_interval);
    if !frame.single_scan || !whole_tiles || u32::try_from(bytes.len()).is_err() {
        return None;
    }
    let tiles = (columns / frame.restart_interval * rows) as usize;
    let mut starts = vec![frame.scan_at as u32];
    let mut at = frame.scan_at;
    while let Some(found) = memchr::memchr(0xFF, &bytes[at..]) {
        at += found;
        if is_restart(bytes, at, starts.len() - 1) {
            starts.push(at as u32 + 2);
        }
        at += 2;
        if at >= bytes.len() {
            break;
        }
    }
    (starts.len() == tiles).then_some(starts)
}

/// A file with an index that agrees with its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
    bytes: &'a [u8],
    starts: &'a [u32],
    /// Tiles in a row of the image.
    columns: u32,
    /// Width and height of a tile in pixels.
    size: (u32, u32),
    /// The place of the EOI marker.
    end: usize,
}

impl<'a> Tiles<'a> {
    /// Checks an index against the data; the head of this file says how. `None` where they disagree.
    pub(super) fn new(bytes: &'a [u8], frame: &Frame, starts: &'a [u32]) -> Option<Self> {
        let (columns, rows) = frame.mcus();
        let interval = frame.restart_interval;
        if !frame.single_scan || interval == 0 || !columns.is_multiple_of(interval) {
            return None;
        }
        let columns = columns / interval;
        let expected = columns as usize * rows as usize;
        let end = bytes.len().checked_sub(2)?;
        let right = starts.len() == expected
            && *starts.first()? as usize == frame.scan_at
            && bytes[end..] == [0xFF, 0xD9]
            && starts.windows(2).enumerate().all(|(number, pair)| {
                let next = pair[1] as usize;
                next >= pair[0] as usize + 2 && next <= end && is_restart(bytes, next - 2, number)
            })
            && count_markers(&bytes[frame.scan_at..end]) == expected - 1;
        right.then_some(Self {
            bytes,
            starts,
            columns,
            size: (interval * frame.mcu.0, frame.mcu.1),
            end,
        })
    }

    /// The entropy-coded data of a tile, with stuffed zeros and without markers.
    pub(super) fn data(&self, tile: usize) -> &'a [u8] {
        let start = self.starts[tile] as usize;
        let end = self
            .starts
            .get(tile + 1)
            .map_or(self.end, |&next| next as usize - 2);
        &self.bytes[start..end]
    }

    /// Writes a JPEG of the tiles that cover `area`. Returns the part of the image that it shows.
    pub(super) fn cut(&self, frame: &Frame, area: Rect, out: &mut Vec<u8>) -> Rect {
        let (width, height) = self.size;
        let (left, top) = (area.x / width, area.y / height);
        let right = (area.x + area.width).div_ceil(width);
        let bottom = (area.y + area.height).div_ceil(height);
        let (x, y) = (left * width, top * height);
        let shown = Rect {
            x,
            y,
            width: (right * width).min(frame.width) - x,
            height: (bottom * height).min(frame.height) - y,
        };
        out.clear();
        frame.copy_header(self.bytes, shown.width, shown.height, out);
        let mut number = 0;
        for row in top..bottom {
            for column in left..right {
                if number > 0 {
                    out.extend_from_slice(&[0xFF, 0xD0 | ((number - 1) % 8) as u8]);
                }
                out.extend_from_slice(self.data((row * self.columns + column) as usize));
                number += 1;
            }
        }
        out.extend_from_slice(&[0xFF, 0xD9]);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_markers_across_stretches() {
        let mut data = vec![0u8; 2000];
        for at in [0, 246, 247, 248, 495, 700, 1998] {
            data[at] = 0xFF;
            data[at + 1] = 0xD0;
        }
        // 246 is overwritten by 247, 247 by 248.
        let plain = data
            .windows(2)
            .filter(|pair| pair[0] == 0xFF && pair[1] != 0)
            .count();
        assert_eq!(count_markers(&data), plain);
        assert_eq!(count_markers(&[]), 0);
        assert_eq!(count_markers(&[0xFF]), 0);
    }
}
