//! Pixels in memory: reusable, aligned buffers and the rectangles that lie in them.

use crate::memory::{self, Denied};

/// PIL's default limit, a quarter of a gibibyte of RGB.
pub const MAX_PIXELS: u64 = 89_478_485;

/// Bits a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// `uint8`
    Eight,
    /// `uint16`, native endian
    Sixteen,
}

impl Depth {
    /// Bytes a channel.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Sixteen => 2,
        }
    }
}

/// How a pixel is laid out: interleaved channels of one depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelFormat {
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// Bits a channel.
    pub depth: Depth,
}

impl PixelFormat {
    /// Bytes a pixel.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.channels * self.depth.bytes()
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Rect {
    /// From the origin.
    #[must_use]
    pub fn of_size(width: u32, height: u32) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// Pixels.
    #[must_use]
    pub fn area(self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// A growing buffer whose memory is aligned for any channel type and is kept from one image to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
}

impl Scratch {
    /// The first `length` bytes; what they hold is unspecified.
    pub fn bytes(&mut self, length: usize) -> Result<&mut [u8], Denied> {
        let words = length.div_ceil(8);
        if self.words.len() < words {
            memory::resize(&mut self.words, words, 0)?;
        }
        Ok(&mut bytemuck::cast_slice_mut(&mut self.words)[..length])
    }

    /// Bytes kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.words.capacity() * 8
    }

    /// Gives memory back when one unusual image made this grow far beyond what is needed otherwise.
    pub fn shrink(&mut self, keep: usize) {
        if self.capacity() > keep {
            self.words = Vec::new();
        }
    }
}
