//! The list of effects that an image can go through.

use super::erase::Erase;

/// One change of an image's pixels, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The luma in every channel.
    Grayscale,
    /// The luma as the only channel.
    Luma,
    /// Multiplies every value by a factor.
    Brightness(f64),
    /// Away from the mean luma (factors above 1) or towards it.
    Contrast(f64),
    /// Away from the luma (factors above 1) or towards it.
    Saturation(f64),
    /// Turns the hue by a part of the circle, -0.5 to 0.5.
    Hue(f64),
    /// Away from the blurred image (factors above 1) or towards it.
    Sharpness(f64),
    /// Keeps only so many of the upper bits, 0 to 8.
    Posterize(u32),
    /// Values from the threshold on are inverted.
    Solarize(f64),
    /// Each channel stretched to the whole range.
    Autocontrast,
    /// Each channel's histogram flattened.
    Equalize,
    /// The negative.
    Invert,
    /// A Gaussian filter of this (width, height) and standard deviation.
    Blur {
        /// Width and height of the kernel, odd numbers of pixels.
        kernel: [u32; 2],
        /// Standard deviation, in pixels.
        sigma: f64,
    },
    /// A rectangle painted over.
    Erase(Erase),
}
