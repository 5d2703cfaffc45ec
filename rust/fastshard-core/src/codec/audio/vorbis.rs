//! Vorbis decoders that a thread keeps for other files with the same headers.

use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::default::codecs::VorbisDecoder;

use crate::error::{Error, Result};

/// The most decoders that a thread keeps. A data set may mix a few numbers of channels and qualities.
const KEPT: usize = 4;
/// The most bytes of headers whose decoder is kept; usual headers have 4 KiB.
const MAX_KEPT_HEADER: usize = 1 << 14;

/// The decoders of a thread's latest files, the latest first.
#[derive(Default)]
pub(super) struct Decoders(Vec<VorbisDecoder>);

impl std::fmt::Debug for Decoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} decoders", self.0.len())
    }
}

impl Decoders {
    /// Takes a decoder with these headers out, and resets it. Makes a new one if there is none.
    pub(super) fn take(&mut self, parameters: &AudioCodecParameters) -> Result<VorbisDecoder> {
        let fits = |kept: &VorbisDecoder| kept.codec_params().extra_data == parameters.extra_data;
        if let Some(at) = self.0.iter().position(fits) {
            let mut decoder = self.0.remove(at);
            decoder.reset();
            return Ok(decoder);
        }
        let options = AudioDecoderOptions::default();
        VorbisDecoder::try_new(parameters, &options)
            .map_err(|error| Error::decode(format!("ogg: {error}")))
    }

    /// Keeps a decoder for the next file, in place of the one that was unused for longest.
    pub(super) fn keep(&mut self, decoder: VorbisDecoder) {
        let headers = decoder.codec_params().extra_data.as_ref();
        if headers.is_some_and(|headers| headers.len() <= MAX_KEPT_HEADER) {
            self.0.truncate(KEPT - 1);
            self.0.insert(0, decoder);
        }
    }
}
