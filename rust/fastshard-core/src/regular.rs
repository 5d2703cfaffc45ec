//! Opening files that somebody else may have replaced: a fifo, a device or a folder is an error, and never a wait.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a symbolic link at the end of a path may lead elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// For what users name: many keep their data behind links.
    Follow,
    /// For files of fastshard's own in folders that others may write to.
    Refuse,
}

/// Opens a regular file, for writing too if `write`.
pub(crate) fn open(path: &Path, links: Links, write: bool) -> Result<File> {
    use rustix::fs::OFlags;
    // Without NONBLOCK, opening a fifo waits until somebody opens its other end.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    options.custom_flags(flags.bits() as i32);
    let file = match options.open(path) {
        Err(error) if is_link_refused(&error) => return Err(not_regular("a symbolic link")),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return Err(not_regular("a folder"));
        }
        other => other?,
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(not_regular(if kind.is_dir() {
        "a folder"
    } else {
        "a fifo, a socket or a device"
    }))
}

/// The same for reading what a user named.
pub(crate) fn open_to_read(path: &Path) -> Result<File> {
    open(path, Links::Follow, false)
}

fn is_link_refused(error: &Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn not_regular(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("{what}, expected a regular file"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_nothing_but_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for write in [false, true] {
            assert!(open(&at("file"), Links::Refuse, write).is_ok());
            assert!(open(&at("link"), Links::Follow, write).is_ok());
            for (name, links, reason) in [
                ("link", Links::Refuse, "a symbolic link"),
                ("folder", Links::Follow, "a folder"),
                ("fifo", Links::Follow, "a fifo"),
            ] {
                let error = open(&at(name), links, write).unwrap_err();
                assert!(error.to_string().starts_with(reason), "{name}: {error}");
            }
            assert!(open(&at("socket"), Links::Follow, write).is_err());
            assert!(open(Path::new("/dev/zero"), Links::Follow, write).is_err());
        }
        let missing = open_to_read(&at("missing")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
