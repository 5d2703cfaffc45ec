//! JPEG through libjpeg-turbo's C interface, which keeps its `setjmp` to itself.
//!
//! A region costs less than the image. Columns outside of it are left out by libjpeg-turbo (entropy decoding aside);
//! rows above it are skipped by it; rows below it are not even entropy-decoded: a single-scan image is handed over with
//! a smaller height in its header, so that decoding ends where the region does. Chroma upsampling looks at neighbours,
//! so a margin is decoded around the region; with it, pixels are the same as those of the whole image.

use turbojpeg_sys as tj;

use super::orient::exif_orientation;
use super::{Format, Header};
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat, Rect, Scratch};

/// Progressive files may repeat scans without end; no honest encoder needs more.
const MAX_SCANS: i32 = 500;

/// What the markers say that libjpeg-turbo's interface doesn't.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Where the two bytes of the height lie.
    height_at: usize,
    /// One scan, sequential: rows come in order, so decoding may end early.
    single_scan: bool,
    orientation: u8,
}

/// Walks the markers up to the first scan.
fn frame(bytes: &[u8]) -> Option<Frame> {
    let mut at = 2;
    let mut found: Option<(usize, u8, u8)> = None;
    let mut orientation = 1;
    loop {
        while bytes.get(at..at + 2)? == [0xFF, 0xFF] {
            at += 1;
        }
        let &[0xFF, marker] = bytes.get(at..at + 2)? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes(
            bytes.get(at + 2..at + 4)?.try_into().ok()?,
        ));
        let body = bytes.get(at + 4..at + 2 + length)?;
        match marker {
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                found = Some((at + 5, marker, *body.get(5)?));
            }
            0xE1 if orientation == 1 => orientation = exif_orientation(body),
            0xDA => {
                let (height_at, kind, components) = found?;
                let sequential = matches!(kind, 0xC0 | 0xC1);
                return Some(Frame {
                    height_at,
                    single_scan: sequential && body.first() == Some(&components),
                    orientation,
                });
            }
            _ => {}
        }
        at += 2 + length;
    }
}

/// Whether the last marker, disregarding what cameras append, ends the image.
pub(super) fn ends_properly(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    bytes[..end].ends_with(&[0xFF, 0xD9])
}

/// A decompressor and what it keeps between images.
#[derive(Debug)]
pub(super) struct Decompressor {
    handle: tj::tjhandle,
    patched: Vec<u8>,
    cmyk: Scratch,
    max_pixels: u64,
    /// Warnings are errors: somebody wants to know whether a file is sound.
    pub(super) strict: bool,
}

// SAFETY: a TurboJPEG instance has no ties to the thread that made it; it must only not be used by two at once, which
// `&mut self` sees to.
#[expect(unsafe_code, reason = "a C handle moves with its owner")]
unsafe impl Send for Decompressor {}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the handle came from `tj3Init` and is not used afterwards.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Destroy(self.handle);
        }
    }
}

pub(super) fn last_error(handle: tj::tjhandle) -> String {
    // SAFETY: `tj3GetErrorStr` takes any instance or null and returns a terminated string that lives until the next
    // call on this thread; it is copied at once.
    #[expect(unsafe_code, reason = "C interface")]
    let text = unsafe { std::ffi::CStr::from_ptr(tj::tj3GetErrorStr(handle)) };
    text.to_string_lossy().replace('\n', " ")
}

pub(super) fn new_handle(kind: tj::TJINIT) -> Result<tj::tjhandle> {
    // SAFETY: no arguments to get wrong; null is checked for.
    #[expect(unsafe_code, reason = "C interface")]
    let handle = unsafe { tj::tj3Init(kind as i32) };
    if handle.is_null() {
        return Err(Error::decode(format!(
            "libjpeg-turbo: {}",
            last_error(handle)
        )));
    }
    Ok(handle)
}

pub(super) fn set(handle: tj::tjhandle, parameter: tj::TJPARAM, value: i32) -> Result<()> {
    // SAFETY: the handle is live; parameters and values are checked by the library.
    #[expect(unsafe_code, reason = "C interface")]
    let code = unsafe { tj::tj3Set(handle, parameter as i32, value) };
    if code == 0 {
        Ok(())
    } else {
        Err(Error::decode(format!(
            "libjpeg-turbo: {}",
            last_error(handle)
        )))
    }
}

impl Decompressor {
    pub(super) fn new(max_pixels: u64) -> Result<Self> {
        let handle = new_handle(tj::TJINIT_TJINIT_DECOMPRESS)?;
        let this = Self {
            handle,
            patched: Vec::new(),
            cmyk: Scratch::default(),
            max_pixels,
            strict: false,
        };
        set(handle, tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
        let limit = i32::try_from(max_pixels).unwrap_or(i32::MAX);
        set(handle, tj::TJPARAM_TJPARAM_MAXPIXELS, limit)?;
        Ok(this)
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        self.cmyk.shrink(keep);
        if self.patched.capacity() > keep {
            self.patched = Vec::new();
        }
    }

    fn get(&self, parameter: tj::TJPARAM) -> i32 {
        // SAFETY: the handle is live.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Get(self.handle, parameter as i32)
        }
    }

    /// Runs a call; a warning (which leaves an image) passes when `forgive` says so.
    fn call(&self, forgive: bool, code: i32) -> Result<()> {
        // SAFETY: the handle is live.
        #[expect(unsafe_code, reason = "C interface")]
        let warning =
            || unsafe { tj::tj3GetErrorCode(self.handle) } == tj::TJERR_TJERR_WARNING as i32;
        if code == 0 || (forgive && warning()) {
            return Ok(());
        }
        Err(Error::decode(format!("JPEG: {}", last_error(self.handle))))
    }

    fn read_header(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: pointer and length are those of a live slice.
        #[expect(unsafe_code, reason = "C interface")]
        let code =
            unsafe { tj::tj3DecompressHeader(self.handle, bytes.as_ptr(), bytes.len() as u64) };
        self.call(true, code)
    }

    pub(super) fn header(&mut self, bytes: &[u8]) -> Result<Header> {
        let frame = frame(bytes)
            .ok_or_else(|| Error::decode("JPEG: truncated or damaged before its first scan"))?;
        self.read_header(bytes)?;
        let gray = self.get(tj::TJPARAM_TJPARAM_COLORSPACE) == tj::TJCS_TJCS_GRAY as i32;
        Ok(Header {
            format: Format::Jpeg,
            width: self.get(tj::TJPARAM_TJPARAM_JPEGWIDTH).unsigned_abs(),
            height: self.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT).unsigned_abs(),
            channels: if gray { 1 } else { 3 },
            orientation: frame.orientation,
        })
    }

    /// Decodes at least `region` and returns what it decoded.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        header: &Header,
        region: Rect,
        format: PixelFormat,
        out: &mut Scratch,
    ) -> Result<Rect> {
        let frame =
            frame(bytes).ok_or_else(|| Error::decode("JPEG: damaged before its first scan"))?;
        self.set_crop(None)?;
        self.read_header(bytes)?;
        let precision = self.get(tj::TJPARAM_TJPARAM_PRECISION);
        if precision != 8 {
            return Err(Error::decode(format!(
                "JPEG: {precision} bits a channel, expected 8"
            )));
        }
        let area = self.widen(header, region);
        let ends_early = frame.single_scan && area.y + area.height < header.height;
        // Ending early leaves unread data, which the library warns of; so the end of the file must vouch for it.
        let forgive = ends_early || (!self.strict && ends_properly(bytes));
        if ends_early {
            let mut patched = std::mem::take(&mut self.patched);
            patched.clear();
            patched.extend_from_slice(bytes);
            let height = (area.y + area.height) as u16;
            patched[frame.height_at..frame.height_at + 2].copy_from_slice(&height.to_be_bytes());
            let done = self.read_header(&patched).and_then(|()| {
                self.decode_area(&patched, header, area, height.into(), forgive, format, out)
            });
            self.patched = patched;
            done?;
        } else {
            self.decode_area(bytes, header, area, header.height, forgive, format, out)?;
        }
        Ok(area)
    }

    /// The region with the margin that upsampling needs, its left edge where the library wants it.
    fn widen(&self, header: &Header, region: Rect) -> Rect {
        let subsampling = self.get(tj::TJPARAM_TJPARAM_SUBSAMP);
        let lossless = self.get(tj::TJPARAM_TJPARAM_LOSSLESS) == 1;
        let Some((mcu_width, mcu_height)) = mcu_size(subsampling).filter(|_| !lossless) else {
            return Rect::of_size(header.width, header.height);
        };
        let left = region.x.saturating_sub(1) / mcu_width * mcu_width;
        let right = (region.x + region.width + mcu_width).min(header.width);
        let bottom = (region.y + region.height + 2)
            .next_multiple_of(mcu_height)
            .min(header.height);
        Rect {
            x: left,
            y: region.y,
            width: right - left,
            height: bottom - region.y,
        }
    }

    fn set_crop(&self, area: Option<Rect>) -> Result<()> {
        let region = area.map_or(
            tj::tjregion {
                x: 0,
                y: 0,
                w: 0,
                h: 0,
            },
            |area| tj::tjregion {
                x: area.x as i32,
                y: area.y as i32,
                w: area.width as i32,
                h: area.height as i32,
            },
        );
        // SAFETY: the handle is live; the library checks the region.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe { tj::tj3SetCroppingRegion(self.handle, region) };
        self.call(false, code)
    }

    #[expect(clippy::too_many_arguments, reason = "one call with all that it needs")]
    fn decode_area(
        &mut self,
        bytes: &[u8],
        header: &Header,
        area: Rect,
        height: u32,
        forgive: bool,
        format: PixelFormat,
        out: &mut Scratch,
    ) -> Result<()> {
        if self.max_pixels < area.area() as u64 {
            return Err(Error::decode(format!(
                "JPEG: more than {} pixels",
                self.max_pixels
            )));
        }
        if area != Rect::of_size(header.width, height) {
            self.set_crop(Some(area))?;
        }
        let space = self.get(tj::TJPARAM_TJPARAM_COLORSPACE);
        let cmyk = space == tj::TJCS_TJCS_CMYK as i32 || space == tj::TJCS_TJCS_YCCK as i32;
        let count = area.area();
        if cmyk {
            let mut inks = std::mem::take(&mut self.cmyk);
            let decoded = self.decompress(
                bytes,
                inks.bytes(count * 4),
                tj::TJPF_TJPF_CMYK,
                area.width,
                forgive,
            );
            if decoded.is_ok() {
                cmyk_to(
                    inks.bytes(count * 4),
                    format.channels,
                    out.bytes(count * format.bytes()),
                );
            }
            self.cmyk = inks;
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
                &mut out.bytes(count * format.bytes())[..narrow],
                kind,
                area.width,
                forgive,
            )?;
        }
        if format.depth == Depth::Sixteen {
            widen_in_place(out.bytes(count * format.bytes()));
        }
        Ok(())
    }

    fn decompress(
        &self,
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
        // SAFETY: `out` holds as many rows of `pitch` bytes as the cropping region (or the image, without one) has,
        // by construction in `decode_area`; the input is a live slice.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe {
            tj::tj3Decompress8(
                self.handle,
                bytes.as_ptr(),
                bytes.len() as u64,
                out.as_mut_ptr(),
                pitch,
                kind,
            )
        };
        self.call(forgive, code)
    }
}

/// Width and height of a minimum coded unit by `TJSAMP`.
fn mcu_size(subsampling: i32) -> Option<(u32, u32)> {
    const SIZES: [(u32, u32); 7] = [(8, 8), (16, 8), (16, 16), (8, 8), (8, 16), (32, 8), (8, 32)];
    SIZES.get(usize::try_from(subsampling).ok()?).copied()
}

/// Adobe's inverted inks to RGB or gray, with PIL's arithmetic.
fn cmyk_to(inks: &[u8], channels: usize, out: &mut [u8]) {
    let narrow = inks.len() / 4 * channels;
    for (ink, pixel) in inks
        .chunks_exact(4)
        .zip(out[..narrow].chunks_exact_mut(channels))
    {
        let white = i32::from(ink[3]);
        let rgb = [ink[0], ink[1], ink[2]].map(|ink| {
            let covered = (255 - i32::from(ink)) * white + 128;
            (white - (((covered >> 8) + covered) >> 8)).clamp(0, 255) as u8
        });
        if channels == 1 {
            pixel[0] = super::general::luma(rgb);
        } else {
            pixel.copy_from_slice(&rgb);
        }
    }
}

/// Spreads the 8-bit values in the first half over the whole as 16-bit ones: `v * 257`, full scale to full scale.
fn widen_in_place(out: &mut [u8]) {
    for at in (0..out.len() / 2).rev() {
        let value = out[at];
        out[2 * at] = value;
        out[2 * at + 1] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, MAX_PIXELS, encode_jpeg};
    use super::*;

    const RGB: PixelFormat = PixelFormat {
        channels: 3,
        depth: Depth::Eight,
    };

    fn photo(width: u32, height: u32, channels: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..width as usize * height as usize * channels)
            .map(|at| {
                state = crate::random::mix(state);
                ((at / channels % width as usize) as u64 / 2 + (state & 63)) as u8
            })
            .collect()
    }

    fn decode(bytes: &[u8], region: Rect) -> Vec<u8> {
        let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
        let header = decoder.header(bytes).unwrap();
        let mut out = Scratch::default();
        let area = decoder
            .decode(bytes, &header, region, RGB, &mut out)
            .unwrap();
        let pixels = out.bytes(area.area() * 3);
        let mut cut = Vec::new();
        for y in 0..region.height {
            let start = ((region.y - area.y + y) * area.width + region.x - area.x) as usize * 3;
            cut.extend_from_slice(&pixels[start..start + region.width as usize * 3]);
        }
        cut
    }

    #[test]
    fn a_region_equals_the_same_part_of_the_whole() {
        let (width, height) = (203, 117);
        let bytes = encode_jpeg(&photo(width, height, 3), width, height, 3, 90).unwrap();
        let whole = decode(&bytes, Rect::of_size(width, height));
        for seed in 0..200 {
            let mut draws = crate::random::Draws::new(
                crate::random::Key {
                    seed,
                    epoch: 0,
                    row: 0,
                    field: 0,
                },
                0,
            );
            let (x, y) = (draws.below(width), draws.below(height));
            let region = Rect {
                x,
                y,
                width: 1 + draws.below(width - x),
                height: 1 + draws.below(height - y),
            };
            let mut expected = Vec::new();
            for row in region.y..region.y + region.height {
                let start = (row * width + region.x) as usize * 3;
                expected.extend_from_slice(&whole[start..start + region.width as usize * 3]);
            }
            assert!(decode(&bytes, region) == expected, "{region:?}");
        }
    }

    #[test]
    fn refuses_truncated_and_oversized() {
        let bytes = encode_jpeg(&photo(64, 64, 3), 64, 64, 3, 90).unwrap();
        let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
        let mut out = Scratch::default();
        let header = decoder.header(&bytes).unwrap();
        assert!(decoder.check_whole(&bytes, &header, &mut out).is_ok());
        let cut = &bytes[..bytes.len() / 2];
        assert!(decoder.check_whole(cut, &header, &mut out).is_err());
        for length in 0..bytes.len().min(700) {
            if let Ok(header) = decoder.header(&bytes[..length]) {
                assert!(
                    decoder
                        .check_whole(&bytes[..length], &header, &mut out)
                        .is_err()
                );
            }
        }
        assert!(Decoder::new(64 * 64 - 1).unwrap().header(&bytes).is_err());
    }

    #[test]
    fn widening_keeps_full_scale() {
        let mut bytes = [0, 1, 255, 0, 0, 0];
        widen_in_place(&mut bytes);
        assert_eq!(bytes, [0, 0, 1, 1, 255, 255]);
    }
}
