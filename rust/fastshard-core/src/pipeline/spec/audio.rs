//! Options of audio.

use serde::{Deserialize, Serialize};

use super::lists::ListSpec;
use crate::codec::AudioLimits;
use crate::sound::{LogMelSpec, ResampleSpec};

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the units")]
pub enum Span {
    Frames(u64),
    Seconds(f64),
}

impl Span {
    /// In frames, where that can be said.
    pub(in crate::pipeline) fn frames(self, sample_rate: Option<u32>) -> Option<u64> {
        match self {
            Self::Frames(frames) => Some(frames),
            Self::Seconds(seconds) => {
                sample_rate.map(|rate| (seconds * f64::from(rate)).round() as u64)
            }
        }
    }
}

/// Where a window lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// This far behind the start.
    Start(Span),
    /// In the middle.
    Center,
    /// Anywhere.
    Random,
}

/// Which part of a signal is wanted; what it lacks is silence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WindowSpec {
    pub length: Span,
    pub position: Position,
    /// Its place in the user's list, which keys the draw.
    pub place: usize,
}

/// What becomes of an audio field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioSpec {
    /// What is refused.
    pub limits: AudioLimits,
    /// Whether channels become their mean.
    pub mono: bool,
    /// To another rate.
    pub resample: Option<ResampleSpec>,
    /// A part, in frames of that rate.
    pub window: Option<WindowSpec>,
    /// As a spectrogram.
    pub log_mel: Option<LogMelSpec>,
    /// How waveforms of different lengths are put together.
    pub list: Option<ListSpec>,
}
