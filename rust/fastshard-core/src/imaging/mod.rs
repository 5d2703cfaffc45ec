//! From one stored image to the pixels of a sample: what is done to it, decided once and carried out by each thread.
//!
//! Loaders and packing alike go through here.
//!
//! ```text
//! list of operations -> arrange -> plan of a field
//! stored bytes -> open (decode, turn) -> render (resample, effects, values) -> place in a batch or a block
//! ```

mod arrange;
mod checks;
mod image;
mod job;
mod mosaic;
mod moves;
mod open;
mod read;
mod render;
mod segmentation;
mod times;
mod worker;

pub(crate) use image::{ImagePlan, pixel_tensor};
pub(crate) use job::Job;
pub(crate) use mosaic::Piece;
pub(crate) use moves::{Moves, numbers};
pub(crate) use open::Pose;
pub use read::{Sample, read_image};
pub(crate) use segmentation::{Tools, Way, moved_segmentations};
pub(crate) use times::Times;
pub(crate) use worker::ImageWorker;
