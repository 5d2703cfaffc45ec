//! Effects: changes of 8-bit pixels in place, with all their parameters drawn.
//!
//! Most effects map one value to one value. Consecutive ones are composed into a single table a channel before any
//! pixel is touched. Each of them rounds to 8 bits, so the composed table gives the same values as one effect after the
//! other. The other effects run on whole images, in loops that the compiler turns into vector instructions. The
//! arithmetic is torchvision's for `uint8` tensors, in single precision.
//!
//! However many table effects follow each other, they cost one pass over the pixels, and one more if any of them needs
//! a histogram. The contrast of colour images is the exception: it needs the mean luma of the pixels as they are by
//! then.

mod change;
mod color;
mod erase;
mod filter;
mod table;
mod wide;

pub use change::Effect;
pub(super) use color::luma;
pub(super) use erase::Painted;
pub use erase::{Erase, Paint};
pub(super) use wide::wide;

use crate::error::Result;
use crate::pixels::Scratch;
use table::Tables;

impl Effect {
    /// Runs `effects` on rows of `width` pixels of 1 or 3 interleaved channels. Returns the number of channels
    /// afterwards; if it has become smaller, the pixels are packed at the front.
    pub fn run(
        effects: &[Self],
        mut pixels: &mut [u8],
        width: usize,
        mut channels: usize,
        scratch: &mut Scratch,
    ) -> Result<usize> {
        let mut tables = Tables::new(channels);
        for effect in effects {
            if tables.take(effect, pixels) {
                continue;
            }
            tables.apply(pixels);
            effect.change(pixels, width, channels, scratch)?;
            if *effect == Self::Luma && channels == 3 {
                pixels = color::keep_first(pixels);
                channels = 1;
            }
            tables = Tables::new(channels);
        }
        tables.apply(pixels);
        Ok(channels)
    }

    fn change(
        &self,
        pixels: &mut [u8],
        width: usize,
        channels: usize,
        scratch: &mut Scratch,
    ) -> Result<()> {
        match self {
            Self::Grayscale | Self::Luma if channels == 3 => color::grayscale(pixels),
            Self::Saturation(factor) if channels == 3 => color::saturation(pixels, *factor),
            Self::Hue(turn) if channels == 3 => color::hue(pixels, *turn as f32),
            Self::Sharpness(factor) => {
                filter::sharpness(pixels, width, channels, *factor, scratch)?;
            }
            Self::Blur { kernel, sigma } => {
                filter::blur(pixels, width, channels, *kernel, *sigma, scratch)?;
            }
            Self::Erase(erase) => erase.run(pixels, width, channels),
            // Gray images have neither hue nor saturation, and the rest are tables.
            _ => {}
        }
        Ok(())
    }
}
