//! One shard: mapped at the first touch, its blocks parsed at theirs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_buffer::Buffer;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block as IpcBlock, MetadataVersion};
use arrow_schema::SchemaRef;

use crate::error::{Error, Result};
use crate::format::{Block, ShardEntry};
use crate::mapping::{self, Access};
use crate::schema::Field;

/// A shard of an open dataset.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    entry: ShardEntry,
    access: Access,
    data: OnceLock<Buffer>,
    blocks: Vec<OnceLock<Arc<Block>>>,
}

impl Shard {
    /// Checks that the file is there and as long as it should be; nothing is mapped yet.
    pub(crate) fn open(folder: &Path, entry: ShardEntry, access: Access) -> Result<Self> {
        let path = folder.join(&entry.file);
        let found = std::fs::metadata(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::corrupt(&path, "missing"),
            _ => Error::io(&path)(source),
        })?;
        if !found.is_file() {
            return Err(Error::format(&path, "not a regular file"));
        }
        mapping::check_length(&path, entry.bytes, found.len())?;
        Ok(Self {
            path,
            access,
            data: OnceLock::new(),
            blocks: entry.blocks.iter().map(|_| OnceLock::new()).collect(),
            entry,
        })
    }

    /// A shard that is no file but one block in memory.
    pub(crate) fn in_memory(entry: ShardEntry, block: Block) -> Self {
        Self {
            path: PathBuf::from(&entry.file),
            entry,
            access: Access::CopyOnWrite,
            data: OnceLock::new(),
            blocks: vec![OnceLock::from(Arc::new(block))],
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the manifest says of it.
    #[must_use]
    pub fn entry(&self) -> &ShardEntry {
        &self.entry
    }

    /// What may be done to views of it.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The mapped file.
    pub(crate) fn data(&self) -> Result<&Buffer> {
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let data = mapping::map(&self.path, self.entry.bytes, self.access)?;
        Ok(self.data.get_or_init(|| data))
    }

    /// A block, parsed and tied to the manifest at the first call.
    pub(crate) fn block(
        &self,
        at: usize,
        schema: &SchemaRef,
        fields: &[Field],
    ) -> Result<&Arc<Block>> {
        if let Some(block) = self.blocks[at].get() {
            return Ok(block);
        }
        let block = Arc::new(self.parse(at, schema, fields)?);
        Ok(self.blocks[at].get_or_init(|| block))
    }

    fn parse(&self, at: usize, schema: &SchemaRef, fields: &[Field]) -> Result<Block> {
        let entry = &self.entry.blocks[at];
        let bad = |reason: String| Error::corrupt(&self.path, format!("block {at}: {reason}"));
        let header = i32::try_from(entry.metadata_bytes).map_err(|e| bad(e.to_string()))?;
        // The manifest's own check has seen to it that the sum fits in the file.
        let length = (entry.metadata_bytes + entry.body_bytes) as usize;
        let message = self
            .data()?
            .slice_with_length(entry.offset as usize, length);
        let place = IpcBlock::new(0, header, entry.body_bytes as i64);
        let read = || {
            FileDecoder::new(schema.clone(), MetadataVersion::V5)
                .with_require_alignment(true)
                .read_record_batch(&place, &message)
        };
        // Arrow's reader panics where a buffer lies outside of the message. It shares nothing that could be left broken.
        let batch = catch_unwind(AssertUnwindSafe(read))
            .map_err(|_| bad("a message that Arrow can't read".into()))?
            .map_err(|e| bad(e.to_string()))?
            .ok_or_else(|| bad("empty message".into()))?;
        if batch.num_rows() as u64 != entry.rows {
            return Err(bad(format!(
                "{} rows, expected {}",
                batch.num_rows(),
                entry.rows
            )));
        }
        let block = Block::new(&batch, fields, &self.path)?;
        if block.index_crc(&message[..header as usize]) != entry.index_crc32c {
            return Err(bad(
                "its index is not the one in the manifest: altered, or swapped with another shard"
                    .into(),
            ));
        }
        Ok(block)
    }
}
