//! A dataset: many shards, one index space.

use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;

use crate::error::{Error, Result};
use crate::format::{Block, Manifest, arrow_schema};
use crate::schema::Field;
use crate::shard::Shard;

/// An open dataset. Opening reads the manifest and looks at the files' lengths; shards are mapped when first touched.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    manifest: Manifest,
    schema: SchemaRef,
    shards: Vec<Shard>,
    /// First row, shard and block of each block, in order.
    starts: Vec<(u64, u32, u32)>,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its block.
    pub block: &'a Block,
    /// Its row in the block.
    pub row: usize,
    shard: usize,
}

impl Dataset {
    /// Opens the dataset in a folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let manifest = Manifest::read(path)?;
        let path = path.canonicalize().map_err(Error::io(path))?;
        let shards = manifest
            .shards
            .iter()
            .map(|entry| Shard::open(&path, entry.clone()))
            .collect::<Result<Vec<_>>>()?;
        let mut starts = Vec::new();
        let mut row = 0;
        for (shard, entry) in manifest.shards.iter().enumerate() {
            for (block, entry) in entry.blocks.iter().enumerate() {
                starts.push((row, shard as u32, block as u32));
                row += entry.rows;
            }
        }
        let schema = arrow_schema(&manifest.fields, manifest.source_paths, manifest.version);
        Ok(Self {
            path,
            manifest,
            schema,
            shards,
            starts,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.manifest.fields
    }

    /// The shards.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
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
        let block = self.shards[shard].block(block, &self.schema, self.fields())?;
        Ok(block)
    }

    /// Finds a row.
    pub fn locate(&self, row: u64) -> Result<Place<'_>> {
        if row >= self.rows() {
            return Err(Error::option(format!("row {row} of {}", self.rows())));
        }
        let at = self.starts.partition_point(|&(first, ..)| first <= row) - 1;
        let (first, shard, block) = self.starts[at];
        Ok(Place {
            block: self.block(shard as usize, block as usize)?,
            row: (row - first) as usize,
            shard: shard as usize,
        })
    }

    /// Puts dataset, shard, row and source path to what went wrong with a sample.
    #[must_use]
    pub fn blame(&self, row: u64, place: &Place<'_>, error: Error) -> Error {
        let reason = match error {
            Error::Decode { reason } => reason,
            Error::Corrupt { .. }
            | Error::Io { .. }
            | Error::Label { .. }
            | Error::Sample { .. } => return error,
            other => other.to_string(),
        };
        Error::Sample {
            dataset: self.path.clone(),
            shard: self.manifest.shards[place.shard].file.clone(),
            row,
            source_path: place.block.source_path(place.row).to_owned(),
            reason,
        }
    }

    /// The error of a row whose checksum doesn't match.
    #[must_use]
    pub fn corrupt_row(&self, row: u64, place: &Place<'_>, reason: &str) -> Error {
        let source = place.block.source_path(place.row);
        Error::corrupt(
            self.shards[place.shard].path(),
            format!("row {row} (source {source:?}): {reason}"),
        )
    }
}
