//! Columns of files in the making, of images or of audio.

use super::audio_column::AudioColumn;
use super::byte_column::ByteColumn;
use super::image_column::{ImageColumn, Stored};
use crate::codec::AudioHeader;
use crate::error::Result;
use crate::schema::{Field, Kind};

/// The file of a row's field, as it will be stored.
pub(super) enum File {
    Image(Stored),
    Audio(String, AudioHeader),
}

/// The files of a field of a unit.
pub(super) enum FileColumn {
    Image(Box<ImageColumn>),
    Audio(Box<AudioColumn>),
}

impl FileColumn {
    pub(super) fn of(field: &Field) -> Self {
        match field.kind {
            Kind::Audio => Self::Audio(Box::default()),
            _ => Self::Image(Box::default()),
        }
    }

    /// Takes a file.
    pub(super) fn push(&mut self, file: &File, raw: bool) -> Result<()> {
        match (self, file) {
            (Self::Image(column), File::Image(image)) => column.push(image, raw),
            (Self::Audio(column), File::Audio(path, header)) => column.push(path, header),
            _ => unreachable!("columns are made for their fields"),
        }
    }

    /// The bytes of its files.
    pub(super) fn bytes(&mut self) -> &mut ByteColumn {
        match self {
            Self::Image(column) => &mut column.bytes,
            Self::Audio(column) => &mut column.bytes,
        }
    }
}

/// The segmentations of all rows, if any of them went along with its image.
pub(super) fn turned_segmentations(files: &mut [FileColumn]) -> Option<Vec<Option<String>>> {
    let mut columns = files.iter_mut().filter_map(|column| match column {
        FileColumn::Image(image) => Some(std::mem::take(&mut image.segmentations)),
        FileColumn::Audio(_) => None,
    });
    columns.find(|column| column.iter().any(Option::is_some))
}
