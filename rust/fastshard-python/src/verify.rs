//! Verifying.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastshard_core::available_threads;
use fastshard_core::verify::Verify;
use pyo3::prelude::*;

use crate::dataset::PyDataset;
use crate::guard::{Own, detached, guarded, lock};

const FORKED: &str = "this check was begun before a fork and has no threads in this process";

/// A check of every byte of a dataset on native threads, or with `decode` of every image and sound.
#[pyclass(frozen, name = "VerifyJob", module = "fastshard._fastshard")]
pub(crate) struct PyVerifyJob {
    inner: Own<Mutex<Verify>>,
}

impl PyVerifyJob {
    fn with<T>(&self, py: Python<'_>, ask: impl FnOnce(&mut Verify) -> T) -> PyResult<T> {
        guarded(|| {
            let mut verify = lock(py, self.inner.get()?)?;
            Ok(ask(&mut verify))
        })
    }
}

#[pymethods]
impl PyVerifyJob {
    #[new]
    #[pyo3(signature = (dataset, num_threads, decode = false))]
    fn new(
        py: Python<'_>,
        dataset: &Bound<'_, PyDataset>,
        num_threads: usize,
        decode: bool,
    ) -> PyResult<Self> {
        let threads = if num_threads == 0 {
            available_threads()
        } else {
            num_threads
        };
        let start = if decode {
            Verify::decode
        } else {
            Verify::start
        };
        let dataset = &dataset.get().inner;
        let inner = detached(py, || start(dataset, threads))?;
        Ok(Self {
            inner: Own::new(Mutex::new(inner), FORKED),
        })
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let until = Instant::now() + Duration::try_from_secs_f64(timeout).unwrap_or_default();
        loop {
            let finished = self.with(py, |verify| verify.is_finished())?;
            if finished || Instant::now() >= until {
                return Ok(finished);
            }
            py.detach(|| std::thread::sleep(Duration::from_millis(5)));
        }
    }

    fn progress(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        self.with(py, |verify| verify.progress())
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Verify::cancel)
    }

    fn problems(&self, py: Python<'_>) -> PyResult<Vec<(String, Option<u64>, String)>> {
        let problems = self.with(py, |verify| verify.problems())?;
        Ok(problems
            .into_iter()
            .map(|p| (p.shard, p.row, p.reason))
            .collect())
    }
}
