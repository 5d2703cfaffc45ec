//! What a loader did, counted as it goes: a few additions a sample, so that it is always on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::imaging::Times;

#[derive(Debug, Default)]
pub(super) struct Counters {
    samples: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    decode: AtomicU64,
    resample: AtomicU64,
    copy: AtomicU64,
    waited: AtomicU64,
    elapsed: AtomicU64,
    first: AtomicU64,
}

/// A loader's counts and times. Seconds of threads are added up over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Samples handed over.
    pub samples: u64,
    /// Batches handed over.
    pub batches: u64,
    /// Bytes of their arrays.
    pub bytes: u64,
    /// From the start of each pass to the batch that it last handed over.
    pub seconds: f64,
    /// Of these, those in which the consumer waited.
    pub wait_seconds: f64,
    /// From the start of the newest pass to its first batch.
    pub first_batch_seconds: f64,
    /// Of threads, spent in decoding.
    pub decode_seconds: f64,
    /// Of threads, spent in resampling, augmentation and conversion.
    pub resample_seconds: f64,
    /// Of threads, spent in everything else that fills a batch.
    pub copy_seconds: f64,
}

fn add(to: &AtomicU64, time: Duration) {
    to.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
}

fn seconds(of: &AtomicU64) -> f64 {
    of.load(Ordering::Relaxed) as f64 / 1e9
}

impl Counters {
    /// Adds what a thread did in one claim.
    pub(super) fn worked(&self, since: Instant, times: Times) {
        add(&self.decode, times.decode);
        add(&self.resample, times.resample);
        let rest = since
            .elapsed()
            .saturating_sub(times.decode + times.resample);
        add(&self.copy, rest);
    }

    pub(super) fn waited(&self, since: Instant) {
        add(&self.waited, since.elapsed());
    }

    /// Adds a batch that was handed over, this long after the one before it (or the start).
    pub(super) fn handed_over(&self, samples: usize, bytes: usize, after: Duration, first: bool) {
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        add(&self.elapsed, after);
        if first {
            self.first.store(after.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Stats {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Stats {
            samples: count(&self.samples),
            batches: count(&self.batches),
            bytes: count(&self.bytes),
            seconds: seconds(&self.elapsed),
            wait_seconds: seconds(&self.waited),
            first_batch_seconds: seconds(&self.first),
            decode_seconds: seconds(&self.decode),
            resample_seconds: seconds(&self.resample),
            copy_seconds: seconds(&self.copy),
        }
    }
}
