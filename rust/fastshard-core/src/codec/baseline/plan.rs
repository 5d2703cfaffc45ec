//! The units to read for a region, and the samples that these become.
//!
//! # Units
//!
//! A minimum coded unit (MCU) holds one block or more of each component, for 8x8 to 16x16 pixels here. The region, in
//! pixels of the full image, is widened to whole units. Where chroma is interpolated, a pixel depends on the chroma
//! sample next to its own. So two pixels of the decoded size are added on each side first.
//!
//! # Sizes
//!
//! To reduce an image 2, 4 or 8 times, each block of luma becomes 4x4, 2x2 or 1x1 samples. Chroma that is stored at
//! half the size (4:2:0) is reduced half as much. Then it has as many samples as luma, and isn't interpolated. Chroma
//! that is halved in width only (4:2:2) is reduced like luma and interpolated. libjpeg chooses the same sizes.
//!
//! Three cases are left to libjpeg-turbo: other samplings; 4:2:2 at an eighth; and chroma of one or two samples a row.
//! In the last two, libjpeg repeats samples instead of interpolating them.
//!
//! # Runs
//!
//! A run is data with its own start: a tile of a seekable image, or the whole of an image without restart markers. The
//! samples kept for a component are the rectangle of units that the region touches, however many units are read before.

use std::ops::Range;

use super::scan::Component;
use crate::codec::jpeg_frame::Frame;
use crate::codec::request::Request;
use crate::codec::tiles::Tiles;
use crate::pixels::Rect;

/// How many pixels share a sample of a component, at the size that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// One pixel a sample.
    None,
    /// Two pixels of a row share a sample.
    Across,
    /// 2x2 pixels share a sample.
    Both,
}

/// The samples of a component that are kept: those of all units that the region touches.
#[derive(Debug)]
pub(super) struct Shape {
    /// Blocks in a minimum coded unit, across and down.
    pub(super) blocks: (usize, usize),
    /// Width and height of what a block becomes: 8, 4, 2 or 1 samples.
    pub(super) size: usize,
    pub(super) spread: Spread,
    /// Whether the pixels depend on this component. Gray ones don't depend on chroma.
    pub(super) wanted: bool,
    /// Samples a row.
    pub(super) pitch: usize,
    /// Rows of samples.
    pub(super) height: usize,
    /// Column and row of the first sample, in samples of the whole image.
    pub(super) origin: (usize, usize),
    /// Width and height of the whole image in samples, without those that only fill its last blocks.
    pub(super) whole: (usize, usize),
}

/// Consecutive units whose data start with a byte of their own and with DC predictions of 0.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// Entropy-coded data, with stuffed zeros.
    pub(super) data: &'a [u8],
    /// Numbers of the units, counted row by row.
    pub(super) units: Range<u32>,
}

/// What to decode for a region.
#[derive(Debug)]
pub(super) struct Plan {
    /// The region, in pixels of the reduced image.
    pub(super) area: Rect,
    /// Columns of units that the region depends on.
    pub(super) across: Range<u32>,
    /// Rows of units that the region depends on.
    pub(super) down: Range<u32>,
    /// Units in a row of the image.
    pub(super) columns: u32,
    /// The samples of each component, luma first.
    pub(super) shapes: Vec<Shape>,
}

impl Plan {
    /// Plans the decoding of a region. `None` where chroma isn't sampled as 4:4:4, 4:2:2 or 4:2:0, or is too narrow to
    /// be interpolated.
    pub(super) fn new(frame: &Frame, components: &[Component], request: &Request) -> Option<Self> {
        let Request { region, reduce, .. } = *request;
        let (columns, rows) = frame.mcus();
        let (size, spread) = chroma(components, reduce)?;
        // Interpolation needs the neighbours of the region's chroma samples.
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
        // libjpeg doesn't interpolate chroma of one or two samples a row.
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

    /// The runs that hold the region's units: some of the tiles, or one run of the whole image. `None` for an image
    /// with restart markers but without tiles.
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

    /// The units of a run up to the last one that the region depends on.
    pub(super) fn needed(&self, run: &Run<'_>) -> Range<u32> {
        let first_row = run.units.start / self.columns;
        let last_row = (run.units.end - 1) / self.columns;
        let end = last_row.min(self.down.end - 1) * self.columns + self.across.end;
        debug_assert!(first_row < self.down.end);
        run.units.start..end.min(run.units.end)
    }
}

/// Width and height of what a block of chroma becomes, and how many pixels share one of its samples. 4:2:0 is reduced
/// half as much as luma.
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
