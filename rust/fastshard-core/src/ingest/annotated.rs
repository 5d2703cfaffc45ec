//! Images that EXIF data turns, and annotations that were made on them: some programs turn what they show, others don't.
//!
//! In a dataset, boxes and what runs along with them lie in the image as it is stored; what was annotated upright is turned
//! back here, or its pixels are turned, where they are encoded anew.

use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};

use super::declared::{Told, told_by_size};
use super::spec::{Annotated, PackSpec};
use crate::codec::Header;
use crate::error::{Error, Result};
use crate::imaging::{Moves, moved_segmentations};
use crate::schema::Kind;

/// The field of text that holds the segmentations of boxes.
pub(super) const SEGMENTATION: &str = "segmentation";

/// What the images of a source say of each other.
#[derive(Debug, Default)]
pub(super) struct Evidence(Mutex<Seen>);

/// The first image of each kind.
#[derive(Debug, Default)]
struct Seen {
    upright: Option<String>,
    taken_as_stored: Option<String>,
}

impl Evidence {
    /// Notes an image; an error once one was taken as stored though another is known to be upright.
    fn note(&self, path: &str, upright: bool) -> Result<()> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen {
            upright: known,
            taken_as_stored: taken,
        } = &mut *seen;
        let noted = if upright { &mut *known } else { &mut *taken };
        noted.get_or_insert_with(|| path.to_owned());
        let (Some(known), Some(taken)) = (known, taken) else {
            return Ok(());
        };
        Err(Error::option(format!(
            "annotated=\"auto\": {taken} is turned by its EXIF orientation, and no size tells whether its boxes lie in the \
             upright image or in the stored one, while those of {known} lie in the upright one; expected \"upright\" or \
             \"stored\" for such images"
        )))
    }
}

/// Whether the boxes of an image lie in the turned one. Refuses sizes that aren't the image's.
pub(super) fn is_upright(
    spec: &PackSpec,
    evidence: &Evidence,
    (table, row): (&RecordBatch, usize),
    (name, path): (&str, &str),
    header: &Header,
) -> Result<bool> {
    let told = told_by_size(table, row, path, header)?;
    if header.orientation == 1 || boxes_in(spec, name).is_none() {
        return Ok(false);
    }
    match (told, spec.annotated) {
        (Told::Stored, _) => return Ok(false),
        (_, Annotated::Auto) => evidence.note(path, told == Told::Upright)?,
        _ => {}
    }
    Ok(told == Told::Upright || spec.annotated == Annotated::Upright)
}

/// Whether the boxes in an image are in shares of its width and height, if there are any.
fn boxes_in(spec: &PackSpec, name: &str) -> Option<bool> {
    let mut kinds = spec.fields.iter().map(|field| &field.kind);
    kinds.find_map(|kind| match kind {
        Kind::Boxes {
            image, normalized, ..
        } if image == name => Some(*normalized),
        _ => None,
    })
}

/// Where an image's places go that is stored as it came, if any boxes lie in it.
pub(super) fn moves_of(
    spec: &PackSpec,
    name: &str,
    header: &Header,
    upright: bool,
) -> Option<Moves> {
    boxes_in(spec, name)?;
    Some(if upright {
        Moves::to_stored(header)
    } else {
        Moves::none((header.width, header.height))
    })
}

/// The segmentations of a row's boxes where moves take them, if it has some and they move.
pub(super) fn segmentations(
    spec: &PackSpec,
    name: &str,
    (table, row): (&RecordBatch, usize),
    moves: Option<&Moves>,
) -> Result<Option<String>> {
    let moves = moves.filter(|moves| !moves.is_none());
    let texts = (spec.fields.iter())
        .find(|field| field.name == SEGMENTATION && field.kind == Kind::Text)
        .and_then(|field| table.column_by_name(&field.name)?.as_string_opt::<i32>());
    let (Some(moves), Some(texts), Some(normalized)) = (moves, texts, boxes_in(spec, name)) else {
        return Ok(None);
    };
    let moved = moved_segmentations(texts.value(row), moves, normalized);
    moved.map(Some).map_err(|reason| {
        Error::decode(format!(
            "field {SEGMENTATION:?}, to be turned with its image: {reason}"
        ))
    })
}

/// A column of texts, some of which are others now.
pub(super) fn replaced(column: ArrayRef, others: &[Option<String>]) -> ArrayRef {
    let Some(texts) = column.as_string_opt::<i32>() else {
        return column;
    };
    let each = texts.iter().zip(others);
    let each = each.map(|(text, other)| other.as_deref().or(text).unwrap_or_default());
    std::sync::Arc::new(StringArray::from_iter_values(each))
}
