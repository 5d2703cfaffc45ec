//! Batches while they are filled by many threads, up to the moment when they are handed over.
//!
//! # Life of a batch
//!
//! ```text
//! open          a slot is leased; fields that can be shown where they are become views
//! filling       threads claim rows and write to them; what fails is noted
//! complete      the thread that filled the last row builds lists and runs batch transforms
//! ready         the consumer may take the batch
//! handed over   rows that failed are left out, and the others moved together
//! ```
//!
//! # Why rows need no lock
//!
//! Each row is claimed by one thread, once, and only that thread writes to it. `unfinished` counts down with release
//! and acquire, so the thread that takes it to 0 sees what all others wrote. `ready` is set with release, and the
//! consumer reads it with acquire. Only failures, waveforms of different lengths and lists are behind locks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_buffer::Buffer;

use super::assemble::{Made, build_sequences};
use super::mixing::{self, Filled};
use crate::caught::caught;
use crate::error::{Error, Result};
use crate::format::{Column, text_of};
use crate::order::{Drawn, Order};
use crate::pipeline::plan::{Plan, PlannedField, Work};
use crate::pipeline::values::{Batch, BatchField, Memory, Values};
use crate::pixels::Scratch;
use crate::slot::Lease;

/// Rows of an open batch that one thread has claimed to fill.
#[derive(Debug)]
pub(in crate::pipeline) struct Claim {
    pub(in crate::pipeline) batch: Arc<OpenBatch>,
    pub(in crate::pipeline) start: usize,
    pub(in crate::pipeline) count: usize,
}

/// A batch that is being filled.
#[derive(Debug)]
pub(in crate::pipeline) struct OpenBatch {
    /// The order's index of the first sample.
    pub(in crate::pipeline) first: u64,
    /// The first sample's position in the epoch.
    position: u64,
    pub(in crate::pipeline) rows: usize,
    pub(super) lease: Arc<Lease>,
    /// Whether the rows are consecutive in the dataset, and may be shown where they are.
    run: bool,
    /// For each field, where it is shown in the mapping; `None` if it is copied or computed.
    views: Vec<Option<Buffer>>,
    /// Waveforms of fields whose samples differ in length: field, row, values.
    made: Mutex<Vec<(usize, usize, Vec<f32>)>>,
    /// Fields of lists, built once all rows are known.
    sequences: Mutex<Result<Vec<BatchField>>>,
    unfinished: AtomicUsize,
    /// Set when the last row is filled and batch transforms have run.
    ready: AtomicBool,
    failures: Mutex<Vec<(usize, Error)>>,
}

/// The rows `first .. first + count` of a copied field as one piece of a mapped shard, if one block holds them all.
fn view(plan: &Plan, field: &PlannedField, first: u64, count: usize) -> Result<Option<Buffer>> {
    let place = plan.dataset.locate(first)?;
    let Column::Fixed { values, row_bytes } = place.block.column(field.index) else {
        return Ok(None);
    };
    if place.row + count > place.block.rows() {
        return Ok(None);
    }
    let view = values.slice_with_length(place.row * row_bytes, count * row_bytes);
    if plan.spec.verify && !plan.dataset.is_sound(&place, &view) {
        // Copying the rows one by one shows which of them is to blame.
        return Ok(None);
    }
    // Files shrink from their end: if the last byte is there, so are the others.
    std::hint::black_box(view.last().copied());
    plan.dataset.check_lost(&place)?;
    Ok(Some(view))
}

impl OpenBatch {
    pub(in crate::pipeline) fn new(
        plan: &Plan,
        order: &Order<'_>,
        first: u64,
        rows: usize,
        lease: Arc<Lease>,
        views: bool,
    ) -> Result<Self> {
        let run = views.then(|| order.run(first)).flatten();
        let views = plan.fields.iter().map(|field| match (&field.work, run) {
            (Work::Copy, Some(row)) if !field.mixed && field.scale.is_none() => {
                view(plan, field, row, rows)
            }
            _ => Ok(None),
        });
        Ok(Self {
            first,
            position: order.position(first),
            rows,
            lease,
            run: run.is_some(),
            made: Mutex::default(),
            sequences: Mutex::new(Ok(Vec::new())),
            views: views.collect::<Result<_>>()?,
            unfinished: AtomicUsize::new(rows),
            ready: AtomicBool::new(false),
            failures: Mutex::new(Vec::new()),
        })
    }

    /// Whether nothing is left to be computed, copied or compared by threads.
    pub(in crate::pipeline) fn is_all_views(&self) -> bool {
        // Text and bytes are copied when the batch is handed over, but a worker compares them with their checksums first.
        self.views.iter().all(Option::is_some)
    }

    pub(super) fn is_view(&self, field: usize) -> bool {
        self.views[field].is_some()
    }

    /// Keeps the waveform of a row, for a field whose samples differ in length.
    pub(super) fn keep(&self, field: usize, row: usize, values: Vec<f32>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push((field, row, values));
    }

    /// Notes that a row failed, with its place in the dataset.
    pub(super) fn fail(&self, plan: &Plan, order: &Order<'_>, row: usize, error: Error) {
        let error = caught("naming a row", || {
            let number = order.at(self.first + row as u64).row;
            let place = plan.dataset.locate(number)?;
            Ok(plan.dataset.blame(number, &place, error))
        });
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // If finding the row fails, that is the error to report.
        failures.push((row, error.unwrap_or_else(|error| error)));
    }

    /// Counts rows as done; true when these were the last.
    pub(in crate::pipeline) fn finish_rows(&self, count: usize) -> bool {
        // Release what this thread wrote, acquire what the others wrote, for batch transforms and for whoever hands the
        // batch over.
        self.unfinished.fetch_sub(count, Ordering::AcqRel) == count
    }

    /// For the thread that finished the last rows, once it has run the batch transforms.
    pub(in crate::pipeline) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(in crate::pipeline) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Runs the batch transforms and puts lists together; for the thread that finished the last rows. Rows that failed
    /// take no part. What goes wrong here is noted for the row that it is about, or else for all rows.
    pub(super) fn complete(&self, plan: &Plan, order: &Order<'_>, epoch: u64, saved: &mut Scratch) {
        let sequences =
            (plan.fields.iter()).any(|field| field.sequence().is_some() || field.matrices);
        if plan.spec.batch_transforms.is_empty() && !sequences {
            return;
        }
        let mut kept = self.kept();
        if sequences {
            let mut built = self.build(plan, order, epoch, &kept);
            if built.is_err() && self.fail_rows(plan, order, epoch, &kept) {
                kept = self.kept();
                built = self.build(plan, order, epoch, &kept);
            }
            *self.lock_sequences() = built;
            *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
        let mixed = caught("a batch transform", || {
            self.mix(plan, epoch, &kept, saved);
            Ok(())
        });
        if let Err(Error::Internal { reason }) = mixed {
            for &row in &kept {
                let reason = reason.clone();
                self.fail(plan, order, row, Error::Internal { reason });
            }
        }
    }

    /// The rows that have not failed, ascending.
    fn kept(&self) -> Vec<usize> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = vec![false; self.rows];
        failures.iter().for_each(|(row, _)| failed[*row] = true);
        (0..self.rows).filter(|&row| !failed[row]).collect()
    }

    /// Builds the lists of these rows.
    fn build(
        &self,
        plan: &Plan,
        order: &Order<'_>,
        epoch: u64,
        kept: &[usize],
    ) -> Result<Vec<BatchField>> {
        caught("building lists", || {
            let mut drawn = vec![Drawn::default(); self.rows];
            order.fill(self.first, &mut drawn);
            let rows: Vec<Drawn> = kept.iter().map(|&row| drawn[row]).collect();
            #[cfg(test)]
            for drawn in &rows {
                crate::caught::inject::point("lists", plan.spec.seed, drawn.row);
            }
            let run = self.run && kept.len() == self.rows;
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            let made = Made {
                kept,
                values: &made,
            };
            build_sequences(plan, &rows, &made, run, epoch)
        })
    }

    /// Finds the rows whose lists can't be built, by building those of each row alone; false if all of them can.
    fn fail_rows(&self, plan: &Plan, order: &Order<'_>, epoch: u64, kept: &[usize]) -> bool {
        let mut any = false;
        for &row in kept {
            if let Err(error) = self.build(plan, order, epoch, &[row]) {
                self.fail(plan, order, row, error);
                any = true;
            }
        }
        any
    }

    fn mix(&self, plan: &Plan, epoch: u64, kept: &[usize], saved: &mut Scratch) {
        let spec = &plan.spec;
        if spec.batch_transforms.is_empty() {
            return;
        }
        #[cfg(test)]
        crate::caught::inject::point("mix", plan.spec.seed, 0);
        let filled = Filled {
            fields: &plan.fields,
            layout: spec.layout,
            kept,
            seed: spec.seed,
            epoch,
            position: self.position,
        };
        let mixed = mixing::run(&spec.batch_transforms, &filled, saved, |field| {
            self.values(field)
        });
        if let Err(error) = mixed {
            *self.lock_sequences() = Err(error);
        }
    }

    fn lock_sequences(&self) -> MutexGuard<'_, Result<Vec<BatchField>>> {
        self.sequences
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows of a field in the slot; for one holder at a time, when no worker writes any more.
    #[expect(clippy::mut_from_ref, reason = "as the slot's own")]
    fn values(&self, field: &PlannedField) -> &mut [u8] {
        // SAFETY: all rows are filled, so no worker writes to them, and the batch has not been handed over yet.
        #[expect(unsafe_code, reason = "the one place that changes a whole batch")]
        unsafe {
            self.lease.part(field.offset, self.rows * field.row_bytes)
        }
    }

    /// The rows that failed and why, by row.
    pub(in crate::pipeline) fn take_failures(&self) -> Vec<(usize, Error)> {
        let mut failures =
            std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        failures.sort_by_key(|(row, _)| *row);
        failures
    }

    /// The batch without the rows in `left_out` (ascending).
    pub(in crate::pipeline) fn hand_over(
        &self,
        plan: &Plan,
        order: &Order<'_>,
        left_out: &[usize],
    ) -> Result<Batch> {
        let rows = self.rows - left_out.len();
        let lists = (plan.fields.iter()).any(|field| matches!(field.work, Work::List));
        // Mostly all rows are kept, and then no list of them is needed.
        let asked = if lists || rows < self.rows {
            self.rows
        } else {
            0
        };
        let kept: Vec<usize> = (0..asked)
            .filter(|row| left_out.binary_search(row).is_err())
            .collect();
        let built = std::mem::replace(&mut *self.lock_sequences(), Ok(Vec::new()))?;
        let mut sequences = built.into_iter();
        let mut fields = Vec::with_capacity(plan.fields.len());
        for (field, view) in plan.fields.iter().zip(&self.views) {
            let values = match (&field.work, view) {
                _ if field.sequence().is_some() => {
                    let outputs = field.outputs().len();
                    fields.extend(sequences.by_ref().take(outputs));
                    continue;
                }
                (Work::List, _) => list(plan, field, order, self.first, &kept)?,
                (_, Some(buffer)) if left_out.is_empty() => array(
                    field,
                    rows,
                    Memory::Data(buffer.clone(), plan.dataset.access()),
                    buffer.as_ptr(),
                ),
                (_, view) => {
                    self.compact(field, view.as_ref(), &kept);
                    array(
                        field,
                        rows,
                        Memory::Slot(self.lease.clone()),
                        self.lease.address(field.offset),
                    )
                }
            };
            fields.push(BatchField {
                name: field.name.clone(),
                values,
            });
            if field.matrices {
                fields.extend(sequences.by_ref().take(field.outputs().len() - 1));
            }
        }
        Ok(Batch { rows, fields })
    }

    /// Moves the kept rows together, in the slot.
    fn compact(&self, field: &PlannedField, view: Option<&Buffer>, kept: &[usize]) {
        let size = field.row_bytes;
        let rows = self.values(field);
        for (to, &from) in kept.iter().enumerate() {
            match view {
                Some(view) => rows[to * size..(to + 1) * size]
                    .copy_from_slice(&view[from * size..(from + 1) * size]),
                None if from != to => rows.copy_within(from * size..(from + 1) * size, to * size),
                None => {}
            }
        }
    }
}

fn array(field: &PlannedField, rows: usize, memory: Memory, address: *const u8) -> Values {
    let mut shape = vec![rows];
    shape.extend_from_slice(&field.shape);
    let dtype = field.dtype.expect("lists don't come here");
    Values::Array {
        memory,
        address,
        dtype,
        shape,
    }
}

fn list(
    plan: &Plan,
    field: &PlannedField,
    order: &Order<'_>,
    first: u64,
    kept: &[usize],
) -> Result<Values> {
    let mut texts = Vec::new();
    let mut bytes = Vec::new();
    for row in kept {
        let place = plan.dataset.locate(order.at(first + *row as u64).row)?;
        match place.block.column(field.index) {
            Column::Text(values) => texts.push(text_of(values, place.row)?.to_owned()),
            Column::Bytes(values) => bytes.push(values.value(place.row).to_vec()),
            _ => {
                return Err(Error::decode(format!("field {:?} is no list", field.name)));
            }
        }
    }
    Ok(if field.text {
        Values::Text(texts)
    } else {
        Values::Bytes(bytes)
    })
}
