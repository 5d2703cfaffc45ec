//! What the manifest says of the files of a field: sizes of images, rates, channels and lengths of audio.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The smallest and largest sizes among the images of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ImageSizes {
    pub min_width: u32,
    pub max_width: u32,
    pub min_height: u32,
    pub max_height: u32,
}

impl ImageSizes {
    /// The range of one image.
    #[must_use]
    pub fn of(width: u32, height: u32) -> Self {
        Self {
            min_width: width,
            max_width: width,
            min_height: height,
            max_height: height,
        }
    }

    /// The range of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min_width: self.min_width.min(other.min_width),
            max_width: self.max_width.max(other.max_width),
            min_height: self.min_height.min(other.min_height),
            max_height: self.max_height.max(other.max_height),
        }
    }

    /// Width and height, if all images share them. No image is empty: of those that are said to be, nothing is known.
    #[must_use]
    pub fn uniform(self) -> Option<(u32, u32)> {
        let same = self.min_width == self.max_width && self.min_height == self.max_height;
        (same && self.min_width > 0 && self.min_height > 0)
            .then_some((self.min_width, self.min_height))
    }
}

/// The least and the most among the files of an audio field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AudioRanges {
    pub min_sample_rate: u32,
    pub max_sample_rate: u32,
    pub min_channels: u16,
    pub max_channels: u16,
    pub min_frames: u64,
    pub max_frames: u64,
}

impl AudioRanges {
    /// The ranges of one file.
    #[must_use]
    pub fn of(sample_rate: u32, channels: u16, frames: u64) -> Self {
        Self {
            min_sample_rate: sample_rate,
            max_sample_rate: sample_rate,
            min_channels: channels,
            max_channels: channels,
            min_frames: frames,
            max_frames: frames,
        }
    }

    /// The ranges of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min_sample_rate: self.min_sample_rate.min(other.min_sample_rate),
            max_sample_rate: self.max_sample_rate.max(other.max_sample_rate),
            min_channels: self.min_channels.min(other.min_channels),
            max_channels: self.max_channels.max(other.max_channels),
            min_frames: self.min_frames.min(other.min_frames),
            max_frames: self.max_frames.max(other.max_frames),
        }
    }

    /// The sample rate, if all files share it.
    #[must_use]
    pub fn sample_rate(self) -> Option<u32> {
        (self.min_sample_rate == self.max_sample_rate).then_some(self.min_sample_rate)
    }

    /// The number of channels, if all files share it.
    #[must_use]
    pub fn channels(self) -> Option<u16> {
        (self.min_channels == self.max_channels).then_some(self.min_channels)
    }

    /// The number of frames, if all files share it.
    #[must_use]
    pub fn frames(self) -> Option<u64> {
        (self.min_frames == self.max_frames).then_some(self.min_frames)
    }
}

/// What is known of the files of a dataset's fields, by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRanges {
    /// Range of sizes for each image field.
    pub image_sizes: BTreeMap<String, ImageSizes>,
    /// Ranges for each audio field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audio_ranges: BTreeMap<String, AudioRanges>,
}

fn merge<T: Copy>(
    into: &mut BTreeMap<String, T>,
    other: &BTreeMap<String, T>,
    union: fn(T, T) -> T,
) {
    for (field, ranges) in other {
        into.entry(field.clone())
            .and_modify(|known| *known = union(*known, *ranges))
            .or_insert(*ranges);
    }
}

impl FileRanges {
    /// Takes in what is known of other rows of the same fields.
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.image_sizes, &other.image_sizes, ImageSizes::union);
        merge(
            &mut self.audio_ranges,
            &other.audio_ranges,
            AudioRanges::union,
        );
    }
}
