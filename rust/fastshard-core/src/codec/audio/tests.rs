use proptest::prelude::*;

use super::*;

/// A WAV file of 16-bit samples.
fn wav(sample_rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let block = channels * 2;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    for half in [1, channels] {
        file.extend(half.to_le_bytes());
    }
    file.extend(sample_rate.to_le_bytes());
    file.extend((sample_rate * u32::from(block)).to_le_bytes());
    for half in [block, 16] {
        file.extend(half.to_le_bytes());
    }
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn read(bytes: &[u8], range: Range<u64>, mono: bool) -> Result<Vec<f32>> {
    let mut waves = Waves::default();
    let mut file = AudioFile::open(bytes, None, &AudioLimits::default())?;
    file.read(range, mono, &mut waves)?;
    let channels = (0..waves.channels()).flat_map(|at| waves.channel(at).to_vec());
    Ok(channels.collect())
}

#[test]
fn parts_of_a_wav_file_are_those_of_the_whole() {
    let samples: Vec<i16> = (0..10_000i32)
        .map(|at| (at * 7919 % 65_536 - 32_768) as i16)
        .collect();
    let file = wav(8000, 2, &samples);
    for range in [0..5000, 0..1, 1151..1153, 4999..5000, 77..77] {
        let (start, count) = (range.start as usize, (range.end - range.start) as usize);
        let frames = samples[start * 2..][..count * 2].chunks(2);
        let scaled = |sample: i16| f32::from(sample) / 32_768.0;
        let (left, right): (Vec<f32>, Vec<f32>) = frames
            .map(|frame| (scaled(frame[0]), scaled(frame[1])))
            .unzip();
        let mean: Vec<f32> = left
            .iter()
            .zip(&right)
            .map(|(a, b)| (a + b) * 0.5)
            .collect();
        assert_eq!(
            read(&file, range.clone(), false).unwrap(),
            [left, right].concat()
        );
        assert_eq!(read(&file, range, true).unwrap(), mean);
    }
}

#[test]
fn broken_files_are_errors() {
    let file = wav(8000, 1, &[1; 4000]);
    let error = |bytes: &[u8]| read(bytes, 0..4000, false).unwrap_err().to_string();
    assert!(error(&file[..5000]).contains("truncated"));
    assert!(error(b"").contains("0 bytes"));
    assert!(error(b"something else").contains("known format"));
    assert!(error(&wav(500_000, 1, &[1; 80])).contains("max_sample_rate"));
    let impossible = [
        wav(8000, 0, &[1; 10]),
        wav(0, 1, &[1; 10]),
        wav(8000, 40, &[1; 80]),
        wav(8000, 1, &[]),
    ];
    for file in impossible {
        assert!(read(&file, 0..1, false).is_err());
    }
    for length in 0..60 {
        assert!(read(&file[..length], 0..4000, false).is_err());
    }
}

#[test]
fn a_header_is_believed_only_as_far_as_its_file_could_go() {
    let header = AudioHeader {
        format: AudioFormat::Flac,
        sample_rate: 8000,
        channels: 1,
        frames: 1 << 36,
    };
    let error = check(&header, 1000, &AudioLimits::default()).unwrap_err();
    assert!(error.to_string().contains("more than its 1000 bytes"));
}

#[test]
fn formats_are_recognised() {
    let tagged = [b"ID3\x04\x00\x00\x00\x00\x00\x05tagtag".as_slice(), b"xx"].concat();
    assert_eq!(AudioFormat::of(&tagged), None);
    let tagged = [b"ID3\x04\x00\x00\x00\x00\x00\x03tag".as_slice(), b"fLaC"].concat();
    assert_eq!(AudioFormat::of(&tagged), Some(AudioFormat::Flac));
    // 128 kbit/s, 44.1 kHz: 417 bytes a frame.
    let mut frames = [0xFF, 0xFB, 0x90, 0x00].repeat(2);
    assert_eq!(AudioFormat::of(&frames), None);
    frames.splice(4..4, [0; 413]);
    assert_eq!(AudioFormat::of(&frames), Some(AudioFormat::Mp3));
    assert_eq!(AudioFormat::of(&[0xFF, 0xD8, 0xFF, 0xE0]), None);
}

fn frame(flags: u8, rate: u8, mode: u8, body: u8) -> Vec<u8> {
    let head = [0xFF, 0xE0 | flags, rate, mode];
    // More than any frame has.
    let mut bytes = head.to_vec();
    bytes.resize(1500, body);
    bytes
}

proptest! {
    /// Headers of all kinds, with anything between them: frames lie in the file, and are decoded or refused.
    #[test]
    fn any_mpeg_frames_are_survived(
        heads in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), 0usize..1500), 0..12),
        start in any::<u64>(),
    ) {
        let pieces = heads.iter().map(|&(flags, rate, mode, body, length)| {
            frame(flags | 2, rate, mode, body)[..length].to_vec()
        });
        let file: Vec<u8> = pieces.flatten().collect();
        let Ok(mut file) = AudioFile::open(&file, None, &AudioLimits::default()) else {
            return Ok(());
        };
        let frames = file.header().frames;
        let start = start % frames;
        let mut waves = Waves::default();
        let end = frames.min(start + 3000);
        if file.read(start..end, true, &mut waves).is_ok() {
            prop_assert_eq!(waves.frames() as u64, end - start);
        }
    }
}
