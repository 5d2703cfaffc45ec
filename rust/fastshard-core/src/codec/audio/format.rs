//! The encodings of audio, and what their headers say.

use serde::{Deserialize, Serialize};

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

/// What a file declares, known before any sample is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioHeader {
    /// How the file is encoded.
    pub format: AudioFormat,
    /// Sampling rate in hertz.
    pub sample_rate: u32,
    /// Number of channels, at least 1.
    pub channels: u16,
    /// Number of frames (samples a channel), without the silence that encoders add at both ends.
    pub frames: u64,
}

impl AudioFormat {
    /// The name in manifests and messages: `wav`, `flac`, `ogg` or `mp3`.
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
