//! The folder of decoded pixels.

use std::time::UNIX_EPOCH;

use fastshard_core::cache::Folder;
use pyo3::prelude::*;

use crate::error::to_python;

/// File, description, bytes, bytes when full, seconds since 1970 when it was last used, whether it is in use.
type Entry = (String, String, u64, u64, f64, bool);

#[pyfunction]
pub(crate) fn list_cache(folder: &str) -> PyResult<Vec<Entry>> {
    let listed = Folder::open(folder, None).and_then(|folder| folder.list());
    let entries = listed.map_err(to_python)?.into_iter().map(|entry| {
        let used = entry.used.duration_since(UNIX_EPOCH).unwrap_or_default();
        (
            entry.path.to_string_lossy().into_owned(),
            entry.description,
            entry.bytes,
            entry.full_bytes,
            used.as_secs_f64(),
            entry.in_use,
        )
    });
    Ok(entries.collect())
}

#[pyfunction]
pub(crate) fn clear_cache(py: Python<'_>, folder: &str) -> PyResult<(u64, u64)> {
    let clear = || Folder::open(folder, None)?.clear();
    py.detach(clear).map_err(to_python)
}
