//! Reading ahead for block-wise shuffles.
//!
//! # Idea
//!
//! The order of a block-wise shuffle is known, window by window, so the disk can be busy before rows are wanted. A
//! thread of its own brings one window after the other into the page cache, in pieces that a disk reads at full speed.
//! Those who fill batches wait for it: if they ran ahead, they would fetch single pages from all over the window.
//!
//! ```text
//! window    n - 1                  n                 n + 1
//!           marked to go first     newest batch      is being read
//! ```
//!
//! The thread stays one window ahead of the newest batch. What has been read may push other pages out of memory, so the
//! pages of windows that are done with are marked to go first.
//!
//! # Why it really reads
//!
//! The thread reads into a buffer that it forgets. Mere advice to the kernel is dropped as soon as memory is short, and
//! pages that come by advice are of the smallest size, which is more work for the kernel.
//!
//! # When it fails
//!
//! However the thread ends, all windows count as read, so nobody waits for it. Rows then come page by page.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::plan::Plan;
use crate::caught::caught;
use crate::dataset::Piece;
use crate::error::{Error, Result};
use crate::mapping::Scratch;
use crate::order::Order;

/// Threads that read pieces of a window side by side.
const READERS: usize = 3;
/// Bytes that each of them reads at once.
const PART: usize = 4 << 20;

/// How far the windows of an epoch have been read.
#[derive(Debug)]
pub(super) struct ReadAhead {
    windows: RangeInclusive<u64>,
    /// All windows before this one have been read.
    read: AtomicU64,
    /// The window of the newest batch.
    wanted: AtomicU64,
    /// Guards changes of both numbers, so that no waiter misses one.
    lock: Mutex<()>,
    changed: Condvar,
}

impl ReadAhead {
    /// Nothing is read yet, of the windows that hold an order's samples.
    pub(super) fn new(windows: RangeInclusive<u64>) -> Self {
        Self {
            read: AtomicU64::new(*windows.start()),
            wanted: AtomicU64::new(*windows.start()),
            windows,
            lock: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether a window has been read.
    pub(super) fn is_read(&self, window: u64) -> bool {
        window < self.read.load(Ordering::Acquire)
    }

    /// Waits until a window has been read; false when cancelled before.
    pub(super) fn wait(&self, window: u64, cancelled: &AtomicBool) -> bool {
        if window > self.wanted.load(Ordering::Relaxed) {
            self.change(|| self.wanted.fetch_max(window, Ordering::Relaxed));
        }
        self.is_read(window) || self.wait_while(|| !self.is_read(window), cancelled)
    }

    /// Wakes all who wait, to find out that they are cancelled.
    pub(super) fn wake(&self) {
        self.change(|| ());
    }

    /// The thread's work: reads all windows, each once a batch of the one before it is wanted.
    pub(super) fn run(&self, plan: &Plan, order: &Order<'_>, cancelled: &AtomicBool) -> Result<()> {
        #[cfg(test)]
        crate::caught::inject::point("ahead", plan.spec.seed, 0);
        let fields: Vec<_> = plan.fields.iter().map(|field| field.index).collect();
        let pieces = |number: u64| {
            // A block that can't be read is an error of the rows that come from it.
            let rows = order.pieces(number).into_iter();
            let find = |rows| caught("reading ahead", || plan.dataset.pieces(rows, &fields));
            rows.flat_map(move |rows| find(rows).unwrap_or_default())
        };
        for number in self.windows.clone() {
            let too_early = || number > self.wanted.load(Ordering::Relaxed) + 1;
            if !self.wait_while(too_early, cancelled) {
                return Ok(());
            }
            let missing: Vec<_> = pieces(number)
                .filter(|piece| !piece.is_in_memory())
                .flat_map(|piece| piece.parts(PART))
                .collect();
            if !missing.is_empty() {
                // What is read may need the room of other pages.
                let done = number
                    .checked_sub(2)
                    .filter(|done| self.windows.contains(done));
                done.into_iter()
                    .flat_map(pieces)
                    .for_each(|piece| piece.done_with());
                read(&missing, cancelled)?;
            }
            self.change(|| self.read.store(number + 1, Ordering::Release));
        }
        Ok(())
    }

    /// Lets everybody go on, however the thread ended: what it didn't read comes page by page.
    pub(super) fn release(&self) {
        self.change(|| self.read.store(u64::MAX, Ordering::Release));
    }

    fn change<T>(&self, change: impl FnOnce() -> T) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        change();
        drop(lock);
        self.changed.notify_all();
    }

    /// Waits as long as `holds` is true; false when cancelled.
    fn wait_while(&self, holds: impl Fn() -> bool, cancelled: &AtomicBool) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let go_on = |&mut (): &mut ()| holds() && !cancelled.load(Ordering::Relaxed);
        let _lock = (self.changed.wait_while(lock, go_on)).unwrap_or_else(PoisonError::into_inner);
        !cancelled.load(Ordering::Relaxed)
    }
}

/// Reads pieces side by side, which keeps a disk busy with long reads.
fn read(pieces: &[Piece<'_>], cancelled: &AtomicBool) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        caught("reading ahead", || {
            let mut scratch = Scratch::default();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed))
                && !cancelled.load(Ordering::Relaxed)
            {
                piece.read(&mut scratch, cancelled);
            }
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        // Where no more threads can be started, fewer read.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..READERS).filter_map(spawn).collect();
        let own = work();
        let ended = others.into_iter().map(|thread| {
            let lost = |_| Err(Error::source("a thread that reads ahead ended early"));
            thread.join().unwrap_or_else(lost)
        });
        ended.fold(own, Result::and)
    })
}
