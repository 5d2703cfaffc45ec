//! The marker segments of a JPEG file (ITU-T T.81, annex B): what they say, and where.
//!
//! # Idea
//!
//! Most questions about a file need no decoder: its size, whether it ends early, whether its scans are complete, where
//! its data start. This file answers them by walking from segment to segment. A walk reads the four bytes of each
//! segment's marker and length, and jumps over the rest.
//!
//! [`Frame`] holds what the segments up to the first scan say. It also holds places in the file, so that
//! [`Frame::copy_header`] can write a header with another size, for a part of the image.
//!
//! # Equal to libjpeg
//!
//! Files of cameras have bytes between segments that belong to none, and fill bytes of 0xFF in front of markers. These
//! are skipped as by libjpeg, so that both find the same segments. [`Frame::tidied`] removes the former.
//!
//! # Missing ends
//!
//! - [`ends_properly`] looks for an EOI: first at the end of the file, then behind the last scan, since cameras append
//!   data.
//! - [`Frame::unended`] finds the data of a file without EOI. Counting restart markers tells early whether some are
//!   missing.
//! - [`Frame::is_smoothed`] tells whether a progressive file lacks scans. Each scan says to which bit it refines which
//!   coefficients (successive approximation, T.81 annex G), so that no code has to be read.

use std::borrow::Cow;
use std::ops::Range;

/// What the segments up to the first scan say, and the places that a copy with another size changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bits a sample.
    pub(super) precision: u8,
    /// Number of components: 1 is gray.
    pub(super) components: u8,
    /// The start-of-frame marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, ...
    pub(super) kind: u8,
    /// Width and height of a minimum coded unit (MCU), in pixels.
    pub(super) mcu: (u32, u32),
    /// Units between restart markers, 0 for none.
    pub(super) restart_interval: u32,
    /// Whether one sequential scan holds all components. Then rows are stored in their order, and decoding may end
    /// early.
    pub(super) single_scan: bool,
    /// The place of the height, two bytes, with the two bytes of the width behind it.
    pub(super) size_at: usize,
    /// The place of the first byte of entropy-coded data.
    pub(super) scan_at: usize,
}

/// A marker segment: the second byte of its marker, and its place in the file, marker included.
pub(super) struct Segment {
    pub(super) marker: u8,
    pub(super) place: Range<usize>,
}

/// The segments from the SOI to the first SOS, included. The last item is `None` where they are damaged.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = Option<Segment>> {
    let mut at = 2;
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let segment = segment(bytes, at);
        match &segment {
            Some(found) => {
                at = found.place.end;
                over = found.marker == 0xDA;
            }
            None => over = true,
        }
        Some(segment)
    })
}

/// The next segment. Restart markers, which belong into a scan, are skipped as by libjpeg. `None` at an SOI or EOI,
/// which can't be between segments, and where the file ends within the segment.
fn segment(bytes: &[u8], mut at: usize) -> Option<Segment> {
    let (marker, behind) = loop {
        match next_marker(bytes, at)? {
            (0x01 | 0xD0..=0xD7, behind) => at = behind,
            (0xD8 | 0xD9, _) => return None,
            found => break found,
        }
    };
    let length = usize::from(u16::from_be_bytes(*bytes.get(behind..)?.first_chunk()?));
    let place = behind - 2..behind + length;
    (length >= 2 && place.end <= bytes.len()).then_some(Segment { marker, place })
}

/// The second byte of the next marker, and the place behind it. Bytes in front of it that belong to no segment are
/// skipped, as by libjpeg: cameras write some. A 0xFF with a zero behind it is entropy-coded data and no marker.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xFF)? + 1;
        if bytes[at - 1] != 0 {
            return Some((bytes[at - 1], at));
        }
    }
}

impl Frame {
    /// Walks the segments up to the first scan. `None` where they are damaged, or where no frame is defined.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut restart_interval = 0;
        for segment in segments(bytes) {
            let Segment { marker, place } = segment?;
            let body = &bytes[place.start + 4..place.end];
            match marker {
                0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                    found = Some(Self::start(marker, body, place.start + 5)?);
                }
                0xDD => restart_interval = number(body, 0)?,
                0xDA => {
                    let frame = found?;
                    let sequential = matches!(frame.kind, 0xC0 | 0xC1);
                    return Some(Self {
                        restart_interval,
                        single_scan: sequential && body.first() == Some(&frame.components),
                        scan_at: place.end,
                        ..frame
                    });
                }
                _ => {}
            }
        }
        None
    }

    fn start(kind: u8, body: &[u8], size_at: usize) -> Option<Self> {
        let components = *body.get(5)?;
        let factors = body.get(6..6 + 3 * usize::from(components))?;
        let factors = factors.chunks_exact(3).map(|component| component[1]);
        let largest = |shift: u8| factors.clone().map(|both| both >> shift & 15).max();
        // A scan of one component isn't interleaved, so that its unit is one block, whatever its sampling factors say.
        let mcu = match components {
            1 => (8, 8),
            _ => (8 * u32::from(largest(4)?), 8 * u32::from(largest(0)?)),
        };
        (mcu.0 > 0 && mcu.1 > 0).then_some(())?;
        Some(Self {
            width: number(body, 3)?,
            height: number(body, 1)?,
            precision: *body.first()?,
            components,
            kind,
            mcu,
            restart_interval: 0,
            single_scan: false,
            size_at,
            scan_at: 0,
        })
    }

    /// Whether a progressive file lacks scans. Decoders then smooth blocks with the blocks around, also with those
    /// outside of a region.
    pub(super) fn is_smoothed(&self, bytes: &[u8]) -> bool {
        self.kind == 0xC2 && !is_complete(bytes, usize::from(self.components))
    }

    /// Columns and rows of minimum coded units.
    pub(super) fn mcus(&self) -> (u32, u32) {
        (
            self.width.div_ceil(self.mcu.0),
            self.height.div_ceil(self.mcu.1),
        )
    }

    /// The file without the bytes between its segments that belong to none.
    pub(super) fn tidied<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let lengths = segments(bytes).flatten().map(|segment| segment.place.len());
        if 2 + lengths.sum::<usize>() == self.scan_at {
            return bytes.into();
        }
        let mut tidy = vec![0xFF, 0xD8];
        for Segment { place, .. } in segments(bytes).flatten() {
            tidy.extend_from_slice(&bytes[place]);
        }
        tidy.extend_from_slice(&bytes[self.scan_at..]);
        tidy.into()
    }

    /// All bytes that may belong to the pixels, of a file of one scan without an EOI. `None` if restart markers are
    /// missing too, and with them pixels.
    pub(super) fn unended<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut end = entropy_end(bytes, self.scan_at);
        let markers = memchr::memchr_iter(0xFF, &bytes[self.scan_at..end]);
        let restarts = markers
            .filter(|at| bytes.get(self.scan_at + at + 1) != Some(&0))
            .count() as u64;
        let (columns, rows) = self.mcus();
        let units = u64::from(columns) * u64::from(rows);
        if self.restart_interval > 0 && restarts + 1 < units.div_ceil(self.restart_interval.into())
        {
            return None;
        }
        // Zeros at the end may be room that a broken download never filled.
        while end > self.scan_at && bytes[end - 1] == 0 {
            end -= 1;
        }
        Some(&bytes[..end])
    }

    /// Appends the header with another size and without metadata. The JFIF and Adobe segments, which tell the colour
    /// space, are kept.
    pub(super) fn copy_header(&self, bytes: &[u8], width: u32, height: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0xFF, 0xD8]);
        for Segment { marker, place } in segments(bytes).flatten() {
            let metadata = matches!(marker, 0xE1..=0xED | 0xEF | 0xFE);
            if metadata {
                continue;
            }
            let start = out.len();
            let holds_size = place.contains(&self.size_at);
            out.extend_from_slice(&bytes[place.clone()]);
            if holds_size {
                let at = start + self.size_at - place.start;
                out[at..at + 2].copy_from_slice(&(height as u16).to_be_bytes());
                out[at + 2..at + 4].copy_from_slice(&(width as u16).to_be_bytes());
            }
        }
    }
}

/// Whether the first scan has a component whose quantisation table isn't defined before it.
pub(super) fn lacks_quantisation(bytes: &[u8]) -> bool {
    let (mut tables, mut components) = ([false; 16], &[][..]);
    for Segment { marker, place } in segments(bytes).flatten() {
        let body = &bytes[place.start + 4..place.end];
        match marker {
            0xDB => {
                let mut rest = body;
                while let Some((&kind, values)) = rest.split_first() {
                    tables[usize::from(kind & 15)] = true;
                    rest = values.get(64 << (kind >> 4 & 1)..).unwrap_or_default();
                }
            }
            0xC3 => return false, // lossless
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                components = body.get(6..).unwrap_or_default();
            }
            0xDA => {
                let selectors = body
                    .get(1..body.len().saturating_sub(3))
                    .unwrap_or_default();
                let ids: Vec<u8> = selectors.iter().copied().step_by(2).collect();
                return (components.chunks_exact(3))
                    .any(|entry| ids.contains(&entry[0]) && !tables[usize::from(entry[2] & 15)]);
            }
            _ => {}
        }
    }
    false
}

/// Whether the scans of a progressive file hold every coefficient of all its components, to the last bit.
fn is_complete(bytes: &[u8], components: usize) -> bool {
    // By component: how many low bits each of its coefficients still lacks. A coefficient without a scan lacks 255.
    let mut lacking: Vec<(u8, [u8; 64])> = Vec::new();
    let mut at = 2;
    while let Some(Segment { marker, place }) = segment(bytes, at) {
        at = place.end;
        if marker == 0xDA {
            let Some(()) = note_scan(&bytes[place.start + 4..place.end], &mut lacking) else {
                return false;
            };
            at = entropy_end(bytes, at);
        }
    }
    lacking.len() == components && lacking.iter().all(|(_, bits)| *bits == [0; 64])
}

/// Notes the bits that coefficients lack after a scan, from its header: components, first and last coefficient, low
/// bit.
fn note_scan(header: &[u8], lacking: &mut Vec<(u8, [u8; 64])>) -> Option<()> {
    let (&count, rest) = header.split_first()?;
    let (components, rest) = rest.split_at_checked(2 * usize::from(count))?;
    let &[first, last, precision] = rest else {
        return None;
    };
    for component in components.chunks_exact(2) {
        let known = lacking.iter().position(|(id, _)| *id == component[0]);
        let place = known.unwrap_or(lacking.len());
        if known.is_none() {
            lacking.push((component[0], [u8::MAX; 64]));
        }
        let bits = &mut lacking[place].1;
        bits.get_mut(usize::from(first)..=usize::from(last))?
            .fill(precision & 15);
    }
    Some(())
}

/// The place where entropy-coded data ends: at the first marker that is no restart marker, or at the end of the file.
fn entropy_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(found) = bytes[at..].iter().position(|&byte| byte == 0xFF) {
        at += found;
        match bytes.get(at + 1) {
            Some(0 | 0xD0..=0xD7) => at += 2,
            _ => return at,
        }
    }
    bytes.len()
}

/// A number of two bytes, the higher one first.
fn number(body: &[u8], at: usize) -> Option<u32> {
    let bytes = body.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes).into())
}

/// Whether an EOI ends the image: at the end of the file, or in front of data that a camera appended.
pub(super) fn ends_properly(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    bytes[..end].ends_with(&[0xFF, 0xD9]) || ends_within(bytes)
}

/// Whether a walk over all segments and scans meets an EOI behind at least one scan. A marker that no image has ends
/// the walk.
fn ends_within(bytes: &[u8]) -> bool {
    let (mut at, mut scans) = (2, 0);
    while let Some((marker, behind)) = next_marker(bytes, at) {
        at = match (marker, segment(bytes, at)) {
            (0xD9, _) => return scans > 0,
            (0x01 | 0xD0..=0xD7, _) => behind,
            (0xC0..=0xDD | 0xE0..=0xEF | 0xFE, Some(segment)) => segment.place.end,
            _ => return false,
        };
        scans += usize::from(marker == 0xDA);
    }
    false
}
