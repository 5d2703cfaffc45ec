//! A packed dataset.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use fastshard_core::dataset::Place;
use fastshard_core::format::{Column, text_of};
use fastshard_core::imaging::read_image;
use fastshard_core::pipeline::read_audio;
use fastshard_core::schema::Dtype;
use fastshard_core::transform::Operation;
use fastshard_core::{Access, Dataset, Error};
use numpy::PyUntypedArray;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::array;
use crate::arrow::{PyBlock, PySchema};
use crate::error::to_python;
use crate::guard::{detached, guarded};

/// Rows that are checked between two looks at signals.
const CHECKED_ROWS: usize = 1024;

/// A packed dataset, mapped.
#[pyclass(frozen, name = "Dataset", module = "fastshard._fastshard")]
pub(crate) struct PyDataset {
    pub(crate) inner: Arc<Dataset>,
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| PyValueError::new_err(format!("{what}: {error}")))
}

fn number<'py>(py: Python<'py>, dtype: Dtype, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("a scalar has its type's size")
    }
    match dtype {
        Dtype::Bool => (bytes[0] != 0).into_bound_py_any(py),
        Dtype::Uint8 => bytes[0].into_bound_py_any(py),
        Dtype::Int8 => i8::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Uint16 => u16::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Int16 => i16::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Uint32 => u32::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Int32 => i32::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Uint64 => u64::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Int64 => i64::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Float16 => half::f16::from_le_bytes(array(bytes))
            .to_f32()
            .into_bound_py_any(py),
        Dtype::Bfloat16 => half::bf16::from_le_bytes(array(bytes))
            .to_f32()
            .into_bound_py_any(py),
        Dtype::Float32 => f32::from_le_bytes(array(bytes)).into_bound_py_any(py),
        Dtype::Float64 => f64::from_le_bytes(array(bytes)).into_bound_py_any(py),
    }
}

impl PyDataset {
    fn value<'py>(
        &self,
        py: Python<'py>,
        place: &Place<'_>,
        index: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let field = &self.inner.fields()[index];
        match place.block.column(index) {
            Column::Fixed { values, row_bytes } => {
                let (dtype, shape) = field.fixed().expect("stored as fixed");
                let bytes = &values[place.row * row_bytes..][..*row_bytes];
                if shape.is_empty() {
                    return number(py, dtype, bytes);
                }
                array::owned(py, bytes.to_vec(), dtype, shape)
            }
            Column::List {
                offsets,
                values,
                item_bytes,
            } => {
                let (dtype, item) = field.list().expect("stored as a list");
                let [start, end] = [0, 1].map(|at| offsets[place.row + at] as usize);
                let mut shape = vec![end - start];
                shape.extend_from_slice(item);
                let bytes = values[start * item_bytes..end * item_bytes].to_vec();
                array::owned(py, bytes, dtype, &shape)
            }
            Column::Text(texts) => text_of(texts, place.row)
                .map_err(to_python)?
                .into_bound_py_any(py),
            Column::Bytes(bytes) | Column::Image { bytes, .. } | Column::Audio { bytes, .. } => {
                Ok(PyBytes::new(py, bytes.value(place.row)).into_any())
            }
        }
    }
}

#[pymethods]
impl PyDataset {
    #[new]
    #[pyo3(signature = (path, copy_on_write = false))]
    fn new(py: Python<'_>, path: PathBuf, copy_on_write: bool) -> PyResult<Self> {
        let access = if copy_on_write {
            Access::CopyOnWrite
        } else {
            Access::Read
        };
        let inner = detached(py, || Dataset::open(path, access))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn in_memory(
        fields: &str,
        rows: u64,
        arrays: Vec<Bound<'_, PyUntypedArray>>,
    ) -> PyResult<Self> {
        let values = arrays.iter().map(array::buffer).collect::<PyResult<_>>()?;
        let fields = parse("fields", fields)?;
        let made = || Dataset::in_memory(fields, rows, values).map_err(to_python);
        let inner = guarded(made)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn concat(parts: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let parts: Vec<_> = parts.iter().map(|part| part.inner.clone()).collect();
        let inner = guarded(|| Dataset::concat(&parts).map_err(to_python))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn sources(&self) -> Vec<(PathBuf, &str)> {
        let sources = self.inner.sources().iter();
        sources
            .map(|source| (source.path.clone(), source.fingerprint.as_str()))
            .collect()
    }

    #[getter]
    fn num_rows(&self) -> u64 {
        self.inner.rows()
    }

    #[getter]
    fn num_blocks(&self) -> u64 {
        self.inner.blocks()
    }

    #[getter]
    fn schema(&self) -> PySchema {
        let schema = self.inner.schema();
        PySchema { schema }
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn block(&self, py: Python<'_>, at: u64, fields: Vec<String>) -> PyResult<PyBlock> {
        let read = || {
            let fields = fields.iter().map(|name| self.inner.field(name));
            self.inner
                .batch(at, &fields.collect::<Result<Vec<_>, _>>()?)
        };
        match detached(py, read)? {
            Some(batch) => Ok(PyBlock { batch }),
            None => Err(PyValueError::new_err("arrays in memory are no blocks")),
        }
    }

    fn manifest(&self) -> PyResult<String> {
        serde_json::to_string(self.inner.manifest())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn row<'py>(
        &self,
        py: Python<'py>,
        row: u64,
        fields: Vec<String>,
        ops: HashMap<String, String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| self.sample(py, row, fields, &ops))
    }

    fn check(&self, py: Python<'_>, rows: &[u8]) -> PyResult<()> {
        let (numbers, rest) = rows.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(PyValueError::new_err("rows: expected 8 bytes each"));
        }
        for part in numbers.chunks(CHECKED_ROWS) {
            let part = part.iter().map(|bytes| u64::from_le_bytes(*bytes));
            detached(py, || self.inner.check_rows(part))?;
            py.check_signals()?;
        }
        Ok(())
    }

    fn encoded<'py>(
        &self,
        py: Python<'py>,
        row: u64,
        field: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, String)> {
        guarded(|| self.file(py, row, field))
    }
}

impl PyDataset {
    fn sample<'py>(
        &self,
        py: Python<'py>,
        row: u64,
        fields: Vec<String>,
        ops: &HashMap<String, String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let sample = PyDict::new(py);
        for name in fields {
            let index = self.inner.field(&name).map_err(to_python)?;
            let operations: Vec<Operation> = ops
                .get(&name)
                .map_or(Ok(Vec::new()), |json| parse(&name, json))?;
            let image = detached(py, || read_image(&self.inner, row, &name, &operations))?;
            if let Some(image) = image {
                sample.set_item(
                    name,
                    array::owned(py, image.bytes, image.dtype, &image.shape)?,
                )?;
                continue;
            }
            let sound = detached(py, || read_audio(&self.inner, row, &name))?;
            if let Some(sound) = sound {
                let array = array::owned(py, sound.bytes, Dtype::Float32, &sound.shape)?;
                sample.set_item(format!("{name}_sample_rate"), sound.sample_rate)?;
                sample.set_item(name, array)?;
                continue;
            }
            let place = self.inner.locate(row).map_err(to_python)?;
            self.inner.check(&place).map_err(to_python)?;
            sample.set_item(name, self.value(py, &place, index)?)?;
            self.inner.check_lost(&place).map_err(to_python)?;
        }
        Ok(sample)
    }

    fn file<'py>(
        &self,
        py: Python<'py>,
        row: u64,
        field: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, String)> {
        let index = self.inner.field(field).map_err(to_python)?;
        let place = self.inner.locate(row).map_err(to_python)?;
        self.inner.check(&place).map_err(to_python)?;
        match place.block.column(index) {
            Column::Image { bytes, path, .. } | Column::Audio { bytes, path, .. } => Ok((
                PyBytes::new(py, bytes.value(place.row)),
                text_of(path, place.row).map_err(to_python)?.to_owned(),
            )),
            _ => Err(to_python(Error::Option {
                reason: format!("field {field:?} holds no encoded images or audio"),
            })),
        }
    }
}
