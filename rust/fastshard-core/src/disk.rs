//! The one module that opens files for writing, renames and removes.
//!
//! Whoever writes a file does it in a folder that nobody reads yet, or under another name, brings it to disk, and renames
//! it. So a full disk, an error of the disk or a kill at any call leaves the old file or the new one. What a killed process
//! leaves has a name that the next one knows. Short and interrupted writes are `Write::write_all`'s business, which goes
//! on until all is written.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result as IoResult, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::regular::{self, Links};

/// Makes a file, which must not be there: no link is followed, and nobody else's file is touched.
pub(crate) fn create_new(path: &Path) -> IoResult<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

/// The same in place of what a killed process left.
pub(crate) fn create_anew(path: &Path) -> IoResult<File> {
    match remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => create_new(path),
    }
}

/// A file to lock, made if it isn't there; never what a link leads to.
pub(crate) fn open_lock(path: &Path) -> IoResult<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32)
        .open(path)
}

/// A file that is there, to be changed in place; never what a link leads to.
pub(crate) fn open_for_update(path: &Path) -> IoResult<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(regular::flags(Links::Refuse).bits() as i32)
        .open(path);
    regular::check(opened)
}

/// Removes a file, or a link itself.
pub(crate) fn remove_file(path: &Path) -> IoResult<()> {
    std::fs::remove_file(path)
}

/// Removes a folder, which must be empty.
pub(crate) fn remove_folder(path: &Path) -> IoResult<()> {
    std::fs::remove_dir(path)
}

/// Gives a file or a folder another name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(Error::io(to))
}

/// Gives a file a second name, which must not be taken.
pub(crate) fn link(from: &Path, to: &Path) -> IoResult<()> {
    std::fs::hard_link(from, to)
}

/// Makes a folder and those that it is in, where they aren't there.
pub(crate) fn create_folders(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io(path))
}

/// Writes a small file so that it is either whole or not there; in a folder that one process writes to.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> IoResult<()> {
        let mut file = create_anew(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = remove_file(&temporary);
        Error::io(path)(source)
    })
}

/// Makes a folder for what is unfinished, or takes over the one that is there.
pub(crate) fn claim_folder(folder: &Path) -> Result<()> {
    create_folders(folder_of(folder))?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_folder(folder),
        other => other.map_err(Error::io(folder)),
    }
}

/// Refuses a folder that somebody else prepared under a name that could be foreseen: a link, or another user's. Whoever
/// owns the folder around it could replace it anyway.
pub(crate) fn check_folder(folder: &Path) -> Result<()> {
    let found = std::fs::symlink_metadata(folder).map_err(Error::io(folder))?;
    let around = std::fs::metadata(folder_of(folder)).map_err(Error::io(folder))?;
    let problem = if !found.is_dir() {
        "expected a folder of an unfinished dataset, found something else".to_owned()
    } else if ![rustix::process::geteuid().as_raw(), 0, around.uid()].contains(&found.uid()) {
        format!("belongs to another user (uid {})", found.uid())
    } else {
        return Ok(());
    };
    Err(Error::option(format!(
        "{}: {problem}; move it away, or write to another place",
        folder.display()
    )))
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."))
}

/// Where the replaced folder waits on file systems that can't exchange two: `.NAME.replaced`.
fn aside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default();
    folder.with_file_name(format!(".{}.replaced", name.to_string_lossy()))
}

/// Puts a folder in the place of another, in one step where the file system can. Returns where the other one is then, for
/// the caller to remove after a sync. Where the process is killed between two steps, [`finish_replacing`] undoes or finishes it.
pub fn replace_folder(new: &Path, old: &Path) -> Result<PathBuf> {
    if exchange(new, old)? {
        return Ok(new.to_owned());
    }
    let aside = aside(old);
    rename(old, &aside)?;
    if let Err(error) = rename(new, old) {
        let _ = rename(&aside, old);
        return Err(error);
    }
    Ok(aside)
}

/// Swaps two folders; false where the file system can't.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, old: &Path) -> Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(Error::io(old)(error.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> Result<bool> {
    Ok(false)
}

/// Undoes a [`replace_folder`] that was killed between its renames, or removes what it left.
pub fn finish_replacing(folder: &Path) -> Result<()> {
    let aside = aside(folder);
    if std::fs::symlink_metadata(&aside).is_err() {
        return Ok(());
    }
    check_folder(&aside)?;
    if std::fs::symlink_metadata(folder).is_ok() {
        return std::fs::remove_dir_all(&aside).map_err(Error::io(&aside));
    }
    rename(&aside, folder)?;
    sync_parent(folder)
}

/// Brings all that was written to the file system of a folder to disk: for many small files, where one `fsync` each
/// would take longer than writing them.
pub fn sync_file_system(folder: &Path) -> Result<()> {
    let opened = File::open(folder).map_err(Error::io(folder))?;
    #[cfg(target_os = "linux")]
    return rustix::io::retry_on_intr(|| rustix::fs::syncfs(&opened))
        .map_err(|error| Error::io(folder)(error.into()));
    #[cfg(not(target_os = "linux"))]
    {
        rustix::fs::sync();
        drop(opened);
        Ok(())
    }
}

/// Brings a folder's entries to disk.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(path))
}

/// Brings the name of a file or folder to disk.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    sync_folder(folder_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(path: &Path, text: &str) {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("file"), text).unwrap();
    }

    #[test]
    fn a_replaced_folder_is_the_callers_to_remove() {
        let root = tempfile::tempdir().unwrap();
        let (new, old) = (root.path().join("new"), root.path().join("old"));
        folder_with(&new, "new");
        folder_with(&old, "old");
        let replaced = replace_folder(&new, &old).unwrap();
        assert_eq!(std::fs::read_to_string(old.join("file")).unwrap(), "new");
        assert_eq!(
            std::fs::read_to_string(replaced.join("file")).unwrap(),
            "old"
        );
    }

    #[test]
    fn two_renames_are_undone_after_the_first_and_finished_after_the_second() {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("old");
        folder_with(&aside(&old), "old");
        finish_replacing(&old).unwrap();
        assert_eq!(std::fs::read_to_string(old.join("file")).unwrap(), "old");
        folder_with(&aside(&old), "older");
        finish_replacing(&old).unwrap();
        assert_eq!(std::fs::read_to_string(old.join("file")).unwrap(), "old");
        assert!(!aside(&old).exists());
    }

    #[test]
    fn nothing_is_written_through_links() {
        let root = tempfile::tempdir().unwrap();
        let (mine, link) = (root.path().join("mine"), root.path().join("state.tmp"));
        std::fs::write(&mine, "precious").unwrap();
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        assert!(create_new(&link).is_err());
        assert!(open_lock(&link).is_err());
        write_atomically(&root.path().join("state.json"), b"{}").unwrap();
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "precious");
        assert!(!link.exists());
        let folder = root.path().join("ds.partial");
        std::os::unix::fs::symlink(root.path(), &folder).unwrap();
        assert!(matches!(claim_folder(&folder), Err(Error::Option { .. })));
    }
}
