//! Loader and batch iterator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastshard_core::Dataset;
use fastshard_core::order::{Rows, View, Weights};
use fastshard_core::pipeline::{Batches, Loader, Pass, Poll, Rows as BatchRows, Spec};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyTuple};

use crate::array;
use crate::dataset::{PyDataset, parse};
use crate::error::to_python;

/// How long the consumer waits before it looks for signals.
const SLICE: Duration = Duration::from_millis(50);

/// An array of a batch: its name, dtype, what its first dimension counts, and its other dimensions.
type PyOutput<'py> = (String, &'static str, &'static str, Bound<'py, PyTuple>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    /// The process that made the loader, and the loader. A forked child makes its own, since locks of its parent may
    /// have been held at the fork.
    inner: Mutex<(u32, Arc<Loader>)>,
}

impl PyLoader {
    fn loader(&self) -> PyResult<Arc<Loader>> {
        let mut inner = lock(&self.inner);
        if inner.0 != std::process::id() {
            let dataset = self.dataset.reopen().map_err(to_python)?;
            let loader = Loader::new(Arc::new(dataset), self.view.clone(), self.spec.clone())
                .map_err(to_python)?;
            *inner = (std::process::id(), Arc::new(loader));
        }
        Ok(inner.1.clone())
    }
}

#[pymethods]
impl PyLoader {
    #[new]
    #[pyo3(signature = (dataset, rows, weights, spec))]
    fn new(
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
        let weights = weights.map(self::weights).transpose()?;
        let view = View { rows, weights };
        let spec: Spec = parse("loader options", spec)?;
        let loader = Loader::new(dataset.clone(), view.clone(), spec.clone()).map_err(to_python)?;
        Ok(Self {
            dataset,
            view,
            spec,
            inner: Mutex::new((std::process::id(), Arc::new(loader))),
        })
    }

    fn batches(&self, start: u64) -> PyResult<u64> {
        Ok(self.loader()?.batches(start))
    }

    #[getter]
    fn num_samples(&self) -> u64 {
        self.view.samples()
    }

    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyOutput<'py>>> {
        let outputs = self.loader()?.outputs().into_iter().map(|output| {
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
        let batches = self.loader()?.iterate(pass).map_err(to_python)?;
        Ok(PyBatchIterator {
            inner: Mutex::new(batches),
        })
    }

    fn keeping(&self) -> PyResult<String> {
        serde_json::to_string(self.loader()?.keeping())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn stats(&self) -> PyResult<String> {
        serde_json::to_string(&self.loader()?.stats())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn cache_filled(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let loader = self.loader()?;
        Ok(py.detach(|| loader.cache_filled()))
    }

    fn cache_counts(&self) -> PyResult<(u64, u64)> {
        Ok(self.loader()?.cache_counts())
    }

    fn take_cache_problems(&self) -> PyResult<Vec<String>> {
        Ok(self.loader()?.take_cache_problems())
    }

    fn skipped(&self) -> PyResult<Vec<String>> {
        Ok(self.loader()?.skipped())
    }

    fn num_skipped(&self) -> PyResult<u64> {
        Ok(self.loader()?.num_skipped())
    }
}

/// Native threads that fill batches ahead of the consumer.
#[pyclass(frozen, name = "BatchIterator", module = "fastshard._fastshard")]
pub(crate) struct PyBatchIterator {
    inner: Mutex<Batches>,
}

#[pymethods]
impl PyBatchIterator {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            match py
                .detach(|| lock(&self.inner).poll(SLICE))
                .map_err(to_python)?
            {
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

    #[getter]
    fn handed_over(&self) -> u64 {
        lock(&self.inner).handed_over()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| lock(&self.inner).close());
    }
}
