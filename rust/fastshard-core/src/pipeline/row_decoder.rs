//! Decodes the images and sounds of rows to see whether they can be, and keeps nothing.

use super::plan::AudioPlan;
use super::spec::AudioSpec;
use super::work::AudioWorker;
use crate::caught::caught;
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::imaging::{ImagePlan, ImageWorker};
use crate::pixels::Scratch;
use crate::random::Key;
use crate::schema::{Field, Kind};
use crate::transform::Layout;

/// The buffer is given back after a sample that needed more.
const KEEP_SCRATCH: usize = 16 << 20;

/// One thread's tools for all encoded fields of a dataset.
#[derive(Debug)]
pub(crate) struct RowDecoder {
    fields: Vec<(String, Decoding)>,
    out: Scratch,
}

/// What decodes a field, with a worker once there is a row to decode.
#[derive(Debug)]
enum Decoding {
    Image(Box<ImagePlan>, Option<Box<ImageWorker>>),
    Audio(Box<AudioPlan>, Option<Box<AudioWorker>>),
}

impl RowDecoder {
    pub(crate) fn new(dataset: &Dataset) -> Result<Self> {
        let mut fields = Vec::new();
        for field in dataset.fields() {
            if let Some(decoding) = Decoding::new(dataset, field)? {
                fields.push((field.name.clone(), decoding));
            }
        }
        let out = Scratch::default();
        Ok(Self { fields, out })
    }

    /// Decodes a row's fields in full, as a sample without transforms; gives the fields that can't be, and why.
    pub(crate) fn failures(&mut self, place: &Place<'_>) -> Vec<(String, Error)> {
        let mut failures = Vec::new();
        for (name, decoding) in &mut self.fields {
            if let Err(error) = caught("decoding", || decoding.run(place, &mut self.out)) {
                if matches!(error, Error::Internal { .. }) {
                    decoding.discard_worker();
                }
                failures.push((name.clone(), error));
            }
            self.out.shrink(KEEP_SCRATCH);
        }
        failures
    }
}

impl Decoding {
    /// Nothing for fields that are stored as they are.
    fn new(dataset: &Dataset, field: &Field) -> Result<Option<Self>> {
        Ok(match field.kind {
            Kind::Image => ImagePlan::new(dataset, field, &[], Layout::Nhwc)?
                .map(|plan| Self::Image(Box::new(plan), None)),
            Kind::Audio => {
                let plan = AudioPlan::new(dataset, field, &AudioSpec::default(), 0)?;
                Some(Self::Audio(Box::new(plan), None))
            }
            _ => None,
        })
    }

    fn run(&mut self, place: &Place<'_>, scratch: &mut Scratch) -> Result<()> {
        // Nothing random happens to a sample without transforms.
        let key = Key {
            seed: 0,
            epoch: 0,
            row: place.number,
            field: 0,
        };
        match self {
            Self::Image(plan, worker) => {
                let worker = match worker {
                    Some(worker) => worker,
                    none => none.insert(Box::new(ImageWorker::new(plan)?)),
                };
                let finish = &plan.finish;
                worker.run(plan, place, key.into(), |size| {
                    let values: usize = finish.shape(size).iter().product();
                    Ok(scratch.bytes(values * finish.dtype().size())?)
                })
            }
            Self::Audio(plan, worker) => {
                let worker = worker.get_or_insert_default();
                worker.run(plan, place, key, |shape| {
                    let values: usize = shape.iter().product();
                    Ok(bytemuck::cast_slice_mut(scratch.bytes(values * 4)?))
                })
            }
        }
    }

    /// A codec that panicked may have left its scratch in any state.
    fn discard_worker(&mut self) {
        match self {
            Self::Image(_, worker) => *worker = None,
            Self::Audio(_, worker) => *worker = None,
        }
    }
}
