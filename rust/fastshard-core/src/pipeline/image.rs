//! One image field: from stored bytes (or raw pixels) to its place in the batch.

use std::time::Instant;

use super::arrange::{Arranged, before_values, check_erasing, only_erases};
use super::boxes::Moves;
use super::open::{Opener, upright_size};
use super::render::Renderer;
use super::stats::Times;
use crate::cache::Entry;
use crate::codec::{Decoder, Encoded, Header, MAX_PIXELS};
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::format::Column;
use crate::pixels::{Depth, PixelFormat, Rect, Scratch};
use crate::random::{Draws, Key};
use crate::schema::{Dtype, Field, Kind};
use crate::transform::{DecodeOptions, Finish, Layout, Mask, Move, Operation, Recipe, Source};

/// For what draws nothing.
const NOBODY: Key = Key {
    seed: 0,
    epoch: 0,
    row: 0,
    field: 0,
};

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
    pub(super) steps: Vec<(usize, Operation)>,
    /// How many of them come before anything random, and so are the same each time.
    pub(super) prefix: usize,
    /// Whether one of these resizes.
    pub(super) prefix_resizes: bool,
    /// Where the pixels behind those are kept.
    pub(super) kept: Option<Kept>,
    pub(super) finish: Finish,
    /// (height, width) of every output, where that is known beforehand.
    size: Option<[u32; 2]>,
    /// The field from whose random numbers it draws: its own, or one that it follows.
    pub(super) draws_as: usize,
    /// How it is sampled instead, if it is a mask.
    mask: Option<Mask>,
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
            let sizes = dataset.manifest().ranges.image_sizes.get(&field.name);
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
        let fixed = |(_, step): &&(usize, Operation)| step.is_fixed_geometry();
        let prefix = steps.iter().take_while(fixed).count();
        Ok(Self {
            prefix,
            prefix_resizes: steps[..prefix].iter().any(|(_, step)| step.resizes()),
            kept: None,
            name: name.to_owned(),
            index,
            origin,
            format,
            steps,
            finish,
            size: operations
                .iter()
                .fold(size, |size, operation| operation.output_size(size)),
            draws_as: index,
            mask: None,
        })
    }

    /// Draws the random numbers of another field. `shift`: by how many places its list begins earlier than this one.
    pub(super) fn follow(&mut self, field: usize, mask: Option<Mask>, shift: isize) -> Result<()> {
        if let Some(mask) = &mask {
            let fill = [Operation::Pad {
                padding: [0; 4],
                fill: mask.fill.clone(),
            }];
            check_fill(&fill, self.format)?;
        }
        for (at, _) in &mut self.steps {
            *at = at.saturating_add_signed(-shift);
        }
        (self.draws_as, self.mask) = (field, mask);
        Ok(())
    }

    /// For an untouched image.
    fn blank(&self, width: u32, height: u32) -> Recipe {
        self.seen(Recipe::new(width, height))
    }

    fn seen(&self, recipe: Recipe) -> Recipe {
        match &self.mask {
            Some(mask) => recipe.of_mask(mask),
            None => recipe,
        }
    }

    /// How it is sampled instead of as its operations say.
    pub(super) fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
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

    /// What becomes of an image of this size, and how many times smaller it may be decoded for that.
    fn recipe(&self, width: u32, height: u32, key: Key) -> Result<(Recipe, u32)> {
        let mut recipe = self.start(width, height)?;
        let begun = recipe.reduction();
        self.go_on(&mut recipe, key)?;
        // Where the beginning resizes, it alone says how: so it gives the same pixels whatever follows.
        let reduction = if self.prefix_resizes {
            begun
        } else {
            recipe.reduction()
        };
        Ok((recipe, reduction))
    }

    /// Width and height of a row's image before anything is done to it, as it is loaded or, if it isn't, by default.
    pub(super) fn source_size(
        loaded: Option<&Self>,
        field: &Field,
        place: &Place<'_>,
        index: usize,
    ) -> Result<(u32, u32)> {
        match place.block.column(index) {
            Column::Image {
                width,
                height,
                orientation,
                ..
            } => {
                let options = loaded.and_then(Self::decode_options).unwrap_or_default();
                let (width, height) = (width.value(place.row), height.value(place.row));
                let orientation = orientation.value(place.row);
                let turned = options.exif_orientation && orientation > 1;
                let [height, width] = upright_size(height, width, orientation, turned);
                Ok((width, height))
            }
            _ => pixel_tensor(field)
                .map(|(_, [height, width])| (width, height))
                .ok_or_else(|| Error::option(format!("field {:?} holds no images", field.name))),
        }
    }

    /// Where geometry takes the places of an image of this width and height.
    pub(super) fn moves(&self, (width, height): (u32, u32), key: Key) -> Result<Vec<Move>> {
        let mut recipe = self.seen(Recipe::tracked(width, height));
        apply(&self.steps, &mut recipe, key)?;
        Ok(recipe.moves().collect())
    }

    /// The same for an image with this header, when nothing random is done to it.
    pub(crate) fn moves_of(&self, header: &Header) -> Result<Moves> {
        let turned = self
            .decode_options()
            .is_some_and(|options| options.exif_orientation)
            && header.orientation > 1;
        let [height, width] = upright_size(header.height, header.width, header.orientation, turned);
        let size = (width, height);
        let steps = self.moves(size, NOBODY)?;
        Ok(Moves { size, steps })
    }

    /// The recipe of the prefix alone.
    pub(super) fn start(&self, width: u32, height: u32) -> Result<Recipe> {
        let mut recipe = self.blank(width, height);
        apply(&self.steps[..self.prefix], &mut recipe, NOBODY)?;
        Ok(recipe)
    }

    /// Adds what follows the prefix.
    fn go_on(&self, recipe: &mut Recipe, key: Key) -> Result<()> {
        apply(&self.steps[self.prefix..], recipe, key)
    }

    /// Whether the pixels of a row need not be decoded.
    pub(super) fn is_kept(&self, row: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.entry.holds(row))
    }
}

fn apply(steps: &[(usize, Operation)], recipe: &mut Recipe, key: Key) -> Result<()> {
    for (at, operation) in steps {
        operation
            .apply(recipe, &mut Draws::new(key, *at))
            .map_err(|error| match error {
                Error::Option { reason } => Error::decode(reason),
                other => other,
            })?;
    }
    Ok(())
}

/// Where the pixels behind a prefix are kept, and how they are written there: as they are.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) entry: Entry,
    pub(super) as_they_are: Finish,
}

/// One thread's tools for one field.
#[derive(Debug)]
pub(crate) struct ImageWorker {
    opener: Opener,
    /// What goes into the cache.
    kept: Scratch,
    renderer: Renderer,
    /// Since somebody last took them.
    times: Times,
}

impl ImageWorker {
    pub(crate) fn new(plan: &ImagePlan) -> Result<Self> {
        Ok(Self {
            opener: Opener::new(plan.max_pixels())?,
            kept: Scratch::default(),
            renderer: Renderer::default(),
            times: Times::default(),
        })
    }

    /// Where the time went since the last call.
    pub(super) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
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
                match &plan.kept {
                    Some(kept) => {
                        self.run_kept(plan, kept, source, options, place.number, key, out)
                    }
                    None => self.run_encoded(plan, source, options, key, out),
                }
            }
            (Column::Fixed { values, row_bytes }, Origin::Raw { width, height }) => {
                let started = Instant::now();
                let (recipe, _) = plan.recipe(width, height, key)?;
                let source = Source {
                    pixels: &values[place.row * row_bytes..][..*row_bytes],
                    area: Rect::of_size(width, height),
                    format: plan.format,
                    reduce: 1,
                };
                let result = (self.renderer).run(plan.format, &plan.finish, &recipe, source, out);
                self.times.resample += started.elapsed();
                result
            }
            _ => Err(Error::decode(format!(
                "field {:?} is not stored as the manifest says",
                plan.name
            ))),
        }
    }

    /// The decoder, for looking at headers.
    pub(crate) fn decoder(&mut self) -> &mut Decoder {
        self.opener.decoder()
    }

    /// Checks that a file is whole: by its structure, or pixel by pixel.
    pub(crate) fn check(&mut self, bytes: &[u8], header: &Header, decode: bool) -> Result<()> {
        self.opener.check(bytes, header, decode)?;
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
        let started = Instant::now();
        let image = self.opener.look(encoded.bytes, &options)?;
        let (recipe, reduction) = plan.recipe(image.width, image.height, key)?;
        let source =
            (self.opener).open(encoded, &image, &options, plan.format, &recipe, reduction)?;
        let decoded = Instant::now();
        let result = (self.renderer).run(plan.format, &plan.finish, &recipe, source, out);
        self.times.decode += decoded - started;
        self.times.resample += decoded.elapsed();
        self.shrink();
        result
    }

    /// The same by way of the cache.
    #[expect(
        clippy::too_many_arguments,
        reason = "those of `run_encoded`, and where the pixels are kept"
    )]
    fn run_kept<'a>(
        &mut self,
        plan: &ImagePlan,
        kept: &Kept,
        encoded: Encoded<'_>,
        options: DecodeOptions,
        row: u64,
        key: Key,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        let Self {
            opener,
            kept: made,
            renderer,
            times,
        } = self;
        let mut started = Instant::now();
        let (pixels, [height, width]) = if let Some(found) = kept.entry.read(row) {
            (found.pixels, found.size)
        } else {
            let image = opener.look(encoded.bytes, &options)?;
            let recipe = plan.start(image.width, image.height)?;
            let source = opener.open(
                encoded,
                &image,
                &options,
                plan.format,
                &recipe,
                recipe.reduction(),
            )?;
            let decoded = Instant::now();
            times.decode += decoded - started;
            started = decoded;
            let (width, height) = recipe.size();
            let pixels = made.bytes(Rect::of_size(width, height).area() * plan.format.bytes());
            renderer.run(plan.format, &kept.as_they_are, &recipe, source, |_| {
                Ok(&mut *pixels)
            })?;
            kept.entry.write(row, [height, width], pixels);
            (&*pixels, [height, width])
        };
        let mut recipe = plan.blank(width, height);
        plan.go_on(&mut recipe, key)?;
        let source = Source {
            pixels,
            area: Rect::of_size(width, height),
            format: plan.format,
            reduce: 1,
        };
        let result = renderer.run(plan.format, &plan.finish, &recipe, source, out);
        times.resample += started.elapsed();
        self.shrink();
        result
    }

    fn shrink(&mut self) {
        self.opener.shrink(KEEP_SCRATCH);
        self.kept.shrink(KEEP_SCRATCH);
        self.renderer.shrink(KEEP_SCRATCH);
    }
}
