//! What the threads and the consumer of a pass share: open batches, and who waits for what.
//!
//! # The queue
//!
//! ```text
//! front                                     back
//! batch n        batch n + 1     ...        batch n + k         at most `prefetch` batches are open
//! handed over    rows are still             the only batch with
//! next           being filled               unclaimed rows
//! ```
//!
//! A thread that finds no unclaimed row opens the next batch, or sleeps if `prefetch` batches are open. So there is no
//! barrier: while slow rows of batch `n` are finished, other threads fill later batches. Batches are handed over in
//! order, from the front.
//!
//! One lock guards the queue; it is taken once a claim and once a batch.
//!
//! # Waking up
//!
//! Threads sleep on `work`, the consumer on `done`. A notification is a call into the kernel, so `idle` and `awaited`
//! say whether anybody sleeps, and nobody is notified in vain. They change under the lock, so no wake-up is lost.
//!
//! # Errors
//!
//! A row that fails is noted in its batch. A batch that can't be opened sets `failed`: batches before it are still
//! handed over. A thread that ends before its time also sets `broken`, as the rows that it claimed will never be ready.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::ahead::ReadAhead;
use super::plan::{Plan, SMALLER_BATCHES};
use super::work::{Claim, Gather, OpenBatch, Worker, claim_rows};
use crate::caught::caught;
use crate::error::{Error, Result};
use crate::memory::{self, Denied};
use crate::order::Order;
use crate::slot::SlotPool;

/// The batches of an epoch that an iterator goes through.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Number of the epoch.
    pub epoch: u64,
    /// Samples of the epoch that were used before, by all ranks together.
    pub start: u64,
    /// Number of the first batch, counted from `start`.
    pub first: u64,
    /// The distance from each batch to the next.
    pub step: u64,
    /// Whether runs of rows in one piece are shown where they are; else every batch has memory of its own.
    pub views: bool,
}

/// Open batches in the order in which they are handed over.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) open: VecDeque<Arc<OpenBatch>>,
    /// How many rows of the newest open batch are claimed.
    claimed: usize,
    /// How many batches have been opened.
    opened: u64,
    /// Set when a batch could not even be opened, or a thread ended before its time.
    pub(super) failed: Option<Error>,
    /// Whether a thread ended before its time; the rows that it claimed will never be ready.
    pub(super) broken: bool,
    /// How many threads sleep until there is work, and whether the consumer sleeps until there is a batch: a
    /// notification that wakes nobody is not free.
    idle: usize,
    pub(super) awaited: bool,
}

pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pool: Arc<SlotPool>,
    pub(super) pass: Pass,
    /// How many batches the pass has.
    pub(super) count: u64,
    queue: Mutex<Queue>,
    pub(super) work: Condvar,
    pub(super) done: Condvar,
    pub(super) cancelled: AtomicBool,
    /// For block-wise shuffles: how far a thread has read ahead.
    pub(super) ahead: Option<ReadAhead>,
}

impl Shared {
    /// A pass of `count` batches, none of which is open yet. Nothing is read ahead.
    pub(super) fn new(plan: Arc<Plan>, pool: Arc<SlotPool>, pass: Pass, count: u64) -> Self {
        Self {
            plan,
            pool,
            pass,
            count,
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            cancelled: AtomicBool::new(false),
            ahead: None,
        }
    }

    pub(super) fn order(&self) -> Order<'_> {
        let plan = &self.plan;
        Order::new(
            &plan.view,
            plan.shuffle,
            plan.share(self.pass.start),
            plan.spec.seed,
            self.pass.epoch,
        )
        .bucketed(plan.buckets.as_ref())
    }

    /// The windows of a block-wise shuffle that this pass goes through. `None` if there is nothing to read ahead, or if
    /// decoded pixels are cached.
    pub(super) fn windows(&self) -> Option<RangeInclusive<u64>> {
        let (plan, pass) = (&*self.plan, &self.pass);
        if plan.dataset.sources().is_empty() || !plan.keeping.is_empty() || self.count == 0 {
            return None;
        }
        let size = plan.spec.batch_size as u64;
        let last = pass.first + (self.count - 1) * pass.step;
        self.order().windows(pass.first * size..(last + 1) * size)
    }

    pub(super) fn is_next_ready(&self) -> bool {
        let queue = self.lock();
        queue.open.front().is_some_and(|batch| batch.is_ready())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, order: &Order<'_>, at: u64) -> Result<OpenBatch> {
        #[cfg(test)]
        crate::caught::inject::point("open", self.plan.spec.seed, at);
        let size = self.plan.spec.batch_size as u64;
        let first = (self.pass.first + at * self.pass.step) * size;
        let samples = (self.plan.share(self.pass.start)).samples(self.plan.view.samples());
        let rows = (samples - first).min(size) as usize;
        OpenBatch::new(
            &self.plan,
            order,
            first,
            rows,
            Arc::new(
                self.pool
                    .lease()
                    .map_err(|denied| too_large(rows, denied))?,
            ),
            self.pass.views,
        )
    }

    /// Refuses to prefetch more batches than memory holds.
    pub(super) fn check_prefetch(&self) -> Result<()> {
        let ahead = self.count.min(self.plan.spec.prefetch as u64);
        let bytes = ahead.saturating_mul(self.pool.bytes() as u64);
        memory::check(bytes).map_err(|denied| {
            let what = format!(
                "prefetching {ahead} batches of {}",
                self.plan.spec.batch_size
            );
            denied.of(what, "use a smaller prefetch or batch_size")
        })
    }

    /// The next rows to fill. With `wait`, sleeps until there are some; `None` means that there never will be. Without,
    /// `None` also means that none can be filled right now.
    pub(super) fn claim(&self, order: &Order<'_>, rows: usize, wait: bool) -> Option<Claim> {
        let mut queue = self.lock();
        loop {
            if self.cancelled.load(Ordering::Relaxed) || queue.failed.is_some() {
                return None;
            }
            if let Some(batch) = queue.open.back().filter(|batch| queue.claimed < batch.rows) {
                let batch = batch.clone();
                if !wait && !self.is_read(order, batch.first, batch.rows) {
                    return None;
                }
                let (start, count) = (queue.claimed, rows.min(batch.rows - queue.claimed));
                queue.claimed += count;
                return Some(Claim {
                    batch,
                    start,
                    count,
                });
            }
            if queue.opened == self.count {
                return None;
            }
            if queue.open.len() >= self.plan.spec.prefetch {
                if !wait {
                    return None;
                }
                queue.idle += 1;
                queue = self
                    .work
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            }
            let at = queue.opened;
            match caught("opening a batch", || self.open(order, at)) {
                Ok(batch) => {
                    let finished = batch.is_all_views();
                    queue.claimed = if finished { batch.rows } else { 0 };
                    if finished {
                        batch.set_ready();
                        self.announce(&mut queue);
                    }
                    queue.open.push_back(Arc::new(batch));
                    queue.opened += 1;
                    // Other threads may sleep because no batch had rows left.
                    self.wake_idle(&queue);
                }
                Err(error) => {
                    queue.failed = Some(error);
                    self.announce(&mut queue);
                    self.wake_idle(&queue);
                }
            }
        }
    }

    /// Wakes the consumer if it waits.
    fn announce(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.awaited) {
            self.done.notify_all();
        }
    }

    pub(super) fn wake_idle(&self, queue: &Queue) {
        if queue.idle > 0 {
            self.work.notify_all();
        }
    }

    /// The body of a thread: a panic outside of a row ends the pass with an error.
    pub(super) fn run(&self, body: fn(&Self)) {
        let ended = caught("a thread of the loader", || {
            body(self);
            Ok(())
        });
        if let Err(error) = ended {
            self.break_off(error);
        }
    }

    fn break_off(&self, error: Error) {
        let mut queue = self.lock();
        queue.failed.get_or_insert(error);
        queue.broken = true;
        self.announce(&mut queue);
        self.wake_idle(&queue);
    }

    pub(super) fn work(&self) {
        #[cfg(test)]
        crate::caught::inject::point("thread", self.plan.spec.seed, 0);
        let order = self.order();
        let rows = claim_rows(&self.plan);
        let gather = Gather::new(&self.plan);
        let mut worker = Worker::new(&self.plan, &order, self.pass.epoch, gather);
        while let Some(claim) = self.claim(&order, rows, true)
            && self.wait_for_disk(&order, &claim.batch)
        {
            self.fill(&mut worker, &claim);
        }
    }

    /// Whether what a batch needs has been read ahead, where reading ahead is done at all.
    fn is_read(&self, order: &Order<'_>, first: u64, rows: usize) -> bool {
        let last = first + rows as u64 - 1;
        (self.ahead.as_ref()).is_none_or(|ahead| ahead.is_read(order.window(last)))
    }

    /// Waits until what a batch needs has been read from the disk; false when cancelled.
    fn wait_for_disk(&self, order: &Order<'_>, batch: &OpenBatch) -> bool {
        let last = batch.first + batch.rows as u64 - 1;
        let ahead = self.ahead.as_ref();
        ahead.is_none_or(|ahead| ahead.wait(order.window(last), &self.cancelled))
    }

    pub(super) fn read_ahead(&self) {
        let Some(ahead) = &self.ahead else { return };
        let run = || ahead.run(&self.plan, &self.order(), &self.cancelled);
        if let Err(error) = caught("reading ahead", run) {
            self.break_off(error);
        }
        ahead.release();
    }

    pub(super) fn fill(&self, worker: &mut Worker<'_>, claim: &Claim) {
        if finish(worker, claim) {
            claim.batch.set_ready();
            // The lock orders this against a consumer that is about to wait.
            self.announce(&mut self.lock());
        }
    }
}

fn too_large(rows: usize, denied: Denied) -> Error {
    let what = format!("a batch of {rows} samples");
    denied.of(what, SMALLER_BATCHES)
}

/// Fills the claimed rows; true when these were the last of their batch, which is complete then. What fails is noted in
/// the batch.
pub(super) fn finish(worker: &mut Worker<'_>, claim: &Claim) -> bool {
    worker.run(claim);
    let last = claim.batch.finish_rows(claim.count);
    if last {
        worker.complete(&claim.batch);
    }
    last
}
