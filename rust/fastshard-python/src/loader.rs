//! Loader and batch iterator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fastshard_core::Dataset;
use fastshard_core::order::{Rows, View, Weights};
use fastshard_core::pipeline::{
    Batches, FORKED, Loader, Pass, Poll, Rows as BatchRows, Spec, Stopper,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyTuple};

use crate::array;
use crate::dataset::{PyDataset, parse};
use crate::error::to_python;
use crate::guard::{Own, SLICE, detached, guarded, lock};

/// An array of a batch: its name, dtype, what its first dimension counts, and its other dimensions.
type PyOutput<'py> = (String, &'static str, &'static str, Bound<'py, PyTuple>);

#[derive(FromPyObject)]
enum RowsArgument {
    Range((u64, i64, u64)),
    List(PyBackedBytes),
}

impl RowsArgument {
    fn into_rows(self) -> PyResult<Rows> {
        match self {
            Self::Range((start, step, count)) => Ok(Rows::Range { start, step, count }),
            Self::List(bytes) => {
                let rows = numbers(&bytes)?;
                Ok(Rows::List(rows.map(u64::from_le_bytes).collect()))
            }
        }
    }
}

fn numbers(bytes: &[u8]) -> PyResult<impl Iterator<Item = [u8; 8]>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        let message = format!("{} bytes are no 64-bit numbers", bytes.len());
        return Err(PyValueError::new_err(message));
    }
    Ok(numbers.iter().copied())
}

fn weights((bytes, samples): (PyBackedBytes, u64)) -> PyResult<Weights> {
    let weights: Vec<f64> = numbers(&bytes)?.map(f64::from_le_bytes).collect();
    Weights::new(&weights, samples).map_err(to_python)
}

/// A sample order and a pipeline over a dataset.
#[pyclass(frozen, name = "Loader", module = "fastshard._fastshard")]
pub(crate) struct PyLoader {
    dataset: Arc<Dataset>,
    view: View,
    spec: Spec,
    /// The loader of the process that made it.
    own: Own<Arc<Loader>>,
    /// A forked child makes its own, since threads of its parent may have been changing the other at the fork; by
    /// process, as it may fork again.
    child: Mutex<Option<(u32, Arc<Loader>)>>,
}

impl PyLoader {
    fn loader(&self, py: Python<'_>) -> PyResult<Arc<Loader>> {
        if let Some(loader) = self.own.here() {
            return Ok(loader.clone());
        }
        let process = std::process::id();
        if let Some(known) = self.known(process) {
            return Ok(known);
        }
        let made = Arc::new(detached(py, || {
            let dataset = Arc::new(self.dataset.reopen()?);
            Loader::new(dataset, self.view.clone(), self.spec.clone())
        })?);
        if let Some(known) = self.known(process) {
            return Ok(known);
        }
        if let Ok(mut child) = self.child.try_lock() {
            *child = Some((process, made.clone()));
        }
        Ok(made)
    }

    /// The loader of a forked child. The lock is held for an instant only: if it can't be had, it was at another fork.
    fn known(&self, process: u32) -> Option<Arc<Loader>> {
        let child = self.child.try_lock().ok()?;
        let (_, loader) = child.as_ref().filter(|(of, _)| *of == process)?;
        Some(loader.clone())
    }
}

#[pymethods]
impl PyLoader {
    #[new]
    #[pyo3(signature = (dataset, rows, weights, spec))]
    fn new(
        py: Python<'_>,
        dataset: &Bound<'_, PyDataset>,
        rows: Option<RowsArgument>,
        weights: Option<(PyBackedBytes, u64)>,
        spec: &str,
    ) -> PyResult<Self> {
        let dataset = dataset.get().inner.clone();
        let rows = match rows {
            Some(rows) => rows.into_rows()?,
            None => Rows::Range {
                start: 0,
                step: 1,
                count: dataset.rows(),
            },
        };
        let weights = weights.map(|given| guarded(|| self::weights(given)));
        let weights = weights.transpose()?;
        let view = View { rows, weights };
        let spec: Spec = parse("loader options", spec)?;
        let loader = detached(py, || {
            Loader::new(dataset.clone(), view.clone(), spec.clone())
        })?;
        Ok(Self {
            dataset,
            view,
            spec,
            own: Own::new(Arc::new(loader), FORKED),
            child: Mutex::default(),
        })
    }

    fn batches(&self, py: Python<'_>, start: u64) -> PyResult<u64> {
        guarded(|| Ok(self.loader(py)?.batches(start)))
    }

    #[getter]
    fn num_samples(&self) -> u64 {
        self.view.samples()
    }

    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyOutput<'py>>> {
        let loader = self.loader(py)?;
        let outputs = guarded(|| Ok(loader.outputs()))?.into_iter().map(|output| {
            let list = if output.text { "str" } else { "bytes" };
            let dtype = output
                .dtype
                .map_or(list, fastshard_core::schema::Dtype::name);
            let rows = match output.rows {
                BatchRows::Samples => "samples",
                BatchRows::Elements => "elements",
                BatchRows::Bounds => "bounds",
            };
            Ok((output.name, dtype, rows, PyTuple::new(py, output.shape)?))
        });
        outputs.collect()
    }

    fn iterate(
        &self,
        py: Python<'_>,
        epoch: u64,
        start: u64,
        first: u64,
        step: u64,
        views: bool,
    ) -> PyResult<PyBatchIterator> {
        let pass = Pass {
            epoch,
            start,
            first,
            step,
            views,
        };
        let loader = self.loader(py)?;
        let batches = detached(py, || loader.iterate(pass))?;
        Ok(PyBatchIterator {
            stopper: batches.stopper(),
            inner: Own::new(Mutex::new(batches), FORKED),
            handed_over: AtomicU64::new(0),
        })
    }

    fn keeping(&self, py: Python<'_>) -> PyResult<String> {
        serde_json::to_string(self.loader(py)?.keeping())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<String> {
        serde_json::to_string(&self.loader(py)?.stats())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn cache_filled(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let loader = self.loader(py)?;
        detached(py, || Ok(loader.cache_filled()))
    }

    fn cache_counts(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        Ok(self.loader(py)?.cache_counts())
    }

    fn take_cache_problems(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.loader(py)?.take_cache_problems())
    }

    fn skipped(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.loader(py)?.skipped())
    }

    fn num_skipped(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.loader(py)?.num_skipped())
    }
}

/// Native threads that fill batches ahead of the consumer. Any number of threads may ask for batches, and close it.
#[pyclass(frozen, name = "BatchIterator", module = "fastshard._fastshard")]
pub(crate) struct PyBatchIterator {
    inner: Own<Mutex<Batches>>,
    stopper: Stopper,
    handed_over: AtomicU64,
}

impl PyBatchIterator {
    fn poll(&self, py: Python<'_>) -> PyResult<Poll> {
        let mut guard = lock(py, self.inner.get()?)?;
        let batches = &mut *guard;
        let polled = py.detach(|| batches.poll(SLICE));
        (self.handed_over).store(batches.handed_over(), Ordering::Relaxed);
        polled.map_err(to_python)
    }

    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            match self.poll(py)? {
                Poll::End => return Ok(None),
                Poll::Pending => py.check_signals()?,
                Poll::Ready(batch) => {
                    let fields = PyDict::new(py);
                    for field in batch.fields {
                        fields.set_item(field.name, array::to_python(py, field.values)?)?;
                    }
                    return Ok(Some(fields));
                }
            }
        }
    }
}

#[pymethods]
impl PyBatchIterator {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        guarded(|| self.wait(py))
    }

    #[getter]
    fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(inner) = self.inner.here() else {
            return Ok(()); // The threads are those of the parent, which goes on.
        };
        self.stopper.stop();
        let mut guard = lock(py, inner)?;
        let batches = &mut *guard;
        detached(py, || {
            batches.close();
            Ok(())
        })
    }
}
