//! The 8x8 inverse transform in AVX2. [`super::idct`] explains the method and its factors.
//!
//! # Layout
//!
//! A block is eight registers of 128 bits, each a row of eight 16-bit numbers. A pass transforms eight columns at once,
//! and a transposition turns rows into columns before the second pass.
//!
//! Within a pass, two rows are interleaved into one register of 256 bits: eight columns, each with a pair of
//! coefficients. `pmaddwd` multiplies each pair by two factors and adds the two products into 32 bits. A full pass has
//! 8 of these. A pass with `LOW` has 6, because coefficients 4 to 7 are zero and only 1 and 3 are left of the odd ones.
//!
//! # Exactness
//!
//! Registers compute what [`super::idct::whole`] computes in 32 bits with explicit wrapping and saturation. Products
//! with quantisation steps wrap at 16 bits (`pmullw`), sums of two coefficients too (`paddw`), and results of a pass
//! saturate there (`packssdw`). Packing to 8 bits saturates at -128 and 127, and adding 128 to that is the plain code's
//! clamp to 0 and 255. A test compares both for coefficients of all sizes.

#[allow(clippy::wildcard_imports, reason = "two dozen intrinsics")]
use std::arch::x86_64::*;

use super::idct::{CONST_BITS, EVEN, HONEST, ODD, SHIFTS};
use super::zigzag::Block;

/// Rows of eight 16-bit values.
type Rows = [__m128i; 8];

/// Transforms a block to 8x8 samples, whose rows start `pitch` bytes apart. `None` where a coefficient of the first row
/// is beyond [`HONEST`]. `LOW`: only coefficients in the first four rows and columns may differ from zero.
///
/// Loops instead of closures keep all of the code in a function that is compiled for AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn whole<const LOW: bool>(
    block: &Block,
    multipliers: &Block,
    out: &mut [u8],
    pitch: usize,
) -> Option<()> {
    let mut rows = [_mm_setzero_si128(); 8];
    let blocks = block.as_chunks().0.iter().zip(multipliers.as_chunks().0);
    for (row, (coefficients, by)) in rows.iter_mut().zip(blocks) {
        let [coefficients, by]: [[i16; 8]; 2] = [*coefficients, *by];
        *row = _mm_mullo_epi16(bytemuck::cast(coefficients), bytemuck::cast(by));
    }
    // Compared as unsigned numbers, because the absolute value of -32768 doesn't fit into a signed one.
    let beyond = _mm_subs_epu16(_mm_abs_epi16(rows[0]), _mm_set1_epi16(HONEST as i16));
    if _mm_testz_si128(beyond, beyond) == 0 {
        return None;
    }
    let columns = transpose(pass::<{ SHIFTS[0] as i32 }, LOW>(rows));
    let rows = transpose(pass::<{ SHIFTS[1] as i32 }, LOW>(columns));
    let centre = _mm_set1_epi8(-128);
    for (pair, out) in rows
        .as_chunks::<2>()
        .0
        .iter()
        .zip(out.chunks_mut(2 * pitch))
    {
        let samples = _mm_add_epi8(_mm_packs_epi16(pair[0], pair[1]), centre);
        let [above, below]: [[u8; 8]; 2] = bytemuck::cast(samples);
        out[..8].copy_from_slice(&above);
        out[pitch..pitch + 8].copy_from_slice(&below);
    }
    Some(())
}

/// Transforms eight columns, and shifts `SHIFT` bits off the results with rounding.
#[target_feature(enable = "avx2")]
#[inline]
fn pass<const SHIFT: i32, const LOW: bool>([c0, c1, c2, c3, c4, c5, c6, c7]: Rows) -> Rows {
    let c26 = interleave(c2, c6);
    let (outer, inner) = (multiply(c26, EVEN[0]), multiply(c26, EVEN[1]));
    let sum = scale::<SHIFT>(_mm_add_epi16(c0, c4));
    let difference = if LOW {
        sum
    } else {
        scale::<SHIFT>(_mm_sub_epi16(c0, c4))
    };
    let odd = if LOW {
        let c13 = interleave(c1, c3);
        [
            multiply(c13, ODD.low[0]),
            multiply(c13, ODD.low[1]),
            multiply(c13, ODD.low[2]),
            multiply(c13, ODD.low[3]),
        ]
    } else {
        let sums = interleave(_mm_add_epi16(c3, c7), _mm_add_epi16(c1, c5));
        let (c71, c53) = (interleave(c7, c1), interleave(c5, c3));
        let (first, second) = (multiply(sums, ODD.sums[0]), multiply(sums, ODD.sums[1]));
        [
            _mm256_add_epi32(multiply(c71, ODD.ends[0]), first),
            _mm256_add_epi32(multiply(c53, ODD.middle[0]), second),
            _mm256_add_epi32(multiply(c53, ODD.middle[1]), first),
            _mm256_add_epi32(multiply(c71, ODD.ends[1]), second),
        ]
    };
    let (first, last) = mirrored::<SHIFT>(_mm256_add_epi32(sum, outer), odd[0]);
    let (second, seventh) = mirrored::<SHIFT>(_mm256_add_epi32(difference, inner), odd[1]);
    let (third, sixth) = mirrored::<SHIFT>(_mm256_sub_epi32(difference, inner), odd[2]);
    let (fourth, fifth) = mirrored::<SHIFT>(_mm256_sub_epi32(sum, outer), odd[3]);
    [first, second, third, fourth, fifth, sixth, seventh, last]
}

/// Widens a row to 32 bits, gives it the fraction bits of the factors, and adds half a unit for the shift to round.
#[target_feature(enable = "avx2")]
#[inline]
fn scale<const SHIFT: i32>(row: __m128i) -> __m256i {
    let row = _mm256_slli_epi32::<{ CONST_BITS as i32 }>(_mm256_cvtepi16_epi32(row));
    _mm256_add_epi32(row, _mm256_set1_epi32(1 << (SHIFT - 1)))
}

/// Returns a row of the upper half and its mirror image in the lower one: even part plus odd part, and minus it.
#[target_feature(enable = "avx2")]
#[inline]
fn mirrored<const SHIFT: i32>(even: __m256i, odd: __m256i) -> (__m128i, __m128i) {
    let above = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(even, odd));
    let below = _mm256_srai_epi32::<SHIFT>(_mm256_sub_epi32(even, odd));
    let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(above, below));
    (
        _mm256_castsi256_si128(both),
        _mm256_extracti128_si256::<1>(both),
    )
}

/// Makes pairs of the numbers of two rows, column by column.
#[target_feature(enable = "avx2")]
#[inline]
fn interleave(a: __m128i, b: __m128i) -> __m256i {
    _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b))
}

/// Multiplies both numbers of each pair by a factor of their own, and adds the two products.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply(pairs: __m256i, [a, b]: [i16; 2]) -> __m256i {
    _mm256_madd_epi16(
        pairs,
        _mm256_set1_epi32(i32::from(a as u16) | i32::from(b) << 16),
    )
}

/// Swaps rows and columns: interleaves numbers of 16 bits, then pairs of them, then fours.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose([a, b, c, d, e, f, g, h]: Rows) -> Rows {
    let [a, b, c, d] = [
        _mm_unpacklo_epi16(a, b),
        _mm_unpacklo_epi16(c, d),
        _mm_unpackhi_epi16(a, b),
        _mm_unpackhi_epi16(c, d),
    ];
    let [e, f, g, h] = [
        _mm_unpacklo_epi16(e, f),
        _mm_unpacklo_epi16(g, h),
        _mm_unpackhi_epi16(e, f),
        _mm_unpackhi_epi16(g, h),
    ];
    let above = [
        _mm_unpacklo_epi32(a, b),
        _mm_unpackhi_epi32(a, b),
        _mm_unpacklo_epi32(c, d),
        _mm_unpackhi_epi32(c, d),
    ];
    let below = [
        _mm_unpacklo_epi32(e, f),
        _mm_unpackhi_epi32(e, f),
        _mm_unpacklo_epi32(g, h),
        _mm_unpackhi_epi32(g, h),
    ];
    [
        _mm_unpacklo_epi64(above[0], below[0]),
        _mm_unpackhi_epi64(above[0], below[0]),
        _mm_unpacklo_epi64(above[1], below[1]),
        _mm_unpackhi_epi64(above[1], below[1]),
        _mm_unpacklo_epi64(above[2], below[2]),
        _mm_unpackhi_epi64(above[2], below[2]),
        _mm_unpacklo_epi64(above[3], below[3]),
        _mm_unpackhi_epi64(above[3], below[3]),
    ]
}
