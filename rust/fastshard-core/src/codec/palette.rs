//! Segmentation masks as PNG with a palette: the pixels are numbers in the palette, which are the classes.
//!
//! Without its palette, such a file is a gray one with the same numbers. Decoders spread gray of fewer than 8 bits a
//! pixel from black to white; [`Gray::spread`] is the factor.

use super::format::Format;
use super::png_gray::{Chunks, SIGNATURE};
use super::request::Header;
use crate::error::{Error, Result};

const GRAY: u8 = 0;
const COLOUR: u8 = 3;

/// A gray file that stands for one with a palette.
#[derive(Debug)]
pub(crate) struct Gray {
    pub(crate) bytes: Vec<u8>,
    /// The factor by which the decoder multiplies the numbers.
    pub(crate) spread: u8,
}

/// Removes the palette of a file. `None` for a file that is gray already. Refuses files with other colours.
pub(crate) fn without_palette(bytes: &[u8], header: &Header) -> Result<Option<Gray>> {
    let palette = match header.format {
        Format::Png => rewritten(bytes),
        _ => None,
    };
    if palette.is_none() && header.channels != 1 {
        return Err(Error::decode(
            "colours without a palette; expected a PNG with one, or a gray image, where the numbers of classes are wanted",
        ));
    }
    Ok(palette)
}

fn rewritten(bytes: &[u8]) -> Option<Gray> {
    let mut chunks = Chunks(bytes.strip_prefix(SIGNATURE)?);
    let (b"IHDR", header) = chunks.next()? else {
        return None;
    };
    let (&depth, &colour) = (header.get(8)?, header.get(9)?);
    if colour != COLOUR || !matches!(depth, 1 | 2 | 4 | 8) {
        return None;
    }
    let mut gray = header.to_vec();
    gray[9] = GRAY;
    let mut out = SIGNATURE.to_vec();
    push(&mut out, *b"IHDR", &gray);
    for (kind, data) in
        chunks.filter(|(kind, _)| !matches!(*kind, b"PLTE" | b"tRNS" | b"bKGD" | b"hIST" | b"sBIT"))
    {
        push(&mut out, *kind, data);
    }
    let spread = 255 / ((1u16 << depth) - 1) as u8;
    Some(Gray { bytes: out, spread })
}

fn push(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&kind);
    out.extend_from_slice(data);
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_be_bytes());
}
