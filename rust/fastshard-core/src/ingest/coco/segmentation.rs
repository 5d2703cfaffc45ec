//! Segmentations are kept as the JSON that they were, without its spaces; here is seen whether they are what COCO calls
//! one: polygons, or a run-length encoding.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::mask::RunsKey;

/// Checks a segmentation's JSON.
pub(super) fn check(json: &str) -> Result<(), String> {
    let checked = serde_json::from_str::<Segmentation>(json);
    // Line and column are counted within the segmentation; those of the file are added by whoever reads that.
    checked.map(|_| ()).map_err(|error| {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map(|(what, _)| what);
        what.unwrap_or(&text).to_owned()
    })
}

/// Appends JSON without the white space between its parts.
pub(super) fn append_compact(json: &str, out: &mut String) {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, byte) in json.bytes().enumerate() {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            out.push_str(&json[start..at]);
            start = at + 1;
        } else {
            quoted = byte == b'"';
        }
    }
    out.push_str(&json[start..]);
}

struct Segmentation;

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Segmentation {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of polygons, or a run-length encoding")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut polygons: A) -> Result<Self, A::Error> {
        while polygons.next_element::<Polygon>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let (mut counts, mut size) = (false, false);
        while let Some(key) = map.next_key::<RunsKey>()? {
            match key {
                RunsKey::Counts => map.next_value::<Counts>().map(|_| counts = true)?,
                RunsKey::Size => map.next_value::<[u32; 2]>().map(|_| size = true)?,
                RunsKey::Other => map.next_value::<serde::de::IgnoredAny>().map(|_| ())?,
            }
        }
        if counts && size {
            Ok(self)
        } else {
            Err(A::Error::custom(
                "a run-length encoding needs \"counts\" and \"size\"",
            ))
        }
    }
}

/// An even number of coordinates.
struct Polygon;

impl<'de> Deserialize<'de> for Polygon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for Polygon {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a polygon, [x, y, x, y, ...]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Self, A::Error> {
        let mut count = 0_usize;
        while numbers.next_element::<f64>()?.is_some() {
            count += 1;
        }
        if count.is_multiple_of(2) {
            Ok(self)
        } else {
            Err(A::Error::custom(format!(
                "a polygon of {count} numbers, expected x and y of each corner"
            )))
        }
    }
}

/// Lengths of runs: numbers, or their compressed form.
struct Counts;

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Counts {
    type Value = Self;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lengths of runs, or text")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut runs: A) -> Result<Self, A::Error> {
        while runs.next_element::<u32>()?.is_some() {}
        Ok(self)
    }
}
