//! Audio codecs: bytes in, the samples of a range of frames out.
//!
//! MP3 is decoded by [`layer3`], from frames that [`mpeg`] finds, since the file in memory tells their places at once and a
//! window can start at any of them. symphonia decodes the others: of Ogg Vorbis it gets packets that [`ogg`] finds; WAV and
//! FLAC go through its readers and their seeking. Whatever range is asked for, its samples are those of decoding everything and
//! cutting, to the bit: codecs that carry state from one packet to the next start early enough.

mod container;
mod layer3;
mod mpeg;
mod ogg;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::memory;

/// The encodings that can be stored and decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the formats")]
pub enum AudioFormat {
    Wav,
    Flac,
    Ogg,
    Mp3,
}

impl AudioFormat {
    /// Recognises a format by its first bytes.
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

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Ogg => "ogg",
            Self::Mp3 => "mp3",
        }
    }
}

/// What a file says of itself before anything is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioHeader {
    /// The encoding.
    pub format: AudioFormat,
    /// Frames a second.
    pub sample_rate: u32,
    /// Samples a frame.
    pub channels: u16,
    /// Frames, without what encoders add at both ends.
    pub frames: u64,
}

/// What is refused from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioLimits {
    /// Samples, frames times channels, that are decoded at once.
    pub max_samples: u64,
    /// Channels.
    pub max_channels: u16,
    /// Frames a second.
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

/// No codec here makes more of a byte: a FLAC frame of silence has 65,535 frames in 14 bytes.
const MAX_FRAMES_A_BYTE: u64 = 8192;
/// What is decoded at a time to see whether it can be.
const CHECKED_FRAMES: u64 = 1 << 16;
/// Scratch beyond this is given back.
const KEEP_SAMPLES: usize = 4 << 20;

/// Samples of a range of frames, channel after channel.
#[derive(Debug, Default)]
pub struct Waves {
    samples: Vec<f32>,
    channels: usize,
    frames: usize,
    /// Not of the samples, but of the thread that they belong to.
    decoders: ogg::Decoders,
}

impl Waves {
    /// Makes room; what the samples are is unspecified.
    fn reset(&mut self, channels: usize, frames: usize) -> Result<()> {
        let count = channels.saturating_mul(frames);
        if self.samples.len() < count {
            // Fresh pages of the system's, which cost nothing where a broken file ends early.
            self.samples = memory::zeros(count)?;
        } else if self.samples.len() > KEEP_SAMPLES && count < KEEP_SAMPLES {
            self.samples = memory::zeros(count)?;
        }
        (self.channels, self.frames) = (channels, frames);
        Ok(())
    }

    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The samples of a channel.
    #[must_use]
    pub fn channel(&self, at: usize) -> &[f32] {
        &self.samples[at * self.frames..(at + 1) * self.frames]
    }

    /// Puts decoded frames in their place; to one channel as their mean.
    fn put(&mut self, at: usize, planes: &[&[f32]]) {
        let (frames, count) = (self.frames, planes[0].len());
        let mixes = self.channels == 1 && planes.len() > 1;
        for (channel, plane) in planes.iter().enumerate() {
            let start = if mixes { 0 } else { channel * frames };
            let out = &mut self.samples[start + at..][..count];
            if mixes && channel > 0 {
                out.iter_mut()
                    .zip(*plane)
                    .for_each(|(out, sample)| *out += sample);
            } else {
                out.copy_from_slice(plane);
            }
        }
        if mixes {
            let scale = 1.0 / planes.len() as f32;
            self.samples[at..at + count]
                .iter_mut()
                .for_each(|sample| *sample *= scale);
        }
    }
}

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
    /// Reads a file's header and holds it against the limits. `frames` is their number, where a header may lack it and
    /// somebody has counted before.
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

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &AudioHeader {
        &self.header
    }

    /// Decodes a range of frames, to all channels or to their mean.
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

    /// Checks that a file is whole: by its first and its last frame, or by all of them.
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

/// Takes what a codec gives, from anywhere before a range to its end.
struct Taker<'a> {
    range: Range<u64>,
    /// The first frame that is missing.
    next: u64,
    channels: usize,
    out: &'a mut Waves,
}

impl Taker<'_> {
    fn is_done(&self) -> bool {
        self.next >= self.range.end
    }

    /// Takes decoded frames, the first of which has this number.
    fn take(&mut self, first: i64, planes: &[&[f32]]) -> Result<()> {
        if planes.len() != self.channels {
            return Err(Error::decode(format!(
                "goes on with {} channels, expected {}",
                planes.len(),
                self.channels
            )));
        }
        let count = planes.first().map_or(0, |plane| plane.len()) as i64;
        let (next, end) = (self.next as i64, self.range.end as i64);
        if first.saturating_add(count) <= next {
            return Ok(());
        }
        if first > next {
            return Err(Error::decode(format!(
                "frames {next} to {first} are missing"
            )));
        }
        let from = (next - first) as usize;
        let to = (end - first).min(count) as usize;
        let mut parts = [&[][..]; MAX_PLANES];
        for (part, plane) in parts.iter_mut().zip(planes) {
            *part = &plane[from..to];
            if !part.iter().all(|sample| sample.is_finite()) {
                return Err(Error::decode("holds samples that are no numbers"));
            }
        }
        let at = (self.next - self.range.start) as usize;
        self.out.put(at, &parts[..planes.len()]);
        self.next += (to - from) as u64;
        Ok(())
    }

    fn finish(&self, frames: u64) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        Err(Error::decode(format!(
            "truncated: ends at frame {} of {frames}",
            self.next
        )))
    }
}

/// What channels are counted up to: as many as a WAV file can tell apart, and more than `max_channels` can be.
const MAX_PLANES: usize = 64;

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
