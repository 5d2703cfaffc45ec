//! Reading a manifest: its text is measured, parsed and checked before anybody believes it.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::manifest::{FORMAT, Manifest, VERSION, provenance_crc32c};
use super::{MANIFEST, manifest_check};
use crate::error::{Error, Result};
use crate::regular;

/// A manifest of a petabyte has tens of megabytes; anything beyond this isn't one.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u32>,
}

impl Manifest {
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
        manifest_check::check(&manifest).map_err(bad)?;
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

    /// A manifest that was made, if readers accept it.
    pub(crate) fn checked(self) -> Result<Self> {
        match manifest_check::check(&self) {
            Ok(()) => Ok(self),
            Err(reason) => Err(Error::source(format!(
                "the dataset could not be opened again: {reason}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::format::{AudioRanges, BlockEntry, FileRanges, ImageSizes, ShardEntry};
    use crate::schema::Field;

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
