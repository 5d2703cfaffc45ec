//! Effects: changes of 8-bit pixels in place, with all their parameters drawn.

use super::finish::luma;
use crate::pixels::Scratch;

/// One change of an image's pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The luma in every channel.
    Grayscale,
}

impl Effect {
    /// Changes `pixels`, rows of `width` pixels of 1 or 3 interleaved channels.
    pub fn run(&self, pixels: &mut [u8], width: usize, channels: usize, scratch: &mut Scratch) {
        let _ = (width, scratch);
        match self {
            Self::Grayscale => grayscale(pixels, channels),
        }
    }
}

fn grayscale(pixels: &mut [u8], channels: usize) {
    if channels == 3 {
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        for pixel in pixels {
            *pixel = [luma(pixel.map(f32::from)) as u8; 3];
        }
    }
}
