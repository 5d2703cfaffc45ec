//! One image field: what is done to its images, decided and checked before the first batch.

use super::arrange::{Arranged, check_erasing};
use super::checks::{check_effects, check_fill, check_mosaic, check_order};
use super::job::Job;
use super::moves::Moves;
use super::open::Pose;
use crate::cache::Entry;
use crate::codec::Header;
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::pixels::{Depth, MAX_PIXELS, PixelFormat, Rect};
use crate::random::{Draws, Key};
use crate::schema::{Dtype, Field, Kind};
use crate::transform::{DecodeOptions, Finish, Layout, Mask, Mosaic, Move, Operation, Recipe};

/// For what draws nothing.
const NOBODY: Key = Key {
    seed: 0,
    epoch: 0,
    row: 0,
    field: 0,
};

/// Twice as much and a border is still a `u32`.
const MAX_STORED_SIDE: u32 = 1 << 30;

/// Where pixels come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Encoded(DecodeOptions),
    Raw { width: u32, height: u32 },
}

/// What is done to the images of one field.
#[derive(Debug)]
pub(crate) struct ImagePlan {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) origin: Origin,
    pub(crate) format: PixelFormat,
    /// The operations of a sample's recipe, with their places in the user's list (which key the random draws).
    pub(crate) steps: Vec<(usize, Operation)>,
    /// How many of them come before anything random, and so are the same each time.
    pub(crate) prefix: usize,
    /// Whether one of these resizes.
    pub(crate) prefix_resizes: bool,
    /// Where the pixels behind those are kept.
    pub(crate) kept: Option<Entry>,
    pub(crate) finish: Finish,
    /// Leaves pixels as they are: for the cache, and the images of a mosaic.
    pub(super) as_they_are: Finish,
    /// (height, width) of every output, where that is known beforehand.
    size: Option<[u32; 2]>,
    /// The field from whose random numbers it draws: its own, or one that it follows.
    pub(crate) draws_as: usize,
    /// How it is sampled instead, if it is a mask.
    mask: Option<Mask>,
}

pub(crate) fn pixel_tensor(field: &Field) -> Option<(PixelFormat, [u32; 2])> {
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
        check_mosaic(operations)?;
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
            as_they_are: Finish::new(&[], format, Layout::Nhwc)?,
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
    pub(crate) fn follow(&mut self, field: usize, mask: Option<Mask>, shift: isize) -> Result<()> {
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
    pub(super) fn blank(&self, width: u32, height: u32) -> Recipe {
        self.seen(Recipe::new(width, height))
    }

    fn seen(&self, recipe: Recipe) -> Recipe {
        match &self.mask {
            Some(mask) => recipe.of_mask(mask),
            None => recipe,
        }
    }

    /// How it is sampled instead of as its operations say.
    pub(crate) fn mask(&self) -> Option<&Mask> {
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

    pub(super) fn max_pixels(&self) -> u64 {
        match self.origin {
            Origin::Encoded(options) => options.max_pixels,
            Origin::Raw { .. } => MAX_PIXELS,
        }
    }

    /// The mosaic in its list, and where it stands among the steps.
    pub(crate) fn mosaic(&self) -> Option<(usize, &Mosaic)> {
        let mut steps = self.steps.iter().enumerate();
        steps.find_map(|(at, (_, step))| match step {
            Operation::Mosaic(mosaic) => Some((at, mosaic)),
            _ => None,
        })
    }

    /// What gives a job's pixels their values.
    pub(super) fn finish_of(&self, job: &Job) -> &Finish {
        match job.tile {
            Some(_) => &self.as_they_are,
            None => &self.finish,
        }
    }

    /// What becomes of an image of this size, and how many times smaller it may be decoded for that.
    pub(super) fn recipe(&self, width: u32, height: u32, job: &Job) -> Result<(Recipe, u32)> {
        let mut recipe = self.start(width, height)?;
        let begun = recipe.reduction();
        self.go_on(&mut recipe, job)?;
        // Where the beginning resizes, it alone says how: so it gives the same pixels whatever follows.
        let reduction = if self.prefix_resizes {
            begun
        } else {
            recipe.reduction()
        };
        Ok((recipe, reduction))
    }

    /// How a row's image lies before anything is done to it, as it is loaded or, if it isn't, by default.
    pub(crate) fn pose(
        loaded: Option<&Self>,
        field: &Field,
        place: &Place<'_>,
        index: usize,
    ) -> Result<Pose> {
        let options = loaded.and_then(Self::decode_options).unwrap_or_default();
        let raw = || pixel_tensor(field).map(|(_, [height, width])| Pose::of_pixels(width, height));
        let pose = Pose::of_row(place, index, &options)
            .or_else(raw)
            .ok_or_else(|| Error::option(format!("field {:?} holds no images", field.name)))?;
        check_size(pose.stored, u64::MAX)?;
        Ok(pose)
    }

    /// Width and height of a row of the field that it is for.
    pub(super) fn size_of(&self, place: &Place<'_>) -> Option<(u32, u32)> {
        match self.origin {
            Origin::Raw { width, height } => Some((width, height)),
            Origin::Encoded(options) => {
                Pose::of_row(place, self.index, &options).map(|pose| pose.size())
            }
        }
    }

    /// Where geometry takes the places of an image of this width and height.
    pub(crate) fn moves(&self, (width, height): (u32, u32), job: &Job) -> Result<Vec<Move>> {
        check_size((width, height), self.max_pixels())?;
        let mut recipe = self.seen(Recipe::tracked(width, height));
        apply(&self.steps[..self.prefix], &mut recipe, NOBODY)?;
        self.go_on(&mut recipe, job)?;
        if let (Some((at, mosaic)), Some(tile)) = (self.mosaic(), job.tile) {
            tile.place(mosaic, recipe.canvas());
            apply(&self.steps[at + 1..], &mut recipe, job.key)?;
        }
        Ok(recipe.moves().collect())
    }

    /// The same from the stored image on, as its boxes lie in that.
    pub(crate) fn moves_from(&self, pose: &Pose, job: &Job) -> Result<Moves> {
        let turned = pose.step().into_iter();
        let steps = turned.chain(self.moves(pose.size(), job)?).collect();
        Ok(Moves {
            size: pose.stored,
            steps,
        })
    }

    /// The same for an image with this header, when nothing random is done to it. `upright`: from the turned one on.
    pub(crate) fn moves_of(&self, header: &Header, upright: bool) -> Result<Moves> {
        let pose = Pose::of(header, &self.decode_options().unwrap_or_default());
        if !upright {
            return self.moves_from(&pose, &NOBODY.into());
        }
        let size = pose.size();
        let steps = self.moves(size, &NOBODY.into())?;
        Ok(Moves { size, steps })
    }

    /// The recipe of the prefix alone.
    pub(crate) fn start(&self, width: u32, height: u32) -> Result<Recipe> {
        check_size((width, height), self.max_pixels())?;
        let mut recipe = self.blank(width, height);
        apply(&self.steps[..self.prefix], &mut recipe, NOBODY)?;
        Ok(recipe)
    }

    /// What becomes of the pixels behind the prefix.
    pub(super) fn after_kept(&self, width: u32, height: u32, job: &Job) -> Result<Recipe> {
        let mut recipe = self.blank(width, height);
        self.go_on(&mut recipe, job)?;
        Ok(recipe)
    }

    /// Whether nothing at all becomes of them.
    pub(super) fn copies_kept(&self, job: &Job) -> bool {
        self.prefix == self.steps.len() && job.tile.is_none() && self.finish.is_identity()
    }

    /// Adds what follows the prefix; to an image of a mosaic, up to its place on the canvas.
    pub(super) fn go_on(&self, recipe: &mut Recipe, job: &Job) -> Result<()> {
        let (Some((at, mosaic)), Some(tile)) = (self.mosaic(), job.tile) else {
            return apply(&self.steps[self.prefix..], recipe, job.key);
        };
        apply(&self.steps[self.prefix..at], recipe, job.own_key())?;
        tile.cut(mosaic, recipe.canvas());
        if let Some(Rect {
            x,
            y,
            width,
            height,
        }) = job.window
        {
            recipe.canvas().crop(x.into(), y.into(), width, height);
        }
        Ok(())
    }

    /// What becomes of the canvas of a mosaic.
    pub(super) fn joined(&self, key: Key) -> Result<Recipe> {
        let (at, [height, width]) = (self.mosaic())
            .map_or((self.steps.len(), [1, 1]), |(at, mosaic)| {
                (at + 1, mosaic.canvas())
            });
        let mut recipe = self.blank(width, height);
        apply(&self.steps[at..], &mut recipe, key)?;
        Ok(recipe)
    }

    /// Whether the pixels of a row need not be decoded.
    pub(crate) fn is_kept(&self, row: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.holds(row))
    }
}

/// Refuses sizes that no image has: they come from columns and headers that may be damaged, or made to do harm.
fn check_size((width, height): (u32, u32), most: u64) -> Result<()> {
    let sides = 1..=MAX_STORED_SIDE;
    let pixels = u64::from(width) * u64::from(height);
    if sides.contains(&width) && sides.contains(&height) && pixels <= most {
        return Ok(());
    }
    Err(Error::decode(format!(
        "an image of {width} x {height} pixels (width x height), expected at least 1 x 1 and at most {} in all",
        most.min(u64::from(MAX_STORED_SIDE))
    )))
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
