//! Transforms of image fields, with the names, defaults and results of torchvision v2.
//!
//! A list of operations is split in three. The *geometric* ones (resize, crop, pad, flip, warp) are not run one after the other:
//! [`geometry`] folds them into as few resamplings as possible (mostly one), which also says which part of the source is
//! needed at all. *Effects* change pixels in place between them; a [`Recipe`] is one sample's sequence of both. The
//! *value* ones (grayscale, dtype, normalise) at the end become one table look-up a value in [`finish`].

mod augment;
mod boxes;
mod color;
mod convolve;
mod effect;
mod erasing;
mod finish;
mod geometry;
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
mod warp;

use serde::{Deserialize, Serialize};

pub use augment::{AutoAugment, Look, Policy, RandAugment, TrivialAugmentWide};
pub use color::{ColorJitter, GaussianBlur};
pub use effect::{Effect, Erase, Paint};
pub use erasing::{RandomErasing, Value};
pub use finish::{Finish, Layout};
pub use geometry::{Canvas, Mask, Stage, View};
pub use matrix::{Affine, Matrix};
pub use mosaic::{Mosaic, Tile};
pub use moves::{Corners, Move, Tracked, area, way_back};
pub use nested::{RandomApply, RandomChoice};
pub use operation::{DecodeOptions, Follow, Mode, Operation};
pub use outline::moved_outline;
pub use random_warp::{RandomAffine, RandomPerspective, RandomRotation};
pub use recipe::Recipe;
pub use resample::{Resampler, Source, fill};
pub use warp::{Padding, Sampling, Warp};

/// How pixels between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the filters")]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

impl Interpolation {
    /// Pixels the filter reaches to either side, at scale 1.
    #[must_use]
    pub fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }
}

/// A filter and whether it widens when shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The filter.
    pub interpolation: Interpolation,
    /// Widen it by the scale when shrinking, so that every source pixel counts.
    pub antialias: bool,
}
