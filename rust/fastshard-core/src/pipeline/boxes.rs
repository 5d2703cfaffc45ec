//! Boxes, and what runs along with them, after an image's geometry.
//!
//! The recipe of each image is drawn once more, from the same random numbers, when all rows of a batch are known: that
//! takes a microsecond, and keeps boxes out of the way of those who decode.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::{BatchField, Memory, Values};
use super::field::{PlannedField, Work};
use super::masks::Masks;
use super::plan::Plan;
use crate::dataset::{Dataset, Place};
use crate::error::{Error, Result};
use crate::imaging::{ImagePlan, Moves, Piece, numbers};
use crate::order::Drawn;
use crate::random::Key;
use crate::schema::{BoxFormat, Dtype, Field, Kind};
use crate::transform::{Matrix, Tracked, area, way_back};

/// How batches have their boxes, and which they leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxSpec {
    /// What the four numbers are, and whether they are shares of width and height; by default as they are stored.
    #[serde(default)]
    pub format: Option<(BoxFormat, bool)>,
    /// The least width and height, in pixels of the finished image.
    #[serde(default)]
    pub min_size: f64,
    /// The least area.
    #[serde(default)]
    pub min_area: f64,
    /// The least share of a box that cropping left.
    #[serde(default)]
    pub min_visible: f64,
}

/// What is done to a field of boxes.
#[derive(Debug)]
pub(super) struct Boxes {
    spec: BoxSpec,
    stored: (BoxFormat, bool),
    /// The field of their image.
    image: usize,
    /// The same among those that are loaded.
    loaded: Option<usize>,
}

/// What a list field has to do with boxes.
#[derive(Debug)]
pub(super) enum Role {
    /// It holds them.
    Boxes(Boxes),
    /// It says something of each box of a loaded field; `points`: of their places.
    Along { boxes: usize, points: bool },
    /// It says what each of them covers.
    Masks(Masks),
}

/// The boxes of a sample as they come out.
#[derive(Debug, Default)]
pub(super) struct Moved {
    values: Vec<f32>,
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

impl Boxes {
    pub(super) fn new(
        dataset: &Dataset,
        field: &Field,
        spec: BoxSpec,
        loaded: Option<usize>,
    ) -> Result<Option<Self>> {
        let Kind::Boxes {
            image,
            format,
            normalized,
        } = &field.kind
        else {
            return Ok(None);
        };
        let limits = [spec.min_size, spec.min_area, spec.min_visible];
        if limits.iter().any(|&limit| !(0.0..=1e9).contains(&limit)) || spec.min_visible > 1.0 {
            return Err(Error::option(format!(
                "field {:?}: min_size, min_area and min_visible are {limits:?}, expected numbers of at least 0, the last at \
                 most 1",
                field.name
            )));
        }
        Ok(Some(Self {
            spec,
            stored: (*format, *normalized),
            image: dataset.field(image)?,
            loaded,
        }))
    }

    /// The rows whose boxes come together in a sample, and what is done to their images.
    pub(super) fn pieces(&self, plan: &Plan, drawn: Drawn, epoch: u64) -> Vec<Piece> {
        let image = self.loaded.and_then(|at| plan.fields[at].image());
        let field = image.map_or(self.image, |image| image.draws_as);
        plan.pieces(image, drawn, key(plan, &drawn, epoch, field))
    }

    /// A sample's boxes after what is done to its image.
    fn sample(&self, plan: &Plan, field: usize, drawn: Drawn, epoch: u64) -> Result<Moved> {
        let mut moved = Moved::default();
        for piece in self.pieces(plan, drawn, epoch) {
            let place = plan.dataset.locate(piece.row)?;
            self.row(plan, &place, field, &piece, &mut moved)
                .map_err(|error| plan.dataset.blame(piece.row, &place, error))?;
        }
        Ok(moved)
    }

    /// Adds a row's boxes.
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

    /// Whether a box is still one. What was stored without an area stays, unless something was done to it.
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

impl Role {
    /// The loaded field of boxes that it says something of.
    pub(super) fn told_of(&self) -> Option<usize> {
        match self {
            Self::Boxes(_) => None,
            Self::Along { boxes, .. } => Some(*boxes),
            Self::Masks(masks) => Some(masks.boxes),
        }
    }
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

/// What the arrays are called that say where an image's pixels come from, and how large it was.
pub(super) fn matrix_names(image: &str) -> [String; 2] {
    [format!("{image}_matrix"), format!("{image}_size")]
}

/// These arrays: for each row a matrix from places in the batch's image to those in the source, and (height, width) of
/// the source. Where there is no way back, the matrix is not a number.
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

/// The boxes of the rows of a batch, for each loaded field that holds some.
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
