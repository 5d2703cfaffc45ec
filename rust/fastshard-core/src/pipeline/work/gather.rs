//! Copying rows of fixed size from wherever they lie into a batch: tables, arrays, raw pixels.
//!
//! A shuffled row is a wait for memory, several for wide rows. So addresses are worked out for many rows first and their
//! cache lines asked for all at once; when the copying begins, they are there or on their way.

use arrow_buffer::Buffer;

use super::batch::{Claim, OpenBatch};
use crate::dataset::not_as_planned;
use crate::error::{Error, Result};
use crate::format::Column;
use crate::memory;
use crate::order::{Drawn, Order};
use crate::pipeline::plan::{Plan, Work};

/// Rows whose addresses are worked out ahead: many more than memory requests that a core can have under way, few enough
/// for their cache lines to stay in the nearest cache.
const AHEAD: usize = 64;
const CACHE_LINE: usize = 64;
/// Rows that are copied in place, since a call costs more.
const VECTOR: usize = 16;
const SHORT: usize = 256;
/// Of longer rows only the beginning is asked for: the processor notices by itself how it goes on.
const ASKED_BYTES: usize = 1024;

/// One thread's tools for plans that copy all of their fields.
#[derive(Debug)]
pub(in crate::pipeline) struct Gather {
    /// Values of each field in each block, block after block; `None` while a block wasn't touched.
    values: Vec<Option<Buffer>>,
    /// Which blocks hold no chunk that is still to be compared with its checksum.
    sound: Vec<bool>,
    drawn: [Drawn; AHEAD],
    places: [(usize, usize); AHEAD],
}

impl Gather {
    /// `None` where anything else is to be done than copying.
    pub(in crate::pipeline) fn new(plan: &Plan) -> Option<Self> {
        let copies = plan
            .fields
            .iter()
            .all(|field| matches!(field.work, Work::Copy));
        if !copies {
            return None;
        }
        let blocks = plan.dataset.blocks() as usize;
        // Where there is no room for them, rows are found one by one.
        Some(Self {
            values: memory::filled(plan.fields.len().saturating_mul(blocks), None).ok()?,
            sound: memory::filled(blocks, false).ok()?,
            drawn: [Drawn::default(); AHEAD],
            places: [(0, 0); AHEAD],
        })
    }

    /// Copies the claimed rows; at an error some of them are missing.
    pub(super) fn run(&mut self, plan: &Plan, order: &Order<'_>, claim: &Claim) -> Result<()> {
        #[cfg(test)]
        crate::caught::inject::point("gather", plan.spec.seed, 0);
        let end = claim.start + claim.count;
        for start in (claim.start..end).step_by(AHEAD) {
            let count = AHEAD.min(end - start);
            order.fill(claim.batch.first + start as u64, &mut self.drawn[..count]);
            self.some(plan, &claim.batch, start, count)?;
        }
        // Zeros may have been copied in the place of pages that are gone.
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

    /// Makes sure that the values of the block of a row are known, and are as they were written where the row is.
    #[inline]
    fn touch(&mut self, plan: &Plan, row: u64, block: usize) -> Result<()> {
        if self.sound[block] {
            return Ok(());
        }
        self.compare(plan, row, block)
    }

    /// The same until all chunks of the block were compared with their checksums.
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

    /// Copies rows of one of so many fields.
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

/// Copies without a call a row.
fn copy_rows<const BYTES: usize>(sources: &[&[u8]], out: &mut [u8]) {
    for (out, source) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(sources) {
        if let Some(source) = source.first_chunk() {
            *out = *source;
        }
    }
}

/// The same for rows of a few vectors; the last of them overlaps the one before.
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

/// Asks for the cache lines of a row, and waits for none.
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
