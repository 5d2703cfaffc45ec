//! Bits, the highest of each byte first.

/// Reads from an array whose last eight bytes are never data. Behind its end the last bits come again and again: who reads
/// compares places, not each read.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a, const N: usize> {
    bytes: &'a [u8; N],
    /// Bits read so far.
    pub(super) at: usize,
}

/// Bits that can be asked for at once.
pub(super) const SURE: u32 = 57;

impl<'a, const N: usize> Bits<'a, N> {
    pub(super) fn new(bytes: &'a [u8; N], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next [`SURE`] bits, in the highest places.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        let start = (self.at >> 3).min(N - 8);
        let word = self.bytes[start..].first_chunk().copied();
        u64::from_be_bytes(word.unwrap_or_default()) << (self.at & 7)
    }

    /// A number of up to 32 bits.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let word = self.peek() >> 1 >> (63 - count);
        self.at += count as usize;
        word as u32
    }

    #[inline(always)]
    pub(super) fn flag(&mut self) -> bool {
        self.take(1) == 1
    }
}
