//! Entropy decoding (ITU-T T.81, annex F.2), a table look-up a symbol.
//!
//! A look-up gives the value that follows a code together with the code, so that the next look-up waits for a load and a
//! shift and nothing else: that chain is what entropy decoding takes its time with.

use std::cell::OnceCell;

use super::zigzag::{Block, NATURAL};

/// A code and its value are looked up together where they have no more bits than this.
const LOOK: u32 = 11;
/// Look-ups between two refills, which give 56 bits.
const LOOKS: usize = 5;
/// Where values don't matter, codes that begin within so many bits are looked up together.
const SKIP_LOOK: u32 = 12;
/// Look-ups of those between two refills: the last code may be followed by 15 bits.
const SKIP_LOOKS: usize = 2;
/// Added to the place of a coefficient where a block ends.
const END: usize = 128;
/// The place in a block of a coefficient; those behind the last are the last.
const PLACES: [u8; 256] = {
    let mut places = [63; 256];
    let mut at = 0;
    while at < 64 {
        places[at] = NATURAL[at];
        at += 1;
    }
    places
};

/// Whether codes are those of first coefficients or those of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dc,
    Ac,
}

/// A code and what it means.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Bits of the code, and of the value that follows it.
    length: u32,
    size: u32,
    /// How far the place of the coefficient lies from the one before.
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

    /// The value in the bits behind the code.
    #[inline(always)]
    fn value(self, bits: u64) -> i32 {
        let bits = bits << self.length;
        let value = (bits >> 1 >> (63 - self.size)) as i32;
        // Values whose first bit is 0 are the negative ones.
        let below = !((bits as i64) >> 63) as i32;
        value - (below & ((1 << self.size) - 1))
    }
}

/// A symbol and its value, packed: bits in all, step, value. Where the bits are 0, the value is too long to be looked up
/// with the code, whose length and the value's come instead; 0 is a code that is too long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry(u32);

impl Entry {
    fn new(symbol: Symbol, value: i32) -> Self {
        Self(symbol.total() | symbol.step << 8 | (value as u32) << 16)
    }

    fn without_value(symbol: Symbol) -> Self {
        Self(symbol.step << 8 | symbol.length << 16 | symbol.size << 24)
    }

    /// The symbol whose value is too long.
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

/// A Huffman code, ready to be looked up.
#[derive(Debug)]
pub(super) struct Codes {
    spec: Box<[u8]>,
    short: Box<[Entry; 1 << LOOK]>,
    /// For each length: the first number of 16 bits behind all its codes, and what to add to a code to get its
    /// symbol's place.
    lengths: [(u32, i32); 16],
    steps: OnceCell<Box<Steps>>,
    kind: Kind,
}

/// For the next bits, what several symbols take and how far they lead.
pub(super) type Steps = [Entry; 1 << SKIP_LOOK];

impl Codes {
    /// From how many codes there are of each length, 1 to 16, and their symbols. `None` where that makes no code.
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

    /// Fills in what starts with a code: for each value, all that may follow it.
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

    /// Where several symbols lead, for those who don't need their values; made when first asked for.
    pub(super) fn steps(&self) -> &Steps {
        self.steps.get_or_init(|| {
            let mut steps = Box::new([Entry::default(); 1 << SKIP_LOOK]);
            self.fill_steps(&mut steps, 0, 0, 0);
            steps
        })
    }

    /// Fills in what follows the first `used` bits of `bits`, which lead `step` far.
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

    /// Whether these codes were made from that.
    pub(super) fn is_of(&self, spec: &[u8]) -> bool {
        *self.spec == *spec
    }

    #[inline(always)]
    fn look_up(&self, bits: u64) -> Entry {
        self.short[(bits >> (64 - LOOK)) as usize]
    }

    /// Finds a code that is too long to be looked up.
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

/// Reads bits from data without stuffed zeros, the highest first.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    ahead: u64,
    count: u32,
}

/// Zeros that must follow the data, which are read ahead of their time.
pub(super) const PADDING: usize = 16;

impl<'a> Bits<'a> {
    /// Reads data with its [`PADDING`].
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            ahead: 0,
            count: 0,
        }
    }

    /// At least 56 bits from here on.
    #[inline(always)]
    fn refill(&mut self) -> Option<()> {
        let next = self.data.get(self.at..self.at + 8)?.first_chunk()?;
        self.ahead |= u64::from_be_bytes(*next) >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 0x38;
        Some(())
    }

    /// The next symbol, of which at least [`LOOK`] bits must be there, and whether it was short.
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

    /// Bits read so far.
    pub(super) fn position(&self) -> usize {
        8 * self.at - self.count as usize
    }

    /// Whether as much was read as there is: all of it, but for what fills the last byte, or less.
    pub(super) fn ends_within(&self, all: bool) -> bool {
        let (used, there) = (self.position().div_ceil(8), self.data.len() - PADDING);
        used == there || (!all && used < there)
    }

    /// Reads a first coefficient: what it adds to the one of the block before.
    #[inline(always)]
    pub(super) fn dc(&mut self, codes: &Codes) -> Option<i16> {
        self.refill()?;
        Some(self.next(codes)?.0.value())
    }

    /// Reads the other coefficients into a block of zeros and says how many were there, in the order of the data, the
    /// first included, up to the last that isn't zero.
    #[inline(always)]
    pub(super) fn ac(&mut self, codes: &Codes, block: &mut Block) -> Option<usize> {
        self.symbols(codes, 0, |place, entry| {
            // The end of a block writes a zero where there is one still.
            block[usize::from(PLACES[place & 255] & 63)] = entry.value();
        })
    }

    /// Passes over the coefficients behind the first.
    #[inline(always)]
    pub(super) fn skip_ac(&mut self, codes: &Codes) -> Option<()> {
        self.symbols(codes, 0, |_, _| {}).map(drop)
    }

    /// The same, several symbols at a time.
    #[inline(always)]
    pub(super) fn stride_ac(&mut self, codes: &Codes, steps: &Steps) -> Option<()> {
        let mut place = 0;
        loop {
            self.refill()?;
            for _ in 0..SKIP_LOOKS {
                let entry = steps[(self.ahead >> (64 - SKIP_LOOK)) as usize];
                let step = entry.step();
                let next = place + step % END;
                // The block is full, or will be within these symbols; or the code is a long one.
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
