//! Cutting a source into units (blocks to be) and shards, before any file is read: the cut depends on the source and the
//! options only, so a pack that was stopped finds the same shards again.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};

use super::spec::{Encode, PackSpec};
use crate::error::{Error, Result};
use crate::order::Permutation;
use crate::schema::{Field, Kind};

/// Aimed at for blocks that hold variable-length values.
pub(super) const BLOCK_BYTES: u64 = 16 << 20;
/// Aimed at for blocks of fixed-size rows, which are best long, as views end where blocks do.
const FIXED_BLOCK_BYTES: u64 = 32 << 20;
const BLOCK_ROWS: u64 = 1 << 18;
const VARIABLE_BLOCK_ROWS: u64 = 1 << 16;

/// A run of rows that becomes one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) shard: usize,
    /// Positions in the pack's order.
    pub(super) positions: Range<u64>,
}

/// Files to pack: the table as it came, and what the file system says.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) root: PathBuf,
    pub(super) table: RecordBatch,
    /// Length and modification time of the files of each row.
    pub(super) stats: Vec<(u64, u128)>,
    order: Option<Permutation>,
}

impl Files {
    pub(super) fn new(root: PathBuf, table: RecordBatch, spec: &PackSpec) -> Result<Self> {
        let files: Vec<_> = spec.fields.iter().filter(|field| field.is_file()).collect();
        let mut stats = vec![(0, 0); table.num_rows()];
        for field in files {
            let paths = paths(&table, &field.name)?;
            for (row, stat) in stats.iter_mut().enumerate() {
                let path = join(&root, paths.value(row), row)?;
                // A file that can't be looked at is met again when it is read, where `on_error` decides.
                let Ok(found) = std::fs::metadata(&path) else {
                    continue;
                };
                let modified = found
                    .modified()
                    .ok()
                    .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
                stat.0 += found.len();
                stat.1 = stat.1.max(modified.map_or(0, |time| time.as_nanos()));
            }
        }
        let order = spec
            .shuffle_seed
            .map(|seed| Permutation::new(table.num_rows() as u64, seed, 0));
        Ok(Self {
            root,
            table,
            stats,
            order,
        })
    }

    /// The source's row at a position of the pack's order.
    pub(super) fn row(&self, position: u64) -> u64 {
        self.order
            .as_ref()
            .map_or(position, |order| order.at(position))
    }

    /// Ties an unfinished pack to its source and options.
    pub(super) fn fingerprint(&self, spec: &PackSpec) -> String {
        let mut hash = blake3::Hasher::new();
        let spec = PackSpec {
            num_threads: 0,
            overwrite: false,
            ..spec.clone()
        };
        hash.update(&serde_json::to_vec(&spec).expect("plain data"));
        hash.update(env!("CARGO_PKG_VERSION").as_bytes());
        hash.update(self.root.as_os_str().as_encoded_bytes());
        for column in self.table.columns() {
            hash_array(&mut hash, &column.to_data());
        }
        for (bytes, modified) in &self.stats {
            hash.update(&bytes.to_le_bytes());
            hash.update(&modified.to_le_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    /// The cut.
    pub(super) fn units(&self, spec: &PackSpec, stored: &[Field]) -> Vec<Unit> {
        let fixed: u64 = stored
            .iter()
            .map(|field| field.fixed_bytes().unwrap_or(16) as u64)
            .sum();
        let raw = spec.encode == Encode::Raw;
        let only_fixed = raw && stored.iter().all(|field| field.fixed_bytes().is_some());
        let audio = stored.iter().any(|field| field.kind == Kind::Audio);
        // No block is larger than a shard is meant to be.
        let block = BLOCK_BYTES.min(spec.shard_size);
        let rows_most = if only_fixed {
            fixed_block_rows(fixed, spec.shard_size)
        } else {
            VARIABLE_BLOCK_ROWS
        };
        let mut units: Vec<Unit> = Vec::new();
        let (mut shard, mut shard_bytes, mut unit_bytes) = (0, 0, 0);
        for position in 0..self.table.num_rows() as u64 {
            let file = if raw && !audio {
                0
            } else {
                self.stats[self.row(position) as usize].0
            };
            let bytes = fixed + file;
            let full = units.last().is_none_or(|unit| {
                let rows = unit.positions.end - unit.positions.start;
                rows >= rows_most || (!only_fixed && unit_bytes + bytes > block)
            });
            if full {
                if shard_bytes > 0 && shard_bytes + bytes > spec.shard_size {
                    (shard, shard_bytes) = (shard + 1, 0);
                }
                units.push(Unit {
                    shard,
                    positions: position..position,
                });
                unit_bytes = 0;
            }
            // A shard ends with a block, so it may go over its size by less than one.
            let unit = units
                .last_mut()
                .expect("one was just pushed if there was none");
            unit.positions.end = position + 1;
            unit_bytes += bytes;
            shard_bytes += bytes;
        }
        units
    }
}

/// A power of two, so that batches of the usual sizes never straddle two blocks.
fn fixed_block_rows(row_bytes: u64, shard_size: u64) -> u64 {
    let rows = (FIXED_BLOCK_BYTES.min(shard_size) / row_bytes.max(1)).clamp(1, BLOCK_ROWS);
    1 << rows.ilog2()
}

fn hash_array(hash: &mut blake3::Hasher, data: &arrow_data::ArrayData) {
    hash.update(&(data.len() as u64).to_le_bytes());
    for buffer in data.buffers() {
        hash.update(buffer.as_slice());
    }
    for child in data.child_data() {
        hash_array(hash, child);
    }
}

pub(super) fn paths<'a>(
    table: &'a RecordBatch,
    field: &str,
) -> Result<&'a arrow_array::StringArray> {
    table
        .column_by_name(field)
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| Error::source(format!("field {field:?}: expected a column of paths")))
}

/// The path of a row's file, which must not leave the source folder.
pub(super) fn join(root: &Path, relative: &str, row: usize) -> Result<PathBuf> {
    let inside = Path::new(relative)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if relative.is_empty() || !inside {
        return Err(Error::source(format!(
            "row {row}: path {relative:?} leaves the source folder"
        )));
    }
    Ok(root.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let root = Path::new("root");
        assert_eq!(join(root, "a/b.png", 0).unwrap(), Path::new("root/a/b.png"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a/../x"] {
            assert!(join(root, bad, 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fixed_blocks_hold_a_power_of_two() {
        assert_eq!(fixed_block_rows(224 * 224 * 3, 1 << 28), 128);
        assert_eq!(fixed_block_rows(120, 1 << 28), 1 << 18);
        assert_eq!(fixed_block_rows(1 << 30, 1 << 28), 1);
        assert_eq!(fixed_block_rows(1000, 1 << 16), 64);
    }
}
