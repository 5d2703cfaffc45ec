//! Images that go where another field's image goes: masks, and pairs of input and target.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::pipeline::spec::Spec;
use crate::schema::Field;
use crate::transform::{Mask, Operation};

/// A list with `Follow` in it, written out.
pub(super) struct Followed {
    pub(super) operations: Vec<Operation>,
    /// The field that is followed.
    pub(super) field: usize,
    pub(super) mask: Option<Mask>,
    /// How many places later each operation stands than in the list that is followed.
    pub(super) shift: isize,
}

/// Writes the list of a field out, if it follows another: `Decode` before `Follow`, changes of values after it.
pub(super) fn expanded(
    dataset: &Dataset,
    field: &Field,
    asked: &[Operation],
    spec: &Spec,
) -> Result<Option<Followed>> {
    let mut places = asked.iter().enumerate();
    let Some((at, follow)) = places.find_map(|(at, one)| match one {
        Operation::Follow(follow) => Some((at, follow)),
        _ => None,
    }) else {
        return Ok(None);
    };
    let (before, after) = (&asked[..at], &asked[at + 1..]);
    let bad = |what: String| {
        Error::option(format!(
            "field {:?}: Follow({:?}): {what}",
            field.name, follow.field
        ))
    };
    if !matches!(before, [] | [Operation::Decode(_)]) || !after.iter().all(changes_values) {
        return Err(bad(
            "only Decode may come before it, and ToDtype and Normalize after it".into(),
        ));
    }
    let index = dataset.field(&follow.field)?;
    let others = spec
        .transforms
        .get(&follow.field)
        .map_or(&[][..], Vec::as_slice);
    if follow.field == field.name || others.iter().any(|one| matches!(one, Operation::Follow(_))) {
        return Err(bad("expected a field that follows none".into()));
    }
    let decodes = matches!(others, [Operation::Decode(_), ..]);
    let rest = &others[usize::from(decodes)..];
    let kept = |operation: &Operation| match operation {
        one if changes_values(one) || matches!(one, Operation::Grayscale { .. }) => {
            Operation::nothing()
        }
        one if follow.mask.is_some() && one.is_effect() && one.parts() == [one] => {
            Operation::nothing()
        }
        one => one.clone(),
    };
    let operations = before
        .iter()
        .cloned()
        .chain(rest.iter().map(kept))
        .chain(after.iter().cloned());
    Ok(Some(Followed {
        operations: operations.collect(),
        field: index,
        mask: follow.mask.clone(),
        shift: before.len() as isize - isize::from(decodes),
    }))
}

fn changes_values(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::ToDtype { .. } | Operation::Normalize { .. }
    )
}
