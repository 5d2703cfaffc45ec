//! The file of an entry, byte by byte. Numbers are little-endian; each part but the header starts and ends at a page.
//!
//! ```text
//! header, 48 bytes
//!     0  magic                       8 bytes
//!     8  rows                        u64
//!    16  length of the file          u64
//!    24  height, width of all rows   two u32; 0 if there is an index
//!    32  bytes a pixel               u32
//!    36  length of the description   u32
//!    40  whether there is an index   u8, and three zeros
//!    44  pages that the file may take, 0 for all that it needs     u32
//! description   JSON for people; follows the header
//! states        u32 a row: 0, or the checksum of the row's size and pixels
//! index         16 bytes a row: offset u64, height u32, width u32; missing if all rows have the header's size
//! pixels        of each row, at multiples of 64 bytes
//! ```
//!
//! A row's place follows from its number, or from its index entry, so rows can be written in any order by anybody. The
//! file has its full length from the beginning and is sparse: what is not written takes no space.
//!
//! The file is input that anybody may have written. `parse` compares the header with the length of the file, and `row`
//! every index entry with the file's bounds, so no number can lead outside of the mapping.
//!
//! Without pixels, an entry takes 4 bytes a row, and 16 more where sizes differ.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::ALIGNMENT;

const MAGIC: &[u8; 8] = b"FSCACHE\x01";
pub(super) const HEADER: usize = 48;
pub(super) const PAGE: u64 = 4096;
/// Where the header says how many pages the file may take.
pub(super) const GRANT: u64 = 44;
pub(super) const INDEX_ENTRY: usize = 16;
/// The longest description; a file with a longer one is no cache entry.
const MAX_DESCRIPTION: u32 = 1 << 20;

/// Sizes, as (height, width), of the images that are stored.
#[derive(Clone, Debug)]
pub enum Sizes {
    /// All rows have this size.
    Same([u32; 2]),
    /// The size of each row; zeros where there is nothing to store.
    Each(Vec<[u32; 2]>),
}

/// Where everything is in an entry's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: u64,
    /// Size of all rows; `None` if there is an index.
    pub(super) size: Option<[u32; 2]>,
    pub(super) pixel_bytes: u32,
    pub(super) description: u32,
    pub(super) length: u64,
    /// Pages that the file may take; 0 for all that it needs.
    pub(super) grant: u32,
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

fn row_bytes(size: [u32; 2], pixel_bytes: u32) -> u64 {
    let pixels = u64::from(size[0]) * u64::from(size[1]);
    pixels.saturating_mul(u64::from(pixel_bytes))
}

fn stride(size: [u32; 2], pixel_bytes: u32) -> u64 {
    // A file of a length that no disk has is refused when it is made.
    let rounded = row_bytes(size, pixel_bytes).checked_next_multiple_of(ALIGNMENT as u64);
    rounded.unwrap_or(u64::MAX)
}

impl Layout {
    /// The layout for these rows, and the bytes of its index.
    pub(super) fn new(
        rows: u64,
        sizes: &Sizes,
        pixel_bytes: u32,
        description: &str,
    ) -> (Self, Vec<u8>) {
        let mut layout = Self {
            rows,
            size: None,
            pixel_bytes,
            description: description.len() as u32,
            length: 0,
            grant: 0,
        };
        let mut index = Vec::new();
        match sizes {
            Sizes::Same(size) => {
                layout.size = Some(*size);
                let pixels = rows.saturating_mul(stride(*size, pixel_bytes));
                layout.length = layout.data().saturating_add(pixels);
            }
            Sizes::Each(sizes) => {
                let mut offset = layout.data();
                for size in sizes {
                    index.extend_from_slice(&offset.to_le_bytes());
                    for side in size {
                        index.extend_from_slice(&side.to_le_bytes());
                    }
                    offset = offset.saturating_add(stride(*size, pixel_bytes));
                }
                layout.length = offset;
            }
        }
        (layout, index)
    }

    pub(super) fn header(&self) -> [u8; HEADER] {
        let [height, width] = self.size.unwrap_or_default();
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.rows.to_le_bytes());
        header[16..24].copy_from_slice(&self.length.to_le_bytes());
        for (at, value) in [height, width, self.pixel_bytes, self.description]
            .iter()
            .enumerate()
        {
            header[24 + 4 * at..28 + 4 * at].copy_from_slice(&value.to_le_bytes());
        }
        header[40] = u8::from(self.size.is_none());
        header[GRANT as usize..].copy_from_slice(&self.grant.to_le_bytes());
        header
    }

    /// Reads a header and compares it with the file's length.
    pub(super) fn parse(header: &[u8; HEADER], found: u64, path: &Path) -> Result<Self> {
        let bad = |reason: &str| Error::corrupt(path, format!("no cache entry: {reason}"));
        let long = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("inside"));
        let word = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().expect("inside"));
        if &header[..8] != MAGIC {
            return Err(bad("another beginning"));
        }
        let layout = Self {
            rows: long(8),
            length: long(16),
            size: (header[40] == 0).then(|| [word(24), word(28)]),
            pixel_bytes: word(32),
            description: word(36),
            grant: word(GRANT as usize),
        };
        if layout.length != found || layout.rows > found / 4 {
            return Err(bad("another length"));
        }
        if layout.description > MAX_DESCRIPTION || layout.data() > layout.length {
            return Err(bad("parts beyond its end"));
        }
        let room = layout.length - layout.data();
        let fits = |[height, width]: [u32; 2]| {
            let bytes = u128::from(height) * u128::from(width) * u128::from(layout.pixel_bytes);
            let padded = bytes.next_multiple_of(ALIGNMENT as u128);
            padded <= u128::from(room) && padded * u128::from(layout.rows) <= u128::from(room)
        };
        if layout.rows > 0 && !layout.size.is_none_or(fits) {
            return Err(bad("rows beyond its end"));
        }
        Ok(layout)
    }

    pub(super) fn states(&self) -> u64 {
        pages(HEADER as u64 + u64::from(self.description))
    }

    pub(super) fn index(&self) -> u64 {
        self.states() + pages(4 * self.rows)
    }

    pub(super) fn data(&self) -> u64 {
        let entries = if self.size.is_some() { 0 } else { self.rows };
        self.index() + pages(INDEX_ENTRY as u64 * entries)
    }

    /// Bytes of the file that may be filled.
    pub(super) fn granted(&self) -> u64 {
        match self.grant {
            0 => self.length,
            pages => self.length.min(u64::from(pages) * PAGE),
        }
    }

    /// First byte, length and (height, width) of a row; `None` if it lies outside or has none. `index` reads an entry of
    /// the index, at an offset of the file.
    pub(super) fn row(
        &self,
        row: u64,
        index: impl FnOnce(u64) -> Option<[u8; INDEX_ENTRY]>,
    ) -> Option<(u64, usize, [u32; 2])> {
        if row >= self.rows {
            return None;
        }
        let (start, size) = if let Some(size) = self.size {
            (self.data() + row * stride(size, self.pixel_bytes), size)
        } else {
            let entry = index(self.index() + INDEX_ENTRY as u64 * row)?;
            let start = u64::from_le_bytes(*entry.first_chunk()?);
            let side = |at: usize| {
                u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
            };
            (start, [side(8), side(12)])
        };
        let length = u64::from(size[0])
            .checked_mul(u64::from(size[1]))?
            .checked_mul(u64::from(self.pixel_bytes))?;
        let end = start.checked_add(length)?;
        (length > 0 && start >= self.data() && end <= self.length).then_some((
            start,
            length as usize,
            size,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry_in(file: &[u8]) -> impl Fn(u64) -> Option<[u8; INDEX_ENTRY]> {
        |at| file.get(at as usize..)?.first_chunk().copied()
    }

    #[test]
    fn headers_are_read_as_written() {
        let each = Sizes::Each(vec![[3, 5], [0, 0], [7, 2]]);
        for (sizes, rows) in [(&Sizes::Same([4, 6]), 100), (&each, 3)] {
            let (layout, index) = Layout::new(rows, sizes, 3, "{}");
            let read = Layout::parse(&layout.header(), layout.length, Path::new("x")).unwrap();
            assert_eq!(read, layout);
            let mut file = vec![0; layout.data() as usize];
            file[layout.index() as usize..][..index.len()].copy_from_slice(&index);
            let places: Vec<_> = (0..=rows)
                .map(|row| layout.row(row, entry_in(&file)))
                .collect();
            assert_eq!(places[rows as usize], None);
            match sizes {
                Sizes::Same(_) => assert_eq!(places[1].unwrap().0 - places[0].unwrap().0, 128),
                Sizes::Each(_) => {
                    assert_eq!(places[0].unwrap().1, 45);
                    assert_eq!(places[1], None);
                    assert_eq!(places[2].unwrap().2, [7, 2]);
                }
            }
        }
    }

    proptest! {
        /// Whatever a header says, it is refused, or every row is inside of the file.
        #[test]
        fn refuses_what_cannot_be(changes in proptest::collection::vec((0usize..HEADER, any::<u8>()), 1..6)) {
            let (layout, _) = Layout::new(10, &Sizes::Same([4, 6]), 3, "{}");
            let mut header = layout.header();
            for (at, value) in changes {
                header[at] = value;
            }
            let file = vec![0xFF; layout.length as usize];
            if let Ok(read) = Layout::parse(&header, layout.length, Path::new("x")) {
                for row in 0..read.rows {
                    if let Some((start, length, _)) = read.row(row, entry_in(&file)) {
                        prop_assert!(start >= read.data() && start + length as u64 <= read.length);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_outside_are_none() {
        let (layout, mut index) = Layout::new(1, &Sizes::Each(vec![[3, 5]]), 3, "");
        let file = |index: &[u8]| {
            let mut file = vec![0; layout.data() as usize];
            file[layout.index() as usize..][..index.len()].copy_from_slice(index);
            file
        };
        assert!(layout.row(0, entry_in(&file(&index))).is_some());
        index[8] = 200;
        assert!(layout.row(0, entry_in(&file(&index))).is_none());
        index[8..16].fill(0xFF);
        assert!(layout.row(0, entry_in(&file(&index))).is_none());
        index[..8].fill(0);
        assert!(layout.row(0, entry_in(&file(&index))).is_none());
    }
}
