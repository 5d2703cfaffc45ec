//! Huffman decoding of spectral lines (ISO/IEC 11172-3, table B.7), to values raised to 4/3.
//!
//! # The data
//!
//! A channel of a granule has up to three regions of pairs, each with a code of its own, and then quads: four lines of
//! -1, 0 or 1. A code stands for absolute values. A sign bit follows for each that isn't zero. In the codes of tables
//! 16 to 31, a value of 15 is followed by up to 13 more bits to add to it.
//!
//! # Tables
//!
//! Each code has a table of 2^9 entries of 32 bits, indexed by the next nine bits:
//!
//! | The nine bits begin with | Bit 31 | 16 to 30 | 8 to 15 | 0 to 7 |
//! |---|---|---|---|---|
//! | a code | 0 | 0 | length of the code | two values of four bits, or four ones and zeros |
//! | a longer code | 1 | index bits of a second table | its start, upper byte | its start, lower byte |
//!
//! A second table has the codes that share these nine bits, indexed by the bits behind them, up to the longest of these
//! codes. So a code takes one look-up, or two. Codes in [`super::codes`] leave no gaps, so that every index has an
//! entry.
//!
//! `powers` holds n^(4/3) for n up to 15 + 8191. `fours` holds the four lines of a quad, by its ones and by the next
//! four bits, which begin with the signs. So a quad has no branch for its signs.
//!
//! # Reading bits
//!
//! A load gives 57 bits. A pair takes up to 21: the longest code of 19 bits and two signs. So a load serves two pairs
//! at least. A pair with more bits loads again behind its code.
//!
//! # Cost
//!
//! All threads share the tables: 17 of 2 KiB, second tables of 8 KiB in all, 32 KiB of powers and 4 KiB of quads. The
//! values are exact up to the rounding of n^(4/3) to single precision.

use std::sync::LazyLock;

use super::bits::{Bits, SURE};
use super::codes::{self, Codes};

/// Bits of the index of the first look-up.
const FIRST: u32 = 9;
/// The longest code, and two signs.
const LONGEST: u32 = 19 + 2;
/// Marks an entry that names a second table.
const LINK: u32 = 1 << 31;
/// The largest absolute value of a line: 15, and what thirteen bits can add.
const MAX_VALUE: usize = 15 + (1 << 13) - 1;

/// By the table number in a frame: an index into [`Tables::pairs`], and how many bits follow a value of 15. Index 0
/// stands for no codes, which is table 0; the numbers 4 and 14 aren't used by the standard.
const SELECTED: [(usize, u32); 32] = [
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (0, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (0, 0),
    (13, 0),
    (14, 1),
    (14, 2),
    (14, 3),
    (14, 4),
    (14, 6),
    (14, 8),
    (14, 10),
    (14, 13),
    (15, 4),
    (15, 5),
    (15, 6),
    (15, 7),
    (15, 8),
    (15, 9),
    (15, 11),
    (15, 13),
];

/// The look-up tables of one code.
struct Table {
    first: [u32; 1 << FIRST],
    second: Vec<u32>,
}

impl Table {
    fn new(codes: &Codes) -> Self {
        let mut table = Self {
            first: [0; 1 << FIRST],
            second: Vec::new(),
        };
        let mut code = 0u64;
        let all: Vec<(u32, u32, u32)> = codes
            .values
            .iter()
            .zip(codes.lengths)
            .map(|(&value, &length)| {
                let start = code as u32;
                code += 1 << (32 - length);
                (start, u32::from(value), u32::from(length))
            })
            .collect();
        for prefix in 0..1u32 << FIRST {
            let start = prefix << (32 - FIRST);
            let end = u64::from(start) + (1 << (32 - FIRST));
            let within: Vec<_> = all
                .iter()
                .filter(|(code, _, length)| {
                    u64::from(*code) < end
                        && u64::from(*code) + (1 << (32 - length)) > u64::from(start)
                })
                .collect();
            table.first[prefix as usize] = match within[..] {
                [(_, value, length)] if *length <= FIRST => length << 8 | value,
                _ => table.link(start, &within),
            };
        }
        table
    }

    /// Appends a second table for the codes that begin with the nine bits of `prefix`. Returns the entry that names it.
    fn link(&mut self, prefix: u32, codes: &[&(u32, u32, u32)]) -> u32 {
        let longest = codes.iter().map(|code| code.2).max().unwrap_or(FIRST);
        let (bits, offset) = (longest - FIRST, self.second.len() as u32);
        for (code, value, length) in codes {
            debug_assert_eq!(
                self.second.len() as u32 - offset,
                (code - prefix) >> (32 - longest)
            );
            let copies = 1usize << (longest - length);
            self.second
                .extend(std::iter::repeat_n(length << 8 | value, copies));
        }
        LINK | bits << 16 | offset
    }

    /// The length and the value of the code that `bits` begin with, the highest bit first.
    #[inline(always)]
    fn find(&self, bits: u64) -> (u32, usize) {
        let mut entry = self.first[(bits >> (64 - FIRST)) as usize];
        if entry & LINK != 0 {
            let length = entry >> 16 & 0xFF;
            let at = (entry & 0xFFFF) as usize + ((bits << FIRST) >> (64 - length)) as usize;
            entry = self.second[at];
        }
        (entry >> 8, (entry & 0xFF) as usize)
    }
}

struct Tables {
    /// The codes of pairs. The first isn't used: it stands for no codes.
    pairs: [Table; 16],
    quads: Table,
    /// n^(4/3), by n.
    powers: Box<[f32]>,
    /// Four lines, by which of them are ones (the first in the highest bit), and by the next four bits, which begin
    /// with the signs.
    fours: [[[f32; 4]; 16]; 16],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    pairs: [
        &codes::CODES_1,
        &codes::CODES_1,
        &codes::CODES_2,
        &codes::CODES_3,
        &codes::CODES_5,
        &codes::CODES_6,
        &codes::CODES_7,
        &codes::CODES_8,
        &codes::CODES_9,
        &codes::CODES_10,
        &codes::CODES_11,
        &codes::CODES_12,
        &codes::CODES_13,
        &codes::CODES_15,
        &codes::CODES_16,
        &codes::CODES_24,
    ]
    .map(Table::new),
    quads: Table::new(&codes::QUADS),
    powers: (0..=MAX_VALUE)
        .map(|value| (value as f64).powf(4.0 / 3.0) as f32)
        .collect(),
    fours: std::array::from_fn(|ones| std::array::from_fn(|signs| four(ones, signs))),
});

/// An entry of [`Tables::fours`].
fn four(ones: usize, mut signs: usize) -> [f32; 4] {
    [3, 2, 1, 0].map(|place| {
        if ones >> place & 1 == 0 {
            return 0.0;
        }
        signs <<= 1;
        if signs & 16 == 0 { 1.0 } else { -1.0 }
    })
}

/// Reads the lines of a channel of a granule, in the order of the data. Returns the line from which on all are zero.
///
/// `regions`: where each region of pairs ends, and its table number. `few`: whether quads have codes of four bits.
/// `limit`: the place of the first bit behind this channel's data.
#[inline(always)]
pub(super) fn lines<const N: usize>(
    bits: &mut Bits<'_, N>,
    regions: &[(usize, u8); 3],
    few: bool,
    limit: usize,
    out: &mut [f32; 576],
) -> usize {
    let tables = &*TABLES;
    let mut at = 0;
    for &(end, table) in regions {
        let (codes, more) = SELECTED[usize::from(table & 31)];
        if codes == 0 {
            // Table 0 has no codes: all lines of the region are zero.
            out[at.min(end)..end].fill(0.0);
            at = at.max(end);
        } else if more == 0 {
            at = pairs::<N, false>(bits, tables, (codes, 0), limit, out, at, end);
        } else {
            at = pairs::<N, true>(bits, tables, (codes, more), limit, out, at, end);
        }
    }
    let end = quads(bits, tables, few, limit, out, at);
    out[end..].fill(0.0);
    end
}

/// Reads pairs of lines from `at` up to `end`, or until `limit` is reached. Returns the line behind the last one read.
#[inline(always)]
fn pairs<const N: usize, const MORE: bool>(
    bits: &mut Bits<'_, N>,
    tables: &Tables,
    (codes, more): (usize, u32),
    limit: usize,
    out: &mut [f32; 576],
    mut at: usize,
    end: usize,
) -> usize {
    let table = &tables.pairs[codes];
    let powers: &[f32; MAX_VALUE + 1] = match tables.powers.first_chunk() {
        Some(powers) => powers,
        None => return at,
    };
    let (mut word, mut left) = (bits.peek(), SURE);
    while at < end && bits.at < limit {
        if left < LONGEST {
            (word, left) = (bits.peek(), SURE);
        }
        let (length, value) = table.find(word);
        let mut used = length;
        word <<= length;
        let mut pair = [value >> 4, value & 15];
        let Some(out) = out[at..].first_chunk_mut::<2>() else {
            break;
        };
        if MORE && (pair[0] == 15 || pair[1] == 15) {
            // Two values take up to 2 x (13 + 1) bits, which may be more than are left in the word.
            bits.at += used as usize;
            (word, left, used) = (bits.peek(), SURE, 0);
            for (value, out) in pair.iter_mut().zip(out.iter_mut()) {
                if *value == 15 {
                    *value += (word >> (64 - more)) as usize;
                    word <<= more;
                    used += more;
                }
                let some = u32::from(*value != 0);
                *out = signed(powers[*value], word, some);
                word <<= some;
                used += some;
            }
        } else {
            for (value, out) in pair.into_iter().zip(out.iter_mut()) {
                let some = u32::from(value != 0);
                *out = signed(powers[value], word, some);
                word <<= some;
                used += some;
            }
        }
        left -= used;
        bits.at += used as usize;
        at += 2;
    }
    at
}

/// Negates a value if the next bit is 1 and `some` is 1, without a branch.
#[inline(always)]
fn signed(value: f32, word: u64, some: u32) -> f32 {
    f32::from_bits(value.to_bits() ^ ((word >> 63) as u32 & some) << 31)
}

/// Reads quads of lines from `start` on, as long as there are bits. Returns the line behind the last one read.
#[inline(always)]
fn quads<const N: usize>(
    bits: &mut Bits<'_, N>,
    tables: &Tables,
    few: bool,
    limit: usize,
    out: &mut [f32; 576],
    start: usize,
) -> usize {
    let mut at = start;
    while let Some(out) = out[at..].first_chunk_mut::<4>() {
        if bits.at >= limit {
            return at;
        }
        let mut word = bits.peek();
        let (length, ones) = if few {
            (4, 15 - (word >> 60) as usize)
        } else {
            tables.quads.find(word)
        };
        word <<= length;
        bits.at += length as usize;
        *out = tables.fours[ones & 15][(word >> 60) as usize];
        bits.at += (ones & 15).count_ones() as usize;
        if bits.at > limit {
            // Bits that are left behind the last code don't make another quad.
            return at;
        }
        at += 4;
    }
    at
}
