//! Ogg Vorbis files: their pages (RFC 3533), and decoding from any of these on.
//!
//! # Pages and packets
//!
//! A Vorbis packet is a block of sound. Ogg packs packets into pages. The lacing of a page, up to 255 bytes, gives
//! lengths: values of 255 are added to the next one, and a smaller value ends a packet. A packet may go on on the next
//! page. Each page gives the number of frames (samples a channel) up to the end of the last packet that ends on it.
//!
//! # Starting in the middle
//!
//! The second half of a packet overlaps with the first half of the next one. So a packet gives the samples that it
//! gives in the whole file if the packet before it was decoded too. [`Ogg::before`] finds the last page that ends
//! before the range. Decoding starts with the last packet of that page, which gives no samples by itself. The place of
//! what follows is known: the page's own count.
//!
//! A range before the end of the first page has no such page. Then decoding starts at the first packet, and its samples
//! are kept until the first page ends and tells their place. If that page counts fewer frames than were decoded, the
//! samples before frame 0 are dropped.
//!
//! # Checks
//!
//! A walk over the page headers finds missing pages and a missing end. Checksums are compared when a page is used. The
//! count of each page but the last must agree with the samples that were decoded. The last page may count less, which
//! cuts the end.
//!
//! # Kept decoders
//!
//! A decoder is built from a file's setup header, which holds hundreds of Huffman codes. An encoder writes the same
//! header into all files of one quality. So a thread keeps its latest decoders, and takes one whose headers are equal.

use std::ops::Range;

use symphonia::core::audio::{Audio, GenericAudioBufferRef};
use symphonia::core::codecs::audio::well_known::CODEC_ID_VORBIS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::VorbisDecoder;

use super::format::{AudioFormat, AudioHeader};
use super::waves::Taker;
use crate::error::{Error, Result};

/// Bytes of a page's header in front of its lacing.
const HEAD: usize = 27;
/// The most bytes of a header packet: far more than codebooks take.
const MAX_HEADER: usize = 1 << 24;

fn bad(what: impl std::fmt::Display) -> Error {
    Error::decode(format!("ogg: {what}"))
}

#[derive(Clone, Debug)]
struct Page {
    /// The place of the page in the file, header included.
    place: Range<usize>,
    /// The place of its lacing: the lengths into which its content is cut.
    lacing: Range<usize>,
    /// Whether its first packet began on an earlier page.
    continued: bool,
    /// Whether it is the first page of a stream.
    first: bool,
    /// Whether it is the last page of a stream.
    last: bool,
    /// The number of frames up to the end of the last packet that ends on the page; negative where none ends (the
    /// granule position).
    end: i64,
    serial: u32,
    number: u32,
}

impl Page {
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let head = bytes.get(start..)?.first_chunk::<HEAD>()?;
        let [b'O', b'g', b'g', b'S', 0, flags, ..] = *head else {
            return None;
        };
        let number = |at: usize| {
            let four = head[at..].first_chunk::<4>()?;
            Some(u32::from_le_bytes(*four))
        };
        let lacing = start + HEAD..start + HEAD + usize::from(head[HEAD - 1]);
        let content: usize = bytes
            .get(lacing.clone())?
            .iter()
            .map(|&n| usize::from(n))
            .sum();
        let place = start..lacing.end + content;
        bytes.get(place.clone())?;
        Some(Self {
            place,
            continued: flags & 1 != 0,
            first: flags & 2 != 0,
            last: flags & 4 != 0,
            end: i64::from_le_bytes(*head[6..].first_chunk()?),
            serial: number(14)?,
            number: number(18)?,
            lacing,
        })
    }

    /// How many packets end on the page.
    fn packets_that_end(&self, bytes: &[u8]) -> usize {
        let lacing = &bytes[self.lacing.clone()];
        lacing.iter().filter(|&&length| length < 255).count()
    }

    /// Compares the page with its checksum, which counts as zero itself.
    fn check(&self, bytes: &[u8]) -> Result<()> {
        let page = &bytes[self.place.clone()];
        let stored = page[22..]
            .first_chunk()
            .map(|four| u32::from_le_bytes(*four));
        let crc = crc(crc(crc(0, &page[..22]), &[0; 4]), &page[26..]);
        if stored == Some(crc) {
            return Ok(());
        }
        Err(bad(format!(
            "page {} is damaged: its checksum doesn't match",
            self.number
        )))
    }
}

/// Adds bytes to the checksum of RFC 3533: CRC-32 with the polynomial 0x04C11DB7, neither reflected nor inverted. A
/// table of 256 numbers, 1 KiB, takes a byte at a time.
fn crc(start: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut value = (at as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                let carry = value >> 31;
                value = (value << 1) ^ (carry * 0x04C1_1DB7);
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    bytes.iter().fold(start, |crc, &byte| {
        (crc << 8) ^ TABLE[(crc >> 24) as usize ^ usize::from(byte)]
    })
}

pub(super) struct Ogg<'a> {
    bytes: &'a [u8],
    /// The pages of the Vorbis stream, behind its headers.
    pages: Vec<Page>,
    parameters: AudioCodecParameters,
    header: AudioHeader,
}

impl<'a> Ogg<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut pages = walk(bytes)?;
        let (headers, used) = headers(bytes, &pages)?;
        pages.drain(..used);
        let [identification, setup] = &headers;
        let (sample_rate, channels) = identified(identification)?;
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_VORBIS).with_extra_data(
            [&identification[..], &setup[..]]
                .concat()
                .into_boxed_slice(),
        );
        let frames = pages.iter().map(|page| page.end).rfind(|&end| end >= 0);
        Ok(Self {
            bytes,
            pages,
            parameters,
            header: AudioHeader {
                format: AudioFormat::Ogg,
                sample_rate,
                channels,
                frames: frames.unwrap_or(0) as u64,
            },
        })
    }

    pub(super) fn header(&self) -> AudioHeader {
        self.header
    }

    /// The page on which decoding has to start for a frame, and the last page that ends no later than at this frame.
    /// The last packet of the second begins on the first. `None` if no page ends that early.
    fn before(&self, frame: u64) -> Option<(usize, usize)> {
        let ends = |page: &Page| page.end >= 0 && page.end as u64 <= frame;
        let known = self.pages.iter().rposition(ends)?;
        let mut first = known;
        let mut missing = self.pages[first].packets_that_end(self.bytes) < 2;
        while missing && self.pages[first].continued {
            first = first.checked_sub(1)?;
            missing = self.pages[first].packets_that_end(self.bytes) == 0;
        }
        Some((first, known))
    }

    pub(super) fn read(&mut self, taker: &mut Taker<'_>) -> Result<()> {
        let start = self.before(taker.next);
        let (first, known) = start.map_or((0, None), |(first, known)| (first, Some(known)));
        let mut reading = Reading::new(&self.parameters, taker)?;
        let mut begun = None;
        for (number, page) in self.pages.iter().enumerate().skip(first) {
            page.check(self.bytes)?;
            let wanted = known.is_none_or(|known| number > known);
            each_packet(self.bytes, page, &mut begun, |packet| {
                reading.packet(packet, wanted)
            })?;
            if reading.taker.is_done() {
                break;
            }
            if wanted {
                reading.page_ends(page)?;
            } else if known == Some(number) {
                reading.next = Some(page.end);
            }
        }
        reading.end();
        Ok(())
    }
}

/// A range that is being decoded.
struct Reading<'t, 'o> {
    decoder: VorbisDecoder,
    /// Whether the decoder met a packet that it couldn't decode.
    stumbled: bool,
    taker: &'t mut Taker<'o>,
    /// The number of the next frame to be decoded, once a page has told it.
    next: Option<i64>,
    /// By channel, the samples that were decoded before that.
    early: Vec<Vec<f32>>,
}

impl<'t, 'o> Reading<'t, 'o> {
    fn new(parameters: &AudioCodecParameters, taker: &'t mut Taker<'o>) -> Result<Self> {
        Ok(Self {
            decoder: taker.out.decoders.take(parameters)?,
            stumbled: false,
            taker,
            next: None,
            early: Vec::new(),
        })
    }

    /// Keeps the decoder, unless a damaged packet may have left something in it.
    fn end(self) {
        if !self.stumbled {
            self.taker.out.decoders.keep(self.decoder);
        }
    }

    /// Decodes a packet, and takes its samples if they are `wanted`. Other packets are decoded for what they leave to
    /// the next.
    fn packet(&mut self, packet: &[u8], wanted: bool) -> Result<()> {
        if self.taker.is_done() {
            return Ok(());
        }
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let planes: Vec<&[f32]> = match self.decoder.decode_ref(&packet) {
            Ok(GenericAudioBufferRef::F32(decoded)) if wanted => decoded.iter_planes().collect(),
            Err(error) if wanted => return Err(bad(error)),
            result => {
                self.stumbled |= result.is_err();
                return Ok(());
            }
        };
        if let Some(next) = &mut self.next {
            self.taker.take(*next, &planes)?;
            *next += planes[0].len() as i64;
        } else {
            self.early.resize(planes.len(), Vec::new());
            let both = self.early.iter_mut().zip(planes);
            both.for_each(|(early, plane)| early.extend_from_slice(plane));
        }
        Ok(())
    }

    /// Compares the number of decoded frames with a page's, or learns their place from the first page.
    fn page_ends(&mut self, page: &Page) -> Result<()> {
        let Some(next) = self.next else {
            return self.first_page_ends(page);
        };
        if page.end < 0 || page.last || page.end == next {
            return Ok(());
        }
        Err(bad(format!(
            "page {} ends at frame {next}, but says {}",
            page.number, page.end
        )))
    }

    /// Gives the samples of the first page their place, which is counted back from the page's end.
    fn first_page_ends(&mut self, page: &Page) -> Result<()> {
        if page.end < 0 {
            return Ok(());
        }
        let planes: Vec<&[f32]> = self.early.iter().map(Vec::as_slice).collect();
        let count = planes.first().map_or(0, |plane| plane.len()) as i64;
        let mut start = page.end - count;
        if page.last {
            // On the last page a smaller count cuts the end, not the start.
            start = start.max(0);
        }
        self.taker.take(start, &planes)?;
        self.next = Some(start + count);
        Ok(())
    }
}

/// The pages of the first stream that is Vorbis.
fn walk(bytes: &[u8]) -> Result<Vec<Page>> {
    let mut pages: Vec<Page> = Vec::new();
    let mut at = 0;
    let mut ended = false;
    while let Some(page) = Page::at(bytes, at) {
        at = page.place.end;
        let starts = bytes[page.lacing.end..].starts_with(b"\x01vorbis");
        let Some(before) = pages.last() else {
            if page.first && starts {
                pages.push(page);
            }
            continue;
        };
        if page.first && ended {
            return Err(bad("several streams behind each other, expected one"));
        }
        if page.serial != before.serial || ended {
            continue;
        }
        if page.number != before.number.wrapping_add(1) {
            return Err(bad(format!(
                "page {} comes after page {}",
                page.number, before.number
            )));
        }
        ended = page.last;
        pages.push(page);
    }
    if pages.is_empty() {
        return Err(bad("holds no Vorbis stream, or ends within its first page"));
    }
    if !ended {
        return Err(bad("truncated: its last page is missing"));
    }
    Ok(pages)
}

/// Calls `call` for each packet that ends on a page. `begun` hands the beginning of a packet over to the next page;
/// `None` where that beginning isn't known.
fn each_packet(
    bytes: &[u8],
    page: &Page,
    begun: &mut Option<Vec<u8>>,
    mut call: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if !page.continued {
        *begun = Some(Vec::new());
    }
    let (mut start, mut end) = (page.lacing.end, page.lacing.end);
    for &length in &bytes[page.lacing.clone()] {
        end += usize::from(length);
        if length == 255 {
            continue;
        }
        let rest = &bytes[start..end];
        match begun.replace(Vec::new()) {
            Some(packet) if packet.is_empty() && rest.is_empty() => {}
            Some(packet) if packet.is_empty() => call(rest)?,
            Some(mut packet) => {
                packet.extend_from_slice(rest);
                call(&packet)?;
            }
            None => {}
        }
        start = end;
    }
    if let Some(packet) = begun {
        packet.extend_from_slice(&bytes[start..end]);
    }
    Ok(())
}

/// The identification and setup headers, and how many pages the three headers take.
fn headers(bytes: &[u8], pages: &[Page]) -> Result<([Vec<u8>; 2], usize)> {
    let (mut begun, mut found) = (None, Vec::new());
    for (number, page) in pages.iter().enumerate() {
        each_packet(bytes, page, &mut begun, |packet| {
            found.push(packet.to_vec());
            Ok(())
        })?;
        if begun
            .as_ref()
            .is_some_and(|packet| packet.len() > MAX_HEADER)
        {
            break;
        }
        if found.len() >= 3 {
            found.truncate(3);
            let setup = found.pop().unwrap_or_default();
            return Ok(([found.swap_remove(0), setup], number + 1));
        }
    }
    Err(bad("has no three headers, or one of more than 16 MiB"))
}

/// Sampling rate in hertz and channels, from an identification header.
fn identified(header: &[u8]) -> Result<(u32, u16)> {
    let known = header
        .strip_prefix(b"\x01vorbis\0\0\0\0")
        .and_then(|rest| rest.first_chunk::<5>());
    let [channels, rate @ ..] = known.ok_or_else(|| bad("no identification header of Vorbis I"))?;
    Ok((u32::from_le_bytes(*rate), u16::from(*channels)))
}
