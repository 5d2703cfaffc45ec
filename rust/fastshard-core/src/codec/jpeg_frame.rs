//! The markers of a JPEG file up to its first scan (ITU-T T.81, annex B): what they say, and where.

use std::ops::Range;

use super::orient::exif_orientation;

/// What the header says, with the places that a smaller copy changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) precision: u8,
    pub(super) components: u8,
    /// The start-of-frame marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, ...
    pub(super) kind: u8,
    /// Width and height of a minimum coded unit, in pixels.
    pub(super) mcu: (u32, u32),
    /// Units between restart markers, 0 for none.
    pub(super) restart_interval: u32,
    /// One scan, sequential: rows come in order, so decoding may end early.
    pub(super) single_scan: bool,
    pub(super) orientation: u8,
    /// Where the two bytes of the height lie, followed by those of the width.
    pub(super) size_at: usize,
    /// The first byte of entropy-coded data.
    pub(super) scan_at: usize,
}

/// A marker segment: its marker, and where it lies, marker included.
pub(super) struct Segment {
    pub(super) marker: u8,
    pub(super) place: Range<usize>,
}

/// The segments between the start of the image and its first scan; `None` where they are damaged.
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

fn segment(bytes: &[u8], mut at: usize) -> Option<Segment> {
    while bytes.get(at..at + 2)? == [0xFF, 0xFF] {
        at += 1;
    }
    let &[0xFF, marker] = bytes.get(at..at + 2)? else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes(
        bytes.get(at + 2..at + 4)?.try_into().ok()?,
    ));
    let place = at..at + 2 + length;
    (length >= 2 && place.end <= bytes.len()).then_some(Segment { marker, place })
}

impl Frame {
    /// Walks the markers up to the first scan.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut orientation = 1;
        let mut restart_interval = 0;
        for segment in segments(bytes) {
            let Segment { marker, place } = segment?;
            let body = &bytes[place.start + 4..place.end];
            match marker {
                0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                    found = Some(Self::start(marker, body, place.start + 5)?);
                }
                0xDD => restart_interval = number(body, 0)?,
                0xE1 if orientation == 1 => orientation = exif_orientation(body),
                0xDA => {
                    let frame = found?;
                    let sequential = matches!(frame.kind, 0xC0 | 0xC1);
                    return Some(Self {
                        restart_interval,
                        single_scan: sequential && body.first() == Some(&frame.components),
                        orientation,
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
        // The one component of a gray image is never interleaved, so its unit is one block, whatever its factors.
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
            orientation: 1,
            size_at,
            scan_at: 0,
        })
    }

    /// Whether scans are missing that would complete a progressive image: then decoders guess what is missing from the
    /// blocks around, also from those outside of a region.
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

    /// Appends what a decoder needs of the header, for another size: no metadata, but what tells the colour space.
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

/// Whether the scans of a progressive file give each coefficient of so many components to its last bit.
fn is_complete(bytes: &[u8], components: usize) -> bool {
    // Of each component the bits that its coefficients still lack.
    let mut lacking: Vec<(u8, [u8; 64])> = Vec::new();
    let mut at = 2;
    while let Some(Segment { marker, place }) = segment(bytes, at) {
        at = place.end;
        if marker == 0xD9 {
            break;
        }
        if marker == 0xDA {
            let Some(()) = note_scan(&bytes[place.start + 4..place.end], &mut lacking) else {
                return false;
            };
            at = entropy_end(bytes, at);
        }
    }
    lacking.len() == components && lacking.iter().all(|(_, bits)| *bits == [0; 64])
}

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

/// Where entropy-coded data ends: at the first marker that is no restart.
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

fn number(body: &[u8], at: usize) -> Option<u32> {
    let bytes = body.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes).into())
}

/// Whether the last marker, disregarding what cameras append, ends the image.
pub(super) fn ends_properly(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    bytes[..end].ends_with(&[0xFF, 0xD9])
}
