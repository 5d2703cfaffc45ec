//! Inverse cosine transforms of 8x8 coefficients to 8x8, 4x4, 2x2 or 1x1 samples, in integers.
//!
//! The full one is the exact 13-bit form of Loeffler, Ligtenberg and Moschytz (1989); the smaller ones leave out what
//! only finer samples would show. Both are libjpeg's, bit by bit, so that it doesn't matter who decodes an image.

use super::zigzag::Block;

/// Fraction bits of a constant, and bits that the first pass keeps of them.
pub(super) const CONST_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

const fn fix(value: f64) -> i32 {
    (value * (1 << CONST_BITS) as f64 + 0.5) as i32
}

/// What of coefficients 2 and 6 goes into the outer and into the inner outputs.
pub(super) const EVEN: [[i16; 2]; 2] = {
    let (all, second, sixth) = (fix(0.541_196_100), fix(0.765_366_865), fix(1.847_759_065));
    [
        [(all + second) as i16, all as i16],
        [all as i16, (all - sixth) as i16],
    ]
};

/// What of the odd coefficients goes into the four outputs of one half, from the outermost inwards.
pub(super) struct Odd {
    /// Of 3 + 7 and 1 + 5, into the first and fourth output and into the second and third.
    pub(super) sums: [[i16; 2]; 2],
    /// Of 7 and 1, into the first and the fourth.
    pub(super) ends: [[i16; 2]; 2],
    /// Of 5 and 3, into the second and the third.
    pub(super) middle: [[i16; 2]; 2],
    /// Of 1 and 3, where there are no others.
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

/// Shifts after the first and the second pass of the full transform.
pub(super) const SHIFTS: [u32; 2] = [CONST_BITS - PASS_BITS, CONST_BITS + PASS_BITS + 3];

/// Pixels make coefficients of up to 1024, and rounding adds up to 128. Up to here no sum of a smaller transform
/// overflows, in whatever order and registers it is computed, nor does the full one where libjpeg takes a shorter way to
/// the same samples, which is where nothing lies below the first row.
pub(super) const HONEST: i32 = 1550;

/// So many coefficients, in the order of the data, lie in the first four rows and columns.
pub(super) const LOW: usize = 10;

#[inline(always)]
fn sample(value: i32) -> u8 {
    (value + 128).clamp(0, 255) as u8
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

/// A sample of a block without other coefficients than the first: an eighth of it. `None` for what no encoder makes of
/// pixels.
#[inline(always)]
pub(super) fn flat(first: i16, multiplier: i16) -> Option<u8> {
    let coefficient = i32::from(first) * i32::from(multiplier);
    (coefficient.abs() <= HONEST).then(|| sample(descale(coefficient, 3)))
}

/// Eight values out of eight coefficients. Sums of coefficients have 16 bits, as in vector registers.
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

/// 8x8 samples, their rows `pitch` apart. `None` where the first row isn't [`HONEST`].
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

/// Four values out of eight coefficients, of which the fifth has no say.
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

/// Two values out of eight coefficients: the first and the odd ones.
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

/// 4x4 samples. `None` for coefficients that no encoder makes of pixels.
#[inline(always)]
pub(super) fn halved(block: &Block, by: &Block, out: &mut [u8], pitch: usize) -> Option<()> {
    reduced(block, by, out, pitch, half)
}

/// 2x2 samples.
#[inline(always)]
pub(super) fn quartered(block: &Block, by: &Block, out: &mut [u8], pitch: usize) -> Option<()> {
    reduced(block, by, out, pitch, quarter)
}

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
