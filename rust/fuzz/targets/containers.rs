//! A member of a tar archive, or an Example of a TFRecord file, as all writers write them: found where it is, or left to
//! the reader that takes everything. The first byte chooses.

#![no_main]

use fastshard_core::ingest::{FeatureKind, usual_example, usual_tar_member};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match data {
        [0, archive @ ..] => tar(archive),
        [_, record @ ..] => example(record),
        [] => {}
    }
});

/// All members, one after the other.
fn tar(mut rest: &[u8]) {
    while let Some(member) = usual_tar_member(rest) {
        assert!(member.headers <= rest.len() && member.headers.is_multiple_of(512));
        assert!(!member.name.is_empty() && !member.name.starts_with('/') && !member.name.contains(".."));
        let Some(padded) = member.size.checked_next_multiple_of(512) else {
            return;
        };
        let length = (member.headers as u64).saturating_add(padded);
        let Some(next) = usize::try_from(length).ok().and_then(|length| rest.get(length..)) else {
            return;
        };
        rest = next;
    }
}

fn example(record: &[u8]) {
    let Some(features) = usual_example(record) else {
        return;
    };
    let mut end = 0;
    for feature in features {
        let values = feature.values;
        assert!(end <= values.start && values.start <= values.end && values.end <= record.len());
        assert!(feature.kind != FeatureKind::Float || values.len().is_multiple_of(4));
        end = values.end;
    }
}
