//! Masks of single objects, painted where their image's geometry takes them.
//!
//! Polygons move by their corners, are cut as boxes are, and are painted once, sharp, in the finished image. For a
//! run-length encoding, each pixel of the finished image is looked up in the stored one, back through all operations.

use super::moved::{Moved, Part};
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::format::{Column, text_of};
use crate::imaging::{Moves, Tools, Way};
use crate::mask::{Segmentation, parse};
use crate::memory;
use crate::pipeline::plan::Masks;
use crate::transform::moved_outline;

impl Masks {
    /// The masks of the boxes number `wanted` among those that are left of a sample. They are one after the other, with
    /// a byte a pixel.
    pub(super) fn of_sample(
        &self,
        dataset: &Dataset,
        field: usize,
        moved: &Moved,
        wanted: std::ops::Range<usize>,
    ) -> Result<Vec<u8>> {
        let pixels = self.size[0] * self.size[1];
        let mut out = memory::zeros(pixels.saturating_mul(wanted.len())).map_err(|denied| {
            let what = format!("{} masks of {:?} pixels", wanted.len(), self.size);
            denied.of(what, "use Truncate, or resize the image")
        })?;
        let mut masks = out.chunks_exact_mut(pixels);
        let (mut tools, mut first) = (Tools::default(), 0);
        for part in &moved.parts {
            let own = part.kept.len();
            let start = wanted.start.clamp(first, first + own) - first;
            let end = wanted.end.clamp(first, first + own) - first;
            first += own;
            let place = dataset.locate(part.row)?;
            let painted = self.of_part(&place, field, part, start..end, &mut masks, &mut tools);
            painted.map_err(|error| dataset.blame(part.row, &place, error))?;
        }
        Ok(out)
    }

    fn of_part<'a>(
        &self,
        place: &Place<'_>,
        field: usize,
        part: &Part,
        wanted: std::ops::Range<usize>,
        masks: &mut impl Iterator<Item = &'a mut [u8]>,
        tools: &mut Tools,
    ) -> Result<()> {
        let Column::Text(texts) = place.block.column(field) else {
            return Err(Error::decode("segmentations are not stored as text"));
        };
        let wrong = |reason: String| Error::decode(format!("segmentations: {reason}"));
        let found = parse(text_of(texts, place.row)?).map_err(wrong)?;
        if found.len() != part.stored {
            let (found, expected) = (found.len(), part.stored);
            return Err(wrong(format!(
                "{found} for {expected} boxes, expected as many"
            )));
        }
        let way = Way::new(&part.moves);
        for (&at, mask) in part.kept[wanted].iter().zip(masks) {
            let painted = match &found[at] {
                None => Ok(()),
                Some(Segmentation::Polygons(polygons)) => {
                    self.polygons(polygons, &part.moves, mask, tools);
                    Ok(())
                }
                Some(Segmentation::Runs(runs)) => way.look_up(runs, self.size[1], mask, tools),
            };
            painted.map_err(|reason| wrong(format!("box {at}: {reason}")))?;
        }
        Ok(())
    }

    fn polygons(
        &self,
        polygons: &[Vec<[f64; 2]>],
        moves: &Moves,
        out: &mut [u8],
        tools: &mut Tools,
    ) {
        let sides = [moves.size.0, moves.size.1].map(f64::from);
        for corners in polygons {
            let mut corners = corners.clone();
            if self.normalized {
                for corner in &mut corners {
                    *corner = [corner[0] * sides[0], corner[1] * sides[1]];
                }
            }
            // Without geometry nothing is cut, so that the mask is pycocotools' to the pixel.
            if !moves.steps.is_empty() {
                corners = moved_outline(&corners, moves.size, &moves.steps);
            }
            tools.painter.paint(&corners, self.size[1], out);
        }
    }
}
