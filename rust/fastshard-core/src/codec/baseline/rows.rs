//! From samples to pixels, a row at a time: chroma to full size, then colours.
//!
//! Chroma is interpolated between sample centres (a triangle filter) and colours are converted (JFIF) with libjpeg's
//! integers and roundings.

use std::ops::Range;

use super::blocks::Part;
use super::color::to_rgb;
use super::kernel::Kernel;
use super::plan::{Plan, Spread};

/// Rows of chroma on their way to full size.
#[derive(Debug, Default)]
pub(super) struct Rows {
    sums: Vec<u16>,
    doubled: [Vec<[u8; 2]>; 2],
}

impl Rows {
    /// Writes the pixels of a region whose samples are decoded: 8-bit channels, one or three.
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
                #[expect(unsafe_code, reason = "three times faster")]
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

/// Part of a row of samples; both in those of the whole image.
#[inline(always)]
fn samples<'a>(part: &'a Part<'_>, row: usize, across: Range<usize>) -> &'a [u8] {
    let (left, top) = part.shape.origin;
    let start = (row - top) * part.shape.pitch;
    &part.samples[start + across.start - left..start + across.end - left]
}

/// A row of chroma for pixels.
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
    // A sample more on either side; beyond the edge of the image the outermost counts twice.
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

/// Doubles sums of rows, weights 3/4 for the nearer and 1/4 for the further; `sums` has one more at either end.
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

/// The same within one row: its samples come four times.
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

/// A near row three times and a further one once.
#[inline(always)]
fn add_rows(near: &[u8], far: &[u8], out: &mut [u16]) {
    for ((&near, &far), out) in near.iter().zip(far).zip(out) {
        *out = 3 * u16::from(near) + u16::from(far);
    }
}
