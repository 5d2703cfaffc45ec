//! Copying rows of fixed size from wherever they are into a batch: tables, arrays, raw pixels.
//!
//! # Idea
//!
//! A row of a shuffled table is a wait for memory, or several if it is wide. So rows are copied 64 at a time, in steps
//! that don't wait for each other:
//!
//! ```text
//! order        the rows of 64 positions                  one call, as a permutation works on several at once
//! places       of each row, its block and row in it      chunks that nobody has read yet are checked
//! for each field:
//!     ask      prefetch the cache lines of all rows      hints, which wait for nothing
//!     copy     the rows                                  by now the lines are there, or on their way
//! ```
//!
//! # Memory
//!
//! `values` holds the buffer of each (block, field), block after block, once a row of the block was wanted. `sound`
//! says of each block whether all of its chunks are known to equal their checksums; then a row of the block costs no
//! check.
//!
//! # Errors
//!
//! What goes wrong here is not blamed on a row: the claim is filled again row by row, and there the faulty row shows.
//! Pages that went missing are looked for once, behind the last copy.
//!
//! # Cost
//!
//! Rows of 1, 2, 4 and 8 bytes, and of 16 to 256 bytes, are copied without a call each.

use arrow_buffer::Buffer;

use super::batch::{Claim, OpenBatch};
use crate::dataset::not_as_planned;
use crate::error::{Error, Result};
use crate::format::Column;
use crate::memory;
use crate::order::{Drawn, Order};
use crate::pipeline::plan::{Plan, Work};

/// Rows whose addresses are computed ahead: more than a core can have memory requests under way, and few enough for
/// their cache lines to stay in the nearest cache.
const AHEAD: usize = 64;
const CACHE_LINE: usize = 64;
/// Rows from `VECTOR` to `SHORT` bytes are copied by inlined vectors, since a call costs more than the copy.
const VECTOR: usize = 16;
const SHORT: usize = 256;
/// Only so many bytes at the beginning of a row are prefetched: the processor notices by itself how a longer row goes
/// on.
const ASKED_BYTES: usize = 1024;

/// One thread's tools for plans that copy all of their fields.
#[derive(Debug)]
pub(in crate::pipeline) struct Gather {
    /// Values of each field in each block, block after block; `None` until a row of the block is wanted.
    values: Vec<Option<Buffer>>,
    /// Whether every chunk of a block has been compared with its checksum.
    sound: Vec<bool>,
    drawn: [Drawn; AHEAD],
    places: [(usize, usize); AHEAD],
}

impl Gather {
    /// The tools of a plan; `None` if it does anything else than copying.
    pub(in crate::pipeline) fn new(plan: &Plan) -> Option<Self> {
        let copies = plan
            .fields
            .iter()
            .all(|field| matches!(field.work, Work::Copy));
        if !copies {
            return None;
        }
        let blocks = plan.dataset.blocks() as usize;
        // Without the memory for them, rows are found one by one.
        Some(Self {
            values: memory::filled(plan.fields.len().saturating_mul(blocks), None).ok()?,
            sound: memory::filled(blocks, false).ok()?,
            drawn: [Drawn::default(); AHEAD],
            places: [(0, 0); AHEAD],
        })
    }

    /// Copies the claimed rows. After an error, some of them are missing.
    pub(super) fn run(&mut self, plan: &Plan, order: &Order<'_>, claim: &Claim) -> Result<()> {
        #[cfg(test)]
        crate::caught::inject::point("gather", plan.spec.seed, 0);
        let end = claim.start + claim.count;
        for start in (claim.start..end).step_by(AHEAD) {
            let count = AHEAD.min(end - start);
            order.fill(claim.batch.first + start as u64, &mut self.drawn[..count]);
            self.some(plan, &claim.batch, start, count)?;
        }
        // Zeros may have been copied in the place of missing pages.
        plan.dataset.check_all_lost()
    }

    fn some(&mut self, plan: &Plan, batch: &OpenBatch, start: usize, count: usize) -> Result<()> {
        for at in 0..count {
            let row = self.drawn[at].row;
            let place = plan.dataset.block_of(row)?;
            self.touch(plan, row, place.0)?;
            self.places[at] = place;
        }
        let fields = plan.fields.len();
        for (at, field) in plan.fields.iter().enumerate() {
            if batch.is_view(at) {
                continue;
            }
            // SAFETY: each row of a batch is claimed by one thread, once, before the batch is handed over; fields
            // don't overlap.
            #[expect(unsafe_code, reason = "threads fill one slot together")]
            let out = unsafe {
                let first = field.offset + start * field.row_bytes;
                batch.lease.part(first, count * field.row_bytes)
            };
            self.copy((at, fields), field.row_bytes, out);
            if let Some(scale) = &field.scale {
                scale.apply(out);
            }
        }
        Ok(())
    }

    /// Makes sure that the values of a row's block are known, and that the row is as it was written.
    #[inline]
    fn touch(&mut self, plan: &Plan, row: u64, block: usize) -> Result<()> {
        if self.sound[block] {
            return Ok(());
        }
        self.compare(plan, row, block)
    }

    /// As `touch`, while chunks of the block are still to be compared with their checksums.
    #[cold]
    fn compare(&mut self, plan: &Plan, row: u64, block: usize) -> Result<()> {
        let place = plan.dataset.locate(row)?;
        let mut sound = true;
        for (at, field) in plan.fields.iter().enumerate() {
            let Column::Fixed { values, row_bytes } = place.block.column(field.index) else {
                return Err(not_as_planned(&field.name));
            };
            let wanted = &values[place.row * row_bytes..][..*row_bytes];
            if plan.spec.verify && !plan.dataset.is_sound(&place, wanted) {
                return Err(Error::decode("a chunk that differs from its checksum"));
            }
            sound &= !plan.spec.verify || plan.dataset.is_known_sound(&place, values);
            self.values[block * plan.fields.len() + at].get_or_insert_with(|| values.clone());
        }
        self.sound[block] = sound;
        Ok(())
    }

    /// Copies the rows of field number `field`, of `fields` in all.
    fn copy(&self, (field, fields): (usize, usize), row_bytes: usize, out: &mut [u8]) {
        let mut sources: [&[u8]; AHEAD] = [&[]; AHEAD];
        let count = out.len() / row_bytes;
        for (source, &(block, row)) in sources.iter_mut().zip(&self.places[..count]) {
            let values = self.values[block * fields + field].as_deref();
            *source = &values.unwrap_or_default()[row * row_bytes..][..row_bytes];
            ask_for(source);
        }
        match row_bytes {
            1 => copy_rows::<1>(&sources, out),
            2 => copy_rows::<2>(&sources, out),
            4 => copy_rows::<4>(&sources, out),
            8 => copy_rows::<8>(&sources, out),
            VECTOR..=SHORT => copy_short_rows(row_bytes, &sources, out),
            _ => {
                for (out, source) in out.chunks_exact_mut(row_bytes).zip(sources) {
                    out.copy_from_slice(source);
                }
            }
        }
    }
}

/// Copies rows of a size that is known at compile time, without a call for each.
fn copy_rows<const BYTES: usize>(sources: &[&[u8]], out: &mut [u8]) {
    for (out, source) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(sources) {
        if let Some(source) = source.first_chunk() {
            *out = *source;
        }
    }
}

/// Copies rows of a few vectors each. The last vector of a row overlaps the one before.
fn copy_short_rows(row_bytes: usize, sources: &[&[u8]], out: &mut [u8]) {
    for (out, source) in out.chunks_exact_mut(row_bytes).zip(sources) {
        for (out, source) in out
            .chunks_exact_mut(VECTOR)
            .zip(source.chunks_exact(VECTOR))
        {
            copy_rows::<VECTOR>(&[source], out);
        }
        if let (Some(out), Some(source)) = (out.last_chunk_mut(), source.last_chunk::<VECTOR>()) {
            *out = *source;
        }
    }
}

/// Asks for the cache lines at the beginning of a row, without waiting.
#[inline]
fn ask_for(row: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let asked = row.len().min(ASKED_BYTES);
        let line = row.as_ptr().addr() % CACHE_LINE;
        let lines = (line + asked).div_ceil(CACHE_LINE);
        for at in 0..lines {
            let address = row
                .as_ptr()
                .wrapping_sub(line)
                .wrapping_add(at * CACHE_LINE);
            // SAFETY: a hint, which reads nothing and can't fault.
            #[expect(unsafe_code, reason = "the one way to ask")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(address.cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}
