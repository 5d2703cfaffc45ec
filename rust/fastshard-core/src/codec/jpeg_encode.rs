//! JPEG encoding, for packs that change their images.

use turbojpeg_sys as tj;

use super::turbo::Turbo;
use crate::error::{Error, Result};

pub(super) fn encode(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: usize,
    quality: u8,
) -> Result<Vec<u8>> {
    let subsampling = match channels {
        1 => tj::TJSAMP_TJSAMP_GRAY,
        _ => tj::TJSAMP_TJSAMP_420,
    };
    encode_sampled(pixels, (width, height), channels, quality, subsampling)
}

/// Encodes with any sampling of chroma that libjpeg-turbo has (`TJSAMP`).
pub(super) fn encode_sampled(
    pixels: &[u8],
    (width, height): (u32, u32),
    channels: usize,
    quality: u8,
    subsampling: i32,
) -> Result<Vec<u8>> {
    if width > 65_500 || height > 65_500 {
        return Err(Error::decode(format!(
            "{width} x {height} pixels: JPEG holds at most 65500 each way"
        )));
    }
    let mut turbo = Turbo::compressor()?;
    turbo.set(tj::TJPARAM_TJPARAM_QUALITY, quality.into())?;
    turbo.compress(pixels, (width, height), channels, subsampling)
}
