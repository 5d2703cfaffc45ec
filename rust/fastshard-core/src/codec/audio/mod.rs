//! Audio codecs: bytes in, the samples of a range of frames out. A frame is one sample of each channel.
//!
//! | Format | Finds the start of a range | Decodes |
//! |---|---|---|
//! | MP3 | [`mpeg`] | [`layer3`] |
//! | Ogg Vorbis | [`ogg`] | symphonia |
//! | WAV, FLAC | [`container`], by symphonia's readers | symphonia |
//!
//! The samples of a range are equal, to the bit, to those of decoding the whole file and cutting the range out. Codecs
//! that carry state from one packet to the next start early enough for that.

mod container;
mod format;
mod layer3;
mod mpeg;
mod ogg;
mod vorbis;
mod waves;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use waves::{MAX_PLANES, Taker};

pub use format::{AudioFormat, AudioHeader};
pub use waves::Waves;

impl AudioFormat {
    /// Recognises a format by the first bytes of a file, behind `ID3v2` tags. `None` for any other format.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match mpeg::behind_id3(bytes) {
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'A',
                b'V',
                b'E',
                ..,
            ] => Some(Self::Wav),
            [b'f', b'L', b'a', b'C', ..] => Some(Self::Flac),
            [b'O', b'g', b'g', b'S', ..] => Some(Self::Ogg),
            _ if mpeg::begins(bytes) => Some(Self::Mp3),
            _ => None,
        }
    }
}

/// Limits that a file's header is checked against, before any sample is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioLimits {
    /// Largest number of samples, frames times channels, that a file or its window may take.
    pub max_samples: u64,
    /// Largest number of channels.
    pub max_channels: u16,
    /// Highest sampling rate in hertz.
    pub max_sample_rate: u32,
}

impl Default for AudioLimits {
    fn default() -> Self {
        Self {
            max_samples: 1 << 28,
            max_channels: 32,
            max_sample_rate: 384_000,
        }
    }
}

/// More frames than any codec here decodes from a byte: FLAC packs up to 65,535 silent ones into 14 bytes.
const MAX_FRAMES_A_BYTE: u64 = 8192;
/// Frames that are decoded at a time to check a file.
const CHECKED_FRAMES: u64 = 1 << 16;

enum Source<'a> {
    Mpeg(mpeg::Mpeg<'a>),
    Ogg(ogg::Ogg<'a>),
    Container(container::Container<'a>),
}

/// An encoded file whose header was read.
pub struct AudioFile<'a> {
    header: AudioHeader,
    source: Source<'a>,
}

impl std::fmt::Debug for AudioFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header.fmt(f)
    }
}

impl<'a> AudioFile<'a> {
    /// Reads a file's header and checks it against the limits. `frames` is the number of frames if it is known from an
    /// earlier count, since a header may lack it.
    pub fn open(bytes: &'a [u8], frames: Option<u64>, limits: &AudioLimits) -> Result<Self> {
        let format = recognise(bytes)?;
        let body = mpeg::behind_id3(bytes);
        let (header, source) = match format {
            AudioFormat::Mp3 => {
                let mpeg = mpeg::Mpeg::open(body)?;
                (mpeg.header(), Source::Mpeg(mpeg))
            }
            AudioFormat::Ogg => {
                let ogg = ogg::Ogg::open(body)?;
                (ogg.header(), Source::Ogg(ogg))
            }
            AudioFormat::Wav | AudioFormat::Flac => {
                let container = container::Container::open(body, format, frames)?;
                (container.header(), Source::Container(container))
            }
        };
        check(&header, bytes.len(), limits)?;
        Ok(Self { header, source })
    }

    /// The format, sampling rate, channels and frames of the file.
    #[must_use]
    pub fn header(&self) -> &AudioHeader {
        &self.header
    }

    /// Decodes a range of frames into `out`, to all channels or, with `mono`, to their mean. The range must lie within
    /// the file.
    pub fn read(&mut self, range: Range<u64>, mono: bool, out: &mut Waves) -> Result<()> {
        debug_assert!(range.start <= range.end && range.end <= self.header.frames);
        let channels = if mono {
            1
        } else {
            usize::from(self.header.channels)
        };
        out.reset(channels, (range.end - range.start) as usize)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut taker = Taker {
            next: range.start,
            channels: usize::from(self.header.channels),
            range,
            out,
        };
        match &mut self.source {
            Source::Mpeg(mpeg) => mpeg.read(mono, &mut taker)?,
            Source::Ogg(ogg) => ogg.read(&mut taker)?,
            Source::Container(container) => container.read(&mut taker)?,
        }
        taker.finish(self.header.frames)
    }

    /// Checks that a file is whole: with `decode` by decoding all frames, else by decoding the first and the last one.
    pub fn check(&mut self, decode: bool, out: &mut Waves) -> Result<()> {
        if let Source::Container(container) = &mut self.source {
            container.check()?;
        }
        let frames = self.header.frames;
        let mut start = 0;
        if !decode {
            self.read(0..1, true, out)?;
            start = frames - 1;
        }
        while start < frames {
            let end = frames.min(start + CHECKED_FRAMES);
            self.read(start..end, true, out)?;
            start = end;
        }
        Ok(())
    }
}

fn recognise(bytes: &[u8]) -> Result<AudioFormat> {
    if bytes.is_empty() {
        return Err(Error::decode("empty: 0 bytes"));
    }
    AudioFormat::of(bytes).ok_or_else(|| {
        let start = &bytes[..bytes.len().min(8)];
        Error::decode(format!(
            "not audio in a known format (wav, flac, ogg, mp3): starts with {start:02x?}"
        ))
    })
}

fn check(header: &AudioHeader, bytes: usize, limits: &AudioLimits) -> Result<()> {
    let AudioHeader {
        sample_rate,
        channels,
        frames,
        ..
    } = *header;
    let (most_channels, most_rate) = (
        limits.max_channels.min(MAX_PLANES as u16),
        limits.max_sample_rate,
    );
    if !(1..=most_channels).contains(&channels) {
        return Err(Error::decode(format!(
            "{channels} channels: expected at least 1 and at most {most_channels} (max_channels)"
        )));
    }
    if !(1..=most_rate).contains(&sample_rate) {
        return Err(Error::decode(format!(
            "{sample_rate} frames a second: expected at least 1 and at most {most_rate} (max_sample_rate)"
        )));
    }
    if frames == 0 {
        return Err(Error::decode("holds no frames"));
    }
    if frames > (bytes as u64).saturating_mul(MAX_FRAMES_A_BYTE) {
        return Err(Error::decode(format!(
            "declares {frames} frames, more than its {bytes} bytes can hold"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
