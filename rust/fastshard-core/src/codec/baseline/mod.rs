//! A decoder for the sequential JPEG of every camera and of seekable shards, made for parts of images.
//!
//! Two thirds of the time that a JPEG takes go into its Huffman codes, and libjpeg-turbo reads those of images with
//! restart markers, which all seekable ones are, by the slower of its two routines. Here codes are read from data whose
//! stuffed zeros were taken out first, values come out of the same table as their codes, and blocks outside of the region
//! are passed over without being stored. What is decoded goes through the same integers as in libjpeg, so that pixels are
//! the same.
//!
//! Whatever is unusual or wrong, be it a marker, a colour space, a sampling or a code, is left to libjpeg-turbo, which also
//! has the words for what is wrong.

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

/// The library's limit.
const MAX_SIDE: u32 = 65_500;

/// What a thread keeps from one image to the next.
#[derive(Debug)]
pub(super) struct Baseline {
    kernel: Kernel,
    scan: Scan,
    samples: [Scratch; 3],
    /// Entropy-coded data without stuffed zeros.
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
    /// Decodes a region. `None` if libjpeg-turbo has to.
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
        // Their table takes as long to make as a few hundred blocks to read.
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
            // Without vector code, libjpeg-turbo's transforms are worth more than what is saved here; single samples
            // need none.
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

/// The components with their tables and places for their samples. `stride` is for passing over many blocks.
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
