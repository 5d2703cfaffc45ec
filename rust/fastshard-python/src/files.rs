//! What writing files of other formats needs of the core.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::guard::detached;

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn replace_folder(py: Python<'_>, new: PathBuf, old: PathBuf) -> PyResult<PathBuf> {
    detached(py, || fastshard_core::replace_folder(&new, &old))
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn finish_replacing(py: Python<'_>, folder: PathBuf) -> PyResult<()> {
    detached(py, || fastshard_core::finish_replacing(&folder))
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn sync_file_system(py: Python<'_>, folder: PathBuf) -> PyResult<()> {
    detached(py, || fastshard_core::sync_file_system(&folder))
}
