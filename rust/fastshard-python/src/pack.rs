//! Packing.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use fastshard_core::Error;
use fastshard_core::ingest::{Job, PackSpec, Progress, Report};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::dataset::parse;
use crate::error::to_python;
use crate::guard::{Own, SLICE, detached, guarded, lock};

const FORKED: &str = "this pack was begun before a fork and has no threads in this process";

#[derive(Default)]
struct State {
    job: Option<Job>,
    progress: Option<Progress>,
    report: Option<Report>,
}

/// A pack in progress on native threads.
#[pyclass(frozen, name = "PackJob", module = "fastshard._fastshard")]
pub(crate) struct PyPackJob {
    destination: PathBuf,
    spec: PackSpec,
    state: Own<Mutex<State>>,
}

impl PyPackJob {
    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        lock(py, self.state.get()?)
    }

    fn start(&self, py: Python<'_>, job: impl FnOnce() -> Result<Job, Error>) -> PyResult<()> {
        let job = guarded(|| job().map_err(to_python))?;
        self.lock(py)?.job = Some(job);
        Ok(())
    }
}

fn not_started() -> PyErr {
    PyRuntimeError::new_err("the job has not been started")
}

/// One table as one batch.
fn read_table(bytes: &[u8]) -> Result<RecordBatch, Error> {
    let bad = |error: arrow_schema::ArrowError| Error::Source {
        reason: format!("table: {error}"),
    };
    let reader = StreamReader::try_new(bytes, None).map_err(bad)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(bad)?;
    arrow_select::concat::concat_batches(&schema, &batches).map_err(bad)
}

#[pymethods]
impl PyPackJob {
    #[new]
    fn new(dst: PathBuf, spec: &str) -> PyResult<Self> {
        let spec: PackSpec = parse("pack options", spec)?;
        spec.check().map_err(to_python)?;
        Ok(Self {
            destination: dst,
            spec,
            state: Own::new(Mutex::default(), FORKED),
        })
    }

    fn start_files(&self, py: Python<'_>, root: PathBuf, table: &[u8]) -> PyResult<()> {
        let table = detached(py, || read_table(table))?;
        self.start(py, || {
            Job::files(&self.destination, self.spec.clone(), root, table)
        })
    }

    fn start_stream(&self, py: Python<'_>) -> PyResult<()> {
        self.start(py, || Job::stream(&self.destination, self.spec.clone()))
    }

    fn push(&self, py: Python<'_>, table: &[u8], timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        let batch = detached(py, || read_table(table))?;
        let state = self.lock(py)?;
        let job = state.job.as_ref().ok_or_else(not_started)?;
        detached(py, || job.push(&batch, timeout))
    }

    #[pyo3(signature = (statistics = None))]
    fn end_stream(&self, py: Python<'_>, statistics: Option<&str>) -> PyResult<()> {
        let statistics = statistics.map(|json| parse("statistics", json));
        if let Some(job) = &self.lock(py)?.job {
            job.end_stream(statistics.transpose()?);
        }
        Ok(())
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        let mut guard = self.lock(py)?;
        let state = &mut *guard;
        let Some(job) = &mut state.job else {
            return Ok(state.report.is_some());
        };
        let report = detached(py, || job.wait(timeout))?;
        let finished = report.is_some();
        if finished {
            state.progress = Some(job.progress());
            state.report = report;
            state.job = None;
        }
        Ok(finished)
    }

    fn progress(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64)> {
        let state = self.lock(py)?;
        let progress = state.job.as_ref().map(Job::progress).or(state.progress);
        Ok(progress.map_or((0, 0, 0, 0), |p| (p.rows, p.total, p.bytes, p.skipped)))
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let job = self.lock(py)?.job.take();
        let Some(mut job) = job else {
            return Ok(());
        };
        job.cancel();
        // A thread that waits for a disk may never end: Ctrl-C leaves it behind.
        while !py.detach(|| job.join(SLICE)) {
            py.check_signals()?;
        }
        Ok(())
    }

    fn report(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.lock(py)?;
        let report = state
            .report
            .as_ref()
            .ok_or_else(|| PyRuntimeError::new_err("the job has not finished"))?;
        serde_json::to_string(report).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("timeout is {seconds} seconds")))
}
