//! Entropy-coded data to samples, block by block.
//!
//! # Idea
//!
//! Blocks have no fixed length, so that all blocks of a run are read up to the last one that the region needs. What is
//! done with a block depends on its component and place:
//!
//! | Block | Work |
//! |---|---|
//! | outside of the region, or chroma of a gray request | DC read, AC skipped |
//! | reduced to one sample | DC read, one product, AC skipped |
//! | only DC, no AC | one product, its samples filled with one value |
//! | any other | coefficients read, then transformed to 8x8, 4x4 or 2x2 samples |
//!
//! DC is always read, because each is stored as the difference from the one before (T.81, clause F.1.2.1).
//!
//! # Stuffed zeros
//!
//! A zero follows each 0xFF in the data, so that no code looks like a marker. [`unstuff`] copies the data without these
//! zeros, a stretch between two of them at a time. Then the bit reader loads eight bytes without looking at them. A
//! 0xFF without a zero is a marker within a run, thus damage.
//!
//! # End of the data
//!
//! Zeros are appended as padding, which could be read as codes where data are cut off. [`Bits::ends_within`] therefore
//! compares the number of bits that were read with the length of the data. If all units of a run were read, they must
//! end in its last byte.

use super::huffman::{Bits, Codes, PADDING, Steps};
use super::idct;
use super::kernel::Kernel;
use super::plan::{Plan, Run, Shape};
use super::zigzag::Block;

/// A component with its tables and samples, while its blocks are decoded.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) shape: &'a Shape,
    pub(super) multipliers: &'a Block,
    pub(super) dc: &'a Codes,
    pub(super) ac: &'a Codes,
    /// For skipping several symbols at a time, where many blocks are skipped.
    pub(super) steps: Option<&'a Steps>,
    pub(super) samples: &'a mut [u8],
}

/// Copies data without the zero behind each 0xFF, and appends [`PADDING`]. `None` if there is a marker.
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

/// Decodes the units of a run up to the last that the region needs. `data` is the run's, unstuffed and padded.
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
            #[expect(unsafe_code, reason = "vector code where the processor has it")]
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
    /// Skips the AC coefficients of a block.
    #[inline(always)]
    fn skip(&self, bits: &mut Bits<'_>) -> Option<()> {
        match self.steps {
            Some(steps) => bits.stride_ac(self.ac, steps),
            None => bits.skip_ac(self.ac),
        }
    }

    /// Reads a block behind its DC coefficient `first`. With a `place`, in blocks of the component from the region's
    /// top left unit, also computes its samples.
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
