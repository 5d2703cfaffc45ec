//! A manifest: refused, or sound. Whatever is asked of a sound one has an answer.

#![no_main]

use std::path::Path;

use fastshard_core::format::{Manifest, arrow_schema};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(manifest) = Manifest::parse(Path::new("manifest.json"), text) else {
        return;
    };
    let schema = arrow_schema(&manifest.fields, manifest.source_paths, manifest.version);
    assert!(schema.fields().len() > manifest.fields.len());
    for shard in &manifest.shards {
        assert!(!shard.file.contains(['/', '\\']));
        assert_eq!(shard.rows, shard.blocks.iter().map(|block| block.rows).sum::<u64>());
    }
    let again = serde_json::to_vec(&manifest).unwrap();
    let again = Manifest::parse(Path::new("manifest.json"), &again).unwrap();
    assert_eq!(again.fingerprint, manifest.fingerprint);
});
