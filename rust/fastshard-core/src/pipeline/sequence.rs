//! Lists in batches: one after the other with where each starts, or filled up to one length.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_buffer::Buffer;
use serde::{Deserialize, Serialize};

use super::batch::{BatchField, Memory, Values};
use super::boxes::{BoxSpec, Boxes, Moved, Role};
use super::field::{Output, PlannedField, Rows};
use super::masks::{MaskSpec, Masks};
use super::plan::Plan;
use crate::dataset::{Dataset, not_as_planned};
use crate::error::{Error, Result};
use crate::format::{ALIGNMENT, Column};
use crate::mapping::Access;
use crate::memory::{self, Denied};
use crate::order::Drawn;
use crate::schema::{Dtype, Field, Kind};
use crate::slot::{Lease, SlotPool};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the ends")]
pub enum End {
    Left,
    Right,
}

/// Cuts lists that are longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Elements that stay.
    pub length: usize,
    /// The end that goes.
    pub side: End,
}

/// Fills lists up to one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadSequence {
    /// What they are filled up with.
    pub value: serde_json::Number,
    /// The length; by default that of a batch's longest list.
    pub length: Option<usize>,
    /// By default, a multiple of this.
    pub multiple_of: usize,
    /// The end that is filled up.
    pub side: End,
    /// Whether batches tell elements from what was filled up.
    pub mask: bool,
}

/// What becomes of a list field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ListSpec {
    pub truncate: Option<Truncate>,
    /// Without: lists lie one after the other.
    pub pad: Option<PadSequence>,
    /// Of boxes.
    #[serde(default)]
    pub boxes: Option<BoxSpec>,
    /// Of texts that become masks of boxes.
    #[serde(default)]
    pub masks: Option<MaskSpec>,
}

/// The same, checked against its field.
#[derive(Debug)]
pub(super) struct Sequence {
    spec: ListSpec,
    dtype: Dtype,
    shape: Vec<usize>,
    item_bytes: usize,
    /// One element of what is filled up with.
    fill: Vec<u8>,
    /// What it has to do with boxes.
    pub(super) role: Option<Role>,
    pool: Arc<SlotPool>,
}

impl Sequence {
    /// For a field of lists. `keep`: idle slots that stay.
    pub(super) fn new(field: &Field, spec: ListSpec, keep: usize) -> Result<Option<Self>> {
        if spec.boxes.is_some() && !matches!(field.kind, Kind::Boxes { .. }) {
            return Err(Error::option(format!(
                "field {:?}: it holds no boxes",
                field.name
            )));
        }
        let list = field.list();
        list.map(|list| Self::of(&field.name, list, spec, keep))
            .transpose()
    }

    /// For a field of texts that become masks.
    pub(super) fn of_masks(name: &str, masks: Masks, spec: ListSpec, keep: usize) -> Result<Self> {
        let mut this = Self::of(name, (Dtype::Uint8, &masks.size), spec, keep)?;
        this.role = Some(Role::Masks(masks));
        Ok(this)
    }

    /// For lists of elements of a type and shape.
    pub(super) fn of(
        name: &str,
        (dtype, shape): (Dtype, &[usize]),
        spec: ListSpec,
        keep: usize,
    ) -> Result<Self> {
        let bad = |what: String| Error::option(format!("field {name:?}: {what}"));
        let elements = shape.iter().product::<usize>();
        let mut fill = Vec::new();
        if let Some(pad) = &spec.pad {
            if pad.multiple_of == 0 || pad.length == Some(0) {
                return Err(bad("lists can't be filled up to a length of 0".into()));
            }
            let one = number(&pad.value, dtype).ok_or_else(|| {
                bad(format!(
                    "lists of {} can't be filled up with {}",
                    dtype.name(),
                    pad.value
                ))
            })?;
            // Of an element whose bytes are all alike, one is enough.
            let alike = one.iter().all(|byte| *byte == one[0]);
            fill = one.repeat(if alike { 1 } else { elements });
        }
        if spec.truncate.is_some_and(|truncate| truncate.length == 0) {
            return Err(bad("lists can't be cut to a length of 0".into()));
        }
        Ok(Self {
            spec,
            dtype,
            shape: shape.to_vec(),
            item_bytes: dtype.size() * elements,
            fill,
            role: None,
            pool: SlotPool::new(0, keep),
        })
    }

    /// What it adds to a batch, by name, with the leading dimension and the rest of the shape.
    pub(super) fn outputs(&self, name: &str) -> Vec<Output> {
        let output = |name: String, dtype, rows, shape| Output {
            name,
            dtype: Some(dtype),
            rows,
            shape,
            text: false,
        };
        let item = self.shape.iter().map(|&size| Some(size));
        let Some(pad) = &self.spec.pad else {
            return vec![
                output(name.into(), self.dtype, Rows::Elements, item.collect()),
                output(offsets_name(name), Dtype::Int64, Rows::Bounds, Vec::new()),
            ];
        };
        let padded = std::iter::once(pad.length).chain(item).collect();
        let mut outputs = vec![output(name.into(), self.dtype, Rows::Samples, padded)];
        if pad.mask {
            let shape = vec![pad.length];
            outputs.push(output(mask_name(name), Dtype::Bool, Rows::Samples, shape));
        }
        outputs
    }

    /// Refuses a row that is longer than it may be.
    pub(super) fn check(&self, elements: usize) -> Result<()> {
        let most = self.spec.pad.as_ref().and_then(|pad| pad.length);
        let elements = self.truncated(elements);
        match most {
            Some(most) if elements > most => Err(Error::decode(format!(
                "a list of {elements} elements can't be filled up to {most}; Truncate({most}) cuts it"
            ))),
            _ => Ok(()),
        }
    }

    fn truncated(&self, elements: usize) -> usize {
        let most = self.spec.truncate.map(|truncate| truncate.length);
        elements.min(most.unwrap_or(elements))
    }

    /// How batches have boxes.
    pub(super) fn box_spec(&self) -> BoxSpec {
        self.spec.boxes.unwrap_or_default()
    }

    /// The field's values of some rows. `run`: the rows follow each other, and may be shown where they lie; `moved`: what
    /// has become of their boxes, if the field has to do with some.
    pub(super) fn build(
        &self,
        dataset: &Dataset,
        field: &PlannedField,
        rows: &[Drawn],
        run: bool,
        moved: Option<&[Moved]>,
    ) -> Result<Vec<BatchField>> {
        let mut lists = Vec::with_capacity(rows.len());
        let mut painted_bytes = 0;
        for (at, drawn) in rows.iter().enumerate() {
            let place = dataset.locate(drawn.row)?;
            if let (Some(Role::Masks(masks)), Some(moved)) = (&self.role, moved) {
                let wanted = self.range(moved[at].len());
                let painted = masks.of_sample(dataset, field.index, &moved[at], wanted)?;
                painted_bytes += painted.len() as u64;
                memory::check(painted_bytes).map_err(|denied| self.too_large(denied))?;
                lists.push(painted.into());
                continue;
            }
            let column = place.block.column(field.index);
            let Column::List { .. } = column else {
                return Err(not_as_planned(&field.name));
            };
            let stored = column.piece(place.row..place.row + 1);
            let list = moved.map_or(Ok(Cow::Borrowed(stored)), |moved| {
                self.moved(dataset, field.index, &moved[at])
            });
            lists.push(list.map_err(|error| dataset.blame(drawn.row, &place, error))?);
        }
        let lists: Vec<&[u8]> = lists.iter().map(|list| self.cut(list)).collect();
        let whole = run && moved.is_none() && self.spec.truncate.is_none();
        let shown = match (whole && self.spec.pad.is_none(), rows) {
            (true, [first, ..]) => shown(dataset, field.index, first.row, rows.len())?,
            _ => None,
        };
        let shown = shown.map(|buffer| (buffer, dataset.access()));
        self.join(&field.name, &lists, shown)
    }

    /// The same of lists that were made.
    pub(super) fn of_made(&self, name: &str, lists: &[&[u8]]) -> Result<Vec<BatchField>> {
        let lists: Vec<&[u8]> = lists.iter().map(|list| self.cut(list)).collect();
        self.join(name, &lists, None)
    }

    fn join(&self, name: &str, lists: &[&[u8]], shown: Option<Shown>) -> Result<Vec<BatchField>> {
        match &self.spec.pad {
            Some(pad) => self.padded(name, pad, lists),
            None => self.packed(name, lists, shown),
        }
    }

    /// What is left of a list with the boxes of its row.
    fn moved<'a>(
        &self,
        dataset: &'a Dataset,
        field: usize,
        moved: &'a Moved,
    ) -> Result<Cow<'a, [u8]>> {
        let Some(Role::Along { points, .. }) = &self.role else {
            return Ok(moved.boxes().into());
        };
        let per_point = self.shape.last().copied().unwrap_or(1);
        let stored = |row| {
            let place = dataset.locate(row)?;
            Ok(place.block.column(field).piece(place.row..place.row + 1))
        };
        moved.along(stored, self.item_bytes, points.then_some(per_point))
    }

    /// Elements of the rows that come together in a sample, as they are stored.
    pub(super) fn stored_elements(
        &self,
        plan: &Plan,
        field: usize,
        drawn: Drawn,
        epoch: u64,
    ) -> Result<usize> {
        let field = match &self.role {
            Some(Role::Masks(masks)) => plan.fields[masks.boxes].index,
            _ => field,
        };
        let length = |row| {
            let place = plan.dataset.locate(row)?;
            Ok(place.block.column(field).length(place.row))
        };
        let pieces = self.boxes_of(plan).filter(|_| self.has_limit());
        let Some(boxes) = pieces else {
            return length(drawn.row);
        };
        let pieces = boxes.pieces(plan, drawn, epoch);
        pieces.iter().map(|piece| length(piece.row)).sum()
    }

    /// The boxes that it holds, or runs along with.
    fn boxes_of<'a>(&'a self, plan: &'a Plan) -> Option<&'a Boxes> {
        let role = self.role.as_ref()?;
        let role = match role.told_of() {
            Some(boxes) => plan.fields[boxes].sequence()?.1.role.as_ref()?,
            None => role,
        };
        match role {
            Role::Boxes(boxes) => Some(boxes),
            _ => None,
        }
    }

    fn has_limit(&self) -> bool {
        self.spec
            .pad
            .as_ref()
            .is_some_and(|pad| pad.length.is_some())
    }

    fn cut<'a>(&self, list: &'a [u8]) -> &'a [u8] {
        let range = self.range(list.len() / self.item_bytes);
        &list[range.start * self.item_bytes..range.end * self.item_bytes]
    }

    /// Which of so many elements stay.
    fn range(&self, elements: usize) -> std::ops::Range<usize> {
        let left = self.truncated(elements);
        match self.spec.truncate {
            Some(Truncate {
                side: End::Left, ..
            }) => elements - left..elements,
            _ => 0..left,
        }
    }

    /// All elements, and where each list starts and the last one ends. `shown`: where they lie, if in one piece.
    fn packed(&self, name: &str, lists: &[&[u8]], shown: Option<Shown>) -> Result<Vec<BatchField>> {
        let bytes: usize = lists.iter().map(|list| list.len()).sum();
        let offsets_at = if shown.is_some() {
            0
        } else {
            bytes.next_multiple_of(ALIGNMENT)
        };
        let lease = self.lease(offsets_at + (lists.len() + 1) * size_of::<i64>())?;
        let (copied, offsets) = parts(&lease, offsets_at);
        let mut end = 0;
        let offsets: &mut [i64] = bytemuck::cast_slice_mut(offsets);
        offsets[0] = 0;
        for (offset, list) in offsets[1..].iter_mut().zip(lists) {
            if shown.is_none() {
                copied[end..end + list.len()].copy_from_slice(list);
            }
            end += list.len();
            *offset = (end / self.item_bytes) as i64;
        }
        let lease = Arc::new(lease);
        let offsets = array(
            offsets_name(name),
            &lease,
            offsets_at,
            Dtype::Int64,
            vec![lists.len() + 1],
        );
        let mut shape = vec![bytes / self.item_bytes];
        shape.extend(&self.shape);
        let values = match shown {
            Some((buffer, access)) => BatchField {
                name: name.to_owned(),
                values: Values::Array {
                    address: buffer.as_ptr(),
                    memory: Memory::Data(buffer, access),
                    dtype: self.dtype,
                    shape,
                },
            },
            None => array(name.to_owned(), &lease, 0, self.dtype, shape),
        };
        Ok(vec![values, offsets])
    }

    /// Lists side by side, and which elements are theirs.
    fn padded(&self, name: &str, pad: &PadSequence, lists: &[&[u8]]) -> Result<Vec<BatchField>> {
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0) / self.item_bytes;
        let rounded = || longest.checked_next_multiple_of(pad.multiple_of);
        let length = (pad.length).unwrap_or_else(|| rounded().unwrap_or(usize::MAX));
        let row_bytes = length.saturating_mul(self.item_bytes);
        let bytes = row_bytes.saturating_mul(lists.len());
        let mask_at = bytes.saturating_add(ALIGNMENT) / ALIGNMENT * ALIGNMENT;
        let mask_bytes = if pad.mask {
            lists.len().saturating_mul(length)
        } else {
            0
        };
        let lease = self.lease(mask_at.saturating_add(mask_bytes))?;
        let (values, mask) = parts(&lease, mask_at);
        for (row, list) in lists.iter().enumerate() {
            let out = &mut values[row * row_bytes..][..row_bytes];
            let start = match pad.side {
                End::Left => row_bytes - list.len(),
                End::Right => 0,
            };
            let end = start + list.len();
            fill(&mut out[..start], &self.fill);
            out[start..end].copy_from_slice(list);
            fill(&mut out[end..], &self.fill);
            if pad.mask {
                let out = &mut mask[row * length..][..length];
                let (start, end) = (start / self.item_bytes, end / self.item_bytes);
                out[..start].fill(0);
                out[start..end].fill(1);
                out[end..].fill(0);
            }
        }
        let lease = Arc::new(lease);
        let mut shape = vec![lists.len(), length];
        let mask_shape = shape.clone();
        shape.extend(&self.shape);
        let mut fields = vec![array(name.into(), &lease, 0, self.dtype, shape)];
        if pad.mask {
            let mask = array(mask_name(name), &lease, mask_at, Dtype::Bool, mask_shape);
            fields.push(mask);
        }
        Ok(fields)
    }

    fn too_large(&self, denied: Denied) -> Error {
        let (dtype, shape) = (self.dtype.name(), &self.shape);
        let what = format!("a batch of lists of {dtype} elements of shape {shape:?}");
        denied.of(
            what,
            "use Truncate, a smaller PadSequence or a smaller batch_size",
        )
    }

    fn lease(&self, bytes: usize) -> Result<Lease> {
        let lease = self.pool.lease_of(bytes);
        lease.map_err(|denied| self.too_large(denied))
    }
}

/// Where lists lie in one piece, and what may be done to it.
type Shown = (Buffer, Access);

/// Lists of rows that follow each other as one piece of a mapped shard, if they are one.
fn shown(dataset: &Dataset, field: usize, first: u64, count: usize) -> Result<Option<Buffer>> {
    let place = dataset.locate(first)?;
    let Column::List {
        offsets,
        values,
        item_bytes,
    } = place.block.column(field)
    else {
        return Ok(None);
    };
    let rows = place.row..place.row + count;
    if rows.end > place.block.rows() {
        return Ok(None);
    }
    let (start, end) = (offsets[rows.start] as usize, offsets[rows.end] as usize);
    let piece = values.slice_with_length(start * item_bytes, (end - start) * item_bytes);
    Ok(Some(piece))
}

fn offsets_name(name: &str) -> String {
    format!("{name}_offsets")
}

fn mask_name(name: &str) -> String {
    format!("{name}_mask")
}

/// What a lease holds before and from an offset on.
#[expect(clippy::mut_from_ref, reason = "as the slot's own")]
fn parts(lease: &Lease, at: usize) -> (&mut [u8], &mut [u8]) {
    // SAFETY: the lease is new, nobody else knows of it.
    #[expect(unsafe_code, reason = "the one writer of a slot")]
    let whole = unsafe { lease.part(0, lease.bytes()) };
    whole.split_at_mut(at)
}

fn array(
    name: String,
    lease: &Arc<Lease>,
    at: usize,
    dtype: Dtype,
    shape: Vec<usize>,
) -> BatchField {
    let values = Values::Array {
        memory: Memory::Slot(lease.clone()),
        address: lease.address(at),
        dtype,
        shape,
    };
    BatchField { name, values }
}

fn fill(out: &mut [u8], element: &[u8]) {
    if element.iter().all(|byte| *byte == element[0]) {
        out.fill(element[0]);
        return;
    }
    for out in out.chunks_exact_mut(element.len()) {
        out.copy_from_slice(element);
    }
}

/// A number as it lies in memory, if the type has it.
fn number(value: &serde_json::Number, dtype: Dtype) -> Option<Vec<u8>> {
    fn whole<T: TryFrom<i128>>(value: &serde_json::Number) -> Option<T> {
        T::try_from(value.as_i128()?).ok()
    }
    let float = value.as_f64();
    Some(match dtype {
        Dtype::Bool => vec![whole::<u8>(value).filter(|value| *value < 2)?],
        Dtype::Uint8 => whole::<u8>(value)?.to_le_bytes().into(),
        Dtype::Uint16 => whole::<u16>(value)?.to_le_bytes().into(),
        Dtype::Uint32 => whole::<u32>(value)?.to_le_bytes().into(),
        Dtype::Uint64 => whole::<u64>(value)?.to_le_bytes().into(),
        Dtype::Int8 => whole::<i8>(value)?.to_le_bytes().into(),
        Dtype::Int16 => whole::<i16>(value)?.to_le_bytes().into(),
        Dtype::Int32 => whole::<i32>(value)?.to_le_bytes().into(),
        Dtype::Int64 => whole::<i64>(value)?.to_le_bytes().into(),
        Dtype::Float16 => half::f16::from_f64(float?).to_le_bytes().into(),
        Dtype::Bfloat16 => half::bf16::from_f64(float?).to_le_bytes().into(),
        Dtype::Float32 => (float? as f32).to_le_bytes().into(),
        Dtype::Float64 => float?.to_le_bytes().into(),
    })
}
