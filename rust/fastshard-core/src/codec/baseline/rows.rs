//! Samples to pixels, a row at a time: chroma is interpolated to full size, then colours are converted.
//!
//! # Interpolation
//!
//! A chroma sample lies in the middle of the two or four pixels that share it. A triangle filter weighs the nearer
//! sample with 3/4 and the further one with 1/4, in each direction that is halved. libjpeg calls this "fancy
//! upsampling".
//!
//! Both directions are separated. [`add_rows`] computes 3 x near + far of two rows, as 16-bit sums of up to 1020. Then
//! [`widen`] makes two pixels of each sum: (3 x this + neighbour + bias) / 16. The bias is 8 to the left and 7 to the
//! right, so that halves aren't always rounded up. Where only the width is halved, near and far are the same row, so
//! that sums are four times the samples. Biases of 4 and 8 then give what libjpeg computes with 1 and 2 and a divisor
//! of 4.
//!
//! At the edges of the image the outermost sample counts as its own neighbour. `plan` adds a margin to the region, so
//! that every other sample has its neighbours. Thus a pixel doesn't depend on the region that it is decoded in.
//!
//! # Colours
//!
//! JFIF's matrix in 16-bit fixed point: see `color`, and `rows_avx2` for the vector code.
//!
//! # Cost
//!
//! Memory is one row of sums, and one row of pixels for each of the two chroma components. The loops run over zipped
//! slices without a branch inside, and are compiled a second time for AVX2.

use std::ops::Range;

use super::blocks::Part;
use super::color::to_rgb;
use super::kernel::Kernel;
use super::plan::{Plan, Spread};

/// Buffers for one row of chroma: sums of two rows with a neighbour at either end, and pixels in pairs, of Cb and of
/// Cr.
#[derive(Debug, Default)]
pub(super) struct Rows {
    sums: Vec<u16>,
    doubled: [Vec<[u8; 2]>; 2],
}

impl Rows {
    /// Writes the pixels of `plan.area`, with one 8-bit channel (gray) or three (RGB).
    pub(super) fn write(
        &mut self,
        kernel: Kernel,
        plan: &Plan,
        parts: &[Part<'_>],
        channels: usize,
        out: &mut [u8],
    ) {
        match kernel {
            Kernel::Plain => self.rows::<false>(plan, parts, channels, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                #[expect(unsafe_code, reason = "vector code where the processor has it")]
                // SAFETY: this kernel is chosen only where the processor has the instructions.
                unsafe {
                    self.rows_avx2(plan, parts, channels, out);
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn rows_avx2(&mut self, plan: &Plan, parts: &[Part<'_>], channels: usize, out: &mut [u8]) {
        self.rows::<true>(plan, parts, channels, out);
    }

    #[inline(always)]
    fn rows<const AVX2: bool>(
        &mut self,
        plan: &Plan,
        parts: &[Part<'_>],
        channels: usize,
        out: &mut [u8],
    ) {
        let (top, width) = (plan.area.y as usize, plan.area.width as usize);
        let across = plan.area.x as usize..plan.area.x as usize + width;
        let rows = out.chunks_exact_mut(width * channels);
        for (y, out) in (top..).zip(rows) {
            let luma = samples(&parts[0], y, across.clone());
            match (parts, channels) {
                (_, 1) => out.copy_from_slice(luma),
                ([_, cb, cr], _) => {
                    let [first, second] = &mut self.doubled;
                    let cb = chroma(cb, y, across.clone(), &mut self.sums, first);
                    let cr = chroma(cr, y, across.clone(), &mut self.sums, second);
                    let out = out.as_chunks_mut().0;
                    #[cfg(target_arch = "x86_64")]
                    if AVX2 {
                        #[expect(unsafe_code, reason = "vector code")]
                        // SAFETY: the processor has AVX2, or this wouldn't run.
                        unsafe {
                            super::rows_avx2::to_rgb([luma, cb, cr], out);
                        }
                        continue;
                    }
                    to_rgb([luma, cb, cr], out);
                }
                _ => {
                    for (pixel, &gray) in out.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
                        *pixel = [gray; 3];
                    }
                }
            }
        }
    }
}

/// A range of a row of samples. Row and range count from the top left of the whole image.
#[inline(always)]
fn samples<'a>(part: &'a Part<'_>, row: usize, across: Range<usize>) -> &'a [u8] {
    let (left, top) = part.shape.origin;
    let start = (row - top) * part.shape.pitch;
    &part.samples[start + across.start - left..start + across.end - left]
}

/// The chroma of a row of pixels, interpolated where it has fewer samples than there are pixels.
#[inline(always)]
fn chroma<'a>(
    part: &'a Part<'_>,
    row: usize,
    across: Range<usize>,
    sums: &mut Vec<u16>,
    doubled: &'a mut Vec<[u8; 2]>,
) -> &'a [u8] {
    let (width, height) = part.shape.whole;
    let (near, far) = match part.shape.spread {
        Spread::None => return samples(part, row, across),
        Spread::Across => (row, row),
        Spread::Both if row.is_multiple_of(2) => (row / 2, (row / 2).saturating_sub(1)),
        Spread::Both => (row / 2, (row / 2 + 1).min(height - 1)),
    };
    // One sample more on either side; at the edge of the image the outermost sample stands for the missing one.
    let (first, last) = (across.start / 2, (across.end - 1) / 2);
    let inside = first.saturating_sub(1)..(last + 2).min(width);
    let (before, after) = (usize::from(first == 0), usize::from(last + 2 > width));
    let length = last - first + 1;
    sums.resize(length + 2, 0);
    doubled.resize(length, [0; 2]);
    add_rows(
        samples(part, near, inside.clone()),
        samples(part, far, inside),
        &mut sums[before..length + 2 - after],
    );
    if before == 1 {
        sums[0] = sums[1];
    }
    if after == 1 {
        sums[length + 1] = sums[length];
    }
    if part.shape.spread == Spread::Both {
        widen(sums, doubled);
    } else {
        widen_row(sums, doubled);
    }
    let skipped = across.start - 2 * first;
    &doubled.as_flattened()[skipped..skipped + across.len()]
}

/// Makes two pixels of each sum of two rows. `sums` has one neighbour more at either end.
#[inline(always)]
fn widen(sums: &[u16], out: &mut [[u8; 2]]) {
    for (three, out) in sums.windows(3).zip(out) {
        let [left, this, right] = [three[0], three[1], three[2]];
        *out = [
            ((3 * this + left + 8) >> 4) as u8,
            ((3 * this + right + 7) >> 4) as u8,
        ];
    }
}

/// Makes two pixels of each sample of one row, which `sums` holds times four.
#[inline(always)]
fn widen_row(sums: &[u16], out: &mut [[u8; 2]]) {
    for (three, out) in sums.windows(3).zip(out) {
        let [left, this, right] = [three[0], three[1], three[2]];
        *out = [
            ((3 * this + left + 4) >> 4) as u8,
            ((3 * this + right + 8) >> 4) as u8,
        ];
    }
}

/// Adds three times the nearer row and once the further one: up to 1020.
#[inline(always)]
fn add_rows(near: &[u8], far: &[u8], out: &mut [u16]) {
    for ((&near, &far), out) in near.iter().zip(far).zip(out) {
        *out = 3 * u16::from(near) + u16::from(far);
    }
}
