//! The boxes that are left of a sample, and what lists say of them.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::imaging::Moves;

/// The boxes of a sample as they come out.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) values: Vec<f32>,
    /// The rows that they come from: more than one for a mosaic.
    pub(super) parts: Vec<Part>,
}

/// The boxes of one row among those of a sample.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) row: u64,
    /// Which of the stored ones are left.
    pub(super) kept: Vec<usize>,
    pub(super) stored: usize,
    pub(super) moves: Moves,
}

impl Moved {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.values.len() / 4
    }

    /// They, as they lie in a batch.
    pub(super) fn boxes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.values)
    }

    /// What lists say of the boxes that are left: `list` gives those of a row.
    /// `points`: of so many numbers each, which move.
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
