//! The folder of the entries: making, finding, listing and evicting them.
//!
//! # Locks
//!
//! Any number of processes share a folder, and any of them may be killed at any time. All locks are locks of files,
//! which the system releases when a process ends.
//!
//! | lock | held by | while |
//! |---|---|---|
//! | shared, on an entry | everyone who has it open | it is open |
//! | exclusive, on an entry | who evicts it | the file is unlinked; if the lock isn't free at once, the entry stays |
//! | exclusive, on an unfinished entry | who makes it | it is made; one without a lock is abandoned and is removed |
//! | exclusive, on the folder | who opens or makes an entry under a limit | the limit is shared out |
//!
//! A lock that is not free within a second is an error: nobody holds one for that long unless it has been stopped.
//!
//! # How an entry is made
//!
//! It is written under a name of its own, and then linked to its real name. If that exists by then, another process was
//! quicker and its entry is taken. Between finding an entry and locking it, somebody may evict it. So an entry counts
//! only if its file still has a name once it is locked; else all is tried again.
//!
//! # The limit
//!
//! Under a limit, rows are stored up to a grant, which the header notes. Entries that are open count with what they may
//! fill, others with what they take. For more room, entries that nobody has open are evicted, the least
//! recently used first. What doesn't fit even then is not stored.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::entry::{Entry, read_head, write_empty};
use super::layout::{Layout, Sizes};
use crate::disk;
use crate::error::{Error, Result};
use crate::regular::{self, Links};

const SUFFIX: &str = "pixels";
const UNFINISHED: &str = "unfinished";
/// How often to try to open an entry that others evict at the same time.
const TRIES: usize = 10;
/// How long to wait for a lock. Others hold it for milliseconds, unless they have been stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_STEP: Duration = Duration::from_millis(5);

/// A folder of entries with a limit on their size.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    max_bytes: Option<u64>,
}

/// The entry that a loader wants.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Tells entries apart: the same for the same pixels.
    pub key: &'a str,
    /// JSON for people: which dataset, field and operations.
    pub description: &'a str,
    /// Rows of the dataset.
    pub rows: u64,
    /// Bytes per pixel.
    pub pixel_bytes: u32,
}

impl Wanted<'_> {
    /// Bytes that the file takes once all rows are stored.
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
    /// Path of the entry's file.
    pub path: PathBuf,
    /// The description that it was made with: JSON for people.
    pub description: String,
    /// Bytes that the file takes on the disk by now.
    pub bytes: u64,
    /// Bytes that the file takes once all rows are stored.
    pub full_bytes: u64,
    /// When a process last opened or filled it.
    pub used: SystemTime,
    /// Whether a process has it open.
    pub in_use: bool,
    /// Bytes that its grant lets it take.
    granted: u64,
}

impl Listed {
    /// What it counts with under a limit: what it takes, or may take if it is open.
    fn claimed(&self) -> u64 {
        if self.in_use {
            self.bytes.max(self.granted)
        } else {
            self.bytes
        }
    }
}

impl Folder {
    /// Makes the folder if it is missing, and removes unfinished entries of killed processes.
    pub fn open(path: impl Into<PathBuf>, max_bytes: Option<u64>) -> Result<Self> {
        let path = path.into();
        if path.exists() && !path.is_dir() {
            let not_a_folder = std::io::Error::from(rustix::io::Errno::NOTDIR);
            return Err(Error::io(&path)(not_a_folder));
        }
        disk::create_folders(&path)?;
        let path = path.canonicalize().map_err(Error::io(&path))?;
        let this = Self { path, max_bytes };
        for file in this.files(UNFINISHED)? {
            // Another user's file can't be removed; that user's next loader removes it.
            let _ = remove_unused(&file);
        }
        Ok(this)
    }

    /// Path of the folder.
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

    /// Opens an entry, and makes it if it is missing. Others are evicted as far as the limit asks for; rows that don't
    /// fit even then are not stored. [`Error::Option`] if there is no room for a single row.
    pub fn entry(&self, wanted: &Wanted<'_>, sizes: impl Fn() -> Result<Sizes>) -> Result<Entry> {
        let path = self.file(wanted.key);
        for _ in 0..TRIES {
            let sizes = if self.holds(wanted.key) {
                None
            } else {
                Some(sizes()?)
            };
            // The limit is shared out by one process at a time.
            let _turn = self.max_bytes.map(|_| self.lock()).transpose()?;
            if let Some(sizes) = &sizes {
                self.make(&path, wanted, sizes)?;
            }
            if let Some(entry) = self.take(&path, wanted)? {
                return Ok(entry);
            }
        }
        let reason = format!(
            "{}: evicted again and again while it was opened",
            path.display()
        );
        Err(Error::State { reason })
    }

    /// Makes an entry if there is room for it and no other process was quicker.
    fn make(&self, path: &Path, wanted: &Wanted<'_>, sizes: &Sizes) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        let (layout, _) = Layout::new(wanted.rows, sizes, wanted.pixel_bytes, wanted.description);
        let room = self.room(path, layout.length)?;
        // Not even one row would fit.
        if room <= layout.data() && layout.length > layout.data() {
            return Err(Error::option(format!(
                "{}: its limit of {} bytes is taken by entries that are in use",
                self.path.display(),
                self.max_bytes.unwrap_or_default()
            )));
        }
        self.create(path, wanted, sizes)
    }

    /// Opens an existing entry; `None` if it has been evicted, or was damaged and has been removed.
    fn take(&self, path: &Path, wanted: &Wanted<'_>) -> Result<Option<Entry>> {
        let opened = match open_shared(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let entry = Entry::open(
            opened.file,
            path.to_owned(),
            wanted.rows,
            wanted.pixel_bytes,
            opened.writable,
        );
        let mut entry = match entry {
            // Damaged, or of another dataset: it can be made again.
            Err(Error::Corrupt { .. }) if remove_unused(path)? => return Ok(None),
            other => other?,
        };
        if !entry.is_linked() {
            return Ok(None);
        }
        entry.grant(self.room(path, entry.bytes())?, opened.alone)?;
        Ok(Some(entry))
    }

    /// Locks the folder, for sharing out its limit.
    fn lock(&self) -> Result<File> {
        let folder = File::open(&self.path).map_err(Error::io(&self.path))?;
        match lock_within(&self.path, || folder.try_lock()) {
            // Some network file systems can't lock folders: there, loaders that begin at once may exceed the limit.
            Ok(()) | Err(Error::Io { .. }) => Ok(folder),
            Err(error) => Err(error),
        }
    }

    /// Writes an empty entry under a name of its own, and links it to the real one if that doesn't exist yet.
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
            let mut file = disk::create_new(&unfinished)?;
            // While it is locked, nobody takes it for a killed process's. A process that checks for that locks it for a
            // moment.
            if lock_within(&unfinished, || file.try_lock()).is_err() {
                return Err(ErrorKind::TimedOut.into());
            }
            write_empty(
                &mut file,
                wanted.rows,
                sizes,
                wanted.pixel_bytes,
                wanted.description,
            )?;
            match disk::link(&unfinished, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
        };
        let made = make();
        let removed = disk::remove_file(&unfinished);
        match made.and(removed) {
            // Another process removed it before it was locked; the caller tries again.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io(&unfinished)),
        }
    }

    /// Bytes that an entry may take, once entries that no process has open are evicted, the least recently used first,
    /// until there are as many as `needed`.
    fn room(&self, path: &Path, needed: u64) -> Result<u64> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(u64::MAX);
        };
        let mut others = self.list()?;
        others.retain(|other| other.path != path);
        others.sort_by_key(|other| other.used);
        let mut taken: u64 = others.iter().map(Listed::claimed).sum();
        for other in others {
            if taken.saturating_add(needed) <= max_bytes {
                break;
            }
            // Entries that can't be evicted stay.
            if remove_unused(&other.path).unwrap_or(false) {
                taken -= other.claimed();
            }
        }
        Ok(max_bytes.saturating_sub(taken))
    }

    /// All entries; files that are no entries are left out.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let listed = self.files(SUFFIX)?.into_iter().filter_map(|path| {
            let file = regular::open(&path, Links::Refuse).ok()?;
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
                granted: layout.granted(),
            })
        });
        Ok(listed.collect())
    }

    /// Removes every entry that no process has open. Returns how many, and the bytes that they took.
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

/// A file that is locked for sharing.
struct Shared {
    file: File,
    writable: bool,
    /// Whether no other process had it open.
    alone: bool,
}

fn open_shared(path: &Path) -> Result<Shared> {
    let opened = disk::open_for_update(path).map(|file| (file, true));
    let opened = match opened {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            regular::open(path, Links::Refuse).map(|file| (file, false))
        }
        other => other,
    };
    let (file, writable) = opened.map_err(Error::io(path))?;
    let alone = file.try_lock().is_ok();
    lock_within(path, || file.try_lock_shared())?;
    if writable {
        touch(&file);
    }
    Ok(Shared {
        file,
        writable,
        alone,
    })
}

/// Notes that a file is used, since the least recently used is evicted first. Members of a group may set each other's
/// files to the present time and to no other. Where even that is refused, an entry may be evicted too early.
fn touch(file: &File) {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    let _ = rustix::fs::futimens(file, &times);
}

/// Locks a file, trying for a second.
fn lock_within(path: &Path, lock: impl Fn() -> Result<(), TryLockError>) -> Result<()> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_STEP);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::State {
                    reason: format!(
                        "{}: another process has held its lock for {} s; is it stopped?",
                        path.display(),
                        LOCK_PATIENCE.as_secs()
                    ),
                });
            }
        }
    }
}

/// Removes a file unless a process has it open; returns whether it did.
fn remove_unused(path: &Path) -> Result<bool> {
    let file = match regular::open(path, Links::Refuse) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Error::io(path))?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
    }
    match disk::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).map_err(Error::io(path)),
    }
}
