//! Whether images, annotations and categories fit together, and which annotations belong to which image.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use super::parse::{Annotations, Categories, Parsed};

/// What the annotations of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Boxes,
    Captions,
}

/// Images, and which annotations belong to each.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) content: Content,
    /// Annotations in the order of the images; those of one image as they came.
    pub(super) order: Vec<usize>,
    /// How many each image has.
    pub(super) counts: Vec<usize>,
    /// The category of each annotation, from 0; empty for captions.
    pub(super) labels: Vec<i64>,
    /// Categories, sorted by their ids.
    pub(super) categories: Vec<usize>,
}

/// Checks ids and references. Errors count entries from 1.
pub(super) fn rows(parsed: &Parsed) -> Result<Rows, String> {
    let (images, annotations) = (&parsed.images, &parsed.annotations);
    if images.id.is_empty() {
        return Err("no images".into());
    }
    if annotations.id.len() > i32::MAX as usize {
        return Err("more than 2,147,483,647 annotations".into());
    }
    let row_of = unique("images", "id", &images.id)?;
    unique("images", "file_name", &images.name)?;
    unique("annotations", "id", &annotations.id)?;
    let (categories, code_of) = codes(&parsed.categories)?;
    let content = content(annotations)?;
    let labels = match content {
        Content::Boxes => labels(annotations, &code_of)?,
        Content::Captions => Vec::new(),
    };
    let row = |at: usize| {
        let id = annotations.image[at];
        let row = row_of.get(&id).copied();
        row.ok_or_else(|| {
            format!(
                "{}: image_id {id} is no image of the file",
                named(annotations, at)
            )
        })
    };
    let rows = (0..annotations.id.len()).map(row);
    let rows = rows.collect::<Result<Vec<usize>, String>>()?;
    let mut counts = vec![0; images.id.len()];
    for &row in &rows {
        counts[row] += 1;
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| rows[at]); // stable: those of one image stay as they came
    Ok(Rows {
        content,
        order,
        counts,
        labels,
        categories,
    })
}

/// Categories sorted by id, and the number of each by its id.
fn codes(categories: &Categories) -> Result<(Vec<usize>, HashMap<i64, i64>), String> {
    unique("categories", "id", &categories.id)?;
    unique("categories", "name", &categories.name)?;
    let mut sorted: Vec<usize> = (0..categories.id.len()).collect();
    sorted.sort_by_key(|&at| categories.id[at]);
    let code_of = (0..)
        .zip(&sorted)
        .map(|(code, &at)| (categories.id[at], code));
    let code_of = code_of.collect();
    Ok((sorted, code_of))
}

fn labels(annotations: &Annotations, code_of: &HashMap<i64, i64>) -> Result<Vec<i64>, String> {
    let label = |(at, category): (usize, &Option<i64>)| {
        let id = category.ok_or_else(|| format!("{}: no category_id", named(annotations, at)))?;
        let code = code_of.get(&id).copied();
        code.ok_or_else(|| {
            let annotation = named(annotations, at);
            format!("{annotation}: category_id {id} is no category of the file")
        })
    };
    annotations.category.iter().enumerate().map(label).collect()
}

fn named(annotations: &Annotations, at: usize) -> String {
    format!("annotation {} (id {})", at + 1, annotations.id[at])
}

/// Which entry has which value; an error if two have the same.
fn unique<'a, T: Debug + Eq + Hash>(
    entries: &str,
    field: &str,
    values: &'a [T],
) -> Result<HashMap<&'a T, usize>, String> {
    let mut found = HashMap::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        if let Some(before) = found.insert(value, at) {
            let (first, second) = (before + 1, at + 1);
            return Err(format!(
                "{entries} {first} and {second} have the same {field}, {value:?}"
            ));
        }
    }
    Ok(found)
}

/// Boxes or captions: all annotations must have one of them.
fn content(annotations: &Annotations) -> Result<Content, String> {
    let boxes = annotations.corners.iter().flatten().count();
    let captions = (0..annotations.id.len()).filter(|&at| !annotations.caption.get(at).is_empty());
    let count = annotations.id.len();
    if boxes == 0 && count > 0 && captions.count() == count {
        return Ok(Content::Captions);
    }
    match annotations.corners.iter().position(Option::is_none) {
        Some(at) => Err(format!("{}: no bbox", named(annotations, at))),
        None => Ok(Content::Boxes),
    }
}
