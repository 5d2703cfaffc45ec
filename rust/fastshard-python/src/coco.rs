//! COCO annotations as an Arrow table.

use std::path::PathBuf;

use arrow_ipc::writer::StreamWriter;
use fastshard_core::Error;
use fastshard_core::ingest::read_coco as read;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::guard::detached;

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn read_coco(py: Python<'_>, path: PathBuf) -> PyResult<(Bound<'_, PyBytes>, String)> {
    let (table, categories) = detached(py, || {
        let coco = read(&path)?;
        let categories = serde_json::Value::from(coco.categories).to_string();
        let bad = |error: arrow_schema::ArrowError| Error::Source {
            reason: format!("{}: {error}", path.display()),
        };
        let mut stream = StreamWriter::try_new(Vec::new(), &coco.table.schema()).map_err(bad)?;
        stream.write(&coco.table).map_err(bad)?;
        Ok((stream.into_inner().map_err(bad)?, categories))
    })?;
    Ok((PyBytes::new(py, &table), categories))
}
