//! One image field: from stored bytes (or raw pixels) to its place in the batch.

use super::arrange::{Arranged, before_values, check_erasing, only_erases};
use super::render::Renderer;
use crate::codec::{Decoded, Decoder, Encoded, Format, Header, MAX_PIXELS, Request, orient};
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::format::Column;
use crate::pixels::{Depth, PixelFormat, Rect, Scratch};
use crate::random::{Draws, Key};
use crate::schema::{Dtype, Field, Kind};
use crate::transform::{DecodeOptions, Finish, Layout, Operation, Recipe, Source};

/// Scratch beyond this is given back after the image that needed it.
const KEEP_SCRATCH: usize = 16 << 20;

/// Where pixels come from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Encoded(DecodeOptions),
    Raw { width: u32, height: u32 },
}

/// What is done to the images of one field.
#[derive(Debug)]
pub(crate) struct ImagePlan {
    name: String,
    index: usize,
    origin: Origin,
    pub(super) format: PixelFormat,
    /// The operations of a sample's recipe, with their places in the user's list (which key the random draws).
    steps: Vec<(usize, Operation)>,
    pub(super) finish: Finish,
    /// (height, width) of every output, where that is known beforehand.
    size: Option<[u32; 2]>,
}

pub(super) fn pixel_tensor(field: &Field) -> Option<(PixelFormat, [u32; 2])> {
    let Kind::Tensor { dtype, shape, .. } = &field.kind else {
        return None;
    };
    let depth = match dtype {
        Dtype::Uint8 => Depth::Eight,
        Dtype::Uint16 => Depth::Sixteen,
        _ => return None,
    };
    let &[height, width, channels @ (1 | 3)] = &shape[..] else {
        return None;
    };
    let size = [u32::try_from(height).ok()?, u32::try_from(width).ok()?];
    Some((PixelFormat { channels, depth }, size))
}

fn check_order(operations: &[Operation]) -> Result<()> {
    let mut values_changed = false;
    for (at, operation) in operations.iter().enumerate() {
        operation.check()?;
        if at > 0 && matches!(operation, Operation::Decode(_)) {
            return Err(Error::option(
                "Decode must come first in a field's transforms",
            ));
        }
        let changes = matches!(
            operation,
            Operation::ToDtype { .. } | Operation::Normalize { .. }
        );
        let pixels_stay = match operation {
            Operation::Decode(_) | Operation::Grayscale { .. } => true,
            _ => changes || only_erases(operation),
        };
        if values_changed && !pixels_stay {
            return Err(Error::option(format!(
                "transform {at} moves or changes pixels after ToDtype or Normalize; put it before them"
            )));
        }
        values_changed |= changes;
    }
    Ok(())
}

fn check_fill(operations: &[Operation], format: PixelFormat) -> Result<()> {
    let most = if format.depth == Depth::Eight {
        u16::from(u8::MAX)
    } else {
        u16::MAX
    };
    for operation in operations.iter().flat_map(Operation::parts) {
        if let Some(fill) = operation.fill()
            && ((fill.len() != 1 && fill.len() != format.channels)
                || fill.iter().any(|&value| value > most))
        {
            return Err(Error::option(format!(
                "fill is {fill:?}, expected one value or {}, each at most {most}",
                format.channels
            )));
        }
    }
    Ok(())
}

fn check_effects(operations: &[Operation], format: PixelFormat) -> Result<()> {
    match before_values(operations)
        .iter()
        .position(Operation::is_effect)
    {
        Some(at) if format.depth != Depth::Eight => Err(Error::option(format!(
            "transform {at} changes pixel values, which must have 8 bits; these have 16"
        ))),
        _ => Ok(()),
    }
}

impl ImagePlan {
    /// The plan for a field; `None` if it is to be handed over as it lies.
    pub(crate) fn new(
        dataset: &Dataset,
        field: &Field,
        operations: &[Operation],
        layout: Layout,
    ) -> Result<Option<Self>> {
        let index = dataset.field(&field.name)?;
        if field.kind == Kind::Image {
            let sizes = dataset.manifest().image_sizes.get(&field.name);
            let uniform = sizes
                .and_then(|sizes| sizes.uniform())
                .map(|(width, height)| [height, width]);
            return Self::encoded(&field.name, index, operations, layout, uniform).map(Some);
        }
        let wanted = !operations.is_empty() || layout == Layout::Nchw;
        let Some((format, [height, width])) = pixel_tensor(field).filter(|_| wanted) else {
            return Ok(None);
        };
        if matches!(operations.first(), Some(Operation::Decode(_))) {
            return Err(Error::option(format!(
                "Decode for field {:?}, which holds raw pixels",
                field.name
            )));
        }
        let origin = Origin::Raw { width, height };
        Self::build(
            &field.name,
            index,
            origin,
            format,
            Some([height, width]),
            operations,
            layout,
        )
        .map(Some)
    }

    /// The plan for encoded images, of this (height, width) if they all share it.
    pub(crate) fn encoded(
        name: &str,
        index: usize,
        operations: &[Operation],
        layout: Layout,
        uniform: Option<[u32; 2]>,
    ) -> Result<Self> {
        let options = match operations.first() {
            Some(Operation::Decode(options)) => *options,
            _ => DecodeOptions::default(),
        };
        let size = uniform.filter(|_| !options.exif_orientation);
        Self::build(
            name,
            index,
            Origin::Encoded(options),
            options.format(),
            size,
            operations,
            layout,
        )
    }

    fn build(
        name: &str,
        index: usize,
        origin: Origin,
        format: PixelFormat,
        size: Option<[u32; 2]>,
        operations: &[Operation],
        layout: Layout,
    ) -> Result<Self> {
        check_order(operations)?;
        check_fill(operations, format)?;
        check_effects(operations, format)?;
        let Arranged {
            steps,
            values,
            input,
        } = Arranged::new(operations, format);
        let finish = Finish::new(&values, input, layout)?;
        check_erasing(&steps, format, finish.channels())?;
        Ok(Self {
            name: name.to_owned(),
            index,
            origin,
            format,
            steps,
            finish,
            size: operations
                .iter()
                .fold(size, |size, operation| operation.output_size(size)),
        })
    }

    /// How images are decoded, where they are.
    pub(crate) fn decode_options(&self) -> Option<DecodeOptions> {
        match self.origin {
            Origin::Encoded(options) => Some(options),
            Origin::Raw { .. } => None,
        }
    }

    /// Channels of the result.
    pub(crate) fn channels(&self) -> usize {
        self.finish.channels()
    }

    /// (height, width) that all samples share, where that is known.
    pub(crate) fn size(&self) -> Option<[u32; 2]> {
        self.size
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.finish.dtype()
    }

    /// The shape that all samples share.
    pub(crate) fn shape(&self) -> Result<Vec<usize>> {
        let size = self.size.ok_or_else(|| {
            Error::option(format!(
                "field {:?} holds images of different sizes, which can't be put in one batch: add Resize((height, \
                 width)), RandomResizedCrop, CenterCrop or ResizePad to its transforms",
                self.name
            ))
        })?;
        Ok(self.finish.shape(size))
    }

    fn max_pixels(&self) -> u64 {
        match self.origin {
            Origin::Encoded(options) => options.max_pixels,
            Origin::Raw { .. } => MAX_PIXELS,
        }
    }

    fn recipe(&self, width: u32, height: u32, key: Key) -> Result<Recipe> {
        let mut recipe = Recipe::new(width, height);
        for (at, operation) in &self.steps {
            operation
                .apply(&mut recipe, &mut Draws::new(key, *at))
                .map_err(|error| match error {
                    Error::Option { reason } => Error::decode(reason),
                    other => other,
                })?;
        }
        Ok(recipe)
    }
}

/// One thread's tools for one field.
#[derive(Debug)]
pub(crate) struct ImageWorker {
    decoder: Decoder,
    decoded: Scratch,
    upright: Scratch,
    renderer: Renderer,
}

impl ImageWorker {
    pub(crate) fn new(plan: &ImagePlan) -> Result<Self> {
        Ok(Self {
            decoder: Decoder::new(plan.max_pixels())?,
            decoded: Scratch::default(),
            upright: Scratch::default(),
            renderer: Renderer::default(),
        })
    }

    /// Produces one sample. `out` is asked for memory once the sample's (height, width) is known.
    pub(crate) fn run<'a>(
        &mut self,
        plan: &ImagePlan,
        place: &Place<'_>,
        key: Key,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        match (place.block.column(plan.index), plan.origin) {
            (Column::Image { bytes, tiles, .. }, Origin::Encoded(options)) => {
                let source = Encoded {
                    bytes: bytes.value(place.row),
                    tiles: tiles.value(place.row),
                };
                self.run_encoded(plan, source, options, key, out)
            }
            (Column::Fixed { values, row_bytes }, Origin::Raw { width, height }) => {
                let recipe = plan.recipe(width, height, key)?;
                let source = Source {
                    pixels: &values[place.row * row_bytes..][..*row_bytes],
                    area: Rect::of_size(width, height),
                    format: plan.format,
                    reduce: 1,
                };
                self.renderer.run(plan, &recipe, source, out)
            }
            _ => Err(Error::decode(format!(
                "field {:?} is not stored as the manifest says",
                plan.name
            ))),
        }
    }

    /// The decoder, for looking at headers.
    pub(crate) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Checks that a file is whole: by its structure, or pixel by pixel.
    pub(crate) fn check(&mut self, bytes: &[u8], header: &Header, decode: bool) -> Result<()> {
        if decode {
            self.decoder
                .check_decodes(bytes, header, &mut self.decoded)?;
        } else {
            self.decoder.check_whole(bytes, header, &mut self.decoded)?;
        }
        self.shrink();
        Ok(())
    }

    /// The same from the bytes of a file.
    pub(crate) fn run_encoded<'a>(
        &mut self,
        plan: &ImagePlan,
        encoded: Encoded<'_>,
        options: DecodeOptions,
        key: Key,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        let header = self.decoder.header(encoded.bytes)?;
        let turned = options.exif_orientation && header.orientation > 1;
        let (width, height) = match (turned, header.orientation) {
            (true, 5..) => (header.height, header.width),
            _ => (header.width, header.height),
        };
        let recipe = plan.recipe(width, height, key)?;
        let whole = Rect::of_size(header.width, header.height);
        let needed = if turned {
            whole
        } else {
            recipe.needed().unwrap_or(whole)
        };
        let Self {
            decoder,
            decoded,
            upright,
            renderer,
        } = self;
        let request = Request {
            region: needed,
            format: plan.format,
            reduce: reduction(&options, &recipe, &header, turned),
        };
        let Decoded { area, reduce } = decoder.decode(encoded, &header, &request, decoded)?;
        let decoded = decoded.bytes(area.area() * plan.format.bytes());
        let (pixels, area) = if turned {
            turn(decoded, area, header.orientation, plan.format, upright)
        } else {
            (&*decoded, area)
        };
        let source = Source {
            pixels,
            area,
            format: plan.format,
            reduce,
        };
        let result = renderer.run(plan, &recipe, source, out);
        self.shrink();
        result
    }

    fn shrink(&mut self) {
        self.decoder.shrink(KEEP_SCRATCH);
        self.decoded.shrink(KEEP_SCRATCH);
        self.upright.shrink(KEEP_SCRATCH);
        self.renderer.shrink(KEEP_SCRATCH);
    }
}

/// How many times smaller an image may be decoded. The resize that follows has the rest to do.
fn reduction(options: &DecodeOptions, recipe: &Recipe, header: &Header, turned: bool) -> u32 {
    if !options.scaled || header.format != Format::Jpeg {
        return 1;
    }
    let reduce = recipe.reduction();
    // Turned about, a partial last pixel would come first.
    let whole = header.width.is_multiple_of(reduce) && header.height.is_multiple_of(reduce);
    if turned && !whole { 1 } else { reduce }
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

/// A decoded image.
#[derive(Debug)]
pub struct Sample {
    /// The values.
    pub bytes: Vec<u8>,
    /// Their type.
    pub dtype: Dtype,
    /// Their shape.
    pub shape: Vec<usize>,
}

/// Decodes and transforms one image of a dataset, as epoch 0 of seed 0 would. Slow: for looking, not for training.
pub fn read_image(
    dataset: &Dataset,
    row: u64,
    field: &str,
    operations: &[Operation],
) -> Result<Option<Sample>> {
    let place = dataset.locate(row)?;
    let index = dataset.field(field)?;
    let Some(plan) = ImagePlan::new(dataset, &dataset.fields()[index], operations, Layout::Nhwc)?
    else {
        return Ok(None);
    };
    place
        .block
        .check(place.row)
        .map_err(|reason| dataset.corrupt_row(row, &place, &reason))?;
    let mut worker = ImageWorker::new(&plan)?;
    let key = Key {
        seed: 0,
        epoch: 0,
        row,
        field: index as u64,
    };
    // Words, so that every dtype is aligned.
    let mut words: Vec<u64> = Vec::new();
    let mut shape = Vec::new();
    let finish = &plan.finish;
    let length_of = |shape: &[usize]| shape.iter().product::<usize>() * finish.dtype().size();
    let (grown, found) = (&mut words, &mut shape);
    worker
        .run(&plan, &place, key, move |height_width| {
            *found = finish.shape(height_width);
            let length = length_of(found);
            grown.resize(length.div_ceil(8), 0);
            Ok(&mut bytemuck::cast_slice_mut(grown)[..length])
        })
        .map_err(|error| dataset.blame(row, &place, error))?;
    let length = length_of(&shape);
    let bytes = bytemuck::cast_slice(&words)[..length].to_vec();
    Ok(Some(Sample {
        bytes,
        dtype: plan.dtype(),
        shape,
    }))
}
