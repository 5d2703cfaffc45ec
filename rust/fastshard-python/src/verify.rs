//! Verifying.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastshard_core::pipeline::available_threads;
use fastshard_core::verify::Verify;
use pyo3::prelude::*;

use crate::dataset::PyDataset;
use crate::error::to_python;

/// A check of every byte of a dataset on native threads, or with `decode` of every image and sound.
#[pyclass(frozen, name = "VerifyJob", module = "fastshard._fastshard")]
pub(crate) struct PyVerifyJob {
    inner: Mutex<Verify>,
}

impl PyVerifyJob {
    fn lock(&self) -> MutexGuard<'_, Verify> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyVerifyJob {
    #[new]
    #[pyo3(signature = (dataset, num_threads, decode = false))]
    fn new(dataset: &Bound<'_, PyDataset>, num_threads: usize, decode: bool) -> PyResult<Self> {
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
        let inner = start(&dataset.get().inner, threads).map_err(to_python)?;
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> bool {
        py.detach(|| {
            let until = Instant::now() + Duration::try_from_secs_f64(timeout).unwrap_or_default();
            loop {
                let finished = self.lock().is_finished();
                if finished || Instant::now() >= until {
                    return finished;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }

    fn progress(&self) -> (u64, u64) {
        self.lock().progress()
    }

    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.lock().cancel());
    }

    fn problems(&self) -> Vec<(String, Option<u64>, String)> {
        self.lock()
            .problems()
            .into_iter()
            .map(|p| (p.shard, p.row, p.reason))
            .collect()
    }
}
