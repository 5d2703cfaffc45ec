//! Audio in the making: files are stored as they came, with what their headers say beside them.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, StructArray, UInt16Array, UInt32Array, UInt64Array};

use super::byte_column::ByteColumn;
use crate::codec::AudioHeader;
use crate::error::Result;
use crate::format::{AudioRanges, file_children};

/// The audio of one field of a unit.
#[derive(Default)]
pub(super) struct AudioColumn {
    pub(super) bytes: ByteColumn,
    path: StringBuilder,
    sample_rate: Vec<u32>,
    channels: Vec<u16>,
    frames: Vec<u64>,
}

impl AudioColumn {
    /// Takes the file that was read last.
    pub(super) fn push(&mut self, path: &str, header: &AudioHeader) -> Result<()> {
        self.bytes.keep()?;
        self.path.append_value(path);
        self.sample_rate.push(header.sample_rate);
        self.channels.push(header.channels);
        self.frames.push(header.frames);
        Ok(())
    }

    pub(super) fn ranges(&self) -> Option<AudioRanges> {
        let heads = self.sample_rate.iter().zip(&self.channels);
        let each = heads
            .zip(&self.frames)
            .map(|((&rate, &channels), &frames)| AudioRanges::of(rate, channels, frames));
        each.reduce(AudioRanges::union)
    }

    /// The column itself, and those of fastshard's own.
    pub(super) fn arrays(mut self) -> (ArrayRef, [ArrayRef; 3]) {
        let parts: Vec<ArrayRef> =
            vec![Arc::new(self.bytes.finish()), Arc::new(self.path.finish())];
        let files = StructArray::new(file_children(), parts, None);
        let internal: [ArrayRef; 3] = [
            Arc::new(UInt32Array::from(self.sample_rate)),
            Arc::new(UInt16Array::from(self.channels)),
            Arc::new(UInt64Array::from(self.frames)),
        ];
        (Arc::new(files), internal)
    }
}
