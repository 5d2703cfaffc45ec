//! Packing: from rows of a source to shards.
//!
//! ```text
//! units (runs of rows) -> threads read, check, transform, encode -> blocks, in order -> one writer -> shards
//! ```
//!
//! A unit becomes one block of a shard. Units are finished in any order and written in their own, so that a dataset is
//! the same bytes whatever the number of threads. Memory is bounded by `threads + 2` blocks of at most about 32 MiB (or
//! one sample, if that is larger), each at most twice, and one image a thread.

mod annotated;
mod assemble;
mod audio_column;
mod boxes;
mod build;
mod byte_column;
mod coco;
mod declared;
mod example;
mod file_column;
mod image_column;
mod job;
mod ordered;
mod shards;
mod spec;
mod staging;
mod streamed;
mod tar;
mod units;

pub use coco::{Coco, parse_coco, read_coco};
pub use example::{Feature, FeatureKind, usual_example};
pub use job::{Job, Progress};
pub use shards::Report;
pub use spec::{Check, Encode, Metadata, PackSpec, Seekable};
pub use staging::SkippedRow;
pub use tar::{TarMember, usual_tar_member};
