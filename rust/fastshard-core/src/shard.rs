//! One shard: mapped at the first touch, its blocks parsed at theirs.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;

use crate::caught::caught;
use crate::checksums::Chunks;
use crate::error::{Error, Result};
use crate::format::{self, Block, ShardEntry};
use crate::mapping::{self, Access, Mapped, guard};
use crate::schema::Field;

/// A shard of an open dataset.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    entry: ShardEntry,
    access: Access,
    /// The version of the format that it was written in.
    version: u32,
    data: OnceLock<Mapped>,
    chunks: OnceLock<Option<Chunks>>,
    blocks: Vec<OnceLock<Arc<Block>>>,
}

impl Shard {
    /// Checks that the file is there and as long as it should be; nothing is mapped yet.
    pub(crate) fn open(
        folder: &Path,
        entry: ShardEntry,
        access: Access,
        version: u32,
    ) -> Result<Self> {
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
            version,
            data: OnceLock::new(),
            chunks: OnceLock::new(),
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
            version: format::VERSION,
            data: OnceLock::new(),
            chunks: OnceLock::new(),
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
        if let Some(mapped) = self.data.get() {
            return Ok(&mapped.data);
        }
        let mapped = mapping::map(&self.path, self.entry.bytes, self.access)?;
        Ok(&self.data.get_or_init(|| mapped).data)
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
        // The manifest's own check has seen to it that the sum fits in the file.
        let length = (entry.metadata_bytes + entry.body_bytes) as usize;
        let message = self
            .data()?
            .slice_with_length(entry.offset as usize, length);
        let header = entry.metadata_bytes as usize;
        let parse = || {
            let read = format::read_message(schema, &message, header, entry.rows)?;
            let block = Block::new(&read.batch, fields)?;
            let index = block.index_crc(
                &message[..header],
                (self.version >= 4).then_some(read.index),
            );
            Ok((block, index))
        };
        // The block's own reader takes every message; this is for the arrays that Arrow makes of it.
        let parsed = caught("reading it", || Ok(parse()));
        let parsed = parsed.unwrap_or_else(|_| Err("a message that Arrow can't read".into()));
        self.check_lost()?;
        let (block, index) = parsed.map_err(bad)?;
        // Fuzzed blocks never match theirs, and are to be read.
        if index != entry.index_crc32c && !cfg!(fuzzing) {
            return Err(bad(
                "its index is not the one in the manifest: altered, or swapped with another shard"
                    .into(),
            ));
        }
        Ok(block)
    }

    /// Raises the error of a file that shrank, or can't be read any more, while it is mapped.
    #[inline]
    pub(crate) fn check_lost(&self) -> Result<()> {
        if guard::any_lost() && self.data.get().is_some_and(Mapped::lost) {
            return Err(self.gone());
        }
        Ok(())
    }

    #[cold]
    fn gone(&self) -> Error {
        let reason = match std::fs::metadata(&self.path) {
            Ok(found) if found.len() < self.entry.bytes => {
                format!("truncated to {} of {} bytes", found.len(), self.entry.bytes)
            }
            _ => "truncated, or the disk failed to read it,".into(),
        };
        let advice = "replace datasets with overwrite instead of changing their files";
        Error::corrupt(&self.path, format!("{reason} while it was open; {advice}"))
    }

    /// The checksums of the file by the chunk, if it has any that can be read.
    fn chunks(&self) -> Option<&Chunks> {
        let read = || {
            let entry = self.entry.chunks.as_ref()?;
            let data = &self.data().ok()?[..];
            let end = entry.offset.checked_add(entry.bytes)?;
            let text = data.get(entry.offset as usize..usize::try_from(end).ok()?)?;
            let sound = crc32c::crc32c(text) == entry.crc32c;
            sound.then(|| Chunks::parse(text, usize::try_from(entry.covered).ok()?))?
        };
        self.chunks.get_or_init(read).as_ref()
    }

    /// Whether bytes of the mapped file are as they were written, as far as its checksums by the chunk tell; false says
    /// that the rows' own must be asked. Nothing is known of bytes in memory, nor of shards older than version 4.
    pub(crate) fn is_sound(&self, bytes: &[u8]) -> bool {
        let Some(data) = self.data.get().map(|mapped| &mapped.data[..]) else {
            return self.entry.bytes == 0;
        };
        if self.entry.chunks.is_none() {
            return true;
        }
        let sound = |chunks: &Chunks| {
            if self.check_lost().is_err() {
                chunks.forget();
            }
            chunks.check(data, &range_in(data, bytes))
        };
        self.chunks().is_some_and(sound) && self.check_lost().is_ok()
    }

    /// Whether it lists checksums by the chunk; shards older than version 4 don't.
    pub(crate) fn has_chunks(&self) -> bool {
        self.entry.chunks.is_some()
    }

    /// The same as far as it is known by now, without reading anything.
    pub(crate) fn is_known_sound(&self, bytes: &[u8]) -> bool {
        let Some(mapped) = self.data.get() else {
            return self.entry.bytes == 0;
        };
        if self.entry.chunks.is_none() {
            return true;
        }
        let known = |chunks: &Chunks| chunks.are_sound(&range_in(&mapped.data, bytes));
        self.chunks().is_some_and(known)
    }
}

/// The place of bytes of a mapped file in it.
fn range_in(file: &[u8], bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr().addr().wrapping_sub(file.as_ptr().addr());
    start..start.wrapping_add(bytes.len())
}
