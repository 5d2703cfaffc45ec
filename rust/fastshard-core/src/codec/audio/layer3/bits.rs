//! Reads bits, the highest of each byte first.
//!
//! A read loads the eight bytes from the current one on and shifts off the bits of this byte that were read before. So
//! at least 57 bits are valid. No state but the place has to be kept.
//!
//! A read never fails. Behind the end of the data, it returns bits of the array's last eight bytes. The caller compares
//! places once for many reads.

/// A place in an array whose last eight bytes are never data.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a, const N: usize> {
    bytes: &'a [u8; N],
    /// The place of the next bit, counted from the start of the array.
    pub(super) at: usize,
}

/// Bits that are valid in the word of [`Bits::peek`].
pub(super) const SURE: u32 = 57;

impl<'a, const N: usize> Bits<'a, N> {
    pub(super) fn new(bytes: &'a [u8; N], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next bits, from the highest one of the word on; at least [`SURE`] are valid. The place stays.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        let start = (self.at >> 3).min(N - 8);
        let word = self.bytes[start..].first_chunk().copied();
        u64::from_be_bytes(word.unwrap_or_default()) << (self.at & 7)
    }

    /// Reads a number of up to 32 bits.
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
