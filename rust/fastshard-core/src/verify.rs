//! Checking every byte of a dataset: each shard against its hash, and where that fails each row against its checksum.

mod decode;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::caught::caught;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::threads::{PATIENCE, join_within};

/// Something that isn't as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The shard's file name.
    pub shard: String,
    /// The row of the dataset, where one is to blame.
    pub row: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicUsize,
    /// Or rows, where rows are decoded.
    bytes: AtomicU64,
    cancelled: AtomicBool,
    problems: Mutex<Vec<Problem>>,
}

impl Shared {
    fn report(&self, problem: Problem) {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }
}

/// A check in progress. Dropping it cancels.
#[derive(Debug)]
pub struct Verify {
    shared: Arc<Shared>,
    total: u64,
    threads: Vec<JoinHandle<()>>,
}

/// Bytes hashed between two looks at the cancel flag.
const SLICE: usize = 4 << 20;

impl Verify {
    /// Starts on this many threads.
    pub fn start(dataset: &Arc<Dataset>, threads: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let total = dataset
            .manifest()
            .shards
            .iter()
            .map(|shard| shard.bytes)
            .sum();
        let mut this = Self {
            shared: shared.clone(),
            total,
            threads: Vec::new(),
        };
        for _ in 0..threads.clamp(1, dataset.num_shards().max(1)) {
            let (shared, dataset) = (shared.clone(), dataset.clone());
            let run = move || {
                loop {
                    let shard = shared.next.fetch_add(1, Ordering::Relaxed);
                    if shard >= dataset.num_shards() || shared.cancelled.load(Ordering::Relaxed) {
                        return;
                    }
                    let check = || {
                        check_shard(&shared, &dataset, shard);
                        Ok(())
                    };
                    if let Err(error) = caught("checking it", check) {
                        // A shard that can't even be checked must not pass for sound.
                        shared.report(Problem {
                            shard: dataset.shard(shard).entry().file.clone(),
                            row: None,
                            reason: error.to_string(),
                        });
                    }
                }
            };
            let thread = std::thread::Builder::new()
                .name("fastshard-verify".into())
                .spawn(run);
            this.threads
                .push(thread.map_err(Error::io("starting a thread"))?);
        }
        Ok(this)
    }

    /// Whether all threads are done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Bytes checked (or rows decoded), and in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.shared.bytes.load(Ordering::Relaxed), self.total)
    }

    /// What was found, by shard and row.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self
            .shared
            .problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        problems.sort_by(|a, b| (&a.shard, a.row).cmp(&(&b.shard, b.row)));
        problems
    }

    /// Stops the threads. One that waits for a disk is not waited for: it ends by itself.
    pub fn cancel(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        join_within(self.threads.drain(..), PATIENCE);
    }
}

impl Drop for Verify {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn check_shard(shared: &Shared, dataset: &Dataset, number: usize) {
    let shard = dataset.shard(number);
    let report = |row, reason: String| {
        shared.report(Problem {
            shard: shard.entry().file.clone(),
            row,
            reason,
        });
    };
    let data = match shard.data() {
        Ok(data) => data,
        Err(error) => return report(None, error.to_string()),
    };
    let mut hash = blake3::Hasher::new();
    for slice in data.chunks(SLICE) {
        if shared.cancelled.load(Ordering::Relaxed) {
            return;
        }
        hash.update(slice);
        shared
            .bytes
            .fetch_add(slice.len() as u64, Ordering::Relaxed);
    }
    let intact = hash.finalize().to_hex().as_str() == shard.entry().blake3;
    let rows_bad = check_rows(shared, dataset, number, &report);
    if !intact && !rows_bad {
        report(None, "altered outside of its rows (padding, footer or internal columns): BLAKE3 does not match".into());
    }
}

/// Checks each row; true when one was bad.
fn check_rows(
    shared: &Shared,
    dataset: &Dataset,
    number: usize,
    report: &impl Fn(Option<u64>, String),
) -> bool {
    let mut row = (0..number)
        .map(|shard| dataset.shard(shard).entry().rows)
        .sum::<u64>();
    let mut bad = false;
    for (at, entry) in dataset.shard(number).entry().blocks.iter().enumerate() {
        match dataset.block(number, at) {
            Err(error) => {
                bad = true;
                report(None, error.to_string());
            }
            Ok(block) => {
                for at in 0..block.rows() {
                    if shared.cancelled.load(Ordering::Relaxed) {
                        return bad;
                    }
                    let checked = caught("checking it", || Ok(block.check(at)));
                    if let Err(reason) = checked.unwrap_or_else(|error| Err(error.to_string())) {
                        bad = true;
                        report(
                            Some(row + at as u64),
                            format!("{reason} (source {:?})", block.source_path(at)),
                        );
                    }
                }
            }
        }
        row += entry.rows;
    }
    bad
}
