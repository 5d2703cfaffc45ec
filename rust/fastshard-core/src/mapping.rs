//! A shard file in memory.

use std::fs::File;
use std::path::Path;

use arrow_buffer::Buffer;

use crate::error::{Error, Result};

/// What holders of a view of a mapped file may do to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Read; the pages are those of every other process.
    #[default]
    Read,
    /// Write, too: a page that is written to becomes this process's own, and the file stays as it is.
    CopyOnWrite,
}

/// Maps a file of an expected length, to be shared by every reader of this process.
pub(crate) fn map(path: &Path, expected: u64, access: Access) -> Result<Buffer> {
    let file = File::open(path).map_err(Error::io(path))?;
    let found = file.metadata().map_err(Error::io(path))?.len();
    check_length(path, expected, found)?;
    // SAFETY: the map is read-only and of a regular file which fastshard wrote under another name, renamed and never
    // touches again. Should somebody else shrink it under us, access ends in SIGBUS, not in wrong memory; no library
    // can prevent that, and the documentation says so.
    #[expect(unsafe_code, reason = "mapping a file is why this library exists")]
    let map = unsafe {
        match access {
            Access::Read => memmap2::Mmap::map(&file).map(bytes::Bytes::from_owner),
            // Few pages will be written to: no memory is set aside for the others.
            Access::CopyOnWrite => memmap2::MmapOptions::new()
                .no_reserve_swap()
                .map_copy(&file)
                .map(bytes::Bytes::from_owner),
        }
    };
    Ok(Buffer::from(map.map_err(Error::io(path))?))
}

/// Tells a truncated (or longer) file from the one that was written.
pub(crate) fn check_length(path: &Path, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let what = if found < expected {
        "truncated"
    } else {
        "too long"
    };
    Err(Error::corrupt(
        path,
        format!("{what}: {found} bytes, expected {expected}"),
    ))
}

/// Asks for a part of a mapped file to be read, and waits for nothing; a hint, which may come to nothing.
#[cfg(target_os = "linux")]
pub(crate) fn will_need(part: &[u8]) {
    use rustix::mm::{Advice, madvise};
    /// Of more than what a device reads ahead, which is 128 KiB by default, the kernel forgets the rest.
    const PIECE: usize = 128 << 10;
    let inside = part.as_ptr().addr() % rustix::param::page_size();
    let start = part.as_ptr().wrapping_byte_sub(inside);
    let length = part.len() + inside;
    for at in (0..length).step_by(PIECE) {
        let piece = start.wrapping_byte_add(at).cast_mut().cast();
        // SAFETY: this advice changes nothing but what the kernel reads ahead, wherever the pages lie.
        #[expect(unsafe_code, reason = "a system call that takes an address")]
        let _ = unsafe { madvise(piece, PIECE.min(length - at), Advice::WillNeed) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn will_need(_part: &[u8]) {}
