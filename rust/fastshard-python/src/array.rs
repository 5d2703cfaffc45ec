//! Batch memory as arrays of `NumPy`'s, made in its own language: a few hundred nanoseconds each, where the array
//! interface takes microseconds, as long as it takes to gather a hundred rows.

use std::ptr::NonNull;
use std::sync::Arc;

use arrow_buffer::Buffer;
use fastshard_core::Access;
use fastshard_core::pipeline::{Memory, Values};
use fastshard_core::schema::Dtype;
use numpy::npyffi::{self, NPY_ARRAY_WRITEABLE, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Memory with whatever keeps it alive; the base of its array.
#[pyclass(frozen, name = "Memory", module = "fastshard._fastshard")]
struct Owner {
    #[expect(dead_code, reason = "lives as long as the array")]
    memory: Memory,
}

/// `bfloat16`, which `NumPy` lacks, comes as its bits.
fn descr(py: Python<'_>, of: Dtype) -> Bound<'_, PyArrayDescr> {
    match of {
        Dtype::Bool => dtype::<bool>(py),
        Dtype::Uint8 => dtype::<u8>(py),
        Dtype::Uint16 | Dtype::Bfloat16 => dtype::<u16>(py),
        Dtype::Uint32 => dtype::<u32>(py),
        Dtype::Uint64 => dtype::<u64>(py),
        Dtype::Int8 => dtype::<i8>(py),
        Dtype::Int16 => dtype::<i16>(py),
        Dtype::Int32 => dtype::<i32>(py),
        Dtype::Int64 => dtype::<i64>(py),
        Dtype::Float16 => dtype::<half::f16>(py),
        Dtype::Float32 => dtype::<f32>(py),
        Dtype::Float64 => dtype::<f64>(py),
    }
}

fn array<'py>(
    py: Python<'py>,
    memory: Memory,
    address: *const u8,
    of: Dtype,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let mut dims: Vec<npy_intp> = shape.iter().map(|&size| size as npy_intp).collect();
    let flags = match memory {
        Memory::Data(_, Access::Read) => 0,
        _ => NPY_ARRAY_WRITEABLE,
    };
    let owner = Bound::new(py, Owner { memory })?;
    // SAFETY: the address is that of as many values as the shape says, in C order, in memory that the array's base
    // keeps. The descriptor and the base are handed over, as NumPy wants it; a null pointer is an error that is set.
    #[expect(unsafe_code, reason = "NumPy's interface is C")]
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, NpyTypes::PyArray_Type),
            descr(py, of).into_dtype_ptr(),
            dims.len() as i32,
            dims.as_mut_ptr(),
            std::ptr::null_mut(),
            address.cast_mut().cast(),
            flags,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}

/// An array with memory of its own.
pub(crate) fn owned<'py>(
    py: Python<'py>,
    bytes: Vec<u8>,
    dtype: Dtype,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let memory = Arc::new(bytes);
    let address = memory.as_ptr();
    array(py, Memory::Owned(memory), address, dtype, shape)
}

/// A field's values as Python gets them.
pub(crate) fn to_python(py: Python<'_>, values: Values) -> PyResult<Bound<'_, PyAny>> {
    match values {
        Values::Array {
            memory,
            address,
            dtype,
            shape,
        } => array(py, memory, address, dtype, &shape),
        Values::Text(texts) => Ok(texts.into_pyobject(py)?.into_any()),
        Values::Bytes(items) => {
            let items = items.iter().map(|item| pyo3::types::PyBytes::new(py, item));
            Ok(pyo3::types::PyList::new(py, items)?.into_any())
        }
    }
}

/// Somebody else's array, which stays where it is.
struct Held(#[expect(dead_code, reason = "keeps the array")] Py<PyAny>);

// An array that a panic left half-written, by whoever owns it, is no worse than any other.
impl std::panic::RefUnwindSafe for Held {}

/// The memory of an array in C order.
pub(crate) fn buffer(array: &Bound<'_, PyUntypedArray>) -> PyResult<Buffer> {
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err("an array that isn't C-contiguous"));
    }
    let bytes = array.len() * array.dtype().itemsize();
    let held = Arc::new(Held(array.clone().into_any().unbind()));
    // SAFETY: the array is kept as long as the buffer, and NumPy doesn't move the data of an array that others refer to.
    // Should its owner write to it meanwhile, batches hold old or new values, as they do when torch gathers them.
    #[expect(unsafe_code, reason = "NumPy's interface is C")]
    let buffer = unsafe {
        let data = (*array.as_array_ptr()).fields.data.cast::<u8>();
        let data = NonNull::new(data).unwrap_or(NonNull::dangling());
        Buffer::from_custom_allocation(data, bytes, held)
    };
    Ok(buffer)
}
