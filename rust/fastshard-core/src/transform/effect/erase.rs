//! Rectangles painted over: in the 8-bit image, or in the finished sample.

use crate::pixels::Rect;
use crate::random::Draws;

/// A rectangle and what it is painted with.
#[derive(Clone, Debug, PartialEq)]
pub struct Erase {
    /// The rectangle, inside of the image.
    pub area: Rect,
    /// What the rectangle is painted with.
    pub paint: Paint,
}

/// A colour, or noise.
#[derive(Clone, Debug, PartialEq)]
pub enum Paint {
    /// One value for all channels, or one each.
    Values(Vec<f32>),
    /// A random value for each pixel and channel, from these draws.
    Noise(Draws),
}

/// An element that can be painted.
pub(in crate::transform) trait Painted {
    /// Converts a value of the options to this type.
    fn of(value: f32) -> Self;
    /// Noise: standard normal for floats, uniform over their range for integers.
    fn noise(draws: &mut Draws) -> Self;
}

macro_rules! painted {
    ($kind:ty, $value:ident => $of:expr, $draws:ident => $noise:expr) => {
        impl Painted for $kind {
            fn of($value: f32) -> Self {
                $of
            }

            fn noise($draws: &mut Draws) -> Self {
                $noise
            }
        }
    };
}

painted!(u8, value => value as Self, draws => draws.below(1 << 8) as Self);
painted!(u16, value => value as Self, draws => draws.below(1 << 16) as Self);
painted!(f32, value => value, draws => draws.normal());
painted!(half::bf16, value => Self::from_f32(value), draws => Self::from_f32(draws.normal()));
painted!(half::f16, value => Self::from_f32(value), draws => Self::from_f32(draws.normal()));

impl Erase {
    pub(super) fn run(&self, pixels: &mut [u8], width: usize, channels: usize) {
        self.paint(pixels, channels, |x, y, channel| {
            (y * width + x) * channels + channel
        });
    }

    /// Paints elements of `out`; `index` gives their places from x, y and channel.
    pub(in crate::transform) fn paint<T: Copy + Painted>(
        &self,
        out: &mut [T],
        channels: usize,
        index: impl Fn(usize, usize, usize) -> usize,
    ) {
        match &self.paint {
            Paint::Values(values) => {
                let values: Vec<_> = values.iter().map(|&value| T::of(value)).collect();
                self.fill(out, channels, index, |channel| {
                    values[channel % values.len()]
                });
            }
            Paint::Noise(draws) => {
                let mut draws = draws.clone();
                self.fill(out, channels, index, |_| T::noise(&mut draws));
            }
        }
    }

    fn fill<T>(
        &self,
        out: &mut [T],
        channels: usize,
        index: impl Fn(usize, usize, usize) -> usize,
        mut value: impl FnMut(usize) -> T,
    ) {
        let (x, y) = (self.area.x as usize, self.area.y as usize);
        for y in y..y + self.area.height as usize {
            for x in x..x + self.area.width as usize {
                for channel in 0..channels {
                    out[index(x, y, channel)] = value(channel);
                }
            }
        }
    }
}
