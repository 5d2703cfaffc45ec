//! WAV and FLAC: symphonia's readers find the start of a range, and its decoders decode it.

use std::io::Cursor;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Failure;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::units::Timestamp;
use symphonia::default::formats::{FlacReader, WavReader};

use super::format::{AudioFormat, AudioHeader};
use super::waves::Taker;
use crate::error::{Error, Result};

pub(super) struct Container<'a> {
    bytes: &'a [u8],
    reader: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    header: AudioHeader,
    /// Bits a sample as stored; only FLAC uses it.
    bits: u32,
    planes: Vec<Vec<f32>>,
}

fn failed(format: AudioFormat) -> impl Fn(Failure) -> Error {
    move |error| {
        let reason = match error {
            Failure::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                "truncated: ends too early".into()
            }
            other => other.to_string(),
        };
        Error::decode(format!("{}: {reason}", format.name()))
    }
}

fn reader(bytes: &[u8], format: AudioFormat) -> Result<Box<dyn FormatReader + '_>> {
    let source = Box::new(Cursor::new(bytes));
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let options = FormatOptions::default();
    let reader: Result<Box<dyn FormatReader + '_>, Failure> = match format {
        AudioFormat::Flac => {
            FlacReader::try_new(stream, options).map(|reader| Box::new(reader) as _)
        }
        _ => WavReader::try_new(stream, options).map(|reader| Box::new(reader) as _),
    };
    reader.map_err(failed(format))
}

impl<'a> Container<'a> {
    pub(super) fn open(bytes: &'a [u8], format: AudioFormat, frames: Option<u64>) -> Result<Self> {
        let opened = reader(bytes, format)?;
        let bad = |what: &str| Error::decode(format!("{}: {what}", format.name()));
        let track = opened
            .default_track(TrackType::Audio)
            .ok_or_else(|| bad("holds no audio"))?;
        let parameters = track.codec_params.as_ref().and_then(CodecParameters::audio);
        let parameters = parameters.ok_or_else(|| bad("holds no audio"))?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(failed(format))?;
        let sample_rate = parameters.sample_rate.unwrap_or(0);
        let channels = parameters.channels.as_ref().map_or(0, Channels::count);
        let number = track.id;
        let frames = match track.num_frames.or(frames) {
            Some(frames) => frames,
            None if format == AudioFormat::Flac => count(bytes, number)?,
            None => {
                return Err(bad(
                    "its header doesn't say how long it is, as of a stream; write it anew",
                ));
            }
        };
        Ok(Self {
            decoder,
            track: number,
            header: AudioHeader {
                format,
                sample_rate,
                channels: u16::try_from(channels).unwrap_or(u16::MAX),
                frames,
            },
            bits: parameters.bits_per_sample.unwrap_or(0),
            planes: Vec::new(),
            bytes,
            reader: opened,
        })
    }

    pub(super) fn header(&self) -> AudioHeader {
        self.header
    }

    fn seek(&mut self, frame: u64) -> Result<(), Failure> {
        let to = SeekTo::Timestamp {
            ts: Timestamp::new(frame as i64),
            track_id: self.track,
        };
        self.reader.seek(SeekMode::Accurate, to)?;
        self.decoder.reset();
        Ok(())
    }

    /// Refuses a file with any packet that [`Self::read`] would refuse, without decoding it.
    pub(super) fn check(&self) -> Result<()> {
        if self.header.format != AudioFormat::Flac || self.bits < 32 {
            return Ok(());
        }
        // A reader of its own, because a reader that has met the end of the file can't go back.
        let mut reader = reader(self.bytes, self.header.format)?;
        // Stop at an error too: a file that ends early shows when its frames are read.
        while let Ok(Some(packet)) = reader.next_packet() {
            self.check_packet(&packet.data)?;
        }
        Ok(())
    }

    /// Refuses differences between channels of 32 bits. They take 33 bits, and symphonia drops the highest one.
    fn check_packet(&self, packet: &[u8]) -> Result<()> {
        let wide = self.header.format == AudioFormat::Flac && self.bits >= 32;
        match packet {
            [0xFF, 0xF8 | 0xF9, _, kind, ..] if wide && matches!(kind >> 4, 8..=10) => {
                Err(Error::decode(
                    "flac: 32 bits a sample with channels stored as differences are not supported; encode it with \
                     24 bits, or without mid-side coding (flac --no-mid-side)",
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn read(&mut self, taker: &mut Taker<'_>) -> Result<()> {
        let failed = failed(self.header.format);
        self.seek(taker.next).map_err(&failed)?;
        while !taker.is_done() {
            let Some(packet) = self.reader.next_packet().map_err(&failed)? else {
                break;
            };
            if packet.track_id != self.track {
                continue;
            }
            self.check_packet(&packet.data)?;
            let trimmed = packet.trim_start.get() as i64;
            let first = packet.pts.get().saturating_add(trimmed);
            let decoded = self.decoder.decode(&packet).map_err(&failed)?;
            if decoded.frames() == 0 {
                continue;
            }
            decoded.copy_to_vecs_planar(&mut self.planes);
            let planes: Vec<&[f32]> = self.planes.iter().map(Vec::as_slice).collect();
            taker.take(first, &planes)?;
        }
        Ok(())
    }
}

/// Counts the frames of a FLAC file whose header doesn't give their number.
fn count(bytes: &[u8], track: u32) -> Result<u64> {
    let mut reader = reader(bytes, AudioFormat::Flac)?;
    let mut frames = 0u64;
    let failed = failed(AudioFormat::Flac);
    while let Some(packet) = reader.next_packet().map_err(&failed)? {
        if packet.track_id == track {
            frames = frames.saturating_add(packet.dur.get());
        }
    }
    Ok(frames)
}
