//! From JSON to segmentations.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Outline, Runs, Segmentation};

/// The segmentations of an image's objects, a list of them; `null` where one has none.
pub fn parse(json: &str) -> Result<Vec<Option<Segmentation>>, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Segmentation;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of polygons, or a run-length encoding")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Segmentation, A::Error> {
        let mut polygons = Vec::new();
        while let Some(Polygon(outline)) = list.next_element()? {
            polygons.push(outline);
        }
        Ok(Segmentation::Polygons(polygons))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Segmentation, A::Error> {
        let (mut counts, mut size) = (None, None);
        while let Some(key) = map.next_key::<RunsKey>()? {
            match key {
                RunsKey::Counts => counts = Some(map.next_value::<Counts>()?),
                RunsKey::Size => size = Some(map.next_value::<[u32; 2]>()?),
                RunsKey::Other => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        let (Some(Counts(counts)), Some(size)) = (counts, size) else {
            return Err(A::Error::custom(
                "a run-length encoding needs \"counts\" and \"size\"",
            ));
        };
        let runs = Runs::new(size, counts).map_err(A::Error::custom)?;
        Ok(Segmentation::Runs(runs))
    }
}

/// What a run-length encoding says.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
pub(crate) enum RunsKey {
    Counts,
    Size,
    #[serde(other)]
    Other,
}

struct Polygon(Outline);

impl<'de> Deserialize<'de> for Polygon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Corners).map(Self)
    }
}

struct Corners;

impl<'de> Visitor<'de> for Corners {
    type Value = Outline;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a polygon, [x, y, x, y, ...]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Outline, A::Error> {
        let mut corners = Outline::new();
        while let Some(x) = numbers.next_element()? {
            let y = numbers.next_element()?.ok_or_else(|| {
                A::Error::custom(
                    "a polygon of an odd number of numbers, expected x and y of each corner",
                )
            })?;
            corners.push([x, y]);
        }
        Ok(corners)
    }
}

/// Lengths of runs, from numbers or from their compressed form.
struct Counts(Vec<u32>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lengths).map(Self)
    }
}

struct Lengths;

impl<'de> Visitor<'de> for Lengths {
    type Value = Vec<u32>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lengths of runs, or text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u32>, E> {
        Runs::uncompressed(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u32>, A::Error> {
        let mut lengths = Vec::new();
        while let Some(length) = list.next_element()? {
            lengths.push(length);
        }
        Ok(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_coco_writes() {
        let found = parse(r#"[[[1,2,3,4,5,6.5]],null,{"size":[2,3],"counts":[1,2,3]}]"#).unwrap();
        let polygon = vec![[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]];
        assert_eq!(found[0], Some(Segmentation::Polygons(vec![polygon])));
        assert_eq!(found[1], None);
        let runs = Runs::new([2, 3], vec![1, 2, 3]).unwrap();
        assert_eq!(found[2], Some(Segmentation::Runs(runs)));
    }

    #[test]
    fn refuses_what_is_no_segmentation() {
        for json in [
            "7",
            "[7]",
            "[[7]]",
            "[[[1,2,3]]]",
            r#"[{"size":[2,3]}]"#,
            r#"[{"counts":[6]}]"#,
            r#"[{"size":[2,3],"counts":[5]}]"#,
            r#"[{"size":[2,3],"counts":[7]}]"#,
            r#"[{"size":[2,3],"counts":[-1,7]}]"#,
            r#"[{"size":[2,3],"counts":"~~"}]"#,
            r#"[{"size":[4294967295,4294967295],"counts":[4294967295,4294967295,4294967295]}]"#,
            "[",
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
