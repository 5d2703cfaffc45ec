//! A file in any format: its header, the check that packing makes, and all of its pixels.

#![no_main]

use fastshard_core::codec::{Decoder, Request, orient};
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
    for (channels, depth) in [(3, Depth::Eight), (1, Depth::Sixteen)] {
        let format = PixelFormat { channels, depth };
        let request = Request::whole(&header, format);
        let Ok(decoded) = decoder.decode(bytes.into(), &header, &request, &mut out) else {
            return;
        };
        let (width, height) = (header.width as usize, header.height as usize);
        assert_eq!(decoded.area.area(), width * height);
        let pixels = out.bytes(width * height * format.bytes());
        let mut upright = Scratch::default();
        orient(pixels, width, height, format.bytes(), header.orientation, &mut upright);
    }
});
