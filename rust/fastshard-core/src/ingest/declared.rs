//! Sizes that annotations say images have, against the images themselves: where the two differ, boxes lie elsewhere.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;

use crate::codec::Header;
use crate::error::{Error, Result};
use crate::transform::Move;

/// Columns of a table beside its fields: width and height, 0 for those that aren't declared, and where they stand.
pub(super) const WIDTH: &str = "_declared_width";
pub(super) const HEIGHT: &str = "_declared_height";
const PLACE: &str = "_declared_in";

/// Which way round the image lay whose size is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Stored,
    /// Turned as its EXIF data says.
    Upright,
    /// Either, or nothing is declared.
    Nothing,
}

/// Refuses an image that is as large as its annotation says neither as it is stored nor upright.
pub(super) fn told_by_size(
    table: &RecordBatch,
    row: usize,
    path: &str,
    header: &Header,
) -> Result<Told> {
    let side = |name| {
        let sides = table
            .column_by_name(name)?
            .as_primitive_opt::<UInt32Type>()?;
        (row < sides.len()).then(|| sides.value(row))
    };
    let (Some(width), Some(height)) = (side(WIDTH), side(HEIGHT)) else {
        return Ok(Told::Nothing);
    };
    if width == 0 || height == 0 {
        return Ok(Told::Nothing);
    }
    let (declared, stored) = ((width, height), (header.width, header.height));
    let upright = Move::upright(header.orientation, stored).size;
    match (declared == stored, declared == upright) {
        (true, true) => Ok(Told::Nothing),
        (true, false) => Ok(Told::Stored),
        (false, true) => Ok(Told::Upright),
        (false, false) => Err(differs(table, row, path, declared, stored, upright)),
    }
}

fn differs(
    table: &RecordBatch,
    row: usize,
    path: &str,
    declared: (u32, u32),
    stored: (u32, u32),
    upright: (u32, u32),
) -> Error {
    let places = table.column_by_name(PLACE);
    let place = places.and_then(|places| places.as_string_opt::<i32>());
    let place = place.map_or("its annotation", |places| places.value(row));
    let turned = if upright == stored {
        String::new()
    } else {
        format!(
            ", upright by its EXIF orientation {} x {}",
            upright.0, upright.1
        )
    };
    Error::source(format!(
        "{path}: {} x {} (width x height){turned}, but {place} says {} x {}",
        stored.0, stored.1, declared.0, declared.1
    ))
}
