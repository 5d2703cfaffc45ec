//! The consumer's end of a pass, which owns the threads.
//!
//! # How a batch arrives
//!
//! Three ways lead to the next batch:
//!
//! - *inline*: batches in order that nothing decodes or mixes are shown or copied by the consumer itself, without
//!   threads;
//! - *help*: where rows are only copied, the consumer copies, too, as long as the next batch isn't ready;
//! - *wait*: else it sleeps until a thread announces the batch, at most for the time that its caller allows.
//!
//! A wait that ends without a batch is [`Poll::Pending`], so that the caller can look at signals and ask again. A batch
//! whose samples were all left out is passed over in the same way.
//!
//! # How a pass ends
//!
//! By the last batch, by the first error, by [`Stopper`] from another thread, or when the iterator is dropped. Threads
//! are asked to stop and joined within a short time. One that is inside a huge image ends by itself afterwards, and
//! frees what it holds. A forked child has no threads; there, the iterator refuses to work and joins nobody.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ahead::ReadAhead;
use super::pass::{Pass, Shared, finish};
use super::plan::{Plan, PlannedField};
use super::spec::Shuffling;
use super::values::Batch;
use super::work::{Claim, Gather, OpenBatch, Worker, claim_rows};
use crate::caught::caught;
use crate::error::{Error, OnError, Result};
use crate::slot::SlotPool;
use crate::threads::{PATIENCE, join_within};

/// What came of a wait for the next batch.
#[derive(Debug)]
pub enum Poll {
    /// The next batch.
    Ready(Batch),
    /// The epoch is over.
    End,
    /// The batch is not ready yet; ask again.
    Pending,
}

/// The error of a forked child that uses an iterator of its parent.
pub const FORKED: &str = "this iterator was made before a fork and has no threads in this process; make a new one from \
                          the loader";

/// Ends a pass; see [`Batches::stopper`].
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Ends the pass with the next poll.
    pub fn stop(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

/// An iterator over the batches of one epoch.
pub struct Batches {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    handed_over: u64,
    /// When the last batch was handed over; before the first, when the pass began.
    since: Instant,
    /// Batches that had any samples.
    counted: u64,
    process: u32,
    /// Whether the consumer shows or copies batches on the spot: runs of rows in order need no threads.
    inline: bool,
    /// For rows that are only copied: the consumer copies, too, and need not sleep until others have.
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
        let mut shared = Shared::new(plan, pool, pass, count);
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
            // If all of its samples were skipped, the next poll goes on.
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

    /// A handle that ends the pass from another thread, without waiting for this one.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Batches that were used up so far, including those of which every sample was left out.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    fn fill_inline(&mut self) -> Result<Arc<OpenBatch>> {
        let order = self.shared.order();
        let batch = Arc::new(self.shared.open(&order, self.handed_over)?);
        if !batch.is_all_views() {
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

    /// Copies rows until the next batch is ready, no row can be claimed, or the time is over.
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

    /// Stops the threads and joins them within a short time. Batches that were handed over stay valid. A thread in the
    /// middle of a huge image is not waited for: it ends by itself after that image, and frees what it holds.
    pub fn close(&mut self) {
        self.over = true;
        self.shared.cancelled.store(true, Ordering::Relaxed);
        if self.process != std::process::id() {
            // After a fork the threads are the parent's, and one of them may have held the lock.
            std::mem::take(&mut self.threads)
                .into_iter()
                .for_each(std::mem::forget);
            return;
        }
        // Taking the lock once makes sure that no thread is between looking at the flag and going to sleep.
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
