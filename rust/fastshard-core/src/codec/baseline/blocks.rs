//! From entropy-coded data to samples, block by block.

use super::huffman::{Bits, Codes, PADDING, Steps};
use super::idct;
use super::kernel::Kernel;
use super::plan::{Plan, Run, Shape};
use super::zigzag::Block;

/// A component while its blocks are decoded.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) shape: &'a Shape,
    pub(super) multipliers: &'a Block,
    pub(super) dc: &'a Codes,
    pub(super) ac: &'a Codes,
    /// Where blocks are passed over, many of them.
    pub(super) steps: Option<&'a Steps>,
    pub(super) samples: &'a mut [u8],
}

/// Copies data without the zeros that are stuffed in behind each 0xFF, and pads it. `None` if there is a marker.
pub(super) fn unstuff(mut data: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    while let Some(at) = memchr::memchr(0xFF, data) {
        out.extend_from_slice(&data[..=at]);
        data = data[at + 1..].strip_prefix(&[0])?;
    }
    out.extend_from_slice(data);
    out.extend_from_slice(&[0; PADDING]);
    Some(())
}

/// Decodes the units of a run that are needed. `data` is the run's, unstuffed.
pub(super) fn decode(
    kernel: Kernel,
    data: &[u8],
    run: &Run<'_>,
    plan: &Plan,
    parts: &mut [Part<'_>],
) -> Option<()> {
    match kernel {
        Kernel::Plain => units::<false>(data, run, plan, parts),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => {
            #[expect(unsafe_code, reason = "a third faster, and transforms several times")]
            // SAFETY: this kernel is chosen only where the processor has the instructions.
            unsafe {
                units_avx2(data, run, plan, parts)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn units_avx2(data: &[u8], run: &Run<'_>, plan: &Plan, parts: &mut [Part<'_>]) -> Option<()> {
    units::<true>(data, run, plan, parts)
}

#[inline(always)]
fn units<const AVX2: bool>(
    data: &[u8],
    run: &Run<'_>,
    plan: &Plan,
    parts: &mut [Part<'_>],
) -> Option<()> {
    let mut bits = Bits::new(data);
    let mut previous = [0i16; 3];
    let needed = plan.needed(run);
    let all = needed == run.units;
    let (mut row, mut column) = (needed.start / plan.columns, needed.start % plan.columns);
    for _ in needed {
        let place = (plan.across.contains(&column) && plan.down.contains(&row)).then(|| {
            (
                (column - plan.across.start) as usize,
                (row - plan.down.start) as usize,
            )
        });
        for (part, previous) in parts.iter_mut().zip(&mut previous) {
            let (across, down) = part.shape.blocks;
            for y in 0..down {
                for x in 0..across {
                    *previous = previous.wrapping_add(bits.dc(part.dc)?);
                    let place = place.map(|(column, row)| (column * across + x, row * down + y));
                    part.block::<AVX2>(&mut bits, *previous, place)?;
                }
            }
        }
        column += 1;
        if column == plan.columns {
            (row, column) = (row + 1, 0);
        }
    }
    bits.ends_within(all).then_some(())
}

impl Part<'_> {
    #[inline(always)]
    fn skip(&self, bits: &mut Bits<'_>) -> Option<()> {
        match self.steps {
            Some(steps) => bits.stride_ac(self.ac, steps),
            None => bits.skip_ac(self.ac),
        }
    }

    /// Decodes the rest of a block, and its samples if it has a place among those that are needed.
    #[inline(always)]
    fn block<const AVX2: bool>(
        &mut self,
        bits: &mut Bits<'_>,
        first: i16,
        place: Option<(usize, usize)>,
    ) -> Option<()> {
        let Shape {
            size,
            pitch,
            wanted: true,
            ..
        } = *self.shape
        else {
            return self.skip(bits);
        };
        let Some((x, y)) = place else {
            return self.skip(bits);
        };
        let out = &mut self.samples[y * size * pitch + x * size..];
        if size == 1 {
            out[0] = idct::flat(first, self.multipliers[0])?;
            return self.skip(bits);
        }
        let mut block = [0; 64];
        let count = bits.ac(self.ac, &mut block)?;
        block[0] = first;
        if count == 1 {
            let sample = idct::flat(first, self.multipliers[0])?;
            for row in out.chunks_mut(pitch).take(size) {
                row[..size].fill(sample);
            }
            return Some(());
        }
        match size {
            #[cfg(target_arch = "x86_64")]
            8 if AVX2 => {
                #[expect(unsafe_code, reason = "vector code")]
                // SAFETY: the processor has AVX2, or this wouldn't run.
                unsafe {
                    if count <= idct::LOW {
                        super::idct_avx2::whole::<true>(&block, self.multipliers, out, pitch)
                    } else {
                        super::idct_avx2::whole::<false>(&block, self.multipliers, out, pitch)
                    }
                }
            }
            8 => idct::whole(&block, self.multipliers, out, pitch),
            4 => idct::halved(&block, self.multipliers, out, pitch),
            _ => idct::quartered(&block, self.multipliers, out, pitch),
        }
    }
}
