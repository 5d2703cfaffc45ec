//! From a dataset to batches: the plan of a loader, the workers that fill slots, the iterator that hands them over.
//!
//! ```text
//! claim (batch, rows) -> order -> locate -> decode what the transform needs -> resample -> finish -> place in the slot
//! ```
//!
//! `spec` and `values` stand at the bottom: options, and batches as they are handed over. `plan` builds on the options, `work`
//! on the plan, and the iterator on both.
//!
//! Each iterator has threads of its own, which end with it. They claim small runs of rows from at most `prefetch` open
//! batches; there is no barrier between batches, and no thread ever waits for a slower one while there is work. Memory
//! is bounded by `prefetch` slots, what the consumer holds, and each thread's scratch.

mod ahead;
mod iterator;
mod loader;
mod pass;
mod plan;
mod row_decoder;
mod spec;
mod stats;
mod values;
mod work;

#[cfg(test)]
mod panic_tests;

pub use iterator::{Batches, FORKED, Poll, Stopper};
pub use loader::Loader;
pub use pass::Pass;
pub use plan::{Keeping, Output, Rows};
pub(crate) use row_decoder::RowDecoder;
pub use spec::{
    AudioSpec, BatchOperation, BoxSpec, BucketSpec, CacheSpec, End, ListSpec, MaskSpec, Mix,
    PadSequence, Position, Shuffling, Span, Spec, Standardize, Truncate, WindowSpec,
};
pub use stats::Stats;
pub use values::{Batch, BatchField, Memory, Values};
pub use work::{Sound, read_audio};
