//! Reads the orientation of an image: from EXIF data, or else from XMP, in all places where PIL looks for them.
//!
//! `ImageOps.exif_transpose` of Pillow 13 is the model: for the places that count, and for which of two counts.

use std::borrow::Cow;

use fdeflate::decompress_to_vec_bounded;
use memchr::memmem;

use super::directory::{Directory, ORIENTATION, XMP};
use super::format::Format;
use super::jpeg_frame::segments;
use super::png_gray;

const EXIF: &[u8] = b"Exif\0\0";
/// The most bytes that a compressed text may unpack to, as in PIL.
const MAX_TEXT: usize = 1 << 20;

/// The orientation that a file asks for, 1 to 8.
pub(super) fn orientation(bytes: &[u8], format: Format) -> u8 {
    let found = match format {
        Format::Jpeg => of_jpeg(bytes),
        Format::Png => of_png(bytes),
        Format::Webp => of_webp(bytes),
        Format::Tiff => of_tiff(bytes),
        Format::Bmp | Format::Gif => None,
    };
    found.unwrap_or(1)
}

fn of_jpeg(bytes: &[u8]) -> Option<u8> {
    let (mut exif, mut xmp) = (None::<Cow<'_, [u8]>>, None);
    for segment in segments(bytes)
        .flatten()
        .filter(|segment| segment.marker == 0xE1)
    {
        let body = &bytes[segment.place.start + 4..segment.place.end];
        if let Some(more) = body.strip_prefix(EXIF) {
            // Long EXIF data are cut into several segments.
            match &mut exif {
                None => exif = Some(more.into()),
                Some(exif) => exif.to_mut().extend_from_slice(more),
            }
        } else if let Some(text) = body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
            xmp = Some(text);
        }
    }
    exif.and_then(|exif| of_exif(&exif))
        .or_else(|| of_xmp(xmp?))
}

fn of_webp(bytes: &[u8]) -> Option<u8> {
    let mut chunks = riff_chunks(bytes.get(12..)?);
    let (b"VP8X", features) = chunks.next()? else {
        return None;
    };
    let (mut exif, mut xmp) = (None, None);
    for (kind, body) in chunks {
        match kind {
            b"EXIF" if features.first()? & 8 > 0 => exif = exif.or(Some(body)),
            b"XMP " if features.first()? & 4 > 0 => xmp = xmp.or(Some(body)),
            _ => {}
        }
    }
    of_exif(exif.unwrap_or_default()).or_else(|| of_xmp(xmp?))
}

fn riff_chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, behind) = rest.split_first_chunk()?;
        let (length, behind) = behind.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let body = behind.get(..length)?;
        // The padding of the last chunk may be missing.
        rest = behind.get(length + length % 2..).unwrap_or_default();
        Some((kind, body))
    })
}

fn of_tiff(bytes: &[u8]) -> Option<u8> {
    let directory = Directory::first(bytes)?;
    of_directory(&directory).or_else(|| of_xmp(directory.find(XMP)?.bytes()))
}

/// The orientation of a PNG. Chunks may be behind the image, and the last of several counts. `eXIf` goes before the
/// texts that old programs write.
fn of_png(bytes: &[u8]) -> Option<u8> {
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for (kind, body) in png_gray::all_chunks(bytes) {
        match kind {
            b"eXIf" => exif = Some(body),
            b"tEXt" | b"zTXt" | b"iTXt" => match split(body) {
                (b"Raw profile type exif", rest) => profile = text(*kind, rest).or(profile),
                (b"XML:com.adobe.xmp", rest) => xmp = text(*kind, rest).or(xmp),
                _ => {}
            },
            b"IEND" => break,
            _ => {}
        }
    }
    let found = match exif {
        Some(exif) => of_exif(exif),
        None => of_exif(&from_hex(&profile.unwrap_or_default()).unwrap_or_default()),
    };
    found.or_else(|| of_xmp(&xmp?))
}

/// The bytes in front of the first zero, and those behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// The text in a chunk, behind its keyword.
fn text(kind: [u8; 4], body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (packed, text) = match (&kind, body) {
        (b"tEXt", text) => (false, text),
        (b"zTXt", [0, text @ ..]) => (true, text),
        // The language and the translated keyword are in front of the text.
        (b"iTXt", [0, _, rest @ ..]) => (false, split(split(rest).1).1),
        (b"iTXt", [_, 0, rest @ ..]) => (true, split(split(rest).1).1),
        _ => return None,
    };
    if packed {
        let unpacked = decompress_to_vec_bounded(text, MAX_TEXT).ok()?;
        Some(unpacked.into())
    } else {
        Some(text.into())
    }
}

/// Reads EXIF data as `ImageMagick` writes them: an empty line, the kind, the length, then two hexadecimal digits a
/// byte.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Option<Vec<u8>> = (digits.iter())
        .filter(|digit| !digit.is_ascii_whitespace())
        .map(|&digit| Some(char::from(digit).to_digit(16)? as u8))
        .collect();
    let pairs = digits?;
    Some(
        pairs
            .as_chunks()
            .0
            .iter()
            .map(|[high, low]| high << 4 | low)
            .collect(),
    )
}

/// The orientation in EXIF data. `None` if they have none, or are no EXIF data.
fn of_exif(mut exif: &[u8]) -> Option<u8> {
    for _ in 0..2 {
        exif = exif.strip_prefix(EXIF).unwrap_or(exif);
    }
    of_directory(&Directory::first(exif)?)
}

fn of_directory(directory: &Directory<'_>) -> Option<u8> {
    let values = directory.find(ORIENTATION)?;
    let first = values.numbers().next();
    let known = (2..=8).find(|&known| first == Some(f64::from(known)));
    Some(known.unwrap_or(1))
}

fn of_xmp(xmp: &[u8]) -> Option<u8> {
    let name = b"tiff:Orientation";
    let digit = memmem::find_iter(xmp, name).find_map(|at| match xmp[at + name.len()..] {
        [b'=', b'"', digit, ..] | [b'>', digit, ..] if digit.is_ascii_digit() => Some(digit),
        _ => None,
    })?;
    Some(match digit {
        b'2'..=b'8' => digit - b'0',
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::orient::exif_segment;
    use crate::codec::png_gray::SIGNATURE;

    /// A file of each format that says 6.
    fn files() -> Vec<(Format, Vec<u8>)> {
        let exif = &exif_segment(6)[10..];
        let xmp: &[u8] = b"<a tiff:Orientation=\"6\"/>";
        let space: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
        let chunk = |kind: &[u8], body: &[u8]| {
            [&(body.len() as u32).to_be_bytes()[..], kind, body, &[0; 4]].concat()
        };
        let riff = |kind: &[u8], body: &[u8]| {
            [kind, &(body.len() as u32).to_le_bytes()[..], body].concat()
        };
        let segment = |body: &[u8]| {
            let length = (body.len() as u16 + 2).to_be_bytes();
            [&[0xFF, 0xE1][..], &length, body].concat()
        };
        let hexadecimal: String = exif
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(u32::from(digit), 16))
            .collect();
        let profile = format!("Raw profile type exif\0\nexif\n 40\n{hexadecimal}\n");
        let end: &[u8] = &[0xFF, 0xDA, 0, 2];
        vec![
            (
                Format::Jpeg,
                [&[0xFF, 0xD8][..], &exif_segment(6), end].concat(),
            ),
            (
                Format::Jpeg,
                [&[0xFF, 0xD8][..], &segment(&[space, xmp].concat()), end].concat(),
            ),
            (
                Format::Png,
                [SIGNATURE, &chunk(b"IHDR", &[0; 13]), &chunk(b"eXIf", exif)].concat(),
            ),
            (
                Format::Png,
                [SIGNATURE, &chunk(b"tEXt", profile.as_bytes())].concat(),
            ),
            (
                Format::Webp,
                [
                    &b"RIFF\0\0\0\0WEBP"[..],
                    &riff(b"VP8X", &[12, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    &riff(b"XMP ", xmp),
                    &riff(b"EXIF", exif),
                ]
                .concat(),
            ),
            (Format::Tiff, exif.to_vec()),
        ]
    }

    #[test]
    fn finds_it_in_every_format() {
        for (format, file) in files() {
            assert_eq!(orientation(&file, format), 6, "{format:?} {file:?}");
        }
    }

    #[test]
    fn whatever_is_in_a_file_is_read_without_a_panic() {
        for (format, file) in files() {
            for length in 0..file.len() {
                assert!((1..=8).contains(&orientation(&file[..length], format)));
                for bits in 1..=u8::MAX {
                    let mut other = file.clone();
                    other[length] ^= bits;
                    assert!((1..=8).contains(&orientation(&other, format)));
                }
            }
        }
    }
}
