//! The boxes that are left of a sample, and the elements of lists that belong to them.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::imaging::Moves;

/// The boxes of a sample after geometry and filtering.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) values: Vec<f32>,
    /// The rows that the boxes come from: more than one for a mosaic.
    pub(super) parts: Vec<Part>,
}

/// The boxes of one row among those of a sample.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) row: u64,
    /// Indices of the stored boxes that are left.
    pub(super) kept: Vec<usize>,
    pub(super) stored: usize,
    pub(super) moves: Moves,
}

impl Moved {
    /// How many boxes are left.
    pub(super) fn len(&self) -> usize {
        self.values.len() / 4
    }

    /// The boxes, in batch layout.
    pub(super) fn boxes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.values)
    }

    /// The elements that belong to the boxes that are left; `list` gives the stored elements of a row. With `points`,
    /// the elements are points of so many numbers each, and move with the image.
    pub(super) fn along<'a>(
        &self,
        list: impl Fn(u64) -> Result<&'a [u8]>,
        item_bytes: usize,
        points: Option<usize>,
    ) -> Result<Cow<'a, [u8]>> {
        if let [part] = &self.parts[..] {
            return part.along(list(part.row)?, item_bytes, points);
        }
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend_from_slice(&part.along(list(part.row)?, item_bytes, points)?);
        }
        Ok(all.into())
    }
}

impl Part {
    fn along<'a>(
        &self,
        list: &'a [u8],
        item_bytes: usize,
        points: Option<usize>,
    ) -> Result<Cow<'a, [u8]>> {
        if list.len() != self.stored * item_bytes {
            let (found, expected) = (list.len() / item_bytes, self.stored);
            return Err(Error::decode(format!(
                "a list of {found} elements along {expected} boxes, expected as many"
            )));
        }
        if self.kept.len() == self.stored && points.is_none() {
            return Ok(list.into());
        }
        let kept = self
            .kept
            .iter()
            .map(|&at| &list[at * item_bytes..][..item_bytes]);
        let kept = kept.collect::<Vec<_>>().concat();
        let Some(per_point) = points else {
            return Ok(kept.into());
        };
        let mut numbers: Vec<f32> = bytemuck::pod_collect_to_vec(&kept);
        self.moves.move_points(&mut numbers, per_point);
        Ok(bytemuck::cast_slice(&numbers).to_vec().into())
    }
}
