//! What a resampling starts from.

use crate::pixels::{PixelFormat, Rect};

/// Decoded pixels and the place they have in the stage's input.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Rows of `area.width` pixels.
    pub pixels: &'a [u8],
    /// Which part of the input they are.
    pub area: Rect,
    /// Their format.
    pub format: PixelFormat,
    /// How many times smaller they are than the stage's input; `area` counts such pixels.
    pub reduce: u32,
}
