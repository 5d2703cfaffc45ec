//! Fixed point numbers of a warp: coordinates in the source, and weights of a blend.

/// Bits of a coordinate's fraction. A step is off by at most 2^-33 pixels, and so a row of 2^16 pixels by at most
/// 2^-17.
pub(super) const BITS: u32 = 32;
pub(super) const ONE: i64 = 1 << BITS;
/// Bits of a bilinear weight along one axis.
pub(super) const WEIGHT_BITS: u32 = 11;
pub(super) const WEIGHT_ONE: u32 = 1 << WEIGHT_BITS;
/// The four weights of a pixel add up to this.
pub(super) const WHOLE: u32 = 1 << (2 * WEIGHT_BITS);
