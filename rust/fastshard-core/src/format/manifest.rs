//! The manifest: written last, read first, believed only after it has been checked.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::entries::ShardEntry;
use super::ranges::FileRanges;
use crate::error::{Error, Result};
use crate::schema::Field;

/// The newest format version that this library reads.
pub const VERSION: u32 = 4;

pub(super) const FORMAT: &str = "fastshard";

/// All that is known of a dataset without touching a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `fastshard`.
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// BLAKE3 over fields and shards: equal for equal content, whenever and wherever it was packed.
    pub fingerprint: String,
    /// Rows of all shards.
    pub rows: u64,
    /// The fields.
    pub fields: Vec<Field>,
    /// Whether shards hold a `_path` column.
    pub source_paths: bool,
    /// What is known of files.
    #[serde(flatten)]
    pub ranges: FileRanges,
    /// The shards, in order.
    pub shards: Vec<ShardEntry>,
    /// Where the data came from; not interpreted.
    pub provenance: serde_json::Value,
    /// CRC32C of the provenance as compact JSON, which the fingerprint leaves out; since version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance_crc32c: Option<u32>,
    /// What else is known of fields: mean, deviation and range, columns and categories; not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<serde_json::Value>,
}

pub(super) fn provenance_crc32c(provenance: &serde_json::Value) -> u32 {
    crc32c::crc32c(provenance.to_string().as_bytes())
}

impl Manifest {
    /// A manifest of these parts.
    #[must_use]
    pub fn new(
        fields: Vec<Field>,
        source_paths: bool,
        ranges: FileRanges,
        shards: Vec<ShardEntry>,
        provenance: serde_json::Value,
    ) -> Self {
        let mut manifest = Self {
            format: FORMAT.into(),
            version: VERSION,
            fingerprint: String::new(),
            rows: shards.iter().map(|shard| shard.rows).sum(),
            fields,
            source_paths,
            ranges,
            shards,
            provenance_crc32c: Some(provenance_crc32c(&provenance)),
            provenance,
            statistics: None,
        };
        manifest.fingerprint = manifest.content_hash();
        manifest
    }

    /// With what was found out about the fields.
    #[must_use]
    pub fn with_statistics(mut self, statistics: Option<serde_json::Value>) -> Self {
        self.statistics = statistics;
        self.fingerprint = self.content_hash();
        self
    }

    /// What holds of datasets of the same fields behind each other.
    pub fn concat(parts: &[&Self]) -> Result<Self> {
        let [first, rest @ ..] = parts else {
            return Err(Error::option("no dataset, expected at least one"));
        };
        if rest.is_empty() {
            return Ok((*first).clone());
        }
        let mut whole = (*first).clone();
        for part in rest {
            whole.version = whole.version.max(part.version);
            whole.rows += part.rows;
            whole.source_paths |= part.source_paths;
            whole.shards.extend_from_slice(&part.shards);
            whole.ranges.merge(&part.ranges);
        }
        // Those of one part say nothing of the others.
        whole.statistics = None;
        whole.provenance = parts.iter().map(|part| part.provenance.clone()).collect();
        let fingerprints = parts.iter().map(|part| part.fingerprint.as_str());
        let joined = fingerprints.collect::<Vec<_>>().join("+");
        whole.fingerprint = blake3::hash(joined.as_bytes()).to_hex().to_string();
        Ok(whole)
    }

    pub(super) fn content_hash(&self) -> String {
        let mut content = vec![
            json!(self.version),
            json!(self.rows),
            json!(self.fields),
            json!(self.source_paths),
            json!(self.ranges.image_sizes),
            json!(self.shards),
        ];
        if !self.ranges.audio_ranges.is_empty() {
            content.push(json!(self.ranges.audio_ranges));
        }
        content.extend(self.statistics.clone());
        let content = serde_json::Value::Array(content);
        blake3::hash(content.to_string().as_bytes())
            .to_hex()
            .to_string()
    }
}
