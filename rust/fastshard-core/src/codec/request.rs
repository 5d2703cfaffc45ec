//! What is asked of a decoder, and what it answers.

use super::format::Format;
use crate::pixels::{PixelFormat, Rect};

/// What a file says of itself before any pixel is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The encoding.
    pub format: Format,
    /// Pixels a row, as stored.
    pub width: u32,
    /// Rows, as stored.
    pub height: u32,
    /// Channels as decoded without a wish: 1 or 3.
    pub channels: usize,
    /// EXIF orientation, 1 to 8.
    pub orientation: u8,
}

/// An encoded image as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// Where the tiles of a seekable JPEG start in it; empty for all others.
    pub tiles: &'a [u32],
    /// Its orientation, where that was stored beside it.
    pub orientation: Option<u8>,
}

impl<'a> From<&'a [u8]> for Encoded<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            tiles: &[],
            orientation: None,
        }
    }
}

/// What is wanted of an image.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The part, in pixels of the image as stored.
    pub region: Rect,
    /// The pixels.
    pub format: PixelFormat,
    /// Decode 1, 2, 4 or 8 times smaller, where the format can.
    pub reduce: u32,
}

impl Request {
    /// All of an image, as it is.
    #[must_use]
    pub fn whole(header: &Header, format: PixelFormat) -> Self {
        Self {
            region: Rect::of_size(header.width, header.height),
            format,
            reduce: 1,
        }
    }
}

/// What was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// At least the region that was asked for, in pixels of the reduced image.
    pub area: Rect,
    /// How many times smaller.
    pub reduce: u32,
}
