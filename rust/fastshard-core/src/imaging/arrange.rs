//! Which operations of a list are steps of each sample's recipe, and which make up the value chain at the end.
//!
//! Turning colour into gray is best left to the end, where it is one pass with everything else; but what changes or paints
//! pixels after it must find a gray image. Then it becomes a step, and the value chain starts from its result.

use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat};
use crate::transform::Operation;

#[derive(Debug)]
pub(super) struct Arranged {
    /// With their places in the list, which key the random draws.
    pub(super) steps: Vec<(usize, Operation)>,
    pub(super) values: Vec<Operation>,
    /// What the value chain starts from.
    pub(super) input: PixelFormat,
}

fn changes_values(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::ToDtype { .. } | Operation::Normalize { .. }
    )
}

/// The operations that find 8 or 16-bit pixels as they were decoded.
pub(super) fn before_values(operations: &[Operation]) -> &[Operation] {
    let end = operations.iter().position(changes_values);
    &operations[..end.unwrap_or(operations.len())]
}

/// Whether it may come after the value chain.
pub(super) fn only_erases(operation: &Operation) -> bool {
    let erases = |part: &Operation| matches!(part, Operation::RandomErasing(_));
    operation.parts().into_iter().all(erases)
}

/// Whether it tells a gray image from one that will be gray.
fn sees_gray(operation: &Operation) -> bool {
    let paints = |part: &&Operation| part.fill().is_some_and(|fill| fill.iter().any(|&v| v > 0));
    operation.is_effect() || operation.parts().iter().any(paints)
}

impl Arranged {
    pub(super) fn new(operations: &[Operation], format: PixelFormat) -> Self {
        let (mut steps, mut values, mut input) = (Vec::new(), Vec::new(), format);
        let pixels = before_values(operations);
        for (at, operation) in operations.iter().enumerate() {
            match operation {
                Operation::Decode(_) => {}
                Operation::Grayscale {
                    num_output_channels,
                } => {
                    let seen = pixels.iter().skip(at + 1).any(sees_gray);
                    if seen && input.channels == 3 && format.depth == Depth::Eight {
                        input.channels = *num_output_channels;
                        steps.push((at, operation.clone()));
                    } else {
                        values.push(operation.clone());
                    }
                }
                _ => {
                    if changes_values(operation) {
                        values.push(operation.clone());
                    }
                    steps.push((at, operation.clone()));
                }
            }
        }
        Self {
            steps,
            values,
            input,
        }
    }
}

/// Refuses erasing with values that the pixels can't have by then, or before a normalisation that would change them.
pub(super) fn check_erasing(
    steps: &[(usize, Operation)],
    format: PixelFormat,
    finished: usize,
) -> Result<()> {
    let (mut channels, mut most, mut erased) = (format.channels, Some(255.0), false);
    for (at, step) in steps {
        if changes_values(step) {
            if erased && most.is_none() {
                return Err(Error::option(format!(
                    "transform {at} changes values that RandomErasing has painted after ToDtype; put RandomErasing \
                     after it, or before both"
                )));
            }
            (channels, most) = (finished, None);
        }
        if let Operation::Grayscale {
            num_output_channels,
        } = step
        {
            channels = *num_output_channels;
        }
        for part in step.parts() {
            if let Operation::RandomErasing(erasing) = part {
                erased = true;
                erasing.check_value(channels, most)?;
            }
        }
    }
    Ok(())
}
