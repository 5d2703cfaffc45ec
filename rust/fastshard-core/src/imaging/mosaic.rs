//! Mosaics: joining images.

use super::image::ImagePlan;
use super::job::Job;
use super::worker::ImageWorker;
use crate::dataset::Place;
use crate::error::{Error, Result};
use crate::pixels::{PixelFormat, Rect};
use crate::transform::{Source, fill};

/// A sample that becomes part of another, or all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) row: u64,
    /// What is done to its image.
    pub(crate) job: Job,
}

impl ImageWorker {
    /// Produces a mosaic, from samples in their places. Of each, only what is seen of the canvas in the end is decoded.
    pub(crate) fn join<'a>(
        &mut self,
        plan: &ImagePlan,
        pieces: &[Piece],
        mut place: impl FnMut(&Piece) -> Result<Place<'a>>,
        blame: impl Fn(u64, &Place<'_>, Error) -> Error,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        let Some((_, mosaic)) = plan.mosaic() else {
            return Err(Error::decode("no mosaic was planned"));
        };
        let Some(first) = pieces.first() else {
            return Ok(());
        };
        let recipe = plan.joined(first.job.key)?;
        let seen = recipe.needed();
        let [height, width] = mosaic.canvas();
        let area = Rect::of_size(width, height);
        // Taken out while the rest of the tools is at work; lost, and made anew, after an error.
        let [mut canvas, mut image] = std::mem::take(&mut self.joined);
        let pixels = canvas.bytes(area.area() * plan.format.bytes())?;
        let background = plan.mask().map_or(&mosaic.fill[..], |mask| &mask.fill[..]);
        fill(pixels, background, plan.format);
        for piece in pieces {
            let place = place(piece)?;
            let mut draw = || -> Result<()> {
                let Some((job, target)) = seen_part(plan, piece, &place, seen)? else {
                    return Ok(());
                };
                let made = image.bytes(target.area() * plan.format.bytes())?;
                self.run(plan, &place, job, |size| match size {
                    size if size == [target.height, target.width] => Ok(&mut *made),
                    _ => Err(Error::decode("is not as large as the dataset says")),
                })?;
                paste(pixels, width, made, target, plan.format);
                Ok(())
            };
            draw().map_err(|error| blame(piece.row, &place, error))?;
        }
        let source = Source {
            pixels,
            area,
            format: plan.format,
            reduce: 1,
        };
        let result = (self.renderer).run(plan.format, &plan.finish, &recipe, source, out);
        self.joined = [canvas, image];
        self.shrink();
        result
    }
}

/// What has to be made of a piece so that all is there that is seen of the canvas, and where that lies on it; nothing if
/// none of it is seen.
fn seen_part(
    plan: &ImagePlan,
    piece: &Piece,
    place: &Place<'_>,
    seen: Option<Rect>,
) -> Result<Option<(Job, Rect)>> {
    let (Some(seen), Some(tile)) = (seen, piece.job.tile) else {
        return Ok(None);
    };
    let (width, height) = (plan.size_of(place)).ok_or_else(|| Error::decode("is no image"))?;
    let mut recipe = plan.start(width, height)?;
    plan.go_on(&mut recipe, &piece.job)?;
    let (width, height) = recipe.size();
    let [left, top] = tile.corner((width, height));
    let overlap = |start: u32, length: u32, from: u32, most: u32| {
        let (low, high) = (start.max(from), (start + length).min(from + most));
        (low < high).then(|| [low, high - low])
    };
    let across = overlap(left, width, seen.x, seen.width);
    let down = overlap(top, height, seen.y, seen.height);
    let (Some([x, width]), Some([y, height])) = (across, down) else {
        return Ok(None);
    };
    let target = Rect {
        x,
        y,
        width,
        height,
    };
    let window = Rect {
        x: x - left,
        y: y - top,
        ..target
    };
    let job = Job {
        window: Some(window),
        ..piece.job
    };
    Ok(Some((job, target)))
}

/// Copies an image to its place on a canvas.
fn paste(canvas: &mut [u8], across: u32, image: &[u8], place: Rect, format: PixelFormat) {
    let size = format.bytes();
    let (pitch, length) = (across as usize * size, place.width as usize * size);
    let start = place.y as usize * pitch + place.x as usize * size;
    for (row, line) in image.chunks_exact(length).enumerate() {
        canvas[start + row * pitch..][..length].copy_from_slice(line);
    }
}
