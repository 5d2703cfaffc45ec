//! Builds the fields of a batch that need all of its rows: lists, boxes with the lists along with them, and matrices.

use std::collections::HashMap;

use super::boxes;
use crate::error::Result;
use crate::order::Drawn;
use crate::pipeline::plan::{Plan, Work};
use crate::pipeline::values::BatchField;

/// Builds the lists of a batch, in the order of the fields. Boxes and lists along with them follow their images'
/// geometry.
pub(super) fn build_sequences(
    plan: &Plan,
    rows: &[Drawn],
    made: &Made<'_>,
    run: bool,
    epoch: u64,
) -> Result<Vec<BatchField>> {
    let moved = boxes::of_rows(plan, rows, epoch)?;
    let mut built = Vec::new();
    for (at, field) in plan.fields.iter().enumerate() {
        if let Some((field, sequence)) = field.sequence() {
            let role = sequence.role.as_ref();
            let of = role.and_then(|role| moved[role.told_of().unwrap_or(at)].as_deref());
            built.extend(match field.work {
                Work::Audio(_) => sequence.of_made(&field.name, &made.lists(at))?,
                _ => sequence.build(&plan.dataset, field, rows, run, of)?,
            });
        } else if field.matrices {
            built.extend(boxes::matrices(plan, field, rows, epoch)?);
        }
    }
    Ok(built)
}

/// Waveforms of the rows that are kept, of fields whose samples differ in length: field, row, values.
pub(super) struct Made<'a> {
    pub(super) kept: &'a [usize],
    pub(super) values: &'a [(usize, usize, Vec<f32>)],
}

impl Made<'_> {
    /// The waveforms of a field, in the order of the rows.
    fn lists(&self, field: usize) -> Vec<&[u8]> {
        let own = self.values.iter().filter(|(other, ..)| *other == field);
        let by_row: HashMap<usize, &[f32]> = own.map(|(_, row, made)| (*row, &made[..])).collect();
        let of_row = |row| by_row.get(row).copied().unwrap_or_default();
        let rows = self.kept.iter();
        rows.map(|row| bytemuck::cast_slice(of_row(row))).collect()
    }
}
