//! Huffman decoding of sequential JPEG (ITU-T T.81, clause F.2.2): one table look-up a symbol.
//!
//! # Idea
//!
//! A coefficient is stored as a Huffman code and, behind it, the bits of its value. The code says how many these are.
//! So no symbol's start is known before the symbol in front of it is decoded, and this chain sets the speed.
//!
//! Here one look-up finds the code and the value behind it together. Between two look-ups the chain has one load, which
//! gives the length of both, and the shift by that length.
//!
//! # The table of values
//!
//! [`Codes`] has 2^11 entries of 32 bits, 8 KiB, indexed by the next 11 bits. There are three kinds of entries:
//!
//! | The 11 bits begin with | Bits 0 to 7 | 8 to 15 | 16 to 23 | 24 to 31 |
//! |---|---|---|---|---|
//! | a code and its value | length of both | step | value, lower byte | value, upper byte |
//! | a code, but not all of its value | 0 | step | length of the code | length of the value |
//! | less than a code | 0 | 0 | 0 | 0 |
//!
//! The step says how far the place of this coefficient lies behind that of the one before, in zig-zag order: the run of
//! zeros, plus 1. The end of a block (EOB) has a step of 128. So one comparison of the place with 63 finds each way in
//! which a block can end: 63 is a full block, 128 and more is an EOB, and what lies between is damage.
//!
//! The second kind computes the value from the bits (EXTEND, figure F.12). The third kind searches the code by its
//! length, as DECODE of the standard does (figure F.16).
//!
//! # The table of strides
//!
//! A block that is skipped needs no values, only its length. [`Steps`] has 2^12 entries, 16 KiB, indexed by the next 12
//! bits. An entry follows all symbols whose codes end within these bits. It holds the length of all of them and the sum
//! of their steps. The length includes the last value, even where that reaches beyond the twelve bits. It stops at an
//! EOB, or where the steps reach 63. An entry of 0 is a code of more than 12 bits. Near the end of a block, symbols are
//! read one by one again, so that damage is found as it is without strides.
//!
//! # Reading bits
//!
//! `ahead` holds the next bits from its highest one on. [`Bits::refill`] loads eight bytes and moves on by whole bytes,
//! so that at least 56 bits are valid. It has no branch but the check for the end of the data. Bits below the valid
//! ones are already those of the data, so that the next refill writes the same bits over them. This is the refill that
//! Fabian Giesen describes in "Reading bits in far too many ways" (2018).
//!
//! 56 bits are enough for five look-ups of up to 11 bits, or for two strides of up to 12 + 15 bits. So most look-ups
//! don't check how many bits are left.

use std::cell::OnceCell;

use super::zigzag::{Block, NATURAL};

/// Bits of the index of the table of values.
const LOOK: u32 = 11;
/// Look-ups between two refills: 5 x 11 bits of the 56 that a refill gives.
const LOOKS: usize = 5;
/// Bits of the index of the table of strides.
const SKIP_LOOK: u32 = 12;
/// Strides between two refills: 2 x (12 + 15) bits, because the last code's value may have 15 bits beyond the index.
const SKIP_LOOKS: usize = 2;
/// The step of an EOB: more than any place, and than any sum of steps without an EOB.
const END: usize = 128;
/// The place in a block of a coefficient, by its number in zig-zag order. Numbers behind 63 stand for the last place.
const PLACES: [u8; 256] = {
    let mut places = [63; 256];
    let mut at = 0;
    while at < 64 {
        places[at] = NATURAL[at];
        at += 1;
    }
    places
};

/// What codes are for: the first coefficient of a block (DC), or the other 63 (AC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dc,
    Ac,
}

/// A code's length and what its symbol says.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Bits of the code, 1 to 16.
    length: u32,
    /// Bits of the value behind the code, 0 to 15.
    size: u32,
    /// Zeros before this coefficient, plus 1; 16 for sixteen zeros (ZRL); [`END`] for an EOB. DC coefficients have no
    /// use for it.
    step: u32,
}

impl Symbol {
    fn new(symbol: u8, length: u32, kind: Kind) -> Option<Self> {
        let (run, size) = match kind {
            Kind::Dc => (0, u32::from(symbol)),
            Kind::Ac => (u32::from(symbol >> 4), u32::from(symbol & 15)),
        };
        let step = match (size, run) {
            (0, 15) => 16,
            (0, _) => END as u32,
            _ => run + 1,
        };
        (size < 16).then_some(Self { length, size, step })
    }

    fn total(self) -> u32 {
        self.length + self.size
    }

    /// The value in the bits behind the code (EXTEND, figure F.12). `bits` start with the code.
    #[inline(always)]
    fn value(self, bits: u64) -> i32 {
        let bits = bits << self.length;
        let value = (bits >> 1 >> (63 - self.size)) as i32;
        // A first bit of 0 marks a negative value, stored as value + 2^size - 1.
        let below = !((bits as i64) >> 63) as i32;
        value - (below & ((1 << self.size) - 1))
    }
}

/// An entry of either table; the head of this file describes its bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry(u32);

impl Entry {
    fn new(symbol: Symbol, value: i32) -> Self {
        Self(symbol.total() | symbol.step << 8 | (value as u32) << 16)
    }

    fn without_value(symbol: Symbol) -> Self {
        Self(symbol.step << 8 | symbol.length << 16 | symbol.size << 24)
    }

    /// The symbol of an entry without value; `None` if the code is longer than the index.
    #[inline(always)]
    fn symbol(self) -> Option<Symbol> {
        (self.0 != 0).then_some(Symbol {
            length: self.0 >> 16 & 0xFF,
            size: self.0 >> 24,
            step: self.0 >> 8 & 0xFF,
        })
    }

    #[inline(always)]
    fn total(self) -> u32 {
        self.0 & 63
    }

    #[inline(always)]
    fn step(self) -> usize {
        (self.0 >> 8 & 0xFF) as usize
    }

    #[inline(always)]
    fn value(self) -> i16 {
        (self.0 >> 16) as i16
    }
}

/// A Huffman table of a file, as tables that can be looked up.
#[derive(Debug)]
pub(super) struct Codes {
    spec: Box<[u8]>,
    short: Box<[Entry; 1 << LOOK]>,
    /// Two numbers for each length, 1 to 16. The first is the smallest number of 16 bits behind all codes of up to this
    /// length. The second is added to a code of this length to get the place of its symbol.
    lengths: [(u32, i32); 16],
    steps: OnceCell<Box<Steps>>,
    kind: Kind,
}

/// The table of strides: for the next bits, the length of several symbols and the sum of their steps.
pub(super) type Steps = [Entry; 1 << SKIP_LOOK];

impl Codes {
    /// Makes the tables of a DHT segment's body: 16 counts of codes, by length, and the symbols (annex C). `None` where
    /// counts and symbols make no prefix code, or where a value has 16 bits.
    pub(super) fn new(spec: &[u8], kind: Kind) -> Option<Self> {
        let (counts, symbols) = spec.split_first_chunk::<16>()?;
        let mut codes = Self {
            spec: spec.into(),
            short: Box::new([Entry::default(); 1 << LOOK]),
            lengths: [(0, 0); 16],
            steps: OnceCell::new(),
            kind,
        };
        let (mut code, mut place) = (0u32, 0);
        for (length, &count) in (1u32..).zip(counts) {
            let offset = place as i32 - code as i32;
            for &symbol in symbols.get(place..place + usize::from(count))? {
                codes.add(code, Symbol::new(symbol, length, kind)?)?;
                code += 1;
            }
            // No code is all ones.
            (count == 0 || code < 1 << length).then_some(())?;
            codes.lengths[length as usize - 1] = (code << (16 - length), offset);
            place += usize::from(count);
            code <<= 1;
        }
        (place == symbols.len() && (1..=256).contains(&place)).then_some(codes)
    }

    /// Fills all entries whose index begins with a code: for each value, whatever bits follow it.
    fn add(&mut self, code: u32, symbol: Symbol) -> Option<()> {
        if symbol.total() > LOOK {
            if let Some(free) = LOOK.checked_sub(symbol.length) {
                let from = (code << free) as usize;
                let entries = self.short.get_mut(from..from + (1 << free))?;
                entries.fill(Entry::without_value(symbol));
            }
            return Some(());
        }
        let first = code << symbol.size;
        let free = LOOK - symbol.total();
        for bits in first..first + (1 << symbol.size) {
            let value = symbol.value(u64::from(bits) << (64 - symbol.total()));
            let from = (bits << free) as usize;
            self.short
                .get_mut(from..from + (1 << free))?
                .fill(Entry::new(symbol, value));
        }
        Some(())
    }

    /// The table of strides, made when it is first asked for.
    pub(super) fn steps(&self) -> &Steps {
        self.steps.get_or_init(|| {
            let mut steps = Box::new([Entry::default(); 1 << SKIP_LOOK]);
            self.fill_steps(&mut steps, 0, 0, 0);
            steps
        })
    }

    /// Fills all entries that begin with the first `used` bits of `bits`: complete symbols whose steps add up to
    /// `step`.
    fn fill_steps(&self, steps: &mut Steps, bits: u32, used: u32, step: u32) {
        for (code, symbol) in self.symbols() {
            let Some(free) = SKIP_LOOK.checked_sub(used + symbol.length) else {
                break; // Codes come by length.
            };
            let from = bits | code << free;
            let (total, step) = (used + symbol.total(), step + symbol.step);
            steps[from as usize..][..1 << free].fill(Entry(total | step << 8));
            if total < SKIP_LOOK && step < 63 {
                for value in 0..1 << symbol.size {
                    self.fill_steps(steps, from | value << (SKIP_LOOK - total), total, step);
                }
            }
        }
    }

    /// All codes, the shortest first.
    fn symbols(&self) -> impl Iterator<Item = (u32, Symbol)> {
        let (counts, symbols) = self.spec.split_at(16);
        let lengths = (1..)
            .zip(counts)
            .flat_map(|(length, &count)| std::iter::repeat_n(length, count.into()));
        let mut code = 0u32;
        let mut before = 0;
        lengths.zip(symbols).filter_map(move |(length, &symbol)| {
            code <<= length - before;
            before = length;
            code += 1;
            Some((code - 1, Symbol::new(symbol, length, self.kind)?))
        })
    }

    /// Whether these tables were made from this body of a DHT segment.
    pub(super) fn is_of(&self, spec: &[u8]) -> bool {
        *self.spec == *spec
    }

    #[inline(always)]
    fn look_up(&self, bits: u64) -> Entry {
        self.short[(bits >> (64 - LOOK)) as usize]
    }

    /// Finds a code that is longer than the index, by comparing 16 bits with the end of each length (DECODE, figure
    /// F.16).
    #[cold]
    #[inline(never)]
    fn search(&self, bits: u64) -> Option<Symbol> {
        let next = (bits >> 48) as u32;
        let shorter = self.lengths.iter().position(|&(behind, _)| next < behind)?;
        let length = shorter as u32 + 1;
        let place = (next >> (16 - length)) as i32 + self.lengths[shorter].1;
        let symbol = *self.spec.get(16 + usize::try_from(place).ok()?)?;
        Symbol::new(symbol, length, self.kind)
    }
}

/// Reads bits from data without stuffed zeros, the highest bit of each byte first.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest one on.
    ahead: u64,
    /// How many of them are valid. Those below are bits of the data too, or 0.
    count: u32,
}

/// Bytes of zeros that must follow the data, so that eight bytes can be loaded where its last code is read.
pub(super) const PADDING: usize = 16;

impl<'a> Bits<'a> {
    /// Starts at the first bit of `data`, which must end with [`PADDING`].
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            ahead: 0,
            count: 0,
        }
    }

    /// Loads bits until at least 56 are valid. `None` behind the padding: data ended within a symbol.
    #[inline(always)]
    fn refill(&mut self) -> Option<()> {
        let next = self.data.get(self.at..self.at + 8)?.first_chunk()?;
        self.ahead |= u64::from_be_bytes(*next) >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 0x38;
        Some(())
    }

    /// Reads a symbol. At least [`LOOK`] bits must be valid. Also tells whether the symbol took no more than these; a
    /// longer one refills, so that the caller has to start counting its look-ups anew.
    #[inline(always)]
    fn next(&mut self, codes: &Codes) -> Option<(Entry, bool)> {
        let mut entry = codes.look_up(self.ahead);
        let short = entry.total() != 0;
        if !short {
            self.refill()?;
            let symbol = entry.symbol().or_else(|| codes.search(self.ahead))?;
            entry = Entry::new(symbol, symbol.value(self.ahead));
        }
        self.ahead <<= entry.total();
        self.count -= entry.total();
        Some((entry, short))
    }

    /// Bits read so far, from the start of the data.
    pub(super) fn position(&self) -> usize {
        8 * self.at - self.count as usize
    }

    /// Whether the symbols that were read lie within the data. `all`: whether they must also end in its last byte.
    pub(super) fn ends_within(&self, all: bool) -> bool {
        let (used, there) = (self.position().div_ceil(8), self.data.len() - PADDING);
        used == there || (!all && used < there)
    }

    /// Reads a DC coefficient, as its difference from the DC coefficient of the block before.
    #[inline(always)]
    pub(super) fn dc(&mut self, codes: &Codes) -> Option<i16> {
        self.refill()?;
        Some(self.next(codes)?.0.value())
    }

    /// Reads the AC coefficients into a block of zeros. Returns how many places of the zig-zag order the data covers,
    /// DC included, before its EOB; all behind them are zero.
    #[inline(always)]
    pub(super) fn ac(&mut self, codes: &Codes, block: &mut Block) -> Option<usize> {
        self.symbols(codes, 0, |place, entry| {
            // Without a branch for the EOB: it writes 0 to the last place, which is still 0.
            block[usize::from(PLACES[place & 255] & 63)] = entry.value();
        })
    }

    /// Skips the AC coefficients, a symbol at a time.
    #[inline(always)]
    pub(super) fn skip_ac(&mut self, codes: &Codes) -> Option<()> {
        self.symbols(codes, 0, |_, _| {}).map(drop)
    }

    /// Skips the AC coefficients, several symbols at a time.
    #[inline(always)]
    pub(super) fn stride_ac(&mut self, codes: &Codes, steps: &Steps) -> Option<()> {
        let mut place = 0;
        loop {
            self.refill()?;
            for _ in 0..SKIP_LOOKS {
                let entry = steps[(self.ahead >> (64 - SKIP_LOOK)) as usize];
                let step = entry.step();
                let next = place + step % END;
                // The block is full within these symbols, which may also be damage; or the code is longer than the
                // index.
                if next >= 63 || step == 0 {
                    return self.symbols(codes, place, |_, _| {}).map(drop);
                }
                place = next;
                self.ahead <<= entry.total();
                self.count -= entry.total();
                if step >= END {
                    return Some(());
                }
            }
        }
    }

    /// Reads symbols up to the end of a block, and calls `store` with the place and the entry of each.
    #[inline(always)]
    fn symbols(
        &mut self,
        codes: &Codes,
        mut place: usize,
        mut store: impl FnMut(usize, Entry),
    ) -> Option<usize> {
        loop {
            self.refill()?;
            for _ in 0..LOOKS {
                let (entry, short) = self.next(codes)?;
                place += entry.step();
                store(place, entry);
                if place >= 63 {
                    return match place {
                        63 => Some(64),
                        END.. => Some(place - END + 1),
                        _ => None,
                    };
                }
                if !short {
                    break;
                }
            }
        }
    }
}
