//! Boxes and what runs along with them, when images are packed smaller, larger, or with a border.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch};

use crate::error::{Error, Result};
use crate::imaging::Moves;
use crate::schema::{Field, Kind};

/// Refuses a row that says more or less than one thing of each of its boxes.
pub(super) fn check_lengths(
    fields: &[Field],
    table: &RecordBatch,
    row: usize,
    number: u64,
) -> Result<()> {
    let length = |name: &str| {
        table
            .column_by_name(name)
            .and_then(|column| length(column, row))
    };
    for field in fields {
        let Kind::List {
            along: Some(boxes), ..
        } = &field.kind
        else {
            continue;
        };
        if let (Some(found), Some(expected)) = (length(&field.name), length(boxes))
            && found != expected
        {
            return Err(Error::source(format!(
                "row {number}, field {:?}: {found} elements along {expected} boxes of {boxes:?}, expected as many",
                field.name
            )));
        }
    }
    Ok(())
}

fn length(column: &ArrayRef, row: usize) -> Option<usize> {
    let lists = column
        .as_list_opt::<i32>()
        .map(|lists| lists.value_length(row) as usize);
    lists.or_else(|| {
        column
            .as_list_opt::<i64>()
            .map(|lists| lists.value_length(row) as usize)
    })
}

/// A column whose elements go where their images' places went, if it is one of boxes or points.
pub(super) fn moved(
    column: ArrayRef,
    field: &Field,
    fields: &[Field],
    moves: &BTreeMap<String, Vec<Moves>>,
) -> Result<ArrayRef> {
    let (boxes, per_point) = match &field.kind {
        Kind::Boxes { .. } => (Some(field), None),
        Kind::List {
            along: Some(boxes),
            points: true,
            shape,
            ..
        } => (
            fields.iter().find(|field| field.name == *boxes),
            shape.last().copied(),
        ),
        _ => (None, None),
    };
    let Some(Kind::Boxes {
        image,
        format,
        normalized,
    }) = boxes.map(|field| &field.kind)
    else {
        return Ok(column);
    };
    let lists = column.as_list::<i32>();
    let moves = moves.get(image).filter(|moves| moves.len() == lists.len());
    let Some(moves) = moves.filter(|moves| !moves.iter().all(Moves::is_none)) else {
        return Ok(column);
    };
    let items = lists.values().as_fixed_size_list();
    let size = items.value_length() as usize;
    let mut numbers = items
        .values()
        .as_primitive::<Float32Type>()
        .values()
        .to_vec();
    for (row, moves) in moves.iter().enumerate() {
        let [start, end] = [row, row + 1].map(|at| lists.value_offsets()[at] as usize * size);
        let numbers = &mut numbers[start..end];
        match per_point {
            Some(per_point) => moves.move_points(numbers, per_point),
            None => moves.move_boxes(numbers, (*format, *normalized)),
        }
    }
    rebuilt(lists, items, numbers)
}

fn rebuilt(lists: &ListArray, items: &FixedSizeListArray, numbers: Vec<f32>) -> Result<ArrayRef> {
    let failed = |error: arrow_schema::ArrowError| Error::source(error.to_string());
    let (arrow_schema::DataType::FixedSizeList(number, size), arrow_schema::DataType::List(item)) =
        (items.data_type(), lists.data_type())
    else {
        return Err(Error::source("lists of fixed-size lists were expected"));
    };
    let items = FixedSizeListArray::try_new(
        number.clone(),
        *size,
        Arc::new(Float32Array::from(numbers)),
        None,
    );
    let items = Arc::new(items.map_err(failed)?);
    let lists = ListArray::try_new(item.clone(), lists.offsets().clone(), items, None);
    Ok(Arc::new(lists.map_err(failed)?))
}
