//! What a manifest may say: anybody may have written it, so it is checked before a reader relies on it.
//!
//! [`check_size`] goes through the text before it is parsed, because a few bytes of JSON become many of memory. The other
//! checks look at the parsed manifest. They need nothing but the manifest, so `open` tells what is wrong with it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::entries::{BlockEntry, ShardEntry};
use super::manifest::Manifest;
use super::ranges::{AudioRanges, ImageSizes};
use crate::schema::{Field, Kind, check_fields};

/// Levels of arrays and objects: the provenance of a dataset that was packed from another one holds that one's.
const MAX_DEPTH: usize = 100;
/// Of each part that is no list of shards: a million names of files, or of classes, with room to spare.
const MAX_PART_BYTES: usize = 256 << 20;
const MAX_PART_VALUES: usize = 1 << 22;
/// Where the data came from.
const MAX_PROVENANCE_BYTES: usize = 64 << 20;
const MAX_PROVENANCE_VALUES: usize = 1 << 20;
/// Every block has the checksum of each of its rows.
const CHECKSUM_BYTES: u64 = 4;

/// One key of the manifest's object, and how much there is behind it.
#[derive(Default)]
struct Part<'a> {
    key: &'a [u8],
    start: usize,
    values: usize,
}

impl Part<'_> {
    fn check(&self, end: usize) -> Result<(), String> {
        let (bytes, values) = match self.key {
            // A list of plain numbers, of which the length of the whole text is limit enough.
            b"shards" => return Ok(()),
            b"provenance" => (MAX_PROVENANCE_BYTES, MAX_PROVENANCE_VALUES),
            _ => (MAX_PART_BYTES, MAX_PART_VALUES),
        };
        let length = end - self.start;
        if length <= bytes && self.values <= values {
            return Ok(());
        }
        Err(format!(
            "{:?} holds {} values in {length} bytes, expected at most {values} in {bytes}",
            String::from_utf8_lossy(&self.key[..self.key.len().min(100)]),
            self.values
        ))
    }
}

/// Refuses text whose parts are too long, or nested too deeply, to be made values of. What is no JSON is left to the parser.
pub(super) fn check_size(text: &[u8]) -> Result<(), String> {
    let (mut depth, mut at) = (0usize, 0);
    let mut part = Part::default();
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = string_end(text, at + 1);
                if depth == 1
                    && text[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
                {
                    part.key = text.get(at + 1..end - 1).unwrap_or_default();
                }
                at = end;
                continue;
            }
            b'[' | b'{' => {
                part.values += usize::from(depth > 0);
                depth += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth > 1 => part.values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        if (byte == b',' && depth == 1) || (byte == b'}' && depth == 0) {
            part.check(at)?;
            part = Part {
                start: at + 1,
                ..Part::default()
            };
        }
        at += 1;
    }
    part.check(text.len())
}

/// The place behind the string that begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at) {
            None => return text.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// Refuses provenance that readers would refuse.
pub(crate) fn check_provenance(provenance: &Value) -> Result<(), String> {
    let text = format!("{{\"provenance\":{provenance}}}");
    check_size(text.as_bytes())
}

/// Checks a manifest that was parsed.
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
    check_fields(&manifest.fields).map_err(|error| error.to_string())?;
    let mut names = HashSet::new();
    let mut rows = 0u64;
    for shard in &manifest.shards {
        shard.check()?;
        if !names.insert(&shard.file) {
            return Err(format!("shard {} is listed twice", shard.file));
        }
        rows = rows.checked_add(shard.rows).ok_or("too many rows")?;
    }
    // Half of the positions a signed index can name: room for all arithmetic on them.
    if rows != manifest.rows || rows > 1 << 62 {
        return Err(format!(
            "{} rows declared, {rows} in the shards",
            manifest.rows
        ));
    }
    check_parts(manifest)
}

/// Checks the parts against each other.
fn check_parts(manifest: &Manifest) -> Result<(), String> {
    let fields: HashMap<&str, &Field> = (manifest.fields.iter())
        .map(|field| (&field.name[..], field))
        .collect();
    check_images(manifest, &fields)?;
    check_audio(manifest, &fields)?;
    let row_bytes = manifest.fields.iter().filter_map(Field::fixed_bytes);
    let row_bytes = row_bytes.fold(CHECKSUM_BYTES, |sum, bytes| {
        sum.saturating_add(bytes as u64)
    });
    manifest
        .shards
        .iter()
        .try_for_each(|shard| check_shard(shard, row_bytes))?;
    (manifest.statistics.as_ref()).map_or(Ok(()), |known| check_statistics(known, &fields))
}

fn check_shard(shard: &ShardEntry, row_bytes: u64) -> Result<(), String> {
    let file = &shard.file;
    if file.contains(char::is_control) || file.len() > 255 {
        return Err(format!("shard file {file:?} is not a plain file name"));
    }
    if shard.rows == 0 {
        return Err(format!("shard {file}: no rows, expected at least one"));
    }
    let too_many = |block: &&BlockEntry| {
        let least = block.rows.checked_mul(row_bytes);
        least.is_none_or(|least| least > block.body_bytes)
    };
    match shard.blocks.iter().find(too_many) {
        Some(block) => Err(format!(
            "shard {file}: the block at {} has {} rows in {} bytes, expected at least {row_bytes} bytes a row",
            block.offset, block.rows, block.body_bytes
        )),
        None => Ok(()),
    }
}

/// The fields that a table of ranges should have an entry of each, and no others.
fn check_keys<T>(
    name: &str,
    ranges: &BTreeMap<String, T>,
    fields: &HashMap<&str, &Field>,
    kind: &Kind,
) -> Result<(), String> {
    let of_kind = |name: &str| fields.get(name).is_some_and(|field| field.kind == *kind);
    match ranges.keys().find(|key| !of_kind(key)) {
        Some(key) => Err(format!("{name} of {key:?}, which is no field of that type")),
        None => Ok(()),
    }
}

/// Refuses a range that is empty, or begins at 0.
fn check_range<T: Copy + PartialOrd + From<u8> + std::fmt::Display>(
    name: &str,
    field: &str,
    [least, most]: [T; 2],
) -> Result<(), String> {
    if T::from(1) <= least && least <= most {
        return Ok(());
    }
    Err(format!(
        "{name} of {field:?}: from {least} to {most}, expected at least 1 and the larger one last"
    ))
}

fn check_images(manifest: &Manifest, fields: &HashMap<&str, &Field>) -> Result<(), String> {
    let ranges = &manifest.ranges.image_sizes;
    check_keys("image_sizes", ranges, fields, &Kind::Image)?;
    let lacks = |field: &&Field| field.kind == Kind::Image && !ranges.contains_key(&field.name);
    if let Some(field) = manifest.fields.iter().find(lacks)
        && manifest.rows > 0
    {
        return Err(format!("image_sizes lacks field {:?}", field.name));
    }
    for (field, sizes) in ranges {
        let ImageSizes {
            min_width,
            max_width,
            min_height,
            max_height,
        } = *sizes;
        check_range("image_sizes: width", field, [min_width, max_width])?;
        check_range("image_sizes: height", field, [min_height, max_height])?;
    }
    Ok(())
}

fn check_audio(manifest: &Manifest, fields: &HashMap<&str, &Field>) -> Result<(), String> {
    let ranges = &manifest.ranges.audio_ranges;
    check_keys("audio_ranges", ranges, fields, &Kind::Audio)?;
    for (field, range) in ranges {
        let AudioRanges {
            min_sample_rate,
            max_sample_rate,
            min_channels,
            max_channels,
            min_frames,
            max_frames,
        } = *range;
        let rates = [min_sample_rate, max_sample_rate];
        check_range("audio_ranges: sample_rate", field, rates)?;
        check_range(
            "audio_ranges: channels",
            field,
            [min_channels, max_channels],
        )?;
        check_range("audio_ranges: frames", field, [min_frames, max_frames])?;
    }
    Ok(())
}

/// Checks what is known of the fields' values: numbers in the fields' shapes, and names of columns.
fn check_statistics(known: &Value, fields: &HashMap<&str, &Field>) -> Result<(), String> {
    let Value::Object(known) = known else {
        return Err("statistics: expected an object by field".into());
    };
    for (name, known) in known {
        let field = fields.get(&name[..]);
        let Some((_, shape)) = field.and_then(|field| field.fixed()) else {
            return Err(format!(
                "statistics of {name:?}, which is no field of numbers"
            ));
        };
        check_known(known, shape).map_err(|what| format!("statistics of {name:?}: {what}"))?;
    }
    Ok(())
}

fn check_known(known: &Value, shape: &[usize]) -> Result<(), String> {
    const MEASURES: [&str; 4] = ["mean", "std", "min", "max"];
    let Value::Object(known) = known else {
        return Err("expected an object with mean, std, min and max".into());
    };
    if MEASURES.iter().any(|name| known.contains_key(*name)) {
        for name in MEASURES {
            let has = known.get(name).is_some_and(|value| has_shape(value, shape));
            if !has {
                return Err(format!("{name}: expected numbers of shape {shape:?}"));
            }
        }
        if known["std"].as_f64().is_some_and(|std| std < 0.0) || any_below(&known["std"], 0.0) {
            return Err("std: expected numbers of at least 0".into());
        }
    }
    let elements = shape.iter().product::<usize>();
    let columns = known.get("columns").map(texts);
    if columns.is_some_and(|count| count != Some(elements)) {
        return Err(format!("columns: expected {elements} texts"));
    }
    match known.get("categories") {
        None => Ok(()),
        Some(Value::Object(of)) if of.values().all(|listed| texts(listed).is_some()) => Ok(()),
        Some(_) => Err("categories: expected lists of texts by column".into()),
    }
}

/// Whether it is a number, or nested lists of numbers, of this shape.
fn has_shape(value: &Value, shape: &[usize]) -> bool {
    match (shape, value) {
        ([], Value::Number(number)) => number.as_f64().is_some_and(f64::is_finite),
        ([size, rest @ ..], Value::Array(values)) => {
            values.len() == *size && values.iter().all(|value| has_shape(value, rest))
        }
        _ => false,
    }
}

/// Whether any number of nested lists is below a limit.
fn any_below(value: &Value, limit: f64) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| any_below(value, limit)),
        other => other.as_f64().is_some_and(|number| number < limit),
    }
}

/// How many texts a list has, if it is one of texts.
fn texts(value: &Value) -> Option<usize> {
    let values = value.as_array()?;
    values.iter().all(Value::is_string).then_some(values.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_told_before_anything_is_parsed() {
        let nested =
            |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_size(nested(90).as_bytes()).is_ok());
        let error = check_size(nested(100_000).as_bytes()).unwrap_err();
        assert!(error.contains("levels deep"), "{error}");
        let many = |key: &str, values: usize| {
            format!("{{\"rows\":1,\"{key}\" : [{}1]}}", "1,".repeat(values))
        };
        assert!(check_size(many("provenance", MAX_PROVENANCE_VALUES - 10).as_bytes()).is_ok());
        let error = check_size(many("provenance", MAX_PROVENANCE_VALUES).as_bytes()).unwrap_err();
        assert!(error.contains("\"provenance\" holds"), "{error}");
        assert!(check_size(many("x", MAX_PART_VALUES).as_bytes()).is_err());
        assert!(check_size(many("shards", MAX_PART_VALUES).as_bytes()).is_ok());
        let text = format!(
            "{{\"provenance\":\"{}\"}}",
            "\\\"],".repeat(MAX_PROVENANCE_BYTES / 4)
        );
        assert!(
            check_size(text.as_bytes())
                .unwrap_err()
                .contains("0 values")
        );
        // Not JSON: for the parser to say.
        for text in [&b""[..], b"{", b"}}}}", b"\"", b"\"\\", b"[1,2", b"{\"a"] {
            assert!(check_size(text).is_ok());
        }
        assert!(check_provenance(&json!({"kind": "folder"})).is_ok());
        assert!(check_provenance(&json!(vec![0; MAX_PROVENANCE_VALUES + 1])).is_err());
    }
}
