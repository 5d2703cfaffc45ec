//! What the fields of a batch have to do with each other: boxes with their images, lists and masks with their boxes, labels
//! with images that are mixed.

use super::boxes::Boxes;
use super::field::{PlannedField, Work, has_pixels, no_pixels};
use super::lists::Sequence;
use super::role::{Masks, Role};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::imaging::{ImagePlan, pixel_tensor};
use crate::pipeline::spec::{BatchOperation, MaskSpec, Spec};
use crate::schema::{Field, Kind};

/// Finds what lists have to do with boxes, among the fields that are loaded.
pub(in crate::pipeline) fn relate_boxes(
    dataset: &Dataset,
    spec: &Spec,
    fields: &mut [PlannedField],
) -> Result<()> {
    let place =
        |fields: &[PlannedField], name: &str| fields.iter().position(|field| field.name == name);
    for at in 0..fields.len() {
        let field = &dataset.fields()[fields[at].index];
        let role = match &field.kind {
            Kind::Boxes { image, .. } => {
                let spec = fields[at]
                    .sequence()
                    .map(|(_, sequence)| sequence.box_spec());
                let image = place(fields, image);
                Boxes::new(dataset, field, spec.unwrap_or_default(), image)?.map(Role::Boxes)
            }
            Kind::List {
                along: Some(boxes),
                points,
                ..
            } => place(fields, boxes).map(|boxes| Role::Along {
                boxes,
                points: *points,
            }),
            _ => None,
        };
        if let Work::Sequence(sequence) = &mut fields[at].work {
            sequence.role = role;
        }
    }
    relate_masks(dataset, spec, fields)
}

/// Finds the boxes that masks belong to.
fn relate_masks(dataset: &Dataset, spec: &Spec, fields: &mut [PlannedField]) -> Result<()> {
    for at in 0..fields.len() {
        let Some(asked) = spec.lists.get(&fields[at].name) else {
            continue;
        };
        if let Some(masks) = &asked.masks {
            let field = &dataset.fields()[fields[at].index];
            let masks = masks_of(dataset, field, masks, fields)?;
            let sequence =
                Sequence::of_masks(&field.name, masks, asked.clone(), spec.prefetch + 2)?;
            (fields[at].work, fields[at].text) = (Work::Sequence(Box::new(sequence)), false);
        }
    }
    Ok(())
}

/// The masks of a field of texts, with the boxes that they belong to.
fn masks_of(
    dataset: &Dataset,
    field: &Field,
    spec: &MaskSpec,
    fields: &[PlannedField],
) -> Result<Masks> {
    let bad = |what: String| Error::option(format!("field {:?}: {what}", field.name));
    if field.kind != Kind::Text {
        return Err(bad("it holds no text, and so no segmentations".into()));
    }
    let loaded = |name: &str| {
        let place = fields.iter().position(|field| field.name == name);
        place.ok_or_else(|| {
            bad(format!(
                "instance masks need field {name:?}, which is not loaded"
            ))
        })
    };
    let boxes = loaded(&spec.boxes)?;
    let kind = &dataset.fields()[fields[boxes].index].kind;
    let Kind::Boxes {
        image, normalized, ..
    } = kind
    else {
        return Err(bad(format!("field {:?} holds no boxes", spec.boxes)));
    };
    let image = &fields[loaded(image)?];
    let stored = pixel_tensor(&dataset.fields()[image.index]).map(|(_, size)| size);
    let size = image.image().map_or(stored, ImagePlan::size);
    let size = size.ok_or_else(|| bad("its image has no size that is known".into()))?;
    Ok(Masks {
        boxes,
        normalized: spec.normalized.unwrap_or(*normalized),
        size: size.map(|side| side as usize),
    })
}

/// Arrays that come with lists must not be called like another field.
pub(in crate::pipeline) fn check_names(fields: &[PlannedField]) -> Result<()> {
    let mut names = std::collections::HashSet::new();
    for output in fields.iter().flat_map(PlannedField::outputs) {
        if !names.insert(output.name.clone()) {
            return Err(Error::option(format!(
                "two arrays of a batch would be called {:?}; leave one field out with `fields`",
                output.name
            )));
        }
    }
    Ok(())
}

/// Refuses batch transforms that find no fields to mix.
pub(in crate::pipeline) fn check_mixes(
    dataset: &Dataset,
    spec: &Spec,
    fields: &[PlannedField],
) -> Result<()> {
    spec.batch_transforms
        .iter()
        .try_for_each(BatchOperation::check)?;
    for mix in spec.mixes() {
        let find = |name: &str| {
            let found = fields.iter().find(|field| field.name == name);
            found.ok_or_else(|| {
                Error::option(format!(
                    "a batch transform needs field {name:?}, which is not loaded"
                ))
            })
        };
        let (image, label) = (find(&mix.image)?, find(&mix.label)?);
        let lies_in = |field: &PlannedField| matches!(&dataset.fields()[field.index].kind, Kind::Boxes { image, .. } if *image == mix.image);
        if let Some(boxes) = fields.iter().find(|field| lies_in(field)) {
            return Err(Error::option(format!(
                "a batch transform mixes images of {:?}, which would leave the boxes of {:?} wrong",
                mix.image, boxes.name
            )));
        }
        if !has_pixels(dataset, image) {
            return Err(no_pixels(&dataset.fields()[image.index]));
        }
        if !matches!(label.work, Work::Label(_)) || label.shape != [mix.num_classes] {
            return Err(Error::option(format!(
                "field {:?} can't be a label of {} classes",
                mix.label, mix.num_classes
            )));
        }
    }
    Ok(())
}

/// Refuses ways back to the source's pixels where there are none.
pub(in crate::pipeline) fn check_matrices(spec: &Spec, fields: &[PlannedField]) -> Result<()> {
    if !spec.matrices {
        return Ok(());
    }
    if fields.iter().all(|field| !field.matrices) {
        return Err(Error::option(
            "matrices: none of the loaded fields is an image that is transformed",
        ));
    }
    let joins = |field: &&PlannedField| field.image().is_some_and(|image| image.mosaic().is_some());
    match fields.iter().find(joins) {
        None => Ok(()),
        Some(field) => Err(Error::option(format!(
            "matrices: field {:?} has a Mosaic, whose pixels come from four images and not from one",
            field.name
        ))),
    }
}
