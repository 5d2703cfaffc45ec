//! Blending a row of RGB pixels in AVX2, one output pixel an iteration.
//!
//! ```text
//!                 lower half: the row above                upper half: the row below
//! 8 bytes         r0 g0 b0 r1 g1 b1 .. ..                  the same, `pitch` bytes later
//! 16 bits         (r0 r1) (g0 g1) (b0 b1) (0 0)
//! vpmaddwd        times (1 - x, x): blended across
//! vpmulld         times (1 - y)                            times y
//! ```
//!
//! The sum of both halves is the pixel. This is the sum of four products of the plain blend, with common factors taken
//! out. Nothing is rounded before the last shift, so it is the same integer. It is at most 255 * 2^22 + 2^21, which
//! fits in 31 bits.

#[allow(clippy::wildcard_imports, reason = "a dozen intrinsics")]
use std::arch::x86_64::*;

use super::fixed::{BITS, WEIGHT_BITS, WEIGHT_ONE, WHOLE};

/// Fills the first pixels of `out` and returns how many. It stops where a load of eight bytes would reach beyond the
/// last pixel of the image. Rows are `pitch` bytes apart.
#[target_feature(enable = "avx2")]
pub(super) fn blend_rgb(
    pixels: &[u8],
    pitch: usize,
    [mut u, mut v]: [i64; 2],
    [du, dv]: [i64; 2],
    out: &mut [u8],
) -> usize {
    // Red, green and blue of two neighbouring pixels, paired and widened to 16 bits.
    let widen = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
    ));
    let narrow = _mm_setr_epi8(0, 4, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    let half = _mm_set1_epi32((WHOLE / 2) as i32);
    let weight = |place: i64| (place >> (BITS - WEIGHT_BITS)) as i32 & (WEIGHT_ONE - 1) as i32;
    let load = |at: usize| {
        let bytes: Option<&[u8; 8]> = pixels.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|&bytes| i64::from_le_bytes(bytes))
    };
    for (done, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let at = (v >> BITS) as usize * pitch + 3 * (u >> BITS) as usize;
        let (Some(above), Some(below)) = (load(at), load(at + pitch)) else {
            return done;
        };
        let (x, y) = (weight(u), weight(v));
        let whole = WEIGHT_ONE as i32;
        let across = _mm256_set1_epi32((whole - x) | x << 16);
        let down = _mm256_set_m128i(_mm_set1_epi32(y), _mm_set1_epi32(whole - y));
        let pixels = _mm256_set_epi64x(0, below, 0, above);
        let sums = _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, widen), across);
        let sums = _mm256_mullo_epi32(sums, down);
        let sum = _mm_add_epi32(
            _mm256_castsi256_si128(sums),
            _mm256_extracti128_si256::<1>(sums),
        );
        let sum = _mm_srli_epi32::<{ 2 * WEIGHT_BITS as i32 }>(_mm_add_epi32(sum, half));
        let [red, green, blue, _] = _mm_cvtsi128_si32(_mm_shuffle_epi8(sum, narrow)).to_le_bytes();
        *out = [red, green, blue];
        (u, v) = (u + du, v + dv);
    }
    out.len() / 3
}
