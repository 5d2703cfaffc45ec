//! From an encoded image to the pixels that a recipe needs, decoded and turned upright.

use crate::codec::{Decoded, Decoder, Encoded, Format, Header, Request, orient, without_palette};
use crate::error::Result;
use crate::pixels::{PixelFormat, Rect, Scratch};
use crate::transform::{DecodeOptions, Mode, Recipe, Source};

/// An image's header, and how it lies when it is turned upright.
pub(super) struct Upright {
    header: Header,
    turned: bool,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Upright {
    fn of(header: Header, options: &DecodeOptions) -> Self {
        let turned = options.exif_orientation && header.orientation > 1;
        let [height, width] = upright_size(header.height, header.width, header.orientation, turned);
        Self {
            header,
            turned,
            width,
            height,
        }
    }
}

/// (height, width) once an image is turned.
pub(super) fn upright_size(height: u32, width: u32, orientation: u8, turned: bool) -> [u32; 2] {
    match (turned, orientation) {
        (true, 5..) => [width, height],
        _ => [height, width],
    }
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

    /// Reads a file's header.
    pub(super) fn look(&mut self, bytes: &[u8], options: &DecodeOptions) -> Result<Upright> {
        Ok(Upright::of(self.decoder.header(bytes)?, options))
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
        image: &Upright,
        options: &DecodeOptions,
        format: PixelFormat,
        recipe: &Recipe,
        reduction: u32,
    ) -> Result<Source<'_>> {
        let Upright { header, turned, .. } = image;
        let whole = Rect::of_size(header.width, header.height);
        let request = Request {
            region: if *turned {
                whole
            } else {
                recipe.needed().unwrap_or(whole)
            },
            format,
            reduce: allowed(reduction, options, header, *turned),
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
        let decoded = self.decoded.bytes(area.area() * format.bytes());
        if let Some(spread) = gray.map(|gray| gray.spread).filter(|&spread| spread > 1) {
            for value in decoded.iter_mut() {
                *value /= spread;
            }
        }
        let (pixels, area) = if *turned {
            turn(decoded, area, header.orientation, format, &mut self.upright)
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
) -> (&'a [u8], Rect) {
    let (width, height) = (area.width as usize, area.height as usize);
    orient(decoded, width, height, format.bytes(), orientation, upright);
    let area = match orientation {
        5.. => Rect::of_size(area.height, area.width),
        _ => area,
    };
    (upright.bytes(decoded.len()), area)
}
