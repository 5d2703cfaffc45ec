//! The manifest: written last, read first, believed only after it has been checked.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{MANIFEST, manifest_check};
use crate::error::{Error, Result};
use crate::regular;
use crate::schema::{Field, check_fields};

/// The newest format version that this library reads.
pub const VERSION: u32 = 4;

const FORMAT: &str = "fastshard";

/// A manifest of a petabyte has tens of megabytes; anything beyond this isn't one.
const MAX_BYTES: u64 = 1 << 30;

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

/// The smallest and largest sizes among the images of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ImageSizes {
    pub min_width: u32,
    pub max_width: u32,
    pub min_height: u32,
    pub max_height: u32,
}

impl ImageSizes {
    /// The range of one image.
    #[must_use]
    pub fn of(width: u32, height: u32) -> Self {
        Self {
            min_width: width,
            max_width: width,
            min_height: height,
            max_height: height,
        }
    }

    /// The range of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min_width: self.min_width.min(other.min_width),
            max_width: self.max_width.max(other.max_width),
            min_height: self.min_height.min(other.min_height),
            max_height: self.max_height.max(other.max_height),
        }
    }

    /// Width and height, if all images share them. No image is empty: of those that are said to be, nothing is known.
    #[must_use]
    pub fn uniform(self) -> Option<(u32, u32)> {
        let same = self.min_width == self.max_width && self.min_height == self.max_height;
        (same && self.min_width > 0 && self.min_height > 0)
            .then_some((self.min_width, self.min_height))
    }
}

/// The least and the most among the files of an audio field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AudioRanges {
    pub min_sample_rate: u32,
    pub max_sample_rate: u32,
    pub min_channels: u16,
    pub max_channels: u16,
    pub min_frames: u64,
    pub max_frames: u64,
}

impl AudioRanges {
    /// The ranges of one file.
    #[must_use]
    pub fn of(sample_rate: u32, channels: u16, frames: u64) -> Self {
        Self {
            min_sample_rate: sample_rate,
            max_sample_rate: sample_rate,
            min_channels: channels,
            max_channels: channels,
            min_frames: frames,
            max_frames: frames,
        }
    }

    /// The ranges of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min_sample_rate: self.min_sample_rate.min(other.min_sample_rate),
            max_sample_rate: self.max_sample_rate.max(other.max_sample_rate),
            min_channels: self.min_channels.min(other.min_channels),
            max_channels: self.max_channels.max(other.max_channels),
            min_frames: self.min_frames.min(other.min_frames),
            max_frames: self.max_frames.max(other.max_frames),
        }
    }

    /// The sample rate, if all files share it.
    #[must_use]
    pub fn sample_rate(self) -> Option<u32> {
        (self.min_sample_rate == self.max_sample_rate).then_some(self.min_sample_rate)
    }

    /// The number of channels, if all files share it.
    #[must_use]
    pub fn channels(self) -> Option<u16> {
        (self.min_channels == self.max_channels).then_some(self.min_channels)
    }

    /// The number of frames, if all files share it.
    #[must_use]
    pub fn frames(self) -> Option<u64> {
        (self.min_frames == self.max_frames).then_some(self.min_frames)
    }
}

/// What is known of the files of a dataset's fields, by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRanges {
    /// Range of sizes for each image field.
    pub image_sizes: BTreeMap<String, ImageSizes>,
    /// Ranges for each audio field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audio_ranges: BTreeMap<String, AudioRanges>,
}

fn merge<T: Copy>(
    into: &mut BTreeMap<String, T>,
    other: &BTreeMap<String, T>,
    union: fn(T, T) -> T,
) {
    for (field, ranges) in other {
        into.entry(field.clone())
            .and_modify(|known| *known = union(*known, *ranges))
            .or_insert(*ranges);
    }
}

impl FileRanges {
    /// Takes in what is known of other rows of the same fields.
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.image_sizes, &other.image_sizes, ImageSizes::union);
        merge(
            &mut self.audio_ranges,
            &other.audio_ranges,
            AudioRanges::union,
        );
    }
}

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

fn provenance_crc32c(provenance: &serde_json::Value) -> u32 {
    crc32c::crc32c(provenance.to_string().as_bytes())
}

#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u32>,
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

    fn content_hash(&self) -> String {
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

    /// Reads and checks the manifest of a dataset folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if folder.exists() && !folder.is_dir() {
            return Err(Error::format(
                folder,
                "a file, expected the folder of a dataset",
            ));
        }
        if !folder.is_dir() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::io(folder)(missing));
        }
        let file = match regular::open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let reason = "no manifest.json here, so this is not a finished fastshard dataset";
                return Err(Error::format(folder, reason));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(Error::format(&path, error.to_string()));
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let length = file.metadata().map_err(Error::io(&path))?.len();
        if length > MAX_BYTES {
            return Err(Error::format(
                &path,
                format!("{length} bytes is too long for a manifest"),
            ));
        }
        let mut text = Vec::with_capacity(length as usize);
        file.take(MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(Error::io(&path))?;
        Self::parse(&path, &text)
    }

    /// Parses and checks a manifest; the path is for messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::format(path, reason);
        manifest_check::check_size(text).map_err(bad)?;
        let head: Head =
            serde_json::from_slice(text).map_err(|e| bad(format!("not a manifest: {e}")))?;
        if head.format.as_deref() != Some(FORMAT) {
            return Err(bad(format!(
                "format is {:?}, expected {FORMAT:?}",
                head.format
            )));
        }
        match head.version {
            Some(1..=VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(bad(format!(
                    "written in format version {version}, but this fastshard reads up to {VERSION}; please upgrade"
                )));
            }
            version => return Err(bad(format!("format version {version:?} is not one"))),
        }
        let manifest: Self =
            serde_json::from_slice(text).map_err(|e| bad(format!("not a manifest: {e}")))?;
        manifest.check().map_err(bad)?;
        let found = manifest.content_hash();
        if found != manifest.fingerprint {
            return Err(Error::corrupt(
                path,
                format!(
                    "altered: its fingerprint is {} but its content gives {found}",
                    manifest.fingerprint
                ),
            ));
        }
        manifest
            .check_provenance()
            .map_err(|what| Error::corrupt(path, what))?;
        Ok(manifest)
    }

    /// Exports take the categories of COCO from there, and people believe it.
    fn check_provenance(&self) -> Result<(), String> {
        if self.version < 4 {
            return Ok(());
        }
        let found = provenance_crc32c(&self.provenance);
        if self.provenance_crc32c == Some(found) {
            return Ok(());
        }
        let said = self
            .provenance_crc32c
            .map_or("missing".into(), |crc| crc.to_string());
        Err(format!(
            "altered: its provenance_crc32c is {said} but its provenance gives {found}"
        ))
    }

    fn check(&self) -> Result<(), String> {
        check_fields(&self.fields).map_err(|error| error.to_string())?;
        let mut names = HashSet::new();
        let mut rows = 0u64;
        for shard in &self.shards {
            shard.check()?;
            if !names.insert(&shard.file) {
                return Err(format!("shard {} is listed twice", shard.file));
            }
            rows = rows.checked_add(shard.rows).ok_or("too many rows")?;
        }
        // Half of the positions a signed index can name: room for all arithmetic on them.
        if rows != self.rows || rows > 1 << 62 {
            return Err(format!("{} rows declared, {rows} in the shards", self.rows));
        }
        manifest_check::check(self)
    }

    /// The same, held against what readers accept.
    pub(crate) fn checked(self) -> Result<Self> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(reason) => Err(Error::source(format!(
                "the dataset could not be opened again: {reason}"
            ))),
        }
    }
}

impl ShardEntry {
    fn check(&self) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let block = BlockEntry {
            offset: 64,
            metadata_bytes: 64,
            body_bytes: 128,
            rows: 2,
            index_crc32c: 7,
        };
        let shard = ShardEntry {
            file: "shard-00000.arrow".into(),
            rows: 2,
            bytes: 512,
            blake3: "00".into(),
            blocks: vec![block],
            chunks: None,
        };
        let field = serde_json::from_str(r#"{"name":"caption","type":"text"}"#).unwrap();
        Manifest::new(
            vec![field],
            false,
            FileRanges::default(),
            vec![shard],
            json!({"kind": "test"}),
        )
    }

    fn field(json: &str) -> Field {
        serde_json::from_str(json).unwrap()
    }

    fn sizes(manifest: &mut Manifest, field: &str, sizes: ImageSizes) {
        manifest.ranges.image_sizes.insert(field.into(), sizes);
    }

    fn image(manifest: &mut Manifest, found: ImageSizes) {
        manifest
            .fields
            .push(field(r#"{"name":"image","type":"image"}"#));
        sizes(manifest, "image", found);
    }

    fn known(manifest: &mut Manifest, statistics: serde_json::Value) {
        let numbers = r#"{"name":"x","type":"tensor","dtype":"float32","shape":[2]}"#;
        manifest.fields.push(field(numbers));
        manifest.statistics = Some(statistics);
    }

    #[test]
    fn reads_what_packing_finds_out() {
        let mut whole = manifest();
        image(&mut whole, ImageSizes::of(3, 5));
        let numbers = json!({"mean": [1, 2.5], "std": [0, 1], "min": [-1, 0], "max": [4, 5],
            "columns": ["a", "b"], "categories": {"b": ["x", "y"]}});
        known(&mut whole, json!({"x": numbers}));
        whole.fingerprint = whole.content_hash();
        assert_eq!(parse(&whole).unwrap(), whole);
        let nothing = Manifest::new(
            vec![field(r#"{"name":"image","type":"image"}"#)],
            false,
            FileRanges::default(),
            vec![],
            json!(null),
        );
        assert_eq!(parse(&nothing).unwrap(), nothing);
    }

    fn parse(manifest: &Manifest) -> Result<Manifest> {
        Manifest::parse(
            Path::new("m.json"),
            serde_json::to_string(manifest).unwrap().as_bytes(),
        )
    }

    #[test]
    fn round_trips() {
        assert_eq!(parse(&manifest()).unwrap(), manifest());
    }

    type Change = fn(&mut Manifest);

    fn refuses(changes: &[(&str, Change)]) {
        for (expected, change) in changes {
            let mut bad = manifest();
            change(&mut bad);
            let error = parse(&bad).unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{error:?} should say {expected:?}"
            );
        }
    }

    #[test]
    fn refuses_each_malformation() {
        let changes: &[(&str, Change)] = &[
            ("expected \"fastshard\"", |m| m.format = "other".into()),
            ("please upgrade", |m| m.version = VERSION + 1),
            ("is not one", |m| m.version = 0),
            ("altered", |m| m.shards[0].blake3 = "01".into()),
            ("plain file name", |m| m.shards[0].file = "../x".into()),
            ("does not fit", |m| m.shards[0].blocks[0].body_bytes = 4096),
            ("does not fit", |m| m.shards[0].blocks[0].offset = u64::MAX),
            ("rows declared", |m| m.rows = 3),
            ("listed twice", |m| m.shards.push(m.shards[0].clone())),
        ];
        refuses(changes);
        assert!(Manifest::parse(Path::new("m"), b"{").is_err());
        assert!(Manifest::parse(Path::new("m"), b"[]").is_err());
    }

    #[test]
    fn refuses_shards_and_fields_that_do_not_fit() {
        let changes: &[(&str, Change)] = &[
            ("plain file name", |m| m.shards[0].file = "a\0b".into()),
            ("plain file name", |m| {
                m.shards[0].file = "a\u{1b}[31m".into();
            }),
            ("plain file name", |m| m.shards[0].file = "a".repeat(256)),
            ("no rows", |m| {
                (m.rows, m.shards[0].rows) = (0, 0);
                m.shards[0].blocks.clear();
            }),
            ("has 33 rows in 128 bytes", |m| {
                (m.rows, m.shards[0].rows, m.shards[0].blocks[0].rows) = (33, 33, 33);
            }),
            ("rows in 128 bytes", |m| {
                let rows = 1 << 62;
                (m.rows, m.shards[0].rows, m.shards[0].blocks[0].rows) = (rows, rows, rows);
            }),
            ("expected at least 76 bytes a row", |m| {
                m.fields.push(field(
                    r#"{"name":"x","type":"tensor","dtype":"float32","shape":[18]}"#,
                ));
            }),
        ];
        refuses(changes);
    }

    #[test]
    fn refuses_what_is_not_true_of_the_fields() {
        let changes: &[(&str, Change)] = &[
            ("image_sizes of \"caption\"", |m| {
                sizes(m, "caption", ImageSizes::of(3, 5));
            }),
            ("image_sizes of \"gone\"", |m| {
                sizes(m, "gone", ImageSizes::of(3, 5));
            }),
            ("image_sizes lacks field \"image\"", |m| {
                m.fields.push(field(r#"{"name":"image","type":"image"}"#));
            }),
            ("width of \"image\": from 0 to 0", |m| {
                image(m, ImageSizes::of(0, 5));
            }),
            ("height of \"image\": from 9 to 5", |m| {
                let sizes = ImageSizes::of(3, 5);
                image(
                    m,
                    ImageSizes {
                        min_height: 9,
                        ..sizes
                    },
                );
            }),
            ("audio_ranges of \"caption\"", |m| {
                let range = AudioRanges::of(8000, 1, 1);
                m.ranges.audio_ranges.insert("caption".into(), range);
            }),
            ("frames of \"audio\": from 0 to 0", |m| {
                m.fields.push(field(r#"{"name":"audio","type":"audio"}"#));
                let range = AudioRanges::of(8000, 1, 0);
                m.ranges.audio_ranges.insert("audio".into(), range);
            }),
            ("statistics: expected an object", |m| known(m, json!("x"))),
            (
                "statistics of \"caption\", which is no field of numbers",
                |m| known(m, json!({"caption": {}})),
            ),
            ("statistics of \"gone\"", |m| known(m, json!({"gone": {}}))),
            ("statistics of \"x\": expected an object", |m| {
                known(m, json!({"x": null}));
            }),
            ("std: expected numbers of shape [2]", |m| {
                known(m, json!({"x": {"mean": [1, 2]}}));
            }),
            ("mean: expected numbers of shape [2]", |m| {
                known(
                    m,
                    json!({"x": {"mean": "x", "std": [1, 2], "min": [1, 2], "max": [1, 2]}}),
                );
            }),
            ("max: expected numbers of shape [2]", |m| {
                known(
                    m,
                    json!({"x": {"mean": [1, 2], "std": [1, 2], "min": [1, 2], "max": [1]}}),
                );
            }),
            ("std: expected numbers of at least 0", |m| {
                known(
                    m,
                    json!({"x": {"mean": [1, 2], "std": [1, -2], "min": [1, 2], "max": [1, 2]}}),
                );
            }),
            ("columns: expected 2 texts", |m| {
                known(m, json!({"x": {"columns": ["a"]}}));
            }),
            ("columns: expected 2 texts", |m| {
                known(m, json!({"x": {"columns": ["a", 1]}}));
            }),
            ("categories: expected lists", |m| {
                known(m, json!({"x": {"categories": {"a": 1}}}));
            }),
            ("zero character", |m| m.fields[0].name = "a\0b".into()),
            ("class \"a\" twice", |m| {
                m.fields.push(field(
                    r#"{"name":"y","type":"class","class_names":["a","b","a"]}"#,
                ));
            }),
        ];
        refuses(changes);
    }
}
