//! Codecs: bytes in, the pixels of a region or the samples of a range of frames out.
//!
//! JPEG goes through libjpeg-turbo, which can leave out what lies outside of the region; the other formats go through
//! the `image` crate and are decoded whole. A [`Decoder`] belongs to one thread and keeps its handles and scratch.

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
        let header = self.stored_header(bytes, 1)?;
        let orientation = upright::orientation(bytes, header.format);
        Ok(Header {
            orientation,
            ..header
        })
    }

    /// The same of a file whose orientation was read when it was stored: boxes were moved and sizes noted by that one.
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

    /// Decodes at least a region of an image into `out` and says which region that became. The header must be the
    /// one that [`Self::header`] gave for these bytes.
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

    /// Decodes a JPEG by the library alone.
    #[cfg(fuzzing)]
    pub fn decode_by_library(
        &mut self,
        bytes: &[u8],
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        self.jpeg.decode_by_library(bytes, request, out)
    }

    /// Checks that a file is whole: cheaply by its structure where that settles it, by decoding where it doesn't.
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

    /// Checks that all pixels can be decoded, by the rules by which they are when they are loaded.
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

/// Re-codes a JPEG without loss so that parts of it can be decoded alone; gives the file and where its tiles start, or
/// `None` where it is better stored as it is.
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
