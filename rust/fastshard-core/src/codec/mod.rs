//! Codecs: bytes in, the pixels of a region or the samples of a range of frames out.
//!
//! | Data | Decoder | A part of it |
//! |---|---|---|
//! | sequential JPEG | `baseline` | decodes the units that a region touches |
//! | other JPEG | libjpeg-turbo, by `jpeg` | leaves out columns and rows around the region |
//! | gray PNG of 8 bits | `png_gray` | decodes the whole image |
//! | PNG, WebP, BMP, GIF, TIFF | the `image` crate, by `general` | decodes the whole image |
//! | audio | `audio` | decodes a range of frames |
//!
//! A [`Decoder`] belongs to one thread and keeps its handles and scratch.

mod audio;
mod baseline;
mod channels;
mod directory;
mod format;
mod general;
mod jpeg;
mod jpeg_encode;
mod jpeg_frame;
mod orient;
mod palette;
mod png_gray;
mod request;
mod seekable;
mod tiles;
mod turbo;
mod upright;

use crate::error::{Error, Result};
use crate::pixels::{PixelFormat, Rect, Scratch};

pub use audio::{AudioFile, AudioFormat, AudioHeader, AudioLimits, Waves};
pub use format::Format;
pub use orient::orient;
pub(crate) use palette::without_palette;
pub use request::{Decoded, Encoded, Header, Request};
pub use seekable::Transcoding;

/// Decodes images for one thread, and keeps handles and scratch from one image to the next.
#[derive(Debug)]
pub struct Decoder {
    jpeg: jpeg::Decompressor,
    general: Scratch,
    max_pixels: u64,
}

impl Decoder {
    /// Makes a decoder that refuses images of more than `max_pixels` pixels, width times height, by their header.
    pub fn new(max_pixels: u64) -> Result<Self> {
        Ok(Self {
            jpeg: jpeg::Decompressor::new(max_pixels)?,
            general: Scratch::default(),
            max_pixels,
        })
    }

    /// Reads a header and the orientation, and checks the size against the limit.
    pub fn header(&mut self, bytes: &[u8]) -> Result<Header> {
        let header = self.stored_header(bytes, 1)?;
        let orientation = upright::orientation(bytes, header.format);
        Ok(Header {
            orientation,
            ..header
        })
    }

    /// Reads a header and checks the size against the limit. The orientation is the one that was read when the file was
    /// stored, because boxes and sizes were stored for that one.
    pub fn stored_header(&mut self, bytes: &[u8], orientation: u8) -> Result<Header> {
        if !(1..=8).contains(&orientation) {
            return Err(Error::decode(format!(
                "its stored orientation is {orientation}, expected 1 to 8"
            )));
        }
        let format = recognise(bytes)?;
        let header = match format {
            Format::Jpeg => jpeg::Decompressor::header(bytes)?,
            _ => general::header(bytes, format, self.max_pixels)?,
        };
        self.check_size(&header)?;
        Ok(Header {
            orientation,
            ..header
        })
    }

    fn check_size(&self, header: &Header) -> Result<()> {
        let pixels = u64::from(header.width) * u64::from(header.height);
        if pixels == 0 {
            return Err(Error::decode(format!(
                "{} x {} pixels: its header declares an empty image",
                header.width, header.height
            )));
        }
        if pixels > self.max_pixels {
            return Err(Error::decode(format!(
                "{} x {} pixels: expected at most {} (max_pixels)",
                header.width, header.height, self.max_pixels
            )));
        }
        Ok(())
    }

    /// Decodes at least a region of an image into `out`, and returns the area that was decoded. The header must be the
    /// one that [`Self::header`] returned for these bytes.
    pub fn decode(
        &mut self,
        source: Encoded<'_>,
        header: &Header,
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        let region = request.region;
        debug_assert!(
            region.x + region.width <= header.width && region.y + region.height <= header.height
        );
        if header.format == Format::Jpeg {
            self.jpeg.decode(source, request, out)
        } else {
            general::decode(
                source.bytes,
                header,
                self.max_pixels,
                request.format,
                &mut self.general,
                out,
            )?;
            Ok(Decoded {
                area: Rect::of_size(header.width, header.height),
                reduce: 1,
            })
        }
    }

    /// Decodes a JPEG by libjpeg-turbo alone, to compare the decoder of this crate with it.
    #[cfg(fuzzing)]
    pub fn decode_by_library(
        &mut self,
        bytes: &[u8],
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        self.jpeg.decode_by_library(bytes, request, out)
    }

    /// Checks that a file is whole: by its structure if the format has an end marker there, else by decoding it.
    pub fn check_whole(&mut self, bytes: &[u8], header: &Header, out: &mut Scratch) -> Result<()> {
        let settled = match header.format {
            Format::Jpeg => {
                self.jpeg.check_header(bytes)?;
                jpeg_frame::ends_properly(bytes)
            }
            other => general::ends_properly(bytes, other),
        };
        if settled {
            Ok(())
        } else {
            self.check_decodes(bytes, header, out)
        }
    }

    /// Checks that all pixels can be decoded, by the same rules as when the image is loaded.
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
        self.decode(bytes.into(), header, &Request::whole(header, format), out)
            .map(drop)
    }

    /// Frees each buffer that holds more than `keep` bytes, as one unusually large image may leave.
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

/// Encodes pixels as JPEG. `quality` is libjpeg's, 1 to 100. Chroma has half the width and height (4:2:0), as in most
/// photographs.
pub fn encode_jpeg(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: usize,
    quality: u8,
) -> Result<Vec<u8>> {
    jpeg_encode::encode(pixels, width, height, channels, quality)
}

/// Re-codes a JPEG without loss, so that parts of it can be decoded alone. Returns the new file and the offset of each
/// tile's data, or `None` if the file is better stored as it is.
pub fn seekable_jpeg(
    bytes: &[u8],
    transcoding: &Transcoding,
) -> Result<Option<(Vec<u8>, Vec<u32>)>> {
    seekable::transcode(bytes, transcoding)
}

/// Encodes pixels as PNG, without loss.
pub fn encode_png(pixels: &[u8], width: u32, height: u32, format: PixelFormat) -> Result<Vec<u8>> {
    general::encode_png(pixels, width, height, format)
}

/// Version of the bundled libjpeg-turbo.
pub const LIBJPEG_TURBO: &str = "3.1.0";
