//! Which lists of operations can't be carried out.

use super::arrange::{before_values, only_erases};
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat};
use crate::transform::Operation;

pub(super) fn check_order(operations: &[Operation]) -> Result<()> {
    let mut values_changed = false;
    for (at, operation) in operations.iter().enumerate() {
        operation.check()?;
        if at > 0 && matches!(operation, Operation::Decode(_)) {
            return Err(Error::option(
                "Decode must come first in a field's transforms",
            ));
        }
        let changes = matches!(
            operation,
            Operation::ToDtype { .. } | Operation::Normalize { .. }
        );
        let pixels_stay = match operation {
            Operation::Decode(_) | Operation::Grayscale { .. } => true,
            _ => changes || only_erases(operation),
        };
        if values_changed && !pixels_stay {
            return Err(Error::option(format!(
                "transform {at} moves or changes pixels after ToDtype or Normalize; put it before them"
            )));
        }
        values_changed |= changes;
    }
    Ok(())
}

pub(super) fn check_fill(operations: &[Operation], format: PixelFormat) -> Result<()> {
    let most = if format.depth == Depth::Eight {
        u16::from(u8::MAX)
    } else {
        u16::MAX
    };
    for operation in operations.iter().flat_map(Operation::parts) {
        if let Some(fill) = operation.fill()
            && ((fill.len() != 1 && fill.len() != format.channels)
                || fill.iter().any(|&value| value > most))
        {
            return Err(Error::option(format!(
                "fill is {fill:?}, expected one value or {}, each at most {most}",
                format.channels
            )));
        }
    }
    Ok(())
}

pub(super) fn check_effects(operations: &[Operation], format: PixelFormat) -> Result<()> {
    match before_values(operations)
        .iter()
        .position(Operation::is_effect)
    {
        Some(at) if format.depth != Depth::Eight => Err(Error::option(format!(
            "transform {at} changes pixel values, which must have 8 bits; these have 16"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a mosaic in a place of a list where it can't be made.
pub(super) fn check_mosaic(operations: &[Operation]) -> Result<()> {
    let is_mosaic = |operation: &&Operation| matches!(operation, Operation::Mosaic(_));
    let Some(at) = operations.iter().position(|one| is_mosaic(&one)) else {
        return Ok(());
    };
    let fits = |before: &Operation| matches!(before, Operation::Decode(_)) || before.is_geometry();
    if let Some(wrong) = operations[..at].iter().position(|before| !fits(before)) {
        return Err(Error::option(format!(
            "transform {wrong} stands before Mosaic, where only Decode and what moves pixels may; put it after Mosaic"
        )));
    }
    if operations.iter().filter(is_mosaic).count() > 1 {
        return Err(Error::option("Mosaic stands twice in a list"));
    }
    Ok(())
}
