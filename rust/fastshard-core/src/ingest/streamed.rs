//! Images and audio that a stream brings: their bytes, or where in a file (an archive, say) they lie. What lies in files is read by
//! the threads that need it, so that it never goes through the caller.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;

use super::image_column::MAX_ITEM;
use crate::error::{Error, Result};
use crate::memory;
use crate::regular;

/// Files that stay open for the next image or audio of theirs.
const MAX_OPEN: usize = 64;

/// A file of a stream, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streamed<'a> {
    pub(super) path: &'a str,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content<'a> {
    Bytes(&'a [u8]),
    Place {
        file: &'a str,
        offset: u64,
        length: u64,
    },
}

/// The image or audio of a row: plain bytes, what datasets hold (`bytes`, `path`), or that and a place (`file`, `offset`,
/// `length`), which counts where `file` is not empty.
pub(super) fn streamed_file<'a>(
    table: &'a RecordBatch,
    name: &str,
    row: usize,
) -> Result<Streamed<'a>> {
    let found = table.column_by_name(name).and_then(|column| {
        let Some(parts) = column.as_struct_opt() else {
            let bytes = column.as_binary_opt::<i32>()?.value(row);
            let content = Content::Bytes(bytes);
            return Some(Streamed { path: "", content });
        };
        let text = |name| {
            Some(
                parts
                    .column_by_name(name)?
                    .as_string_opt::<i32>()?
                    .value(row),
            )
        };
        let number = |name| {
            let column = parts.column_by_name(name)?.as_primitive_opt::<UInt64Type>();
            Some(column?.value(row))
        };
        let content = if let Some(file) = text("file").filter(|file| !file.is_empty()) {
            Content::Place {
                file,
                offset: number("offset")?,
                length: number("length")?,
            }
        } else {
            let bytes = parts.column_by_name("bytes")?.as_binary_opt::<i32>()?;
            Content::Bytes(bytes.value(row))
        };
        let path = text("path")?;
        Some(Streamed { path, content })
    });
    found.ok_or_else(|| Error::source(format!("field {name:?}: expected a column of bytes")))
}

impl Streamed<'_> {
    /// Bytes that it says it has.
    pub(super) fn size(&self) -> u64 {
        match self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Place { length, .. } => length,
        }
    }

    /// Reads it, behind what is there.
    pub(super) fn read(&self, files: &OpenFiles, bytes: &mut Vec<u8>) -> Result<()> {
        match self.content {
            Content::Bytes(given) => {
                bytes.extend_from_slice(given);
                Ok(())
            }
            Content::Place {
                file,
                offset,
                length,
            } => files.read(file, offset, length, bytes),
        }
    }
}

/// Files by their paths, opened when first needed.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<BTreeMap<String, Arc<File>>>);

impl OpenFiles {
    fn read(&self, path: &str, offset: u64, length: u64, bytes: &mut Vec<u8>) -> Result<()> {
        let file = self.open(path)?;
        let end = offset.checked_add(length);
        let size = file.metadata().map_err(Error::io(path))?.len();
        if length > MAX_ITEM || end.is_none_or(|end| end > size) {
            return Err(Error::source(format!(
                "{path}: {length} bytes at {offset} of {size}: truncated while it was being packed"
            )));
        }
        memory::reserve(bytes, length as usize)?;
        let mut left = length as usize;
        while left > 0 {
            let at = offset + length - left as u64;
            match read_behind(&file, bytes, left, at) {
                Ok(0) => return Err(Error::io(path)(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => left -= read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io(path)(error.into())),
            }
        }
        Ok(())
    }

    fn open(&self, path: &str) -> Result<Arc<File>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path) {
            return Ok(file.clone());
        }
        if files.len() >= MAX_OPEN {
            files.clear();
        }
        let file = regular::open_to_read(Path::new(path)).map_err(Error::io(path))?;
        let file = Arc::new(file);
        files.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}

/// Reads at most so many bytes of a place, straight into memory that nobody has filled with zeros before.
fn read_behind(
    file: &File,
    bytes: &mut Vec<u8>,
    most: usize,
    at: u64,
) -> Result<usize, rustix::io::Errno> {
    let room = &mut bytes.spare_capacity_mut()[..most];
    let read = rustix::io::pread(file, room, at)?.0.len();
    // SAFETY: the kernel has just filled that many bytes behind the last one.
    #[expect(unsafe_code, reason = "zeros take as long as reading")]
    unsafe {
        bytes.set_len(bytes.len() + read);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_places_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, b"0123456789").unwrap();
        let path = path.to_str().unwrap();
        let files = OpenFiles::default();
        let read = |path: &str, offset, length| {
            let mut bytes = b">".to_vec();
            bytes.reserve(100);
            files.read(path, offset, length, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read(path, 3, 4).unwrap(), b">3456");
        assert_eq!(read(path, 10, 0).unwrap(), b">");
        for (offset, length) in [(3, 8), (11, 0), (u64::MAX, 2), (0, 1 << 40)] {
            let error = read(path, offset, length).unwrap_err();
            assert!(matches!(error, Error::Source { .. }), "{error}");
        }
        let gone = folder.path().join("gone");
        let error = read(gone.to_str().unwrap(), 0, 1).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
