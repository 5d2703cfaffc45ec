//! The folder beside the destination where a pack grows.
//!
//! # Idea
//!
//! A dataset must appear as a whole or not at all, and a pack that was killed must not begin anew. So a pack writes to
//! `NAME.partial`, and the whole becomes the dataset by one rename:
//!
//! ```text
//! NAME.partial/
//!     lock                 locked while a pack runs; the system releases it, however the process ends
//!     plan                 fingerprint of options and source: only the same plan goes on
//!     shard-00000.arrow    complete as soon as shard-00000.json is there
//!     shard-00000.json     what the manifest will say of the shard
//!     manifest.json        at the very end
//! ```
//!
//! # States after a crash
//!
//! | what is found | what it means | what the next pack does |
//! |---|---|---|
//! | `NAME.partial` with the same plan | killed while it packed | takes the finished shards over |
//! | `NAME.partial` with another plan | an abandoned pack | removes its files and begins anew |
//! | `NAME` with `lock` in it | killed after the rename | removes the replaced dataset, if it is left, and the lock |
//! | two renames of which one was made | killed while it replaced a dataset | `disk::finish_replacing` |
//!
//! Every small file is written under another name, synced and renamed, so a file that exists is complete. The lock
//! moves with the folder and is removed last, so nobody takes the folder for abandoned before it has its name.
//!
//! # What is removed
//!
//! Only files with names that packing gives. A destination is replaced only if it is an empty folder, or a dataset with
//! no other file beside it. A folder that is in the way and isn't ours is an error.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{Error, Result};
use crate::format::{FileRanges, MANIFEST, Manifest, ShardEntry};

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRow {
    /// Number of the row in the source, in the source's order.
    pub row: u64,
    /// Path of the row's file; empty if it has none.
    pub path: String,
    /// Why the row was left out.
    pub error: String,
}

/// What is known of a finished shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    /// `None` when all of its rows were skipped.
    pub(super) entry: Option<ShardEntry>,
    #[serde(flatten)]
    pub(super) ranges: FileRanges,
    pub(super) skipped: Vec<SkippedRow>,
}

/// The folder of an unfinished pack, held by one process. If the pack fails, the folder stays only if it holds finished
/// shards that another try can take over.
#[derive(Debug)]
pub(super) struct Staging {
    destination: PathBuf,
    folder: PathBuf,
    overwrite: bool,
    resumable: bool,
    published: bool,
    /// Locked as long as this is open; the system releases the lock when the process ends, however it ends.
    _lock: File,
}

const PLAN: &str = "plan";
const LOCK: &str = "lock";

pub(super) fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.arrow")
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io(path))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || {
        folder
            .read_dir()?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()
    };
    list().map_err(Error::io(folder))
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Whether a name is one that packing gives.
fn is_ours(name: &str) -> bool {
    name.starts_with("shard-")
        || name.starts_with("manifest.")
        || name.starts_with(PLAN)
        || name == LOCK
}

/// Whether a folder is empty, or holds a dataset and nothing else, so that replacing it loses no other files.
fn is_replaceable(folder: &Path) -> bool {
    let Ok(entries) = entries(folder) else {
        return false;
    };
    let manifest = std::fs::read(folder.join(MANIFEST)).ok();
    let manifest =
        manifest.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let is_dataset = manifest.is_some_and(|manifest| manifest["format"] == "fastshard");
    entries.is_empty() || (is_dataset && entries.iter().all(|entry| is_ours(name_of(entry))))
}

/// Checks that a destination may be written: it doesn't exist, or it is a dataset or an empty folder that is to be
/// replaced.
fn check_destination(destination: &Path, overwrite: bool) -> Result<()> {
    if !exists(destination)? && !destination.is_symlink() {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::Exists {
            path: destination.to_owned(),
        });
    }
    if !destination.is_symlink() && is_replaceable(destination) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{}: neither a fastshard dataset nor an empty folder, or with other files in it, so it will not be replaced",
        destination.display()
    )))
}

fn taken(folder: &Path) -> Error {
    let reason = format!(
        "{}: another process is packing to this destination",
        folder.display()
    );
    Error::State { reason }
}

/// `NAME.partial` beside the destination.
fn partial(destination: &Path) -> Result<PathBuf> {
    let name = destination.file_name().ok_or_else(|| {
        Error::option(format!(
            "{}: expected the path of a folder to make",
            destination.display()
        ))
    })?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(destination.with_file_name(name))
}

fn remove(path: &Path) -> Result<()> {
    disk::remove_file(path).map_err(Error::io(path))
}

fn remove_files(folder: &Path, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    let listed = entries(folder)?;
    let mut unwanted = listed.iter().filter(|path| unwanted(name_of(path)));
    unwanted.try_for_each(|path| remove(path))
}

/// Removes a dataset's files, and the folder if nothing else is in it.
fn remove_dataset(folder: &Path) -> Result<()> {
    remove_files(folder, is_ours)?;
    disk::remove_folder(folder).map_err(Error::io(folder))
}

/// Undoes or finishes the work of a pack that was killed while it published. It may have left the first of two renames,
/// a dataset that was replaced but not removed, or the lock in the new one.
fn finish_interrupted(destination: &Path, folder: &Path) -> Result<()> {
    disk::finish_replacing(destination)?;
    let is_unfinished = !destination.is_symlink()
        && destination.join(LOCK).is_file()
        && is_replaceable(destination);
    if !is_unfinished {
        return Ok(());
    }
    let _held = lock(destination)?;
    if exists(folder)? && !exists(&folder.join(LOCK))? {
        disk::check_folder(folder)?;
        remove_dataset(folder)?;
    }
    remove(&destination.join(LOCK))
}

/// Locks a folder for this process, for as long as the returned file is open.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    // The folder may be renamed, or its lock be replaced, between any two of these steps.
    let gone = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => taken(folder),
        _ => Error::io(&path)(source),
    };
    let file = disk::open_lock(&path).map_err(gone)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(taken(folder)),
        Err(std::fs::TryLockError::Error(source)) => return Err(Error::io(&path)(source)),
    }
    let held = file.metadata().map_err(gone)?;
    let there = std::fs::metadata(&path).map_err(gone)?;
    if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
        Ok(file)
    } else {
        Err(taken(folder))
    }
}

impl Staging {
    /// Opens the folder of an unfinished pack with the same plan, or starts a new one. Without a plan, a pack can't be
    /// resumed.
    pub(super) fn open(destination: &Path, overwrite: bool, plan: Option<&str>) -> Result<Self> {
        let folder = partial(destination)?;
        finish_interrupted(destination, &folder)?;
        check_destination(destination, overwrite)?;
        if exists(&folder)? {
            disk::check_folder(&folder)?;
        }
        if exists(&folder)? && !entries(&folder)?.is_empty() && !exists(&folder.join(LOCK))? {
            return Err(Error::option(format!(
                "{}: needed for the unfinished dataset, but holds something else; please move it away",
                folder.display()
            )));
        }
        disk::claim_folder(&folder)?;
        let lock = lock(&folder)?;
        let this = Self {
            destination: destination.to_owned(),
            folder,
            overwrite,
            resumable: plan.is_some(),
            published: false,
            _lock: lock,
        };
        // Again, as another pack may have been published before the lock was free.
        check_destination(destination, overwrite)?;
        let plan_file = this.folder.join(PLAN);
        let known = std::fs::read_to_string(&plan_file).ok();
        if plan.is_none() || known.as_deref() != plan {
            this.clear()?;
            disk::write_atomically(&plan_file, plan.unwrap_or("stream").as_bytes())?;
        }
        Ok(this)
    }

    /// Removes all files that packing has made, apart from the lock.
    fn clear(&self) -> Result<()> {
        remove_files(&self.folder, |name| is_ours(name) && name != LOCK)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn finished_path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("shard-{number:05}.json"))
    }

    /// What an earlier try noted of a shard, if it finished the shard.
    pub(super) fn finished(&self, number: usize) -> Option<Finished> {
        let text = std::fs::read(self.finished_path(number)).ok()?;
        let finished: Finished = serde_json::from_slice(&text).ok()?;
        if let Some(entry) = &finished.entry {
            let length = std::fs::metadata(self.folder.join(&entry.file)).ok()?.len();
            if length != entry.bytes || entry.file != shard_name(number) {
                return None;
            }
        }
        Some(finished)
    }

    pub(super) fn finish(&self, number: usize, finished: &Finished) -> Result<()> {
        let text = serde_json::to_vec(finished).expect("plain data");
        disk::write_atomically(&self.finished_path(number), &text)
    }

    /// Makes the folder the dataset, by one rename or exchange. The lock moves along and is removed at the end, so
    /// nobody takes the folder for abandoned. A lock in a dataset tells that the dataset before it may be left. Returns
    /// why that could not be removed, if it couldn't.
    pub(super) fn publish(mut self, manifest: &Manifest) -> Result<Option<String>> {
        let text = serde_json::to_vec_pretty(manifest).expect("plain data");
        disk::write_atomically(&self.folder.join(MANIFEST), &text)?;
        let shards = manifest.shards.iter().map(|shard| shard.file.as_str());
        let keep: Vec<&str> = shards.chain([MANIFEST, LOCK]).collect();
        remove_files(&self.folder, |name| !keep.contains(&name))?;
        disk::sync_folder(&self.folder)?;
        check_destination(&self.destination, self.overwrite)?;
        let replaced = if exists(&self.destination)? {
            Some(disk::replace_folder(&self.folder, &self.destination)?)
        } else {
            disk::rename(&self.folder, &self.destination)?;
            None
        };
        self.published = true;
        // The new dataset must be on disk before the old one is removed.
        disk::sync_parent(&self.destination)?;
        let cleared = replaced.map_or(Ok(()), |old| remove_dataset(&old));
        let cleared = cleared.and_then(|()| remove(&self.destination.join(LOCK)));
        Ok(cleared.err().map(|error| error.to_string()))
    }

    fn holds_finished_shards(&self) -> bool {
        let listed = entries(&self.folder).unwrap_or_default();
        listed.iter().any(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.published || (self.resumable && self.holds_finished_shards()) {
            return;
        }
        // What can't be removed here is removed by the next try, or is its error.
        let _ = self.clear();
        let _ = disk::remove_file(&self.folder.join(LOCK));
        let _ = disk::remove_folder(&self.folder);
    }
}
