//! The folder of decoded pixels.

use std::time::UNIX_EPOCH;

use fastshard_core::cache::Folder;
use pyo3::prelude::*;

use crate::guard::detached;

/// File, description, bytes, bytes when full, seconds since 1970 when it was last used, whether it is in use.
type Entry = (String, String, u64, u64, f64, bool);

#[pyfunction]
pub(crate) fn list_cache(py: Python<'_>, folder: &str) -> PyResult<Vec<Entry>> {
    let listed = detached(py, || Folder::open(folder, None)?.list())?;
    let entries = listed.into_iter().map(|entry| {
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
    detached(py, || Folder::open(folder, None)?.clear())
}
