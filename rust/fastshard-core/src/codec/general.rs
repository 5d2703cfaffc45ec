//! PNG, WebP, BMP, GIF (first frame) and TIFF through the `image` crate; gray PNG faster where it can be.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use super::channels::{channels, luma, luma16};
use super::format::Format;
use super::request::Header;
use super::{directory, png_gray};
use crate::caught::caught;
use crate::error::{Error, Result};
use crate::pixels::{Depth, PixelFormat, Scratch};

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png,
            Format::Webp => Self::WebP,
            Format::Bmp => Self::Bmp,
            Format::Gif => Self::Gif,
            Format::Tiff => Self::Tiff,
        }
    }
}

fn failed(format: Format) -> impl Fn(image::ImageError) -> Error {
    move |error| Error::decode(format!("{}: {error}", format.name()))
}

fn open(bytes: &[u8], format: Format, max_pixels: u64) -> Result<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.into());
    let mut limits = Limits::default();
    // The pixels at 16 bits and four channels, and as much again for what the decoder keeps beside them.
    limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(1 << 26));
    reader.limits(limits);
    reader.into_decoder().map_err(failed(format))
}

/// Runs a decoder of another crate. A panic in it becomes an error of the file.
fn guarded<T>(format: Format, run: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whatever state it left is in buffers that are overwritten.
    caught("its decoder", run).map_err(|error| match error {
        Error::Internal { reason } => {
            Error::decode(format!("{}: not supported: {reason}", format.name()))
        }
        other => other,
    })
}

/// Reads a header; the orientation is left at 1.
pub(super) fn header(bytes: &[u8], format: Format, max_pixels: u64) -> Result<Header> {
    let (size, color) = guarded(format, || {
        let decoder = open(bytes, format, max_pixels)?;
        Ok((decoder.dimensions(), decoder.color_type()))
    })?;
    if format == Format::Png {
        png_gray::check_palette(bytes)?;
    }
    Ok(Header {
        format,
        width: size.0,
        height: size.1,
        channels: if color.has_color() { 3 } else { 1 },
        orientation: 1,
    })
}

/// Whether the structure of a file shows that it is whole. For false, only decoding can tell.
pub(super) fn ends_properly(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Png => bytes.ends_with(b"IEND\xAE\x42\x60\x82"),
        Format::Webp => {
            let size = bytes
                .get(4..8)
                .and_then(|size| size.try_into().ok())
                .map(u32::from_le_bytes);
            size.is_some_and(|size| bytes.len() as u64 >= u64::from(size) + 8)
        }
        _ => false,
    }
}

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    max_pixels: u64,
    format: PixelFormat,
    scratch: &mut Scratch,
    out: &mut Scratch,
) -> Result<()> {
    let size = (header.width as usize, header.height as usize);
    let plain =
        header.format == Format::Png && (format.channels, format.depth) == (1, Depth::Eight);
    if plain && png_gray::decode(bytes, size, scratch, out.bytes(size.0 * size.1)?).is_some() {
        return Ok(());
    }
    let bytes = match header.format {
        Format::Tiff => directory::highest_bit_first(bytes)?,
        _ => bytes.into(),
    };
    guarded(header.format, || {
        decode_by_crate(&bytes, header, max_pixels, format, scratch, out)
    })
}

fn decode_by_crate(
    bytes: &[u8],
    header: &Header,
    max_pixels: u64,
    format: PixelFormat,
    scratch: &mut Scratch,
    out: &mut Scratch,
) -> Result<()> {
    let decoder = open(bytes, header.format, max_pixels)?;
    if decoder.dimensions() != (header.width, header.height) {
        return Err(Error::decode("the size changed while decoding"));
    }
    let color = decoder.color_type();
    let count = header.width as usize * header.height as usize;
    let length = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
    if length != count * usize::from(color.bytes_per_pixel()) {
        return Err(Error::decode(format!(
            "{}: {length} bytes for {count} pixels",
            header.format.name()
        )));
    }
    if (color, format.channels, format.depth) == (ColorType::Rgb8, 3, Depth::Eight) {
        return decoder
            .read_image(out.bytes(length)?)
            .map_err(failed(header.format));
    }
    let source = scratch.bytes(length)?;
    decoder.read_image(source).map_err(failed(header.format))?;
    convert(source, color, format, out.bytes(count * format.bytes())?).ok_or_else(|| {
        Error::decode(format!(
            "{}: {color:?} pixels are not supported",
            header.format.name()
        ))
    })
}

/// Drops alpha (as PIL does), and converts color and depth: 16 bits become 8 by their high byte, 8 become 16 by
/// `v * 257`.
fn convert(source: &[u8], color: ColorType, format: PixelFormat, out: &mut [u8]) -> Option<()> {
    let from = usize::from(color.channel_count());
    let to = format.channels;
    match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => match format.depth {
            Depth::Eight => channels(source, from, out, to, luma),
            Depth::Sixteen => {
                let wide: Vec<u16> = source.iter().map(|&v| u16::from(v) * 257).collect();
                channels(&wide, from, bytemuck::cast_slice_mut(out), to, luma16);
            }
        },
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            let wide: &[u16] = bytemuck::cast_slice(source);
            match format.depth {
                Depth::Sixteen => channels(wide, from, bytemuck::cast_slice_mut(out), to, luma16),
                Depth::Eight => {
                    let narrow: Vec<u8> = wide.iter().map(|&v| (v >> 8) as u8).collect();
                    channels(&narrow, from, out, to, luma);
                }
            }
        }
        _ => return None,
    }
    Some(())
}

pub(super) fn encode_png(
    pixels: &[u8],
    width: u32,
    height: u32,
    format: PixelFormat,
) -> Result<Vec<u8>> {
    use image::ExtendedColorType as Color;
    let color = match (format.channels, format.depth) {
        (1, Depth::Eight) => Color::L8,
        (1, Depth::Sixteen) => Color::L16,
        (_, Depth::Eight) => Color::Rgb8,
        (_, Depth::Sixteen) => Color::Rgb16,
    };
    let mut encoded = Vec::new();
    image::codecs::png::PngEncoder::new(&mut encoded)
        .write_image(pixels, width, height, color)
        .map_err(failed(Format::Png))?;
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::super::Request;
    use super::*;
    use crate::pixels::MAX_PIXELS;

    fn round_trip(pixels: &[u8], stored: PixelFormat, wanted: PixelFormat) -> Vec<u8> {
        let bytes = encode_png(pixels, 2, 1, stored).unwrap();
        let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
        let header = decoder.header(&bytes).unwrap();
        let mut out = Scratch::default();
        decoder
            .decode(
                (&bytes[..]).into(),
                &header,
                &Request::whole(&header, wanted),
                &mut out,
            )
            .unwrap();
        out.bytes(2 * wanted.bytes()).unwrap().to_vec()
    }

    #[test]
    fn converts_channels_and_depth() {
        let format = |channels, depth| PixelFormat { channels, depth };
        let rgb = format(3, Depth::Eight);
        let gray = format(1, Depth::Eight);
        assert_eq!(
            round_trip(&[1, 2, 3, 250, 0, 9], rgb, rgb),
            [1, 2, 3, 250, 0, 9]
        );
        assert_eq!(
            round_trip(&[255, 255, 255, 255, 0, 0], rgb, gray),
            [255, 76]
        );
        assert_eq!(round_trip(&[7, 200], gray, rgb), [7, 7, 7, 200, 200, 200]);
        let wide: Vec<u8> = [0x1234u16, 0xFFFF]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect();
        let gray16 = format(1, Depth::Sixteen);
        assert_eq!(round_trip(&wide, gray16, gray16), wide);
        assert_eq!(round_trip(&wide, gray16, gray), [0x12, 0xFF]);
        assert_eq!(
            round_trip(&[0x12, 0xFF], gray, gray16),
            [0x12, 0x12, 0xFF, 0xFF]
        );
    }

    #[test]
    fn refuses_truncated_files() {
        let gray = PixelFormat {
            channels: 1,
            depth: Depth::Eight,
        };
        let bytes = encode_png(&[7; 64], 8, 8, gray).unwrap();
        let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
        let mut out = Scratch::default();
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            let whole = decoder
                .header(cut)
                .and_then(|header| decoder.check_whole(cut, &header, &mut out));
            assert!(
                whole.is_err() || length > bytes.len() - 16,
                "{length} of {} bytes",
                bytes.len()
            );
        }
    }
}
