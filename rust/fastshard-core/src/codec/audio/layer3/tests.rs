//! Frames of random bits, decoded by symphonia too.

use proptest::prelude::*;
use symphonia::core::audio::{Audio, GenericAudioBufferRef};
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::MpaDecoder;

use super::*;
use crate::random::{Draws, Key};

/// Bits written one after the other.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    count: usize,
}

impl Writer {
    fn put(&mut self, value: usize, bits: usize) {
        for at in (0..bits).rev() {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> at & 1) as u8;
            *self.bytes.last_mut().unwrap() |= bit << (7 - self.count % 8);
            self.count += 1;
        }
    }
}

/// What all frames of a stream share.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5.
    version: usize,
    rate: usize,
    mode: usize,
}

/// A frame of random granules, whose second channel is as long, or as short, as the first.
fn frame(kind: Kind, extension: usize, key: u64) -> Vec<u8> {
    let mut draws = Draws::new(
        Key {
            seed: key,
            epoch: 0,
            row: 0,
            field: 0,
        },
        0,
    );
    let mut below = |most: usize| (draws.unit() * most as f64) as usize;
    let first = kind.version == 3;
    let channels = if kind.mode == 3 { 1 } else { 2 };
    let mut out = Writer::default();
    let header = [
        (0x7FF, 11),
        (kind.version, 2),
        (1, 2),
        (1, 1),
        (14, 4),
        (kind.rate, 2),
        (0, 2),
        (kind.mode, 2),
        (extension, 2),
        (0, 4),
    ];
    for (value, bits) in header {
        out.put(value, bits);
    }
    let length = Head::of(&out.bytes).unwrap().length;
    out.put(0, if first { 9 } else { 8 });
    out.put(
        0,
        match (first, channels) {
            (true, 1) => 5,
            (true, _) => 3,
            (false, channels) => channels,
        },
    );
    if first {
        out.put(below(1 << (4 * channels)), 4 * channels);
    }
    for _ in 0..if first { 2 } else { 1 } {
        // A third of what there is, at most, so that all fits.
        // Never mixed: of these, symphonia leaves out all but the two lowest subbands.
        let block = (below(3) > 0, 1 + below(3), 0);
        for _ in 0..channels {
            out.put(below((length * 8 / 5).min(4000)).max(200), 12);
            out.put(below(289), 9);
            out.put(120 + below(60), 8);
            out.put(
                below(if first { 16 } else { 512 }),
                if first { 4 } else { 9 },
            );
            out.put(usize::from(block.0), 1);
            let tables = if block.0 { 2 } else { 3 };
            if block.0 {
                out.put(block.1, 2);
                out.put(block.2, 1);
            }
            (0..tables).for_each(|_| out.put(below(26), 5));
            if block.0 {
                (0..3).for_each(|_| out.put(below(8), 3));
            } else {
                out.put(below(16), 4);
                out.put(below(8), 3);
            }
            if first {
                out.put(below(2), 1);
            }
            out.put(below(4), 2);
        }
    }
    while out.bytes.len() < length {
        out.bytes.push(below(256) as u8);
    }
    out.bytes
}

fn theirs(frames: &[Vec<u8>]) -> Vec<Option<Vec<Vec<f32>>>> {
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_MP3);
    let options = AudioDecoderOptions::default().gapless(false);
    let mut decoder = MpaDecoder::try_new(&parameters, &options).unwrap();
    let mut decode = |frame: &Vec<u8>| {
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, frame);
        match decoder.decode_ref(&packet) {
            Ok(GenericAudioBufferRef::F32(decoded)) => {
                Some(decoded.iter_planes().map(<[f32]>::to_vec).collect())
            }
            _ => None,
        }
    };
    frames.iter().map(&mut decode).collect()
}

fn ours(frames: &[Vec<u8>], mono: bool) -> Vec<Option<Vec<Vec<f32>>>> {
    let mut decoder = Decoder::new(mono);
    let mut decode = |frame: &Vec<u8>| {
        let head = Head::of(frame).unwrap();
        decoder.decode(&head, frame).ok()?;
        let channels = if mono { 1 } else { usize::from(head.channels) };
        let planes = (0..channels).map(|channel| decoder.plane(channel, &head).to_vec());
        Some(planes.collect())
    };
    frames.iter().map(&mut decode).collect()
}

/// As much as single precision leaves open of sums of such values.
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let loudest = theirs
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let difference = (ours - theirs).abs();
        assert!(
            difference <= 5e-4 * loudest,
            "{what}, {at}: {ours}, {theirs}, of {loudest}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_are_decoded_as_by_symphonia(
        version in prop_oneof![Just(3usize), Just(2), Just(0)],
        rate in 0usize..3,
        mode in 0usize..4,
        keys in proptest::collection::vec((any::<u64>(), 0usize..4), 1..6),
    ) {
        let kind = Kind { version, rate, mode };
        let frames: Vec<_> = keys.iter().map(|&(key, extension)| frame(kind, extension, key)).collect();
        let (ours_all, ours_mono, theirs) = (ours(&frames, false), ours(&frames, true), theirs(&frames));
        for (at, frame) in frames.iter().enumerate() {
            let what = format!("frame {at}, {:?}", Head::of(frame).unwrap());
            prop_assert_eq!(ours_all[at].is_some(), theirs[at].is_some(), "{}", what);
            let (Some(all), Some(theirs)) = (&ours_all[at], &theirs[at]) else {
                continue;
            };
            all.iter().zip(theirs).for_each(|(ours, theirs)| assert_close(ours, theirs, &what));
            let mono = ours_mono[at].as_ref().unwrap();
            let mean: Vec<f32> = (0..all[0].len())
                .map(|at| all.iter().map(|plane| plane[at]).sum::<f32>() / all.len() as f32)
                .collect();
            let loudest = all.iter().flatten().fold(0.0f32, |most, value| most.max(value.abs()));
            for (ours, theirs) in mono[0].iter().zip(&mean) {
                prop_assert!((ours - theirs).abs() <= 5e-4 * loudest, "mean of {}", what);
            }
        }
    }
}

/// A subband's 36 samples, straight from the standard's formula.
fn plain(block: Block, lines: &[f32]) -> Vec<f64> {
    use std::f64::consts::PI;
    let cosine = |points: f64, at: usize, line: usize| {
        (PI / (2.0 * points) * (2.0 * at as f64 + 1.0 + points / 2.0) * (2.0 * line as f64 + 1.0))
            .cos()
    };
    let sine = |points: f64, at: f64| (PI / points * (at + 0.5)).sin();
    let mut out = vec![0.0; 36];
    if block == Block::Short {
        for (window, at) in (0..3).flat_map(|window| (0..12).map(move |at| (window, at))) {
            let sum: f64 = (0..6)
                .map(|line| f64::from(lines[3 * line + window]) * cosine(12.0, at, line))
                .sum();
            out[6 + 6 * window + at] += sum * sine(12.0, at as f64);
        }
        return out;
    }
    let start = |at: usize| match at {
        0..18 => sine(36.0, at as f64),
        18..24 => 1.0,
        24..30 => sine(12.0, at as f64 - 18.0),
        _ => 0.0,
    };
    for (at, out) in out.iter_mut().enumerate() {
        let window = match block {
            Block::Start => start(at),
            Block::Stop => start(35 - at),
            _ => sine(36.0, at as f64),
        };
        let each = lines.iter().enumerate();
        let sum: f64 = each
            .map(|(line, value)| f64::from(*value) * cosine(36.0, at, line))
            .sum();
        *out = sum * window;
    }
    out
}

#[test]
fn transforms_are_those_of_the_formula() {
    let lines: [f32; 576] = std::array::from_fn(|at| (at * at * 31 % 619) as f32 / 309.5 - 1.0);
    for (block, mixed) in [
        (Block::Long, false),
        (Block::Start, false),
        (Block::Start, true),
        (Block::Short, false),
        (Block::Mixed, true),
        (Block::Stop, false),
        (Block::Stop, true),
    ] {
        let (mut now, mut later) = ([[9.0; SUBBANDS]; LENGTH], [[9.0; SUBBANDS]; LENGTH]);
        let used = 21;
        hybrid::transform(block, mixed, &lines, used, &mut now, &mut later);
        for subband in 0..SUBBANDS {
            let own = match block {
                _ if mixed && subband < 2 => Block::Long,
                Block::Mixed => Block::Short,
                other => other,
            };
            let expected = if subband < used {
                plain(own, &lines[subband * LENGTH..][..LENGTH])
            } else {
                vec![0.0; 36]
            };
            let found = now
                .iter()
                .chain(&later)
                .map(|sample| f64::from(sample[subband]));
            for (at, (found, expected)) in found.zip(expected).enumerate() {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{block:?}, {subband}, {at}: {found}, {expected}"
                );
            }
        }
    }
}
