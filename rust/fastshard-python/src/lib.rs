//! The binding: one wrapper a noun of the core. Each method extracts, works detached from the interpreter, converts.

mod array;
mod arrow;
mod cache;
mod coco;
mod containers;
mod dataset;
mod error;
mod files;
mod guard;
mod loader;
mod pack;
mod verify;

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use fastshard_core::codec::{AudioFormat, Format, LIBJPEG_TURBO};
use fastshard_core::memory;
use fastshard_core::order::Permutation;

use crate::guard::{detached, guarded};

#[pyfunction]
fn image_format(data: &[u8]) -> PyResult<Option<&'static str>> {
    guarded(|| Ok(Format::of(data).map(Format::name)))
}

#[pyfunction]
#[pyo3(signature = (data, start = 0, end = None))]
fn crc32c(data: &[u8], start: usize, end: Option<usize>) -> PyResult<u32> {
    let part = data.get(start..end.unwrap_or(data.len()));
    let part = part.ok_or_else(|| {
        pyo3::exceptions::PyValueError::new_err(format!(
            "bytes {start} to {end:?} of {}",
            data.len()
        ))
    })?;
    Ok(fastshard_core::crc32c(part))
}

#[pyfunction]
fn audio_format(data: &[u8]) -> PyResult<Option<&'static str>> {
    guarded(|| Ok(AudioFormat::of(data).map(AudioFormat::name)))
}

#[pyfunction]
fn available_threads() -> usize {
    fastshard_core::available_threads()
}

#[pyfunction]
fn permutation(
    py: Python<'_>,
    count: u64,
    seed: u64,
    epoch: u64,
    start: u64,
    length: u64,
) -> PyResult<Bound<'_, PyBytes>> {
    let end = start
        .checked_add(length)
        .filter(|&end| end <= count && count <= 1 << 62);
    let end = end.ok_or_else(|| {
        pyo3::exceptions::PyValueError::new_err(format!(
            "positions {start} to {start} + {length} of {count} rows"
        ))
    })?;
    let permutation = Permutation::new(count, seed, epoch);
    let row = |at| permutation.at(at).to_le_bytes();
    let bytes = usize::try_from(length.saturating_mul(8)).unwrap_or(usize::MAX);
    memory::check(bytes as u64)
        .map_err(|denied| denied.of(format!("a permutation of {length} rows"), "use fewer rows"))
        .map_err(error::to_python)?;
    PyBytes::new_with(py, bytes, |rows| {
        let places = rows.as_chunks_mut::<8>().0;
        detached(py, || {
            (places.iter_mut().zip(start..end)).for_each(|(place, at)| *place = row(at));
            Ok(())
        })
    })
}

#[pyfunction]
fn build_info() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("version", env!("CARGO_PKG_VERSION")),
        (
            "profile",
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        ),
        ("libjpeg_turbo", LIBJPEG_TURBO),
        // `turbojpeg-sys` is built with `require-simd`: without an assembler the build fails.
        ("simd", "required"),
    ])
}

/// The native core of fastshard.
#[pymodule]
mod _fastshard {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::{audio_format, available_threads, build_info, crc32c, image_format, permutation};
    #[pymodule_export]
    use crate::arrow::{PyBlock, PySchema};
    #[pymodule_export]
    use crate::cache::{clear_cache, list_cache};
    #[pymodule_export]
    use crate::coco::read_coco;
    #[pymodule_export]
    use crate::containers::{usual_features, usual_member};
    #[pymodule_export]
    use crate::dataset::PyDataset;
    #[pymodule_export]
    use crate::error::{CorruptionError, DecodeError, FastshardError, FormatError};
    #[pymodule_export]
    use crate::files::{finish_replacing, replace_folder, sync_file_system};
    #[pymodule_export]
    use crate::loader::{PyBatchIterator, PyLoader};
    #[pymodule_export]
    use crate::pack::PyPackJob;
    #[pymodule_export]
    use crate::verify::PyVerifyJob;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        fastshard_core::install_hook();
        crate::error::add_attributes(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("SourceError", crate::error::source_error(module.py())?)?;
        Ok(())
    }
}
