//! Bytes of rows in the making, in memory that blocks before them have used: fresh memory takes as long as copying does.

use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use crate::error::{Error, Result};

/// Room for a block and what it may grow by, so that blocks of about one size fit into each other's.
const STEP: usize = 4 << 20;

/// Values of any length, behind each other; behind the last one may lie bytes that were read and aren't a value yet.
#[derive(Debug)]
pub(super) struct ByteColumn {
    values: Vec<u8>,
    offsets: Vec<i32>,
}

impl Default for ByteColumn {
    fn default() -> Self {
        Self::within(Vec::new())
    }
}

impl ByteColumn {
    /// In the room of an empty buffer.
    pub(super) fn within(room: Vec<u8>) -> Self {
        Self {
            values: room,
            offsets: vec![0],
        }
    }

    /// Where the next value is read to, behind what is there; what was read there before is dropped.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.values.truncate(self.end());
        &mut self.values
    }

    /// What was read and isn't a value yet.
    pub(super) fn unkept(&self) -> &[u8] {
        &self.values[self.end()..]
    }

    /// Makes a value of it; all together have at most 2 GiB, as offsets within a block are 32 bits wide.
    pub(super) fn keep(&mut self) -> Result<()> {
        let end = i32::try_from(self.values.len());
        self.offsets
            .push(end.map_err(|_| Error::source("files of more than 2 GiB in one block"))?);
        Ok(())
    }

    /// Adds a value.
    pub(super) fn push(&mut self, value: &[u8]) -> Result<()> {
        self.room().extend_from_slice(value);
        self.keep()
    }

    fn end(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    pub(super) fn finish(&mut self) -> BinaryArray {
        self.room();
        let Self { values, offsets } = std::mem::take(self);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        BinaryArray::new(offsets, Buffer::from_vec(values), None)
    }
}

/// Large buffers between one block and the next.
#[derive(Debug, Default)]
pub(super) struct SpareRoom(Mutex<Vec<Vec<u8>>>);

impl SpareRoom {
    /// An empty buffer with room for so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = spare.iter().position(|one| one.capacity() >= bytes);
        if let Some(found) = fitting.filter(|_| bytes >= STEP) {
            return spare.swap_remove(found);
        }
        // Those there are were of smaller blocks: they make room.
        spare.pop();
        drop(spare);
        let rounded = if bytes < STEP {
            bytes
        } else {
            (bytes + STEP).next_multiple_of(STEP)
        };
        Vec::with_capacity(rounded)
    }

    /// Takes back the large buffers of a block that is written.
    pub(super) fn give_back(&self, batch: RecordBatch) {
        let columns = batch
            .columns()
            .iter()
            .filter_map(|column| column.as_struct_opt());
        let children = columns.flat_map(|column| column.columns().to_vec());
        let values: Vec<Buffer> = children
            .filter_map(|child| Some(child.as_binary_opt::<i32>()?.values().clone()))
            .collect();
        drop(batch);
        let rooms = values
            .into_iter()
            .filter_map(|buffer| buffer.into_vec().ok());
        let large = rooms.filter_map(|mut room: Vec<u8>| {
            room.clear();
            (room.capacity() >= STEP).then_some(room)
        });
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(large);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray, StructArray};
    use arrow_schema::{DataType, Field, Fields};

    use super::*;

    fn block(mut column: ByteColumn) -> RecordBatch {
        let values: ArrayRef = Arc::new(column.finish());
        let paths: ArrayRef = Arc::new(StringArray::from(vec!["", ""]));
        let binary = Field::new("bytes", DataType::Binary, false);
        let fields = Fields::from(vec![binary, Field::new("path", DataType::Utf8, false)]);
        let files: ArrayRef = Arc::new(StructArray::new(fields, vec![values, paths], None));
        RecordBatch::try_from_iter([("image", files)]).unwrap()
    }

    #[test]
    fn room_of_a_block_is_used_again() {
        let spare = SpareRoom::default();
        let values = [vec![1; STEP], vec![2; 3]];
        let build = |room| {
            let mut column = ByteColumn::within(room);
            column.push(&values[0]).unwrap();
            column.room().extend(b"of a file that is left out");
            column.room().extend(&values[1]);
            assert_eq!(column.unkept(), values[1]);
            column.keep().unwrap();
            column.room().extend(b"and another");
            block(column)
        };
        let first = build(spare.take(STEP + 3));
        let files = first.column(0).as_struct();
        let found: Vec<_> = files
            .column(0)
            .as_binary::<i32>()
            .iter()
            .flatten()
            .collect();
        assert_eq!(found, values);
        let place = files.column(0).as_binary::<i32>().values().as_ptr();
        let kept = first.clone();
        spare.give_back(first);
        // Somebody else still looks at it.
        let other = spare.take(STEP);
        assert_ne!(other.as_ptr(), place);
        spare.give_back(kept);
        let room = spare.take(STEP + 100);
        assert_eq!((room.as_ptr(), room.len()), (place, 0));
        spare.give_back(build(room));
        let small = spare.take(100);
        assert_ne!(small.as_ptr(), place);
        assert!(spare.take(1 << 30).capacity() >= 1 << 30);
    }
}
