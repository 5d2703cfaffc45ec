//! A dataset: many shards, one index space.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;

use crate::block_index::BlockIndex;
use crate::error::{Error, Result};
use crate::format::{Block, Column, FileRanges, Manifest, ShardEntry, VERSION, arrow_schema};
use crate::mapping::{self, Access, Scratch, guard};
use crate::schema::{Field, check_fields};
use crate::shard::Shard;

/// A folder that was opened, and what was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder.
    pub path: PathBuf,
    /// The fingerprint in its manifest.
    pub fingerprint: String,
}

/// An open dataset. Opening reads the manifest and looks at the files' lengths; shards are mapped when first touched.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// One folder, or those that were put behind each other; none for arrays in memory.
    sources: Vec<Source>,
    manifest: Manifest,
    /// Each with the schema that its version of the format has.
    shards: Vec<(Arc<Shard>, SchemaRef)>,
    index: BlockIndex,
    access: Access,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its block.
    pub block: &'a Block,
    /// Its row in the block.
    pub row: usize,
    /// Its row in the dataset.
    pub number: u64,
    shard: usize,
}

/// A part of a mapped shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    shard: &'a Shard,
    bytes: &'a [u8],
}

impl Piece<'_> {
    /// The same in parts of so many bytes.
    pub(crate) fn parts(self, bytes: usize) -> impl Iterator<Item = Self> {
        let shard = self.shard;
        (self.bytes.chunks(bytes)).map(move |bytes| Self { shard, bytes })
    }

    /// As `mapping::done_with`.
    pub(crate) fn done_with(&self) {
        mapping::done_with(self.bytes, self.shard.access());
    }

    /// As `mapping::is_in_memory`; also where that can't be found out, since then there is nothing to read.
    pub(crate) fn is_in_memory(&self) -> bool {
        let place = self.place().ok();
        place.is_none_or(|place| mapping::is_in_memory(self.shard.path(), place).unwrap_or(true))
    }

    /// As `mapping::read`. Should that fail, so will whoever needs the bytes, and say so.
    pub(crate) fn read(&self, scratch: &mut Scratch, cancelled: &AtomicBool) {
        if let Ok(place) = self.place() {
            let _ = mapping::read(self.shard.path(), place, scratch, cancelled);
        }
    }

    /// Where it lies in the file.
    fn place(&self) -> Result<Range<u64>> {
        let offset = self.bytes.as_ptr().addr() - self.shard.data()?.as_ptr().addr();
        Ok(offset as u64..(offset + self.bytes.len()) as u64)
    }
}

impl Dataset {
    /// Opens the dataset in a folder.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref();
        let manifest = Manifest::read(path)?;
        let path = path.canonicalize().map_err(Error::io(path))?;
        let schema = arrow_schema(&manifest.fields, manifest.source_paths, manifest.version);
        let open = |entry: &ShardEntry| {
            let shard = Shard::open(&path, entry.clone(), access, manifest.version)?;
            Ok((Arc::new(shard), schema.clone()))
        };
        let shards = manifest.shards.iter().map(open).collect::<Result<_>>()?;
        let fingerprint = manifest.fingerprint.clone();
        let sources = vec![Source { path, fingerprint }];
        Ok(Self::of(sources, manifest, shards, access))
    }

    /// Arrays in memory as a dataset of one block: a buffer for each field, all of them of fixed size. Nothing is
    /// copied, and the fingerprint is that of their types and shapes.
    pub fn in_memory(fields: Vec<Field>, rows: u64, values: Vec<Buffer>) -> Result<Self> {
        check_fields(&fields)?;
        let mut columns = Vec::new();
        for (field, values) in fields.iter().zip(values) {
            let row_bytes = field.fixed_bytes();
            match row_bytes {
                Some(row_bytes)
                    if rows.checked_mul(row_bytes as u64) == Some(values.len() as u64) =>
                {
                    columns.push(Column::Fixed { values, row_bytes });
                }
                _ => {
                    let (name, bytes) = (&field.name, values.len());
                    return Err(Error::option(format!(
                        "field {name:?}: {bytes} bytes, expected {rows} rows of {row_bytes:?}"
                    )));
                }
            }
        }
        let schema = arrow_schema(&fields, false, VERSION);
        let entry = ShardEntry::in_memory(rows);
        let manifest = Manifest::new(
            fields,
            false,
            FileRanges::default(),
            vec![entry.clone()],
            serde_json::Value::Null,
        );
        let shard = Shard::in_memory(entry, Block::in_memory(rows as usize, columns));
        let shards = vec![(Arc::new(shard), schema)];
        Ok(Self::of(Vec::new(), manifest, shards, Access::CopyOnWrite))
    }

    fn of(
        sources: Vec<Source>,
        manifest: Manifest,
        shards: Vec<(Arc<Shard>, SchemaRef)>,
        access: Access,
    ) -> Self {
        Self {
            sources,
            index: BlockIndex::new(&manifest),
            manifest,
            shards,
            access,
        }
    }

    /// What may be done to views of it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Datasets of the same fields behind each other, as one; they share what is mapped.
    pub fn concat(parts: &[Arc<Self>]) -> Result<Self> {
        let manifests: Vec<_> = parts.iter().map(|part| &part.manifest).collect();
        for part in &parts[1.min(parts.len())..] {
            check_alike(&parts[0], part)?;
        }
        if parts.len() > 1 && parts.iter().any(|part| part.sources.is_empty()) {
            return Err(Error::option(
                "arrays in memory can't be put behind other data; concatenate the arrays",
            ));
        }
        let sources = parts.iter().flat_map(|part| part.sources.clone()).collect();
        let shards = parts.iter().flat_map(|part| part.shards.clone()).collect();
        // Views may be written to only if none of them may not.
        let reads = parts.iter().any(|part| part.access == Access::Read);
        let access = if reads {
            Access::Read
        } else {
            Access::CopyOnWrite
        };
        let manifest = Manifest::concat(&manifests)?;
        Ok(Self::of(sources, manifest, shards, access))
    }

    /// Opens the same folders once more; arrays in memory are still there.
    pub fn reopen(&self) -> Result<Self> {
        if self.sources.is_empty() {
            return Ok(self.clone());
        }
        let open = |source: &Source| {
            let dataset = Self::open(&source.path, self.access)?;
            if dataset.manifest.fingerprint == source.fingerprint {
                return Ok(Arc::new(dataset));
            }
            let path = source.path.display();
            Err(Error::State {
                reason: format!("{path}: replaced by another dataset since it was opened"),
            })
        };
        Self::concat(&self.sources.iter().map(open).collect::<Result<Vec<_>>>()?)
    }

    /// The folders, of which there is more than one for what was concatenated.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.manifest.rows
    }

    /// Blocks, of all shards.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.index.len() as u64
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.manifest.fields
    }

    /// How many shards there are.
    #[must_use]
    pub fn num_shards(&self) -> usize {
        self.shards.len()
    }

    /// A shard.
    #[must_use]
    pub fn shard(&self, at: usize) -> &Shard {
        &self.shards[at].0
    }

    /// The place of a field in the schema.
    pub fn field(&self, name: &str) -> Result<usize> {
        let at = self.fields().iter().position(|field| field.name == name);
        at.ok_or_else(|| {
            let names: Vec<_> = self.fields().iter().map(|field| &field.name).collect();
            Error::option(format!("no field {name:?}; the dataset has {names:?}"))
        })
    }

    /// A block of a shard.
    pub(crate) fn block(&self, shard: usize, block: usize) -> Result<&Block> {
        let (shard, schema) = &self.shards[shard];
        let block = shard.block(block, schema, self.fields())?;
        Ok(block)
    }

    /// The number of the block that a row lies in, and the row's place in it.
    pub(crate) fn block_of(&self, row: u64) -> Result<(usize, usize)> {
        if row >= self.rows() {
            return Err(Error::option(format!("row {row} of {}", self.rows())));
        }
        Ok(self.index.find(row))
    }

    /// Finds a row.
    pub fn locate(&self, row: u64) -> Result<Place<'_>> {
        let (at, _) = self.block_of(row)?;
        let (first, shard, block) = self.index.starts[at];
        Ok(Place {
            block: self.block(shard as usize, block as usize)?,
            row: (row - first) as usize,
            number: row,
            shard: shard as usize,
        })
    }

    /// Compares a row with its checksum.
    pub fn check(&self, place: &Place<'_>) -> Result<()> {
        let checked = place.block.check(place.row);
        self.check_lost(place)?;
        checked.map_err(|reason| self.corrupt_row(place, &reason))
    }

    /// Compares rows with their checksums; the first that differs is an error.
    pub fn check_rows(&self, rows: impl IntoIterator<Item = u64>) -> Result<()> {
        for row in rows {
            self.check(&self.locate(row)?)?;
        }
        Ok(())
    }

    /// Raises the error of a shard that shrank while it was open: what was read of it since may be zeros.
    #[inline]
    pub fn check_lost(&self, place: &Place<'_>) -> Result<()> {
        self.shard(place.shard).check_lost()
    }

    /// The same of all shards.
    #[inline]
    pub(crate) fn check_all_lost(&self) -> Result<()> {
        if !guard::any_lost() {
            return Ok(());
        }
        self.shards
            .iter()
            .try_for_each(|(shard, _)| shard.check_lost())
    }

    /// As `Shard::is_sound`, of values in the block of a row.
    pub(crate) fn is_sound(&self, place: &Place<'_>, values: &[u8]) -> bool {
        self.shard(place.shard).is_sound(values)
    }

    /// Whether the shard of a row lists checksums by the chunk.
    pub(crate) fn has_chunks(&self, place: &Place<'_>) -> bool {
        self.shard(place.shard).has_chunks()
    }

    /// As `Shard::is_known_sound`, of values in the block of a row.
    pub(crate) fn is_known_sound(&self, place: &Place<'_>, values: &[u8]) -> bool {
        self.shard(place.shard).is_known_sound(values)
    }

    /// The schema of its blocks; concatenated datasets may lack columns of fastshard's own that the first one has.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let first = self.shards.first().map(|(_, schema)| schema.clone());
        let manifest = &self.manifest;
        first.unwrap_or_else(|| {
            arrow_schema(&manifest.fields, manifest.source_paths, manifest.version)
        })
    }

    /// A block as Arrow has it; fields of the given numbers are compared with their checksums, if they aren't files.
    pub fn batch(&self, at: u64, fields: &[usize]) -> Result<Option<RecordBatch>> {
        let Some(&(first, shard, block)) = self.index.starts.get(at as usize) else {
            return Err(Error::option(format!("block {at} of {}", self.blocks())));
        };
        let block = self.block(shard as usize, block as usize)?;
        let shard = self.shard(shard as usize);
        let is_sound = |&field: &usize| {
            self.fields()[field].is_file()
                || shard.is_sound(block.column(field).piece(0..block.rows()))
        };
        if block.batch().is_some() && !fields.iter().all(is_sound) {
            self.check_rows(first..first + block.rows() as u64)?;
        }
        shard.check_lost()?;
        Ok(block.batch().cloned())
    }

    /// Where fields of existing rows lie in files.
    pub(crate) fn pieces(&self, rows: Range<u64>, fields: &[usize]) -> Result<Vec<Piece<'_>>> {
        let (mut row, mut left) = (rows.start, rows.end - rows.start);
        let mut pieces = Vec::new();
        while left > 0 {
            let place = self.locate(row)?;
            let count = left.min((place.block.rows() - place.row) as u64);
            let part = place.row..place.row + count as usize;
            pieces.extend(fields.iter().map(|&field| Piece {
                shard: self.shard(place.shard),
                bytes: place.block.column(field).piece(part.clone()),
            }));
            (row, left) = (row + count, left - count);
        }
        Ok(pieces)
    }

    /// Puts dataset, shard, row and source path to what went wrong with a sample.
    #[must_use]
    pub fn blame(&self, row: u64, place: &Place<'_>, error: Error) -> Error {
        let reason = match error {
            Error::Decode { reason } => reason,
            Error::Memory {
                what,
                bytes,
                limit,
                advice,
            } => {
                let what = format!("{} row {row}: {what}", self.folder(place).display());
                return Error::Memory {
                    what,
                    bytes,
                    limit,
                    advice,
                };
            }
            Error::Corrupt { .. }
            | Error::CorruptRow { .. }
            | Error::Io { .. }
            | Error::Label { .. }
            | Error::Sample { .. } => return error,
            other => other.to_string(),
        };
        Error::Sample {
            dataset: self.folder(place).to_owned(),
            shard: self.manifest.shards[place.shard].file.clone(),
            row,
            source_path: place.block.source_path(place.row).into_owned(),
            reason,
        }
    }

    /// The shard that a row lies in.
    pub(crate) fn shard_of(&self, place: &Place<'_>) -> &Shard {
        self.shard(place.shard)
    }

    /// The folder that a row lies in.
    #[must_use]
    pub fn folder(&self, place: &Place<'_>) -> &Path {
        let shard = self.shard(place.shard).path();
        shard.parent().unwrap_or(shard)
    }

    /// The error of a row whose checksum doesn't match.
    #[must_use]
    pub fn corrupt_row(&self, place: &Place<'_>, reason: &str) -> Error {
        Error::CorruptRow {
            path: self.shard(place.shard).path().to_owned(),
            row: place.number,
            source_path: place.block.source_path(place.row).into_owned(),
            reason: reason.to_owned(),
        }
    }
}

fn check_alike(first: &Dataset, other: &Dataset) -> Result<()> {
    let (ours, theirs) = (first.fields(), other.fields());
    let differing = ours.iter().zip(theirs).find(|(a, b)| a != b);
    let reason = match differing {
        Some((a, b)) if a.name == b.name && a.kind == b.kind => {
            format!("field {:?} has other classes, or another shape", b.name)
        }
        Some((a, b)) => format!(
            "field {:?} ({:?}), expected {:?} ({:?})",
            b.name, b.kind, a.name, a.kind
        ),
        None if ours.len() != theirs.len() => {
            format!("{} fields, expected {}", theirs.len(), ours.len())
        }
        None => return Ok(()),
    };
    let path = |dataset: &Dataset| dataset.sources[0].path.display().to_string();
    Err(Error::option(format!(
        "{} can't be put behind {}: {reason}",
        path(other),
        path(first)
    )))
}

/// The error of a column of another kind than its field's.
pub(crate) fn not_as_planned(field: &str) -> Error {
    Error::decode(format!(
        "field {field:?} is not stored as the manifest says"
    ))
}
