//! Columns of Arrow from the flat ones of the file.

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, Float32Type, Int64Type, UInt8Type};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Int64Array, ListArray, PrimitiveArray, RecordBatch, StringArray,
    UInt32Array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;

use super::check::{Content, Rows};
use super::parse::{Annotations, Parsed, Runs};
use crate::ingest::declared::{HEIGHT, WIDTH};

type Columns = Vec<(&'static str, ArrayRef)>;

/// One row an image.
pub(super) fn build(parsed: &Parsed, rows: &Rows) -> Result<RecordBatch, String> {
    let (images, annotations) = (&parsed.images, &parsed.annotations);
    let mut columns: Columns = vec![
        (
            "image",
            texts("file_name", images.name.iter().map(String::as_str))?,
        ),
        ("image_id", Arc::new(Int64Array::from(images.id.clone()))),
    ];
    match rows.content {
        Content::Boxes => boxes(annotations, rows, &mut columns)?,
        Content::Captions => captions(annotations, rows, &mut columns)?,
    }
    columns.push((
        "annotation_id",
        along::<Int64Type>(rows, |at| annotations.id[at]),
    ));
    if images.width.iter().any(|&side| side > 0) {
        let sides = |sides: &Vec<u32>| Arc::new(UInt32Array::from(sides.clone()));
        columns.push((WIDTH, sides(&images.width)));
        columns.push((HEIGHT, sides(&images.height)));
    }
    RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())
}

fn boxes(annotations: &Annotations, rows: &Rows, columns: &mut Columns) -> Result<(), String> {
    let corners = rows.order.iter().filter_map(|&at| annotations.corners[at]);
    let corners = corners.flat_map(|corners| corners.0).collect();
    columns.push(("boxes", arrays(rows, corners, 4)));
    columns.push(("labels", along::<Int64Type>(rows, |at| rows.labels[at])));
    columns.push((
        "iscrowd",
        along::<UInt8Type>(rows, |at| annotations.crowd[at].0),
    ));
    if let Some(area) = areas(annotations)? {
        columns.push(("area", along::<Float32Type>(rows, |at| area[at])));
    }
    if let Some(width) = annotations.keypoints_width {
        columns.push((
            "keypoints",
            arrays(rows, keypoints(annotations, rows, width), width),
        ));
    }
    if !annotations.segmentation.all.is_empty() {
        columns.push((
            "segmentation",
            joined("segmentation", &annotations.segmentation, rows)?,
        ));
    }
    Ok(())
}

/// Of all annotations, if any has one.
fn areas(annotations: &Annotations) -> Result<Option<Vec<f32>>, String> {
    let given: Vec<f32> = annotations
        .area
        .iter()
        .flatten()
        .map(|area| area.0)
        .collect();
    if given.len() == annotations.id.len() {
        return Ok(Some(given));
    }
    match annotations.area.iter().position(Option::is_none) {
        Some(at) if !given.is_empty() => Err(format!(
            "annotation {} (id {}): no area, but others have one",
            at + 1,
            annotations.id[at]
        )),
        _ => Ok(None),
    }
}

/// Zeros where an annotation has none.
fn keypoints(annotations: &Annotations, rows: &Rows, width: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.order.len() * width);
    for (index, &at) in rows.order.iter().enumerate() {
        all.extend_from_slice(&annotations.keypoints.all[annotations.keypoints.range(at)]);
        all.resize((index + 1) * width, 0.0);
    }
    all
}

fn captions(annotations: &Annotations, rows: &Rows, columns: &mut Columns) -> Result<(), String> {
    let mut firsts = Vec::with_capacity(rows.counts.len());
    let mut start = 0;
    for &count in &rows.counts {
        let first = rows.order[start..start + count].first();
        let first = first.map(|&at| serde_json::from_str::<String>(annotations.caption.get(at)));
        firsts.push(
            first
                .transpose()
                .map_err(|error| error.to_string())?
                .unwrap_or_default(),
        );
        start += count;
    }
    columns.push((
        "caption",
        texts("caption", firsts.iter().map(String::as_str))?,
    ));
    columns.push(("captions", joined("caption", &annotations.caption, rows)?));
    Ok(())
}

/// The lists of images, of one number an annotation.
fn along<T: ArrowPrimitiveType>(rows: &Rows, value: impl Fn(usize) -> T::Native) -> ArrayRef {
    let values: ScalarBuffer<T::Native> = rows.order.iter().map(|&at| value(at)).collect();
    list(rows, Arc::new(PrimitiveArray::<T>::new(values, None)))
}

/// The lists of images, of an array an annotation.
fn arrays(rows: &Rows, values: Vec<f32>, width: usize) -> ArrayRef {
    let values = PrimitiveArray::<Float32Type>::new(values.into(), None);
    let item = Field::new("item", Float32Type::DATA_TYPE, true);
    let arrays = FixedSizeListArray::new(Arc::new(item), width as i32, Arc::new(values), None);
    list(rows, Arc::new(arrays))
}

fn list(rows: &Rows, values: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(rows.counts.iter().copied());
    let item = Field::new("item", values.data_type().clone(), true);
    Arc::new(ListArray::new(Arc::new(item), offsets, values, None))
}

/// A JSON list an image, `null` where an annotation has none.
fn joined(field: &str, values: &Runs<String>, rows: &Rows) -> Result<ArrayRef, String> {
    let mut all =
        String::with_capacity(values.all.len() + rows.order.len() + 2 * rows.counts.len());
    let mut lengths = Vec::with_capacity(rows.counts.len());
    let mut order = rows.order.iter();
    for &count in &rows.counts {
        let before = all.len();
        for (index, &at) in order.by_ref().take(count).enumerate() {
            all.push(if index == 0 { '[' } else { ',' });
            let json = values.get(at);
            all.push_str(if json.is_empty() { "null" } else { json });
        }
        all.push_str(if count == 0 { "[]" } else { "]" });
        lengths.push(all.len() - before);
    }
    fits(field, all.len())?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(StringArray::new(
        offsets,
        all.into_bytes().into(),
        None,
    )))
}

fn texts<'a>(
    field: &str,
    texts: impl Iterator<Item = &'a str> + Clone,
) -> Result<ArrayRef, String> {
    fits(field, texts.clone().map(str::len).sum())?;
    Ok(Arc::new(StringArray::from_iter_values(texts)))
}

/// Offsets of Arrow's texts are 32 bits wide.
fn fits(field: &str, bytes: usize) -> Result<(), String> {
    if i32::try_from(bytes).is_ok() {
        Ok(())
    } else {
        Err(format!(
            "{field}: {bytes} bytes in all, expected at most 2 GiB"
        ))
    }
}
