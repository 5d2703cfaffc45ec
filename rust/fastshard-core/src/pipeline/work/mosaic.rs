//! Mosaics: which samples are joined.
//!
//! The partners of a sample follow from its random numbers and the loader's view alone. So whoever moves its boxes, or
//! fills another field's image that follows, draws the same ones again.

use crate::dataset::Place;
use crate::error::Result;
use crate::imaging::{ImagePlan, Job, Piece};
use crate::order::Drawn;
use crate::pipeline::plan::Plan;
use crate::random::{Draws, Key};
use crate::transform::Tile;

impl Plan {
    /// The samples that are joined into one: itself, and three others where a mosaic is drawn. `key` is that of its
    /// image's random numbers.
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
                window: None,
            },
        };
        tiles.map(piece).to_vec()
    }

    /// Finds the row of a piece, and compares it with its checksum unless its pixels are cached.
    pub(super) fn piece(&self, piece: &Piece, image: &ImagePlan, check: bool) -> Result<Place<'_>> {
        let (dataset, row) = (&self.dataset, piece.row);
        let place = dataset.locate(row)?;
        if check && !image.is_kept(row) {
            dataset.check(&place)?;
        }
        Ok(place)
    }
}
