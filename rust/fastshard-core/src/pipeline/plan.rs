//! What a loader will do, decided and checked before the first batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::audio::{AudioPlan, AudioSpec};
use super::available_threads;
use super::batch_transform::{BatchOperation, Mix};
use super::boxes::{self, Boxes, Role};
use super::follow;
use super::image::{ImagePlan, pixel_tensor};
use super::iterator::Batches;
use super::keep::{CacheSpec, Keeping, keep};
use super::label::Shares;
use super::sequence::{ListSpec, Sequence};
use super::standardize::{Scale, Standardize};
use super::stats::{Counters, Stats};
use crate::cache::Entry;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::format::ALIGNMENT;
use crate::order::{Buckets, Cut, Share, Shuffle, View};
use crate::schema::{Dtype, Field, Kind};
use crate::slot::SlotPool;
use crate::transform::{Layout, Operation};

/// A batch beyond this is a mistake in a number, not a wish.
pub(super) const MAX_BATCH_BYTES: usize = 1 << 36;
/// Sixteen bytes each, for each of a few windows.
const MAX_SORTED: usize = 1 << 26;
const MAX_PREFETCH: usize = 1024;
const MAX_THREADS: usize = 1024;
/// Far more than there are machines, and no overflow.
const MAX_WORLD: u64 = 1 << 20;
/// How many messages about skipped samples are kept.
const MAX_MESSAGES: usize = 1000;

/// What becomes of a sample that can't be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The iterator raises the error in place of the sample's batch.
    #[default]
    Raise,
    /// The sample is left out and counted; its batch is shorter.
    Skip,
}

/// How a loader mixes its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shuffling {
    /// Not at all.
    #[default]
    None,
    /// All orders are alike.
    Uniform,
    /// Runs as long as a block of the dataset, mixed within windows of several.
    Block,
}

/// Runs that lie in memory at a time when blocks are shuffled: with blocks of 16 MiB, 256 MiB.
const WINDOW: u64 = 16;

/// A loader's options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the public loader")]
pub struct Spec {
    pub batch_size: usize,
    #[serde(default)]
    pub shuffle: Shuffling,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub drop_last: bool,
    #[serde(default)]
    pub rank: u64,
    #[serde(default = "default_world_size")]
    pub world_size: u64,
    #[serde(default)]
    pub fields: Option<Vec<String>>,
    #[serde(default)]
    pub transforms: BTreeMap<String, Vec<Operation>>,
    #[serde(default)]
    pub batch_transforms: Vec<BatchOperation>,
    #[serde(default)]
    pub layout: Layout,
    /// 0: as many as there are cores for this process.
    #[serde(default)]
    pub num_threads: usize,
    #[serde(default = "default_prefetch")]
    pub prefetch: usize,
    #[serde(default)]
    pub on_error: OnError,
    /// Where decoded pixels are kept; nowhere by default.
    #[serde(default)]
    pub cache: Option<CacheSpec>,
    /// Float32 fields that are standardised.
    #[serde(default)]
    pub standardize: BTreeMap<String, Standardize>,
    /// List fields that are cut, or filled up.
    #[serde(default)]
    pub lists: BTreeMap<String, ListSpec>,
    /// What becomes of audio fields.
    #[serde(default)]
    pub audio: BTreeMap<String, AudioSpec>,
    /// By whose length samples are brought together.
    #[serde(default)]
    pub buckets: Option<BucketSpec>,
    /// Batches say of each image where its pixels come from, and how large it was.
    #[serde(default)]
    pub matrices: bool,
    /// Hold rows that are decoded or gathered with variable-length fields against their checksum.
    #[serde(default = "default_verify")]
    pub verify: bool,
}

/// Batches of samples of like lengths.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSpec {
    /// The field that has the length.
    pub field: String,
    /// Samples that stay together: a batch of all ranks.
    pub unit: u64,
    /// How many of these are sorted at a time.
    pub units: u64,
}

fn default_world_size() -> u64 {
    1
}

fn default_prefetch() -> usize {
    3
}

fn default_verify() -> bool {
    true
}

/// What the first dimension of an array in a batch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Samples.
    Samples,
    /// Elements of all samples' lists.
    Elements,
    /// Where those of each sample start, and those of the last one end.
    Bounds,
}

/// An array in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name: that of the field, or one made from it.
    pub name: String,
    /// Its element type; `None` for text and bytes.
    pub dtype: Option<Dtype>,
    /// What its first dimension counts.
    pub rows: Rows,
    /// The dimensions behind it; `None` for those that differ between batches.
    pub shape: Vec<Option<usize>>,
    /// Whether it is text (else, without a dtype, bytes).
    pub text: bool,
}

/// How a field gets into the batch.
#[derive(Debug)]
pub(super) enum Work {
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
pub(super) struct PlannedField {
    pub(super) index: usize,
    pub(super) name: String,
    /// Its element type; `None` where rows don't lie in the slot.
    pub(super) dtype: Option<Dtype>,
    /// Shape of one sample.
    pub(super) shape: Vec<usize>,
    /// Whether it is text.
    pub(super) text: bool,
    pub(super) work: Work,
    /// Whether a batch transform changes it, so that it can't be shown where it lies.
    pub(super) mixed: bool,
    /// What its rows are brought to after they were copied.
    pub(super) scale: Option<Scale>,
    /// Where the field starts in a slot.
    pub(super) offset: usize,
    /// Bytes a row; 0 for lists.
    pub(super) row_bytes: usize,
    /// Whether batches say where its pixels come from.
    pub(super) matrices: bool,
}

impl PlannedField {
    /// Whether its samples are decoded or resampled, which takes far longer than copying.
    pub(super) fn is_decoded(&self) -> bool {
        matches!(self.work, Work::Image(_) | Work::Audio(_))
    }

    /// With what puts its lists together, where it holds some.
    pub(super) fn sequence(&self) -> Option<(&Self, &Sequence)> {
        match &self.work {
            Work::Sequence(sequence) => Some((self, sequence)),
            Work::Audio(audio) => audio.sequence().map(|sequence| (self, sequence)),
            _ => None,
        }
    }

    /// What is done to its images, if anything.
    pub(super) fn image(&self) -> Option<&ImagePlan> {
        match &self.work {
            Work::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The arrays that it adds to a batch.
    pub(super) fn outputs(&self) -> Vec<Output> {
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
            let [matrix, size] = boxes::matrix_names(&self.name);
            outputs.push(output(matrix, Some(Dtype::Float32), &[3, 3]));
            outputs.push(output(size, Some(Dtype::Int64), &[2]));
        }
        outputs
    }
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dataset: Arc<Dataset>,
    pub(super) view: View,
    pub(super) shuffle: Shuffle,
    pub(super) buckets: Option<Buckets>,
    pub(super) spec: Spec,
    pub(super) fields: Vec<PlannedField>,
    pub(super) threads: usize,
    pub(super) skipped: Skipped,
    pub(super) keeping: Vec<Keeping>,
    pub(super) counters: Counters,
}

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: AtomicU64,
    messages: Mutex<Vec<String>>,
}

impl Skipped {
    pub(super) fn add(&self, error: &Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() < MAX_MESSAGES {
            messages.push(error.to_string());
        }
    }
}

/// An order and a pipeline over a dataset, ready to be iterated any number of times.
#[derive(Debug)]
pub struct Loader {
    plan: Arc<Plan>,
    pool: Arc<SlotPool>,
}

/// Which batches of an epoch an iterator goes through.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The epoch.
    pub epoch: u64,
    /// Samples of the epoch that were taken before, by all ranks together.
    pub start: u64,
    /// The first batch behind `start`.
    pub first: u64,
    /// The distance to the next.
    pub step: u64,
    /// Show runs of rows that lie in one piece where they are; else every batch is memory of its own.
    pub views: bool,
}

impl Plan {
    pub(super) fn share(&self, start: u64) -> Share {
        Share {
            start,
            rank: self.spec.rank,
            world: self.spec.world_size,
        }
    }
}

fn check_view(dataset: &Dataset, view: &View) -> Result<()> {
    if !view.rows.all_below(dataset.rows()) {
        return Err(Error::option(format!(
            "a view names rows beyond the dataset's {}",
            dataset.rows()
        )));
    }
    match &view.weights {
        Some(weights) if weights.rows() != view.rows.len() => Err(Error::option(format!(
            "{} weights for {} rows",
            weights.rows(),
            view.rows.len()
        ))),
        _ => Ok(()),
    }
}

fn shuffle(dataset: &Dataset, spec: &Spec) -> Shuffle {
    match spec.shuffle {
        Shuffling::None => Shuffle::None,
        Shuffling::Uniform => Shuffle::Uniform,
        Shuffling::Block => Shuffle::Blockwise(Cut {
            run: dataset.rows().div_ceil(dataset.blocks().max(1)).max(1),
            window: WINDOW,
        }),
    }
}

fn buckets(dataset: &Arc<Dataset>, spec: &Spec) -> Result<Option<Buckets>> {
    let Some(BucketSpec { field, unit, units }) = &spec.buckets else {
        return Ok(None);
    };
    let index = dataset.field(field)?;
    if dataset.fields()[index].fixed().is_some() {
        return Err(Error::option(format!(
            "buckets by field {field:?}: all of its values have one length"
        )));
    }
    let samples = usize::try_from(unit.saturating_mul(*units)).unwrap_or(usize::MAX);
    number(
        "buckets: samples that are sorted at a time",
        samples,
        1,
        MAX_SORTED,
    )?;
    let dataset = dataset.clone();
    // A row that can't be read says so when it is.
    let length = move |row| {
        let place = dataset.locate(row);
        place.map_or(0, |place| {
            place.block.column(index).length(place.row) as u64
        })
    };
    Ok(Some(Buckets::new(*unit, *units, Box::new(length))))
}

fn number(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{name} is {value}, expected {low} to {high}"
    )))
}

impl Loader {
    /// Checks the options and lays out the batch.
    pub fn new(dataset: Arc<Dataset>, view: View, spec: Spec) -> Result<Self> {
        number("batch_size", spec.batch_size, 1, 1 << 30)?;
        number("prefetch", spec.prefetch, 1, MAX_PREFETCH)?;
        number("num_threads", spec.num_threads, 0, MAX_THREADS)?;
        if spec.rank >= spec.world_size || spec.world_size > MAX_WORLD {
            return Err(Error::option(format!(
                "rank {} of {}, expected a rank below a world_size of at most {MAX_WORLD}",
                spec.rank, spec.world_size
            )));
        }
        check_view(&dataset, &view)?;
        let (mut fields, bytes) = plan_fields(&dataset, &spec)?;
        relate_boxes(&dataset, &mut fields)?;
        if spec.matrices && fields.iter().all(|field| !field.matrices) {
            return Err(Error::option(
                "matrices: none of the loaded fields is an image that is transformed",
            ));
        }
        let joins =
            |field: &&PlannedField| field.image().is_some_and(|image| image.mosaic().is_some());
        if let Some(field) = fields.iter().find(joins).filter(|_| spec.matrices) {
            return Err(Error::option(format!(
                "matrices: field {:?} has a Mosaic, whose pixels come from four images and not from one",
                field.name
            )));
        }
        check_names(&fields)?;
        let keeping = keep_fields(&dataset, &spec, &mut fields)?;
        check_mixes(&dataset, &spec, &fields)?;
        let threads = if spec.num_threads == 0 {
            available_threads()
        } else {
            spec.num_threads
        };
        let pool = SlotPool::new(bytes, spec.prefetch + 2);
        let plan = Plan {
            shuffle: shuffle(&dataset, &spec),
            buckets: buckets(&dataset, &spec)?,
            dataset,
            view,
            spec,
            fields,
            threads,
            skipped: Skipped::default(),
            keeping,
            counters: Counters::default(),
        };
        Ok(Self {
            plan: Arc::new(plan),
            pool,
        })
    }

    /// Batches that this rank takes of an epoch of which so many samples were taken before, by all ranks together.
    #[must_use]
    pub fn batches(&self, start: u64) -> u64 {
        let size = self.plan.spec.batch_size as u64;
        let (share, samples) = (self.plan.share(start), self.plan.view.samples());
        if self.plan.spec.drop_last {
            share.full_batches(samples, size)
        } else {
            share.samples(samples).div_ceil(size)
        }
    }

    /// Samples an epoch, of all ranks together.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.plan.view.samples()
    }

    /// What a batch holds.
    #[must_use]
    pub fn outputs(&self) -> Vec<Output> {
        (self.plan.fields.iter())
            .flat_map(PlannedField::outputs)
            .collect()
    }

    /// Starts on a pass.
    pub fn iterate(&self, pass: Pass) -> Result<Batches> {
        if pass.step == 0 {
            return Err(Error::option("step is 0, expected at least 1"));
        }
        let batches = self.batches(pass.start);
        let count = batches.saturating_sub(pass.first).div_ceil(pass.step);
        Batches::start(self.plan.clone(), self.pool.clone(), pass, count)
    }

    /// What was decided about keeping decoded pixels, an image field each; nothing without a cache.
    #[must_use]
    pub fn keeping(&self) -> &[Keeping] {
        &self.plan.keeping
    }

    fn kept(&self) -> impl Iterator<Item = &Entry> {
        self.plan
            .fields
            .iter()
            .filter_map(|field| match &field.work {
                Work::Image(image) => image.kept.as_ref(),
                _ => None,
            })
    }

    /// What was done so far, by all passes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.plan.counters.read()
    }

    /// Rows that were found in the cache by this loader, and that were not.
    #[must_use]
    pub fn cache_counts(&self) -> (u64, u64) {
        let counts = self.kept().map(Entry::counts);
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    }

    /// Rows that are in the cache, for each image field that is kept.
    #[must_use]
    pub fn cache_filled(&self) -> Vec<u64> {
        self.kept().map(Entry::filled).collect()
    }

    /// Why rows are no longer stored in the cache; each reason once.
    #[must_use]
    pub fn take_cache_problems(&self) -> Vec<String> {
        self.kept().filter_map(Entry::take_problem).collect()
    }

    /// Samples left out so far.
    #[must_use]
    pub fn num_skipped(&self) -> u64 {
        self.plan.skipped.count.load(Ordering::Relaxed)
    }

    /// A message for each of the first thousand of them.
    #[must_use]
    pub fn skipped(&self) -> Vec<String> {
        self.plan
            .skipped
            .messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn plan_fields(dataset: &Dataset, spec: &Spec) -> Result<(Vec<PlannedField>, usize)> {
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
            .checked_mul(spec.batch_size)
            .and_then(|length| field.offset.checked_add(length));
        let end = end.filter(|&end| end <= MAX_BATCH_BYTES);
        bytes = end.ok_or_else(|| too_large(spec.batch_size))?;
        planned.push(field);
    }
    Ok((planned, bytes))
}

fn too_large(samples: usize) -> Error {
    Error::option(format!(
        "a batch of {samples} samples would take more than 64 GiB"
    ))
}

fn keep_fields(
    dataset: &Dataset,
    spec: &Spec,
    fields: &mut [PlannedField],
) -> Result<Vec<Keeping>> {
    let Some(cache) = &spec.cache else {
        return Ok(Vec::new());
    };
    let images = fields.iter_mut().filter_map(|field| match &mut field.work {
        Work::Image(image) => Some((field.index, image)),
        _ => None,
    });
    images
        .map(|(index, image)| keep(dataset, &dataset.fields()[index], image, cache))
        .collect()
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
    let classes = mixes(spec)
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
        _ => return Err(too_large(1)),
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
        mixed: mixes(spec).any(|mix| mix.image == field.name || mix.label == field.name),
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
        None if asked.is_some() => Err(Error::option(format!(
            "field {:?} can't be filled up or cut: it holds no lists",
            field.name
        ))),
        None => Ok(Work::List),
    }
}

/// Finds what lists have to do with boxes, among the fields that are loaded.
fn relate_boxes(dataset: &Dataset, fields: &mut [PlannedField]) -> Result<()> {
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
    Ok(())
}

/// Arrays that come with lists must not be called like another field.
fn check_names(fields: &[PlannedField]) -> Result<()> {
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

fn mixes(spec: &Spec) -> impl Iterator<Item = &Mix> {
    spec.batch_transforms.iter().flat_map(BatchOperation::mixes)
}

fn check_mixes(dataset: &Dataset, spec: &Spec, fields: &[PlannedField]) -> Result<()> {
    spec.batch_transforms
        .iter()
        .try_for_each(BatchOperation::check)?;
    for mix in mixes(spec) {
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

fn has_pixels(dataset: &Dataset, field: &PlannedField) -> bool {
    match field.work {
        Work::Image(_) => true,
        Work::Copy => pixel_tensor(&dataset.fields()[field.index]).is_some(),
        Work::Audio(_) | Work::Label(_) | Work::List | Work::Sequence(_) => false,
    }
}

fn no_pixels(field: &Field) -> Error {
    Error::option(format!(
        "transforms for field {:?}: it holds no pixels (expected an image, or a uint8 or uint16 tensor of shape \
         [height, width, 1 or 3])",
        field.name
    ))
}
