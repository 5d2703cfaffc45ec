//! From an encoded image to the pixels that a recipe needs, decoded and turned upright.

use crate::codec::{Decoded, Decoder, Encoded, Format, Header, Request, orient, without_palette};
use crate::dataset::Place;
use crate::error::Result;
use crate::format::Column;
use crate::pixels::{PixelFormat, Rect, Scratch};
use crate::transform::{DecodeOptions, Mode, Move, Recipe, Source};

/// An image as it is stored, and how it is turned when it is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    /// Width and height, as stored.
    pub(crate) stored: (u32, u32),
    /// The EXIF orientation that decoding undoes; 1 where there is nothing to be done.
    turn: u8,
}

impl Pose {
    fn new(stored: (u32, u32), orientation: u8, options: &DecodeOptions) -> Self {
        let turn = if options.exif_orientation {
            orientation
        } else {
            1
        };
        Self { stored, turn }
    }

    /// Of an image with this header.
    pub(super) fn of(header: &Header, options: &DecodeOptions) -> Self {
        Self::new((header.width, header.height), header.orientation, options)
    }

    /// Of a row of a field, if that holds encoded images.
    pub(crate) fn of_row(place: &Place<'_>, index: usize, options: &DecodeOptions) -> Option<Self> {
        let Column::Image {
            width,
            height,
            orientation,
            ..
        } = place.block.column(index)
        else {
            return None;
        };
        let stored = (width.value(place.row), height.value(place.row));
        Some(Self::new(stored, orientation.value(place.row), options))
    }

    /// Of pixels that nobody turns.
    pub(super) fn of_pixels(width: u32, height: u32) -> Self {
        let stored = (width, height);
        Self { stored, turn: 1 }
    }

    /// Width and height as decoded.
    pub(crate) fn size(&self) -> (u32, u32) {
        Move::upright(self.turn, self.stored).size
    }

    /// Where turning takes places, if it does.
    pub(super) fn step(&self) -> Option<Move> {
        (self.turn > 1).then(|| Move::upright(self.turn, self.stored))
    }
}

/// A file's header, and its pose.
pub(super) struct Looked {
    header: Header,
    pub(super) pose: Pose,
}

/// Decodes and turns.
#[derive(Debug)]
pub(super) struct Opener {
    decoder: Decoder,
    decoded: Scratch,
    upright: Scratch,
}

impl Opener {
    pub(super) fn new(max_pixels: u64) -> Result<Self> {
        Ok(Self {
            decoder: Decoder::new(max_pixels)?,
            decoded: Scratch::default(),
            upright: Scratch::default(),
        })
    }

    pub(super) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Reads a file's header; its orientation too, unless that is stored.
    pub(super) fn look(&mut self, encoded: Encoded<'_>, options: &DecodeOptions) -> Result<Looked> {
        let header = match encoded.orientation {
            Some(stored) => self.decoder.stored_header(encoded.bytes, stored)?,
            None => self.decoder.header(encoded.bytes)?,
        };
        let pose = Pose::of(&header, options);
        Ok(Looked { header, pose })
    }

    /// Checks that a file is whole: by its structure, or pixel by pixel.
    pub(super) fn check(&mut self, bytes: &[u8], header: &Header, decode: bool) -> Result<()> {
        if decode {
            self.decoder.check_decodes(bytes, header, &mut self.decoded)
        } else {
            self.decoder.check_whole(bytes, header, &mut self.decoded)
        }
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        self.decoder.shrink(keep);
        self.decoded.shrink(keep);
        self.upright.shrink(keep);
    }

    /// What a recipe needs of an image, upright.
    pub(super) fn open(
        &mut self,
        encoded: Encoded<'_>,
        image: &Looked,
        options: &DecodeOptions,
        format: PixelFormat,
        recipe: &Recipe,
        reduction: u32,
    ) -> Result<Source<'_>> {
        let header = &image.header;
        let turned = image.pose.turn > 1;
        let whole = Rect::of_size(header.width, header.height);
        let request = Request {
            region: if turned {
                whole
            } else {
                recipe.needed().unwrap_or(whole)
            },
            format,
            reduce: allowed(reduction, options, header, turned),
        };
        let gray = if options.mode == Mode::Palette {
            without_palette(encoded.bytes, header)?
        } else {
            None
        };
        let encoded = (gray.as_ref()).map_or(encoded, |gray| Encoded::from(&gray.bytes[..]));
        let Decoded { area, reduce } =
            self.decoder
                .decode(encoded, header, &request, &mut self.decoded)?;
        let decoded = self.decoded.bytes(area.area() * format.bytes())?;
        if let Some(spread) = gray.map(|gray| gray.spread).filter(|&spread| spread > 1) {
            for value in decoded.iter_mut() {
                *value /= spread;
            }
        }
        let (pixels, area) = if turned {
            turn(decoded, area, header.orientation, format, &mut self.upright)?
        } else {
            (&*decoded, area)
        };
        Ok(Source {
            pixels,
            area,
            format,
            reduce,
        })
    }
}

/// How many times smaller an image is decoded. The resize that follows has the rest to do.
fn allowed(reduction: u32, options: &DecodeOptions, header: &Header, turned: bool) -> u32 {
    if !options.scaled || header.format != Format::Jpeg {
        return 1;
    }
    // Turned about, a partial last pixel would come first.
    let whole = header.width.is_multiple_of(reduction) && header.height.is_multiple_of(reduction);
    if turned && !whole { 1 } else { reduction }
}

fn turn<'a>(
    decoded: &[u8],
    area: Rect,
    orientation: u8,
    format: PixelFormat,
    upright: &'a mut Scratch,
) -> Result<(&'a [u8], Rect)> {
    let (width, height) = (area.width as usize, area.height as usize);
    orient(decoded, width, height, format.bytes(), orientation, upright)?;
    let area = match orientation {
        5.. => Rect::of_size(area.height, area.width),
        _ => area,
    };
    Ok((upright.bytes(decoded.len())?, area))
}
