//! Mosaics: which samples are joined, and joining their images.
//!
//! Who the others are depends on the sample's random numbers and the loader's view alone, so that whoever moves its
//! boxes, or another field's image that follows, draws them again.

use super::image::{ImagePlan, Job};
use super::image_worker::ImageWorker;
use super::plan::Plan;
use crate::dataset::Place;
use crate::error::{Error, Result};
use crate::order::Drawn;
use crate::pixels::{PixelFormat, Rect, Scratch};
use crate::random::{Draws, Key};
use crate::transform::{Operation, Source, Tile, fill};

/// A sample that becomes part of another, or all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) row: u64,
    /// What is done to its image.
    pub(super) job: Job,
}

impl Plan {
    /// The samples that are joined into one, itself first; mostly that is all. `key`: of its image's random numbers.
    pub(super) fn pieces(&self, image: Option<&ImagePlan>, drawn: Drawn, key: Key) -> Vec<Piece> {
        let alone = Piece {
            row: drawn.row,
            job: key.into(),
        };
        let Some((image, (at, mosaic))) =
            image.and_then(|image| image.mosaic().map(|mosaic| (image, mosaic)))
        else {
            return vec![alone];
        };
        let mut draws = Draws::new(key, image.steps[at].0);
        let Some(tiles) = mosaic.draw(&mut draws) else {
            return vec![alone];
        };
        let samples = self.view.samples();
        let mut other = || {
            let position = (draws.unit() * samples as f64) as u64;
            self.view
                .row(position.min(samples - 1), key.seed, key.epoch)
        };
        let piece = |tile: Tile| Piece {
            row: if tile.number() == 0 {
                drawn.row
            } else {
                other()
            },
            job: Job {
                key,
                tile: Some(tile),
            },
        };
        tiles.map(piece).to_vec()
    }

    /// The row of a piece, held against its checksum unless it is read no more.
    pub(super) fn piece(&self, piece: &Piece, image: &ImagePlan, check: bool) -> Result<Place<'_>> {
        let (dataset, row) = (&self.dataset, piece.row);
        let place = dataset.locate(row)?;
        if check && !image.is_kept(row) {
            let checked = place.block.check(place.row);
            checked.map_err(|reason| dataset.corrupt_row(row, &place, &reason))?;
        }
        Ok(place)
    }
}

/// Refuses a mosaic in a place of a list where it can't be made.
pub(super) fn check_mosaic(operations: &[Operation]) -> Result<()> {
    let is_mosaic = |operation: &&Operation| matches!(operation, Operation::Mosaic(_));
    let Some(at) = operations.iter().position(|one| is_mosaic(&one)) else {
        return Ok(());
    };
    let fits = |before: &Operation| matches!(before, Operation::Decode(_)) || before.is_geometry();
    if let Some(wrong) = operations[..at].iter().position(|before| !fits(before)) {
        return Err(Error::option(format!(
            "transform {wrong} stands before Mosaic, where only Decode and what moves pixels may; put it after Mosaic"
        )));
    }
    if operations.iter().filter(is_mosaic).count() > 1 {
        return Err(Error::option("Mosaic stands twice in a list"));
    }
    Ok(())
}

impl ImageWorker {
    /// Produces a mosaic, from samples in their places.
    pub(super) fn join<'a>(
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
        let [height, width] = mosaic.canvas();
        let area = Rect::of_size(width, height);
        // Taken out while the rest of the tools is at work; lost, and made anew, after an error.
        let [mut canvas, mut image] = std::mem::take(&mut self.joined);
        let pixels = canvas.bytes(area.area() * plan.format.bytes());
        let background = plan.mask().map_or(&mosaic.fill[..], |mask| &mask.fill[..]);
        fill(pixels, background, plan.format);
        for piece in pieces {
            let place = place(piece)?;
            let made = self.part(plan, piece, &place, &mut image);
            let size = made.map_err(|error| blame(piece.row, &place, error))?;
            if let Some(tile) = piece.job.tile {
                let made = image.bytes(Rect::of_size(size.0, size.1).area() * plan.format.bytes());
                paste(pixels, width, made, size, tile.corner(size), plan.format);
            }
        }
        let Some(first) = pieces.first() else {
            return Ok(());
        };
        let recipe = plan.joined(first.job.key)?;
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

    /// One of its images; gives width and height.
    fn part(
        &mut self,
        plan: &ImagePlan,
        piece: &Piece,
        place: &Place<'_>,
        image: &mut Scratch,
    ) -> Result<(u32, u32)> {
        let mut size = (0, 0);
        let found = &mut size;
        self.run(plan, place, piece.job, move |[height, width]| {
            *found = (width, height);
            Ok(image.bytes(Rect::of_size(width, height).area() * plan.format.bytes()))
        })?;
        Ok(size)
    }
}

/// Copies an image of a width and height onto a canvas.
fn paste(
    canvas: &mut [u8],
    across: u32,
    image: &[u8],
    (width, _): (u32, u32),
    [x, y]: [u32; 2],
    format: PixelFormat,
) {
    let size = format.bytes();
    let (pitch, length) = (across as usize * size, width as usize * size);
    let start = y as usize * pitch + x as usize * size;
    for (row, line) in image.chunks_exact(length).enumerate() {
        canvas[start + row * pitch..][..length].copy_from_slice(line);
    }
}
