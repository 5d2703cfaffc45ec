//! A loader's options.

mod audio;
mod batch;
mod lists;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, OnError, Result};
use crate::transform::{Layout, Operation};

pub use audio::{AudioSpec, Position, Span, WindowSpec};
pub use batch::{BatchOperation, Mix};
pub use lists::{BoxSpec, End, ListSpec, MaskSpec, PadSequence, Truncate};

const MAX_PREFETCH: usize = 1024;
const MAX_THREADS: usize = 1024;
/// Far more than there are machines, and no overflow.
const MAX_WORLD: u64 = 1 << 20;

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

/// Where decoded pixels are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// The folder.
    pub folder: String,
    /// The most that all entries in it may take.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Only where it takes a fair share of disk and memory, and do without where it can't be had.
    #[serde(default)]
    pub auto: bool,
    /// Only fill it: what follows the beginning of a list is not wanted.
    #[serde(default)]
    pub fill: bool,
}

/// Mean and deviation of each element of a field; one of each stands for all elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardize {
    /// What is taken off.
    pub mean: Vec<f64>,
    /// What the rest is divided by; 0, of columns that never change, divides by nothing.
    pub std: Vec<f64>,
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

/// Refuses a number that is too small or too large.
pub(super) fn number(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{name} is {value}, expected {low} to {high}"
    )))
}

impl Spec {
    /// Refuses impossible numbers, naming them.
    pub(super) fn check(&self) -> Result<()> {
        number("batch_size", self.batch_size, 1, 1 << 30)?;
        number("prefetch", self.prefetch, 1, MAX_PREFETCH)?;
        number("num_threads", self.num_threads, 0, MAX_THREADS)?;
        if self.rank >= self.world_size || self.world_size > MAX_WORLD {
            return Err(Error::option(format!(
                "rank {} of {}, expected a rank below a world_size of at most {MAX_WORLD}",
                self.rank, self.world_size
            )));
        }
        Ok(())
    }

    /// All that batch transforms may mix.
    pub(super) fn mixes(&self) -> impl Iterator<Item = &Mix> {
        self.batch_transforms.iter().flat_map(BatchOperation::mixes)
    }
}
