//! Columns in the making.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, ListArray, UInt32Array, make_array};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;

use super::byte_column::ByteColumn;
use crate::error::{Error, Result};
use crate::format::{ImageSizes, tiles_item};
use crate::imaging::Moves;

/// The largest item: offsets within a block are 32 bits wide.
pub(super) const MAX_ITEM: u64 = i32::MAX as u64;

/// An image as it will be stored.
pub(super) struct Stored {
    /// Nothing where it is the file as it was read, which lies in the column already.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) path: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) orientation: u8,
    /// Where the tiles of a seekable JPEG start.
    pub(super) tiles: Vec<u32>,
    /// Where its places went; nothing where they stayed, or nobody asks.
    pub(super) moves: Option<Moves>,
    /// The segmentations of its boxes, where they went along.
    pub(super) segmentations: Option<String>,
}

/// The images of one field of a unit.
#[derive(Default)]
pub(super) struct ImageColumn {
    pub(super) bytes: ByteColumn,
    pub(super) pixels: Vec<u8>,
    pub(super) path: StringBuilder,
    pub(super) width: Vec<u32>,
    pub(super) height: Vec<u32>,
    pub(super) orientation: Vec<u8>,
    tiles: Vec<u32>,
    tile_counts: Vec<usize>,
    pub(super) moves: Vec<Moves>,
    pub(super) segmentations: Vec<Option<String>>,
}

impl ImageColumn {
    pub(super) fn push(&mut self, image: &Stored, raw: bool) -> Result<()> {
        match &image.bytes {
            Some(pixels) if raw => self.pixels.extend_from_slice(pixels),
            Some(bytes) => self.bytes.push(bytes)?,
            None => self.bytes.keep()?,
        }
        self.path.append_value(&image.path);
        self.width.push(image.width);
        self.height.push(image.height);
        self.orientation.push(image.orientation);
        self.tiles.extend_from_slice(&image.tiles);
        self.tile_counts.push(image.tiles.len());
        self.moves.extend(image.moves.clone());
        self.segmentations.push(image.segmentations.clone());
        Ok(())
    }

    pub(super) fn sizes(&self) -> Option<ImageSizes> {
        let each = self
            .width
            .iter()
            .zip(&self.height)
            .map(|(&width, &height)| ImageSizes::of(width, height));
        each.reduce(ImageSizes::union)
    }

    pub(super) fn tiles(&mut self) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.tile_counts));
        let starts = UInt32Array::from(std::mem::take(&mut self.tiles));
        Arc::new(ListArray::new(
            tiles_item(),
            offsets,
            Arc::new(starts),
            None,
        ))
    }

    pub(super) fn arrays(&mut self) -> (ArrayRef, ArrayRef) {
        (Arc::new(self.bytes.finish()), Arc::new(self.path.finish()))
    }
}

/// Gives an array the exact type that the schema asks for; only the names in list types may differ.
pub(super) fn conform(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let wrong = || format!("is {}, expected {data_type}", array.data_type());
    if let (DataType::List(item), Some(list)) = (data_type, array.as_list_opt::<i32>()) {
        if list.values().null_count() > 0 {
            return Err(wrong());
        }
        let values = conform(list.values().clone(), item.data_type())?;
        let list = ListArray::new(item.clone(), list.offsets().clone(), values, None);
        return Ok(Arc::new(list));
    }
    let (DataType::FixedSizeList(item, size), Some(list)) =
        (data_type, array.as_fixed_size_list_opt())
    else {
        return Err(wrong());
    };
    if list.value_length() != *size
        || list.values().data_type() != item.data_type()
        || list.values().null_count() > 0
    {
        return Err(wrong());
    }
    Ok(Arc::new(FixedSizeListArray::new(
        item.clone(),
        *size,
        list.values().clone(),
        None,
    )))
}

pub(super) fn tensor(values: Vec<u8>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let DataType::FixedSizeList(item, size) = data_type else {
        return Err(Error::source("raw pixels need a tensor field"));
    };
    let length = rows * *size as usize;
    let data = ArrayData::builder(item.data_type().clone())
        .len(length)
        .add_buffer(Buffer::from_vec(values));
    let values = make_array(
        data.build()
            .map_err(|error| Error::source(error.to_string()))?,
    );
    Ok(Arc::new(FixedSizeListArray::new(
        item.clone(),
        *size,
        values,
        None,
    )))
}
