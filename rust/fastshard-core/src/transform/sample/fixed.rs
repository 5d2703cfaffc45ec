//! Fixed point: coordinates and weights.

/// Bits of a coordinate's fraction. Over the longest row the rounding of the step adds up to less than 2^-17 pixels.
pub(super) const BITS: u32 = 32;
pub(super) const ONE: i64 = 1 << BITS;
/// Bits of a bilinear weight along one axis.
pub(super) const WEIGHT_BITS: u32 = 11;
pub(super) const WEIGHT_ONE: u32 = 1 << WEIGHT_BITS;
/// The four weights of a pixel add up to this.
pub(super) const WHOLE: u32 = 1 << (2 * WEIGHT_BITS);
