//! Putting the columns of a block together: what was copied, files, what is known of them, and checksums.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringArray, StructArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow_schema::DataType;

use super::annotated::{SEGMENTATION, replaced};
use super::boxes::moved;
use super::build::Builder;
use super::file_column::{FileColumn, turned_segmentations};
use super::image_column::{conform, tensor};
use crate::error::{Error, Result};
use crate::format::{CRC_COLUMN, PATH_COLUMN, columns, file_children, row_crc};
use crate::imaging::Moves;
use crate::schema::{Field, Kind};

impl Builder {
    /// Puts the columns together and adds the checksums.
    pub(super) fn assemble(
        &self,
        table: &RecordBatch,
        kept: &[u64],
        mut files: Vec<FileColumn>,
    ) -> Result<RecordBatch> {
        let indices = UInt64Array::from(kept.to_vec());
        let moves = self.moves_by_image(&files);
        let segmentations = turned_segmentations(&mut files);
        let mut files = files.into_iter();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        // Those of images come before those of audio.
        let mut internal: [Vec<ArrayRef>; 2] = [Vec::new(), Vec::new()];
        let mut source_paths: Option<ArrayRef> = None;
        for (field, stored) in self.spec.fields.iter().zip(&self.stored) {
            let data_type = self
                .schema
                .field_with_name(&field.name)
                .expect("made from these fields")
                .data_type();
            if !field.is_file() {
                let mut column = copied(table, field, data_type, &indices)?;
                if let (SEGMENTATION, Some(turned)) = (&field.name[..], &segmentations) {
                    column = replaced(column, turned);
                }
                arrays.push(moved(column, field, &self.spec.fields, &moves)?);
                continue;
            }
            let mut image = match files.next().expect("one for each field of files") {
                FileColumn::Image(image) => image,
                FileColumn::Audio(audio) => {
                    let (column, own) = audio.arrays();
                    arrays.push(column);
                    internal[1].extend(own);
                    continue;
                }
            };
            let (bytes, path) = image.arrays();
            if stored.kind == Kind::Image {
                arrays.push(Arc::new(StructArray::new(
                    file_children(),
                    vec![bytes, path],
                    None,
                )));
                let own: [ArrayRef; 4] = [
                    Arc::new(UInt32Array::from(std::mem::take(&mut image.width))),
                    Arc::new(UInt32Array::from(std::mem::take(&mut image.height))),
                    Arc::new(UInt8Array::from(std::mem::take(&mut image.orientation))),
                    image.tiles(),
                ];
                internal[0].extend(own);
            } else {
                arrays.push(tensor(
                    std::mem::take(&mut image.pixels),
                    data_type,
                    kept.len(),
                )?);
                source_paths.get_or_insert(path);
            }
        }
        arrays.extend(internal.into_iter().flatten());
        if self.source_paths {
            let none = || Arc::new(StringArray::from(vec![""; kept.len()])) as ArrayRef;
            arrays.push(source_paths.unwrap_or_else(none));
        }
        self.with_checksums(arrays, kept.len())
    }

    /// What was done to the places of each image, by its field.
    fn moves_by_image(&self, files: &[FileColumn]) -> BTreeMap<String, Vec<Moves>> {
        let fields = (self.spec.fields.iter()).filter(|field| field.is_file());
        let of_images = fields
            .zip(files)
            .filter_map(|(field, column)| match column {
                FileColumn::Image(image) => Some((field.name.clone(), image.moves.clone())),
                FileColumn::Audio(_) => None,
            });
        of_images.collect()
    }

    fn with_checksums(&self, mut arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let failed = |error: arrow_schema::ArrowError| Error::source(error.to_string());
        arrays.push(Arc::new(UInt32Array::from(vec![0; rows])));
        let batch = RecordBatch::try_new(self.schema.clone(), arrays.clone()).map_err(failed)?;
        let columns = columns(&batch, &self.stored).map_err(Error::source)?;
        let crcs: Vec<u32> = (0..rows).map(|row| row_crc(&columns, row)).collect();
        let last = arrays.len() - 1;
        debug_assert_eq!(self.schema.field(last).name(), CRC_COLUMN);
        debug_assert!(!self.source_paths || self.schema.field(last - 1).name() == PATH_COLUMN);
        arrays[last] = Arc::new(UInt32Array::from(crcs));
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(failed)
    }
}

fn copied(
    table: &RecordBatch,
    field: &Field,
    data_type: &DataType,
    indices: &UInt64Array,
) -> Result<ArrayRef> {
    let bad = |what: String| Error::source(format!("field {:?}: {what}", field.name));
    let column = table
        .column_by_name(&field.name)
        .ok_or_else(|| bad("no such column in the source".into()))?;
    if column.null_count() > 0 {
        return Err(bad(format!(
            "{} missing values, expected none",
            column.null_count()
        )));
    }
    let taken =
        arrow_select::take::take(column, indices, None).map_err(|error| bad(error.to_string()))?;
    conform(taken, data_type).map_err(bad)
}
