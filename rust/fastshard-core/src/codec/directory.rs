//! Reads the first directory of a TIFF file (TIFF 6.0, and `BigTIFF`): tags and their values. EXIF data are such a file
//! too.
//!
//! Values are borrowed from the file. Offsets are checked against its length, so that any bytes can be read.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Result};

/// Number of the tag of the orientation.
pub(super) const ORIENTATION: u16 = 274;
pub(super) const XMP: u16 = 700;
const COMPRESSION: u16 = 259;
const FILL_ORDER: u16 = 266;
/// Numbers of the tags with offsets and lengths: of strips, and of tiles.
const DATA: [(u16, u16); 2] = [(273, 279), (324, 325)];

/// Values of the compression tag for JPEG, old and new. Bits of JPEG data are never reversed.
const JPEG: [f64; 2] = [6.0, 7.0];

/// A directory: a list of entries, each a tag with its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Whether counts and offsets have eight bytes (`BigTIFF`) instead of four.
    wide: bool,
    /// The place of the first entry.
    start: usize,
    /// Number of entries within the file.
    count: usize,
}

/// The values of a tag, as bytes of a type.
#[derive(Clone, Debug)]
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    kind: u16,
    big_endian: bool,
}

impl<'a> Directory<'a> {
    /// Finds the first directory. `None` if the bytes are no TIFF file.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        // PIL accepts versions in the wrong byte order too.
        let (big_endian, wide) = match bytes.first_chunk()? {
            b"MM\0*" | b"MM*\0" => (true, false),
            b"II*\0" | b"II\0*" => (false, false),
            b"MM\0+" => (true, true),
            b"II+\0" => (false, true),
            _ => return None,
        };
        let mut found = Self {
            bytes,
            big_endian,
            wide,
            start: 0,
            count: 0,
        };
        let size = |wide, narrow| if found.wide { wide } else { narrow };
        let at = usize::try_from(found.number(size(8, 4), size(8, 4))?).ok()?;
        let count = found.number(at, size(8, 2))?;
        let (start, entry) = (at + size(8, 2), size(20, 12));
        let most = bytes.len().saturating_sub(start) / entry;
        found.start = start;
        found.count = usize::try_from(count).unwrap_or(usize::MAX).min(most);
        Some(found)
    }

    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        Some(unsigned(bytes, self.big_endian))
    }

    /// The values of a tag, from its first entry that has any.
    pub(super) fn find(&self, tag: u16) -> Option<Values<'a>> {
        let (entry, wide) = if self.wide { (20, 8) } else { (12, 4) };
        let mut places = (0..self.count).map(|number| self.start + number * entry);
        places.find_map(|at| {
            if self.number(at, 2)? != u64::from(tag) {
                return None;
            }
            let kind = self.number(at + 2, 2)? as u16;
            let length = usize::try_from(self.number(at + 4, wide)?).ok()?;
            let length = length.checked_mul(size(kind)?)?;
            let inline = at + 4 + wide;
            let start = if length <= wide {
                inline
            } else {
                usize::try_from(self.number(inline, wide)?).ok()?
            };
            let bytes = self.bytes.get(start..start.checked_add(length)?)?;
            (!bytes.is_empty()).then_some(Values {
                bytes,
                kind,
                big_endian: self.big_endian,
            })
        })
    }
}

impl<'a> Values<'a> {
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values as numbers. Values of bytes and text are left out.
    pub(super) fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let size = size(self.kind).unwrap_or(1);
        (self.bytes.chunks_exact(size)).map_while(|bytes| self.number(bytes))
    }

    fn number(&self, bytes: &[u8]) -> Option<f64> {
        let whole = |bytes: &[u8]| unsigned(bytes, self.big_endian);
        let signed = |bytes: &[u8]| {
            let unused = 64 - 8 * bytes.len() as u32;
            ((whole(bytes) << unused) as i64 >> unused) as f64
        };
        Some(match self.kind {
            3 | 4 | 13 | 16 => whole(bytes) as f64,
            6 | 8 | 9 => signed(bytes),
            5 => whole(&bytes[..4]) as f64 / whole(&bytes[4..]) as f64,
            10 => signed(&bytes[..4]) / signed(&bytes[4..]),
            11 => f32::from_bits(whole(bytes) as u32).into(),
            12 => f64::from_bits(whole(bytes)),
            _ => return None,
        })
    }
}

fn unsigned(bytes: &[u8], big_endian: bool) -> u64 {
    let join = |number, &byte: &u8| number << 8 | u64::from(byte);
    if big_endian {
        bytes.iter().fold(0, join)
    } else {
        bytes.iter().rev().fold(0, join)
    }
}

/// Bytes of a value, by its type. `None` for a type that isn't defined.
fn size(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}

/// Returns the file with the highest bit of each byte first, as the decoder expects. Most files are returned as they
/// are. With `FillOrder` 2, the bits of all bytes in strips and tiles are reversed.
pub(super) fn highest_bit_first(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    let Some(directory) = Directory::first(bytes) else {
        return Ok(bytes.into());
    };
    let first = |tag| directory.find(tag)?.numbers().next();
    if first(FILL_ORDER) != Some(2.0) || first(COMPRESSION).is_some_and(|kind| JPEG.contains(&kind))
    {
        return Ok(bytes.into());
    }
    let mut turned = bytes.to_vec();
    for place in data(&directory).ok_or_else(|| {
        Error::decode("tiff: FillOrder is 2, but its strips or tiles can't be found; save it with FillOrder 1")
    })? {
        // Read from the original, because strips may share their data and would be reversed twice.
        for (turned, &byte) in turned[place.clone()].iter_mut().zip(&bytes[place]) {
            *turned = byte.reverse_bits();
        }
    }
    Ok(turned.into())
}

/// The places of an image's strips or tiles. `None` unless all are within the file, and together no longer than the
/// file.
fn data(directory: &Directory<'_>) -> Option<Vec<Range<usize>>> {
    let (offsets, lengths) = (DATA.into_iter()).find_map(|(offsets, lengths)| {
        Some((directory.find(offsets)?, directory.find(lengths)?))
    })?;
    let mut room = directory.bytes.len();
    let places = offsets.numbers().zip(lengths.numbers());
    places
        .map(|(start, length)| {
            room = room.checked_sub(length as usize)?;
            let place = start as usize..(start as usize).checked_add(length as usize)?;
            (place.end <= directory.bytes.len()).then_some(place)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little-endian file of one strip, with entries of LONGs.
    fn file(entries: &[(u16, u32)]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend([4, 0, 1, 0, 0, 0]);
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn turns_the_bits_of_strips_about() {
        let end = file(&[(0, 0); 4]).len() as u32 - 4;
        let entries = [(259, 1), (266, 2), (273, end), (279, 3)];
        let given = file(&entries);
        let turned = highest_bit_first(&given).unwrap();
        assert_eq!(turned[end as usize..], [0x80, 0x40, 0xC0, 4]);
        assert_eq!(turned[..end as usize], given[..end as usize]);
        for (tag, value) in [(266, 1), (259, 7)] {
            let entries = entries.map(|entry| if entry.0 == tag { (tag, value) } else { entry });
            let given = file(&entries);
            assert_eq!(*highest_bit_first(&given).unwrap(), given);
        }
    }

    #[test]
    fn refuses_strips_outside_of_the_file() {
        for strip in [
            [(273, 60), (279, 5)],
            [(273, u32::MAX), (279, 1)],
            [(273, 0), (279, u32::MAX)],
        ] {
            assert!(highest_bit_first(&file(&[&[(266, 2)][..], &strip].concat())).is_err());
        }
        assert!(highest_bit_first(&file(&[(266, 2)])).is_err());
    }
}
