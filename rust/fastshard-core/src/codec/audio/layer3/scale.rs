//! Scale factors: how loud each band of a granule is.

use std::sync::LazyLock;

use super::bands::Bands;
use super::bits::Bits;
use super::side::{Block, Part};

/// Of each band, of short blocks of each band's windows.
pub(super) type Factors = [u8; 40];

/// Bits of the lower and of the upper bands' factors.
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
/// Long blocks' bands that two granules share or don't.
const GROUPS: [std::ops::Range<usize>; 4] = [0..6, 6..11, 11..16, 16..21];
/// Factors of equal length, of MPEG 2: by kind and by long, short and mixed blocks.
const COUNTS: [[[usize; 4]; 3]; 6] = [
    [[6, 5, 5, 5], [9, 9, 9, 9], [6, 9, 9, 9]],
    [[6, 5, 7, 3], [9, 9, 12, 6], [6, 9, 12, 6]],
    [[11, 10, 0, 0], [18, 18, 0, 0], [15, 18, 0, 0]],
    [[7, 7, 7, 0], [12, 12, 12, 0], [6, 15, 12, 0]],
    [[6, 6, 6, 3], [12, 9, 9, 6], [6, 12, 9, 6]],
    [[8, 8, 5, 0], [15, 12, 9, 0], [6, 18, 9, 0]],
];
/// What higher bands may be louder by.
const EMPHASIS: [u8; 22] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 0,
];

/// MPEG 1. `shared`: what the first granule's factors, which `factors` holds, stay for the second.
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

/// MPEG 2. `intensity`: whether factors are places between left and right.
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

/// The quietest there can be, in quarters of an octave: every gain at its least.
const LEAST: i32 = -4 - 210 - 7 * 8 - ((255 + 3) << 2);
/// Powers of two, by quarters.
static POWERS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    (LEAST..64)
        .map(|quarters| (f64::from(quarters) / 4.0).exp2() as f32)
        .collect()
});

/// Makes the first `end` lines as loud as they should be, and all quieter by some quarters of an octave.
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
