//! Builds the lists of a batch: concatenated with the offsets of each list, or padded to one length.
//!
//! ```text
//! packed    values of all lists, one after the other | offsets: i64, one more than there are lists
//! padded    lists x length elements                  | mask: a byte an element, 1 where it is the list's own
//! ```
//!
//! Both parts are in one slot of a pool of their own, since the size of lists changes from batch to batch. Packed lists
//! of consecutive rows in one block are not copied: their values are a view of the mapping, and only offsets are
//! written.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_buffer::Buffer;

use super::moved::Moved;
use crate::dataset::{Dataset, not_as_planned};
use crate::error::{Error, Result};
use crate::format::{ALIGNMENT, Column};
use crate::mapping::Access;
use crate::memory::{self, Denied};
use crate::order::Drawn;
use crate::pipeline::plan::{Boxes, Plan, PlannedField, Role, Sequence, mask_name, offsets_name};
use crate::pipeline::spec::{End, PadSequence};
use crate::pipeline::values::{BatchField, Memory, Values};
use crate::schema::Dtype;
use crate::slot::Lease;

impl Sequence {
    /// Builds the lists of some rows. `run` says that the rows are consecutive and may be shown where they are. `moved`
    /// holds the boxes that are left of each row, for fields of boxes and those along with boxes.
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

    /// Builds lists that were computed, such as waveforms.
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

    /// The elements of a list that belong to boxes which are left.
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

    /// Number of stored elements of all rows that are joined into one sample.
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

    /// The boxes that the field holds, or that its lists run along with.
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

    /// Concatenates lists and adds offsets. With `shown`, the values are shown there and not copied.
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

    /// Pads lists to one length, and adds the mask of elements that are their own.
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

/// Memory that holds lists in one piece, and what may be done to it.
type Shown = (Buffer, Access);

/// The values of consecutive rows as one piece of a mapped shard, if one block holds them all.
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

/// Splits a lease in two at an offset.
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
