//! Packing.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use fastshard_core::Error;
use fastshard_core::ingest::{Job, PackSpec, Progress, Report};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::dataset::parse;
use crate::error::to_python;

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
    state: Mutex<State>,
}

impl PyPackJob {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, job: Result<Job, Error>) -> PyResult<()> {
        self.lock().job = Some(job.map_err(to_python)?);
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
            state: Mutex::default(),
        })
    }

    fn start_files(&self, py: Python<'_>, root: PathBuf, table: &[u8]) -> PyResult<()> {
        let table = py.detach(|| read_table(table)).map_err(to_python)?;
        self.start(Job::files(
            &self.destination,
            self.spec.clone(),
            root,
            table,
        ))
    }

    fn start_stream(&self) -> PyResult<()> {
        self.start(Job::stream(&self.destination, self.spec.clone()))
    }

    fn push(&self, py: Python<'_>, table: &[u8], timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        py.detach(|| {
            let batch = read_table(table)?;
            let state = self.lock();
            state
                .job
                .as_ref()
                .map(|job| job.push(&batch, timeout))
                .transpose()
        })
        .map_err(to_python)?
        .ok_or_else(not_started)
    }

    #[pyo3(signature = (statistics = None))]
    fn end_stream(&self, statistics: Option<&str>) -> PyResult<()> {
        let statistics = statistics.map(|json| parse("statistics", json));
        if let Some(job) = &self.lock().job {
            job.end_stream(statistics.transpose()?);
        }
        Ok(())
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        py.detach(|| {
            let mut state = self.lock();
            let Some(job) = &mut state.job else {
                return Ok(state.report.is_some());
            };
            let report = job.wait(timeout)?;
            let finished = report.is_some();
            if finished {
                state.progress = state.job.as_ref().map(Job::progress);
                state.report = report;
                state.job = None;
            }
            Ok(finished)
        })
        .map_err(to_python)
    }

    fn progress(&self) -> (u64, u64, u64, u64) {
        let state = self.lock();
        let progress = state.job.as_ref().map(Job::progress).or(state.progress);
        progress.map_or((0, 0, 0, 0), |p| (p.rows, p.total, p.bytes, p.skipped))
    }

    fn cancel(&self, py: Python<'_>) {
        py.detach(|| {
            let job = self.lock().job.take();
            if let Some(mut job) = job {
                job.cancel();
            }
        });
    }

    fn report(&self) -> PyResult<String> {
        let state = self.lock();
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
