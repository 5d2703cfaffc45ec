//! MPEG layer III (ISO/IEC 11172-3, 13818-3, and what was added for lower rates): frames in, samples out.
//!
//! For the mean of both channels, most of what a stereo file holds isn't decoded. Of a middle and a side the mean is the
//! middle: the side's codes are passed over. Else lines are added up before they are transformed, where both channels are
//! transformed alike, and subbands before they are joined; all that follows is linear.
//!
//! Subbands are transformed eight at a time, and joined for eight samples of time at a time; all loops are compiled a
//! second time for AVX2, and give the same.

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

/// The longest frame's data and what those before it may leave, rounded up.
const CAPACITY: usize = 2048;
/// What a mean takes from a gain: half of it, in quarters of an octave.
const HALVED: i32 = 4;
/// What the mean of left and right takes from a middle's gain.
const MIDDLE: i32 = 2;

type Result<T> = std::result::Result<T, &'static str>;

/// What frames leave for the ones after them, of one channel.
#[derive(Default)]
struct Channel {
    overlap: Samples,
    bank: Bank,
}

/// A decoder of one file's frames, to all channels or to their mean.
pub(super) struct Decoder {
    mono: bool,
    /// Data of granules.
    data: Box<[u8; CAPACITY + 8]>,
    filled: usize,
    used: usize,
    factors: [Factors; 2],
    lines: [[f32; 576]; 2],
    channels: Box<[Channel; 2]>,
    /// What a granule adds to itself and to the next one; of its second channel too, where they are added up.
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

    /// A channel of the last frame; of a mean there is one.
    pub(super) fn plane(&self, channel: usize, head: &Head) -> &[f32] {
        &self.planes[channel][..head.granules() * LENGTH * SUBBANDS]
    }

    /// Decodes a frame. What granules before it have left in frames that weren't decoded is silence.
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

    /// Passes over a frame of which only the end of its data may be needed.
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
            #[expect(unsafe_code, reason = "two and a half times faster: benches/audio.py")]
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

    /// Puts a frame's data behind so many bytes of what is left; tells how many of them are missing.
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

    /// Channels that are transformed.
    fn outputs(&self, head: &Head) -> usize {
        if self.mono {
            1
        } else {
            usize::from(head.channels)
        }
    }

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
                // Its start is missing.
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

    /// Reads a channel of a granule; tells behind which line all are zero.
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

    /// From a granule's lines to samples of subbands.
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

    /// From what a stereo frame stores to left and right.
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

#[inline(always)]
fn sum(to: &mut Samples, more: &Samples) {
    let pairs = to.as_flattened_mut().iter_mut().zip(more.as_flattened());
    pairs.for_each(|(to, more)| *to += more);
}

/// Samples to rows of each subband. Every other one of every other subband is upside down.
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
