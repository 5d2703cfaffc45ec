//! A JPEG with an index that may be anything: a part, decoded with the index, without it, out of the re-coded file, and
//! by libjpeg-turbo alone, is the same pixels or an error.
//!
//! Input: x, y, width, height, flags, and how many starts of tiles follow (16 bits each); the starts (32 bits); the file.

#![no_main]

use fastshard_core::codec::{
    Decoded, Decoder, Encoded, Format, Header, Request, Transcoding, seekable_jpeg,
};
use fastshard_core::pixels::{Depth, PixelFormat, Rect, Scratch};
use libfuzzer_sys::fuzz_target;

const MAX_PIXELS: u64 = 1 << 18;

fuzz_target!(|data: &[u8]| {
    let Some((numbers, rest)) = data.split_first_chunk::<12>() else {
        return;
    };
    let number = |at: usize| u16::from_le_bytes([numbers[2 * at], numbers[2 * at + 1]]);
    let Some((index, bytes)) = rest.split_at_checked(4 * usize::from(number(5))) else {
        return;
    };
    let starts = index.chunks_exact(4);
    let tiles: Vec<u32> = starts
        .map(|start| u32::from_le_bytes([start[0], start[1], start[2], start[3]]))
        .collect();
    compare(bytes, &tiles, [number(0), number(1), number(2), number(3)], number(4));
});

fn compare(bytes: &[u8], tiles: &[u32], place: [u16; 4], flags: u16) {
    let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
    let Ok(header) = decoder.header(bytes) else {
        return;
    };
    let request = request(&header, place, flags);
    let plain = part(&mut decoder, bytes.into(), &header, &request);
    let indexed = part(&mut decoder, Encoded { tiles, ..bytes.into() }, &header, &request);
    let Some(plain) = plain else {
        return;
    };
    assert!(indexed.as_ref() == Some(&plain), "the index changes pixels");
    if header.format == Format::Jpeg {
        compare_with_library(&mut decoder, bytes, &header, request);
    }
    let transcoding = Transcoding {
        max_pixels: MAX_PIXELS,
        drop_metadata: flags & 16 != 0,
        only_where_it_pays: flags & 32 != 0,
    };
    if let Some((bytes, tiles)) = seekable_jpeg(bytes, &transcoding).unwrap() {
        let stored = Encoded {
            tiles: &tiles,
            ..(&bytes[..]).into()
        };
        let again = decoder.header(&bytes).unwrap();
        assert_eq!(again, header);
        let stored = part(&mut decoder, stored, &header, &request);
        assert!(stored.as_ref() == Some(&plain), "re-coding changes pixels");
    }
}

fn compare_with_library(
    decoder: &mut Decoder,
    bytes: &[u8],
    header: &Header,
    mut request: Request,
) {
    request.format.depth = Depth::Eight;
    let mut out = Scratch::default();
    let decoded = decoder.decode_by_library(bytes, &request, &mut out).unwrap();
    let library = cut(decoded, &mut out, &request);
    let ours = part(decoder, bytes.into(), header, &request);
    assert!(ours == Some(library), "the library has other pixels");
}

fn request(header: &Header, [x, y, width, height]: [u16; 4], flags: u16) -> Request {
    let (x, y) = (u32::from(x) % header.width, u32::from(y) % header.height);
    Request {
        region: Rect {
            x,
            y,
            width: 1 + u32::from(width) % (header.width - x),
            height: 1 + u32::from(height) % (header.height - y),
        },
        format: PixelFormat {
            channels: if flags & 4 == 0 { 3 } else { 1 },
            depth: if flags & 8 == 0 { Depth::Eight } else { Depth::Sixteen },
        },
        reduce: 1 << (flags & 3),
    }
}

/// The pixels that were asked for, without what was decoded around them.
fn part(
    decoder: &mut Decoder,
    source: Encoded<'_>,
    header: &Header,
    request: &Request,
) -> Option<Vec<u8>> {
    let mut out = Scratch::default();
    let decoded = decoder.decode(source, header, request, &mut out).ok()?;
    Some(cut(decoded, &mut out, request))
}

fn cut(Decoded { area, reduce }: Decoded, out: &mut Scratch, request: &Request) -> Vec<u8> {
    let Rect { x, y, width, height } = request.region;
    let size = request.format.bytes();
    let (left, right) = (x / reduce - area.x, (x + width).div_ceil(reduce) - area.x);
    let (top, bottom) = (y / reduce - area.y, (y + height).div_ceil(reduce) - area.y);
    assert!(right <= area.width && bottom <= area.height, "less than was asked for");
    let pixels = out.bytes(area.area() * size).expect("decoded into it");
    let row = |y: u32| &pixels[(y * area.width + left) as usize * size..][..(right - left) as usize * size];
    (top..bottom).flat_map(row).copied().collect()
}
