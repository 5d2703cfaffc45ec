//! Inverse cosine transforms of 8x8 coefficients to 8x8, 4x4, 2x2 or 1x1 samples, in integers.
//!
//! # Idea
//!
//! A transform in two dimensions is one in one dimension of all columns, then of all rows. Factors have 13 fraction
//! bits. The first pass keeps 2 fraction bits of its results, and the second removes them, together with the factor of
//! 8 of two passes.
//!
//! | Output | Method | Equal to |
//! |---|---|---|
//! | 8x8 | Loeffler, Ligtenberg and Moschytz (1989) | `jidctint.c` of libjpeg, called islow |
//! | 4x4, 2x2 | averages of two, or of four, adjacent outputs of that | `jidctred.c` of libjpeg |
//! | 1x1 | an eighth of the first coefficient | `jpeg_idct_1x1` of libjpeg |
//!
//! # Products in pairs
//!
//! Loeffler, Ligtenberg and Moschytz save multiplications by sharing products between outputs. This file multiplies out
//! instead: an output is a sum of pairs, each two coefficients times two factors. One instruction, `pmaddwd`, computes
//! eight such pairs out of 16-bit numbers in a vector register. [`EVEN`] and [`ODD`] hold the factors: sums of
//! libjpeg's integer constants, all within 16 bits.
//!
//! # Exactness
//!
//! Multiplying out integers doesn't change a sum, so that results are equal to the last bit. That holds as long as no
//! sum overflows. [`whole`] therefore wraps and saturates where 16-bit registers do. Products of coefficients and
//! quantisation steps wrap, sums of two coefficients wrap, and results of a pass saturate.
//!
//! libjpeg-turbo takes short cuts which overflow elsewhere, but only for coefficients that no encoder makes of pixels.
//! [`HONEST`] is a bound below which all ways agree. Blocks beyond it are refused, and libjpeg-turbo decodes the image.
//!
//! # Cost
//!
//! A pass of the 8x8 transform has 8 multiplications of 8 pairs. It has 6 where only the first four rows and columns
//! hold coefficients (see [`LOW`]). `idct_avx2` has that code. Processors without AVX2 decode at an eighth only, where
//! blocks become 1x1 samples, or 2x2 of chroma. So [`whole`] runs in tests only, as the model of the vector code.

use super::zigzag::Block;

/// Fraction bits of a factor.
pub(super) const CONST_BITS: u32 = 13;
/// Fraction bits of what the first pass returns.
const PASS_BITS: u32 = 2;

const fn fix(value: f64) -> i32 {
    (value * (1 << CONST_BITS) as f64 + 0.5) as i32
}

/// Factors of coefficients 2 and 6: in the even part of the outer outputs (0, 3, 4, 7), and of the inner ones (1, 2, 5,
/// 6).
pub(super) const EVEN: [[i16; 2]; 2] = {
    let (all, second, sixth) = (fix(0.541_196_100), fix(0.765_366_865), fix(1.847_759_065));
    [
        [(all + second) as i16, all as i16],
        [all as i16, (all - sixth) as i16],
    ]
};

/// Factors of the odd coefficients in the odd part of the outputs 0 to 3. The outputs 7 to 4 subtract the same.
pub(super) struct Odd {
    /// Of the sums 3 + 7 and 1 + 5: in outputs 0 and 2, and in outputs 1 and 3.
    pub(super) sums: [[i16; 2]; 2],
    /// Of coefficients 7 and 1: in output 0, and in output 3.
    pub(super) ends: [[i16; 2]; 2],
    /// Of coefficients 5 and 3: in output 1, and in output 2.
    pub(super) middle: [[i16; 2]; 2],
    /// Of coefficients 1 and 3 in outputs 0 to 3, where 5 and 7 are zero.
    pub(super) low: [[i16; 2]; 4],
}

pub(super) const ODD: Odd = {
    let all = fix(1.175_875_602);
    let (threes, ones) = (all - fix(1.961_570_560), all - fix(0.390_180_644));
    let (ends, middle) = (fix(0.899_976_223), fix(2.562_915_447));
    let (seventh, fifth) = (fix(0.298_631_336) - ends, fix(2.053_119_869) - middle);
    let (third, first) = (fix(3.072_711_026) - middle, fix(1.501_321_110) - ends);
    Odd {
        sums: [[all as i16, ones as i16], [threes as i16, all as i16]],
        ends: [[-ends as i16, first as i16], [seventh as i16, -ends as i16]],
        middle: [
            [-middle as i16, third as i16],
            [fifth as i16, -middle as i16],
        ],
        low: [
            [(first + ones) as i16, all as i16],
            [all as i16, (third + threes) as i16],
            [ones as i16, (all - middle) as i16],
            [(all - ends) as i16, threes as i16],
        ],
    }
};

/// Bits that the first and the second pass of the full transform shift off, with rounding.
pub(super) const SHIFTS: [u32; 2] = [CONST_BITS - PASS_BITS, CONST_BITS + PASS_BITS + 3];

/// The largest coefficient, times its quantisation step, that is transformed here.
///
/// Pixels make coefficients of up to 1024, and rounding in the encoder adds up to 128. Up to this bound no sum of a
/// smaller transform overflows, in whatever order and registers libjpeg-turbo computes it. The full transform wraps and
/// saturates as libjpeg-turbo does, except where libjpeg-turbo takes a short cut: in blocks with nothing below the
/// first row. So there only the first row is checked.
pub(super) const HONEST: i32 = 1550;

/// So many coefficients at the start of the zig-zag order all lie in the first four rows and columns.
pub(super) const LOW: usize = 10;

/// A sample of a transform's result, which is centred on 0.
#[inline(always)]
fn sample(value: i32) -> u8 {
    (value + 128).clamp(0, 255) as u8
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

/// The one value of all samples of a block that has only its first coefficient: an eighth of that. Every transform of
/// this file gives the same, so that such blocks need none. `None` beyond [`HONEST`].
#[inline(always)]
pub(super) fn flat(first: i16, multiplier: i16) -> Option<u8> {
    let coefficient = i32::from(first) * i32::from(multiplier);
    (coefficient.abs() <= HONEST).then(|| sample(descale(coefficient, 3)))
}

/// One pass of the 8x8 transform: eight values of eight coefficients. Sums of two coefficients wrap at 16 bits and
/// results saturate there, as in vector registers.
fn full(values: [i32; 8], shift: u32) -> [i32; 8] {
    let [c0, c1, c2, c3, c4, c5, c6, c7] = values;
    let narrow = |value: i32| i32::from(value as i16);
    let weigh = |a: i32, b: i32, by: [i16; 2]| a * i32::from(by[0]) + b * i32::from(by[1]);
    let (sum, difference) = (narrow(c0 + c4) << CONST_BITS, narrow(c0 - c4) << CONST_BITS);
    let [outer, inner] = EVEN.map(|by| weigh(c2, c6, by));
    let even = [
        sum + outer,
        difference + inner,
        difference - inner,
        sum - outer,
    ];
    let sums = ODD
        .sums
        .map(|by| weigh(narrow(c3 + c7), narrow(c1 + c5), by));
    let ends = ODD.ends.map(|by| weigh(c7, c1, by));
    let middle = ODD.middle.map(|by| weigh(c5, c3, by));
    let odd = [
        ends[0] + sums[0],
        middle[0] + sums[1],
        middle[1] + sums[0],
        ends[1] + sums[1],
    ];
    std::array::from_fn(|at| {
        let value = match at {
            0..4 => even[at] + odd[at],
            _ => even[7 - at] - odd[7 - at],
        };
        descale(value, shift).clamp(i16::MIN.into(), i16::MAX.into())
    })
}

/// Transforms a block to 8x8 samples, whose rows start `pitch` bytes apart. `None` where a coefficient of the first row
/// is beyond [`HONEST`].
pub(super) fn whole(
    block: &Block,
    multipliers: &Block,
    out: &mut [u8],
    pitch: usize,
) -> Option<()> {
    let first_row = block.iter().zip(multipliers).take(8);
    let mut products = first_row.map(|(&value, &by)| value.wrapping_mul(by));
    if products.any(|product| i32::from(product).abs() > HONEST) {
        return None;
    }
    let mut between = [[0; 8]; 8];
    for x in 0..8 {
        let column = std::array::from_fn(|y| {
            i32::from(block[8 * y + x].wrapping_mul(multipliers[8 * y + x]))
        });
        for (row, value) in between.iter_mut().zip(full(column, SHIFTS[0])) {
            row[x] = value;
        }
    }
    for (row, out) in between.into_iter().zip(out.chunks_mut(pitch)) {
        out[..8].copy_from_slice(&full(row, SHIFTS[1]).map(sample));
    }
    Some(())
}

/// One pass of the 4x4 transform: four values of eight coefficients. The fifth has no part in them.
#[inline(always)]
fn half([c0, c1, c2, c3, _, c5, c6, c7]: [i32; 8], shift: u32) -> [i32; 4] {
    let sum = c0 << (CONST_BITS + 1);
    let turned = c2 * const { fix(1.847_759_065) } - c6 * const { fix(0.765_366_865) };
    let inner = -c7 * const { fix(0.211_164_243) } + c5 * const { fix(1.451_774_981) }
        - c3 * const { fix(2.172_734_803) }
        + c1 * const { fix(1.061_594_337) };
    let outer = -c7 * const { fix(0.509_795_579) } - c5 * const { fix(0.601_344_887) }
        + c3 * const { fix(0.899_976_223) }
        + c1 * const { fix(2.562_915_447) };
    let (high, low) = (sum + turned, sum - turned);
    [
        descale(high + outer, shift + 1),
        descale(low + inner, shift + 1),
        descale(low - inner, shift + 1),
        descale(high - outer, shift + 1),
    ]
}

/// One pass of the 2x2 transform: two values of the first coefficient and the odd ones. The others have no part in
/// them.
#[inline(always)]
fn quarter([c0, c1, _, c3, _, c5, _, c7]: [i32; 8], shift: u32) -> [i32; 2] {
    let sum = c0 << (CONST_BITS + 2);
    let turned = -c7 * const { fix(0.720_959_822) } + c5 * const { fix(0.850_430_095) }
        - c3 * const { fix(1.272_758_580) }
        + c1 * const { fix(3.624_509_785) };
    [
        descale(sum + turned, shift + 2),
        descale(sum - turned, shift + 2),
    ]
}

/// Transforms a block to 4x4 samples. `None` where a coefficient is beyond [`HONEST`].
#[inline(always)]
pub(super) fn halved(block: &Block, by: &Block, out: &mut [u8], pitch: usize) -> Option<()> {
    reduced(block, by, out, pitch, half)
}

/// Transforms a block to 2x2 samples. `None` where a coefficient is beyond [`HONEST`].
#[inline(always)]
pub(super) fn quartered(block: &Block, by: &Block, out: &mut [u8], pitch: usize) -> Option<()> {
    reduced(block, by, out, pitch, quarter)
}

/// Applies a pass to eight columns, then to the rows that these become.
#[inline(always)]
fn reduced<const SIZE: usize>(
    block: &Block,
    multipliers: &Block,
    out: &mut [u8],
    pitch: usize,
    pass: impl Fn([i32; 8], u32) -> [i32; SIZE],
) -> Option<()> {
    let mut coefficients = [0; 64];
    let mut largest = 0;
    for at in 0..64 {
        let value = i32::from(block[at]) * i32::from(multipliers[at]);
        coefficients[at] = value;
        largest = largest.max(value.abs());
    }
    if largest > HONEST {
        return None;
    }
    let mut between = [[0; 8]; SIZE];
    for x in 0..8 {
        let mut column = [0; 8];
        for (y, value) in column.iter_mut().enumerate() {
            *value = coefficients[8 * y + x];
        }
        let column = pass(column, SHIFTS[0]);
        for y in 0..SIZE {
            between[y][x] = column[y];
        }
    }
    for (row, out) in between.into_iter().zip(out.chunks_mut(pitch)) {
        for (out, value) in out.iter_mut().zip(pass(row, SHIFTS[1])) {
            *out = sample(value);
        }
    }
    Some(())
}
