//! A decoder for sequential 8-bit JPEG that transforms only the blocks that a region needs.
//!
//! # Idea
//!
//! Most of the time that a JPEG takes goes into its Huffman codes. libjpeg-turbo has two routines for them, and takes
//! the slower one wherever an image has restart markers. Every seekable image has restart markers.
//!
//! This decoder has one routine for all. It removes the stuffed zeros from the data first, and finds a code and the
//! value behind it by one table look-up. Of blocks outside of the region, only DC and the length are read.
//!
//! # Stages
//!
//! | Module | From | To |
//! |---|---|---|
//! | `scan` | marker segments | quantisation tables, Huffman tables, components |
//! | `plan` | the region | runs of units to read, and the size of each component's samples |
//! | `blocks`, `huffman` | entropy-coded data | 64 coefficients a block |
//! | `idct`, `idct_avx2` | coefficients | 8x8, 4x4, 2x2 or 1x1 samples a block |
//! | `rows`, `rows_avx2`, `color` | samples of all components | gray or RGB pixels |
//!
//! # Exactness
//!
//! Pixels are equal to those of libjpeg-turbo, because every stage computes the same integers: the accurate inverse
//! transform (islow), the reduced transforms, the triangle filter for chroma ("fancy upsampling") and the colour
//! conversion. [`Baseline::decode`] returns `None` for every file that it can't decode this way: another process, an
//! unusual colour space or sampling, an unknown marker, a damaged code. libjpeg-turbo then decodes that file, or says
//! what is wrong with it.
//!
//! # Cost
//!
//! A thread keeps the following from one image to the next:
//!
//! - one byte a sample, for the units that the region touches;
//! - the data of one run without its stuffed zeros;
//! - 8 KiB a Huffman table, and 16 KiB more for AC codes where blocks are skipped several symbols at a time;
//! - one row of each chroma component.

#![allow(
    clippy::inline_always,
    reason = "vector code only reaches what is inlined into the functions that may use it"
)]

mod blocks;
mod color;
mod huffman;
mod idct;
#[cfg(target_arch = "x86_64")]
mod idct_avx2;
mod kernel;
mod plan;
mod rows;
#[cfg(target_arch = "x86_64")]
mod rows_avx2;
mod scan;
#[cfg(test)]
mod tests;
mod zigzag;

use super::jpeg_frame::Frame;
use super::request::{Decoded, Request};
use super::tiles::Tiles;
use crate::pixels::Scratch;
use blocks::Part;
use kernel::Kernel;
use plan::Plan;
use rows::Rows;
use scan::Scan;

/// The largest width and height that libjpeg-turbo takes (`JPEG_MAX_DIMENSION`).
const MAX_SIDE: u32 = 65_500;

/// The decoder of one thread, with the tables and buffers that it keeps from one image to the next.
#[derive(Debug)]
pub(super) struct Baseline {
    kernel: Kernel,
    scan: Scan,
    samples: [Scratch; 3],
    /// Entropy-coded data of one run, without stuffed zeros and with padding.
    data: Vec<u8>,
    rows: Rows,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            kernel: Kernel::best(),
            scan: Scan::default(),
            samples: Default::default(),
            data: Vec::new(),
            rows: Rows::default(),
        }
    }
}

impl Baseline {
    /// Decodes a region into 8-bit channels. `None` if libjpeg-turbo has to decode this file.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        tiles: Option<Tiles<'_>>,
        request: &Request,
        out: &mut Scratch,
    ) -> Option<Decoded> {
        self.can_decode(frame, request).then_some(())?;
        self.scan.read(bytes)?;
        let plan = Plan::new(frame, &self.scan.components, request)?;
        // Making the table of strides takes as long as reading a few hundred blocks. So it is made where many blocks
        // are skipped: at an eighth, luma needs no AC coefficients, and without tiles all units up to the region are
        // read.
        let stride = request.reduce == 8 || tiles.is_none();
        let mut parts = parts(&self.scan, &plan, &mut self.samples, stride)?;
        for run in plan.runs(bytes, frame, tiles)? {
            blocks::unstuff(run.data, &mut self.data)?;
            blocks::decode(self.kernel, &self.data, &run, &plan, &mut parts)?;
        }
        let (pixels, format) = (plan.area.area(), request.format);
        let narrow = &mut out.bytes(pixels * format.bytes()).ok()?[..pixels * format.channels];
        self.rows
            .write(self.kernel, &plan, &parts, format.channels, narrow);
        Some(Decoded {
            area: plan.area,
            reduce: request.reduce,
        })
    }

    fn can_decode(&self, frame: &Frame, request: &Request) -> bool {
        frame.single_scan
            && frame.precision == 8
            && frame.width.max(frame.height) <= MAX_SIDE
            // Without vector code here, libjpeg-turbo's vector transforms win back more than its entropy decoding
            // loses. At an eighth, luma needs no transform.
            && (self.kernel != Kernel::Plain || request.reduce == 8)
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        self.samples
            .iter_mut()
            .for_each(|samples| samples.shrink(keep));
        if self.data.capacity() > keep {
            self.data = Vec::new();
        }
    }
}

/// Joins each component with its tables and with room for its samples. `stride`: many blocks will be skipped, so that
/// the table for skipping several symbols at a time is worth making.
fn parts<'a>(
    scan: &'a Scan,
    plan: &'a Plan,
    samples: &'a mut [Scratch; 3],
    stride: bool,
) -> Option<Vec<Part<'a>>> {
    let components = scan.components.iter().zip(&plan.shapes).zip(samples);
    components
        .map(|((component, shape), samples)| {
            let (multipliers, dc, ac) = scan.coding(component)?;
            let length = if shape.wanted {
                shape.pitch * shape.height
            } else {
                0
            };
            Some(Part {
                shape,
                multipliers,
                dc,
                ac,
                steps: stride.then(|| ac.steps()),
                samples: samples.bytes(length).ok()?,
            })
        })
        .collect()
}
