//! JPEG encoding, for packs that change their images.

use turbojpeg_sys as tj;

use super::jpeg::{last_error, new_handle, set};
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

/// Encodes with another of the library's ways to sample chroma.
pub(super) fn encode_sampled(
    pixels: &[u8],
    (width, height): (u32, u32),
    channels: usize,
    quality: u8,
    subsampling: i32,
) -> Result<Vec<u8>> {
    assert_eq!(
        pixels.len(),
        width as usize * height as usize * channels,
        "pixels do not fill the image"
    );
    let handle = new_handle(tj::TJINIT_TJINIT_COMPRESS)?;
    let encoded = encode_with(
        handle,
        pixels,
        (width, height),
        channels,
        quality,
        subsampling,
    );
    // SAFETY: the handle came from `tj3Init` and is not used afterwards.
    #[expect(unsafe_code, reason = "C interface")]
    unsafe {
        tj::tj3Destroy(handle);
    }
    encoded
}

fn encode_with(
    handle: tj::tjhandle,
    pixels: &[u8],
    (width, height): (u32, u32),
    channels: usize,
    quality: u8,
    subsampling: i32,
) -> Result<Vec<u8>> {
    let kind = match channels {
        1 => tj::TJPF_TJPF_GRAY,
        _ => tj::TJPF_TJPF_RGB,
    };
    if width > 65_500 || height > 65_500 {
        return Err(Error::decode(format!(
            "{width} x {height} pixels: JPEG holds at most 65500 each way"
        )));
    }
    set(handle, tj::TJPARAM_TJPARAM_QUALITY, quality.into())?;
    set(handle, tj::TJPARAM_TJPARAM_SUBSAMP, subsampling)?;
    set(handle, tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
    // SAFETY: plain numbers in, a size out.
    #[expect(unsafe_code, reason = "C interface")]
    let mut length = unsafe { tj::tj3JPEGBufSize(width as i32, height as i32, subsampling) };
    let mut encoded = vec![0; length as usize];
    let mut start = encoded.as_mut_ptr();
    // SAFETY: the source holds width x height pixels (asserted above); the destination has the size the library asked
    // for and, with NOREALLOC, is never replaced.
    #[expect(unsafe_code, reason = "C interface")]
    let code = unsafe {
        tj::tj3Compress8(
            handle,
            pixels.as_ptr(),
            width as i32,
            0,
            height as i32,
            kind,
            &raw mut start,
            &raw mut length,
        )
    };
    if code != 0 {
        return Err(Error::decode(format!("JPEG: {}", last_error(handle))));
    }
    encoded.truncate(length as usize);
    Ok(encoded)
}
