//! One thread's work on one image field: from stored bytes (or raw pixels) to its place in the batch.

use std::time::Instant;

use super::image::{ImagePlan, Origin};
use super::job::Job;
use super::open::Opener;
use super::render::Renderer;
use super::times::Times;
use crate::cache::{Entry, Lines};
use crate::codec::{Decoder, Encoded, Header};
use crate::dataset::{Place, not_as_planned};
use crate::error::Result;
use crate::format::Column;
use crate::pixels::{Depth, Rect, Scratch};
use crate::transform::{DecodeOptions, Recipe, Source};

/// Scratch beyond this is given back after the image that needed it.
const KEEP_SCRATCH: usize = 16 << 20;

/// One thread's tools for one field.
#[derive(Debug)]
pub(crate) struct ImageWorker {
    opener: Opener,
    /// What goes into the cache.
    kept: Scratch,
    pub(super) renderer: Renderer,
    /// A mosaic, and one of its images.
    pub(super) joined: [Scratch; 2],
    /// Since somebody last took them.
    times: Times,
}

impl ImageWorker {
    pub(crate) fn new(plan: &ImagePlan) -> Result<Self> {
        Ok(Self {
            opener: Opener::new(plan.max_pixels())?,
            kept: Scratch::default(),
            renderer: Renderer::default(),
            joined: [Scratch::default(), Scratch::default()],
            times: Times::default(),
        })
    }

    /// Where the time went since the last call.
    pub(crate) fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Produces one sample. `out` is asked for memory once the sample's (height, width) is known.
    pub(crate) fn run<'a>(
        &mut self,
        plan: &ImagePlan,
        place: &Place<'_>,
        job: Job,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        match (place.block.column(plan.index), plan.origin) {
            (
                Column::Image {
                    bytes,
                    tiles,
                    orientation,
                    ..
                },
                Origin::Encoded(options),
            ) => {
                let source = Encoded {
                    bytes: bytes.value(place.row),
                    tiles: tiles.value(place.row),
                    orientation: Some(orientation.value(place.row)),
                };
                match &plan.kept {
                    Some(kept) => {
                        self.run_kept(plan, kept, source, options, place.number, job, out)
                    }
                    None => self.run_encoded(plan, source, options, job, out),
                }
            }
            (Column::Fixed { values, row_bytes }, Origin::Raw { width, height }) => {
                let started = Instant::now();
                let (recipe, _) = plan.recipe(width, height, &job)?;
                let source = Source {
                    pixels: &values[place.row * row_bytes..][..*row_bytes],
                    area: Rect::of_size(width, height),
                    format: plan.format,
                    reduce: 1,
                };
                let result =
                    (self.renderer).run(plan.format, plan.finish_of(&job), &recipe, source, out);
                self.times.resample += started.elapsed();
                result
            }
            _ => Err(not_as_planned(&plan.name)),
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
        job: Job,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        let started = Instant::now();
        let image = self.opener.look(encoded, &options)?;
        let (width, height) = image.pose.size();
        let (recipe, reduction) = plan.recipe(width, height, &job)?;
        let source =
            (self.opener).open(encoded, &image, &options, plan.format, &recipe, reduction)?;
        let decoded = Instant::now();
        let result = (self.renderer).run(plan.format, plan.finish_of(&job), &recipe, source, out);
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
        kept: &Entry,
        encoded: Encoded<'_>,
        options: DecodeOptions,
        row: u64,
        job: Job,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        if plan.copies_kept(&job)
            && let Some(found) = kept.trusted(row)
        {
            let out = out(found.size)?;
            if kept.read_whole(&found, out) {
                return Ok(());
            }
            return self.run_encoded(plan, encoded, options, job, move |_| Ok(out));
        }
        let Self {
            opener,
            kept: made,
            renderer,
            times,
            ..
        } = self;
        let mut started = Instant::now();
        let mut recipe = None;
        let found = kept.read(row, made, |[height, width]| {
            let recipe = recipe.insert(plan.after_kept(width, height, &job));
            let needed = recipe.as_ref().ok().and_then(Recipe::needed);
            match needed.filter(|_| plan.format.depth == Depth::Eight) {
                Some(needed) => needed.y..needed.y + needed.height,
                None => 0..height,
            }
        });
        let (recipe, area) = if let (Some(Lines { size, range }), Some(recipe)) = (found, recipe) {
            let area = Rect {
                x: 0,
                y: range.start,
                width: size[1],
                height: range.len() as u32,
            };
            (recipe?, area)
        } else {
            let image = opener.look(encoded, &options)?;
            let (width, height) = image.pose.size();
            let recipe = plan.start(width, height)?;
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
            let area = Rect::of_size(width, height);
            let pixels = made.bytes(area.area() * plan.format.bytes())?;
            renderer.run(plan.format, &plan.as_they_are, &recipe, source, |_| {
                Ok(&mut *pixels)
            })?;
            kept.write(row, [height, width], pixels);
            (plan.after_kept(width, height, &job)?, area)
        };
        let source = Source {
            pixels: made.bytes(area.area() * plan.format.bytes())?,
            area,
            format: plan.format,
            reduce: 1,
        };
        let result = renderer.run(plan.format, plan.finish_of(&job), &recipe, source, out);
        times.resample += started.elapsed();
        self.shrink();
        result
    }

    pub(super) fn shrink(&mut self) {
        for joined in &mut self.joined {
            joined.shrink(KEEP_SCRATCH);
        }
        self.opener.shrink(KEEP_SCRATCH);
        self.kept.shrink(KEEP_SCRATCH);
        self.renderer.shrink(KEEP_SCRATCH);
    }
}
