//! What the manifest says of each shard and of its blocks.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One record batch of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// Where its message starts in the file.
    pub offset: u64,
    /// Length of the message's header, padding included.
    pub metadata_bytes: u64,
    /// Length of its buffers.
    pub body_bytes: u64,
    /// Rows.
    pub rows: u64,
    /// CRC32C of the header followed by the rows' checksums, and since version 4 by that of all offsets and of
    /// fastshard's own columns: ties a block to its place in the dataset.
    pub index_crc32c: u32,
}

/// Where a shard lists its checksums by the chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// Bytes of the file that they cover, from its start.
    pub covered: u64,
    /// Where their text starts in the file.
    pub offset: u64,
    /// Length of the text.
    pub bytes: u64,
    /// CRC32C of the text.
    pub crc32c: u32,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// File name, without a folder.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
    /// Its record batches.
    pub blocks: Vec<BlockEntry>,
    /// Its checksums by the chunk; since version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ChunkEntry>,
}

impl ShardEntry {
    /// The entry of rows that no file holds.
    pub(crate) fn in_memory(rows: u64) -> Self {
        Self {
            file: "(memory)".into(),
            rows,
            bytes: 0,
            blake3: String::new(),
            blocks: vec![BlockEntry {
                offset: 0,
                metadata_bytes: 0,
                body_bytes: 0,
                rows,
                index_crc32c: 0,
            }],
            chunks: None,
        }
    }
}

impl ShardEntry {
    /// Refuses a shard whose blocks don't fit in it, or whose name leads elsewhere.
    pub(super) fn check(&self) -> Result<(), String> {
        let plain = Path::new(&self.file)
            .file_name()
            .is_some_and(|name| name == self.file.as_str());
        if !plain || self.file.contains(['/', '\\']) {
            return Err(format!(
                "shard file {:?} is not a plain file name",
                self.file
            ));
        }
        let (mut end, mut rows) = (0u64, 0u64);
        for block in &self.blocks {
            let next = block
                .offset
                .checked_add(block.metadata_bytes)
                .and_then(|at| at.checked_add(block.body_bytes));
            match next {
                Some(next) if block.offset >= end && next <= self.bytes && block.rows > 0 => {
                    end = next;
                }
                _ => {
                    return Err(format!(
                        "shard {}: block at {} does not fit in it",
                        self.file, block.offset
                    ));
                }
            }
            rows = rows.checked_add(block.rows).ok_or("too many rows")?;
        }
        if rows != self.rows {
            return Err(format!(
                "shard {}: {} rows declared, {rows} in its blocks",
                self.file, self.rows
            ));
        }
        Ok(())
    }
}
