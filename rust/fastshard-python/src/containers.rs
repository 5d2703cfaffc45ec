//! What containers hold, as far as it is as usual.

use pyo3::prelude::*;

use fastshard_core::ingest::{FeatureKind, usual_example, usual_tar_member};

use crate::guard::guarded;

/// Name, kind, and where the values start and end.
type Feature<'a> = (&'a str, &'static str, usize, usize);

#[pyfunction]
pub(crate) fn usual_features(
    data: &[u8],
    start: usize,
    end: usize,
) -> PyResult<Option<Vec<Feature<'_>>>> {
    guarded(|| Ok(features(data, start, end)))
}

fn features(data: &[u8], start: usize, end: usize) -> Option<Vec<Feature<'_>>> {
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
pub(crate) fn usual_member(data: &[u8]) -> PyResult<Option<(&str, u64, usize)>> {
    guarded(|| {
        let member = usual_tar_member(data);
        Ok(member.map(|member| (member.name, member.size, member.headers)))
    })
}
