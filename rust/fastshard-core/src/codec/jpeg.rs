//! JPEG: files that [`super::baseline`] refuses are decoded by libjpeg-turbo.
//!
//! # Regions
//!
//! A region costs less than the whole image:
//!
//! - Columns outside of the region are entropy-decoded, and then left out.
//! - Rows above the region are skipped by libjpeg-turbo.
//! - Rows below the region aren't read. An image of one scan gets a header with a smaller height, so that decoding ends
//!   with the region.
//! - Of a seekable image, libjpeg-turbo gets only the tiles that the region touches.
//!
//! Chroma upsampling looks at neighbours. So a margin around the region is decoded too, and pixels are equal to those
//! of the whole image.

use turbojpeg_sys as tj;

use super::baseline::Baseline;
use super::channels::{change_channels, cmyk_to, widen_in_place};
use super::format::Format;
use super::jpeg_frame::{Frame, ends_properly, lacks_quantisation};
use super::request::{Decoded, Encoded, Header, Request};
use super::tiles::Tiles;
use super::turbo::Turbo;
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat, Rect, Scratch};

/// Decodes JPEG for one thread, and keeps instances and buffers from one image to the next.
#[derive(Debug)]
pub(super) struct Decompressor {
    turbo: Turbo,
    baseline: Baseline,
    patched: Vec<u8>,
    max_pixels: u64,
    /// Whether a warning was forgiven.
    warned: bool,
}

impl Decompressor {
    pub(super) fn new(max_pixels: u64) -> Result<Self> {
        Ok(Self {
            turbo: Turbo::decompressor(max_pixels)?,
            baseline: Baseline::default(),
            patched: Vec::new(),
            max_pixels,
            warned: false,
        })
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        self.baseline.shrink(keep);
        if self.patched.capacity() > keep {
            self.patched = Vec::new();
        }
    }

    fn read_header(&mut self, bytes: &[u8]) -> Result<()> {
        if self.turbo.read_header(bytes) {
            return Ok(());
        }
        // The library reports an error behind a warning as a warning. After a header that breaks off, it also goes on
        // in that header with the next image. A new instance tells errors apart: it knows no size until it has read
        // one.
        let message = self.turbo.last_error();
        self.renew()?;
        self.turbo.read_header(bytes);
        if self.turbo.get(tj::TJPARAM_TJPARAM_JPEGWIDTH) > 0 {
            return Ok(());
        }
        self.renew()?;
        Err(Error::decode(format!("JPEG: {message}")))
    }

    fn renew(&mut self) -> Result<()> {
        self.turbo = Turbo::decompressor(self.max_pixels)?;
        Ok(())
    }

    /// Reads the marker segments up to the first scan; the orientation is left at 1. Other reasons why a file can't be
    /// decoded show when it is decoded.
    pub(super) fn header(bytes: &[u8]) -> Result<Header> {
        let frame = frame(bytes)?;
        Ok(Header {
            format: Format::Jpeg,
            width: frame.width,
            height: frame.height,
            channels: if frame.components == 1 { 1 } else { 3 },
            orientation: 1,
        })
    }

    /// Checks the header's tables too, which [`Self::header`] passes over.
    pub(super) fn check_header(&mut self, bytes: &[u8]) -> Result<()> {
        if lacks_quantisation(bytes) {
            return Err(Error::decode(
                "JPEG: a channel's quantisation table (DQT) is missing",
            ));
        }
        self.read_header(bytes)
    }

    /// Decodes at least the requested region, and returns the area that was decoded.
    pub(super) fn decode(
        &mut self,
        source: Encoded<'_>,
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        let Encoded { bytes, tiles, .. } = source;
        let frame = frame(bytes)?;
        let tiles = Tiles::new(bytes, &frame, tiles);
        if let Some(decoded) = self.baseline.decode(bytes, &frame, tiles, request, out) {
            if request.format.depth == Depth::Sixteen {
                widen_in_place(out.bytes(decoded.area.area() * request.format.bytes())?);
            }
            return Ok(decoded);
        }
        if let Some(tiles) = tiles {
            let mut cut = std::mem::take(&mut self.patched);
            let decoded = self.decode_tiles(tiles, &frame, &mut cut, request, out);
            self.patched = cut;
            // What goes wrong with some of the tiles also goes wrong with the whole file, which gives a better message.
            if decoded.is_ok() {
                return decoded;
            }
        }
        self.decode_rows(bytes, &frame, request, out)
    }

    fn decode_tiles(
        &mut self,
        tiles: Tiles<'_>,
        frame: &Frame,
        cut: &mut Vec<u8>,
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        let area = widen(frame, request);
        let shown = tiles.cut(frame, area, cut);
        let frame = Frame {
            width: shown.width,
            height: shown.height,
            ..*frame
        };
        let moved = Request {
            region: Rect {
                x: request.region.x - shown.x,
                y: request.region.y - shown.y,
                ..request.region
            },
            ..*request
        };
        let decoded = self.decode_whole_or_part(cut, &frame, &moved, false, out)?;
        let area = Rect {
            x: decoded.area.x + shown.x / decoded.reduce,
            y: decoded.area.y + shown.y / decoded.reduce,
            ..decoded.area
        };
        Ok(Decoded { area, ..decoded })
    }

    /// Decodes without [`Baseline`], so that tests can compare both.
    #[cfg(any(test, fuzzing))]
    pub(super) fn decode_by_library(
        &mut self,
        bytes: &[u8],
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        let frame = Frame::of(bytes).ok_or_else(|| Error::decode("no JPEG"))?;
        self.decode_rows(bytes, &frame, request, out)
    }

    /// Decodes the whole file by libjpeg-turbo, and fails at any warning.
    #[cfg(test)]
    pub(super) fn decode_strictly(
        &mut self,
        bytes: &[u8],
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        self.decode_whole_file(bytes, &frame(bytes)?, request, false, out)
    }

    /// Decodes a region from the start of a file, whether the file is complete or not.
    ///
    /// libjpeg-turbo warns of damage in the data, and decodes what it can. Where an EOI ends the image, its warnings
    /// are ignored, as by PIL. A file without EOI was probably cut: then no pixel may depend on what is missing.
    fn decode_rows(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        if ends_properly(bytes) {
            return self.decode_top(bytes, frame, request, out);
        }
        if !frame.single_scan {
            return self.decode_whole_file(bytes, frame, request, false, out);
        }
        let ended = self.ended(bytes, frame)?;
        self.decode_top(&ended, frame, request, out)
    }

    /// Appends the EOI that a file of one scan lacks. Decodes the file with two different fillings behind its data:
    /// unless both give the same pixels, some data are missing.
    fn ended(&mut self, bytes: &[u8], frame: &Frame) -> Result<Vec<u8>> {
        let truncated = || Error::decode("JPEG: truncated: its data end before its last pixels");
        let data = frame.unended(bytes).ok_or_else(truncated)?;
        let request = Request {
            region: Rect::of_size(frame.width, frame.height),
            format: RGB,
            reduce: 1,
        };
        let [first, second] = FILLERS.map(|filler| [data, &[filler; 64], &[0xFF, 0xD9]].concat());
        let mut pixels = [Scratch::default(), Scratch::default()];
        for (file, pixels) in [&first, &second].into_iter().zip(&mut pixels) {
            self.decode_whole_file(file, frame, &request, true, pixels)?;
        }
        let length = request.region.area() * RGB.bytes();
        let [one, other] = pixels.each_mut().map(|pixels| pixels.bytes(length));
        if one == other {
            Ok(first)
        } else {
            Err(truncated())
        }
    }

    /// Decodes the rows down to the end of a region. A smaller height in the header ends decoding there, if rows are
    /// stored in their order.
    fn decode_top(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        request: &Request,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        let area = widen(frame, request);
        let height = area.y + area.height;
        if !frame.single_scan || height == frame.height {
            return self.decode_whole_file(bytes, frame, request, true, out);
        }
        let mut patched = std::mem::take(&mut self.patched);
        patched.clear();
        frame.copy_header(bytes, frame.width, height, &mut patched);
        patched.extend_from_slice(&bytes[frame.scan_at..]);
        let shorter = Frame {
            height,
            ..frame.clone()
        };
        // The end that is missing is a warning, behind which a damage hides: see `decode_whole_file`.
        self.renew()?;
        let decoded = self.decode_whole_or_part(&patched, &shorter, request, true, out);
        self.patched = patched;
        decoded
    }

    /// Decodes a file as it is. What libjpeg-turbo makes of a damaged file depends on the images before. So a damaged
    /// file is decoded again by a new instance, which isn't used after that.
    fn decode_whole_file(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        request: &Request,
        forgive: bool,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        self.warned = false;
        let decoded = self.decode_whole_or_part(bytes, frame, request, forgive, out)?;
        if !self.warned {
            return Ok(decoded);
        }
        self.renew()?;
        let decoded = self.decode_whole_or_part(bytes, frame, request, forgive, out);
        self.renew()?;
        decoded
    }

    fn decode_whole_or_part(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        request: &Request,
        forgive: bool,
        out: &mut Scratch,
    ) -> Result<Decoded> {
        self.turbo.set_crop(None)?;
        self.read_header(bytes)?;
        let known = self.turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP) >= 0;
        let lossless = self.turbo.get(tj::TJPARAM_TJPARAM_LOSSLESS) == 1;
        let reduce = if lossless { 1 } else { request.reduce };
        self.turbo.set_scale(reduce)?;
        let whole = Rect::of_size(frame.width.div_ceil(reduce), frame.height.div_ceil(reduce));
        let area = if known && !lossless && !frame.is_smoothed(bytes) {
            reduced(widen(frame, request), reduce)
        } else {
            whole
        };
        if self.max_pixels < area.area() as u64 {
            return Err(Error::decode(format!(
                "JPEG: more than {} pixels",
                self.max_pixels
            )));
        }
        if area != whole {
            self.turbo.set_crop(Some(area))?;
        }
        if lossless {
            self.decode_lossless(bytes, area, forgive, request.format, out)?;
        } else {
            self.decode_area(bytes, area, forgive, request.format, out)?;
        }
        Ok(Decoded { area, reduce })
    }

    /// Decodes a lossless image, and converts its channels here, because libjpeg-turbo doesn't.
    fn decode_lossless(
        &mut self,
        bytes: &[u8],
        area: Rect,
        forgive: bool,
        format: PixelFormat,
        out: &mut Scratch,
    ) -> Result<()> {
        let gray = self.turbo.get(tj::TJPARAM_TJPARAM_COLORSPACE) == tj::TJCS_TJCS_GRAY as i32;
        let own = PixelFormat {
            channels: if gray { 1 } else { 3 },
            ..format
        };
        if own == format {
            return self.decode_area(bytes, area, forgive, format, out);
        }
        let mut stored = Scratch::default();
        self.decode_area(bytes, area, forgive, own, &mut stored)?;
        let count = area.area();
        change_channels(
            stored.bytes(count * own.bytes())?,
            own,
            format,
            out.bytes(count * format.bytes())?,
        );
        Ok(())
    }

    fn decode_area(
        &mut self,
        bytes: &[u8],
        area: Rect,
        forgive: bool,
        format: PixelFormat,
        out: &mut Scratch,
    ) -> Result<()> {
        let space = self.turbo.get(tj::TJPARAM_TJPARAM_COLORSPACE);
        let cmyk = space == tj::TJCS_TJCS_CMYK as i32 || space == tj::TJCS_TJCS_YCCK as i32;
        let count = area.area();
        if cmyk {
            let mut inks = Scratch::default();
            let decoded = self.decompress(
                bytes,
                inks.bytes(count * 4)?,
                tj::TJPF_TJPF_CMYK,
                area.width,
                forgive,
            );
            if decoded.is_ok() {
                cmyk_to(
                    inks.bytes(count * 4)?,
                    format.channels,
                    out.bytes(count * format.bytes())?,
                );
            }
            decoded?;
        } else {
            let kind = if format.channels == 1 {
                tj::TJPF_TJPF_GRAY
            } else {
                tj::TJPF_TJPF_RGB
            };
            let narrow = count * format.channels;
            self.decompress(
                bytes,
                &mut out.bytes(count * format.bytes())?[..narrow],
                kind,
                area.width,
                forgive,
            )?;
        }
        if format.depth == Depth::Sixteen {
            widen_in_place(out.bytes(count * format.bytes())?);
        }
        Ok(())
    }

    fn decompress(
        &mut self,
        bytes: &[u8],
        out: &mut [u8],
        kind: tj::TJPF,
        width: u32,
        forgive: bool,
    ) -> Result<()> {
        let channels = if kind == tj::TJPF_TJPF_GRAY {
            1
        } else if kind == tj::TJPF_TJPF_CMYK {
            4
        } else {
            3
        };
        let pitch = width as i32 * channels;
        if forgive {
            // Where decoding ends early, pixels stay gray instead of showing an earlier image.
            out.fill(0x80);
        }
        // SAFETY: `out` holds as many rows of `pitch` bytes as the cropping region (or the image, without one) has,
        // by construction in `decode_area`.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe { self.turbo.decompress(bytes, out, kind, pitch) };
        self.warned |= code != 0;
        self.turbo.check(forgive, code)
    }
}

const RGB: PixelFormat = PixelFormat {
    channels: 3,
    depth: Depth::Eight,
};
/// Bytes to append to data that may end early. A code that reads on gets different values from each.
const FILLERS: [u8; 2] = [0x00, 0xAA];

/// Reads the segments up to the first scan. Refuses files that no decoder here supports.
fn frame(bytes: &[u8]) -> Result<Frame> {
    let frame = Frame::of(bytes)
        .ok_or_else(|| Error::decode("JPEG: truncated or damaged before its first scan"))?;
    if frame.precision != 8 {
        return Err(Error::decode(format!(
            "JPEG: {} bits a channel, expected 8",
            frame.precision
        )));
    }
    // No decoder here supports hierarchical or arithmetic-coded lossless files, or two channels.
    let known = matches!(frame.kind, 0xC0..=0xC3 | 0xC9 | 0xCA);
    if !known || !matches!(frame.components, 1 | 3 | 4) {
        return Err(Error::decode(format!(
            "JPEG: not supported: process SOF{} with {} channels",
            frame.kind & 15,
            frame.components
        )));
    }
    Ok(frame)
}

/// The region with the margin that upsampling needs. The left edge is that of a unit, as libjpeg-turbo requires.
fn widen(frame: &Frame, request: &Request) -> Rect {
    let Request { region, reduce, .. } = *request;
    let (mcu_width, mcu_height) = frame.mcu;
    // In pixels of the full image: the neighbour of a reduced pixel is `reduce` times further away.
    let margin = 2 * reduce;
    let left = region.x.saturating_sub(margin) / mcu_width * mcu_width;
    let top = region.y.saturating_sub(margin);
    let right = (region.x + region.width + mcu_width.max(margin)).min(frame.width);
    let bottom = (region.y + region.height + margin)
        .next_multiple_of(mcu_height)
        .min(frame.height);
    Rect {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
    }
}

/// The area in an image that is reduced `reduce` times, widened to whole pixels.
fn reduced(area: Rect, reduce: u32) -> Rect {
    let (x, y) = (area.x / reduce, area.y / reduce);
    Rect {
        x,
        y,
        width: (area.x + area.width).div_ceil(reduce) - x,
        height: (area.y + area.height).div_ceil(reduce) - y,
    }
}

#[cfg(test)]
mod tests;
