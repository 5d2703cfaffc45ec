//! How encoded images become pixels.

use serde::{Deserialize, Serialize};

use super::limits::check;
use crate::error::Result;
use crate::pixels::{Depth, MAX_PIXELS, PixelFormat};
use crate::schema::Dtype;

/// How encoded images become pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecodeOptions {
    /// RGB or gray.
    pub mode: Mode,
    /// `uint8` or `uint16`.
    pub dtype: Dtype,
    /// Turn the image as its EXIF data says.
    pub exif_orientation: bool,
    /// Refuse larger images from their header.
    pub max_pixels: u64,
    /// Decode JPEGs 2, 4 or 8 times smaller where they are to be made at least that much smaller.
    pub scaled: bool,
}

/// Channels of a decoded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Three channels.
    Rgb,
    /// One.
    Gray,
    /// One: numbers in a palette.
    Palette,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Rgb,
            dtype: Dtype::Uint8,
            exif_orientation: false,
            max_pixels: MAX_PIXELS,
            scaled: true,
        }
    }
}

impl DecodeOptions {
    pub(super) fn check(&self) -> Result<()> {
        let wide = self.dtype == Dtype::Uint16 && self.mode != Mode::Palette;
        check(self.dtype == Dtype::Uint8 || wide, || {
            format!(
                "Decode: dtype {}, expected uint8, or uint16 where it isn't numbers in a palette",
                self.dtype.name()
            )
        })
    }

    /// The pixels that come out.
    #[must_use]
    pub fn format(&self) -> PixelFormat {
        PixelFormat {
            channels: if self.mode == Mode::Rgb { 3 } else { 1 },
            depth: if self.dtype == Dtype::Uint16 {
                Depth::Sixteen
            } else {
                Depth::Eight
            },
        }
    }
}
