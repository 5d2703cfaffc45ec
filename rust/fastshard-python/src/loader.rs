//! Loader and batch iterator.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastshard_core::order::Rows;
use fastshard_core::pipeline::{Batches, Loader, Poll, Spec};
use fastshard_core::{Dataset, Error};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyTuple};

use crate::array;
use crate::dataset::{PyDataset, parse};
use crate::error::to_python;

/// How long the consumer waits before it looks for signals.
const SLICE: Duration = Duration::from_millis(50);

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
                let (rows, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(PyValueError::new_err(format!(
                        "{} bytes are no row numbers",
                        bytes.len()
                    )));
                }
                Ok(Rows::List(
                    rows.iter().map(|row| u64::from_le_bytes(*row)).collect(),
                ))
            }
        }
    }
}

/// A sample order and a pipeline over a dataset.
#[pyclass(frozen, name = "Loader", module = "fastshard._fastshard")]
pub(crate) struct PyLoader {
    path: PathBuf,
    fingerprint: String,
    rows: Rows,
    spec: Spec,
    /// The process that made the loader, and the loader. A forked child makes its own, since locks of its parent may
    /// have been held at the fork.
    inner: Mutex<(u32, Arc<Loader>)>,
}

impl PyLoader {
    fn loader(&self) -> PyResult<Arc<Loader>> {
        let mut inner = lock(&self.inner);
        if inner.0 != std::process::id() {
            let dataset = Dataset::open(&self.path).map_err(to_python)?;
            if dataset.manifest().fingerprint != self.fingerprint {
                let reason = format!(
                    "{}: replaced by another dataset since it was opened",
                    self.path.display()
                );
                return Err(to_python(Error::State { reason }));
            }
            let loader = Loader::new(Arc::new(dataset), self.rows.clone(), self.spec.clone())
                .map_err(to_python)?;
            *inner = (std::process::id(), Arc::new(loader));
        }
        Ok(inner.1.clone())
    }
}

#[pymethods]
impl PyLoader {
    #[new]
    #[pyo3(signature = (dataset, rows, spec))]
    fn new(
        dataset: &Bound<'_, PyDataset>,
        rows: Option<RowsArgument>,
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
        let spec: Spec = parse("loader options", spec)?;
        let loader = Loader::new(dataset.clone(), rows.clone(), spec.clone()).map_err(to_python)?;
        Ok(Self {
            path: dataset.path().to_owned(),
            fingerprint: dataset.manifest().fingerprint.clone(),
            rows,
            spec,
            inner: Mutex::new((std::process::id(), Arc::new(loader))),
        })
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.loader()?.batches() as usize)
    }

    fn outputs<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Vec<(String, &'static str, Bound<'py, PyTuple>)>> {
        let outputs = self.loader()?.outputs().into_iter().map(|output| {
            let list = if output.text { "str" } else { "bytes" };
            let dtype = output
                .dtype
                .map_or(list, fastshard_core::schema::Dtype::name);
            Ok((output.name, dtype, PyTuple::new(py, output.shape)?))
        });
        outputs.collect()
    }

    fn iterate(&self, epoch: u64, first: u64, step: u64, views: bool) -> PyResult<PyBatchIterator> {
        let batches = self
            .loader()?
            .iterate(epoch, first, step, views)
            .map_err(to_python)?;
        Ok(PyBatchIterator {
            inner: Mutex::new(batches),
        })
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

    fn close(&self, py: Python<'_>) {
        py.detach(|| lock(&self.inner).close());
    }
}
