//! Boxes, and the lists along with them, after an image's geometry.
//!
//! The recipe of each image is drawn once more, from the same random numbers, when all rows of a batch are known. So
//! the threads that decode need not know of boxes, and boxes need no pixels.

use std::sync::Arc;

use super::moved::{Moved, Part};
use crate::dataset::Place;
use crate::error::Result;
use crate::imaging::{ImagePlan, Moves, Piece, numbers};
use crate::order::Drawn;
use crate::pipeline::plan::{Boxes, Plan, PlannedField, Role, Work, matrix_names};
use crate::pipeline::spec::BoxSpec;
use crate::pipeline::values::{BatchField, Memory, Values};
use crate::random::Key;
use crate::schema::Dtype;
use crate::transform::{Matrix, Tracked, area, way_back};

impl Boxes {
    /// The rows whose boxes are joined into one sample, and what is done to their images.
    pub(super) fn pieces(&self, plan: &Plan, drawn: Drawn, epoch: u64) -> Vec<Piece> {
        let image = self.loaded.and_then(|at| plan.fields[at].image());
        let field = image.map_or(self.image, |image| image.draws_as);
        plan.pieces(image, drawn, key(plan, &drawn, epoch, field))
    }

    /// A sample's boxes after its image's geometry.
    fn sample(&self, plan: &Plan, field: usize, drawn: Drawn, epoch: u64) -> Result<Moved> {
        let mut moved = Moved::default();
        for piece in self.pieces(plan, drawn, epoch) {
            let place = plan.dataset.locate(piece.row)?;
            self.row(plan, &place, field, &piece, &mut moved)
                .map_err(|error| plan.dataset.blame(piece.row, &place, error))?;
        }
        Ok(moved)
    }

    /// Adds the boxes of one row to those of its sample.
    fn row(
        &self,
        plan: &Plan,
        place: &Place<'_>,
        field: usize,
        piece: &Piece,
        moved: &mut Moved,
    ) -> Result<()> {
        let stored: Vec<[f32; 4]> =
            bytemuck::pod_collect_to_vec(place.block.column(field).piece(place.row..place.row + 1));
        let image = self.loaded.and_then(|at| plan.fields[at].image());
        let stored_as = &plan.dataset.fields()[self.image];
        let pose = ImagePlan::pose(image, stored_as, place, self.image)?;
        let moves = match image {
            Some(image) => image.moves_from(&pose, &piece.job)?,
            None => Moves::none(pose.stored),
        };
        let wanted = self.spec.format.unwrap_or(self.stored);
        let still = moves.is_none();
        let mut part = Part {
            row: piece.row,
            kept: Vec::with_capacity(stored.len()),
            stored: stored.len(),
            moves,
        };
        for (at, one) in stored.into_iter().enumerate() {
            let tracked = part.moves.box_of(one, self.stored);
            if !self.keeps(&tracked, still) {
                continue;
            }
            part.kept.push(at);
            let out = if still && wanted == self.stored {
                one
            } else {
                numbers(tracked.corners, wanted, part.moves.end())
            };
            moved.values.extend(out);
        }
        moved.parts.push(part);
        Ok(())
    }

    /// Whether a box is kept, by the limits of the options. A box without an area is dropped, unless it was stored so
    /// and its image is untouched.
    fn keeps(&self, found: &Tracked, untouched: bool) -> bool {
        let [left, top, right, bottom] = found.corners;
        let BoxSpec {
            min_size,
            min_area,
            min_visible,
            ..
        } = self.spec;
        let side = (right - left).min(bottom - top);
        let area = area(found.corners);
        (untouched || area > 0.0)
            && (min_size <= 0.0 || side >= min_size)
            && area >= min_area
            && found.visible >= min_visible
    }
}

/// Two arrays with an entry for each row: the matrix from places in the batch's image to places in the source, and the
/// source's (height, width). A matrix that doesn't exist is NaN.
pub(super) fn matrices(
    plan: &Plan,
    field: &PlannedField,
    rows: &[Drawn],
    epoch: u64,
) -> Result<Vec<BatchField>> {
    let Work::Image(image) = &field.work else {
        return Ok(Vec::new());
    };
    let (mut matrices, mut sizes) = (Vec::<f32>::new(), Vec::<i64>::new());
    for drawn in rows {
        let place = plan.dataset.locate(drawn.row)?;
        let stored = &plan.dataset.fields()[field.index];
        let size = ImagePlan::pose(Some(image), stored, &place, field.index)?.size();
        let job = key(plan, drawn, epoch, image.draws_as).into();
        let moves = image.moves(size, &job)?;
        let back = way_back(&moves).unwrap_or(Matrix([[f64::NAN; 3]; 3]));
        matrices.extend(back.0.into_iter().flatten().map(|value| value as f32));
        sizes.extend([i64::from(size.1), i64::from(size.0)]);
    }
    let [matrix, size] = matrix_names(&field.name);
    Ok(vec![
        owned(
            matrix,
            bytemuck::cast_slice(&matrices),
            Dtype::Float32,
            vec![rows.len(), 3, 3],
        ),
        owned(
            size,
            bytemuck::cast_slice(&sizes),
            Dtype::Int64,
            vec![rows.len(), 2],
        ),
    ])
}

fn key(plan: &Plan, drawn: &Drawn, epoch: u64, field: usize) -> Key {
    Key {
        seed: plan.spec.seed,
        epoch,
        row: drawn.key,
        field: field as u64,
    }
}

fn owned(name: String, bytes: &[u8], dtype: Dtype, shape: Vec<usize>) -> BatchField {
    let memory = Arc::new(bytes.to_vec());
    let address = memory.as_ptr();
    let values = Values::Array {
        memory: Memory::Owned(memory),
        address,
        dtype,
        shape,
    };
    BatchField { name, values }
}

/// For each loaded field of boxes, the boxes of each row of a batch; `None` for other fields.
pub(super) fn of_rows(plan: &Plan, rows: &[Drawn], epoch: u64) -> Result<Vec<Option<Vec<Moved>>>> {
    let of_field = |at: usize| {
        let field = &plan.fields[at];
        let Some((_, sequence)) = field.sequence() else {
            return Ok(None);
        };
        let Some(Role::Boxes(boxes)) = &sequence.role else {
            return Ok(None);
        };
        let rows = rows.iter();
        let rows = rows.map(|drawn| boxes.sample(plan, field.index, *drawn, epoch));
        rows.collect::<Result<Vec<_>>>().map(Some)
    };
    (0..plan.fields.len()).map(of_field).collect()
}
