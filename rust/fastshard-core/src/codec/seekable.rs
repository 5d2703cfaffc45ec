//! Seekable JPEG: a lossless re-coding with a restart marker after every tile, and an index of the tiles.
//!
//! # Idea
//!
//! A JPEG can normally be decoded from its first byte only, since a code's place depends on all codes in front of it. A
//! restart marker makes the decoder start over. So with a marker after every tile, a region costs the tiles that it
//! touches.
//!
//! A tile is a run of minimum coded units (MCUs) within one row. The restart interval, which is the width of a tile in
//! units, divides the row, so that tiles form a grid. Tiles are up to [`TILE_WIDTH`] pixels wide and one unit high.
//!
//! # Why nothing is lost
//!
//! libjpeg-turbo decodes the Huffman codes and encodes the same coefficients again, with Huffman tables made for this
//! image (`TJPARAM_OPTIMIZE`). There is no inverse transform and no quantisation between. The result is a standard
//! sequential JPEG that every decoder reads. Tests compare all coefficients, and pixels of random regions with those of
//! the original.
//!
//! A file stays as it is where the pixels could change or where the library complains: see [`transcode`]. Its own
//! output is used only if [`super::tiles`] accepts the index of it.
//!
//! # Cost
//!
//! Two bytes a marker, up to 7 bits before it, and a DC coefficient whose prediction is 0. A progressive file becomes
//! sequential, which usually takes more bytes. The index has four bytes a tile. Optimised tables save bytes against
//! these.

use turbojpeg_sys as tj;

use super::format::Format;
use super::jpeg_frame::{Frame, Segment, segments};
use super::orient::exif_segment;
use super::tiles::{Tiles, index};
use super::turbo::Turbo;
use super::upright::orientation;
use crate::error::Result;

/// The largest width of a tile in pixels. Narrow tiles leave out more around a region. This width still keeps the
/// markers and restarted predictions cheaper than what optimised Huffman tables save.
const TILE_WIDTH: u32 = 64;
/// Images with fewer rows or columns of units than this gain too little to be worth the markers.
const MIN_MCUS: u32 = 8;

/// The width of a tile in units: the largest divisor of `columns` that keeps a tile within [`TILE_WIDTH`] pixels, at
/// least 1.
fn interval(columns: u32, mcu_width: u32) -> u32 {
    let most = (TILE_WIDTH / mcu_width).max(1);
    (1..=most.min(columns))
        .rev()
        .find(|units| columns.is_multiple_of(*units))
        .unwrap_or(1)
}

/// What to re-code, and what to keep, when JPEGs are made seekable.
#[derive(Clone, Copy, Debug)]
pub struct Transcoding {
    /// Largest number of pixels, width times height, of an image that is re-coded. Larger ones stay as they are.
    pub max_pixels: u64,
    /// Drop all metadata that isn't needed to show the image. An EXIF orientation other than 1 is kept, alone.
    pub drop_metadata: bool,
    /// Keep small sequential images as they are, because tiles don't make them faster to decode.
    pub only_where_it_pays: bool,
}

/// A re-coded file and its index: the offset of each tile's data.
pub(super) type Seekable = (Vec<u8>, Vec<u32>);

/// Re-codes a JPEG with a restart marker after every tile, with the same coefficients. A progressive file becomes
/// sequential.
///
/// `None` for a file that is better stored as it is: other processes and samplings, files that gain nothing (where
/// options say so), and any file that libjpeg-turbo complains of. Two more kinds stay: progressive files with missing
/// scans, which decoders smooth; and, where metadata is kept, files with further images behind the first.
pub(super) fn transcode(bytes: &[u8], options: &Transcoding) -> Result<Option<Seekable>> {
    let Some(frame) = Frame::of(bytes).filter(can_seek) else {
        return Ok(None);
    };
    if frame.is_smoothed(bytes) {
        return Ok(None); // Decoders compute what is missing from blocks around, so that tiles don't suffice.
    }
    if options.only_where_it_pays && !pays(&frame) {
        return Ok(None);
    }
    if !options.drop_metadata && has_more_images(bytes) {
        return Ok(None); // The library would write the first image, but with the index of all of them.
    }
    let units = interval(frame.mcus().0, frame.mcu.0);
    let tidy = frame.tidied(bytes);
    let Some(mut transcoded) = recode(&tidy, options.max_pixels, units, options.drop_metadata)?
    else {
        return Ok(None);
    };
    let orientation = orientation(bytes, Format::Jpeg);
    if options.drop_metadata && orientation != 1 {
        insert_orientation(&mut transcoded, orientation);
    }
    // The library's output is checked as a file from anywhere: its markers must make an index that passes.
    let starts = Frame::of(&transcoded).and_then(|frame| {
        let starts = index(&transcoded, &frame)?;
        Tiles::new(&transcoded, &frame, &starts)?;
        Some(starts)
    });
    Ok(starts.map(|starts| (transcoded, starts)))
}

/// Inserts an EXIF segment with an orientation into a file without metadata, behind the JFIF segment if there is one.
fn insert_orientation(bytes: &mut Vec<u8>, orientation: u8) {
    let at = match bytes[..] {
        [0xFF, 0xD8, 0xFF, 0xE0, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => 2,
    };
    bytes.splice(at..at, exif_segment(orientation));
}

/// Whether a file has an index of further images behind its first one: the multi-picture format, CIPA DC-007.
fn has_more_images(bytes: &[u8]) -> bool {
    segments(bytes).flatten().any(|Segment { marker, place }| {
        marker == 0xE2 && bytes[place.start + 4..place.end].starts_with(b"MPF\0")
    })
}

/// Whether tiles make a file faster to decode: any progressive one, or one with enough units in both directions.
fn pays(frame: &Frame) -> bool {
    let (columns, rows) = frame.mcus();
    frame.kind == 0xC2 || columns.min(rows) >= MIN_MCUS
}

/// Whether a file is Huffman-coded JPEG of 8 bits, gray or of three components, with a usual size of units.
fn can_seek(frame: &Frame) -> bool {
    let (h, v) = (frame.mcu.0 / 8, frame.mcu.1 / 8);
    matches!(frame.kind, 0xC0..=0xC2)
        && frame.precision == 8
        && matches!(frame.components, 1 | 3)
        && matches!((h, v), (1 | 2 | 4, 1) | (1, 2 | 4) | (2, 2))
}

/// Re-codes a file with a restart marker after every `units` units. `None` when the library has any complaint.
fn recode(
    bytes: &[u8],
    max_pixels: u64,
    units: u32,
    drop_metadata: bool,
) -> Result<Option<Vec<u8>>> {
    let mut turbo = Turbo::transformer(max_pixels)?;
    turbo.set(tj::TJPARAM_TJPARAM_OPTIMIZE, 1)?;
    turbo.set(tj::TJPARAM_TJPARAM_RESTARTBLOCKS, units as i32)?;
    // No error: a file that can't be re-coded is stored as it is, and other code checks whether it is sound.
    Ok(turbo.transform(bytes, drop_metadata))
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Decoder, Encoded, Request, encode_jpeg};
    use super::*;
    use crate::pixels::{Depth, MAX_PIXELS, PixelFormat, Rect, Scratch};
    use crate::random::{Draws, Key, mix};

    const RGB: PixelFormat = PixelFormat {
        channels: 3,
        depth: Depth::Eight,
    };
    const ALL: Transcoding = Transcoding {
        max_pixels: MAX_PIXELS,
        drop_metadata: false,
        only_where_it_pays: false,
    };

    fn photo(width: u32, height: u32, channels: usize) -> Vec<u8> {
        let pixels = (0..width as usize * height as usize * channels)
            .map(|at| ((at / channels % width as usize) as u64 / 2 + (mix(at as u64) & 63)) as u8)
            .collect::<Vec<_>>();
        encode_jpeg(&pixels, width, height, channels, 90).unwrap()
    }

    fn decode(encoded: Encoded<'_>, region: Rect, reduce: u32) -> (Decoded, Vec<u8>) {
        let mut decoder = Decoder::new(MAX_PIXELS).unwrap();
        let header = decoder.header(encoded.bytes).unwrap();
        let request = Request {
            region,
            format: RGB,
            reduce,
        };
        let mut out = Scratch::default();
        let decoded = decoder
            .decode(encoded, &header, &request, &mut out)
            .unwrap();
        (
            decoded,
            out.bytes(decoded.area.area() * 3).unwrap().to_vec(),
        )
    }

    /// The pixels of a region (of the reduced image) out of a larger one.
    fn part((decoded, pixels): &(Decoded, Vec<u8>), region: Rect) -> Vec<u8> {
        let area = decoded.area;
        let row = |y: u32| {
            let start = ((region.y - area.y + y) * area.width + region.x - area.x) as usize * 3;
            &pixels[start..start + region.width as usize * 3]
        };
        (0..region.height).flat_map(row).copied().collect()
    }

    fn random_region(seed: u64, width: u32, height: u32) -> Rect {
        let key = Key {
            seed,
            epoch: 0,
            row: 0,
            field: 0,
        };
        let mut draws = Draws::new(key, 0);
        let (x, y) = (draws.below(width), draws.below(height));
        Rect {
            x,
            y,
            width: 1 + draws.below(width - x),
            height: 1 + draws.below(height - y),
        }
    }

    /// A file's coefficients in one canonical coding: equal bytes, equal coefficients and tables.
    fn canonical(bytes: &[u8]) -> Vec<u8> {
        recode(bytes, MAX_PIXELS, 0, true).unwrap().unwrap()
    }

    #[test]
    fn transcoding_keeps_every_coefficient() {
        for (width, height, channels) in [(203, 117, 3), (64, 64, 1), (500, 375, 3), (9, 9, 3)] {
            let original = photo(width, height, channels);
            let (bytes, tiles) = transcode(&original, &ALL).unwrap().unwrap();
            assert_eq!(canonical(&original), canonical(&bytes));
            let frame = Frame::of(&bytes).unwrap();
            assert_eq!(index(&bytes, &frame).unwrap(), tiles);
        }
    }

    #[test]
    fn tiles_give_the_pixels_of_the_whole() {
        for (width, height, channels) in [(203, 117, 3), (320, 240, 3), (130, 300, 1)] {
            let original = photo(width, height, channels);
            let (bytes, tiles) = transcode(&original, &ALL).unwrap().unwrap();
            let seekable = Encoded {
                tiles: &tiles,
                ..(&bytes[..]).into()
            };
            for reduce in [1, 2, 4, 8] {
                let whole = decode((&original[..]).into(), Rect::of_size(width, height), reduce);
                for seed in 0..60 {
                    let region = random_region(seed, width, height);
                    let shown = Rect {
                        x: region.x / reduce,
                        y: region.y / reduce,
                        width: (region.x + region.width).div_ceil(reduce) - region.x / reduce,
                        height: (region.y + region.height).div_ceil(reduce) - region.y / reduce,
                    };
                    let expected = part(&whole, shown);
                    for source in [seekable, (&bytes[..]).into(), (&original[..]).into()] {
                        let found = part(&decode(source, region, reduce), shown);
                        assert!(found == expected, "{region:?} at 1/{reduce}");
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_indices_change_nothing() {
        let (width, height) = (320, 240);
        let (bytes, tiles) = transcode(&photo(width, height, 3), &ALL).unwrap().unwrap();
        let region = Rect {
            x: 100,
            y: 100,
            width: 60,
            height: 50,
        };
        let expected = part(&decode((&bytes[..]).into(), region, 1), region);
        let mut wrong: Vec<Vec<u32>> = vec![
            vec![],
            vec![0],
            vec![u32::MAX; tiles.len()],
            tiles[1..].to_vec(),
            tiles.iter().map(|start| start + 1).collect(),
            tiles.iter().rev().copied().collect(),
            [&tiles[..], &[bytes.len() as u32]].concat(),
        ];
        for at in 0..tiles.len() {
            for other in [tiles[(at + 8) % tiles.len()], tiles[at] ^ 1, 0, u32::MAX] {
                let mut changed = tiles.clone();
                changed[at] = other;
                wrong.push(changed);
            }
        }
        // Eight on: the markers have the right numbers there.
        wrong.push(tiles[8..].iter().chain(&tiles[..8]).copied().collect());
        for tiles in &wrong {
            let encoded = Encoded {
                tiles,
                ..(&bytes[..]).into()
            };
            assert!(part(&decode(encoded, region, 1), region) == expected);
        }
    }

    #[test]
    fn a_marker_within_a_tile_spoils_all() {
        let (bytes, tiles) = transcode(&photo(320, 240, 3), &ALL).unwrap().unwrap();
        let frame = Frame::of(&bytes).unwrap();
        assert!(Tiles::new(&bytes, &frame, &tiles).is_some());
        for marker in [0xC4, 0xD0, 0xD9, 0xFF] {
            let mut spoilt = bytes.clone();
            let at = tiles[5] as usize + 3;
            spoilt[at..at + 2].copy_from_slice(&[0xFF, marker]);
            assert!(Tiles::new(&spoilt, &frame, &tiles).is_none());
        }
    }

    #[test]
    fn an_orientation_survives_without_the_rest() {
        let mut original = photo(320, 240, 3);
        let mut exif = exif_segment(6);
        exif.extend_from_slice(b"\xFF\xFE\0\x06here");
        original.splice(2..2, exif);
        let drop = Transcoding {
            drop_metadata: true,
            ..ALL
        };
        let (bytes, tiles) = transcode(&original, &drop).unwrap().unwrap();
        let frame = Frame::of(&bytes).unwrap();
        assert_eq!((orientation(&bytes, Format::Jpeg), frame.width), (6, 320));
        assert!(Tiles::new(&bytes, &frame, &tiles).is_some());
        assert!(!bytes.windows(4).any(|bytes| bytes == b"here"));
    }

    #[test]
    fn tile_widths_divide_the_row() {
        for columns in 1..200 {
            for mcu_width in [8, 16, 32] {
                let units = interval(columns, mcu_width);
                assert!(columns.is_multiple_of(units) && units * mcu_width <= TILE_WIDTH);
            }
        }
    }
}
