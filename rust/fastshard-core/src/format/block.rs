//! One record batch with its columns downcast once, so that reaching a row costs no type check.

use std::borrow::Cow;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, PrimitiveArray, RecordBatch, StringArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::{CRC_COLUMN, PATH_COLUMN, audio_columns, image_columns};
use crate::error::{Error, Result};
use crate::schema::{Field, Kind};

/// The values of one field in one block.
#[derive(Clone, Debug)]
pub enum Column {
    /// Encoded images.
    Image {
        /// The files.
        bytes: BinaryArray,
        /// Where they came from.
        path: StringArray,
        /// Pixels a row, as stored.
        width: UInt32Array,
        /// Pixel rows, as stored.
        height: UInt32Array,
        /// EXIF orientation, 1 to 8.
        orientation: UInt8Array,
        /// Where the tiles of seekable JPEGs start.
        tiles: Tiles,
    },
    /// Encoded audio.
    Audio {
        /// The files.
        bytes: BinaryArray,
        /// Where they came from.
        path: StringArray,
        /// Frames a second.
        sample_rate: UInt32Array,
        /// Samples a frame.
        channels: UInt16Array,
        /// Frames.
        frames: UInt64Array,
    },
    /// Values that all take the same room, one after the other.
    Fixed {
        /// The values.
        values: Buffer,
        /// Bytes a row.
        row_bytes: usize,
    },
    /// Values of which each row has some, one after the other.
    List {
        /// Where each row's elements start, and where the last one's end.
        offsets: OffsetBuffer<i32>,
        /// The elements.
        values: Buffer,
        /// Bytes an element.
        item_bytes: usize,
    },
    /// Text.
    Text(StringArray),
    /// Bytes.
    Bytes(BinaryArray),
}

/// The tile indices of a block's images; none at all in version 1 of the format.
#[derive(Clone, Debug)]
pub struct Tiles(Option<(OffsetBuffer<i32>, ScalarBuffer<u32>)>);

impl Tiles {
    fn of(column: &ArrayRef) -> Option<Self> {
        let list = column.as_list_opt::<i32>()?;
        let values = list.values().as_primitive_opt::<UInt32Type>()?;
        Some(Self(Some((
            list.offsets().clone(),
            values.values().clone(),
        ))))
    }

    /// Where the tiles of a row's image start in its bytes; empty where it isn't seekable.
    #[must_use]
    pub fn value(&self, row: usize) -> &[u32] {
        self.0.as_ref().map_or(&[], |(offsets, values)| {
            &values[offsets[row] as usize..offsets[row + 1] as usize]
        })
    }
}

impl Column {
    /// Where the values of rows lie, in one piece.
    pub(crate) fn piece(&self, rows: Range<usize>) -> &[u8] {
        let between = |offsets: &[i32]| offsets[rows.start] as usize..offsets[rows.end] as usize;
        match self {
            Self::Fixed { values, row_bytes } => {
                &values[rows.start * row_bytes..rows.end * row_bytes]
            }
            Self::List {
                offsets,
                values,
                item_bytes,
            } => {
                let items = between(offsets);
                &values[items.start * item_bytes..items.end * item_bytes]
            }
            Self::Text(text) => &text.value_data()[between(text.value_offsets())],
            Self::Image { bytes, .. } | Self::Audio { bytes, .. } | Self::Bytes(bytes) => {
                &bytes.value_data()[between(bytes.value_offsets())]
            }
        }
    }

    /// How long a row of variable length is: elements of lists, frames of audio, bytes of others; 0 for those of fixed
    /// size.
    #[must_use]
    pub fn length(&self, row: usize) -> usize {
        let offsets = match self {
            Self::Fixed { .. } => return 0,
            Self::Audio { frames, .. } => return frames.value(row) as usize,
            Self::List { offsets, .. } => &offsets[..],
            Self::Text(text) => text.value_offsets(),
            Self::Image { bytes, .. } | Self::Bytes(bytes) => bytes.value_offsets(),
        };
        (offsets[row + 1] - offsets[row]) as usize
    }

    fn update_crc(&self, row: usize, crc: u32) -> u32 {
        let variable = |crc, bytes: &[u8]| {
            let crc = crc32c::crc32c_append(crc, &(bytes.len() as u64).to_le_bytes());
            crc32c::crc32c_append(crc, bytes)
        };
        match self {
            Self::Image { bytes, path, .. } | Self::Audio { bytes, path, .. } => {
                let crc = variable(crc, bytes.value(row));
                variable(crc, bytes_of(path, row))
            }
            Self::Fixed { values, row_bytes } => {
                crc32c::crc32c_append(crc, &values[row * row_bytes..][..*row_bytes])
            }
            Self::List { .. } => variable(crc, self.piece(row..row + 1)),
            Self::Text(text) => variable(crc, bytes_of(text, row)),
            Self::Bytes(bytes) => variable(crc, bytes.value(row)),
        }
    }
}

/// The bytes of a text, which nobody has looked at since the block was read.
pub(crate) fn bytes_of(texts: &StringArray, row: usize) -> &[u8] {
    let ends = &texts.value_offsets()[row..row + 2];
    &texts.value_data()[ends[0] as usize..ends[1] as usize]
}

/// A text. What Arrow found to be UTF-8 when the block was read need not be that any more, if somebody changes the file.
pub fn text_of(texts: &StringArray, row: usize) -> Result<&str> {
    let text = std::str::from_utf8(bytes_of(texts, row));
    text.map_err(|error| Error::decode(format!("a text that is not UTF-8: {error}")))
}

/// CRC32C of a row: its fields in order, variable ones preceded by their length as a little-endian `u64`.
#[must_use]
pub(crate) fn row_crc(columns: &[Column], row: usize) -> u32 {
    columns
        .iter()
        .fold(0, |crc, column| column.update_crc(row, crc))
}

/// A record batch, ready to be read.
#[derive(Clone, Debug)]
pub struct Block {
    rows: usize,
    columns: Vec<Column>,
    paths: Option<StringArray>,
    /// None for values in memory, which nobody wrote.
    crcs: Option<UInt32Array>,
    /// The same as Arrow has it; none for values in memory.
    batch: Option<RecordBatch>,
}

fn fixed(array: &ArrayRef, rows: usize, row_bytes: usize) -> Option<Column> {
    let data = array.to_data();
    let (values, start) = match data.child_data() {
        [] => (data, array.offset()),
        [items] => (items.clone(), 0),
        _ => return None,
    };
    if start != 0 || values.offset() != 0 || values.null_count() != 0 {
        return None;
    }
    let values = values.buffers().first()?;
    let length = rows.checked_mul(row_bytes)?;
    (values.len() >= length).then(|| Column::Fixed {
        values: values.slice_with_length(0, length),
        row_bytes,
    })
}

/// The elements of lists, which may themselves be of a fixed number of values.
fn list(array: &ArrayRef, field: &Field) -> Option<Column> {
    let (dtype, shape) = field.list()?;
    let list = array.as_list_opt::<i32>()?;
    let per_item = shape.iter().product::<usize>();
    let mut items = list.values().to_data();
    let count = items.len();
    if let [numbers] = items.child_data()
        && items.offset() == 0
        && items.null_count() == 0
    {
        items = numbers.clone();
    }
    if items.offset() != 0 || items.null_count() != 0 {
        return None;
    }
    let item_bytes = dtype.size() * per_item;
    let values = items.buffers().first()?;
    let length = count.checked_mul(item_bytes)?;
    let offsets = list.offsets().clone();
    // Arrow has seen to it that offsets ascend, and end within the elements.
    (values.len() >= length).then(|| Column::List {
        offsets,
        values: values.slice_with_length(0, length),
        item_bytes,
    })
}

/// A column of fastshard's own.
fn internal<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> Option<PrimitiveArray<T>> {
    let column = batch.column_by_name(name)?.as_primitive_opt::<T>()?;
    Some(column.clone())
}

fn column(batch: &RecordBatch, field: &Field) -> Option<Column> {
    let array = batch.column_by_name(&field.name)?;
    if array.null_count() != 0 {
        return None;
    }
    match &field.kind {
        Kind::Image => {
            let [width, height, orientation, tiles] = image_columns(&field.name);
            let image = array.as_struct_opt()?;
            Some(Column::Image {
                bytes: image.column_by_name("bytes")?.as_binary_opt()?.clone(),
                path: image.column_by_name("path")?.as_string_opt()?.clone(),
                width: internal::<UInt32Type>(batch, &width)?,
                height: internal::<UInt32Type>(batch, &height)?,
                orientation: internal::<UInt8Type>(batch, &orientation)?,
                tiles: match batch.column_by_name(&tiles) {
                    Some(column) => Tiles::of(column)?,
                    None => Tiles(None),
                },
            })
        }
        Kind::Audio => {
            let [sample_rate, channels, frames] = audio_columns(&field.name);
            let audio = array.as_struct_opt()?;
            Some(Column::Audio {
                bytes: audio.column_by_name("bytes")?.as_binary_opt()?.clone(),
                path: audio.column_by_name("path")?.as_string_opt()?.clone(),
                sample_rate: internal::<UInt32Type>(batch, &sample_rate)?,
                channels: internal::<UInt16Type>(batch, &channels)?,
                frames: internal::<UInt64Type>(batch, &frames)?,
            })
        }
        Kind::List { .. } | Kind::Boxes { .. } => list(array, field),
        Kind::Text => Some(Column::Text(array.as_string_opt()?.clone())),
        Kind::Bytes => Some(Column::Bytes(array.as_binary_opt()?.clone())),
        Kind::Class { .. } | Kind::Tensor { .. } | Kind::Scalar { .. } => {
            fixed(array, batch.num_rows(), field.fixed_bytes()?)
        }
    }
}

/// The columns of a batch for these fields; the error names the first that isn't as it should be.
pub(crate) fn columns(batch: &RecordBatch, fields: &[Field]) -> Result<Vec<Column>, String> {
    fields
        .iter()
        .map(|field| {
            column(batch, field)
                .ok_or_else(|| format!("column {:?} is not what the manifest says", field.name))
        })
        .collect()
}

impl Block {
    pub(crate) fn new(batch: &RecordBatch, fields: &[Field]) -> Result<Self, String> {
        let columns = columns(batch, fields)?;
        let crcs = batch
            .column_by_name(CRC_COLUMN)
            .and_then(|column| column.as_primitive_opt::<UInt32Type>())
            .ok_or_else(|| format!("no column {CRC_COLUMN}"))?
            .clone();
        let paths = batch
            .column_by_name(PATH_COLUMN)
            .and_then(|column| column.as_string_opt())
            .cloned();
        Ok(Self {
            rows: batch.num_rows(),
            columns,
            paths,
            crcs: Some(crcs),
            batch: Some(batch.clone()),
        })
    }

    /// Values that lie in memory.
    pub(crate) fn in_memory(rows: usize, columns: Vec<Column>) -> Self {
        Self {
            rows,
            columns,
            paths: None,
            crcs: None,
            batch: None,
        }
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values of the field at this place in the schema.
    #[must_use]
    pub fn column(&self, field: usize) -> &Column {
        &self.columns[field]
    }

    /// Where a row came from, empty where that isn't known.
    #[must_use]
    pub fn source_path(&self, row: usize) -> Cow<'_, str> {
        let file = self.columns.iter().find_map(|column| match column {
            Column::Image { path, .. } | Column::Audio { path, .. } => Some(path),
            _ => None,
        });
        let path = self.paths.as_ref().or(file);
        // It goes into messages about files that were altered: it may be altered, too.
        path.map_or(Cow::default(), |paths| {
            String::from_utf8_lossy(bytes_of(paths, row))
        })
    }

    /// Checks a row against its checksum.
    pub fn check(&self, row: usize) -> Result<(), String> {
        let Some(crcs) = &self.crcs else {
            return Ok(());
        };
        let (expected, found) = (crcs.value(row), row_crc(&self.columns, row));
        // Fuzzed rows never match theirs, and are to be read.
        if expected == found || cfg!(fuzzing) {
            return Ok(());
        }
        Err(format!(
            "checksum mismatch: stored {expected:08x}, computed {found:08x}"
        ))
    }

    /// The block as Arrow has it, with offsets that were checked; `None` for values in memory.
    #[must_use]
    pub fn batch(&self) -> Option<&RecordBatch> {
        self.batch.as_ref()
    }

    /// The checksum that the manifest holds of a block, over the message's header and the rows' checksums, and since
    /// version 4 that of the offsets and of fastshard's own columns.
    pub(crate) fn index_crc(&self, header: &[u8], index: Option<u32>) -> u32 {
        let rows: &[u8] = self.crcs.as_ref().map_or(&[], |crcs| crcs.values().inner());
        let crc = crc32c::crc32c_append(crc32c::crc32c(header), rows);
        index.map_or(crc, |index| {
            crc32c::crc32c_append(crc, &index.to_le_bytes())
        })
    }
}
