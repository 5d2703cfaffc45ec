//! MP3 files: the places of their MPEG frames, and decoding from any of these on.
//!
//! "Frame" has two meanings here. An MPEG frame is 576 or 1,152 samples a channel, with a header. In ranges and counts
//! of the crate, a frame is one sample of each channel.
//!
//! # Finding frames
//!
//! The length of an MPEG frame follows from its header, so that a walk over a file reads four bytes a frame. Places
//! take eight bytes a frame in memory. Bytes that are no frame are skipped up to the next two headers in a row that
//! match.
//!
//! # Starting in the middle
//!
//! A window must have the samples that it has when the whole file is decoded. What a granule leaves for later ones has
//! three parts:
//!
//! - Transforms overlap by one granule.
//! - The filter bank remembers 15 samples of each subband, which are fewer than the 18 of a granule. These samples
//!   again need the granule before theirs.
//! - A frame's data may begin in earlier frames (the bit reservoir). Each frame says how many bytes before.
//!
//! So two granules in front of the window are decoded: one MPEG frame, or two of MPEG 2. Frames before these only hand
//! over their data, as many as the first decoded one needs. [`Mpeg::before`] finds both places.
//!
//! # Silence at the ends
//!
//! Encoders put silence in front of the first sample, and fill up the last MPEG frame. A tag of LAME or libav in the
//! first frame gives both lengths. The delay and the 529 samples that every decoder adds are dropped, and so is the
//! filling, as mpg123 does. Without such a tag, all samples are kept.

use super::format::{AudioFormat, AudioHeader};
use super::layer3::{Decoder, HEADER, Head};
use super::waves::Taker;
use crate::error::{Error, Result};

/// Granules before an MPEG frame that have to be decoded for it.
const BEFORE: usize = 2;
/// Samples a channel that every decoder adds at the start.
const DECODER_DELAY: u64 = 529;
/// Bytes that are searched for the first frame.
const MAX_JUNK: usize = 1 << 20;

/// The file without its leading `ID3v2` tags; a file may have none, one or several.
pub(super) fn behind_id3(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = behind_one_id3(bytes) {
        bytes = rest;
    }
    bytes
}

fn behind_one_id3(bytes: &[u8]) -> Option<&[u8]> {
    let [b'I', b'D', b'3', _, _, flags, size @ ..] = bytes else {
        return None;
    };
    let size = size.first_chunk::<4>()?;
    let length = size
        .iter()
        .fold(0usize, |sum, byte| sum << 7 | usize::from(byte & 0x7F));
    let footer = if flags & 0x10 == 0 { 0 } else { 10 };
    Some(bytes.get(10 + length + footer..).unwrap_or_default())
}

/// The header of a frame at this place, if a frame like it or the end of the file follows.
fn starts(bytes: &[u8], at: usize) -> Option<Head> {
    let head = Head::of(bytes.get(at..)?)?;
    let rest = bytes.get(at + head.length..)?;
    let follows = rest.is_empty() || Head::of(rest).is_some_and(|next| next.is_like(&head));
    follows.then_some(head)
}

/// Whether a file begins like an MP3: with a frame, or with a tag and then a frame somewhere behind.
pub(super) fn begins(file: &[u8]) -> bool {
    let body = behind_id3(file);
    starts(body, 0).is_some() || (body.len() < file.len() && first(body).is_some())
}

/// The tag in the first frame: how many MPEG frames there are, and how many samples to drop at either end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tag {
    /// MPEG frames in the file, without the tag's own.
    count: Option<u64>,
    /// Samples a channel to drop at the start, the decoder's own delay included.
    delay: u64,
    /// Samples a channel to drop at the end.
    padding: u64,
}

impl Tag {
    /// Reads a tag of the encoders of Xing, LAME or Fraunhofer. `None` if the frame holds no tag but samples.
    fn of(head: &Head, frame: &[u8]) -> Option<Self> {
        if frame.get(HEADER + 32..HEADER + 36) == Some(b"VBRI") {
            let count = frame.get(HEADER + 46..)?.first_chunk()?;
            return Some(Self {
                count: Some(u64::from(u32::from_be_bytes(*count))),
                ..Self::default()
            });
        }
        let mut rest = frame.get(HEADER + head.side_info()..)?;
        let mut take = |count: usize| rest.split_off(..count);
        if !matches!(take(4)?, b"Xing" | b"Info") {
            return None;
        }
        let flags = u32::from_be_bytes(*take(4)?.first_chunk()?);
        let count = if flags & 1 == 0 {
            None
        } else {
            Some(u64::from(u32::from_be_bytes(*take(4)?.first_chunk()?)))
        };
        for (flag, length) in [(2, 4), (4, 100), (8, 4)] {
            if flags & flag != 0 {
                take(length)?;
            }
        }
        let mut tag = Self {
            count,
            ..Self::default()
        };
        if let Some(lame) = take(24)
            && matches!(&lame[..4], b"LAME" | b"Lavf" | b"Lavc")
        {
            let [a, b, c] = [lame[21], lame[22], lame[23]].map(u64::from);
            tag.delay = DECODER_DELAY + (a << 4 | b >> 4);
            tag.padding = ((b & 15) << 8 | c).saturating_sub(DECODER_DELAY);
        }
        Some(tag)
    }
}

pub(super) struct Mpeg<'a> {
    bytes: &'a [u8],
    head: Head,
    /// The place of each MPEG frame.
    starts: Vec<usize>,
    /// Samples a channel to drop at the start.
    delay: u64,
    /// Samples a channel, without what is dropped at either end.
    frames: u64,
}

impl<'a> Mpeg<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let (mut at, head) = first(bytes).ok_or_else(|| {
            Error::decode("no MPEG layer III frames behind the tags at its start")
        })?;
        let tag = Tag::of(&head, &bytes[at..at + head.length]);
        if tag.is_some() {
            at += head.length;
        }
        let (starts, cut) = walk(bytes, at, &head);
        let tag = tag.unwrap_or_default();
        let found = starts.len() as u64;
        // Some encoders count the tag's own frame too.
        let most = if cut { found } else { found + 1 };
        if let Some(count) = tag.count.filter(|&count| count > most) {
            return Err(Error::decode(format!(
                "truncated: holds {found} of {count} MPEG frames"
            )));
        }
        let all = found * head.frames();
        let end = (tag.count.unwrap_or(found) * head.frames()).saturating_sub(tag.padding);
        Ok(Self {
            bytes,
            head,
            starts,
            delay: tag.delay,
            frames: all.min(end).saturating_sub(tag.delay),
        })
    }

    pub(super) fn header(&self) -> AudioHeader {
        AudioHeader {
            format: AudioFormat::Mp3,
            sample_rate: self.head.sample_rate,
            channels: self.head.channels,
            frames: self.frames,
        }
    }

    fn frame(&self, at: usize) -> (Head, &'a [u8]) {
        let rest = &self.bytes[self.starts[at]..];
        let head = Head::of(rest).unwrap_or(self.head);
        (head, &rest[..head.length.min(rest.len())])
    }

    /// Two MPEG frames to start at, so that this one has the samples that it has in the whole file: the first one to
    /// decode, and the one where its data begin.
    fn before(&self, frame: usize) -> (usize, usize) {
        let decoded = frame.saturating_sub(BEFORE / self.head.granules());
        let mut first = decoded;
        let (head, bytes) = self.frame(first);
        let mut missing = head.reservoir(bytes);
        while missing > 0 && first > 0 {
            first -= 1;
            let (head, bytes) = self.frame(first);
            missing = missing.saturating_sub(bytes.len().saturating_sub(head.data()));
        }
        (decoded, first)
    }

    pub(super) fn read(&mut self, mono: bool, taker: &mut Taker<'_>) -> Result<()> {
        let mut decoder = Decoder::new(mono);
        if mono {
            taker.channels = 1;
        }
        let length = self.head.frames();
        let wanted = ((taker.next + self.delay) / length) as usize;
        let (decoded, first) = self.before(wanted);
        for at in first..self.starts.len() {
            if taker.is_done() {
                break;
            }
            let (head, bytes) = self.frame(at);
            if at < decoded {
                decoder.skip(&head, bytes);
                continue;
            }
            match decoder.decode(&head, bytes) {
                Ok(()) if at >= wanted => {
                    let first = (at as u64 * length) as i64 - self.delay as i64;
                    let planes = [0, 1].map(|channel| decoder.plane(channel, &head));
                    taker.take(first, &planes[..taker.channels])?;
                }
                // Frames before the range are decoded for what they leave to later ones, and may be damaged.
                Err(error) if at >= wanted => return Err(Error::decode(format!("mp3: {error}"))),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The place and the header of the first frame.
fn first(bytes: &[u8]) -> Option<(usize, Head)> {
    let mut found = memchr::memchr_iter(0xFF, &bytes[..bytes.len().min(MAX_JUNK)]);
    found.find_map(|at| Some((at, starts(bytes, at)?)))
}

/// The places of all frames like `like`, from `at` on, and whether the last frame is cut off. Other bytes are skipped,
/// as players do.
fn walk(bytes: &[u8], mut at: usize, like: &Head) -> (Vec<usize>, bool) {
    let mut starts_at = Vec::with_capacity((bytes.len() - at) / like.length + 1);
    while at < bytes.len() {
        match Head::of(&bytes[at..]) {
            Some(head) if head.is_like(like) => {
                if at + head.length > bytes.len() {
                    return (starts_at, true);
                }
                starts_at.push(at);
                at += head.length;
            }
            _ => {
                let next = memchr::memchr_iter(0xFF, &bytes[at + 1..]).map(|found| at + 1 + found);
                let good = |&at: &usize| starts(bytes, at).is_some_and(|head| head.is_like(like));
                at = next.into_iter().find(good).unwrap_or(bytes.len());
            }
        }
    }
    (starts_at, false)
}
