//! The fields of a batch: how each gets there, and which arrays it adds.

use super::audio::AudioPlan;
use super::follow;
use super::label::Shares;
use super::lists::Sequence;
use super::output::{Output, Rows};
use super::standardize::Scale;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::format::ALIGNMENT;
use crate::imaging::{ImagePlan, pixel_tensor};
use crate::memory;
use crate::pipeline::spec::Spec;
use crate::schema::{Dtype, Field, Kind};

/// A batch beyond this is a mistake in a number, not a wish.
pub(super) const MAX_BATCH_BYTES: usize = 1 << 36;

/// What is kept at least for each sample of a batch with lists or texts.
const LISTED_ROW_BYTES: usize = 32;
pub(in crate::pipeline) const SMALLER_BATCHES: &str =
    "use a smaller batch_size, or make the samples smaller";

/// How a field gets into the batch.
#[derive(Debug)]
pub(in crate::pipeline) enum Work {
    /// Decoded or resampled.
    Image(Box<ImagePlan>),
    /// Decoded; put together like lists where lengths differ.
    Audio(Box<AudioPlan>),
    /// Copied as it is, or shown where it lies.
    Copy,
    /// A label that becomes shares of classes.
    Label(Shares),
    /// Handed over as a list of objects.
    List,
    /// Lists of numbers, put together when all rows of a batch are known.
    Sequence(Box<Sequence>),
}

#[derive(Debug)]
pub(in crate::pipeline) struct PlannedField {
    pub(in crate::pipeline) index: usize,
    pub(in crate::pipeline) name: String,
    /// Its element type; `None` where rows don't lie in the slot.
    pub(in crate::pipeline) dtype: Option<Dtype>,
    /// Shape of one sample.
    pub(in crate::pipeline) shape: Vec<usize>,
    /// Whether it is text.
    pub(in crate::pipeline) text: bool,
    pub(in crate::pipeline) work: Work,
    /// Whether a batch transform changes it, so that it can't be shown where it lies.
    pub(in crate::pipeline) mixed: bool,
    /// What its rows are brought to after they were copied.
    pub(in crate::pipeline) scale: Option<Scale>,
    /// Where the field starts in a slot.
    pub(in crate::pipeline) offset: usize,
    /// Bytes a row; 0 for lists.
    pub(in crate::pipeline) row_bytes: usize,
    /// Whether batches say where its pixels come from.
    pub(in crate::pipeline) matrices: bool,
}

impl PlannedField {
    /// Whether its samples are decoded or resampled, which takes far longer than copying.
    pub(in crate::pipeline) fn is_decoded(&self) -> bool {
        matches!(self.work, Work::Image(_) | Work::Audio(_))
    }

    /// With what puts its lists together, where it holds some.
    pub(in crate::pipeline) fn sequence(&self) -> Option<(&Self, &Sequence)> {
        match &self.work {
            Work::Sequence(sequence) => Some((self, sequence)),
            Work::Audio(audio) => audio.sequence().map(|sequence| (self, sequence)),
            _ => None,
        }
    }

    /// What is done to its images, if anything.
    pub(in crate::pipeline) fn image(&self) -> Option<&ImagePlan> {
        match &self.work {
            Work::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The arrays that it adds to a batch.
    pub(in crate::pipeline) fn outputs(&self) -> Vec<Output> {
        if let Some((_, sequence)) = self.sequence() {
            return sequence.outputs(&self.name);
        }
        let output = |name: String, dtype, shape: &[usize]| Output {
            name,
            dtype,
            rows: Rows::Samples,
            shape: shape.iter().map(|&size| Some(size)).collect(),
            text: self.text,
        };
        let mut outputs = vec![output(self.name.clone(), self.dtype, &self.shape)];
        if self.matrices {
            let [matrix, size] = matrix_names(&self.name);
            outputs.push(output(matrix, Some(Dtype::Float32), &[3, 3]));
            outputs.push(output(size, Some(Dtype::Int64), &[2]));
        }
        outputs
    }
}

/// What the arrays are called that say where an image's pixels come from, and how large it was.
pub(in crate::pipeline) fn matrix_names(image: &str) -> [String; 2] {
    [format!("{image}_matrix"), format!("{image}_size")]
}

/// Lays the fields of a batch of at most `rows` samples out; gives them and the bytes that they take.
pub(in crate::pipeline) fn plan_fields(
    dataset: &Dataset,
    spec: &Spec,
    rows: usize,
) -> Result<(Vec<PlannedField>, usize)> {
    let names: Vec<String> = match &spec.fields {
        Some(names) => names.clone(),
        None => dataset
            .fields()
            .iter()
            .map(|field| field.name.clone())
            .collect(),
    };
    if names.is_empty() {
        return Err(Error::option("fields is empty, expected at least one name"));
    }
    let audio = spec.audio.keys();
    for name in spec.transforms.keys().chain(spec.lists.keys()).chain(audio) {
        dataset.field(name)?;
    }
    let mut planned: Vec<PlannedField> = Vec::new();
    let mut bytes = 0usize;
    for name in names {
        if planned.iter().any(|field| field.name == name) {
            return Err(Error::option(format!("fields names {name:?} twice")));
        }
        let index = dataset.field(&name)?;
        let mut field = plan_field(dataset, index, spec)?;
        field.offset = bytes.next_multiple_of(ALIGNMENT);
        let end = field
            .row_bytes
            .checked_mul(rows)
            .and_then(|length| field.offset.checked_add(length));
        let end = end.filter(|&end| end <= MAX_BATCH_BYTES);
        bytes = end.ok_or_else(|| too_large(&field.name, rows, &field.shape))?;
        planned.push(field);
    }
    check_memory(&planned, rows, bytes)?;
    Ok((planned, bytes))
}

fn too_large(field: &str, rows: usize, shape: &[usize]) -> Error {
    Error::option(format!(
        "field {field:?}: {rows} samples of shape {shape:?} would take more than 64 GiB; use a smaller batch_size, or \
         make the samples smaller"
    ))
}

/// Refuses batches that don't fit in memory.
fn check_memory(fields: &[PlannedField], rows: usize, bytes: usize) -> Result<()> {
    // Lists and texts take room beside the slot, known only when their rows are.
    let listed = fields.iter().any(|field| field.row_bytes == 0);
    let beside = if listed {
        rows.saturating_mul(LISTED_ROW_BYTES)
    } else {
        0
    };
    let checked = memory::check(bytes.saturating_add(beside) as u64);
    checked.map_err(|denied| {
        let listed = fields
            .iter()
            .map(|field| format!("{:?} {:?}", field.name, field.shape));
        let what = format!(
            "a batch of {rows} samples ({})",
            listed.collect::<Vec<_>>().join(", ")
        );
        denied.of(what, SMALLER_BATCHES)
    })
}

fn plan_field(dataset: &Dataset, index: usize, spec: &Spec) -> Result<PlannedField> {
    let field = &dataset.fields()[index];
    let asked = spec
        .transforms
        .get(&field.name)
        .map_or(&[][..], Vec::as_slice);
    let followed = follow::expanded(dataset, field, asked, spec)?;
    let operations = followed
        .as_ref()
        .map_or(asked, |followed| &followed.operations);
    let classes = spec
        .mixes()
        .find(|mix| mix.label == field.name)
        .map(|mix| mix.num_classes);
    let (work, dtype, shape) =
        if let Some(mut image) = ImagePlan::new(dataset, field, operations, spec.layout)? {
            if let Some(followed) = followed.as_ref() {
                image.follow(followed.field, followed.mask.clone(), followed.shift)?;
            }
            let (dtype, shape) = (image.dtype(), image.shape()?);
            (Work::Image(Box::new(image)), Some(dtype), shape)
        } else if !operations.is_empty() {
            return Err(no_pixels(field));
        } else if field.kind == Kind::Audio || spec.audio.contains_key(&field.name) {
            let asked = spec.audio.get(&field.name).cloned().unwrap_or_default();
            let audio = AudioPlan::new(dataset, field, &asked, spec.prefetch + 2)?;
            let shape = audio.shape()?;
            let dtype = shape.as_ref().map(|_| Dtype::Float32);
            (
                Work::Audio(Box::new(audio)),
                dtype,
                shape.unwrap_or_default(),
            )
        } else if let Some(classes) = classes {
            let work = Work::Label(Shares::new(field, classes)?);
            (work, Some(Dtype::Float32), vec![classes])
        } else if let Some((dtype, shape)) = field.fixed() {
            (Work::Copy, Some(dtype), shape.to_vec())
        } else {
            (list_work(field, spec)?, None, Vec::new())
        };
    let values = shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size));
    let row_bytes = match (dtype, values) {
        (None, _) => 0,
        (Some(dtype), Some(values)) if values <= MAX_BATCH_BYTES => dtype.size() * values,
        _ => return Err(too_large(&field.name, 1, &shape)),
    };
    let matrices = spec.matrices && matches!(work, Work::Image(_));
    Ok(PlannedField {
        index,
        name: field.name.clone(),
        dtype,
        shape,
        text: field.kind == Kind::Text,
        work,
        scale: (spec.standardize.get(&field.name))
            .map(|asked| Scale::new(field, asked))
            .transpose()?,
        mixed: spec
            .mixes()
            .any(|mix| mix.image == field.name || mix.label == field.name),
        offset: 0,
        row_bytes,
        matrices,
    })
}

fn list_work(field: &Field, spec: &Spec) -> Result<Work> {
    let asked = spec.lists.get(&field.name);
    let sequence = Sequence::new(field, asked.cloned().unwrap_or_default(), spec.prefetch + 2)?;
    match sequence {
        Some(sequence) => Ok(Work::Sequence(Box::new(sequence))),
        None if asked.is_some_and(|asked| asked.masks.is_none()) => Err(Error::option(format!(
            "field {:?} can't be filled up or cut: it holds no lists",
            field.name
        ))),
        None => Ok(Work::List),
    }
}

/// Whether it holds images of any kind.
pub(super) fn has_pixels(dataset: &Dataset, field: &PlannedField) -> bool {
    match field.work {
        Work::Image(_) => true,
        Work::Copy => pixel_tensor(&dataset.fields()[field.index]).is_some(),
        Work::Audio(_) | Work::Label(_) | Work::List | Work::Sequence(_) => false,
    }
}

/// The error of a field that can't be transformed as images are.
pub(super) fn no_pixels(field: &Field) -> Error {
    Error::option(format!(
        "transforms for field {:?}: it holds no pixels (expected an image, or a uint8 or uint16 tensor of shape \
         [height, width, 1 or 3])",
        field.name
    ))
}
