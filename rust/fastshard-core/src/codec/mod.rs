//! Image codecs: bytes in, the pixels of a region out.
//!
//! JPEG goes through libjpeg-turbo, which can leave out what lies outside of the region; the other formats go through
//! the `image` crate and are decoded whole. A [`Decoder`] belongs to one thread and keeps its handles and scratch.

mod general;
mod jpeg;
mod jpeg_encode;
mod orient;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pixels::{PixelFormat, Rect, Scratch};

pub use orient::orient;

/// The encodings that can be stored and decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the formats")]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Bmp,
    Gif,
    Tiff,
}

impl Format {
    /// Recognises a format by its first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::Webp),
            [b'B', b'M', ..] if bytes.len() >= 26 => Some(Self::Bmp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ => None,
        }
    }

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Bmp => "bmp",
            Self::Gif => "gif",
            Self::Tiff => "tiff",
        }
    }
}

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

/// PIL's default limit, a quarter of a gibibyte of RGB.
pub const MAX_PIXELS: u64 = 89_478_485;

/// Decodes and encodes for one thread.
#[derive(Debug)]
pub struct Decoder {
    jpeg: jpeg::Decompressor,
    general: Scratch,
    max_pixels: u64,
}

impl Decoder {
    /// A decoder that refuses images of more pixels than this from their header.
    pub fn new(max_pixels: u64) -> Result<Self> {
        Ok(Self {
            jpeg: jpeg::Decompressor::new(max_pixels)?,
            general: Scratch::default(),
            max_pixels,
        })
    }

    /// Reads a header and holds the size against the limit.
    pub fn header(&mut self, bytes: &[u8]) -> Result<Header> {
        let format = recognise(bytes)?;
        let header = match format {
            Format::Jpeg => self.jpeg.header(bytes)?,
            _ => general::header(bytes, format, self.max_pixels)?,
        };
        self.check_size(&header)?;
        Ok(header)
    }

    fn check_size(&self, header: &Header) -> Result<()> {
        let pixels = u64::from(header.width) * u64::from(header.height);
        if pixels == 0 || pixels > self.max_pixels {
            return Err(Error::decode(format!(
                "{} x {} pixels: expected at least 1 and at most {} (max_pixels)",
                header.width, header.height, self.max_pixels
            )));
        }
        Ok(())
    }

    /// Decodes at least a region of an image into `out` and says which region that became. The header must be the
    /// one that [`Self::header`] gave for these bytes.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        region: Rect,
        format: PixelFormat,
        out: &mut Scratch,
    ) -> Result<Rect> {
        debug_assert!(
            region.x + region.width <= header.width && region.y + region.height <= header.height
        );
        if header.format == Format::Jpeg {
            self.jpeg.decode(bytes, header, region, format, out)
        } else {
            general::decode(
                bytes,
                header,
                self.max_pixels,
                format,
                &mut self.general,
                out,
            )?;
            Ok(Rect::of_size(header.width, header.height))
        }
    }

    /// Checks that a file is whole: cheaply by its structure where that settles it, by decoding where it doesn't.
    pub fn check_whole(&mut self, bytes: &[u8], header: &Header, out: &mut Scratch) -> Result<()> {
        let settled = match header.format {
            Format::Jpeg => jpeg::ends_properly(bytes),
            other => general::ends_properly(bytes, other),
        };
        if settled {
            Ok(())
        } else {
            self.check_decodes(bytes, header, out)
        }
    }

    /// Checks that every pixel can be decoded.
    pub fn check_decodes(
        &mut self,
        bytes: &[u8],
        header: &Header,
        out: &mut Scratch,
    ) -> Result<()> {
        let format = PixelFormat {
            channels: header.channels,
            depth: crate::pixels::Depth::Eight,
        };
        let whole = Rect::of_size(header.width, header.height);
        self.jpeg.strict = true;
        let decoded = self.decode(bytes, header, whole, format, out);
        self.jpeg.strict = false;
        decoded.map(drop)
    }

    /// Gives back memory that one unusually large image took.
    pub fn shrink(&mut self, keep: usize) {
        self.general.shrink(keep);
        self.jpeg.shrink(keep);
    }
}

fn recognise(bytes: &[u8]) -> Result<Format> {
    if bytes.is_empty() {
        return Err(Error::decode("empty: 0 bytes"));
    }
    Format::of(bytes).ok_or_else(|| {
        let start = &bytes[..bytes.len().min(8)];
        Error::decode(format!(
            "not an image in a known format (jpeg, png, webp, bmp, gif, tiff): starts with {start:02x?}"
        ))
    })
}

/// Encodes pixels as JPEG. `quality` is libjpeg's 1 to 100; chroma is halved both ways (4:2:0), as most photographs are.
pub fn encode_jpeg(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: usize,
    quality: u8,
) -> Result<Vec<u8>> {
    jpeg_encode::encode(pixels, width, height, channels, quality)
}

/// Encodes pixels as PNG, without loss.
pub fn encode_png(pixels: &[u8], width: u32, height: u32, format: PixelFormat) -> Result<Vec<u8>> {
    general::encode_png(pixels, width, height, format)
}

/// Version of the bundled libjpeg-turbo.
pub const LIBJPEG_TURBO: &str = "3.1.0";
