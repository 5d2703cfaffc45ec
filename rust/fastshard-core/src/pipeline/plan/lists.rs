//! A field of lists: which arrays it adds to a batch. `work/lists` fills them.

use std::sync::Arc;

use super::output::{Output, Rows};
use super::role::{Masks, Role};
use crate::error::{Error, Result};
use crate::pipeline::spec::{BoxSpec, End, ListSpec, Truncate};
use crate::schema::{Dtype, Field, Kind};
use crate::slot::SlotPool;

/// The options of a list field, checked against the field.
#[derive(Debug)]
pub(in crate::pipeline) struct Sequence {
    pub(in crate::pipeline) spec: ListSpec,
    pub(in crate::pipeline) dtype: Dtype,
    pub(in crate::pipeline) shape: Vec<usize>,
    pub(in crate::pipeline) item_bytes: usize,
    /// One element of what is filled up with.
    pub(in crate::pipeline) fill: Vec<u8>,
    /// What it has to do with boxes.
    pub(in crate::pipeline) role: Option<Role>,
    pub(in crate::pipeline) pool: Arc<SlotPool>,
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
    pub(in crate::pipeline) fn check(&self, elements: usize) -> Result<()> {
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

    pub(in crate::pipeline) fn cut<'a>(&self, list: &'a [u8]) -> &'a [u8] {
        let range = self.range(list.len() / self.item_bytes);
        &list[range.start * self.item_bytes..range.end * self.item_bytes]
    }

    /// Which of so many elements stay.
    pub(in crate::pipeline) fn range(&self, elements: usize) -> std::ops::Range<usize> {
        let left = self.truncated(elements);
        match self.spec.truncate {
            Some(Truncate {
                side: End::Left, ..
            }) => elements - left..elements,
            _ => 0..left,
        }
    }
}

pub(in crate::pipeline) fn offsets_name(name: &str) -> String {
    format!("{name}_offsets")
}

pub(in crate::pipeline) fn mask_name(name: &str) -> String {
    format!("{name}_mask")
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
