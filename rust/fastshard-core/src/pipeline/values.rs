//! Batches as they are handed over: named arrays, and the memory that they lie in.

use std::sync::Arc;

use arrow_buffer::Buffer;

use crate::mapping::Access;
use crate::schema::Dtype;
use crate::slot::Lease;

/// What a batch's array lies in.
#[derive(Clone, Debug)]
pub enum Memory {
    /// A slot that goes back to the pool with the last holder. Writable.
    Slot(Arc<Lease>),
    /// The data itself: a mapped file, or arrays that somebody else made; and what may be done to it.
    Data(Buffer, Access),
    /// Memory of its own.
    Owned(Arc<Vec<u8>>),
}

/// The values of a field.
#[derive(Clone, Debug)]
pub enum Values {
    /// An array.
    Array {
        /// Keeps the memory alive.
        memory: Memory,
        /// First byte.
        address: *const u8,
        /// Element type.
        dtype: Dtype,
        /// Shape, rows first.
        shape: Vec<usize>,
    },
    /// Texts.
    Text(Vec<String>),
    /// Byte strings.
    Bytes(Vec<Vec<u8>>),
}

// SAFETY: the address points into `memory`, which travels with it and may be held by any thread.
#[expect(unsafe_code, reason = "a pointer with its owner")]
unsafe impl Send for Values {}

// SAFETY: reading through a shared reference needs no coordination; writers are kept apart by the slot's contract.
#[expect(unsafe_code, reason = "a pointer with its owner")]
unsafe impl Sync for Values {}

/// One field of a batch.
#[derive(Clone, Debug)]
pub struct BatchField {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// A batch as the consumer gets it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Samples.
    pub rows: usize,
    /// Fields in the order of the loader.
    pub fields: Vec<BatchField>,
}

impl Batch {
    /// Bytes of its values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = self.fields.iter().map(|field| match &field.values {
            Values::Array { dtype, shape, .. } => dtype.size() * shape.iter().product::<usize>(),
            Values::Text(texts) => texts.iter().map(String::len).sum(),
            Values::Bytes(values) => values.iter().map(Vec::len).sum(),
        });
        bytes.sum()
    }
}
