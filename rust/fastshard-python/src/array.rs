//! Batch memory as `NumPy` sees it: through the array interface, which keeps this object, and with it the lease, alive.

use fastshard_core::pipeline::{Memory, Values};
use fastshard_core::schema::Dtype;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// One field of one batch.
#[pyclass(frozen, name = "Array", module = "fastshard._fastshard")]
pub(crate) struct PyArray {
    memory: Memory,
    address: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl PyArray {
    pub(crate) fn owned(bytes: Vec<u8>, dtype: Dtype, shape: Vec<usize>) -> Self {
        let memory = std::sync::Arc::new(bytes);
        Self {
            address: memory.as_ptr() as usize,
            memory: Memory::Owned(memory),
            dtype,
            shape,
        }
    }
}

#[pymethods]
impl PyArray {
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype.name()
    }

    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let read_only = matches!(self.memory, Memory::Mapped(_));
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", self.dtype.typestr())?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item("data", (self.address, read_only))?;
        Ok(interface)
    }
}

/// A field's values as Python gets them.
pub(crate) fn to_python(py: Python<'_>, values: Values) -> PyResult<Bound<'_, PyAny>> {
    match values {
        Values::Array {
            memory,
            address,
            dtype,
            shape,
        } => {
            let array = PyArray {
                memory,
                address: address as usize,
                dtype,
                shape,
            };
            Ok(Bound::new(py, array)?.into_any())
        }
        Values::Text(texts) => Ok(texts.into_pyobject(py)?.into_any()),
        Values::Bytes(items) => {
            let items = items.iter().map(|item| pyo3::types::PyBytes::new(py, item));
            Ok(pyo3::types::PyList::new(py, items)?.into_any())
        }
    }
}
