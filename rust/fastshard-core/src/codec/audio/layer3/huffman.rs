//! Huffman codes of pairs and quads of spectral lines, to the lines' values raised to 4/3.
//!
//! A code is looked up by its first nine bits; longer ones have a second table for those that share them. Bits are loaded
//! 57 at a time.

use std::sync::LazyLock;

use super::bits::{Bits, SURE};
use super::codes::{self, Codes};

/// Bits of the first look-up.
const FIRST: u32 = 9;
/// The longest code, and two signs.
const LONGEST: u32 = 19 + 2;
/// Marks an entry that names a second table: its bits, and where it starts.
const LINK: u32 = 1 << 31;
/// The largest value: 15, and what thirteen bits can add.
const MAX_VALUE: usize = 15 + (1 << 13) - 1;

/// Which codes a table number stands for, and how many bits may follow a 15; 4 and 14 stand for none.
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

    /// A second table, for codes that begin alike.
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

    /// The length and the value of the code that these bits begin with.
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
    pairs: [Table; 16],
    quads: Table,
    /// Values raised to 4/3.
    powers: Box<[f32]>,
    /// Four lines, by which of them are ones, and by the next four bits, which begin with the ones' signs.
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

fn four(ones: usize, mut signs: usize) -> [f32; 4] {
    [3, 2, 1, 0].map(|place| {
        if ones >> place & 1 == 0 {
            return 0.0;
        }
        signs <<= 1;
        if signs & 16 == 0 { 1.0 } else { -1.0 }
    })
}

/// A channel's spectral lines as they are written, of which those from the returned one on are zero. `regions`: where each
/// ends, and its table. `limit`: the place of the first bit that is another's.
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
            // No codes: all are zero.
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

/// Pairs from a line to another, or to the last bit.
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
            // The longest code, and twice thirteen bits and a sign: all that can be asked for.
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

/// A value under the sign that comes next, if it has one.
#[inline(always)]
fn signed(value: f32, word: u64, some: u32) -> f32 {
    f32::from_bits(value.to_bits() ^ ((word >> 63) as u32 & some) << 31)
}

/// Quads of ones and zeros, as long as there are bits. `few`: by the table of four bits each.
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
            // What is left behind the last code isn't one.
            return at;
        }
        at += 4;
    }
    at
}
