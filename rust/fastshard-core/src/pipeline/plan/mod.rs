//! What a loader will do, decided before the first batch.
//!
//! Nothing here decodes or fills a row: these files check the options of each field, and lay out the arrays of a batch.
//! `work` carries the plan out.

mod audio;
mod boxes;
mod cached;
mod field;
mod follow;
mod label;
mod links;
mod lists;
mod output;
mod role;
mod standardize;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::spec::Spec;
use super::stats::Counters;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::order::{Buckets, Share, Shuffle, View};

pub(super) use audio::AudioPlan;
pub(super) use boxes::Boxes;
pub use cached::Keeping;
pub(super) use cached::keep;
pub(super) use field::{PlannedField, SMALLER_BATCHES, Work, matrix_names, plan_fields};
pub(super) use links::{check_matrices, check_mixes, check_names, relate_boxes};
pub(super) use lists::{Sequence, mask_name, offsets_name};
pub use output::{Output, Rows};
pub(super) use role::{Masks, Role};

/// How many messages about skipped samples are kept.
const MAX_MESSAGES: usize = 1000;

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
    /// Whether somebody has heard which entries of the cache could not be opened.
    pub(super) told: AtomicBool,
    pub(super) counters: Counters,
}

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: AtomicU64,
    messages: Mutex<Vec<String>>,
}

impl Skipped {
    /// How many there are.
    pub(in crate::pipeline) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What was wrong with the first of them.
    pub(in crate::pipeline) fn messages(&self) -> Vec<String> {
        let messages = self.messages.lock();
        messages.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, error: &Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() < MAX_MESSAGES {
            messages.push(error.to_string());
        }
    }
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
