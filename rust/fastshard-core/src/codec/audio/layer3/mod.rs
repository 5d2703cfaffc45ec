//! A decoder for MPEG layer III, called MP3: ISO/IEC 11172-3 (MPEG 1), ISO/IEC 13818-3 (MPEG 2), and MPEG 2.5, which
//! adds lower sampling rates. Frames in, samples out.
//!
//! # Stages
//!
//! A frame holds two granules, or one in MPEG 2 and 2.5. A granule is 576 spectral lines of each channel, and becomes
//! 576 samples: 18 of each of 32 subbands.
//!
//! | Module | Work |
//! |---|---|
//! | `head`, `side` | read the header and the side information of a frame |
//! | `scale` | reads scale factors, and multiplies lines by them |
//! | `huffman`, `codes` | read lines, raised to 4/3 |
//! | `stereo` | computes left and right from what a stereo frame stores |
//! | `hybrid` | undoes aliases between subbands, and transforms lines to samples of subbands |
//! | `synthesis` | joins 32 subbands to one signal |
//!
//! # The mean of two channels
//!
//! All stages behind `stereo` are linear, so that the mean of two channels can be taken early, and work is saved:
//!
//! 1. Of a middle and a side, the mean of left and right is the middle divided by the square root of 2. The side isn't
//!    even read. This needs a frame in middle and side without intensity stereo, whose two channels have the same
//!    transforms.
//! 2. Where both channels of a granule have the same transforms, their lines are added, and transformed once.
//! 3. Otherwise samples of subbands are added, and joined once.
//!
//! The factor of the mean costs nothing: it is taken from the gain, which counts in quarters of an octave. A half is
//! [`HALVED`], and the middle's factor is [`MIDDLE`].
//!
//! # Exactness
//!
//! Bits are read as the standard says. Arithmetic is in single precision, so that samples differ from those of other
//! decoders in their last bits. Tests compare random frames with symphonia's samples.
//!
//! The vector code is plain loops over eight lanes, compiled a second time for AVX2. It has no fused multiply-add and
//! the same order of operations, so that both copies compute the same bits.
//!
//! # Cost
//!
//! A [`Decoder`] takes about 63 KiB, whatever the length of the file. All decoders share the tables of `huffman`, about
//! 80 KiB, and some KiB of others. The stages' own files count their operations.

#![expect(
    clippy::inline_always,
    reason = "what isn't inlined into the copy for AVX2 is compiled without it"
)]

mod bands;
mod bits;
mod codes;
mod head;
mod huffman;
mod hybrid;
mod lanes;
mod scale;
mod side;
mod stereo;
mod synthesis;
#[cfg(test)]
mod tests;

use bands::Bands;
use bits::Bits;
pub(super) use head::{HEADER, Head};
use hybrid::{LENGTH, SUBBANDS, Samples};
use scale::Factors;
use side::{Block, Side};
use synthesis::{Bank, MOST, Rows, SILENCE};

/// Bytes of data that can be held: the longest frame of 1,441 and the 511 that earlier frames may leave, rounded up.
const CAPACITY: usize = 2048;
/// What the mean of two channels takes from the gain of each, in quarters of an octave: a factor of 1/2.
const HALVED: i32 = 4;
/// What the mean of left and right takes from the gain of their middle, in quarters of an octave: a factor of
/// 1/sqrt(2).
const MIDDLE: i32 = 2;

type Result<T> = std::result::Result<T, &'static str>;

/// What a granule leaves for the next one, of one channel.
#[derive(Default)]
struct Channel {
    overlap: Samples,
    bank: Bank,
}

/// Decodes the frames of one file, to all channels or to their mean.
pub(super) struct Decoder {
    mono: bool,
    /// The bit reservoir: data of granules, in part from earlier frames. Eight bytes behind it can be loaded too.
    data: Box<[u8; CAPACITY + 8]>,
    /// Bytes of `data` that are filled.
    filled: usize,
    /// Bytes of `data` that granules have used up.
    used: usize,
    factors: [Factors; 2],
    lines: [[f32; 576]; 2],
    channels: Box<[Channel; 2]>,
    /// Samples that a granule adds to itself and to the next one. The second pair is for the second channel, where
    /// channels are added.
    halves: Box<[[Samples; 2]; 2]>,
    rows: Box<[Rows; 2]>,
    planes: Box<[[f32; MOST * SUBBANDS]; 2]>,
}

impl Decoder {
    pub(super) fn new(mono: bool) -> Self {
        Self {
            mono,
            data: Box::new([0; CAPACITY + 8]),
            filled: 0,
            used: 0,
            factors: [[0; 40]; 2],
            lines: [[0.0; 576]; 2],
            channels: Box::default(),
            halves: Box::default(),
            rows: Box::new([SILENCE; 2]),
            planes: Box::new([[0.0; MOST * SUBBANDS]; 2]),
        }
    }

    /// The samples of a channel of the last frame. A mean is channel 0.
    pub(super) fn plane(&self, channel: usize, head: &Head) -> &[f32] {
        &self.planes[channel][..head.granules() * LENGTH * SUBBANDS]
    }

    /// Decodes a frame. Granules whose data begin in frames that were neither decoded nor skipped are silent.
    pub(super) fn decode(&mut self, head: &Head, frame: &[u8]) -> Result<()> {
        let side = Side::read(head, frame);
        let decoded = side.and_then(|side| {
            let missing = self.fill(&frame[head.data()..], side.reservoir)?;
            self.widest(head, &side, 8 * missing)
        });
        if decoded.is_err() {
            (self.filled, self.used) = (0, 0);
        }
        decoded
    }

    /// Keeps the data of a frame that isn't decoded, since later frames may use the end of it.
    pub(super) fn skip(&mut self, head: &Head, frame: &[u8]) {
        let side = Side::read(head, frame);
        let filled =
            side.and_then(|side| Ok((side, self.fill(&frame[head.data()..], side.reservoir)?)));
        (self.filled, self.used) = match filled {
            Ok((side, missing)) => {
                let parts = side.parts[..head.granules()].iter().flatten();
                let bits: usize = parts.map(|part| part.length).sum();
                let used = bits.div_ceil(8).saturating_sub(missing);
                (self.filled, used.min(self.filled))
            }
            Err(_) => (0, 0),
        };
    }

    /// [`Self::granules`], compiled for AVX2 where the processor has it.
    fn widest(&mut self, head: &Head, side: &Side, missing: usize) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        if crate::cpu::has_avx2_and_bmi() {
            #[expect(unsafe_code, reason = "vector code where the processor has it")]
            // SAFETY: the processor has all three, as was just found.
            return unsafe { self.granules_avx2(head, side, missing) };
        }
        self.granules(head, side, missing)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn granules_avx2(&mut self, head: &Head, side: &Side, missing: usize) -> Result<()> {
        self.granules(head, side, missing)
    }

    /// Puts a frame's data behind the last `reservoir` bytes of the data before. Returns how many of those are missing.
    fn fill(&mut self, data: &[u8], reservoir: usize) -> Result<usize> {
        let left = (self.filled - self.used).min(reservoir);
        if left + data.len() > CAPACITY {
            return Err("a frame of too many bytes");
        }
        self.data.copy_within(self.filled - left..self.filled, 0);
        self.data[left..left + data.len()].copy_from_slice(data);
        (self.filled, self.used) = (left + data.len(), 0);
        Ok(reservoir - left)
    }

    /// Channels of the output.
    fn outputs(&self, head: &Head) -> usize {
        if self.mono {
            1
        } else {
            usize::from(head.channels)
        }
    }

    /// Decodes the granules of a frame. `missing`: bits of its data that were in frames not read.
    #[inline(always)]
    fn granules(&mut self, head: &Head, side: &Side, missing: usize) -> Result<()> {
        let middle = self.mono
            && head.middle
            && !head.intensity
            && (side.parts[..head.granules()].iter()).all(|[one, other]| one.alike(other));
        let (mut at, mut skipped) = (0, 0);
        self.factors = [[0; 40]; 2];
        for granule in 0..head.granules() {
            let parts = &side.parts[granule][..usize::from(head.channels)];
            let length: usize = parts.iter().map(|part| part.length).sum();
            let mut ends = [0; 2];
            if skipped < missing {
                // The granule starts in data that are missing.
                skipped += length;
                at = skipped.saturating_sub(missing);
                self.lines = [[0.0; 576]; 2];
            } else {
                if at + length > 8 * self.filled {
                    return Err("a granule ends behind its frame");
                }
                let read = if middle { 1 } else { parts.len() };
                let mut start = at;
                for channel in 0..read {
                    ends[channel] = self.read(head, side, (granule, channel), start, middle)?;
                    start += parts[channel].length;
                }
                at += length;
            }
            self.transform(head, side, granule, ends, middle);
        }
        self.used = at.div_ceil(8).min(self.filled);
        for channel in 0..self.outputs(head) {
            let bank = &mut self.channels[channel].bank;
            bank.run(
                &self.rows[channel],
                head.granules() * LENGTH,
                &mut self.planes[channel],
            );
        }
        Ok(())
    }

    /// Reads the lines of a channel of a granule. Returns the number of the first line from which on all are zero.
    #[inline(always)]
    fn read(
        &mut self,
        head: &Head,
        side: &Side,
        (granule, channel): (usize, usize),
        start: usize,
        middle: bool,
    ) -> Result<usize> {
        let part = &side.parts[granule][channel];
        let limit = start + part.length;
        let mut bits = Bits::new(&self.data, start);
        let factors = &mut self.factors[channel];
        if head.first {
            let shared = side.shared[channel].map(|shared| shared && granule > 0);
            scale::read_first(&mut bits, part, shared, factors);
        } else {
            scale::read_second(&mut bits, part, channel > 0 && head.intensity, factors);
        }
        if bits.at > limit {
            return Err("a granule of fewer bits than its scale factors");
        }
        let lines = &mut self.lines[channel];
        let end = huffman::lines(&mut bits, &part.regions, part.quads, limit, lines);
        let bands = Bands::new(head.rate, part.block.is_short(), part.block == Block::Mixed);
        let quieter = match (middle, self.mono && head.channels == 2) {
            (true, _) => MIDDLE,
            (false, true) => HALVED,
            (false, false) => 0,
        };
        scale::apply(lines, end, part, &bands, factors, quieter);
        Ok(end)
    }

    /// Transforms a granule's lines to samples of subbands. `ends`: by channel, the line from which on all are zero.
    #[inline(always)]
    fn transform(
        &mut self,
        head: &Head,
        side: &Side,
        granule: usize,
        mut ends: [usize; 2],
        middle: bool,
    ) {
        let parts = &side.parts[granule];
        let both = head.channels == 2 && !middle;
        if both {
            self.join(head, side, granule, &mut ends);
        }
        let add = both && self.mono;
        let alike = parts[0].alike(&parts[1]);
        let mut read = if both { 2 } else { 1 };
        if add && alike {
            let [left, right] = &mut self.lines;
            left.iter_mut()
                .zip(right)
                .for_each(|(left, right)| *left += *right);
            ends[0] = ends[0].max(ends[1]);
            read = 1;
        }
        let [[now, later], [more, more_later]] = &mut *self.halves;
        for channel in 0..read {
            let side::Part { block, mixed, .. } = parts[channel];
            let lines = &mut self.lines[channel];
            if block.is_short() {
                let bands = Bands::new(head.rate, true, block == Block::Mixed);
                hybrid::order(&bands, lines);
                ends[channel] = if ends[channel] > 0 { 576 } else { 0 };
            }
            let used = hybrid::leaks(block, lines, ends[channel]);
            if add && channel > 0 {
                hybrid::transform(block, mixed, lines, used, more, more_later);
                sum(now, more);
                sum(later, more_later);
            } else {
                hybrid::transform(block, mixed, lines, used, now, later);
            }
            if !add || channel + 1 == read {
                let channel = if add { 0 } else { channel };
                let overlap = &mut self.channels[channel].overlap;
                sum(now, overlap);
                *overlap = *later;
                turn(now, granule * LENGTH, &mut self.rows[channel]);
            }
        }
    }

    /// Computes left and right of a granule that stores a middle and a side, or intensity stereo.
    #[inline(always)]
    fn join(&mut self, head: &Head, side: &Side, granule: usize, ends: &mut [usize; 2]) {
        let [left, right] = &mut self.lines;
        let end = ends[0].max(ends[1]);
        let part = &side.parts[granule][1];
        let alike = side.parts[granule][0].block == part.block;
        if head.intensity && alike {
            let bands = Bands::new(head.rate, part.block.is_short(), part.block == Block::Mixed);
            let intensity = stereo::Intensity {
                first: head.first,
                coarse: part.compress & 1 == 1,
                middle: head.middle,
                factors: &self.factors[1],
            };
            intensity.apply(&bands, left, right);
            *ends = [end; 2];
        } else if head.middle {
            stereo::middle(&mut left[..end], &mut right[..end]);
            *ends = [end; 2];
        }
    }
}

/// Adds samples to others.
#[inline(always)]
fn sum(to: &mut Samples, more: &Samples) {
    let pairs = to.as_flattened_mut().iter_mut().zip(more.as_flattened());
    pairs.for_each(|(to, more)| *to += more);
}

/// Transposes samples to one row a subband. Odd samples of odd subbands are negated, as the filter bank needs
/// (frequency inversion).
#[inline(always)]
fn turn(samples: &Samples, start: usize, rows: &mut Rows) {
    for (subband, row) in rows.iter_mut().enumerate() {
        let sign = if subband % 2 == 0 { 1.0 } else { -1.0 };
        let Some(row) = row[start..].first_chunk_mut::<LENGTH>() else {
            continue;
        };
        for (at, out) in row.iter_mut().enumerate() {
            *out = samples[at][subband] * if at % 2 == 0 { 1.0 } else { sign };
        }
    }
}
