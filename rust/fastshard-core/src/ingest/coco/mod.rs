//! COCO annotations as a table: one row an image, lists of its boxes beside it.
//!
//! The file is read once, from front to end, into flat columns; nothing is kept of what isn't asked for, and no
//! annotation is ever an object of its own. Images may come behind their annotations, so these are put into the order of
//! the images at the end, those of one image in the order of the file.

mod check;
mod parse;
mod place;
mod segmentation;
mod table;
mod value;

use std::io::{BufReader, Read};
use std::path::Path;

use arrow_array::RecordBatch;
use serde::de::DeserializeSeed;
use serde_json::Value;

use self::parse::{Document, Parsed};
use self::place::Place;
use crate::error::{Error, Result};
use crate::regular;

const BUFFER: usize = 1 << 20;

/// What a COCO file says.
#[derive(Debug)]
pub struct Coco {
    /// `image` (its `file_name`, without `.` and doubled slashes) and `image_id`; then, where there are boxes or might
    /// be, the lists `boxes` (x1, y1, x2, y2), `labels` (from 0), `annotation_id`, `iscrowd`, and those that
    /// annotations have: `area`, `keypoints` and, as JSON, `segmentation`. Or `caption`, `captions` and `annotation_id`.
    /// Last, where any image says how large it is, `_declared_width` and `_declared_height`, 0 for those that don't.
    pub table: RecordBatch,
    /// The categories in the order of the labels, sorted by id.
    pub categories: Vec<Value>,
}

/// Reads a file of COCO's instances, keypoints or captions.
pub fn read_coco(path: &Path) -> Result<Coco> {
    let file = regular::open_to_read(path).map_err(Error::io(path))?;
    parse_coco(path, BufReader::with_capacity(BUFFER, file))
}

/// Reads what such a file holds; `path` is for messages.
pub fn parse_coco(path: &Path, input: impl Read) -> Result<Coco> {
    let mut parsed = Parsed::default();
    let mut place = Place::default();
    let mut reader = serde_json::Deserializer::from_reader(input);
    Document(&mut parsed, &mut place)
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| place.explain(path, error))?;
    let bad = |reason| Error::source(format!("{}: {reason}", path.display()));
    let rows = check::rows(&parsed).map_err(bad)?;
    let table = table::build(&parsed, &rows).map_err(bad)?;
    let described = &parsed.categories.described;
    let categories = rows.categories.iter().map(|&at| described[at].clone());
    Ok(Coco {
        table,
        categories: categories.collect(),
    })
}

#[cfg(test)]
mod tests;
