//! A sound shard of lists, texts and bytes, of which single words are changed: offsets above all.
//!
//! Input: pairs of a place (16 bits, which word of the block) and what to write there (32 bits).

#![no_main]

mod reading;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, UInt16Array};
use fastshard_core::format::{BlockEntry, Manifest};
use fastshard_core::ingest::{Job, PackSpec};
use fastshard_core::schema::Field;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

struct Template {
    fields: Vec<Field>,
    block: BlockEntry,
    shard: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let Template { fields, block, shard } = TEMPLATE.get_or_init(template);
    let mut shard = shard.clone();
    let start = block.offset as usize;
    let words = (block.metadata_bytes + block.body_bytes) as usize / 4;
    for patch in data.chunks_exact(6) {
        let word = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % words;
        shard[start + 4 * word..][..4].copy_from_slice(&patch[2..]);
    }
    reading::read_shard(fields.clone(), block.clone(), &shard);
});

/// Packs a few rows.
fn template() -> Template {
    let path = reading::folder().join("template");
    let lists = [vec![1, 2, 3], vec![], vec![4], vec![5, 6]];
    let batch = RecordBatch::try_from_iter([
        ("ids", list(lists.clone())),
        ("more", list(lists)),
        ("text", Arc::new(StringArray::from(vec!["a", "", "bcd", "ef"])) as ArrayRef),
        ("blob", Arc::new(BinaryArray::from_vec(vec![b"x", b"", b"yz", b"0123"])) as ArrayRef),
        ("number", Arc::new(UInt16Array::from(vec![1, 2, 3, 4])) as ArrayRef),
    ])
    .unwrap();
    let spec: PackSpec = serde_json::from_value(json!({
        "fields": [
            {"name": "ids", "type": "list", "dtype": "int32"},
            {"name": "more", "type": "list", "dtype": "int32"},
            {"name": "text", "type": "text"},
            {"name": "blob", "type": "bytes"},
            {"name": "number", "type": "scalar", "dtype": "uint16"},
        ],
        "ops": [], "encode": "original", "seekable": "no", "metadata": "keep", "quality": 90, "max_pixels": 1,
        "check": "header", "shard_size": 1 << 20, "num_threads": 1, "on_error": "raise", "overwrite": true,
        "shuffle_seed": null, "provenance": null,
    }))
    .unwrap();
    let mut job = Job::stream(&path, spec).unwrap();
    assert!(job.push(&batch, Duration::from_secs(1)).unwrap());
    job.end_stream(None);
    while job.wait(Duration::from_secs(1)).unwrap().is_none() {}
    let manifest = Manifest::read(&path).unwrap();
    let entry = &manifest.shards[0];
    let shard = std::fs::read(path.join(&entry.file)).unwrap();
    Template { fields: manifest.fields.clone(), block: entry.blocks[0].clone(), shard }
}

fn list(values: [Vec<i32>; 4]) -> ArrayRef {
    let rows = values.map(|row| Some(row.into_iter().map(Some).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows))
}
