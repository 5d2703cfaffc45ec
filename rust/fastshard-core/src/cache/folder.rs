//! The folder that entries lie in: making, finding, listing and evicting them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::entry::{Entry, read_head, write_empty};
use super::layout::{Layout, Sizes};
use crate::error::{Error, Result};

const SUFFIX: &str = "pixels";
const UNFINISHED: &str = "unfinished";
/// How often an entry is tried to be opened that others evict at the same time.
const TRIES: usize = 10;

/// A folder of entries with a limit on their size.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    max_bytes: Option<u64>,
}

/// What is to be kept.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Tells entries apart: the same for the same pixels.
    pub key: &'a str,
    /// JSON for people: which dataset, field and operations.
    pub description: &'a str,
    /// Rows of the dataset.
    pub rows: u64,
    /// Bytes a pixel.
    pub pixel_bytes: u32,
}

impl Wanted<'_> {
    /// Bytes that the file takes when all rows are there.
    #[must_use]
    pub fn bytes(&self, sizes: &Sizes) -> u64 {
        Layout::new(self.rows, sizes, self.pixel_bytes, self.description)
            .0
            .length
    }
}

/// What is known of an entry.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// What was said when it was made.
    pub description: String,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// Bytes that it takes when all rows are there.
    pub full_bytes: u64,
    /// When a process last opened or filled it.
    pub used: SystemTime,
    /// Whether a process has it open.
    pub in_use: bool,
}

impl Folder {
    /// Makes the folder if need be, and clears away what killed processes left.
    pub fn open(path: impl Into<PathBuf>, max_bytes: Option<u64>) -> Result<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        let path = path.canonicalize().map_err(Error::io(&path))?;
        let this = Self { path, max_bytes };
        for file in this.files(UNFINISHED)? {
            remove_unused(&file)?;
        }
        Ok(this)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self, suffix: &str) -> Result<Vec<PathBuf>> {
        let list = || -> std::io::Result<Vec<PathBuf>> {
            let entries = self.path.read_dir()?;
            entries.map(|entry| Ok(entry?.path())).collect()
        };
        let mut files = list().map_err(Error::io(&self.path))?;
        files.retain(|file| file.extension().is_some_and(|found| found == suffix));
        files.sort();
        Ok(files)
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}.{SUFFIX}"))
    }

    /// Whether there is an entry.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.file(key).exists()
    }

    /// Opens an entry, made if it isn't there. Others are evicted as far as the limit asks for; what still doesn't fit
    /// is not stored.
    pub fn entry(&self, wanted: &Wanted<'_>, sizes: impl Fn() -> Result<Sizes>) -> Result<Entry> {
        let path = self.file(wanted.key);
        for _ in 0..TRIES {
            let opened = match open_shared(&path) {
                Ok(opened) => opened,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.create(&path, wanted, &sizes()?)?;
                    continue;
                }
                Err(error) => return Err(Error::io(&path)(error)),
            };
            let (file, writable) = opened;
            let opened = Entry::open(
                file,
                path.clone(),
                wanted.rows,
                wanted.pixel_bytes,
                writable,
            );
            let mut entry = match opened {
                // Spoilt, or another's: nothing is lost with it.
                Err(Error::Corrupt { .. }) if remove_unused(&path)? => continue,
                other => other?,
            };
            if entry.is_linked() {
                self.make_room(&mut entry)?;
                return Ok(entry);
            }
        }
        let reason = format!(
            "{}: evicted again and again while it was opened",
            path.display()
        );
        Err(Error::State { reason })
    }

    /// Writes an empty entry under a name of its own, and gives it the real one if nobody else was quicker.
    fn create(&self, path: &Path, wanted: &Wanted<'_>, sizes: &Sizes) -> Result<()> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "{}-{}-{number}.{UNFINISHED}",
            wanted.key,
            std::process::id()
        );
        let unfinished = self.path.join(name);
        let make = || {
            let mut file = File::create_new(&unfinished)?;
            // As long as it is locked, nobody takes it for a killed process's.
            file.lock()?;
            write_empty(
                &mut file,
                wanted.rows,
                sizes,
                wanted.pixel_bytes,
                wanted.description,
            )?;
            match std::fs::hard_link(&unfinished, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
        };
        let made = make();
        let removed = std::fs::remove_file(&unfinished);
        match made.and(removed) {
            // Cleared away by somebody, before it was locked: the next try may have more luck.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io(&unfinished)),
        }
    }

    /// Evicts entries that no process has open, the least recently used first, until this one fits.
    fn make_room(&self, entry: &mut Entry) -> Result<()> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(());
        };
        let mut others = self.list()?;
        others.retain(|other| other.path != entry.path());
        let mut taken: u64 = others.iter().map(|other| other.bytes).sum();
        others.sort_by_key(|other| other.used);
        for other in others {
            if taken.saturating_add(entry.bytes()) <= max_bytes {
                break;
            }
            if remove_unused(&other.path)? {
                taken -= other.bytes;
            }
        }
        entry.limit(max_bytes.saturating_sub(taken));
        Ok(())
    }

    /// All entries. Files that are none are left out.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let listed = self.files(SUFFIX)?.into_iter().filter_map(|path| {
            let file = File::open(&path).ok()?;
            let found = file.metadata().ok()?;
            let (layout, description) = read_head(&file, &path).ok()?;
            let in_use = !matches!(file.try_lock(), Ok(()));
            Some(Listed {
                path,
                description,
                bytes: found.blocks() * 512,
                full_bytes: layout.length,
                used: found.modified().ok()?,
                in_use,
            })
        });
        Ok(listed.collect())
    }

    /// Removes every entry that no process has open; how many, and the bytes they took.
    pub fn clear(&self) -> Result<(u64, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in self.list()? {
            if remove_unused(&entry.path)? {
                count += 1;
                bytes += entry.bytes;
            }
        }
        Ok((count, bytes))
    }
}

/// The file, locked for sharing, and whether it may be written to.
fn open_shared(path: &Path) -> std::io::Result<(File, bool)> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let (file, writable) = match opened {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            (File::open(path)?, false)
        }
        other => (other?, true),
    };
    file.lock_shared()?;
    if writable {
        // What is least recently used goes first.
        file.set_modified(SystemTime::now())?;
    }
    Ok((file, writable))
}

/// Removes a file unless a process has it open; whether it did.
fn remove_unused(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Error::io(path))?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).map_err(Error::io(path)),
    }
}
