//! The folder beside the destination where a pack grows: finished shards survive a crash there, and the whole becomes
//! the dataset by one rename.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::{ImageSizes, MANIFEST, Manifest, ShardEntry};
use crate::writer::{sync_folder, write_atomically};

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRow {
    /// Its row in the source, in the order in which the source gave them.
    pub row: u64,
    /// Its path, or empty.
    pub path: String,
    /// What was wrong.
    pub error: String,
}

/// What is known of a finished shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    /// `None` when all of its rows were skipped.
    pub(super) entry: Option<ShardEntry>,
    pub(super) image_sizes: BTreeMap<String, ImageSizes>,
    pub(super) skipped: Vec<SkippedRow>,
}

/// The folder of an unfinished pack, held by one process.
#[derive(Debug)]
pub(super) struct Staging {
    destination: PathBuf,
    folder: PathBuf,
    overwrite: bool,
    /// Locked as long as this is open; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

const PLAN: &str = "plan";

pub(super) fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.arrow")
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io(path))
}

/// Whether a destination may be written: it isn't there, or it is a dataset (or an empty folder) to be replaced.
fn check_destination(destination: &Path, overwrite: bool) -> Result<()> {
    if !exists(destination)? {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::Exists {
            path: destination.to_owned(),
        });
    }
    let empty = || {
        destination
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_none())
    };
    if destination.join(MANIFEST).is_file() || empty() {
        return Ok(());
    }
    Err(Error::option(format!(
        "{}: neither a fastshard dataset nor an empty folder, so it will not be replaced",
        destination.display()
    )))
}

impl Staging {
    /// Opens the folder of an unfinished pack with the same plan, or starts a new one. Without a plan nothing can be
    /// taken up again.
    pub(super) fn open(destination: &Path, overwrite: bool, plan: Option<&str>) -> Result<Self> {
        check_destination(destination, overwrite)?;
        let name = destination.file_name().ok_or_else(|| {
            Error::option(format!(
                "{}: expected the path of a folder to make",
                destination.display()
            ))
        })?;
        let parent = match destination.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut partial = name.to_owned();
        partial.push(".partial");
        let folder = parent.join(partial);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let lock = Self::lock(&folder)?;
        let this = Self {
            destination: destination.to_owned(),
            folder,
            overwrite,
            _lock: lock,
        };
        let plan_file = this.folder.join(PLAN);
        let known = std::fs::read_to_string(&plan_file).ok();
        if plan.is_none() || known.as_deref() != plan {
            this.clear()?;
            write_atomically(&plan_file, plan.unwrap_or("stream").as_bytes())?;
        }
        Ok(this)
    }

    fn lock(folder: &Path) -> Result<File> {
        let path = folder.join("lock");
        let file = File::create(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::State {
                reason: format!(
                    "{}: another process is packing to this destination",
                    folder.display()
                ),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(Error::io(&path)(source)),
        }
    }

    fn clear(&self) -> Result<()> {
        for entry in self.folder.read_dir().map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            if path.file_name().is_some_and(|name| name != "lock") {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn finished_path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("shard-{number:05}.json"))
    }

    /// A shard that an earlier try finished.
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
        write_atomically(&self.finished_path(number), &text)
    }

    /// Makes the folder the dataset: manifest last, then one rename.
    pub(super) fn publish(self, manifest: &Manifest) -> Result<()> {
        let keep: Vec<&str> = manifest
            .shards
            .iter()
            .map(|shard| shard.file.as_str())
            .collect();
        for entry in self.folder.read_dir().map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if !keep.contains(&name) {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        let text = serde_json::to_vec_pretty(manifest).expect("plain data");
        write_atomically(&self.folder.join(MANIFEST), &text)?;
        sync_folder(&self.folder)?;
        check_destination(&self.destination, self.overwrite)?;
        if exists(&self.destination)? {
            self.replace()?;
        } else {
            std::fs::rename(&self.folder, &self.destination)
                .map_err(Error::io(&self.destination))?;
        }
        let parent = self
            .folder
            .parent()
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or(Path::new("."));
        sync_folder(parent)
    }

    /// Exchanges the new dataset for the old one in one step, then deletes the old.
    fn replace(&self) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            if renameat_with(
                CWD,
                &self.folder,
                CWD,
                &self.destination,
                RenameFlags::EXCHANGE,
            )
            .is_ok()
            {
                return std::fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder));
            }
        }
        // Where the file system can't exchange: two renames, with the old dataset one rename away in between.
        let old = self.folder.with_extension("old");
        std::fs::rename(&self.destination, &old).map_err(Error::io(&self.destination))?;
        std::fs::rename(&self.folder, &self.destination).map_err(Error::io(&self.destination))?;
        std::fs::remove_dir_all(&old).map_err(Error::io(&old))
    }
}
