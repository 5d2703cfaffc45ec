use turbojpeg_sys as tj;

use super::super::jpeg::Decompressor;
use super::super::jpeg_encode::encode_sampled;
use super::super::{Transcoding, seekable_jpeg};
use super::huffman::{Bits, Codes, Kind, PADDING};
use super::zigzag::Block;
use super::*;
use crate::error::Result;
use crate::pixels::{Depth, MAX_PIXELS, PixelFormat, Rect};
use crate::random::{Draws, Key, mix};

const ANY: Transcoding = Transcoding {
    max_pixels: MAX_PIXELS,
    drop_metadata: false,
    only_where_it_pays: false,
};

fn draws(seed: u64) -> Draws {
    let key = Key {
        seed,
        epoch: 0,
        row: 0,
        field: 0,
    };
    Draws::new(key, 0)
}

fn photo((width, height): (u32, u32), channels: usize, subsampling: i32) -> Vec<u8> {
    let pixels = (0..width as usize * height as usize * channels)
        .map(|at| {
            let (x, y) = (
                at / channels % width as usize,
                at / channels / width as usize,
            );
            // Smooth here, noisy there, with hard edges; each channel for itself.
            let noise = mix(at as u64) & if x / 20 % 2 == 0 { 3 } else { 127 };
            (x * (at % channels + 1) / 2 + y / 3 + noise as usize) as u8
        })
        .collect::<Vec<_>>();
    encode_sampled(&pixels, (width, height), channels, 92, subsampling).unwrap()
}

fn random_request(draws: &mut Draws, (width, height): (u32, u32), reduce: u32) -> Request {
    let (x, y) = (draws.below(width), draws.below(height));
    Request {
        region: Rect {
            x,
            y,
            width: 1 + draws.below(width - x),
            height: 1 + draws.below(height - y),
        },
        format: PixelFormat {
            channels: if draws.below(4) == 0 { 1 } else { 3 },
            depth: Depth::Eight,
        },
        reduce,
    }
}

/// The pixels of a region out of those that were decoded.
fn part(decoded: Decoded, request: &Request, out: &mut Scratch) -> Vec<u8> {
    let (region, reduce) = (request.region, request.reduce);
    let (x, y) = (region.x / reduce, region.y / reduce);
    let right = (region.x + region.width).div_ceil(reduce);
    let bottom = (region.y + region.height).div_ceil(reduce);
    let channels = request.format.channels;
    let pixels = out.bytes(decoded.area.area() * channels).unwrap();
    let row = |row: u32| {
        let pixel = |x: u32| {
            ((row - decoded.area.y) * decoded.area.width + x - decoded.area.x) as usize * channels
        };
        &pixels[pixel(x)..pixel(right)]
    };
    (y..bottom).flat_map(row).copied().collect()
}

/// What this decoder makes of a file, if anything.
fn ours(
    baseline: &mut Baseline,
    bytes: &[u8],
    starts: &[u32],
    request: &Request,
) -> Option<Vec<u8>> {
    let frame = Frame::of(bytes)?;
    let tiles = Tiles::new(bytes, &frame, starts);
    let mut out = Scratch::default();
    let decoded = baseline.decode(bytes, &frame, tiles, request, &mut out)?;
    Some(part(decoded, request, &mut out))
}

/// What the library makes of it, without a complaint.
fn theirs(library: &mut Decompressor, bytes: &[u8], request: &Request) -> Result<Vec<u8>> {
    let mut out = Scratch::default();
    let decoded = library.decode_by_library(bytes, request, &mut out)?;
    Ok(part(decoded, request, &mut out))
}

const SAMPLINGS: [(i32, usize, bool); 6] = [
    (tj::TJSAMP_TJSAMP_444, 3, true),
    (tj::TJSAMP_TJSAMP_422, 3, true),
    (tj::TJSAMP_TJSAMP_420, 3, true),
    (tj::TJSAMP_TJSAMP_GRAY, 1, true),
    (tj::TJSAMP_TJSAMP_440, 3, false),
    (tj::TJSAMP_TJSAMP_411, 3, false),
];

#[test]
fn pixels_are_those_of_the_library() {
    let mut baseline = Baseline::default();
    let mut library = Decompressor::new(MAX_PIXELS).unwrap();
    let vector = baseline.kernel != Kernel::Plain;
    let sizes = [
        (203, 117),
        (64, 64),
        (97, 300),
        (16, 8),
        (17, 9),
        (5, 40),
        (3, 5),
        (1, 1),
    ];
    for (subsampling, channels, usual) in SAMPLINGS {
        for size in sizes {
            let original = photo(size, channels, subsampling);
            let (tiled, tiles) = seekable_jpeg(&original, &ANY).unwrap().unwrap();
            let mut draws = draws(1);
            for reduce in [1, 2, 4, 8] {
                for _ in 0..25 {
                    let request = random_request(&mut draws, size, reduce);
                    let expected = theirs(&mut library, &original, &request).unwrap();
                    for (bytes, tiles) in [(&original, &[][..]), (&tiled, &tiles)] {
                        let found = ours(&mut baseline, bytes, tiles, &request);
                        // What is narrow, and 4:2:2 at an eighth, isn't interpolated but repeated.
                        let box_filter = size.0 < 16 || subsampling == tj::TJSAMP_TJSAMP_422;
                        let expected_here = usual && (vector || reduce == 8);
                        assert!(found.is_some() || !expected_here || box_filter, "{size:?}");
                        assert!(found.is_none() || usual);
                        assert!(
                            found.is_none_or(|found| found == expected),
                            "{subsampling} {size:?} {request:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn damage_is_left_to_the_library_or_decoded_alike() {
    let mut baseline = Baseline::default();
    let mut library = Decompressor::new(MAX_PIXELS).unwrap();
    let size = (130, 90);
    let mut decoded = 0;
    let mut wrong = Vec::new();
    for (subsampling, channels, _) in SAMPLINGS {
        let original = photo(size, channels, subsampling);
        let mut draws = draws(2);
        for _ in 0..1500 {
            let mut bytes = original.clone();
            for _ in 0..=draws.below(2) {
                let at = draws.below(bytes.len() as u32) as usize;
                bytes[at] ^= 1 << draws.below(8);
            }
            // The size stays, or the request wouldn't fit.
            if Frame::of(&bytes).is_none_or(|frame| (frame.width, frame.height) != size) {
                continue;
            }
            let reduce = 1 << draws.below(4);
            let request = Request {
                region: Rect::of_size(size.0, size.1),
                ..random_request(&mut draws, size, reduce)
            };
            if let Some(found) = ours(&mut baseline, &bytes, &[], &request) {
                decoded += 1;
                let mut out = Scratch::default();
                let decoded = library.decode_strictly(&bytes, &request, &mut out);
                match decoded.map(|decoded| part(decoded, &request, &mut out)) {
                    Ok(expected) if found == expected => {}
                    Ok(_) => wrong.push(format!("{subsampling}: other pixels for {request:?}")),
                    // Of metadata.
                    Err(error) if error.to_string().contains("unknown JFIF revision") => {}
                    // Between the segments of the header, where both skip them.
                    Err(error) if error.to_string().contains("extraneous bytes") => {
                        if theirs(&mut library, &bytes, &request).ok() != Some(found) {
                            wrong.push(format!("{subsampling}: other pixels behind {error}"));
                        }
                    }
                    Err(error) => wrong.push(format!("{subsampling}: {error}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        decoded > 200 || baseline.kernel == Kernel::Plain,
        "{decoded}"
    );
}

#[test]
fn data_that_ends_early_is_left_to_the_library() {
    let size = (128, 64);
    let (bytes, starts) = seekable_jpeg(&photo(size, 3, tj::TJSAMP_TJSAMP_420), &ANY)
        .unwrap()
        .unwrap();
    let mut baseline = Baseline::default();
    let request = |width: u32, reduce: u32| Request {
        region: Rect::of_size(width, 8),
        format: PixelFormat {
            channels: 3,
            depth: Depth::Eight,
        },
        reduce,
    };
    let tile = starts[1] as usize - 2 - starts[0] as usize;
    for cut in 0..tile {
        // The first tile of the first row ends after so many bytes.
        let mut short = bytes.clone();
        short.drain(starts[0] as usize + cut..starts[1] as usize - 2);
        let moved: Vec<u32> = (starts.iter().enumerate())
            .map(|(at, start)| {
                if at == 0 {
                    *start
                } else {
                    start - (tile - cut) as u32
                }
            })
            .collect();
        for (width, reduce) in [(64, 8), (16, 8), (64, 1), (16, 1)] {
            let needed = ours(&mut baseline, &bytes, &starts, &request(width, reduce));
            let found = ours(&mut baseline, &short, &moved, &request(width, reduce));
            assert!(found.is_none() || (width == 16 && found == needed), "{cut}");
        }
    }
}

/// Coefficients of all sizes, in a block's first so many places.
fn random_block(draws: &mut Draws, count: usize) -> Block {
    let mut block = [0; 64];
    for &place in &zigzag::NATURAL[..count] {
        let bits = draws.below(17);
        block[usize::from(place)] = ((u64::from(draws.below(1 << 16)) << bits) >> 16) as i16;
    }
    block
}

#[cfg(target_arch = "x86_64")]
#[test]
fn transforms_in_vectors_are_the_plain_ones() {
    if Kernel::best() == Kernel::Plain {
        return;
    }
    let mut draws = draws(3);
    for round in 0..20_000 {
        let count = if round % 2 == 0 { idct::LOW } else { 64 };
        let mut block = random_block(&mut draws, count);
        if round % 5 > 0 {
            block[..8].iter_mut().for_each(|value| *value %= 6);
        }
        let multipliers =
            std::array::from_fn(|_| 1 + draws.below(if round % 3 == 0 { 255 } else { 2 }) as i16);
        let mut expected = [0; 80];
        let honest = idct::whole(&block, &multipliers, &mut expected, 10);
        let mut found = [[0; 80]; 2];
        #[expect(unsafe_code, reason = "vector code")]
        // SAFETY: the processor has AVX2, as was found above.
        unsafe {
            let full = idct_avx2::whole::<false>(&block, &multipliers, &mut found[0], 10);
            let low = idct_avx2::whole::<true>(&block, &multipliers, &mut found[1], 10);
            assert_eq!([full, low], [honest, honest]);
        }
        assert_eq!(found[0], expected);
        assert!(count > idct::LOW || found[1] == expected);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn colours_in_vectors_are_the_plain_ones() {
    if Kernel::best() == Kernel::Plain {
        return;
    }
    let all: Vec<u8> = (0..=255).chain(0..7).collect();
    for y in [0, 1, 100, 128, 254, 255] {
        for cb in 0..=255 {
            let samples = [&vec![y; all.len()][..], &vec![cb; all.len()], &all];
            let mut expected = vec![[0; 3]; all.len()];
            color::to_rgb(samples, &mut expected);
            let mut found = vec![[0; 3]; all.len()];
            #[expect(unsafe_code, reason = "vector code")]
            // SAFETY: the processor has AVX2, as was found above.
            unsafe {
                rows_avx2::to_rgb(samples, &mut found);
            }
            assert_eq!(found, expected);
        }
    }
}

/// A code of codes of random lengths, some of them as long as they may be.
fn random_code(draws: &mut Draws, kind: Kind) -> Vec<u8> {
    let mut counts = [0; 16];
    let (mut free, mut total) = (1, 0);
    for (length, count) in counts.iter_mut().enumerate() {
        free *= 2;
        let most = u32::min(free - 1, 256 - total);
        *count = if length < 15 {
            draws.below(1 + most.min(1 + length as u32))
        } else {
            1.min(most)
        };
        free -= *count;
        total += *count;
    }
    let symbols = (0..total).map(|_| match kind {
        Kind::Dc => draws.below(16) as u8,
        Kind::Ac => draws.below(256) as u8,
    });
    counts
        .map(|count| count as u8)
        .into_iter()
        .chain(symbols.collect::<Vec<_>>())
        .collect()
}

/// Reads a bit at a time, as the standard describes it.
struct Plain<'a> {
    data: &'a [u8],
    at: usize,
}

impl Plain<'_> {
    fn bit(&mut self) -> i32 {
        let bit = self
            .data
            .get(self.at / 8)
            .map_or(0, |byte| byte >> (7 - self.at % 8) & 1);
        self.at += 1;
        bit.into()
    }

    fn symbol(&mut self, spec: &[u8]) -> Option<u8> {
        let (mut code, mut first, mut place) = (0, 0, 16);
        for &count in &spec[..16] {
            code = 2 * code + self.bit();
            if code - first < count.into() {
                return Some(spec[place + (code - first) as usize]);
            }
            first = 2 * (first + i32::from(count));
            place += usize::from(count);
        }
        None
    }

    fn value(&mut self, size: u8) -> i32 {
        let value = (0..size).fold(0, |value, _| 2 * value + self.bit());
        if size > 0 && value < 1 << (size - 1) {
            value - (1 << size) + 1
        } else {
            value
        }
    }

    fn ac(&mut self, spec: &[u8]) -> Option<Block> {
        let mut block = [0; 64];
        let mut place = 1;
        while place < 64 {
            let symbol = self.symbol(spec)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 && run != 15 {
                break;
            }
            place += run;
            *block.get_mut(usize::from(*zigzag::NATURAL.get(place)?))? = self.value(size) as i16;
            place += 1;
        }
        Some(block)
    }
}

#[test]
fn codes_are_read_as_bit_by_bit() {
    for seed in 0..300 {
        let mut draws = draws(seed);
        let [dc, ac] = [Kind::Dc, Kind::Ac].map(|kind| random_code(&mut draws, kind));
        let (Some(dc_codes), Some(ac_codes)) =
            (Codes::new(&dc, Kind::Dc), Codes::new(&ac, Kind::Ac))
        else {
            continue;
        };
        let mut data: Vec<u8> = (0..400).map(|_| draws.below(256) as u8).collect();
        data.extend_from_slice(&[0; PADDING]);
        let mut plain = Plain { data: &data, at: 0 };
        let mut bits = Bits::new(&data);
        let mut strides = Bits::new(&data);
        while plain.at < 8 * 200 {
            let expected = plain.symbol(&dc).map(|size| plain.value(size) as i16);
            assert_eq!(bits.dc(&dc_codes), expected);
            assert_eq!(strides.dc(&dc_codes), expected);
            let Some(_) = expected else { break };
            let expected = plain.ac(&ac);
            let mut block = [0; 64];
            let count = bits.ac(&ac_codes, &mut block);
            assert_eq!(count.map(|_| block), expected);
            assert_eq!(
                strides.stride_ac(&ac_codes, ac_codes.steps()).is_some(),
                expected.is_some()
            );
            let (Some(count), Some(_)) = (count, expected) else {
                break;
            };
            assert!(
                zigzag::NATURAL[count..]
                    .iter()
                    .all(|&place| block[usize::from(place)] == 0)
            );
            assert_eq!(bits.position(), plain.at);
            assert_eq!(strides.position(), plain.at);
        }
    }
}

#[test]
fn refuses_what_is_no_code() {
    let spec = |counts: &[u8], symbols: &[u8]| {
        let mut spec = [0; 16];
        spec[..counts.len()].copy_from_slice(counts);
        Codes::new(&[&spec, symbols].concat(), Kind::Dc).is_some()
    };
    assert!(spec(&[1, 1], &[3, 4]));
    assert!(!spec(&[], &[]));
    assert!(!spec(&[2], &[3, 4])); // All ones.
    assert!(!spec(&[1, 3], &[3, 4, 5, 6])); // More than there are.
    assert!(!spec(&[1, 1], &[3])); // A symbol is missing.
    assert!(!spec(&[1], &[3, 4])); // One too many.
    assert!(!spec(&[1], &[16])); // Too large a value.
}
