//! Checksums of a shard by the chunk: whether bytes are as they were written, found out once for each 64 KiB.
//!
//! # Idea
//!
//! A row's own checksum covers all of its fields, and comparing it costs reading all of them. That is little beside
//! decoding an image. It is much beside copying a row of a table, or taking pixels from the cache and only the label
//! from the shard. For those, a shard's footer lists the CRC32C of each 64 KiB of the file. A chunk is compared when a
//! row in it is first wanted, and a bit notes that it is sound.
//!
//! ```text
//! file    |  chunk 0  |  chunk 1  |  chunk 2  | last |        64 KiB each, the last one shorter
//! sums       u32         u32         u32        u32           from the footer: eight hexadecimal digits each
//! sound      bit         bit         bit        bit           in atomic words, shared by all threads
//! ```
//!
//! # Why no lock is needed
//!
//! A bit only says what follows from the file, so it doesn't matter which thread sets it. Two threads may compare the
//! same chunk at the same time; both find the same.
//!
//! # What a difference means
//!
//! A chunk that differs proves nothing of the row that was wanted: the row's own checksum then decides. So damage to
//! one row is the fault of that row alone, and damage to the list of checksums costs time, not data.
//!
//! # Cost
//!
//! Four bytes and a bit for each chunk. A chunk is read once as a whole; after that, a row costs one look at a bit for
//! each chunk that it touches, or nothing once all chunks of a block are known to be sound.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes per chunk: about what a kernel reads ahead when a mapped page is missing.
pub(crate) const CHUNK: usize = 64 << 10;

/// Hexadecimal digits of a checksum.
const DIGITS: usize = 8;

/// The checksums of a file that is being written.
#[derive(Debug, Default)]
pub(crate) struct ChunkSums {
    sums: Vec<u32>,
    current: u32,
    filled: usize,
}

impl ChunkSums {
    /// Takes in the bytes that are written next.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            self.current = crc32c::crc32c_append(self.current, now);
            self.filled += now.len();
            if self.filled == CHUNK {
                self.sums.push(std::mem::take(&mut self.current));
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// The list, as text: Arrow's footer can only hold text.
    pub(crate) fn text(&self) -> String {
        use std::fmt::Write;
        let last = (self.filled > 0).then_some(&self.current);
        let mut text = String::with_capacity((self.sums.len() + 1) * DIGITS);
        for sum in self.sums.iter().chain(last) {
            let _ = write!(text, "{sum:08x}");
        }
        text
    }
}

/// The numbers of the chunks that a part of a file is in.
fn chunks_of(range: &Range<usize>) -> Range<usize> {
    range.start / CHUNK..range.end.div_ceil(CHUNK)
}

/// The checksums of a shard's chunks, and which of them were found to hold.
#[derive(Debug)]
pub(crate) struct Chunks {
    sums: Vec<u32>,
    /// A bit for each chunk.
    sound: Vec<AtomicU64>,
    /// The bytes that the chunks cover.
    covered: usize,
}

impl Chunks {
    /// Parses the text of a footer; `None` unless it is a list for a file of `covered` bytes.
    pub(crate) fn parse(text: &[u8], covered: usize) -> Option<Self> {
        let digits =
            |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (sums, rest) = text.as_chunks::<DIGITS>();
        let sums: Vec<u32> = sums.iter().map(|one| digits(one)).collect::<Option<_>>()?;
        let fits = rest.is_empty() && sums.len() == covered.div_ceil(CHUNK);
        fits.then(|| Self {
            sound: (0..sums.len().div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            sums,
            covered,
        })
    }

    fn is_sound(&self, chunk: usize) -> bool {
        self.sound[chunk / 64].load(Ordering::Acquire) >> (chunk % 64) & 1 == 1
    }

    /// Whether this part of the file is known to be as it was written, without reading it.
    pub(crate) fn are_sound(&self, range: &Range<usize>) -> bool {
        range.is_empty()
            || (range.end <= self.covered && chunks_of(range).all(|chunk| self.is_sound(chunk)))
    }

    /// Whether this part of the file is as it was written. Reads the chunks that are not known to be sound.
    pub(crate) fn check(&self, file: &[u8], range: &Range<usize>) -> bool {
        if range.is_empty() {
            return true;
        }
        if range.end > self.covered || self.covered > file.len() {
            return false;
        }
        chunks_of(range).all(|chunk| {
            if self.is_sound(chunk) {
                return true;
            }
            let end = self.covered.min((chunk + 1) * CHUNK);
            let holds = crc32c::crc32c(&file[chunk * CHUNK..end]) == self.sums[chunk];
            if holds {
                self.sound[chunk / 64].fetch_or(1 << (chunk % 64), Ordering::AcqRel);
            }
            holds
        })
    }

    /// Forgets which chunks are sound: pages of them may have been lost since.
    pub(crate) fn forget(&self) {
        for word in &self.sound {
            word.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn chunks(file: &[u8]) -> Chunks {
        let mut sums = ChunkSums::default();
        for part in file.chunks(10_007) {
            sums.update(part);
        }
        Chunks::parse(sums.text().as_bytes(), file.len()).unwrap()
    }

    #[test]
    fn sound_chunks_are_found_and_remembered() {
        for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
            let file = file(length);
            let chunks = chunks(&file);
            assert!(!chunks.are_sound(&(0..1)));
            assert!(chunks.check(&file, &(0..length)));
            assert!(chunks.are_sound(&(0..length)));
            assert!(!chunks.check(&file, &(0..length + 1)), "not covered");
            chunks.forget();
            assert!(!chunks.are_sound(&(0..length)));
        }
    }

    #[test]
    fn a_flipped_bit_is_the_fault_of_its_chunk_alone() {
        let good = file(4 * CHUNK);
        for at in [0, CHUNK - 1, CHUNK, 4 * CHUNK - 1] {
            let chunks = chunks(&good);
            let mut bad = good.clone();
            bad[at] ^= 4;
            for chunk in 0..4 {
                let range = chunk * CHUNK..(chunk + 1) * CHUNK;
                assert_eq!(chunks.check(&bad, &range), chunk != at / CHUNK);
            }
        }
    }

    #[test]
    fn only_a_whole_list_is_taken() {
        let good = file(3 * CHUNK);
        let mut sums = ChunkSums::default();
        sums.update(&good);
        let text = sums.text();
        assert!(Chunks::parse(text.as_bytes(), good.len()).is_some());
        assert!(Chunks::parse(text.as_bytes(), good.len() + 1).is_none());
        assert!(Chunks::parse(&text.as_bytes()[1..], good.len()).is_none());
        assert!(Chunks::parse(&text.as_bytes()[8..], good.len()).is_none());
        assert!(Chunks::parse(text.replace('0', "g").as_bytes(), good.len()).is_none());
    }
}
