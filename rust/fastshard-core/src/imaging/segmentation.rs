//! Where the geometry of an image takes segmentations.

use super::moves::Moves;
use crate::error::Error;
use crate::mask::{Painter, Runs, Segmentation, parse, write};
use crate::memory::{self, Denied};
use crate::transform::{Matrix, Tracked};

/// The segmentations of an image's boxes where moves take them: corners, and what shows of runs. `normalized`: polygons are
/// in shares of width and height.
pub(crate) fn moved_segmentations(
    json: &str,
    moves: &Moves,
    normalized: bool,
) -> Result<String, String> {
    let (way, mut tools) = (Way::new(moves), Tools::default());
    let mut all = parse(json)?;
    for found in all.iter_mut().flatten() {
        match found {
            Segmentation::Polygons(polygons) => {
                for corner in polygons.iter_mut().flatten() {
                    *corner = moves.place(*corner, normalized);
                }
            }
            Segmentation::Runs(runs) => *runs = way.runs(runs, &mut tools)?,
        }
    }
    write(&all)
}

fn too_large(denied: Denied) -> String {
    Error::from(denied).to_string()
}

/// What one thread keeps while it paints.
#[derive(Default)]
pub(crate) struct Tools {
    pub(crate) painter: Painter,
    columns: Vec<u8>,
}

/// From the finished image back to the one that was stored.
pub(crate) struct Way<'a> {
    moves: &'a Moves,
    /// From each image to the one before it, whose width and height follow; the last comes first. Nothing where there is no
    /// way back.
    back: Option<Vec<(Matrix, [f64; 2])>>,
}

impl<'a> Way<'a> {
    pub(crate) fn new(moves: &'a Moves) -> Self {
        let mut size = moves.size;
        let mut back = Vec::with_capacity(moves.steps.len());
        for step in &moves.steps {
            let sides = [size.0, size.1].map(f64::from);
            back.push(step.matrix.inverse().map(|matrix| (matrix, sides)));
            size = step.size;
        }
        let back = back.into_iter().rev().collect();
        Self { moves, back }
    }

    /// Where a place of the finished image was in the one that was stored, if it showed all the way.
    fn place(&self, start: [f64; 2]) -> Option<[f64; 2]> {
        let steps = self.back.as_ref()?.iter();
        steps.copied().try_fold(start, |[x, y], (matrix, sides)| {
            let [x, y] = matrix.map(x, y);
            let inside = (0.0..sides[0]).contains(&x) && (0.0..sides[1]).contains(&y);
            inside.then_some([x, y])
        })
    }

    /// What runs cover of the finished image.
    fn runs(&self, runs: &Runs, tools: &mut Tools) -> Result<Runs, String> {
        let (width, height) = self.moves.end();
        let mut pixels = memory::zeros(width as usize * height as usize).map_err(too_large)?;
        self.look_up(runs, width as usize, &mut pixels, tools)?;
        Ok(Runs::of_rows([height, width], &pixels))
    }

    /// Sets what runs cover of a mask of rows of `width` pixels.
    pub(crate) fn look_up(
        &self,
        runs: &Runs,
        width: usize,
        out: &mut [u8],
        tools: &mut Tools,
    ) -> Result<(), String> {
        let (across, down) = self.moves.size;
        if runs.size() != [down, across] {
            let [height, width] = runs.size();
            return Err(format!(
                "a run-length encoding of {height} x {width} (height x width) for an image of {down} x {across}"
            ));
        }
        let Some(bounds) = runs.bounds() else {
            return Ok(());
        };
        runs.columns(&mut tools.columns).map_err(too_large)?;
        let around = self
            .moves
            .steps
            .iter()
            .fold(Tracked::new(bounds), Tracked::through);
        let [left, top, right, bottom] = around.corners;
        // A pixel more to either side covers every rounding.
        let span = |low: f64, high: f64, most: usize| {
            (low - 1.0).max(0.0) as usize..((high + 2.0) as usize).min(most)
        };
        let height = out.len() / width.max(1);
        for y in span(top, bottom, height) {
            for x in span(left, right, width) {
                if let Some([from_x, from_y]) = self.place([x as f64 + 0.5, y as f64 + 0.5]) {
                    let from = from_x as usize * down as usize + from_y as usize;
                    out[y * width + x] = tools.columns.get(from).copied().unwrap_or_default();
                }
            }
        }
        Ok(())
    }
}
