//! Opening files that somebody else may have replaced: a fifo, a device or a folder is an error, and never a wait.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Whether a symbolic link at the end of a path may lead elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// For what users name: many keep their data behind links.
    Follow,
    /// For files of fastshard's own in folders that others may write to.
    Refuse,
}

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path, links: Links) -> Result<File> {
    let flags = flags(links).union(OFlags::RDONLY).union(OFlags::CLOEXEC);
    let opened = rustix::fs::open(path, flags, Mode::empty());
    check(opened.map(File::from).map_err(Error::from))
}

/// What opening takes so that it never waits, nor goes where a link leads.
pub(crate) fn flags(links: Links) -> OFlags {
    // Without NONBLOCK, opening a fifo waits until somebody opens its other end.
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY);
    match links {
        Links::Follow => flags,
        Links::Refuse => flags.union(OFlags::NOFOLLOW),
    }
}

/// What was opened with these flags, if it is a regular file.
pub(crate) fn check(opened: Result<File>) -> Result<File> {
    let file = match opened {
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
    open(path, Links::Follow)
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
        let mode = Mode::RWXU;
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
        let ways: [fn(&Path, Links) -> Result<File>; 2] = [open, |path, links| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true);
            let flags = flags(links).bits() as i32;
            check(std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags).open(path))
        }];
        for open in ways {
            assert!(open(&at("file"), Links::Refuse).is_ok());
            assert!(open(&at("link"), Links::Follow).is_ok());
            for (name, links, reason) in [
                ("link", Links::Refuse, "a symbolic link"),
                ("folder", Links::Follow, "a folder"),
                ("fifo", Links::Follow, "a fifo"),
            ] {
                let error = open(&at(name), links).unwrap_err();
                assert!(error.to_string().starts_with(reason), "{name}: {error}");
            }
            assert!(open(&at("socket"), Links::Follow).is_err());
            assert!(open(Path::new("/dev/zero"), Links::Follow).is_err());
        }
        let missing = open_to_read(&at("missing")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
