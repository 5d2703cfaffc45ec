//! A shard and what a manifest says of it: opened, verified, and all rows read and decoded.
//!
//! Input: the fields as JSON, a line break, where the block is (offset, length of its header, of its body, and rows; 32
//! bits each), the file. Checksums pass whatever they are, since `cfg(fuzzing)` turns their comparison off.

#![no_main]

mod reading;

use fastshard_core::format::BlockEntry;
use fastshard_core::schema::{Field, check_fields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(line) = data.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let (Ok(fields), Some((numbers, shard))) =
        (serde_json::from_slice::<Vec<Field>>(&data[..line]), data[line + 1..].split_first_chunk::<16>())
    else {
        return;
    };
    if check_fields(&fields).is_err() {
        return;
    }
    let number = |at: usize| u64::from(u32::from_le_bytes(numbers[4 * at..][..4].try_into().unwrap()));
    let block = BlockEntry {
        offset: number(0),
        metadata_bytes: number(1),
        body_bytes: number(2),
        rows: number(3),
        index_crc32c: 0,
    };
    reading::read_shard(fields, block, shard);
});
