//! One image of a dataset, for looking.

use super::image::ImagePlan;
use super::worker::ImageWorker;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::memory;
use crate::random::Key;
use crate::schema::Dtype;
use crate::transform::{Layout, Operation};

/// A decoded image.
#[derive(Debug)]
pub struct Sample {
    /// The values.
    pub bytes: Vec<u8>,
    /// Their type.
    pub dtype: Dtype,
    /// Their shape.
    pub shape: Vec<usize>,
}

/// Decodes and transforms one image of a dataset, as epoch 0 of seed 0 would. Slow: for looking, not for training.
pub fn read_image(
    dataset: &Dataset,
    row: u64,
    field: &str,
    operations: &[Operation],
) -> Result<Option<Sample>> {
    let place = dataset.locate(row)?;
    let index = dataset.field(field)?;
    let Some(plan) = ImagePlan::new(dataset, &dataset.fields()[index], operations, Layout::Nhwc)?
    else {
        return Ok(None);
    };
    if plan.mosaic().is_some() {
        return Err(Error::option(
            "Mosaic: only loaders have other images to join",
        ));
    }
    dataset.check(&place)?;
    let mut worker = ImageWorker::new(&plan)?;
    let key = Key {
        seed: 0,
        epoch: 0,
        row,
        field: index as u64,
    };
    // Words, so that every dtype is aligned.
    let mut words: Vec<u64> = Vec::new();
    let mut shape = Vec::new();
    let finish = &plan.finish;
    let length_of = |shape: &[usize]| shape.iter().product::<usize>() * finish.dtype().size();
    let (grown, found) = (&mut words, &mut shape);
    worker
        .run(&plan, &place, key.into(), move |height_width| {
            *found = finish.shape(height_width);
            let length = length_of(found);
            *grown = memory::zeros(length.div_ceil(8))?;
            Ok(&mut bytemuck::cast_slice_mut(grown)[..length])
        })
        .map_err(|error| dataset.blame(row, &place, error))?;
    dataset.check_lost(&place)?;
    let length = length_of(&shape);
    let bytes = memory::copied(&bytemuck::cast_slice(&words)[..length])?;
    Ok(Some(Sample {
        bytes,
        dtype: plan.dtype(),
        shape,
    }))
}
