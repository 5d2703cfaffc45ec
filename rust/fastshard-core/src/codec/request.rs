//! The arguments and results of the image decoders.

use super::format::Format;
use crate::pixels::{PixelFormat, Rect};

/// What a file declares, known before any pixel is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the file is encoded.
    pub format: Format,
    /// Width in pixels as stored, before the image is turned upright.
    pub width: u32,
    /// Height in pixels as stored, before the image is turned upright.
    pub height: u32,
    /// Channels that the image is decoded to by default: 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// EXIF orientation, 1 to 8; 1 is upright.
    pub orientation: u8,
}

/// An encoded image, and what a shard stores about it.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// All bytes of the file.
    pub bytes: &'a [u8],
    /// For a seekable JPEG, the offset in `bytes` of each tile's data, row by row. Empty for all other files.
    pub tiles: &'a [u32],
    /// EXIF orientation, 1 to 8, if it was read when the image was stored.
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

/// The part of an image to decode, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The part to decode, in pixels of the image as stored.
    pub region: Rect,
    /// Channels and depth to decode to.
    pub format: PixelFormat,
    /// Factor by which width and height are reduced while decoding: 1, 2, 4 or 8. Lossless JPEG and all other formats
    /// ignore it.
    pub reduce: u32,
}

impl Request {
    /// Requests the whole image at full size.
    #[must_use]
    pub fn whole(header: &Header, format: PixelFormat) -> Self {
        Self {
            region: Rect::of_size(header.width, header.height),
            format,
            reduce: 1,
        }
    }
}

/// What a decoder has decoded, which may be more than was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The area that was decoded, in pixels of the reduced image. It holds the requested region.
    pub area: Rect,
    /// Factor by which width and height were reduced: the requested one, or 1.
    pub reduce: u32,
}
