//! Fields as Arrow columns. Images and audio are stored the way Hugging Face `datasets` stores them and tensors in Arrow's
//! canonical extension type, so that other libraries see images, sounds and arrays, not blobs.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, SchemaRef};
use serde_json::{Map, Value, json};

use super::{CRC_COLUMN, PATH_COLUMN, audio_columns, image_columns};
use crate::schema::{Dtype, Field, Kind};

fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::Bool | Dtype::Uint8 => DataType::UInt8,
        // Fields of bfloat16 are refused long before.
        Dtype::Uint16 | Dtype::Bfloat16 => DataType::UInt16,
        Dtype::Uint32 => DataType::UInt32,
        Dtype::Uint64 => DataType::UInt64,
        Dtype::Int8 => DataType::Int8,
        Dtype::Int16 => DataType::Int16,
        Dtype::Int32 => DataType::Int32,
        Dtype::Int64 => DataType::Int64,
        Dtype::Float16 => DataType::Float16,
        Dtype::Float32 => DataType::Float32,
        Dtype::Float64 => DataType::Float64,
    }
}

/// The two children of a column of images or audio.
pub(crate) fn file_children() -> Fields {
    Fields::from(vec![
        ArrowField::new("bytes", DataType::Binary, true),
        ArrowField::new("path", DataType::Utf8, true),
    ])
}

/// What the list of an image's tiles holds: where each starts in the file.
pub(crate) fn tiles_item() -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", DataType::UInt32, true))
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> ArrowField {
    let count = shape.iter().product::<usize>();
    // Arrow's own default name of a list's child, which is also what the extension's readers look for.
    let item = Arc::new(ArrowField::new("item", data_type(dtype), true));
    let list = DataType::FixedSizeList(item, count as i32);
    ArrowField::new(name, list, true).with_metadata(HashMap::from([
        (
            "ARROW:extension:name".into(),
            "arrow.fixed_shape_tensor".into(),
        ),
        (
            "ARROW:extension:metadata".into(),
            json!({ "shape": shape }).to_string(),
        ),
    ]))
}

/// A list of numbers; elements that have a shape are fixed-size lists themselves.
fn list(name: &str, dtype: Dtype, shape: &[usize]) -> ArrowField {
    let mut item = ArrowField::new("item", data_type(dtype), true);
    if !shape.is_empty() {
        let count = shape.iter().product::<usize>();
        let numbers = DataType::FixedSizeList(Arc::new(item), count as i32);
        item = ArrowField::new("item", numbers, true);
    }
    ArrowField::new(name, DataType::List(Arc::new(item)), true)
}

fn column(field: &Field) -> ArrowField {
    let name = field.name.as_str();
    match &field.kind {
        Kind::Image | Kind::Audio => ArrowField::new(name, DataType::Struct(file_children()), true),
        Kind::Class { .. } => ArrowField::new(name, DataType::Int64, true),
        Kind::Tensor { dtype, shape, .. } => tensor(name, *dtype, shape),
        Kind::Scalar { dtype } => ArrowField::new(name, data_type(*dtype), true),
        Kind::List { dtype, shape, .. } => list(name, *dtype, shape),
        Kind::Boxes { .. } => list(name, Dtype::Float32, &[4]),
        Kind::Text => ArrowField::new(name, DataType::Utf8, true),
        Kind::Bytes => ArrowField::new(name, DataType::Binary, true),
    }
}

/// What `datasets` wants to know of a column that Arrow's type doesn't say.
fn huggingface(fields: &[Field]) -> String {
    let mut features = Map::new();
    for field in fields {
        let feature = match &field.kind {
            Kind::Image => json!({ "_type": "Image" }),
            Kind::Audio => json!({ "_type": "Audio" }),
            Kind::Class { class_names } => json!({ "names": class_names, "_type": "ClassLabel" }),
            _ => continue,
        };
        features.insert(field.name.clone(), feature);
    }
    json!({ "info": { "features": Value::Object(features) } }).to_string()
}

/// The schema of every shard of a dataset of these fields, in a version of the format.
#[must_use]
pub fn arrow_schema(fields: &[Field], source_paths: bool, version: u32) -> SchemaRef {
    let mut columns: Vec<_> = fields.iter().map(column).collect();
    for field in fields.iter().filter(|field| field.kind == Kind::Image) {
        let [width, height, orientation, tiles] = image_columns(&field.name);
        columns.push(ArrowField::new(width, DataType::UInt32, true));
        columns.push(ArrowField::new(height, DataType::UInt32, true));
        columns.push(ArrowField::new(orientation, DataType::UInt8, true));
        if version >= 2 {
            columns.push(ArrowField::new(tiles, DataType::List(tiles_item()), true));
        }
    }
    for field in fields.iter().filter(|field| field.kind == Kind::Audio) {
        let [sample_rate, channels, frames] = audio_columns(&field.name);
        columns.push(ArrowField::new(sample_rate, DataType::UInt32, true));
        columns.push(ArrowField::new(channels, DataType::UInt16, true));
        columns.push(ArrowField::new(frames, DataType::UInt64, true));
    }
    if source_paths {
        columns.push(ArrowField::new(PATH_COLUMN, DataType::Utf8, true));
    }
    columns.push(ArrowField::new(CRC_COLUMN, DataType::UInt32, true));
    Arc::new(Schema::new_with_metadata(
        columns,
        HashMap::from([
            (
                "fastshard".into(),
                json!({ "version": version }).to_string(),
            ),
            ("huggingface".into(), huggingface(fields)),
        ]),
    ))
}
