//! One entry: the decoded images of one field of a dataset.
//!
//! # How rows are published
//!
//! ```text
//! writer    write the pixels, then write the state (their checksum)
//! reader    read the state, then read the pixels; at the first time, compare them with the checksum
//! ```
//!
//! Whoever sees the state so sees the pixels. No lock is needed: two processes that decode the same row write the same
//! bytes to the same place, and a killed process leaves a state of 0, or a complete row. After a crash of the machine,
//! the state may have reached the disk and the pixels not. So each process compares a row with its checksum when it
//! first reads it, and notes that in `trusted`, a bit a row; a row that differs gets the state 0 and is decoded again.
//!
//! # How the file is accessed
//!
//! Everything is written by calls, so that a full disk is an error and not a signal. It is read from a mapping, which
//! saves a call a row; the guard of mappings tells when somebody has cut the file, or the disk has failed. A failed
//! write ends storing, and a lost page makes all later reads misses. Either gives one warning, and loading goes on.
//!
//! # Cost
//!
//! A hit costs one copy of the lines that are wanted. The first read of a row costs a checksum over all of its pixels.
//! A miss costs one look at a state.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use super::layout::{GRANT, HEADER, INDEX_ENTRY, Layout, PAGE, Sizes};
use crate::error::{Error, Result};
use crate::mapping::{self, Mapped, guard};
use crate::pixels::Scratch;

/// An open entry. As long as it lives, nobody evicts the file.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    file: File,
    map: Mapped,
    layout: Layout,
    /// A bit for each row: whether this process has compared it with its checksum.
    trusted: Vec<AtomicU64>,
    /// Rows that would end beyond this are not stored.
    limit: u64,
    stopped: AtomicBool,
    /// Whether a problem was noted; only the first one is.
    failed: AtomicBool,
    problem: Mutex<Option<String>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Which pixels of a row were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Height and width of the row's image.
    pub size: [u32; 2],
    /// The lines of the image that were read.
    pub range: Range<u32>,
}

/// Where a row's pixels are.
#[derive(Clone, Copy, Debug)]
pub struct RowPlace {
    start: u64,
    length: usize,
    /// Height and width.
    pub size: [u32; 2],
}

/// Scratch memory beyond this is freed after a comparison.
const KEEP_CHECKED: usize = 16 << 20;
/// Bytes of states that are read at a time when rows are counted.
const STATES: usize = 64 << 10;

thread_local! {
    /// Scratch for pixels that are only read to be compared with their checksum.
    static CHECKED: RefCell<Scratch> = RefCell::default();
}

fn checksum(size: [u32; 2], pixels: &[u8]) -> u32 {
    let size = u64::from(size[0]) << 32 | u64::from(size[1]);
    // A state of 0 means that the row is missing.
    crc32c::crc32c_append(crc32c::crc32c(&size.to_le_bytes()), pixels).max(1)
}

/// Writes all but the pixels of a new entry.
pub(super) fn write_empty(
    file: &mut File,
    rows: u64,
    sizes: &Sizes,
    pixel_bytes: u32,
    description: &str,
) -> std::io::Result<()> {
    let (layout, index) = Layout::new(rows, sizes, pixel_bytes, description);
    file.write_all(&layout.header())?;
    file.write_all(description.as_bytes())?;
    let zeros = vec![0; 1 << 16];
    let mut left = layout.index() - HEADER as u64 - description.len() as u64;
    while left > 0 {
        let part = left.min(zeros.len() as u64);
        file.write_all(&zeros[..part as usize])?;
        left -= part;
    }
    file.write_all(&index)?;
    file.set_len(layout.length)
}

/// The header and description of an entry's file.
pub(super) fn read_head(file: &File, path: &Path) -> Result<(Layout, String)> {
    let read = |bytes: &mut [u8], at| match file.read_exact_at(bytes, at) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Error::corrupt(path, "no cache entry: too short"))
        }
        other => other.map_err(Error::io(path)),
    };
    let mut header = [0; HEADER];
    read(&mut header, 0)?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let layout = Layout::parse(&header, length, path)?;
    let mut description = vec![0; layout.description as usize];
    read(&mut description, HEADER as u64)?;
    Ok((layout, String::from_utf8_lossy(&description).into_owned()))
}

impl Entry {
    /// Opens an entry from a file that holds a shared lock.
    pub(super) fn open(
        file: File,
        path: PathBuf,
        rows: u64,
        pixel_bytes: u32,
        writable: bool,
    ) -> Result<Self> {
        let (layout, _) = read_head(&file, &path)?;
        if (layout.rows, layout.pixel_bytes) != (rows, pixel_bytes) {
            return Err(Error::corrupt(&path, "an entry of another dataset"));
        }
        let map = mapping::map_shared(&file).map_err(Error::io(&path))?;
        Ok(Self {
            map,
            trusted: (0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            limit: u64::MAX,
            stopped: AtomicBool::new(!writable),
            failed: AtomicBool::new(false),
            problem: Mutex::new(None),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            path,
            file,
            layout,
        })
    }

    /// Sets how many bytes the file may take, and notes that in its header for other processes; `u64::MAX` means all
    /// that it needs. Unless no other process has the entry open (`alone`), the noted grant only grows.
    pub(super) fn grant(&mut self, bytes: u64, alone: bool) -> Result<()> {
        self.limit = bytes / PAGE * PAGE;
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut grant = match bytes {
            u64::MAX => 0,
            bytes => u32::try_from(bytes / PAGE).unwrap_or(u32::MAX).max(1),
        };
        let before = self.layout.grant;
        if !alone {
            grant = if before == 0 {
                0
            } else {
                grant.max(before) * u32::from(grant > 0)
            };
        }
        self.layout.grant = grant;
        (self.file.write_all_at(&grant.to_le_bytes(), GRANT)).map_err(Error::io(&self.path))
    }

    /// Path of the entry's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes: what it takes once every row is stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layout.length
    }

    /// Copies a part of the file; `None` if it can't be read.
    fn read_part(&self, part: &mut [u8], at: u64) -> Option<()> {
        let end = at.checked_add(part.len() as u64)?;
        let place = usize::try_from(at).ok()?..usize::try_from(end).ok()?;
        part.copy_from_slice(self.map.data.get(place)?);
        if guard::any_lost() && self.map.lost() {
            self.stop("was cut while it was in use, or can't be read any more");
            return None;
        }
        Some(())
    }

    fn stop(&self, reason: &str) {
        self.stopped.store(true, Ordering::Relaxed);
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.get_or_insert_with(|| {
            let path = self.path.display();
            format!("{path}: {reason}; going on without storing more")
        });
    }

    fn state(&self, row: u64) -> Option<u32> {
        let mut state = [0; 4];
        self.read_part(&mut state, self.layout.states() + 4 * row)?;
        // The pixels must be read after the state.
        fence(Ordering::Acquire);
        Some(u32::from_le_bytes(state))
    }

    fn set_state(&self, row: u64, state: u32) {
        let at = self.layout.states() + 4 * row;
        if !self.stopped.load(Ordering::Relaxed)
            && let Err(error) = self.file.write_all_at(&state.to_le_bytes(), at)
        {
            self.stop(&error.to_string());
        }
    }

    fn place(&self, row: u64) -> Option<(u64, usize, [u32; 2])> {
        self.layout.row(row, |at| {
            let mut entry = [0; INDEX_ENTRY];
            self.read_part(&mut entry, at)?;
            Some(entry)
        })
    }

    /// Whether this process has compared a row with its checksum.
    fn is_trusted(&self, row: u64) -> bool {
        let bits = self.trusted[(row / 64) as usize].load(Ordering::Relaxed);
        bits & (1 << (row % 64)) != 0
    }

    /// Whether a row is stored and sound.
    #[must_use]
    pub fn holds(&self, row: u64) -> bool {
        if row < self.layout.rows && self.is_trusted(row) {
            return self.state(row).is_some_and(|state| state != 0);
        }
        CHECKED.with_borrow_mut(|scratch| {
            let found = self.find(row, scratch).is_some();
            scratch.shrink(KEEP_CHECKED);
            found
        })
    }

    /// Reads pixels of a row to the beginning of `out`, if the row is stored and sound. At least the lines are read
    /// that `wanted` asks for, given the row's (height, width).
    pub fn read(
        &self,
        row: u64,
        out: &mut Scratch,
        wanted: impl FnOnce([u32; 2]) -> Range<u32>,
    ) -> Option<Lines> {
        let found = match self.trusted(row) {
            Some(place) => self.read_lines(&place, out, wanted(place.size)),
            None => self.find(row, out).map(|size| {
                wanted(size);
                Lines {
                    size,
                    range: 0..size[0],
                }
            }),
        };
        self.count(found.is_some());
        found
    }

    /// Reads all pixels of a row that [`Self::trusted`] found; returns whether they were still there.
    #[must_use]
    pub fn read_whole(&self, place: &RowPlace, out: &mut [u8]) -> bool {
        let read = out.len() == place.length && self.read_part(out, place.start).is_some();
        self.count(read);
        read
    }

    /// Where a row is, if this process has compared it with its checksum.
    #[must_use]
    pub fn trusted(&self, row: u64) -> Option<RowPlace> {
        if row >= self.layout.rows || !self.is_trusted(row) {
            return None;
        }
        self.state(row).filter(|&state| state != 0)?;
        let (start, length, size) = self.place(row)?;
        Some(RowPlace {
            start,
            length,
            size,
        })
    }

    fn read_lines(&self, place: &RowPlace, out: &mut Scratch, lines: Range<u32>) -> Option<Lines> {
        let line = place.length / place.size[0].max(1) as usize;
        let length = line * lines.len();
        self.read_part(
            out.bytes(length).ok()?,
            place.start + line as u64 * u64::from(lines.start),
        )?;
        Some(Lines {
            size: place.size,
            range: lines,
        })
    }

    fn count(&self, hit: bool) {
        let count = if hit { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all pixels of a row, and compares them with their checksum.
    fn find(&self, row: u64, out: &mut Scratch) -> Option<[u32; 2]> {
        if row >= self.layout.rows {
            return None;
        }
        let state = self.state(row).filter(|&state| state != 0)?;
        let (start, length, size) = self.place(row)?;
        let pixels = out.bytes(length).ok()?;
        self.read_part(pixels, start)?;
        // After a crash of the machine the state may have reached the disk, and the pixels not.
        if checksum(size, pixels) != state {
            self.set_state(row, 0);
            return None;
        }
        self.trusted[(row / 64) as usize].fetch_or(1 << (row % 64), Ordering::Relaxed);
        Some(size)
    }

    /// Stores a row. Where that fails, as on a full disk, nothing more is stored, and `problem` says so.
    pub fn write(&self, row: u64, size: [u32; 2], pixels: &[u8]) {
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Some((start, length, expected)) = self.place(row) else {
            return;
        };
        if (expected, length) != (size, pixels.len()) || start + length as u64 > self.limit {
            return;
        }
        match self.file.write_all_at(pixels, start) {
            // After the pixels, so that whoever sees the state sees them, too.
            Ok(()) => self.set_state(row, checksum(size, pixels)),
            Err(error) => self.stop(&error.to_string()),
        }
    }

    /// What went wrong with the entry; a second call returns `None`.
    pub fn take_problem(&self) -> Option<String> {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How many rows are stored.
    #[must_use]
    pub fn filled(&self) -> u64 {
        let (mut filled, mut part) = (0, vec![0; STATES]);
        let (mut at, end) = (
            self.layout.states(),
            self.layout.states() + 4 * self.layout.rows,
        );
        while at < end {
            let length = (end - at).min(STATES as u64) as usize;
            if self.read_part(&mut part[..length], at).is_none() {
                break;
            }
            let states = part[..length].as_chunks::<4>().0.iter();
            filled += states.filter(|state| **state != [0; 4]).count() as u64;
            at += length as u64;
        }
        filled
    }

    /// Hits and misses of this process.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    pub(super) fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }
}
