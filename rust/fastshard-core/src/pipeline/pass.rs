//! What the threads and the consumer of a pass share: open batches, and who waits for what.

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

/// Which batches of an epoch an iterator goes through.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The epoch.
    pub epoch: u64,
    /// Samples of the epoch that were taken before, by all ranks together.
    pub start: u64,
    /// The first batch behind `start`.
    pub first: u64,
    /// The distance to the next.
    pub step: u64,
    /// Show runs of rows that lie in one piece where they are; else every batch is memory of its own.
    pub views: bool,
}

/// Open batches in the order in which they are handed over.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) open: VecDeque<Arc<OpenBatch>>,
    /// Rows of the newest open batch that are claimed already.
    claimed: usize,
    /// Batches opened so far.
    opened: u64,
    /// Set when a batch could not even be opened, or a thread ended before its time.
    pub(super) failed: Option<Error>,
    /// Whether a thread ended before its time: what it claimed never gets ready.
    pub(super) broken: bool,
    /// Threads that sleep until there is work, and whether the consumer sleeps until there is a batch: waking nobody
    /// costs as much as waking somebody, which is as much as gathering a hundred rows.
    idle: usize,
    pub(super) awaited: bool,
}

pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pool: Arc<SlotPool>,
    pub(super) pass: Pass,
    /// Batches in all.
    pub(super) count: u64,
    queue: Mutex<Queue>,
    pub(super) work: Condvar,
    pub(super) done: Condvar,
    pub(super) cancelled: AtomicBool,
    /// Where a thread reads ahead.
    pub(super) ahead: Option<ReadAhead>,
}

impl Shared {
    /// For so many batches of a pass, none of which is open yet. Nothing is read ahead.
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

    /// The windows of a block-wise shuffle that this pass goes through; nothing where there is nothing to read, or
    /// decoded pixels are kept.
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

    /// Refuses to prefetch more batches than fit in memory.
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

    /// The next rows to fill; `None` when there are none and never will be, or none right now that can be filled without
    /// waiting, and `wait` is not set.
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
                    // Others may have gone to sleep for want of a batch.
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

    /// Whether what a batch needs has been read from the disk, as far as that is done ahead.
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
