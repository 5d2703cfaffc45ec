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
mod audio;
mod batch;
mod batch_transform;
mod boxes;
mod field;
mod follow;
mod gather;
mod iterator;
mod keep;
mod label;
mod masks;
mod mix;
mod mosaic;
mod plan;
mod relate;
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
pub use field::{Output, Rows};
pub use iterator::{Batches, FORKED, Poll, Stopper};
pub use keep::{CacheSpec, Keeping};
pub use masks::MaskSpec;
pub use plan::{Loader, Pass};
pub(crate) use row_decoder::RowDecoder;
pub use sequence::{End, ListSpec, PadSequence, Truncate};
pub use spec::{BucketSpec, Shuffling, Spec};
pub use standardize::Standardize;
pub use stats::Stats;
