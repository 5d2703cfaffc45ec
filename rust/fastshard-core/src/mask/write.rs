//! From segmentations to JSON.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::Segmentation;

/// A list as [`super::parse`] reads it; run lengths are written as numbers.
pub fn write(segmentations: &[Option<Segmentation>]) -> Result<String, String> {
    serde_json::to_string(segmentations).map_err(|error| error.to_string())
}

impl Serialize for Segmentation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Polygons(polygons) => {
                let mut list = serializer.serialize_seq(Some(polygons.len()))?;
                for corners in polygons {
                    list.serialize_element(corners.as_flattened())?;
                }
                list.end()
            }
            Self::Runs(runs) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("size", &runs.size())?;
                map.serialize_entry("counts", runs.lengths())?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn what_is_read_again() {
        let json = r#"[[[1.0,2.5,3.0,4.0,5.0,6.0],[]],null,{"size":[2,3],"counts":[1,2,3]},[]]"#;
        assert_eq!(write(&parse(json).unwrap()).unwrap(), json);
    }
}
