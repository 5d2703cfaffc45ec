//! Decoded samples, and how a requested range is filled with them.

use std::ops::Range;

use super::vorbis::Decoders;
use crate::error::{Error, Result};
use crate::memory;

/// Room for more samples than this is freed when fewer are needed.
const KEEP_SAMPLES: usize = 4 << 20;

/// The decoded samples of a range of frames, one channel behind the other. Reused for other files.
#[derive(Debug, Default)]
pub struct Waves {
    samples: Vec<f32>,
    channels: usize,
    frames: usize,
    /// The Vorbis decoders of the thread that these samples belong to.
    pub(super) decoders: Decoders,
}

impl Waves {
    /// Makes room for samples, whose values are unspecified.
    pub(super) fn reset(&mut self, channels: usize, frames: usize) -> Result<()> {
        let count = channels.saturating_mul(frames);
        if self.samples.len() < count {
            // Fresh pages from the system cost nothing until they are written, also where a broken file ends early.
            self.samples = memory::zeros(count)?;
        } else if self.samples.len() > KEEP_SAMPLES && count < KEEP_SAMPLES {
            self.samples = memory::zeros(count)?;
        }
        (self.channels, self.frames) = (channels, frames);
        Ok(())
    }

    /// Number of channels; 1 for a mean.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of frames: samples a channel.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The samples of a channel, counted from 0. Full scale is -1 to 1, which some files exceed.
    #[must_use]
    pub fn channel(&self, at: usize) -> &[f32] {
        &self.samples[at * self.frames..(at + 1) * self.frames]
    }

    /// Copies decoded frames to their place, from frame `at` of the range on. With one channel, stores the mean of
    /// `planes`.
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

/// Collects the samples of a range from a codec that may start anywhere before it.
pub(super) struct Taker<'a> {
    pub(super) range: Range<u64>,
    /// The first frame that is still missing.
    pub(super) next: u64,
    /// Channels that the codec decodes.
    pub(super) channels: usize,
    pub(super) out: &'a mut Waves,
}

impl Taker<'_> {
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.range.end
    }

    /// Takes decoded frames, the first of which has the number `first`. Frames outside of the range are dropped.
    pub(super) fn take(&mut self, first: i64, planes: &[&[f32]]) -> Result<()> {
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

    /// Fails if the range isn't complete. `frames` is the number of frames in the file.
    pub(super) fn finish(&self, frames: u64) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        Err(Error::decode(format!(
            "truncated: ends at frame {} of {frames}",
            self.next
        )))
    }
}

/// The most channels of any file; `max_channels` can't raise this limit.
pub(super) const MAX_PLANES: usize = 64;
