//! From a dataset to batches: the plan of a loader, the workers that fill slots, the iterator that hands them over.
//!
//! ```text
//! claim (batch, rows) -> order -> locate -> decode what the transform needs -> resample -> finish -> place in the slot
//! ```
//!
//! Each iterator has threads of its own, which end with it. They claim small runs of rows from at most `prefetch` open
//! batches; there is no barrier between batches, and no thread ever waits for a slower one while there is work. Memory
//! is bounded by `prefetch` slots, what the consumer holds, and each thread's scratch.

mod ahead;
mod arrange;
mod audio;
mod batch;
mod batch_transform;
mod boxes;
mod field;
mod follow;
mod gather;
mod image;
mod image_worker;
mod iterator;
mod keep;
mod label;
mod masks;
mod mix;
mod mosaic;
mod open;
mod plan;
mod read;
mod relate;
mod render;
mod row_decoder;
mod sequence;
mod spec;
mod standardize;
mod stats;
mod worker;

#[cfg(test)]
mod panic_tests;

pub use audio::{AudioSpec, Position, Sound, Span, WindowSpec, read_audio};
pub use batch::{Batch, BatchField, Memory, Values};
pub use batch_transform::{BatchOperation, Mix};
pub use boxes::BoxSpec;
pub(crate) use boxes::Moves;
pub use field::{Output, Rows};
pub(crate) use image::ImagePlan;
pub(crate) use image_worker::ImageWorker;
pub use iterator::{Batches, FORKED, Poll, Stopper};
pub use keep::{CacheSpec, Keeping};
pub use masks::MaskSpec;
pub(crate) use masks::moved_segmentations;
pub use plan::{Loader, Pass};
pub use read::{Sample, read_image};
pub(crate) use row_decoder::RowDecoder;
pub use sequence::{End, ListSpec, PadSequence, Truncate};
pub use spec::{BucketSpec, OnError, Shuffling, Spec};
pub use standardize::Standardize;
pub use stats::Stats;

/// The cores that this process may use: affinity and cgroup limits respected.
#[must_use]
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
