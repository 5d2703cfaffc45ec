//! A file in any format: its header, the check that packing makes, and all of its pixels.

#![no_main]

use fastshard_core::codec::{Decoder, Header, Request, orient};
use fastshard_core::pixels::{Depth, PixelFormat, Scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new(1 << 18).unwrap();
    let Ok(header) = decoder.header(bytes) else {
        return;
    };
    assert!((1..=8).contains(&header.orientation));
    let mut out = Scratch::default();
    let _ = decoder.check_whole(bytes, &header, &mut out);
    check_gray(&mut decoder, bytes, &header);
    for (channels, depth) in [(3, Depth::Eight), (1, Depth::Sixteen)] {
        let format = PixelFormat { channels, depth };
        let request = Request::whole(&header, format);
        let Ok(decoded) = decoder.decode(bytes.into(), &header, &request, &mut out) else {
            return;
        };
        let (width, height) = (header.width as usize, header.height as usize);
        assert_eq!(decoded.area.area(), width * height);
        let pixels = out.bytes(width * height * format.bytes()).expect("decoded into it");
        let mut upright = Scratch::default();
        orient(pixels, width, height, format.bytes(), header.orientation, &mut upright).expect("room");
    }
});

/// A gray image has a way of its own, in some formats; as RGB it goes the general one.
fn check_gray(decoder: &mut Decoder, bytes: &[u8], header: &Header) {
    if header.channels != 1 {
        return;
    }
    let count = header.width as usize * header.height as usize;
    let [gray, color] = [1, 3].map(|channels| {
        let format = PixelFormat { channels, depth: Depth::Eight };
        let mut out = Scratch::default();
        let done = decoder.decode(bytes.into(), header, &Request::whole(header, format), &mut out);
        done.ok().map(|_| out.bytes(count * channels).expect("decoded into it").to_vec())
    });
    let spread = |pixels: Vec<u8>| -> Vec<u8> { pixels.into_iter().flat_map(|value| [value; 3]).collect() };
    assert!(gray.map(spread) == color);
}
