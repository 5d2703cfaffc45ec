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

impl AudioFormat {
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
