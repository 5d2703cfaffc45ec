//! Seekable JPEG: a restart marker after every tile, and an index of where tiles start.
//!
//! A restart marker makes the entropy decoder start over, so any run of tiles, behind the original header with another
//! size, is a valid smaller JPEG. A tile is a run of minimum coded units within one row of them: the restart interval
//! divides the row. Coefficients stay what they were; the file is a standard JPEG for everybody else.
//!
//! The index is a hint from a file that anybody may have written: it is held against the markers in the data before
//! each use, all of them, and without agreement the image is decoded whole.

use turbojpeg_sys as tj;

use super::Format;
use super::jpeg::{MAX_SCANS, new_handle, set};
use super::jpeg_frame::{Frame, Segment, segments};
use super::orient::exif_segment;
use super::upright::orientation;
use crate::error::Result;
use crate::pixels::Rect;

/// Tiles are as wide as fits into this many pixels: narrow enough to leave much out, wide enough that markers and
/// restarted predictions cost less than the optimised Huffman tables save.
const TILE_WIDTH: u32 = 64;
/// Images with fewer units than this, either way, gain nothing worth the markers.
const MIN_MCUS: u32 = 8;

/// Units a tile for a row of so many: the largest divisor that keeps a tile within [`TILE_WIDTH`].
fn interval(columns: u32, mcu_width: u32) -> u32 {
    let most = (TILE_WIDTH / mcu_width).max(1);
    (1..=most.min(columns))
        .rev()
        .find(|units| columns.is_multiple_of(*units))
        .unwrap_or(1)
}

fn is_restart(bytes: &[u8], at: usize, number: usize) -> bool {
    bytes.get(at..at + 2) == Some(&[0xFF, 0xD0 | (number % 8) as u8])
}

/// Markers in entropy-coded data, where a 0xFF that is no marker is always followed by a zero. Counted in bytes, a short
/// stretch at a time, which compiles to vector code.
fn count_markers(data: &[u8]) -> usize {
    const STRETCH: usize = 248;
    let mut count = 0;
    for start in (0..data.len()).step_by(STRETCH) {
        let here = &data[start..data.len().min(start + STRETCH)];
        let next = &data[(start + 1).min(data.len())..data.len().min(start + STRETCH + 1)];
        let found = here
            .iter()
            .zip(next)
            .map(|(&a, &b)| u8::from(a == 0xFF) & u8::from(b != 0))
            .fold(0u8, u8::wrapping_add);
        count += usize::from(found);
    }
    count
}

/// Where each tile's data starts, from the markers themselves. `None` if the restart interval makes no tiles.
pub(super) fn index(bytes: &[u8], frame: &Frame) -> Option<Vec<u32>> {
    let (columns, rows) = frame.mcus();
    let whole_tiles = frame.restart_interval > 0 && columns.is_multiple_of(frame.restart_interval);
    if !frame.single_scan || !whole_tiles || u32::try_from(bytes.len()).is_err() {
        return None;
    }
    let tiles = (columns / frame.restart_interval * rows) as usize;
    let mut starts = vec![frame.scan_at as u32];
    let mut at = frame.scan_at;
    while let Some(found) = memchr(&bytes[at..]) {
        at += found;
        if is_restart(bytes, at, starts.len() - 1) {
            starts.push(at as u32 + 2);
        }
        at += 2;
        if at >= bytes.len() {
            break;
        }
    }
    (starts.len() == tiles).then_some(starts)
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == 0xFF)
}

/// An image's tiles, held against its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
    bytes: &'a [u8],
    starts: &'a [u32],
    /// Tiles a row.
    columns: u32,
    /// Pixels a tile.
    size: (u32, u32),
    end: usize,
}

impl<'a> Tiles<'a> {
    /// Checks an index against the data: as many starts as there must be tiles, in order, each behind the marker with
    /// its number, and no other markers in the data. Then there is only one index that can pass: the right one.
    pub(super) fn new(bytes: &'a [u8], frame: &Frame, starts: &'a [u32]) -> Option<Self> {
        let (columns, rows) = frame.mcus();
        let interval = frame.restart_interval;
        if !frame.single_scan || interval == 0 || !columns.is_multiple_of(interval) {
            return None;
        }
        let columns = columns / interval;
        let expected = columns as usize * rows as usize;
        let end = bytes.len().checked_sub(2)?;
        let right = starts.len() == expected
            && *starts.first()? as usize == frame.scan_at
            && bytes[end..] == [0xFF, 0xD9]
            && starts.windows(2).enumerate().all(|(number, pair)| {
                let next = pair[1] as usize;
                next >= pair[0] as usize + 2 && next <= end && is_restart(bytes, next - 2, number)
            })
            && count_markers(&bytes[frame.scan_at..end]) == expected - 1;
        right.then_some(Self {
            bytes,
            starts,
            columns,
            size: (interval * frame.mcu.0, frame.mcu.1),
            end,
        })
    }

    /// A tile's entropy-coded data.
    pub(super) fn data(&self, tile: usize) -> &'a [u8] {
        let start = self.starts[tile] as usize;
        let end = self
            .starts
            .get(tile + 1)
            .map_or(self.end, |&next| next as usize - 2);
        &self.bytes[start..end]
    }

    /// Writes a JPEG of the tiles that cover `area` and says which part of the image it shows.
    pub(super) fn cut(&self, frame: &Frame, area: Rect, out: &mut Vec<u8>) -> Rect {
        let (width, height) = self.size;
        let (left, top) = (area.x / width, area.y / height);
        let right = (area.x + area.width).div_ceil(width);
        let bottom = (area.y + area.height).div_ceil(height);
        let (x, y) = (left * width, top * height);
        let shown = Rect {
            x,
            y,
            width: (right * width).min(frame.width) - x,
            height: (bottom * height).min(frame.height) - y,
        };
        out.clear();
        frame.copy_header(self.bytes, shown.width, shown.height, out);
        let mut number = 0;
        for row in top..bottom {
            for column in left..right {
                if number > 0 {
                    out.extend_from_slice(&[0xFF, 0xD0 | ((number - 1) % 8) as u8]);
                }
                out.extend_from_slice(self.data((row * self.columns + column) as usize));
                number += 1;
            }
        }
        out.extend_from_slice(&[0xFF, 0xD9]);
        shown
    }
}

/// How JPEGs are re-coded.
#[derive(Clone, Copy, Debug)]
pub struct Transcoding {
    /// Larger images are left alone.
    pub max_pixels: u64,
    /// Leave out what isn't needed to show the image; of EXIF data the orientation stays, where it turns the image.
    pub drop_metadata: bool,
    /// Leave alone what decodes no faster for it: small sequential images.
    pub only_where_it_pays: bool,
}

/// A transcoded file and where its tiles start.
pub(super) type Seekable = (Vec<u8>, Vec<u32>);

/// Re-codes a JPEG with a restart marker after every tile, coefficients untouched, progressive becoming sequential.
/// `None` for what is stored better as it is: other kinds of JPEG, and data with any fault.
pub(super) fn transcode(bytes: &[u8], options: &Transcoding) -> Result<Option<Seekable>> {
    let Some(frame) = Frame::of(bytes).filter(can_seek) else {
        return Ok(None);
    };
    if frame.is_smoothed(bytes) {
        return Ok(None); // The pixels are more than the coefficients say.
    }
    if options.only_where_it_pays && !pays(&frame) {
        return Ok(None);
    }
    if !options.drop_metadata && has_more_images(bytes) {
        return Ok(None); // The library writes the first one, with an index of all.
    }
    let transcoder = Transcoder::new(options.max_pixels)?;
    let units = interval(frame.mcus().0, frame.mcu.0);
    let tidy = frame.tidied(bytes);
    let Some(mut transcoded) = transcoder.run(&tidy, units, options.drop_metadata)? else {
        return Ok(None);
    };
    let orientation = orientation(bytes, Format::Jpeg);
    if options.drop_metadata && orientation != 1 {
        insert_orientation(&mut transcoded, orientation);
    }
    // Whatever the library wrote, it counts only if it reads as it should.
    let starts = Frame::of(&transcoded).and_then(|frame| {
        let starts = index(&transcoded, &frame)?;
        Tiles::new(&transcoded, &frame, &starts)?;
        Some(starts)
    });
    Ok(starts.map(|starts| (transcoded, starts)))
}

/// Puts an orientation into a file without metadata: behind its JFIF segment, which comes first where there is one.
fn insert_orientation(bytes: &mut Vec<u8>, orientation: u8) {
    let at = match bytes[..] {
        [0xFF, 0xD8, 0xFF, 0xE0, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => 2,
    };
    bytes.splice(at..at, exif_segment(orientation));
}

/// Whether a file says that it holds other images behind its own (CIPA DC-007).
fn has_more_images(bytes: &[u8]) -> bool {
    segments(bytes).flatten().any(|Segment { marker, place }| {
        marker == 0xE2 && bytes[place.start + 4..place.end].starts_with(b"MPF\0")
    })
}

fn pays(frame: &Frame) -> bool {
    let (columns, rows) = frame.mcus();
    frame.kind == 0xC2 || columns.min(rows) >= MIN_MCUS
}

fn can_seek(frame: &Frame) -> bool {
    let (h, v) = (frame.mcu.0 / 8, frame.mcu.1 / 8);
    matches!(frame.kind, 0xC0..=0xC2)
        && frame.precision == 8
        && matches!(frame.components, 1 | 3)
        && matches!((h, v), (1 | 2 | 4, 1) | (1, 2 | 4) | (2, 2))
}

/// A handle for lossless transformations.
struct Transcoder {
    handle: tj::tjhandle,
}

impl Drop for Transcoder {
    fn drop(&mut self) {
        // SAFETY: the handle came from `tj3Init` and is not used afterwards.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Destroy(self.handle);
        }
    }
}

impl Transcoder {
    fn new(max_pixels: u64) -> Result<Self> {
        let this = Self {
            handle: new_handle(tj::TJINIT_TJINIT_TRANSFORM)?,
        };
        let limit = i32::try_from(max_pixels).unwrap_or(i32::MAX);
        set(this.handle, tj::TJPARAM_TJPARAM_MAXPIXELS, limit)?;
        set(this.handle, tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
        set(this.handle, tj::TJPARAM_TJPARAM_OPTIMIZE, 1)?;
        Ok(this)
    }

    /// `None` when the library has anything to complain of.
    fn run(
        &self,
        bytes: &[u8],
        restart_blocks: u32,
        drop_metadata: bool,
    ) -> Result<Option<Vec<u8>>> {
        set(
            self.handle,
            tj::TJPARAM_TJPARAM_RESTARTBLOCKS,
            restart_blocks as i32,
        )?;
        let mut transform = tj::tjtransform {
            r: tj::tjregion {
                x: 0,
                y: 0,
                w: 0,
                h: 0,
            },
            op: tj::TJXOP_TJXOP_NONE as i32,
            options: if drop_metadata {
                tj::TJXOPT_COPYNONE as i32
            } else {
                0
            },
            data: std::ptr::null_mut(),
            customFilter: None,
        };
        let mut start = std::ptr::null_mut();
        let mut length = 0;
        // SAFETY: the input is a live slice; the output is allocated by the library, which sets pointer and length; one
        // transform, without a filter.
        #[expect(unsafe_code, reason = "C interface")]
        let code = unsafe {
            tj::tj3Transform(
                self.handle,
                bytes.as_ptr(),
                bytes.len() as u64,
                1,
                &raw mut start,
                &raw mut length,
                &raw mut transform,
            )
        };
        let output = Output { start, length };
        // A file that can't be transcoded can be stored all the same; whether it is sound is looked at elsewhere.
        Ok((code == 0).then(|| output.to_vec()))
    }
}

/// A buffer that the library allocated.
struct Output {
    start: *mut u8,
    length: u64,
}

impl Output {
    fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the library allocated at least this many bytes and wrote them.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe { std::slice::from_raw_parts(self.start, self.length as usize) }.to_vec()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: allocated by the library, or null, which it takes.
        #[expect(unsafe_code, reason = "C interface")]
        unsafe {
            tj::tj3Free(self.start.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Decoder, Encoded, MAX_PIXELS, Request, encode_jpeg};
    use super::*;
    use crate::pixels::{Depth, PixelFormat, Scratch};
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
        Transcoder::new(MAX_PIXELS)
            .unwrap()
            .run(bytes, 0, true)
            .unwrap()
            .unwrap()
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
    fn counts_markers_across_stretches() {
        let mut data = vec![0u8; 2000];
        for at in [0, 246, 247, 248, 495, 700, 1998] {
            data[at] = 0xFF;
            data[at + 1] = 0xD0;
        }
        // 246 is overwritten by 247, 247 by 248.
        let plain = data
            .windows(2)
            .filter(|pair| pair[0] == 0xFF && pair[1] != 0)
            .count();
        assert_eq!(count_markers(&data), plain);
        assert_eq!(count_markers(&[]), 0);
        assert_eq!(count_markers(&[0xFF]), 0);
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
