//! Reading a block: an Arrow message becomes a record batch of which nothing leads out of its memory.
//!
//! Arrow's own reader panics where a message says that a buffer lies outside of it, and believes lengths before it has
//! looked. A shard may be anybody's, so this reader takes the schema from the manifest and only numbers from the
//! message, and compares each with what is there before it is used. It reads what shards hold: numbers, fixed-size
//! lists, lists, texts, bytes and structs, uncompressed and without nulls.
//!
//! Offsets, and fastshard's own columns but for the rows' checksums, are copied. They are small, every access goes by
//! them, and a file that somebody changes while it is mapped must not move an access out of its buffer. Their checksum,
//! in version 4 of the format part of the block's `index_crc32c`, is that of the copies.

use arrow_array::{ArrayRef, RecordBatch, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_ipc::root_as_message;
use arrow_schema::{DataType, SchemaRef};

use super::CRC_COLUMN;

/// Bytes before the header: a mark, and the header's length.
const PREFIX: usize = 8;
const MARK: [u8; 4] = [0xff; 4];

/// A block as it was read.
pub(crate) struct Message {
    pub(crate) batch: RecordBatch,
    /// CRC32C of all offsets, and of all values of fastshard's own columns but for the rows' checksums, in the order of
    /// their buffers.
    pub(crate) index: u32,
}

/// Reads a message: its header, with prefix, of so many bytes, and its body behind it.
pub(crate) fn read(
    schema: &SchemaRef,
    message: &Buffer,
    header: usize,
    rows: u64,
) -> Result<Message, String> {
    let (head, body) = message.split_at_checked(header).ok_or("cut short")?;
    let mut reader = Reader::new(head, message.slice_with_length(header, body.len()))?;
    if reader.rows != rows {
        return Err(format!("{} rows, expected {rows}", reader.rows));
    }
    let rows = usize::try_from(rows).map_err(|_| "more rows than memory has bytes")?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        reader.own = field.name().starts_with('_') && field.name() != CRC_COLUMN;
        let array = reader.array(field.data_type(), rows);
        let array = array.map_err(|reason| format!("column {:?}: {reason}", field.name()))?;
        columns.push(make_array(array));
    }
    reader.finish()?;
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|error| error.to_string())?;
    Ok(Message {
        batch,
        index: reader.index,
    })
}

/// Goes through the arrays and buffers that a message lists, in the order of the schema.
struct Reader {
    body: Buffer,
    rows: u64,
    /// Length of each array.
    lengths: std::vec::IntoIter<u64>,
    /// Start and length of each buffer.
    places: std::vec::IntoIter<(u64, u64)>,
    /// Whether the column is one of fastshard's own, and not that of the rows' checksums.
    own: bool,
    index: u32,
}

impl Reader {
    fn new(head: &[u8], body: Buffer) -> Result<Self, String> {
        let (prefix, rest) = head.split_first_chunk::<PREFIX>().ok_or("no header")?;
        let (mark, length) = prefix.split_at(MARK.len());
        let length = i32::from_le_bytes(length.try_into().map_err(|_| "no length")?);
        let table = usize::try_from(length).ok().and_then(|at| rest.get(..at));
        let table = table
            .filter(|_| mark == MARK)
            .ok_or("not an Arrow message")?;
        let message = root_as_message(table).map_err(|error| error.to_string())?;
        let batch = message
            .header_as_record_batch()
            .ok_or("a message of another kind than a record batch")?;
        if batch.compression().is_some() {
            return Err("compressed".into());
        }
        let positive = |number: i64| u64::try_from(number).map_err(|_| "a negative length");
        let mut lengths = Vec::new();
        for node in batch.nodes().iter().flatten() {
            if node.null_count() != 0 {
                return Err("null values".into());
            }
            lengths.push(positive(node.length())?);
        }
        let mut places = Vec::new();
        for buffer in batch.buffers().iter().flatten() {
            places.push((positive(buffer.offset())?, positive(buffer.length())?));
        }
        Ok(Self {
            body,
            rows: positive(batch.length())?,
            lengths: lengths.into_iter(),
            places: places.into_iter(),
            own: false,
            index: 0,
        })
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.lengths.next().is_some() || self.places.next().is_some() {
            return Err("more columns than the manifest says".into());
        }
        Ok(())
    }

    /// The next array, of so many elements.
    fn array(&mut self, kind: &DataType, length: usize) -> Result<ArrayData, String> {
        let listed = self.lengths.next().ok_or("missing")?;
        if listed != length as u64 {
            return Err(format!("{listed} values, expected {length}"));
        }
        // One for nulls, of which there are none.
        if !matches!(kind, DataType::Null) {
            self.place()?;
        }
        let (buffers, children) = match kind {
            DataType::Binary | DataType::Utf8 => {
                let (offsets, end) = self.offsets(length)?;
                (vec![offsets, self.values(end, 1)?], vec![])
            }
            DataType::List(item) => {
                let (offsets, end) = self.offsets(length)?;
                // There may be elements that no list has.
                let listed = self.lengths.as_slice().first().copied().unwrap_or_default();
                let count = usize::try_from(listed).map_err(|_| "too many values")?;
                if count < end {
                    return Err(format!("{count} values, expected {end}"));
                }
                (vec![offsets], vec![self.array(item.data_type(), count)?])
            }
            DataType::FixedSizeList(item, size) => {
                let count = usize::try_from(*size)
                    .ok()
                    .and_then(|size| size.checked_mul(length));
                let count = count.ok_or("more values than memory has bytes")?;
                (vec![], vec![self.array(item.data_type(), count)?])
            }
            DataType::Struct(fields) => {
                let children = fields
                    .iter()
                    .map(|field| self.array(field.data_type(), length));
                (vec![], children.collect::<Result<_, _>>()?)
            }
            _ => {
                let width = kind
                    .primitive_width()
                    .ok_or("a type that shards don't hold")?;
                (vec![self.values(length, width)?], vec![])
            }
        };
        let array = ArrayData::builder(kind.clone())
            .len(length)
            .buffers(buffers)
            .child_data(children);
        array.build().map_err(|error| error.to_string())
    }

    fn place(&mut self) -> Result<(u64, u64), String> {
        self.places
            .next()
            .ok_or_else(|| "a buffer is missing".into())
    }

    /// The next buffer, cut to so many values of a width in bytes.
    fn values(&mut self, count: usize, width: usize) -> Result<Buffer, String> {
        let buffer = self.buffer(count, width)?;
        Ok(if self.own { self.copy(&buffer) } else { buffer })
    }

    /// The next buffer as offsets of so many elements, and where the last one ends.
    fn offsets(&mut self, count: usize) -> Result<(Buffer, usize), String> {
        let count = count.checked_add(1).ok_or("too many values")?;
        let buffer = self.buffer(count, size_of::<i32>())?;
        let buffer = self.copy(&buffer);
        let last = buffer
            .last_chunk()
            .map_or(0, |last| i32::from_le_bytes(*last));
        let end = usize::try_from(last).map_err(|_| format!("an offset of {last}"))?;
        Ok((buffer, end))
    }

    fn buffer(&mut self, count: usize, width: usize) -> Result<Buffer, String> {
        let (start, listed) = self.place()?;
        let wanted = count
            .checked_mul(width)
            .ok_or("more bytes than memory has")?;
        let end = start.checked_add(listed);
        if end.is_none_or(|end| end > self.body.len() as u64) {
            return Err(format!(
                "a buffer at {start} of {listed} bytes lies outside of its block"
            ));
        }
        if listed < wanted as u64 {
            return Err(format!("a buffer of {listed} bytes, expected {wanted}"));
        }
        let buffer = self.body.slice_with_length(start as usize, wanted);
        // No value is wider, and mappings start at pages.
        if wanted > 0 && !(buffer.as_ptr().addr()).is_multiple_of(size_of::<u64>()) {
            return Err(format!("a buffer at {start} is not aligned to 8 bytes"));
        }
        Ok(buffer)
    }

    /// A copy that is part of the index.
    fn copy(&mut self, buffer: &Buffer) -> Buffer {
        let copy = Buffer::from(buffer.as_slice());
        self.index = crc32c::crc32c_append(self.index, &copy);
        copy
    }
}
