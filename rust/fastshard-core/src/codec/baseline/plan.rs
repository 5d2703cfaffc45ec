//! Which units, blocks and samples a region takes.

use std::ops::Range;

use super::scan::Component;
use crate::codec::jpeg_frame::Frame;
use crate::codec::request::Request;
use crate::codec::tiles::Tiles;
use crate::pixels::Rect;

/// How a component lies to the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// A sample a pixel.
    None,
    /// A sample for two pixels next to each other.
    Across,
    /// A sample for two by two pixels.
    Both,
}

/// A component's samples, as far as they are needed.
#[derive(Debug)]
pub(super) struct Shape {
    /// Blocks in a minimum coded unit, across and down.
    pub(super) blocks: (usize, usize),
    /// Samples that a block becomes, either way: 8, 4, 2 or 1.
    pub(super) size: usize,
    pub(super) spread: Spread,
    /// Whether the pixels depend on it: gray ones don't on colours.
    pub(super) wanted: bool,
    /// Samples a row, and rows.
    pub(super) pitch: usize,
    pub(super) height: usize,
    /// Where they lie in the whole image, which has so many samples.
    pub(super) origin: (usize, usize),
    pub(super) whole: (usize, usize),
}

/// A run of units that are coded one after the other, from their own start.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// Entropy-coded data.
    pub(super) data: &'a [u8],
    /// Units, counted row by row.
    pub(super) units: Range<u32>,
}

/// What to decode for a region.
#[derive(Debug)]
pub(super) struct Plan {
    /// The region in the reduced image.
    pub(super) area: Rect,
    /// Columns and rows of units that have a say in it.
    pub(super) across: Range<u32>,
    pub(super) down: Range<u32>,
    /// Units a row.
    pub(super) columns: u32,
    /// For each component.
    pub(super) shapes: Vec<Shape>,
}

impl Plan {
    /// `None` where chroma is sampled in an unusual way.
    pub(super) fn new(frame: &Frame, components: &[Component], request: &Request) -> Option<Self> {
        let Request { region, reduce, .. } = *request;
        let (columns, rows) = frame.mcus();
        let (size, spread) = chroma(components, reduce)?;
        // Interpolated chroma looks at its neighbours.
        let margin = if spread == Spread::None {
            0
        } else {
            2 * reduce
        };
        let units = |start: u32, length: u32, unit: u32, most: u32| {
            start.saturating_sub(margin) / unit..(start + length + margin).div_ceil(unit).min(most)
        };
        let across = units(region.x, region.width, frame.mcu.0, columns);
        let down = units(region.y, region.height, frame.mcu.1, rows);
        let shape = |(number, component): (usize, &Component)| {
            let luma = number == 0;
            let (size, spread) = if luma {
                (8 / reduce, Spread::None)
            } else {
                (size, spread)
            };
            let (h, v) = component.blocks;
            let (x, y) = (h * size, v * size);
            let whole = |pixels: u32, factor: u32, unit: u32| {
                (pixels * factor * size).div_ceil(unit) as usize
            };
            Shape {
                blocks: (h as usize, v as usize),
                size: size as usize,
                spread,
                wanted: luma || request.format.channels == 3,
                pitch: (across.len() as u32 * x) as usize,
                height: (down.len() as u32 * y) as usize,
                origin: ((across.start * x) as usize, (down.start * y) as usize),
                whole: (
                    whole(frame.width, h, frame.mcu.0),
                    whole(frame.height, v, frame.mcu.1),
                ),
            }
        };
        let shapes: Vec<_> = components.iter().enumerate().map(shape).collect();
        // The narrowest images aren't interpolated.
        let usual = shapes
            .iter()
            .all(|shape| shape.spread == Spread::None || shape.whole.0 > 2);
        let (x, y) = (region.x / reduce, region.y / reduce);
        usual.then_some(Self {
            area: Rect {
                x,
                y,
                width: (region.x + region.width).div_ceil(reduce) - x,
                height: (region.y + region.height).div_ceil(reduce) - y,
            },
            across,
            down,
            columns,
            shapes,
        })
    }

    /// The runs that hold the units: tiles, or all of the image.
    pub(super) fn runs<'a>(
        &self,
        bytes: &'a [u8],
        frame: &Frame,
        tiles: Option<Tiles<'a>>,
    ) -> Option<Vec<Run<'a>>> {
        let Some(tiles) = tiles else {
            let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
            let data = bytes[..end]
                .strip_suffix(&[0xFF, 0xD9])?
                .get(frame.scan_at..)?;
            let (columns, rows) = frame.mcus();
            let run = Run {
                data,
                units: 0..columns * rows,
            };
            return (frame.restart_interval == 0).then(|| vec![run]);
        };
        let interval = frame.restart_interval;
        let needed = self.across.start / interval..self.across.end.div_ceil(interval);
        let run = |row: u32, tile: u32| {
            let start = row * self.columns + tile * interval;
            Run {
                data: tiles.data((start / interval) as usize),
                units: start..start + interval,
            }
        };
        let rows = self.down.clone();
        let runs = rows.flat_map(|row| needed.clone().map(move |tile| run(row, tile)));
        Some(runs.collect())
    }

    /// The units of a run up to the last that is needed.
    pub(super) fn needed(&self, run: &Run<'_>) -> Range<u32> {
        let first_row = run.units.start / self.columns;
        let last_row = (run.units.end - 1) / self.columns;
        let end = last_row.min(self.down.end - 1) * self.columns + self.across.end;
        debug_assert!(first_row < self.down.end);
        run.units.start..end.min(run.units.end)
    }
}

/// Samples of a block of chroma, and how they lie to pixels. Where the image is reduced, chroma that was reduced before
/// is reduced less.
fn chroma(components: &[Component], reduce: u32) -> Option<(u32, Spread)> {
    let (luma, rest) = components.split_first()?;
    let usual = matches!(rest.len(), 0 | 2) && rest.iter().all(|part| part.blocks == (1, 1));
    let size = 8 / reduce;
    match luma.blocks {
        _ if !usual => None,
        (1, 1) => Some((size, Spread::None)),
        (2, 1) if reduce < 8 => Some((size, Spread::Across)),
        (2, 2) if reduce == 1 => Some((size, Spread::Both)),
        (2, 2) => Some((2 * size, Spread::None)),
        _ => None,
    }
}
