//! Scale factors: how loud each band of a granule is (ISO/IEC 11172-3, clause 2.4.3.4; ISO/IEC 13818-3 for MPEG 2).
//!
//! # Idea
//!
//! A line is its value raised to 4/3, times a power of 2 whose exponent is a multiple of 1/4. So all gains add up as
//! integers, in quarters of an octave:
//!
//! ```text
//! quarters = gain - window_gain - ((factor + emphasis) << shift)
//! line     = sign * |value|^(4/3) * 2^(quarters / 4)
//! ```
//!
//! - `gain` is the granule's, 210 less than stored;
//! - `window_gain` is that of a short window, 8 times what is stored, and 0 for long bands;
//! - `factor` is the band's scale factor; `emphasis` is a table for the higher bands of long blocks, where it is
//!   switched on;
//! - `shift` is 1 or 2.
//!
//! [`POWERS`] holds 2^(quarters / 4) for every sum that can occur, 5.3 KiB. A band takes one look-up, and a line one
//! product. `huffman` has raised the values to 4/3.
//!
//! # Where factors are stored
//!
//! MPEG 1 has two lengths in bits, for lower and for higher bands. The second granule of a frame may share groups of
//! factors with the first. MPEG 2 has four lengths and shares none: a number of nine bits is split into the lengths by
//! division, and [`COUNTS`] says how many factors have each.

use std::sync::LazyLock;

use super::bands::Bands;
use super::bits::Bits;
use super::side::{Block, Part};

/// The scale factors of a channel, by band; in short blocks, by band and window.
pub(super) type Factors = [u8; 40];

/// Bits of the factors of lower and of higher bands, by what an MPEG 1 granule says.
const LENGTHS: [(u32, u32); 16] = [
    (0, 0),
    (0, 1),
    (0, 2),
    (0, 3),
    (3, 0),
    (1, 1),
    (1, 2),
    (1, 3),
    (2, 1),
    (2, 2),
    (2, 3),
    (3, 1),
    (3, 2),
    (3, 3),
    (4, 2),
    (4, 3),
];
/// Bands of long blocks that the second granule shares with the first all together, or not at all.
const GROUPS: [std::ops::Range<usize>; 4] = [0..6, 6..11, 11..16, 16..21];
/// How many factors have each of the four lengths, in MPEG 2: by kind, and by long, short and mixed blocks.
const COUNTS: [[[usize; 4]; 3]; 6] = [
    [[6, 5, 5, 5], [9, 9, 9, 9], [6, 9, 9, 9]],
    [[6, 5, 7, 3], [9, 9, 12, 6], [6, 9, 12, 6]],
    [[11, 10, 0, 0], [18, 18, 0, 0], [15, 18, 0, 0]],
    [[7, 7, 7, 0], [12, 12, 12, 0], [6, 15, 12, 0]],
    [[6, 6, 6, 3], [12, 9, 9, 6], [6, 12, 9, 6]],
    [[8, 8, 5, 0], [15, 12, 9, 0], [6, 18, 9, 0]],
];
/// What is added to the factors of higher bands where emphasis is switched on (table B.6).
const EMPHASIS: [u8; 22] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 0,
];

/// Reads the factors of MPEG 1. `shared`: which groups keep the factors of the first granule, which `factors` holds.
pub(super) fn read_first<const N: usize>(
    bits: &mut Bits<'_, N>,
    part: &Part,
    shared: [bool; 4],
    factors: &mut Factors,
) {
    let (low, high) = LENGTHS[part.compress & 15];
    let mut read = |range: std::ops::Range<usize>, length| {
        for factor in &mut factors[range] {
            *factor = bits.take(length) as u8;
        }
    };
    if part.block.is_short() {
        let middle = if part.block == Block::Mixed { 17 } else { 18 };
        read(0..middle, low);
        read(middle..middle + 18, high);
        factors[middle + 18..].fill(0);
        return;
    }
    for (at, (group, shared)) in GROUPS.into_iter().zip(shared).enumerate() {
        if !shared {
            read(group, if at < 2 { low } else { high });
        }
    }
    factors[21..].fill(0);
}

/// Reads the factors of MPEG 2. `intensity`: whether they are directions of intensity stereo.
pub(super) fn read_second<const N: usize>(
    bits: &mut Bits<'_, N>,
    part: &Part,
    intensity: bool,
    factors: &mut Factors,
) {
    let code = part.compress as u32;
    let (kind, lengths) = if intensity {
        match code / 2 {
            half @ 0..180 => (3, [half / 36, half % 36 / 6, half % 6, 0]),
            half @ 180..244 => {
                let rest = half - 180;
                (4, [(rest % 64) >> 4, (rest % 16) >> 2, rest % 4, 0])
            }
            half => (5, [(half - 244) / 3, (half - 244) % 3, 0, 0]),
        }
    } else {
        match code {
            0..400 => (
                0,
                [(code >> 4) / 5, (code >> 4) % 5, (code % 16) >> 2, code % 4],
            ),
            400..500 => {
                let rest = code - 400;
                (1, [(rest >> 2) / 5, (rest >> 2) % 5, rest % 4, 0])
            }
            _ => (2, [(code - 500) / 3, (code - 500) % 3, 0, 0]),
        }
    };
    let counts = COUNTS[kind][match part.block {
        Block::Short => 1,
        Block::Mixed => 2,
        _ => 0,
    }];
    let mut at = 0;
    for (count, length) in counts.into_iter().zip(lengths) {
        for factor in &mut factors[at..at + count] {
            *factor = bits.take(length) as u8;
        }
        at += count;
    }
    factors[at..].fill(0);
}

/// A lower bound of the sum of all gains, in quarters of an octave: each at its lowest.
const LEAST: i32 = -4 - 210 - 7 * 8 - ((255 + 3) << 2);
/// 2^(quarters / 4), from [`LEAST`] to 63 quarters.
static POWERS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    (LEAST..64)
        .map(|quarters| (f64::from(quarters) / 4.0).exp2() as f32)
        .collect()
});

/// Multiplies the lines before `end` by the gains of their bands, which are first lowered by `quieter` quarters of an
/// octave.
#[inline(always)]
pub(super) fn apply(
    lines: &mut [f32; 576],
    end: usize,
    part: &Part,
    bands: &Bands,
    factors: &Factors,
    quieter: i32,
) {
    let powers = &*POWERS;
    let gain = part.gain - quieter;
    for band in 0..bands.count() {
        let range = bands.get(band);
        if range.start >= end {
            break;
        }
        let mut factor = i32::from(factors[band]);
        let mut quarters = gain;
        if band < bands.long {
            if part.emphasis {
                factor += i32::from(EMPHASIS[band]);
            }
        } else {
            quarters -= part.window_gain[(band - bands.long) % 3];
        }
        quarters -= factor << part.shift;
        let power = powers[(quarters - LEAST) as usize];
        for line in &mut lines[range] {
            *line *= power;
        }
    }
}
