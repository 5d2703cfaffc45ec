//! Filters between pixels.

use serde::{Deserialize, Serialize};

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
