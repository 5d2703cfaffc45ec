//! Fields: what a sample is made of, as the manifest and the user name it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The element type of scalars and tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Dtype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    /// Only of what loaders hand out: Arrow can't store it.
    Bfloat16,
    Float32,
    Float64,
}

impl Dtype {
    /// Whether it counts: signed or not, but no truth value.
    #[must_use]
    pub fn is_integer(self) -> bool {
        use Dtype::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        matches!(
            self,
            Uint8 | Uint16 | Uint32 | Uint64 | Int8 | Int16 | Int32 | Int64
        )
    }

    /// Bytes an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => 2,
            Self::Uint32 | Self::Int32 | Self::Float32 => 4,
            Self::Uint64 | Self::Int64 | Self::Float64 => 8,
        }
    }

    /// The name that `NumPy` gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }
}

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxFormat {
    /// Left, top, right, bottom.
    Xyxy,
    /// Left, top, width, height.
    Xywh,
    /// The middle, width, height.
    Cxcywh,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Kind {
    /// An encoded image, as a file would hold it.
    Image,
    /// Encoded audio, as a file would hold it.
    Audio,
    /// A class number, `int64`.
    Class {
        /// The classes in the order of their numbers.
        class_names: Vec<String>,
    },
    /// An array of the same shape in every sample.
    Tensor {
        /// Element type.
        dtype: Dtype,
        /// Shape of one sample.
        shape: Vec<usize>,
        /// The classes of a multi-hot label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_names: Option<Vec<String>>,
    },
    /// One number.
    Scalar {
        /// Its type.
        dtype: Dtype,
    },
    /// Arrays of as many elements as each sample has.
    List {
        /// Type of an element's numbers.
        dtype: Dtype,
        /// Shape of an element; empty for a number.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shape: Vec<usize>,
        /// The field of boxes of which it says one thing each, so that it loses what they lose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        along: Option<String>,
        /// The classes of a label each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_names: Option<Vec<String>>,
        /// Whether elements are places in the image of those boxes, as rows of x, y and perhaps more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        points: bool,
    },
    /// As many boxes as each sample has, four `float32` each.
    Boxes {
        /// The field of the image that they lie in.
        image: String,
        /// What the four numbers are.
        format: BoxFormat,
        /// Whether they are shares of the image's width and height, or else pixels.
        #[serde(default)]
        normalized: bool,
    },
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Bytes,
}

/// One named column of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// The column's name; names that start with an underscore are fastshard's own.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The largest tensor of one sample, in bytes: more than any sane sample, less than what overflows an offset.
const MAX_TENSOR_BYTES: usize = 1 << 30;

/// Those of a sample: `NumPy` has 64, and a batch has one more.
const MAX_DIMENSIONS: usize = 32;

impl Field {
    /// Element type and shape of fields whose samples all take the same room; `None` for the others.
    #[must_use]
    pub fn fixed(&self) -> Option<(Dtype, &[usize])> {
        match &self.kind {
            Kind::Class { .. } => Some((Dtype::Int64, &[])),
            Kind::Scalar { dtype } => Some((*dtype, &[])),
            Kind::Tensor { dtype, shape, .. } => Some((*dtype, shape)),
            Kind::Image
            | Kind::Audio
            | Kind::List { .. }
            | Kind::Boxes { .. }
            | Kind::Text
            | Kind::Bytes => None,
        }
    }

    /// Type and shape of an element of lists, boxes among them.
    #[must_use]
    pub fn list(&self) -> Option<(Dtype, &[usize])> {
        match &self.kind {
            Kind::List { dtype, shape, .. } => Some((*dtype, shape)),
            Kind::Boxes { .. } => Some((Dtype::Float32, &[4])),
            _ => None,
        }
    }

    /// Whether samples are whole files.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Image | Kind::Audio)
    }

    /// Bytes a sample takes in this field, where that is fixed.
    #[must_use]
    pub fn fixed_bytes(&self) -> Option<usize> {
        let (dtype, shape) = self.fixed()?;
        Some(dtype.size() * shape.iter().product::<usize>())
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.starts_with('_') {
            return Err(format!(
                "field name {:?}: expected a name that does not start with an underscore (those are reserved)",
                self.name
            ));
        }
        // Arrow's schemas pass names on as strings of C.
        if self.name.contains('\0') {
            return Err(format!(
                "field name {:?}: expected a name without zero characters",
                self.name
            ));
        }
        self.check_classes()?;
        if let Some((Dtype::Bfloat16, _)) = self.fixed().or(self.list()) {
            return Err(format!("field {:?}: bfloat16 can't be stored", self.name));
        }
        if let Kind::Tensor { dtype, shape, .. } | Kind::List { dtype, shape, .. } = &self.kind {
            let bytes = shape
                .iter()
                .try_fold(dtype.size(), |n, &d| n.checked_mul(d));
            if shape.len() > MAX_DIMENSIONS {
                return Err(format!(
                    "field {:?}: a sample of {} dimensions, expected at most {MAX_DIMENSIONS}",
                    self.name,
                    shape.len()
                ));
            }
            if bytes.is_none_or(|n| n == 0 || n > MAX_TENSOR_BYTES) {
                return Err(format!(
                    "field {:?}: a sample of shape {shape:?} and type {} is empty or larger than 1 GiB",
                    self.name,
                    dtype.name()
                ));
            }
        }
        Ok(())
    }

    /// The names of its classes, where it has some.
    fn class_names(&self) -> &[String] {
        match &self.kind {
            Kind::Class { class_names } => class_names,
            Kind::Tensor { class_names, .. } | Kind::List { class_names, .. } => {
                class_names.as_deref().unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Refuses two classes of one name, which nobody could ask for, and values that are not one for each class.
    fn check_classes(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        if let Some(name) = self.class_names().iter().find(|name| !seen.insert(*name)) {
            return Err(format!("field {:?} has class {name:?} twice", self.name));
        }
        match &self.kind {
            // Multi-hot: a value for each class.
            Kind::Tensor {
                shape,
                class_names: Some(names),
                ..
            } if shape[..] != [names.len()] => Err(format!(
                "field {:?} has {} classes, and values of shape {shape:?}",
                self.name,
                names.len()
            )),
            Kind::List {
                dtype,
                class_names: Some(_),
                ..
            } if !dtype.is_integer() => Err(format!(
                "field {:?} has classes, and elements of {dtype:?}; expected integers",
                self.name
            )),
            _ => Ok(()),
        }
    }

    /// Checks what it says of another field.
    fn check_relation(&self, fields: &HashMap<&str, &Self>) -> Result<(), String> {
        let find = |name: &str| fields.get(name).copied();
        match &self.kind {
            Kind::Boxes { image, .. } => match find(image).map(|field| &field.kind) {
                Some(Kind::Image | Kind::Tensor { .. }) => Ok(()),
                _ => Err(format!(
                    "field {:?}: its boxes lie in {image:?}, which is no image",
                    self.name
                )),
            },
            Kind::List {
                along: Some(boxes),
                dtype,
                shape,
                points,
                ..
            } => {
                if !matches!(
                    find(boxes).map(|field| &field.kind),
                    Some(Kind::Boxes { .. })
                ) {
                    return Err(format!(
                        "field {:?} runs along {boxes:?}, which holds no boxes",
                        self.name
                    ));
                }
                let places =
                    *dtype == Dtype::Float32 && shape.last().is_some_and(|&size| size >= 2);
                if *points && !places {
                    return Err(format!(
                        "field {:?}: points of {} and shape {shape:?}, expected float32 with two or more numbers a point",
                        self.name,
                        dtype.name()
                    ));
                }
                Ok(())
            }
            Kind::List { points: true, .. } => Err(format!(
                "field {:?}: points that run along no boxes, and so lie in no image",
                self.name
            )),
            _ => Ok(()),
        }
    }
}

/// Checks names and sizes of a list of fields, and what they say of each other.
pub fn check_fields(fields: &[Field]) -> Result<()> {
    if fields.is_empty() {
        return Err(Error::option("a dataset needs at least one field"));
    }
    let mut named = HashMap::new();
    for field in fields {
        field.check().map_err(Error::option)?;
        if named.insert(&field.name[..], field).is_some() {
            return Err(Error::option(format!(
                "two fields are named {:?}",
                field.name
            )));
        }
    }
    for field in fields {
        field.check_relation(&named).map_err(Error::option)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &str) -> Field {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn reads_the_manifest_form() {
        let label = field(r#"{"name":"label","type":"class","class_names":["cat","dog"]}"#);
        assert_eq!(label.fixed_bytes(), Some(8));
        let tensor = field(r#"{"name":"x","type":"tensor","dtype":"float16","shape":[3,4]}"#);
        assert_eq!(tensor.fixed_bytes(), Some(24));
        assert_eq!(
            field(r#"{"name":"image","type":"image"}"#).fixed_bytes(),
            None
        );
    }

    #[test]
    fn refuses_bad_fields() {
        for json in [
            r#"{"name":"_x","type":"text"}"#,
            r#"{"name":"","type":"text"}"#,
            r#"{"name":"x","type":"tensor","dtype":"uint8","shape":[0]}"#,
            r#"{"name":"x","type":"tensor","dtype":"bfloat16","shape":[2]}"#,
            r#"{"name":"x","type":"scalar","dtype":"bfloat16"}"#,
            r#"{"name":"x","type":"list","dtype":"bfloat16"}"#,
            r#"{"name":"x","type":"list","dtype":"int8","shape":[0]}"#,
            r#"{"name":"x","type":"list","dtype":"int64","along":"boxes"}"#,
            r#"{"name":"x","type":"list","dtype":"float32","shape":[2],"points":true}"#,
            r#"{"name":"x","type":"boxes","image":"image","format":"xyxy"}"#,
            r#"{"name":"x","type":"tensor","dtype":"uint64","shape":[4294967296,4294967296,4294967296]}"#,
        ] {
            assert!(check_fields(&[field(json)]).is_err(), "{json}");
        }
        let [image, boxes, text] = [
            r#"{"name":"image","type":"image"}"#,
            r#"{"name":"boxes","type":"boxes","image":"image","format":"cxcywh","normalized":true}"#,
            r#"{"name":"image","type":"text"}"#,
        ]
        .map(field);
        let points = r#"{"name":"p","type":"list","dtype":"float32","shape":[3],"along":"boxes","points":true}"#;
        let points = field(points);
        check_fields(&[image.clone(), boxes.clone(), points.clone()]).unwrap();
        assert!(check_fields(&[text, boxes, points.clone()]).is_err());
        assert!(check_fields(&[image, points]).is_err());
        let twice = field(r#"{"name":"a","type":"text"}"#);
        assert!(check_fields(&[twice.clone(), twice]).is_err());
        assert!(check_fields(&[]).is_err());
    }
}
