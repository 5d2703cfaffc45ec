//! What containers hold, as far as it is as usual.

use pyo3::prelude::*;

use fastshard_core::ingest::{FeatureKind, usual_example, usual_tar_member};

#[pyfunction]
pub(crate) fn usual_features(
    data: &[u8],
    start: usize,
    end: usize,
) -> Option<Vec<(&str, &'static str, usize, usize)>> {
    let features = usual_example(data.get(start..end)?)?;
    let each = features.into_iter().map(|feature| {
        let kind = match feature.kind {
            FeatureKind::Bytes => "bytes",
            FeatureKind::Float => "float",
            FeatureKind::Int64 => "int64",
        };
        let (from, to) = (feature.values.start, feature.values.end);
        (feature.name, kind, start + from, start + to)
    });
    Some(each.collect())
}

#[pyfunction]
pub(crate) fn usual_member(data: &[u8]) -> Option<(&str, u64, usize)> {
    let member = usual_tar_member(data)?;
    Some((member.name, member.size, member.headers))
}
