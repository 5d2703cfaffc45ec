//! One epoch: threads that fill batches ahead, and the consumer's end.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ahead::ReadAhead;
use super::plan::{Plan, PlannedField, SMALLER_BATCHES};
use super::spec::Shuffling;
use super::values::Batch;
use super::work::{Claim, Gather, OpenBatch, Worker, claim_rows};
use crate::caught::caught;
use crate::error::{Error, OnError, Result};
use crate::memory::{self, Denied};
use crate::order::Order;
use crate::slot::SlotPool;
use crate::threads::{PATIENCE, join_within};

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

/// What a wait came to.
#[derive(Debug)]
pub enum Poll {
    /// The next batch.
    Ready(Batch),
    /// The epoch is over.
    End,
    /// Not yet; ask again.
    Pending,
}

/// Open batches in the order in which they are handed over.
#[derive(Debug, Default)]
struct Queue {
    open: VecDeque<Arc<OpenBatch>>,
    /// Rows of the newest open batch that are claimed already.
    claimed: usize,
    /// Batches opened so far.
    opened: u64,
    /// Set when a batch could not even be opened, or a thread ended before its time.
    failed: Option<Error>,
    /// Whether a thread ended before its time: what it claimed never gets ready.
    broken: bool,
    /// Threads that sleep until there is work, and whether the consumer sleeps until there is a batch: waking nobody
    /// costs as much as waking somebody, which is as much as gathering a hundred rows.
    idle: usize,
    awaited: bool,
}

struct Shared {
    plan: Arc<Plan>,
    pool: Arc<SlotPool>,
    pass: Pass,
    /// Batches in all.
    count: u64,
    queue: Mutex<Queue>,
    work: Condvar,
    done: Condvar,
    cancelled: AtomicBool,
    /// Where a thread reads ahead.
    ahead: Option<ReadAhead>,
}

impl Shared {
    fn order(&self) -> Order<'_> {
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
    fn windows(&self) -> Option<RangeInclusive<u64>> {
        let (plan, pass) = (&*self.plan, &self.pass);
        if plan.dataset.sources().is_empty() || !plan.keeping.is_empty() || self.count == 0 {
            return None;
        }
        let size = plan.spec.batch_size as u64;
        let last = pass.first + (self.count - 1) * pass.step;
        self.order().windows(pass.first * size..(last + 1) * size)
    }

    fn is_next_ready(&self) -> bool {
        let queue = self.lock();
        queue.open.front().is_some_and(|batch| batch.is_ready())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, order: &Order<'_>, at: u64) -> Result<OpenBatch> {
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
    fn check_prefetch(&self) -> Result<()> {
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
    fn claim(&self, order: &Order<'_>, rows: usize, wait: bool) -> Option<Claim> {
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
                    let finished = batch.is_all_views(&self.plan);
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

    fn wake_idle(&self, queue: &Queue) {
        if queue.idle > 0 {
            self.work.notify_all();
        }
    }

    /// The body of a thread: a panic outside of a row ends the pass with an error.
    fn run(&self, body: fn(&Self)) {
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

    fn work(&self) {
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

    fn read_ahead(&self) {
        let Some(ahead) = &self.ahead else { return };
        let run = || ahead.run(&self.plan, &self.order(), &self.cancelled);
        if let Err(error) = caught("reading ahead", run) {
            self.break_off(error);
        }
        ahead.release();
    }

    fn fill(&self, worker: &mut Worker<'_>, claim: &Claim) {
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
fn finish(worker: &mut Worker<'_>, claim: &Claim) -> bool {
    worker.run(claim);
    let last = claim.batch.finish_rows(claim.count);
    if last {
        worker.complete(&claim.batch);
    }
    last
}

/// What a forked child hears that asks an iterator of its parent.
pub const FORKED: &str = "this iterator was made before a fork and has no threads in this process; make a new one from \
                          the loader";

/// Ends a pass; see [`Batches::stopper`].
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// The pass ends with the next poll.
    pub fn stop(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

/// An iterator over the batches of one epoch.
pub struct Batches {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    handed_over: u64,
    /// When the last batch was handed over, or else the pass began.
    since: Instant,
    /// Batches that had anything in them.
    counted: u64,
    process: u32,
    /// Batches are runs of rows as they lie: shown or copied on the spot, which is quicker than waking a thread.
    inline: bool,
    /// Where rows are only copied, the consumer does so too, rather than sleep until others have.
    gather: Option<Gather>,
    over: bool,
}

impl Batches {
    pub(super) fn start(
        plan: Arc<Plan>,
        pool: Arc<SlotPool>,
        pass: Pass,
        count: u64,
    ) -> Result<Self> {
        let decodes = plan.fields.iter().any(PlannedField::is_decoded);
        let mixes = !plan.spec.batch_transforms.is_empty();
        let in_order = plan.spec.shuffle == Shuffling::None;
        let inline = pass.views && in_order && !decodes && !mixes;
        let gather = Gather::new(&plan).filter(|_| !mixes);
        let threads = match (inline, &gather) {
            (true, _) => 0,
            (false, Some(_)) => (plan.threads - 1).max(1),
            (false, None) => plan.threads,
        };
        let mut shared = Shared {
            plan,
            pool,
            pass,
            count,
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            cancelled: AtomicBool::new(false),
            ahead: None,
        };
        if threads > 0 {
            shared.check_prefetch()?;
        }
        shared.ahead = shared.windows().map(ReadAhead::new);
        let shared = Arc::new(shared);
        let mut this = Self {
            shared: shared.clone(),
            threads: Vec::new(),
            handed_over: 0,
            since: Instant::now(),
            counted: 0,
            process: std::process::id(),
            inline,
            gather,
            over: false,
        };
        for number in 0..threads {
            this.spawn(format!("fastshard-{number}"), Shared::work)?;
        }
        if shared.ahead.is_some() {
            this.spawn("fastshard-ahead".into(), Shared::read_ahead)?;
        }
        Ok(this)
    }

    fn spawn(&mut self, name: String, body: fn(&Shared)) -> Result<()> {
        let shared = self.shared.clone();
        let builder = std::thread::Builder::new().name(name);
        let thread = builder.spawn(move || shared.run(body));
        self.threads
            .push(thread.map_err(Error::io("starting a thread"))?);
        Ok(())
    }

    /// Waits for the next batch, at most this long.
    pub fn poll(&mut self, timeout: Duration) -> Result<Poll> {
        if self.process != std::process::id() {
            return Err(Error::State {
                reason: FORKED.into(),
            });
        }
        if self.over
            || self.handed_over == self.shared.count
            || self.shared.cancelled.load(Ordering::Relaxed)
        {
            self.close();
            return Ok(Poll::End);
        }
        let next = caught("the loader", || {
            let Some(batch) = self.next(timeout)? else {
                return Ok(Poll::Pending);
            };
            // Where all of its samples were skipped, go on with the next.
            Ok(self.hand_over(&batch)?.map_or(Poll::Pending, Poll::Ready))
        });
        if next.is_err() {
            self.close();
        }
        next
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<Arc<OpenBatch>>> {
        if self.inline {
            return self.fill_inline().map(Some);
        }
        self.help(timeout);
        self.wait(timeout)
    }

    /// Ends the pass from another thread, which need not wait for this one.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Batches gone through so far, those included of which every sample was left out.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    fn fill_inline(&mut self) -> Result<Arc<OpenBatch>> {
        let order = self.shared.order();
        let batch = Arc::new(self.shared.open(&order, self.handed_over)?);
        if !batch.is_all_views(&self.shared.plan) {
            let epoch = self.shared.pass.epoch;
            let mut worker = Worker::new(&self.shared.plan, &order, epoch, self.gather.take());
            finish(
                &mut worker,
                &Claim {
                    batch: batch.clone(),
                    start: 0,
                    count: batch.rows,
                },
            );
            self.gather = worker.into_gather();
        }
        Ok(batch)
    }

    /// Copies rows as long as the next batch isn't there and somebody has to, but not much longer than this.
    fn help(&mut self, timeout: Duration) {
        if self.gather.is_none() || self.shared.is_next_ready() {
            return;
        }
        let started = Instant::now();
        let shared = &*self.shared;
        let order = shared.order();
        let rows = claim_rows(&shared.plan);
        let gather = self.gather.take();
        let mut worker = Worker::new(&shared.plan, &order, shared.pass.epoch, gather);
        while !shared.is_next_ready()
            && started.elapsed() < timeout
            && let Some(claim) = shared.claim(&order, rows, false)
        {
            shared.fill(&mut worker, &claim);
        }
        shared.plan.counters.waited(started);
        self.gather = worker.into_gather();
    }

    fn wait(&self, timeout: Duration) -> Result<Option<Arc<OpenBatch>>> {
        let mut queue = self.shared.lock();
        for waited in [false, true] {
            if queue.open.front().is_some_and(|batch| batch.is_ready()) {
                let batch = queue.open.pop_front();
                self.shared.wake_idle(&queue);
                return Ok(batch);
            }
            if (queue.open.is_empty() || queue.broken)
                && let Some(error) = queue.failed.take()
            {
                return Err(error);
            }
            if !waited {
                let started = Instant::now();
                queue.awaited = true;
                let woken = self.shared.done.wait_timeout(queue, timeout);
                queue = woken.unwrap_or_else(PoisonError::into_inner).0;
                self.shared.plan.counters.waited(started);
            }
        }
        if self.shared.cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let nobody_works = self.threads.iter().all(JoinHandle::is_finished);
        if nobody_works && !queue.open.front().is_some_and(|batch| batch.is_ready()) {
            return Err(Error::Internal {
                reason: "the loader's threads ended before their last batch".into(),
            });
        }
        Ok(None)
    }

    fn hand_over(&mut self, batch: &OpenBatch) -> Result<Option<Batch>> {
        #[cfg(test)]
        crate::caught::inject::point("consumer", self.shared.plan.spec.seed, 0);
        self.handed_over += 1;
        let plan = &self.shared.plan;
        let failures = batch.take_failures();
        let mut left_out = Vec::new();
        for (row, error) in failures {
            if plan.spec.on_error == OnError::Raise
                || matches!(error, Error::Label { .. } | Error::Memory { .. })
            {
                return Err(error);
            }
            plan.skipped.add(&error);
            left_out.push(row);
        }
        if left_out.len() == batch.rows {
            return Ok(None);
        }
        let batch = batch.hand_over(plan, &self.shared.order(), &left_out)?;
        let now = Instant::now();
        let after = now - std::mem::replace(&mut self.since, now);
        let first = self.counted == 0;
        (plan.counters).handed_over(batch.rows, batch.bytes(), after, first);
        self.counted += 1;
        Ok(Some(batch))
    }

    /// Stops and joins the threads. What was handed over stays valid. A thread in the middle of a huge image is not
    /// waited for: it ends by itself after that image, and frees what it holds.
    pub fn close(&mut self) {
        self.over = true;
        self.shared.cancelled.store(true, Ordering::Relaxed);
        if self.process != std::process::id() {
            // After a fork the threads are somebody else's; so may be the lock.
            std::mem::take(&mut self.threads)
                .into_iter()
                .for_each(std::mem::forget);
            return;
        }
        // Under the lock, so that nobody misses it between looking and sleeping.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        if let Some(ahead) = &self.shared.ahead {
            ahead.wake();
        }
        join_within(self.threads.drain(..), PATIENCE);
        self.shared.lock().open.clear();
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches")
            .field("handed_over", &self.handed_over)
            .finish_non_exhaustive()
    }
}
