//! Transforms of image fields, with the names, defaults and results of torchvision v2.
//!
//! A list of operations is split in three:
//!
//! - The *geometric* ones (resize, crop, pad, flip, warp) are not run one after the other. [`geometry`] folds them into
//!   as few resamplings as possible, mostly one, which also says which part of the source is needed at all.
//! - *Effects* change pixels in place between them. A [`Recipe`] is one sample's sequence of both.
//! - The *value* ones at the end (grayscale, dtype, normalise) are compiled into tables, or into vector arithmetic, in
//!   [`finish`].

mod augment;
mod boxes;
mod color;
mod convolve;
mod decode;
mod effect;
mod erasing;
mod finish;
mod geometry;
mod interpolation;
mod layout;
mod limits;
mod linear;
mod matrix;
mod mosaic;
mod moves;
mod nested;
mod operation;
mod outline;
mod random_warp;
mod recipe;
mod resample;
mod sample;
mod source;
mod warp;

pub use augment::{AutoAugment, Look, Policy, RandAugment, TrivialAugmentWide};
pub use color::{ColorJitter, GaussianBlur};
pub use decode::{DecodeOptions, Mode};
pub use effect::{Effect, Erase, Paint};
pub use erasing::{RandomErasing, Value};
pub use finish::Finish;
pub use geometry::{Canvas, Mask, Stage, View};
pub use interpolation::{Filter, Interpolation};
pub use layout::Layout;
pub use matrix::{Affine, Matrix};
pub use mosaic::{Mosaic, Tile};
pub use moves::{Corners, Move, Tracked, area, way_back};
pub use nested::{RandomApply, RandomChoice};
pub use operation::{Follow, Operation};
pub use outline::moved_outline;
pub use random_warp::{RandomAffine, RandomPerspective, RandomRotation};
pub use recipe::Recipe;
pub use resample::{Resampler, fill};
pub use source::Source;
pub use warp::{Padding, Sampling, Warp};
