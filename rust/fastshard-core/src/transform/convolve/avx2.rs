//! The kernel in AVX2.
//!
//! All sums come from `vpmaddwd`, which multiplies sixteen pairs of 16-bit numbers and adds neighbouring products. One
//! instruction so applies two taps to eight sums of 32 bits.
//!
//! # Layouts
//!
//! ```text
//! across_rgb             lower half: output n               upper half: output n + 4
//!   8 bytes loaded       r0 g0 b0 r1 g1 b1 .. ..            the same for its window
//!   widened to 16 bits   (r0 r1) (g0 g1) (b0 b1) (0 0)
//!   sums of 32 bits      red     green   blue    0
//!
//! across_gray_eights     8 taps of output 2n                8 taps of output 2n + 1
//! down                   32 columns: (upper lower) pairs of bytes of two rows, widened to 16 bits in four vectors
//! ```
//!
//! Four RGB sums pack into 16 bytes, which a shuffle compacts to 12 in each half. Gray sums are joined by horizontal
//! additions: the even outputs gather in the lower half, the odd ones in the upper half. In `down`, both unpacking and
//! packing work within the halves of a vector, so that one undoes the permutation of the other.
//!
//! # Why it equals `plain`
//!
//! The products and sums are the same integers in another order. The result is clamped by two saturating packs, to
//! `i16` and then to `u8`; as 0 to 255 is inside the range of `i16`, that is one clamp to 0 to 255. What fills no
//! vector (the last columns of `down`, fewer than eight RGB outputs) is computed by `plain` itself.
//!
//! # Cost
//!
//! RGB: two loads of eight bytes, one shuffle, one multiplication and one addition for two taps of two pixels. Bounds are
//! checked once a row, not once a load.

#[allow(clippy::wildcard_imports, reason = "three dozen intrinsics")]
use std::arch::x86_64::*;

use super::plain;
use super::weights::{FRACTION, HALF, SLACK, Weights};

/// Eight bytes of a row; the caller has checked that the row has them.
#[inline]
#[target_feature(enable = "avx2")]
fn load8(row: &[u8], at: usize) -> __m128i {
    debug_assert!(at + 8 <= row.len());
    // SAFETY: `across` checks once that all windows, and some slack, lie in the row.
    #[expect(
        unsafe_code,
        reason = "a bounds check a load costs a fifth of the speed"
    )]
    unsafe {
        _mm_loadl_epi64(row.as_ptr().add(at).cast())
    }
}

/// 32 bytes; the caller has checked that they are there.
#[inline]
#[target_feature(enable = "avx2")]
fn load32(bytes: &[u8], at: usize) -> __m256i {
    debug_assert!(at + 32 <= bytes.len());
    // SAFETY: `down` checks each row once.
    #[expect(
        unsafe_code,
        reason = "a bounds check a load costs a fifth of the speed"
    )]
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().add(at).cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[i32; 8]) -> __m256i {
    // SAFETY: 32 bytes, as the type says.
    #[expect(unsafe_code, reason = "the load takes a pointer")]
    unsafe {
        _mm256_loadu_si256(words.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store16(value: __m128i, out: &mut [u8]) {
    let out: &mut [u8; 16] = out.first_chunk_mut().expect("rows have slack");
    // SAFETY: sixteen bytes, as the type says.
    #[expect(unsafe_code, reason = "the store takes a pointer")]
    unsafe {
        _mm_storeu_si128(out.as_mut_ptr().cast(), value);
    }
}

/// Makes the outputs of one row; `out` has slack behind them.
#[target_feature(enable = "avx2")]
pub(super) fn across(weights: &Weights, channels: usize, source: &[u8], out: &mut [u8]) {
    assert!(
        weights.fits(source.len(), channels) && out.len() >= weights.outputs() * channels + SLACK
    );
    match (channels, weights.pairs()) {
        (1, 4) if weights.outputs() >= 8 => across_gray_eights(weights, source, out),
        (1, _) => across_gray(weights, source, out),
        (_, 1) => across_rgb::<1>(weights, source, out),
        (_, 2) => across_rgb::<2>(weights, source, out),
        (_, 3) => across_rgb::<3>(weights, source, out),
        _ => across_rgb::<0>(weights, source, out),
    }
}

/// Makes RGB outputs of `PAIRS` pairs of taps. With 0, the number is only known at run time.
#[target_feature(enable = "avx2")]
fn across_rgb<const PAIRS: usize>(weights: &Weights, source: &[u8], out: &mut [u8]) {
    let pairs = if PAIRS == 0 { weights.pairs() } else { PAIRS };
    // Red, green and blue of two neighbouring pixels, paired and widened to 16 bits.
    let widen = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
    ));
    // Four pixels of 32 bits to 24 bits.
    let compact = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    ));
    let half = _mm256_set1_epi32(HALF);
    for (group, lanes) in weights.groups() {
        let mut sums = [half; 4];
        for (n, (sum, lanes)) in sums.iter_mut().zip(lanes.chunks_exact(pairs)).enumerate() {
            let (low, high) = (
                3 * group.starts[n] as usize,
                3 * group.starts[n + 4] as usize,
            );
            for (k, weights) in lanes.iter().enumerate() {
                let pixels = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(load8(source, low + 6 * k)),
                    load8(source, high + 6 * k),
                );
                let pixels = _mm256_shuffle_epi8(pixels, widen);
                let products = _mm256_madd_epi16(pixels, load_words(weights));
                *sum = _mm256_add_epi32(*sum, products);
            }
            *sum = _mm256_srai_epi32::<FRACTION>(*sum);
        }
        let words = [
            _mm256_packs_epi32(sums[0], sums[1]),
            _mm256_packs_epi32(sums[2], sums[3]),
        ];
        let bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(words[0], words[1]), compact);
        // What a store writes beyond its twelve bytes is overwritten by the next, or slack.
        let out: &mut [u8; 28] = out[3 * group.first..]
            .first_chunk_mut()
            .expect("rows have slack");
        store16(_mm256_castsi256_si128(bytes), &mut out[..16]);
        store16(_mm256_extracti128_si256::<1>(bytes), &mut out[12..]);
    }
    if weights.outputs() < 8 {
        plain::across(weights, 3, source, out);
    }
}

/// Makes gray outputs of eight taps each, eight outputs at a time: two in each vector.
#[target_feature(enable = "avx2")]
fn across_gray_eights(weights: &Weights, source: &[u8], out: &mut [u8]) {
    let outputs = weights.outputs();
    let half = _mm256_set1_epi32(HALF);
    for at in (0..outputs).step_by(8) {
        // Where the number is no multiple of eight, the last eight overlap the ones before.
        let at = at.min(outputs - 8);
        let (starts, words) = weights.eight_of_four(at);
        let mut sums = [_mm256_setzero_si256(); 4];
        for (n, sum) in sums.iter_mut().enumerate() {
            let pixels = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(
                load8(source, starts[2 * n] as usize),
                load8(source, starts[2 * n + 1] as usize),
            ));
            *sum = _mm256_madd_epi16(pixels, load_words(&words[n]));
        }
        // Even outputs gather in the lower half, odd ones in the upper.
        let sum = _mm256_hadd_epi32(
            _mm256_hadd_epi32(sums[0], sums[1]),
            _mm256_hadd_epi32(sums[2], sums[3]),
        );
        let sum = _mm256_srai_epi32::<FRACTION>(_mm256_add_epi32(sum, half));
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(sum, sum), sum);
        let bytes = _mm_unpacklo_epi8(
            _mm256_castsi256_si128(bytes),
            _mm256_extracti128_si256::<1>(bytes),
        );
        out[at..at + 8].copy_from_slice(&_mm_cvtsi128_si64(bytes).to_le_bytes());
    }
}

/// Makes gray outputs of any multiple of eight taps, four outputs at a time.
#[target_feature(enable = "avx2")]
fn across_gray(weights: &Weights, source: &[u8], out: &mut [u8]) {
    let outputs = weights.outputs();
    let half = _mm_set1_epi32(HALF);
    let mut at = 0;
    while at < outputs {
        let mut sums = [_mm_setzero_si128(); 4];
        let count = (outputs - at).min(4);
        for (n, sum) in sums.iter_mut().enumerate().take(count) {
            let (start, values) = weights.of(at + n);
            for (k, values) in values.as_chunks::<4>().0.iter().enumerate() {
                let pixels = _mm_cvtepu8_epi16(load8(source, start + 8 * k));
                let [a, b, c, d] = *values;
                let weight = _mm_setr_epi32(a, b, c, d);
                *sum = _mm_add_epi32(*sum, _mm_madd_epi16(pixels, weight));
            }
        }
        let sum = _mm_hadd_epi32(
            _mm_hadd_epi32(sums[0], sums[1]),
            _mm_hadd_epi32(sums[2], sums[3]),
        );
        let sum = _mm_srai_epi32::<FRACTION>(_mm_add_epi32(sum, half));
        let bytes = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
        let four = _mm_cvtsi128_si32(bytes).to_le_bytes();
        out[at..at + count].copy_from_slice(&four[..count]);
        at += 4;
    }
}

/// Makes one row out of rows that are `pitch` bytes apart: two for each pair of weights.
#[target_feature(enable = "avx2")]
pub(super) fn down(weights: &[i32], rows: &[u8], pitch: usize, out: &mut [u8]) {
    assert!(rows.len() >= 2 * weights.len() * pitch && out.len() >= pitch);
    let mut at = 0;
    while at + 32 <= pitch {
        let mut sums = [_mm256_set1_epi32(HALF); 4];
        for (k, &weight) in weights.iter().enumerate() {
            let upper = load32(rows, 2 * k * pitch + at);
            let lower = load32(rows, (2 * k + 1) * pitch + at);
            let weight = _mm256_set1_epi32(weight);
            let zero = _mm256_setzero_si256();
            let low = _mm256_unpacklo_epi8(upper, lower);
            let high = _mm256_unpackhi_epi8(upper, lower);
            let pixels = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            for (sum, pixels) in sums.iter_mut().zip(pixels) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pixels, weight));
            }
        }
        let sums = sums.map(|sum| _mm256_srai_epi32::<FRACTION>(sum));
        // Unpacking and packing both work within halves, and so undo each other's permutation.
        let bytes = _mm256_packus_epi16(
            _mm256_packs_epi32(sums[0], sums[1]),
            _mm256_packs_epi32(sums[2], sums[3]),
        );
        store16(_mm256_castsi256_si128(bytes), &mut out[at..]);
        store16(_mm256_extracti128_si256::<1>(bytes), &mut out[at + 16..]);
        at += 32;
    }
    let rest = &rows[at.min(rows.len())..];
    plain::down(weights, rest, pitch, &mut out[at..pitch]);
}
