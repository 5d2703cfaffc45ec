//! A shard file in memory.

pub(crate) mod guard;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_buffer::Buffer;

use self::guard::{Lost, Watch};
use crate::error::{Error, Result};
use crate::regular;

/// What holders of a view of a mapped file may do to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Read; the pages are those of every other process.
    #[default]
    Read,
    /// Write, too: a page that is written to becomes this process's own, and the file stays as it is.
    CopyOnWrite,
}

/// A mapped file.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Its bytes; whoever holds a part of them keeps the mapping.
    pub(crate) data: Buffer,
    lost: Lost,
}

impl Mapped {
    /// Whether a part of the file was gone, and zeros were read in its place.
    pub(crate) fn lost(&self) -> bool {
        self.lost.get()
    }
}

/// A mapping with the mark by which it is known when one of its pages is missing.
struct Watched<M> {
    // Dropped first.
    watch: Watch,
    map: M,
}

impl<M: Deref<Target = [u8]>> Watched<M> {
    fn new(map: M) -> Self {
        let watch = guard::watch(map.as_ptr().addr(), map.len());
        Self { watch, map }
    }
}

impl<M: Deref<Target = [u8]>> AsRef<[u8]> for Watched<M> {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

fn watched<M: Deref<Target = [u8]> + Send + Sync + 'static>(map: M) -> Mapped {
    let watched = Watched::new(map);
    let lost = watched.watch.lost();
    let data = Buffer::from(bytes::Bytes::from_owner(watched));
    Mapped { data, lost }
}

/// Maps a file of an expected length, to be shared by every reader of this process.
pub(crate) fn map(path: &Path, expected: u64, access: Access) -> Result<Mapped> {
    let file = regular::open_to_read(path).map_err(Error::io(path))?;
    let found = file.metadata().map_err(Error::io(path))?.len();
    check_length(path, expected, found)?;
    // SAFETY: the map is read-only and of a regular file which fastshard wrote under another name, renamed and never
    // touches again. Should somebody else change it under us, bytes change, but what leads to bytes was copied; should
    // somebody shrink it, pages become zeros and the guard tells.
    #[expect(unsafe_code, reason = "mapping a file is why this library exists")]
    let map = unsafe {
        match access {
            Access::Read => memmap2::Mmap::map(&file).map(watched),
            // Few pages will be written to: no memory is set aside for the others.
            Access::CopyOnWrite => memmap2::MmapOptions::new()
                .no_reserve_swap()
                .map_copy(&file)
                .map(watched),
        }
    };
    map.map_err(Error::io(path))
}

/// Maps a file that others write to by calls, such as a cache entry: what is read of it must be compared with a checksum.
pub(crate) fn map_shared(file: &File) -> std::io::Result<Mapped> {
    // SAFETY: bytes may change at any time, so they are only copied out, and compared with a checksum then; should
    // somebody shrink the file, pages become zeros and the guard tells.
    #[expect(unsafe_code, reason = "mapping a file is why this library exists")]
    unsafe { memmap2::Mmap::map(file) }.map(watched)
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

/// Where `read` puts what nobody wants: as much as a kernel reads in one go.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; 1 << 20])
    }
}

/// Has a part of a file in memory when it returns, unless memory is short, or it was cancelled.
pub(crate) fn read(
    path: &Path,
    part: Range<u64>,
    scratch: &mut Scratch,
    cancelled: &AtomicBool,
) -> Result<()> {
    let mut file = regular::open_to_read(path).map_err(Error::io(path))?;
    file.seek(SeekFrom::Start(part.start))
        .map_err(Error::io(path))?;
    let mut left = part.end - part.start;
    while left > 0 && !cancelled.load(Ordering::Relaxed) {
        let length = left.min(scratch.0.len() as u64) as usize;
        let read = file
            .read(&mut scratch.0[..length])
            .map_err(Error::io(path))?;
        if read == 0 {
            break;
        }
        left -= read as u64;
    }
    Ok(())
}

/// Whether a part of a file probably is in memory: looks at one byte of every so many, which is quick. The kernel's own
/// list of pages in memory is kept from those who may not write to the file.
#[cfg(target_os = "linux")]
pub(crate) fn is_in_memory(path: &Path, part: Range<u64>) -> Result<bool> {
    use rustix::io::{ReadWriteFlags, preadv2};
    const STEP: usize = 128 << 10;
    let file = regular::open_to_read(path).map_err(Error::io(path))?;
    let mut byte = [0];
    Ok(part.step_by(STEP).all(|offset| {
        let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
        preadv2(&file, &mut bytes, offset, ReadWriteFlags::NOWAIT) == Ok(1)
    }))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_in_memory(_path: &Path, _part: Range<u64>) -> Result<bool> {
    Ok(false)
}

/// Says of a part of a mapped file that its memory is to be had before any other, should some be needed; a hint. Else
/// the kernel would rather give up what was read ahead than what was just used. Memory that no process has mapped is
/// had at once; that of a copy stays mapped, since it may have been written to.
#[cfg(target_os = "linux")]
pub(crate) fn done_with(part: &[u8], access: Access) {
    use rustix::mm::Advice;
    advise(part, Advice::LinuxCold);
    if access == Access::Read {
        advise(part, Advice::LinuxDontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn done_with(_part: &[u8], _access: Access) {}

#[cfg(target_os = "linux")]
fn advise(part: &[u8], advice: rustix::mm::Advice) {
    let inside = part.as_ptr().addr() % rustix::param::page_size();
    let start = part.as_ptr().wrapping_byte_sub(inside).cast_mut().cast();
    // SAFETY: neither advice changes what is read here afterwards: nothing was ever written to pages that are unmapped.
    #[expect(unsafe_code, reason = "a system call that takes an address")]
    let _ = unsafe { rustix::mm::madvise(start, part.len() + inside, advice) };
}
