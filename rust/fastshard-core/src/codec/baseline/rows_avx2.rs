//! Colour conversion in AVX2, sixteen pixels at a time. [`super::color`] is the plain code.
//!
//! # Idea
//!
//! A factor of the conversion has 17 bits, but AVX2 multiplies numbers of 16 bits. So each factor is split into a
//! multiple of 65,536, which is an addition of the value itself, and a rest that fits:
//!
//! | Factor | x 65,536 | Split |
//! |---|---|---|
//! | 1.402, Cr in red | 91,881 | 65,536 + 26,345 |
//! | 1.772, Cb in blue | 116,130 | 2 x 65,536 - 14,942 |
//! | -0.71414, Cr in green | -46,802 | -65,536 + 18,734 |
//! | -0.34414, Cb in green | -22,554 | fits |
//!
//! # Exactness
//!
//! Red and blue need (value x factor + 2^15) >> 16. `pmulhw` returns the upper 16 bits of a product without rounding.
//! Of twice the value it returns one more bit, and (that + 1) >> 1 is the rounded result: two divisions that round down
//! are one. Green adds two products before it rounds, so `pmaddwd` computes both in 32 bits. A test compares all pairs
//! of Cb and Cr with the plain code.
//!
//! # Output
//!
//! Sixteen pixels are three stores of 16 bytes, in which colours take turns. [`SPREAD`] has for each store and colour
//! the index of the pixel for every byte, or -1. Three byte shuffles and two ORs make one store. The pixels behind the
//! last sixteen go through the plain code.

#[allow(clippy::wildcard_imports, reason = "two dozen intrinsics")]
use std::arch::x86_64::*;

const STEP: usize = 16;

/// By store, by colour and by byte of the store: which of sixteen pixels the byte belongs to; -1 where it is another
/// colour's.
const SPREAD: [[[i8; STEP]; 3]; 3] = {
    let mut spread = [[[-1; STEP]; 3]; 3];
    let mut at = 0;
    while at < 3 * STEP {
        spread[at / STEP][at % 3][at % STEP] = (at / 3) as i8;
        at += 1;
    }
    spread
};

/// Converts pixels from Y, Cb and Cr to red, green and blue, equal to [`super::color::to_rgb`].
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn to_rgb([y, cb, cr]: [&[u8]; 3], out: &mut [[u8; 3]]) {
    let centre = _mm256_set1_epi16(128);
    let one = _mm256_set1_epi16(1);
    let load = |samples: &[u8; STEP]| _mm256_cvtepu8_epi16(bytemuck::cast(*samples));
    // (value * factor + 2^15) >> 16: the product of twice the value keeps the bit by which it is rounded.
    let scale = |value: __m256i, factor: i16| {
        let product = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), _mm256_set1_epi16(factor));
        _mm256_srai_epi16::<1>(_mm256_add_epi16(product, one))
    };
    let ys = y.as_chunks::<STEP>().0;
    let chroma = cb
        .as_chunks::<STEP>()
        .0
        .iter()
        .zip(cr.as_chunks::<STEP>().0);
    let pixels = out.as_chunks_mut::<STEP>().0;
    for ((y, (cb, cr)), out) in ys.iter().zip(chroma).zip(pixels) {
        let y = load(y);
        let cb = _mm256_sub_epi16(load(cb), centre);
        let cr = _mm256_sub_epi16(load(cr), centre);
        let red = _mm256_add_epi16(scale(cr, 26_345), cr);
        let blue = _mm256_add_epi16(scale(cb, -14_942), _mm256_add_epi16(cb, cb));
        let green = _mm256_sub_epi16(green(cb, cr), cr);
        let narrow = |colour: __m256i| {
            let sum = _mm256_add_epi16(y, colour);
            _mm_packus_epi16(
                _mm256_castsi256_si128(sum),
                _mm256_extracti128_si256::<1>(sum),
            )
        };
        let colours = [narrow(red), narrow(green), narrow(blue)];
        let mut stores = [[0; STEP]; 3];
        for (store, [red, green, blue]) in stores.iter_mut().zip(SPREAD) {
            let red = _mm_shuffle_epi8(colours[0], bytemuck::cast(red));
            let green = _mm_shuffle_epi8(colours[1], bytemuck::cast(green));
            let blue = _mm_shuffle_epi8(colours[2], bytemuck::cast(blue));
            *store = bytemuck::cast(_mm_or_si128(red, _mm_or_si128(green, blue)));
        }
        out.as_flattened_mut()
            .copy_from_slice(stores.as_flattened());
    }
    let done = out.len() / STEP * STEP;
    super::color::to_rgb([&y[done..], &cb[done..], &cr[done..]], &mut out[done..]);
}

/// (-22554 cb + 18734 cr + 2^15) >> 16: the caller subtracts `cr` once more.
#[target_feature(enable = "avx2")]
#[inline]
fn green(cb: __m256i, cr: __m256i) -> __m256i {
    let half = _mm256_set1_epi32(1 << 15);
    let factors = _mm256_set1_epi32(i32::from(-22_554i16 as u16) | 18_734 << 16);
    let sum = |pairs: __m256i| {
        let sum = _mm256_add_epi32(_mm256_madd_epi16(pairs, factors), half);
        _mm256_srai_epi32::<16>(sum)
    };
    _mm256_packs_epi32(
        sum(_mm256_unpacklo_epi16(cb, cr)),
        sum(_mm256_unpackhi_epi16(cb, cr)),
    )
}
