//! Loaders: options become a plan, and any number of passes follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::iterator::Batches;
use super::pass::Pass;
use super::plan::{
    Keeping, Output, Plan, PlannedField, Skipped, Work, check_matrices, check_mixes, check_names,
    keep, plan_fields, relate_boxes,
};
use super::spec::{BucketSpec, Shuffling, Spec, number};
use super::stats::{Counters, Stats};
use crate::cache::Entry;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::memory;
use crate::order::{Buckets, Cut, Share, Shuffle, View};
use crate::slot::SlotPool;
use crate::threads::available_threads;

/// Sixteen bytes each, for each of a few windows.
const MAX_SORTED: usize = 1 << 26;

/// Runs that lie in memory at a time when blocks are shuffled: with blocks of 16 MiB, 256 MiB.
const WINDOW: u64 = 16;

/// An order and a pipeline over a dataset, ready to be iterated any number of times.
#[derive(Debug)]
pub struct Loader {
    plan: Arc<Plan>,
    pool: Arc<SlotPool>,
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
    // Positions, and lengths beside them, of a window that is sorted.
    memory::check(samples.saturating_mul(64) as u64).map_err(|denied| {
        let what = format!("sorting {samples} samples by length");
        denied.of(what, "use fewer batches in Buckets")
    })?;
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

impl Loader {
    /// Checks the options and lays out the batch.
    pub fn new(dataset: Arc<Dataset>, view: View, spec: Spec) -> Result<Self> {
        spec.check()?;
        check_view(&dataset, &view)?;
        let share = Share {
            start: 0,
            rank: spec.rank,
            world: spec.world_size,
        };
        // No batch has more samples than an epoch.
        let rows = share
            .samples(view.samples())
            .min(spec.batch_size as u64)
            .max(1) as usize;
        let (mut fields, bytes) = plan_fields(&dataset, &spec, rows)?;
        relate_boxes(&dataset, &spec, &mut fields)?;
        check_matrices(&spec, &fields)?;
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
            told: AtomicBool::new(false),
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

    /// Why fields are not cached that were meant to be, and why rows are no longer stored; each reason once.
    #[must_use]
    pub fn take_cache_problems(&self) -> Vec<String> {
        let told = self.plan.told.swap(true, Ordering::Relaxed);
        let fields = self
            .plan
            .keeping
            .iter()
            .filter(|field| field.unexpected && !told);
        let fields = fields.filter_map(|field| {
            let reason = field.reason.as_ref()?;
            Some(format!(
                "{reason}; going on without a cache for field {:?}",
                field.field
            ))
        });
        fields
            .chain(self.kept().filter_map(Entry::take_problem))
            .collect()
    }

    /// Samples left out so far.
    #[must_use]
    pub fn num_skipped(&self) -> u64 {
        self.plan.skipped.count()
    }

    /// A message for each of the first thousand of them.
    #[must_use]
    pub fn skipped(&self) -> Vec<String> {
        self.plan.skipped.messages()
    }
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
