//! Where blocks are written to: shards, one after the other, and the entries that become the manifest.
//!
//! Blocks arrive in order, each with the number of its shard. A shard is opened at its first block and finished when a
//! block of a later shard arrives: first its footer is written, then a note of it (entry, ranges, skipped rows) to the
//! staging folder. A shard whose note exists is complete, so an interrupted pack takes the note over and writes
//! nothing. A shard whose rows were all skipped has a note but no file.

use serde::Serialize;

use super::build::{Builder, Built};
use super::staging::{Finished, SkippedRow, Staging, shard_name};
use crate::error::{Error, Result};
use crate::format::{FileRanges, Manifest};
use crate::writer::ShardWriter;

/// What a pack has written.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rows in all shards.
    pub rows: u64,
    /// Shards of the dataset.
    pub shards: usize,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Shards that an earlier, interrupted pack had finished.
    pub resumed_shards: usize,
    /// Rows that were left out, and why.
    pub skipped: Vec<SkippedRow>,
    /// Why the dataset that was replaced could not be removed, if it couldn't.
    pub left: Option<String>,
}

/// Writes blocks to shards, and collects their entries for the manifest.
pub(super) struct Shards<'a> {
    staging: &'a Staging,
    builder: &'a Builder,
    number: usize,
    writer: Option<ShardWriter>,
    open: Finished,
    finished: Vec<Finished>,
    resumed: usize,
}

fn nothing_yet() -> Finished {
    Finished {
        entry: None,
        ranges: FileRanges::default(),
        skipped: Vec::new(),
    }
}

impl<'a> Shards<'a> {
    pub(super) fn new(staging: &'a Staging, builder: &'a Builder) -> Self {
        Self {
            staging,
            builder,
            number: 0,
            writer: None,
            open: nothing_yet(),
            finished: Vec::new(),
            resumed: 0,
        }
    }

    /// Goes on to a shard: ends the shards before it, or takes over those that an earlier try finished.
    pub(super) fn switch(&mut self, number: usize) -> Result<()> {
        while self.number < number {
            self.end()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(finished) = self.staging.finished(self.number) {
            self.finished.push(finished);
            self.resumed += 1;
        } else {
            if let Some(writer) = self.writer.take() {
                self.open.entry = Some(writer.finish(&self.builder.stored)?);
            }
            let finished = std::mem::replace(&mut self.open, nothing_yet());
            self.staging.finish(self.number, &finished)?;
            self.finished.push(finished);
        }
        self.number += 1;
        Ok(())
    }

    pub(super) fn write(&mut self, built: Built) -> Result<()> {
        self.open.ranges.merge(&built.ranges);
        self.open.skipped.extend(built.skipped);
        let Some(batch) = built.batch else {
            return Ok(());
        };
        if self.writer.is_none() {
            let name = shard_name(self.number);
            self.writer = Some(ShardWriter::create(
                self.staging.folder(),
                &name,
                &self.builder.schema,
            )?);
        }
        self.writer.as_mut().expect("just made").write(&batch)?;
        self.builder.room.give_back(batch);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(Manifest, Report)> {
        self.end()?;
        let mut ranges = FileRanges::default();
        let (mut shards, mut skipped) = (Vec::new(), Vec::new());
        for finished in self.finished {
            ranges.merge(&finished.ranges);
            shards.extend(finished.entry);
            skipped.extend(finished.skipped);
        }
        if shards.is_empty() {
            return Err(Error::source(
                "nothing to pack: no rows, or all of them were skipped",
            ));
        }
        let builder = self.builder;
        let report = Report {
            rows: shards.iter().map(|shard| shard.rows).sum(),
            shards: shards.len(),
            bytes: shards.iter().map(|shard| shard.bytes).sum(),
            resumed_shards: self.resumed,
            skipped,
            left: None,
        };
        let provenance = builder.spec.provenance.clone();
        let manifest = Manifest::new(
            builder.stored.clone(),
            builder.source_paths,
            ranges,
            shards,
            provenance,
        );
        Ok((manifest, report))
    }
}
