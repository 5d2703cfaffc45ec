//! One entry: the decoded images of one field of a dataset.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use memmap2::{Mmap, MmapOptions, MmapRaw};

use super::layout::{HEADER, Layout, Sizes};
use crate::error::{Error, Result};

/// An open entry. As long as it lives, nobody evicts the file.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    file: File,
    layout: Layout,
    map: Mmap,
    /// The states again, to be written; none for a file that may only be read.
    states: Option<MmapRaw>,
    /// A bit a row that this process has held against its checksum.
    trusted: Vec<AtomicU64>,
    /// Rows that would end beyond this are not stored.
    limit: u64,
    stopped: AtomicBool,
    problem: Mutex<Option<String>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A row's pixels.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// They.
    pub pixels: &'a [u8],
    /// Height and width.
    pub size: [u32; 2],
}

fn checksum(size: [u32; 2], pixels: &[u8]) -> u32 {
    let size = u64::from(size[0]) << 32 | u64::from(size[1]);
    // 0 says that there is nothing.
    crc32c::crc32c_append(crc32c::crc32c(&size.to_le_bytes()), pixels).max(1)
}

/// Writes all but the pixels of a new entry. What can be written through a mapping later has its room on the disk then:
/// a full disk must not end in a signal.
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
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
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
    /// Maps a file that is locked for sharing already.
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
        // SAFETY: entries are never shortened, only unlinked; their pixels are read behind a checksum, since others write
        // to them.
        #[expect(unsafe_code, reason = "mapping a file is why this library exists")]
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
        let states = writable.then(|| {
            let mut options = MmapOptions::new();
            options.offset(layout.states()).len(4 * rows as usize);
            options.map_raw(&file)
        });
        Ok(Self {
            states: states.transpose().map_err(Error::io(&path))?,
            trusted: (0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            limit: u64::MAX,
            stopped: AtomicBool::new(!writable),
            problem: Mutex::new(None),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            path,
            file,
            layout,
            map,
        })
    }

    pub(super) fn limit(&mut self, data_bytes: u64) {
        self.limit = self.layout.data().saturating_add(data_bytes);
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file when every row is there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layout.length
    }

    fn state(&self, row: u64) -> &AtomicU32 {
        let at = self.layout.states() as usize + 4 * row as usize;
        let bytes = &self.map[at..at + 4];
        // SAFETY: inside of the mapping and aligned, as the states start at a page; other processes, and this one through
        // its other mapping, change it atomically only.
        #[expect(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "a word that processes share"
        )]
        unsafe {
            &*bytes.as_ptr().cast::<AtomicU32>()
        }
    }

    fn set_state(&self, row: u64, state: u32) {
        let Some(states) = &self.states else { return };
        // SAFETY: as in `state`; the mapping holds a word for each row.
        #[expect(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "a word that processes share"
        )]
        let word = unsafe { &*states.as_mut_ptr().cast::<AtomicU32>().add(row as usize) };
        word.store(state, Ordering::Release);
    }

    /// Whether a row's pixels are there and sound.
    #[must_use]
    pub fn holds(&self, row: u64) -> bool {
        self.find(row).is_some()
    }

    /// A row's pixels, if they are there and sound.
    pub fn read(&self, row: u64) -> Option<Cached<'_>> {
        let found = self.find(row);
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn find(&self, row: u64) -> Option<Cached<'_>> {
        if row >= self.layout.rows {
            return None;
        }
        let state = self.state(row).load(Ordering::Acquire);
        if state == 0 {
            return None;
        }
        let (start, length, size) = self.layout.row(row, &self.map)?;
        let pixels = &self.map[start..start + length];
        let (trusted, bit) = (&self.trusted[(row / 64) as usize], 1 << (row % 64));
        if trusted.load(Ordering::Relaxed) & bit == 0 {
            // After a crash of the machine the state may have reached the disk, and the pixels not.
            if checksum(size, pixels) != state {
                self.set_state(row, 0);
                return None;
            }
            trusted.fetch_or(bit, Ordering::Relaxed);
        }
        Some(Cached { pixels, size })
    }

    /// Stores a row. Where that fails, as on a full disk, nothing more is stored, and `problem` says so.
    pub fn write(&self, row: u64, size: [u32; 2], pixels: &[u8]) {
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Some((start, length, expected)) = self.layout.row(row, &self.map) else {
            return;
        };
        if (expected, length) != (size, pixels.len()) || (start + length) as u64 > self.limit {
            return;
        }
        match self.file.write_all_at(pixels, start as u64) {
            Ok(()) => self.set_state(row, checksum(size, pixels)),
            Err(error) => {
                self.stopped.store(true, Ordering::Relaxed);
                let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
                problem.get_or_insert(format!(
                    "{}: {error}; going on without storing more",
                    self.path.display()
                ));
            }
        }
    }

    /// What went wrong when rows were stored, once.
    pub fn take_problem(&self) -> Option<String> {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Rows that are there.
    #[must_use]
    pub fn filled(&self) -> u64 {
        (0..self.layout.rows)
            .filter(|row| self.state(*row).load(Ordering::Relaxed) != 0)
            .count() as u64
    }

    /// Rows found and not found by this process.
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
