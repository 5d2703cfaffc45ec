//! A pack in progress: a coordinator thread, its workers, and the caller's handle on them.
//!
//! ```text
//! files    table -> units (the cut, from sizes and options alone) -> build, in parallel -> shards, in order -> publish
//! stream   push -> waiting batches -> build, in parallel -> shards, in order -> publish
//! ```
//!
//! The units of a pack of files follow from file sizes and options. So an interrupted pack finds the same shards again,
//! and passes over those that are finished. A stream can't be resumed, since nothing says that it would give the same
//! samples again; a shard of it ends when the next block would exceed the shard's size.
//!
//! The caller is never blocked for long: pushing and waiting have time limits, and the stream is looked at in slices of
//! 50 ms, after each of which a job that was cancelled ends. Memory is bounded by `threads + 2` units in work and two
//! batches that wait.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow_array::{Array, RecordBatch};

use super::build::{Builder, Built, Counters, Tools, needs_size};
use super::ordered::ordered;
use super::shards::{Report, Shards};
use super::spec::PackSpec;
use super::staging::Staging;
use super::streamed::{OpenFiles, streamed_file};
use super::units::{Files, Unit, join, paths};
use crate::caught::caught;
use crate::codec::Decoder;
use crate::error::{Error, OnError, Result};
use crate::regular;
use crate::schema::Kind;
use crate::threads::available_threads;
use crate::threads::join_within;

/// How far a pack has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows that are done, including those of an earlier try.
    pub rows: u64,
    /// Rows in all; 0 if not known, as for a stream.
    pub total: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Rows left out.
    pub skipped: u64,
}

/// Record batches that the caller brings, a few at a time.
#[derive(Debug, Default)]
struct Stream {
    waiting: VecDeque<RecordBatch>,
    ended: bool,
    /// Statistics of the fields, for the manifest.
    statistics: Option<serde_json::Value>,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    stream: Mutex<Stream>,
    moved: Condvar,
    /// Whether a block failed, so that no more input is wanted.
    failed: AtomicBool,
    finished: Mutex<Option<Result<Report>>>,
    done: Condvar,
}

/// How long dropping a job waits for its threads, which clean up the unfinished folder as they end.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// Batches of a stream that may wait, beside those in work.
const WAITING: usize = 2;

/// A pack in progress. Dropping it cancels.
#[derive(Debug)]
pub struct Job {
    shared: Arc<Shared>,
    coordinator: Option<JoinHandle<()>>,
}

impl Job {
    /// Packs a table whose columns of images and audio hold paths below `root`.
    pub fn files(
        destination: &Path,
        spec: PackSpec,
        root: PathBuf,
        table: RecordBatch,
    ) -> Result<Self> {
        spec.check()?;
        let destination = destination.to_owned();
        Self::start(move |shared| pack_files(&destination, spec, root, table, shared))
    }

    /// Packs the batches that [`Self::push`] hands over.
    pub fn stream(destination: &Path, spec: PackSpec) -> Result<Self> {
        spec.check()?;
        if spec.shuffle_seed.is_some() {
            return Err(Error::option(
                "a stream can't be shuffled: its length is not known",
            ));
        }
        let destination = destination.to_owned();
        Self::start(move |shared| pack_stream(&destination, spec, shared))
    }

    fn start(work: impl FnOnce(&Shared) -> Result<Report> + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let run = move || {
            let result = caught("packing", || work(&theirs));
            *theirs
                .finished
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(result);
            theirs.done.notify_all();
            theirs.moved.notify_all();
        };
        let thread = std::thread::Builder::new()
            .name("fastshard-pack".into())
            .spawn(run);
        Ok(Self {
            shared,
            coordinator: Some(thread.map_err(Error::io("starting a thread"))?),
        })
    }

    /// Hands over a batch of a stream; false if there is still no room after the timeout.
    pub fn push(&self, batch: &RecordBatch, timeout: Duration) -> Result<bool> {
        let until = Instant::now() + timeout;
        let mut stream = self
            .shared
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while stream.waiting.len() >= WAITING {
            if let Some(error) = self.failure() {
                return Err(error);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            stream = self
                .shared
                .moved
                .wait_timeout(stream, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        stream.waiting.push_back(batch.clone());
        self.shared.moved.notify_all();
        Ok(true)
    }

    /// Ends the stream, with statistics of the fields for the manifest.
    pub fn end_stream(&self, statistics: Option<serde_json::Value>) {
        let mut stream = (self.shared.stream.lock()).unwrap_or_else(PoisonError::into_inner);
        stream.ended = true;
        stream.statistics = statistics;
        drop(stream);
        self.shared.moved.notify_all();
    }

    /// The error that ended the job before its input ended.
    fn failure(&self) -> Option<Error> {
        self.shared
            .finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?
            .err()
    }

    /// Waits for the end, at most this long. The report, or the error, is returned once.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Report>> {
        let finished = self
            .shared
            .finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waiting = |result: &mut Option<Result<Report>>| result.is_none();
        let waited = self
            .shared
            .done
            .wait_timeout_while(finished, timeout, waiting);
        let result = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        result.transpose()
    }

    /// How far the pack has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let counters = &self.shared.counters;
        Progress {
            rows: counters.rows.load(Ordering::Relaxed),
            total: counters.total.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            skipped: counters.skipped.load(Ordering::Relaxed),
        }
    }

    /// Asks the threads to stop. Finished shards stay for the next try.
    pub fn cancel(&mut self) {
        self.shared
            .counters
            .cancelled
            .store(true, Ordering::Relaxed);
        self.end_stream(None);
    }

    /// Waits until the threads have stopped, at most this long; returns whether they have.
    pub fn join(&mut self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let runs = |this: &Self| {
            let thread = this.coordinator.as_ref();
            thread.is_some_and(|thread| !thread.is_finished())
        };
        while runs(self) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        !runs(self)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel();
        join_within(self.coordinator.take().into_iter(), DROP_PATIENCE);
    }
}

fn threads(spec: &PackSpec) -> usize {
    if spec.num_threads == 0 {
        available_threads()
    } else {
        spec.num_threads
    }
}

/// Lends a set of tools to `work`: they are reused from unit to unit, by whichever thread is next.
fn with_tools<T>(
    idle: &Mutex<Vec<Tools>>,
    builder: &Builder,
    work: impl FnOnce(&mut Tools) -> Result<T>,
) -> Result<T> {
    let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut tools = taken.map_or_else(|| builder.tools(), Ok)?;
    let result = work(&mut tools);
    idle.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(tools);
    result
}

fn pack_files(
    destination: &Path,
    spec: PackSpec,
    root: PathBuf,
    table: RecordBatch,
    shared: &Shared,
) -> Result<Report> {
    let threads = threads(&spec);
    shared
        .counters
        .total
        .store(table.num_rows() as u64, Ordering::Relaxed);
    let files = Files::new(root.clone(), table, &spec)?;
    let staging = Staging::open(destination, spec.overwrite, Some(&files.fingerprint(&spec)))?;
    let size = if needs_size(&spec) {
        Some(first_size(&spec, &files)?)
    } else {
        None
    };
    let stored = spec.stored_fields(size)?;
    let units = files.units(&spec, &stored);
    let builder = Builder::new(spec, stored, Some(root), shared.counters.clone(), size)?;
    let last_shard = units.last().map_or(0, |unit| unit.shard);
    let done: Vec<bool> = (0..=last_shard)
        .map(|shard| staging.finished(shard).is_some())
        .collect();
    let counted = units
        .iter()
        .filter(|unit| done[unit.shard])
        .map(|unit| unit.positions.end - unit.positions.start);
    shared
        .counters
        .rows
        .fetch_add(counted.sum(), Ordering::Relaxed);
    let mut todo = units.into_iter().filter(|unit| !done[unit.shard]);
    let idle = Mutex::new(Vec::new());
    let mut shards = Shards::new(&staging, &builder);
    let build = |unit: Unit| {
        let rows: Vec<u64> = unit
            .positions
            .clone()
            .map(|position| files.row(position))
            .collect();
        let built = with_tools(&idle, &builder, |tools| {
            builder.build(tools, &files.table, &rows, |row| row)
        })?;
        Ok((unit.shard, built))
    };
    let write = |(shard, built): (usize, Built)| {
        builder.counters.check()?;
        shards.switch(shard)?;
        shards.write(built)
    };
    ordered(threads, threads + 2, || Ok(todo.next()), build, write)?;
    shards.switch(last_shard)?;
    let (manifest, mut report) = shards.finish()?;
    report.left = staging.publish(&manifest)?;
    Ok(report)
}

/// The size of raw pixels without a resize: that of the first image whose header can be read.
fn first_size(spec: &PackSpec, files: &Files) -> Result<[u32; 2]> {
    let image = spec.fields.iter().find(|field| field.kind == Kind::Image);
    let field = image.ok_or_else(|| Error::option("raw pixels need an image field"))?;
    let paths = paths(&files.table, &field.name)?;
    let mut decoder = Decoder::new(spec.max_pixels)?;
    let mut first = None;
    for row in 0..files.table.num_rows() {
        let path = join(&files.root, paths.value(row), row)?;
        let header = caught("reading it", || {
            let mut bytes = Vec::new();
            regular::open_to_read(&path)
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .map_err(Error::io(&path))?;
            decoder.header(&bytes)
        });
        match header {
            Ok(header) => return Ok([header.height, header.width]),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::source("nothing to pack: no rows")))
}

fn pack_stream(destination: &Path, spec: PackSpec, shared: &Shared) -> Result<Report> {
    let threads = threads(&spec);
    let staging = Staging::open(destination, spec.overwrite, None)?;
    let Some(first) = next_batch(shared)? else {
        return Err(Error::source(
            "nothing to pack: the iterable gave no samples",
        ));
    };
    let size = if needs_size(&spec) {
        Some(first_streamed_size(&spec, &first)?)
    } else {
        None
    };
    let stored = spec.stored_fields(size)?;
    let shard_size = spec.shard_size;
    let builder = Builder::new(spec, stored, None, shared.counters.clone(), size)?;
    let idle = Mutex::new(Vec::new());
    let mut shards = Shards::new(&staging, &builder);
    let (mut pending, mut rows_before) = (Some(first), 0);
    let source = || {
        let batch = pending
            .take()
            .map_or_else(|| next_batch(shared), |batch| Ok(Some(batch)))?;
        Ok(batch.map(|batch| {
            let start = rows_before;
            rows_before += batch.num_rows() as u64;
            (start, batch)
        }))
    };
    let build = |(start, batch): (u64, RecordBatch)| {
        let rows: Vec<u64> = (0..batch.num_rows() as u64).collect();
        let built = with_tools(&idle, &builder, |tools| {
            builder.build(tools, &batch, &rows, |row| start + row)
        });
        built.inspect_err(|_| shared.failed.store(true, Ordering::Relaxed))
    };
    let (mut shard, mut shard_bytes) = (0, 0);
    let write = |built: Built| {
        builder.counters.check()?;
        let bytes = built.batch.as_ref().map_or(0, stored_bytes);
        if shard_bytes > 0 && shard_bytes + bytes > shard_size {
            (shard, shard_bytes) = (shard + 1, 0);
        }
        shard_bytes += bytes;
        let written = shards.switch(shard).and_then(|()| shards.write(built));
        written.inspect_err(|_| shared.failed.store(true, Ordering::Relaxed))
    };
    ordered(threads, threads + 2, source, build, write)?;
    shared.counters.check()?;
    let (manifest, mut report) = shards.finish()?;
    let stream = shared.stream.lock();
    let statistics = (stream.unwrap_or_else(PoisonError::into_inner).statistics).take();
    report.left = staging.publish(&manifest.with_statistics(statistics).checked()?)?;
    Ok(report)
}

/// Bytes that a batch takes on disk, apart from padding. Its buffers may be larger, as they grow in steps.
fn stored_bytes(batch: &RecordBatch) -> u64 {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| {
        let used = column.to_data().get_slice_memory_size();
        used.unwrap_or_else(|_| column.get_array_memory_size()) as u64
    });
    bytes.sum()
}

fn first_streamed_size(spec: &PackSpec, batch: &RecordBatch) -> Result<[u32; 2]> {
    let image = spec.fields.iter().find(|field| field.kind == Kind::Image);
    let image = image.ok_or_else(|| Error::option("raw pixels need an image field"))?;
    let mut decoder = Decoder::new(spec.max_pixels)?;
    let (files, mut bytes) = (OpenFiles::default(), Vec::new());
    let mut size = |row| -> Result<[u32; 2]> {
        bytes.clear();
        streamed_file(batch, &image.name, row)?.read(&files, &mut bytes)?;
        let header = decoder.header(&bytes)?;
        Ok([header.height, header.width])
    };
    // Rows that will be skipped don't count. If no row can be read, the first one's error is returned.
    let first = size(0);
    if first.is_ok() || spec.on_error == OnError::Raise {
        return first;
    }
    (1..batch.num_rows())
        .find_map(|row| size(row).ok())
        .map_or(first, Ok)
}

/// The next batch of a stream. Waits in slices, so that cancelling is noticed.
fn next_batch(shared: &Shared) -> Result<Option<RecordBatch>> {
    let mut stream = shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        shared.counters.check()?;
        if let Some(batch) = stream.waiting.pop_front() {
            shared.moved.notify_all();
            return Ok(Some(batch));
        }
        if stream.ended || shared.failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let slice = Duration::from_millis(50);
        stream = shared
            .moved
            .wait_timeout(stream, slice)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
