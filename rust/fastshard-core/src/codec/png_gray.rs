//! A decoder for the PNG of medical images: 8-bit gray, not interlaced.
//!
//! # Idea
//!
//! PNG stores each pixel as its difference from a guess. The Paeth filter guesses from the pixels on the left, above,
//! and in the corner between these. So a pixel waits for its left neighbour, and a row can't be computed in vectors.
//!
//! But rows can be computed side by side if each is one pixel behind the one above it. [`paeth_rows`] does this with
//! eight rows. In each step a vector of eight 16-bit lanes holds one pixel of each row:
//!
//! ```text
//! pixel    0   1   2   3   4
//! row 0   s0  s1  s2  s3  s4
//! row 1   s1  s2  s3  s4  s5      s3: computed in step 3
//! row 2   s2  s3  s4  s5  s6
//! ```
//!
//! In step 3, the pixel on the left of each row was computed in step 2. So was the pixel above, by the row above. The
//! corner was above in step 2. So nothing is loaded again: the pixels above are the pixels on the left, shifted by a
//! lane, with a pixel of the finished row in the first lane.
//!
//! Rows lie far apart in memory, and a vector needs one byte of each. [`Wave::steps`] therefore loads eight bytes of
//! each row, transposes these 8x8 bytes, runs eight steps, and transposes the results back. The first seven steps and
//! the last ones, where some rows have no pixel, run one by one.
//!
//! # Exactness
//!
//! The filter chooses the one of left, up and corner that is nearest to left + up - corner (PNG specification, section
//! 9.4). In a tie the first of these wins. Let low and high be the smaller and the larger of left and up. The choice
//! depends on where the corner lies between them: low in the upper third and above, high in the lower third and below,
//! else the corner.
//!
//! [`paeth`] computes 3 x corner - (left + up). The result is at least high, or at most low, in just these thirds. It
//! lies between -510 and 765, so that sixteen bits hold it. This form is that of `stb_image`. A test compares it with
//! the specification's own words.
//!
//! # Cost
//!
//! Scratch holds the unpacked file: one byte a pixel and one a row. Eight rows are used where eight consecutive rows
//! have the Paeth filter and at least eight pixels. All other rows are undone one by one.
//!
//! Any other kind of PNG, and any damage, is left to the general decoder, which also says what is wrong.

use fdeflate::Decompressor;

use crate::error::{Error, Result};
use crate::pixels::Scratch;

/// The first eight bytes of every PNG.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1A\n";
/// Rows that are undone together: lanes of a vector.
const ROWS: usize = 8;
/// Steps between two transpositions: bytes of each row that are loaded at once.
const STEPS: usize = 8;

/// Decodes an image of this size into `out`, one byte a pixel. `None` if the general decoder has to decode this file.
pub(super) fn decode(
    bytes: &[u8],
    (width, height): (usize, usize),
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Option<()> {
    let filtered = scratch.bytes((width + 1).checked_mul(height)?).ok()?;
    inflate(bytes, (width, height), filtered)?;
    unfilter(filtered, width, out)
}

/// Unpacks the data of all IDAT chunks. They must fill `filtered` to the last byte.
fn inflate(bytes: &[u8], size: (usize, usize), filtered: &mut [u8]) -> Option<()> {
    let mut chunks = Chunks(bytes.strip_prefix(SIGNATURE)?);
    let (b"IHDR", header) = chunks.next()? else {
        return None;
    };
    if !is_plain_gray(header, size) {
        return None;
    }
    let mut decompressor = Decompressor::new();
    let mut filled = 0;
    loop {
        match chunks.next()? {
            (b"IDAT", mut data) => {
                while !data.is_empty() {
                    let (read, written) = decompressor.read(data, filtered, filled, false).ok()?;
                    if (read, written) == (0, 0) {
                        return None; // More data than pixels.
                    }
                    (data, filled) = (&data[read..], filled + written);
                }
            }
            (b"IEND", _) => break,
            // Transparency makes it another kind of image, and so may any critical chunk that isn't known here.
            (kind, _) if kind == b"tRNS" || kind[0].is_ascii_uppercase() => return None,
            // An animation: the general decoder takes its first frame.
            (b"acTL" | b"fcTL" | b"fdAT", _) => return None,
            _ => {}
        }
    }
    // The decompressor holds some bytes back until it is told that no data follow.
    filled += decompressor.read(&[], filtered, filled, true).ok()?.1;
    (decompressor.is_done() && filled == filtered.len()).then_some(())
}

/// Whether an IHDR chunk declares this size, 8 bits, gray, deflate, the standard filters, and no interlacing.
fn is_plain_gray(header: &[u8], (width, height): (usize, usize)) -> bool {
    let Some((sides, [8, 0, 0, 0, 0])) = header.split_at_checked(8) else {
        return false;
    };
    let side = |at: usize| {
        sides[at..at + 4]
            .iter()
            .fold(0, |side, &byte| side << 8 | usize::from(byte))
    };
    (side(0), side(4)) == (width, height)
}

/// The chunks of a file behind its signature: kind and body. Ends at the first with a wrong checksum.
pub(super) struct Chunks<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (content, rest) = rest.split_at_checked(length.checked_add(4)?)?;
        let (sum, rest) = rest.split_first_chunk()?;
        self.0 = rest;
        let right = crc32fast::hash(content) == u32::from_be_bytes(*sum);
        content.split_first_chunk().filter(|_| right)
    }
}

/// The chunks of a file, kind and body, without a look at their checksums.
pub(super) fn all_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.strip_prefix(SIGNATURE).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let (kind, behind) = behind.split_first_chunk()?;
        let body = behind.get(..u32::from_be_bytes(*length) as usize)?;
        rest = behind.get(body.len() + 4..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Refuses a file with colour type 3, a palette, but without that palette (PLTE).
pub(super) fn check_palette(bytes: &[u8]) -> Result<()> {
    let mut chunks = all_chunks(bytes).take_while(|(kind, _)| *kind != b"IDAT");
    let of_palette = matches!(chunks.next(), Some((_, [_, _, _, _, _, _, _, _, _, 3, ..])));
    if of_palette && !chunks.any(|(kind, _)| kind == b"PLTE") {
        return Err(Error::decode(
            "png: its colours are numbers in a palette (PLTE), which it lacks",
        ));
    }
    Ok(())
}

/// Undoes the filters of all rows (PNG specification, section 9). Each row of `filtered` starts with the number of its
/// filter.
fn unfilter(filtered: &[u8], width: usize, out: &mut [u8]) -> Option<()> {
    let rows: Vec<(u8, &[u8])> = filtered
        .chunks_exact(width + 1)
        .filter_map(|row| row.split_first().map(|(&kind, row)| (kind, row)))
        .collect();
    let black = vec![0; width];
    let mut at = 0;
    while at < rows.len() {
        let (done, rest) = out.split_at_mut(at * width);
        let above = done.rchunks_exact(width).next().unwrap_or(&black);
        if let Some(some) = rows[at..].first_chunk::<ROWS>()
            && width >= ROWS
            && some.iter().all(|&(kind, _)| kind == 4)
        {
            paeth_rows(above, some.map(|(_, row)| row), &mut rest[..ROWS * width]);
            at += ROWS;
        } else {
            let (kind, row) = rows[at];
            unfilter_row(kind, above, row, &mut rest[..width])?;
            at += 1;
        }
    }
    Some(())
}

/// Undoes the filter of one row, pixel by pixel. `None` for a filter that doesn't exist.
fn unfilter_row(kind: u8, above: &[u8], row: &[u8], out: &mut [u8]) -> Option<()> {
    let (mut left, mut corner) = (0u8, 0u8);
    let pixels = out.iter_mut().zip(row).zip(above);
    match kind {
        0 => out.copy_from_slice(row),
        1 => pixels.for_each(|((out, &value), _)| {
            left = left.wrapping_add(value);
            *out = left;
        }),
        2 => pixels.for_each(|((out, &value), &up)| *out = value.wrapping_add(up)),
        3 => pixels.for_each(|((out, &value), &up)| {
            left = value.wrapping_add(left.midpoint(up));
            *out = left;
        }),
        4 => pixels.for_each(|((out, &value), &up)| {
            let guess = paeth(left.into(), up.into(), corner.into());
            left = value.wrapping_add(guess as u8);
            corner = up;
            *out = left;
        }),
        _ => return None,
    }
    Some(())
}

/// Undoes eight rows with the Paeth filter, below the finished row `above`.
fn paeth_rows(above: &[u8], filtered: [&[u8]; ROWS], out: &mut [u8]) {
    let width = above.len();
    let mut wave = Wave::default();
    // Row n is n pixels behind row 0. All rows have a pixel from the step where the last row starts to the one where
    // row 0 ends.
    let first = ROWS - 1;
    let blocks = (width - first) / STEPS;
    for step in 0..first {
        wave.edge(step, above, filtered, out);
    }
    for block in 0..blocks {
        wave.steps(first + block * STEPS, above, filtered, out);
    }
    for step in first + blocks * STEPS..width + first {
        wave.edge(step, above, filtered, out);
    }
}

/// The pixels that the next step depends on: by row, those on the left and in the corner. Sixteen bits hold all that
/// the filter computes.
#[derive(Default)]
struct Wave {
    left: [i16; ROWS],
    corner: [i16; ROWS],
}

impl Wave {
    /// Computes one pixel of each row. The pixel above it is what the row above computed in the step before.
    fn step(&mut self, above: u8, values: [u8; ROWS]) -> [u8; ROWS] {
        let mut up = [above.into(); ROWS];
        up[1..].copy_from_slice(&self.left[..ROWS - 1]);
        for n in 0..ROWS {
            let guess = paeth(self.left[n], up[n], self.corner[n]);
            self.left[n] = (i16::from(values[n]) + guess) & 0xFF;
        }
        self.corner = up;
        self.left.map(|pixel| pixel as u8)
    }

    /// Computes eight steps. A word holds a pixel of each row: first filtered, then undone.
    #[cfg_attr(
        target_arch = "x86_64",
        cfg_attr(not(test), expect(dead_code, reason = "the twin of the next"))
    )]
    fn run(&mut self, above: [u8; STEPS], words: &mut [u64; STEPS]) {
        for (word, above) in words.iter_mut().zip(above) {
            *word = u64::from_le_bytes(self.step(above, word.to_le_bytes()));
        }
    }

    /// [`Self::run`] in SSE2, which every x86-64 processor has.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "sse2")]
    fn run_sse2(&mut self, above: [u8; STEPS], words: &mut [u64; STEPS]) {
        #[allow(clippy::wildcard_imports, reason = "a dozen intrinsics")]
        use std::arch::x86_64::*;
        let choose =
            |mask, yes, no| _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
        let mut left: __m128i = bytemuck::cast(self.left);
        let mut corner: __m128i = bytemuck::cast(self.corner);
        for (word, above) in words.iter_mut().zip(above) {
            let value = _mm_unpacklo_epi8(_mm_cvtsi64_si128(*word as i64), _mm_setzero_si128());
            let up = _mm_insert_epi16::<0>(_mm_slli_si128::<2>(left), above.into());
            let thrice = _mm_add_epi16(corner, _mm_add_epi16(corner, corner));
            let threshold = _mm_sub_epi16(thrice, _mm_add_epi16(left, up));
            let (low, high) = (_mm_min_epi16(left, up), _mm_max_epi16(left, up));
            let nearest = choose(_mm_cmpgt_epi16(high, threshold), corner, low);
            let guess = choose(_mm_cmpgt_epi16(threshold, low), nearest, high);
            corner = up;
            left = _mm_and_si128(_mm_add_epi16(value, guess), _mm_set1_epi16(0xFF));
            *word = _mm_cvtsi128_si64(_mm_packus_epi16(left, left)) as u64;
        }
        (self.left, self.corner) = (bytemuck::cast(left), bytemuck::cast(corner));
    }

    /// Computes eight steps in which all rows have pixels. Reads and writes eight bytes of each row at once.
    #[inline]
    fn steps(&mut self, step: usize, above: &[u8], values: [&[u8]; ROWS], out: &mut [u8]) {
        let width = above.len();
        let mut words = [0; ROWS];
        for n in 0..ROWS {
            let bytes = values[n][step - n..]
                .first_chunk()
                .expect("a block within the row");
            words[n] = u64::from_le_bytes(*bytes);
        }
        transpose(&mut words);
        let above = above[step..].first_chunk().expect("a block within the row");
        #[cfg(not(target_arch = "x86_64"))]
        self.run(*above, &mut words);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the feature is part of the architecture.
        #[expect(unsafe_code, reason = "the compiler asks for it all the same")]
        unsafe {
            self.run_sse2(*above, &mut words);
        }
        transpose(&mut words);
        for n in 0..ROWS {
            out[n * width + step - n..][..STEPS].copy_from_slice(&words[n].to_le_bytes());
        }
    }

    /// Computes a step in which some rows may have no pixel. These keep their neighbours.
    fn edge(&mut self, step: usize, above: &[u8], values: [&[u8]; ROWS], out: &mut [u8]) {
        let width = above.len();
        let there = |n: usize| step.checked_sub(n).filter(|&at| at < width);
        let value = |n: usize| there(n).map_or(0, |at| values[n][at]);
        let before = (self.left, self.corner);
        let pixels = self.step(
            above.get(step).copied().unwrap_or(0),
            std::array::from_fn(value),
        );
        for n in 0..ROWS {
            if let Some(at) = there(n) {
                out[n * width + at] = pixels[n];
            } else {
                (self.left[n], self.corner[n]) = (before.0[n], before.1[n]);
            }
        }
    }
}

/// Transposes 8x8 bytes: swaps blocks of 4x4, then of 2x2 within these, then single bytes.
fn transpose(words: &mut [u64; 8]) {
    const MASKS: [(usize, u64); 3] = [
        (4, 0x0000_0000_FFFF_FFFF),
        (2, 0x0000_FFFF_0000_FFFF),
        (1, 0x00FF_00FF_00FF_00FF),
    ];
    for (apart, mask) in MASKS {
        let shift = 8 * apart;
        for low in (0..8).filter(|at| at & apart == 0) {
            let (a, b) = (words[low], words[low + apart]);
            words[low] = a & mask | (b & mask) << shift;
            words[low + apart] = (a >> shift) & mask | b & !mask;
        }
    }
}

/// Returns the one of left, up and corner that is nearest to left + up - corner, without branches.
#[inline]
fn paeth(left: i16, up: i16, corner: i16) -> i16 {
    let threshold = 3 * corner - (left + up);
    let (low, high) = (left.min(up), left.max(up));
    let nearest = if high <= threshold { low } else { corner };
    if threshold <= low { high } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the filters that `kind` says for each row, by the specification's own words.
    fn filter(pixels: &[u8], width: usize, kind: impl Fn(usize) -> u8) -> Vec<u8> {
        let at = |x: usize, y: usize, left: usize, up: usize| match (
            x.checked_sub(left),
            y.checked_sub(up),
        ) {
            (Some(x), Some(y)) => i32::from(pixels[y * width + x]),
            _ => 0,
        };
        let mut filtered = Vec::new();
        for y in 0..pixels.len() / width {
            filtered.push(kind(y));
            for x in 0..width {
                let (a, b, c) = (at(x, y, 1, 0), at(x, y, 0, 1), at(x, y, 1, 1));
                let p = a + b - c;
                let nearest = [a, b, c].into_iter().min_by_key(|near| (p - near).abs());
                let guess = match kind(y) {
                    0 => 0,
                    1 => a,
                    2 => b,
                    3 => i32::midpoint(a, b),
                    _ => nearest.unwrap_or(0),
                };
                filtered.push((i32::from(pixels[y * width + x]) - guess) as u8);
            }
        }
        filtered
    }

    #[test]
    fn unfilters_what_was_filtered() {
        for (width, height) in [
            (1, 1),
            (1, 19),
            (7, 19),
            (8, 19),
            (9, 16),
            (15, 8),
            (16, 8),
            (64, 31),
            (200, 4),
        ] {
            let mut seed = 7u32;
            let pixels: Vec<u8> = (0..width * height)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            let kinds: [&dyn Fn(usize) -> u8; 4] = [
                &|y| (y % 5) as u8,
                &|_| 4,
                &|y| if y % 12 == 11 { 1 } else { 4 },
                &|y| (y / 2 % 5) as u8,
            ];
            for kind in kinds {
                let mut out = vec![0; pixels.len()];
                unfilter(&filter(&pixels, width, kind), width, &mut out).unwrap();
                assert_eq!(out, pixels, "{width} x {height}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vectors_are_the_plain_steps() {
        let mut seed = 3u64;
        let mut draw = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.rotate_left(32)
        };
        let (mut plain, mut vector) = (Wave::default(), Wave::default());
        for _ in 0..1000 {
            let above = draw().to_le_bytes();
            let mut words: [u64; STEPS] = std::array::from_fn(|_| draw());
            let mut same = words;
            plain.run(above, &mut words);
            // SAFETY: the feature is part of the architecture.
            #[expect(unsafe_code, reason = "the compiler asks for it all the same")]
            unsafe {
                vector.run_sse2(above, &mut same);
            }
            assert_eq!(words, same);
        }
    }

    #[test]
    fn transposes() {
        let mut words = std::array::from_fn(|row| {
            u64::from_le_bytes(std::array::from_fn(|at| (8 * row + at) as u8))
        });
        transpose(&mut words);
        for (row, word) in words.iter().enumerate() {
            assert_eq!(
                word.to_le_bytes(),
                std::array::from_fn(|at| (8 * at + row) as u8)
            );
        }
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        assert!(unfilter(&[5, 1, 2], 2, &mut [0; 2]).is_none());
    }
}
