//! Audio in any of the four formats: its header, the check that packing makes, all of its samples, and a part of them, which
//! the first two bytes choose.

#![no_main]

use fastshard_core::codec::{AudioFile, AudioFormat, AudioLimits, Waves};
use libfuzzer_sys::fuzz_target;

/// Samples that are decoded at most.
const MOST: u64 = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[high, low], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let limits = AudioLimits { max_samples: MOST, ..AudioLimits::default() };
    let Ok(mut file) = AudioFile::open(bytes, None, &limits) else {
        return;
    };
    let header = *file.header();
    assert!((1..=limits.max_channels).contains(&header.channels));
    assert!((1..=limits.max_sample_rate).contains(&header.sample_rate));
    let mut waves = Waves::default();
    let frames = header.frames.min(MOST / u64::from(header.channels));
    if header.frames == frames {
        let _ = file.check(true, &mut waves);
    }
    let start = frames * u64::from(u16::from_be_bytes([high, low])) >> 16;
    let end = frames.min(start + 2000);
    for mono in [false, true] {
        let mut part = Waves::default();
        let read = AudioFile::open(bytes, None, &limits).unwrap().read(start..end, mono, &mut part);
        if file.read(0..frames, mono, &mut waves).is_err() {
            continue;
        }
        for channel in 0..waves.channels() {
            assert!(waves.channel(channel).iter().all(|sample| sample.is_finite()));
        }
        // Where others seek, a damaged file may keep them from what a walk over all of it finds.
        if !matches!(header.format, AudioFormat::Mp3 | AudioFormat::Wav) {
            continue;
        }
        read.unwrap();
        for channel in 0..waves.channels() {
            let wanted = &waves.channel(channel)[start as usize..end as usize];
            assert_eq!(part.channel(channel), wanted);
        }
    }
});
