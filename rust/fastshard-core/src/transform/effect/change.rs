//! One change of an image's pixels.

use super::erase::Erase;

/// One change of an image's pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The luma in every channel.
    Grayscale,
    /// The luma as the only channel.
    Luma,
    /// Times a factor.
    Brightness(f64),
    /// Away from the mean luma (factors above 1) or towards it.
    Contrast(f64),
    /// Away from the luma (factors above 1) or towards it.
    Saturation(f64),
    /// The hue turned by a part of the circle.
    Hue(f64),
    /// Away from the blurred image (factors above 1) or towards it.
    Sharpness(f64),
    /// Only so many of the upper bits.
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
        /// Odd numbers of pixels.
        kernel: [u32; 2],
        /// In pixels.
        sigma: f64,
    },
    /// A rectangle painted over.
    Erase(Erase),
}
