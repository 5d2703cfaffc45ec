//! What threads do with a plan: claim rows, fill them in, and complete batches.

mod assemble;
mod audio;
mod batch;
mod boxes;
mod gather;
mod lists;
mod masks;
mod mix;
mod mixing;
mod mosaic;
mod moved;
mod worker;

pub(super) use audio::AudioWorker;
pub use audio::{Sound, read_audio};
pub(super) use batch::{Claim, OpenBatch};
pub(super) use gather::Gather;
pub(super) use worker::{Worker, claim_rows};
