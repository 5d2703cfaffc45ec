//! The marker segments before a scan: quantisation, Huffman tables, components and colours (ITU-T T.81, annex B).
//!
//! # What is accepted
//!
//! A file passes if this decoder reads its data as libjpeg does: SOF0 or SOF1, one scan of all components in their
//! order, and one component (gray) or three in Y, Cb, Cr. Three components are Y, Cb, Cr if there is a JFIF segment, or
//! an Adobe segment with transform 1. Without any of these segments, their numbers must be 1, 2, 3. Metadata (`APPn`,
//! `COM`) is skipped. Any other marker makes [`Scan::read`] return `None`.
//!
//! # Tables that stay
//!
//! Making the tables of a Huffman code costs far more than reading its segment, and many files of a data set share
//! theirs. So codes stay from one image to the next, and are made anew only where the segment differs byte by byte. A
//! file may lack a table that an earlier file had. [`Seen`] notes which tables this file defines, and a file that uses
//! any other one is refused.
//!
//! Memory: up to 4 DC and 4 AC codes of 8 KiB, 16 KiB more for an AC code with a table of strides, and 4 quantisation
//! tables of 128 bytes.

use super::super::jpeg_frame::{Segment, segments};
use super::huffman::{Codes, Kind};
use super::zigzag::{Block, NATURAL};

/// A component of the image as its header describes it: Y, Cb or Cr.
#[derive(Clone, Debug)]
pub(super) struct Component {
    id: u8,
    /// Blocks in a minimum coded unit, across and down.
    pub(super) blocks: (u32, u32),
    quantisation: u8,
    /// Number of the Huffman code of its DC coefficients, 0 to 3.
    pub(super) dc: usize,
    /// Number of the Huffman code of its AC coefficients, 0 to 3.
    pub(super) ac: usize,
}

/// The components of the latest image, and the tables of this one and those before.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) components: Vec<Component>,
    quantisations: [Option<Box<Block>>; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
}

impl Scan {
    /// Reads the segments up to the start of the scan's data. `None` for any file that libjpeg-turbo has to decode.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<()> {
        bytes.starts_with(&[0xFF, 0xD8]).then_some(())?;
        self.components.clear();
        // Codes stay until a file defines others of the same number. `seen` notes the numbers that this file defines.
        let mut seen = Seen::default();
        let mut colours = Colours::default();
        for segment in segments(bytes) {
            let Segment { marker, place } = segment?;
            let body = &bytes[place.start + 4..place.end];
            match marker {
                0xC0 | 0xC1 if self.components.is_empty() => self.read_frame(body)?,
                0xC4 => self.read_codes(body, &mut seen)?,
                0xDA => {
                    self.read_scan(body)?;
                    return (self.is_complete(&seen) && colours.are_usual(&self.components))
                        .then_some(());
                }
                0xDB => self.read_quantisations(body, &mut seen)?,
                0xE0 => colours.jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
                0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => {
                    colours.adobe = Some(body[11]);
                }
                // The restart interval, which `Frame` has read; then metadata.
                0xDD if body.len() == 2 => {}
                0xE0..=0xEF | 0xFE => {}
                _ => return None,
            }
        }
        None
    }

    fn read_frame(&mut self, body: &[u8]) -> Option<()> {
        self.components = body
            .get(6..)?
            .chunks_exact(3)
            .map(|entry| Component {
                id: entry[0],
                blocks: (u32::from(entry[1] >> 4), u32::from(entry[1] & 15)),
                quantisation: entry[2],
                dc: 0,
                ac: 0,
            })
            .collect();
        let ids: Vec<u8> = self
            .components
            .iter()
            .map(|component| component.id)
            .collect();
        let once = (1..ids.len()).all(|at| !ids[..at].contains(&ids[at]));
        let factors = 1..=4;
        let usual = (self.components.iter().map(|component| component.blocks))
            .all(|(h, v)| factors.contains(&h) && factors.contains(&v));
        // The unit of a gray image is one block, whatever its sampling factors say.
        if let [only] = &mut self.components[..] {
            only.blocks = (1, 1);
        }
        (once && usual && body.len() == 6 + 3 * usize::from(body[5])).then_some(())
    }

    fn read_scan(&mut self, body: &[u8]) -> Option<()> {
        let (&count, rest) = body.split_first()?;
        let (selectors, rest) = rest.split_at_checked(2 * usize::from(count))?;
        if usize::from(count) != self.components.len() || rest != [0, 63, 0] {
            return None;
        }
        for (component, selector) in self.components.iter_mut().zip(selectors.chunks_exact(2)) {
            (component.id == selector[0]).then_some(())?;
            (component.dc, component.ac) = (
                usize::from(selector[1] >> 4 & 3),
                usize::from(selector[1] & 3),
            );
            (selector[1] & 0xCC == 0).then_some(())?;
        }
        Some(())
    }

    fn read_quantisations(&mut self, mut body: &[u8], seen: &mut Seen) -> Option<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let (number, wide) = (usize::from(kind & 15), kind >> 4 == 1);
            (kind >> 4 < 2).then_some(())?;
            let (values, rest) = rest.split_at_checked(if wide { 128 } else { 64 })?;
            let table = self
                .quantisations
                .get_mut(number)?
                .get_or_insert_with(|| Box::new([0; 64]));
            for (at, &place) in NATURAL.iter().enumerate() {
                table[usize::from(place)] = if wide {
                    i16::from_be_bytes([values[2 * at], values[2 * at + 1]])
                } else {
                    values[at].into()
                };
            }
            seen.quantisations[number] = true;
            body = rest;
        }
        Some(())
    }

    fn read_codes(&mut self, mut body: &[u8], seen: &mut Seen) -> Option<()> {
        while let Some((&class, rest)) = body.split_first() {
            let counts: &[u8; 16] = rest.first_chunk()?;
            let total = counts
                .iter()
                .map(|&count| usize::from(count))
                .sum::<usize>();
            let (spec, rest) = rest.split_at_checked(16 + total)?;
            let number = usize::from(class & 15);
            let (codes, seen, kind) = match class >> 4 {
                0 => (&mut self.dc, &mut seen.dc, Kind::Dc),
                1 => (&mut self.ac, &mut seen.ac, Kind::Ac),
                _ => return None,
            };
            let codes = codes.get_mut(number)?;
            if codes.as_ref().is_none_or(|known| !known.is_of(spec)) {
                *codes = Some(Codes::new(spec, kind)?);
            }
            seen[number] = true;
            body = rest;
        }
        Some(())
    }

    fn is_complete(&self, seen: &Seen) -> bool {
        self.components.iter().all(|component| {
            let quantisation = usize::from(component.quantisation);
            seen.quantisations.get(quantisation) == Some(&true)
                && seen.dc[component.dc]
                && seen.ac[component.ac]
        })
    }

    /// The tables of a component: quantisation steps, DC codes, AC codes.
    pub(super) fn coding(&self, component: &Component) -> Option<(&Block, &Codes, &Codes)> {
        Some((
            self.quantisations[usize::from(component.quantisation)].as_deref()?,
            self.dc[component.dc].as_ref()?,
            self.ac[component.ac].as_ref()?,
        ))
    }
}

/// Numbers of the tables that the current file defines.
#[derive(Debug, Default)]
struct Seen {
    quantisations: [bool; 4],
    dc: [bool; 4],
    ac: [bool; 4],
}

/// The segments that tell the colour space: whether there is a JFIF one, and the transform of an Adobe one.
#[derive(Debug, Default)]
struct Colours {
    jfif: bool,
    adobe: Option<u8>,
}

impl Colours {
    /// Whether the components are gray, or Y, Cb and Cr. Three components could also be red, green and blue.
    fn are_usual(&self, components: &[Component]) -> bool {
        match components {
            [_] => true,
            [a, b, c] => {
                self.jfif
                    || self
                        .adobe
                        .map_or([a.id, b.id, c.id] == [1, 2, 3], |transform| transform == 1)
            }
            _ => false,
        }
    }
}
