//! Sizes that annotations say images have, against the images themselves: where the two differ, boxes lie elsewhere.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;

use crate::codec::Header;
use crate::error::{Error, Result};

/// Columns of a table beside its fields: width and height, 0 for those that aren't declared, and where they stand.
pub(super) const WIDTH: &str = "_declared_width";
pub(super) const HEIGHT: &str = "_declared_height";
const PLACE: &str = "_declared_in";

/// Refuses an image that isn't as large as its annotation says.
pub(super) fn check_size(
    table: &RecordBatch,
    row: usize,
    path: &str,
    header: &Header,
) -> Result<()> {
    let side = |name| {
        let sides = table
            .column_by_name(name)?
            .as_primitive_opt::<UInt32Type>()?;
        (row < sides.len()).then(|| sides.value(row))
    };
    let (Some(width), Some(height)) = (side(WIDTH), side(HEIGHT)) else {
        return Ok(());
    };
    if width == 0 || height == 0 || (width, height) == (header.width, header.height) {
        return Ok(());
    }
    let places = table.column_by_name(PLACE);
    let place = places.and_then(|places| places.as_string_opt::<i32>());
    let place = place.map_or("its annotation", |places| places.value(row));
    let turned = header.orientation > 4 && (width, height) == (header.height, header.width);
    let hint = if turned {
        ", as it is once its EXIF orientation has turned it; its boxes need the file itself turned"
    } else {
        ""
    };
    Err(Error::source(format!(
        "{path}: {} x {} (width x height), but {place} says {width} x {height}{hint}",
        header.width, header.height
    )))
}
