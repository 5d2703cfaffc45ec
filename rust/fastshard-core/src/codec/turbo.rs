//! A safe type for libjpeg-turbo's C interface (`TurboJPEG`), which reports errors as return values and not by `longjmp`.
//!
//! Dropping a [`Turbo`] destroys its instance, so that neither an early return nor a panic leaks it.

use turbojpeg_sys as tj;

use crate::error::{Error, Result};
use crate::pixels::Rect;

/// The most scans of a progressive file. Files can repeat scans without end to waste time; real encoders need far
/// fewer.
const MAX_SCANS: i32 = 500;

/// No region: the whole image.
const NOWHERE: tj::tjregion = tj::tjregion {
    x: 0,
    y: 0,
    w: 0,
    h: 0,
};

/// An instance of libjpeg-turbo: a decoder, an encoder or a transcoder.
#[derive(Debug)]
pub(super) struct Turbo {
    handle: tj::tjhandle,
}

// SAFETY: a TurboJPEG instance has no ties to the thread that made it; it must only not be used by two at once, which
// `&mut self` sees to.
#[expect(unsafe_code, reason = "a C handle moves with its owner")]
unsafe impl Send for Turbo {}

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: the handle came from `tj3Init` and is not used afterwards.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Destroy(self.handle);
        }
    }
}

impl Turbo {
    fn new(kind: tj::TJINIT) -> Result<Self> {
        // SAFETY: no arguments to get wrong; null is checked for.
        #[expect(unsafe_code, reason = "C interface")]
        let handle = unsafe { tj::tj3Init(kind as i32) };
        if handle.is_null() {
            return Err(Error::decode(format!(
                "libjpeg-turbo: {}",
                last_error(handle)
            )));
        }
        Ok(Self { handle })
    }

    /// Makes an instance that decodes images of at most `max_pixels` pixels.
    pub(super) fn decompressor(max_pixels: u64) -> Result<Self> {
        let mut this = Self::new(tj::TJINIT_TJINIT_DECOMPRESS)?;
        this.limit(max_pixels)?;
        Ok(this)
    }

    /// Makes an instance that encodes.
    pub(super) fn compressor() -> Result<Self> {
        Self::new(tj::TJINIT_TJINIT_COMPRESS)
    }

    /// Makes an instance that re-codes images of at most `max_pixels` pixels.
    pub(super) fn transformer(max_pixels: u64) -> Result<Self> {
        let mut this = Self::new(tj::TJINIT_TJINIT_TRANSFORM)?;
        this.limit(max_pixels)?;
        Ok(this)
    }

    fn limit(&mut self, max_pixels: u64) -> Result<()> {
        let pixels = i32::try_from(max_pixels).unwrap_or(i32::MAX);
        self.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
        self.set(tj::TJPARAM_TJPARAM_MAXPIXELS, pixels)
    }

    pub(super) fn set(&mut self, parameter: tj::TJPARAM, value: i32) -> Result<()> {
        // SAFETY: the handle is live; parameters and values are checked by the library.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe { tj::tj3Set(self.handle, parameter as i32, value) };
        if code == 0 {
            Ok(())
        } else {
            Err(Error::decode(format!(
                "libjpeg-turbo: {}",
                self.last_error()
            )))
        }
    }

    pub(super) fn get(&self, parameter: tj::TJPARAM) -> i32 {
        // SAFETY: the handle is live.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Get(self.handle, parameter as i32)
        }
    }

    pub(super) fn last_error(&self) -> String {
        last_error(self.handle)
    }

    /// Turns the return code of a call into a result. With `forgive`, a warning passes: it leaves an image.
    pub(super) fn check(&self, forgive: bool, code: i32) -> Result<()> {
        // SAFETY: the handle is live.
        #[expect(unsafe_code, reason = "C interface")]
        let warning =
            || unsafe { tj::tj3GetErrorCode(self.handle) } == tj::TJERR_TJERR_WARNING as i32;
        if code == 0 || (forgive && warning()) {
            return Ok(());
        }
        Err(Error::decode(format!("JPEG: {}", self.last_error())))
    }

    /// Reads a header. Returns false at any error or warning.
    pub(super) fn read_header(&mut self, bytes: &[u8]) -> bool {
        // SAFETY: pointer and length are those of a live slice.
        #[expect(unsafe_code, reason = "C interface")]
        let code =
            unsafe { tj::tj3DecompressHeader(self.handle, bytes.as_ptr(), bytes.len() as u64) };
        code == 0
    }

    /// Restricts decoding to an area, in pixels of the reduced image. `None` lifts the restriction.
    pub(super) fn set_crop(&mut self, area: Option<Rect>) -> Result<()> {
        let region = area.map_or(NOWHERE, |area| tj::tjregion {
            x: area.x as i32,
            y: area.y as i32,
            w: area.width as i32,
            h: area.height as i32,
        });
        // SAFETY: the handle is live; the library checks the region.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe { tj::tj3SetCroppingRegion(self.handle, region) };
        self.check(false, code)
    }

    /// Sets the factor by which width and height are reduced while decoding.
    pub(super) fn set_scale(&mut self, reduce: u32) -> Result<()> {
        let factor = tj::tjscalingfactor {
            num: 1,
            denom: reduce as i32,
        };
        // SAFETY: the handle is live; the library checks the factor.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe { tj::tj3SetScalingFactor(self.handle, factor) };
        self.check(false, code)
    }

    /// Decodes the area that was set, or the whole image, to rows of `pitch` bytes. Returns the library's code.
    ///
    /// # Safety
    ///
    /// `out` must hold as many rows as the area that was set has, or else as the reduced image has.
    #[expect(unsafe_code, reason = "C interface")]
    pub(super) unsafe fn decompress(
        &mut self,
        bytes: &[u8],
        out: &mut [u8],
        kind: tj::TJPF,
        pitch: i32,
    ) -> i32 {
        // SAFETY: the input is a live slice; the caller answers for the output.
        unsafe {
            tj::tj3Decompress8(
                self.handle,
                bytes.as_ptr(),
                bytes.len() as u64,
                out.as_mut_ptr(),
                pitch,
                kind,
            )
        }
    }

    /// Encodes gray or RGB pixels with the parameters that were set before.
    pub(super) fn compress(
        &mut self,
        pixels: &[u8],
        (width, height): (u32, u32),
        channels: usize,
        subsampling: i32,
    ) -> Result<Vec<u8>> {
        assert_eq!(
            pixels.len(),
            width as usize * height as usize * channels,
            "pixels do not fill the image"
        );
        let kind = match channels {
            1 => tj::TJPF_TJPF_GRAY,
            _ => tj::TJPF_TJPF_RGB,
        };
        self.set(tj::TJPARAM_TJPARAM_SUBSAMP, subsampling)?;
        self.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        // SAFETY: plain numbers in, a size out.
        #[expect(unsafe_code, reason = "C interface")]
        let mut length = unsafe { tj::tj3JPEGBufSize(width as i32, height as i32, subsampling) };
        let mut encoded = vec![0; length as usize];
        let mut start = encoded.as_mut_ptr();
        // SAFETY: the source holds width x height pixels (asserted above); the destination has the size the library
        // asked for and, with NOREALLOC, is never replaced.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe {
            tj::tj3Compress8(
                self.handle,
                pixels.as_ptr(),
                width as i32,
                0,
                height as i32,
                kind,
                &raw mut start,
                &raw mut length,
            )
        };
        self.check(false, code)?;
        encoded.truncate(length as usize);
        Ok(encoded)
    }

    /// Re-codes a file without loss. `None` at any error or warning.
    pub(super) fn transform(&mut self, bytes: &[u8], drop_metadata: bool) -> Option<Vec<u8>> {
        let mut transform = tj::tjtransform {
            r: NOWHERE,
            op: tj::TJXOP_TJXOP_NONE as i32,
            options: if drop_metadata {
                tj::TJXOPT_COPYNONE as i32
            } else {
                0
            },
            data: std::ptr::null_mut(),
            customFilter: None,
        };
        let mut start = std::ptr::null_mut();
        let mut length = 0;
        // SAFETY: the input is a live slice; the output is allocated by the library, which sets pointer and length; one
        // transform, without a filter.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe {
            tj::tj3Transform(
                self.handle,
                bytes.as_ptr(),
                bytes.len() as u64,
                1,
                &raw mut start,
                &raw mut length,
                &raw mut transform,
            )
        };
        let output = Output { start, length };
        (code == 0).then(|| output.to_vec())
    }
}

fn last_error(handle: tj::tjhandle) -> String {
    // SAFETY: `tj3GetErrorStr` takes any instance or null and returns a terminated string that lives until the next
    // call on this thread; it is copied at once.
    #[expect(unsafe_code, reason = "C interface")]
    let text = unsafe { std::ffi::CStr::from_ptr(tj::tj3GetErrorStr(handle)) };
    text.to_string_lossy().replace('\n', " ")
}

/// A buffer that libjpeg-turbo allocated, and that is freed when this is dropped.
struct Output {
    start: *mut u8,
    length: u64,
}

impl Output {
    fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the library allocated at least this many bytes and wrote them.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe { std::slice::from_raw_parts(self.start, self.length as usize) }.to_vec()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: allocated by the library, or null, which it takes.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Free(self.start.cast());
        }
    }
}
