use super::super::{Decoder, encode_jpeg};
use super::*;
use crate::pixels::MAX_PIXELS;

fn photo(width: u32, height: u32, channels: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..width as usize * height as usize * channels)
        .map(|at| {
            state = crate::random::mix(state);
            ((at / channels % width as usize) as u64 / 2 + (state & 63)) as u8
        })
        .collect()
}

fn decode(bytes: &[u8], region: Rect) -> Vec<u8> {
    let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
    let header = decoder.header(bytes).unwrap();
    let mut out = Scratch::default();
    let request = Request {
        region,
        ..Request::whole(&header, RGB)
    };
    let Decoded { area, .. } = decoder
        .decode(bytes.into(), &header, &request, &mut out)
        .unwrap();
    let pixels = out.bytes(area.area() * 3).unwrap();
    let mut cut = Vec::new();
    for y in 0..region.height {
        let start = ((region.y - area.y + y) * area.width + region.x - area.x) as usize * 3;
        cut.extend_from_slice(&pixels[start..start + region.width as usize * 3]);
    }
    cut
}

#[test]
fn a_region_equals_the_same_part_of_the_whole() {
    let (width, height) = (203, 117);
    let bytes = encode_jpeg(&photo(width, height, 3), width, height, 3, 90).unwrap();
    let whole = decode(&bytes, Rect::of_size(width, height));
    for seed in 0..200 {
        let mut draws = crate::random::Draws::new(
            crate::random::Key {
                seed,
                epoch: 0,
                row: 0,
                field: 0,
            },
            0,
        );
        let (x, y) = (draws.below(width), draws.below(height));
        let region = Rect {
            x,
            y,
            width: 1 + draws.below(width - x),
            height: 1 + draws.below(height - y),
        };
        let mut expected = Vec::new();
        for row in region.y..region.y + region.height {
            let start = (row * width + region.x) as usize * 3;
            expected.extend_from_slice(&whole[start..start + region.width as usize * 3]);
        }
        assert!(decode(&bytes, region) == expected, "{region:?}");
    }
}

#[test]
fn refuses_truncated_and_oversized() {
    let bytes = encode_jpeg(&photo(64, 64, 3), 64, 64, 3, 90).unwrap();
    let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
    let mut out = Scratch::default();
    let header = decoder.header(&bytes).unwrap();
    assert!(decoder.check_whole(&bytes, &header, &mut out).is_ok());
    let cut = &bytes[..bytes.len() / 2];
    assert!(decoder.check_whole(cut, &header, &mut out).is_err());
    for length in 0..bytes.len().min(700) {
        if let Ok(header) = decoder.header(&bytes[..length]) {
            assert!(
                decoder
                    .check_whole(&bytes[..length], &header, &mut out)
                    .is_err()
            );
        }
    }
    assert!(Decoder::new(64 * 64 - 1).unwrap().header(&bytes).is_err());
}

#[test]
fn a_broken_header_harms_no_later_image() {
    let good = encode_jpeg(&photo(64, 64, 3), 64, 64, 3, 90).unwrap();
    let mut decompressor = Decompressor::new(MAX_PIXELS).unwrap();
    let mut broken = 0;
    for at in 2..Frame::of(&good).unwrap().scan_at {
        let mut bad = good.clone();
        bad[at] ^= 0xFF;
        broken += usize::from(decompressor.check_header(&bad).is_err());
        assert!(decompressor.check_header(&good).is_ok(), "byte {at}");
    }
    assert!(broken > 20, "{broken}");
}
