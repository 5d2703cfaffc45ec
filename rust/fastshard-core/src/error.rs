//! The one error of the core. Each variant carries the values a person needs to find the fault: which file, shard, row.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What becomes of a sample that can't be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The iterator raises the error in place of the sample's batch.
    #[default]
    Raise,
    /// The sample is left out and counted; its batch is shorter.
    Skip,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; the file is named, the cause kept.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not a dataset, or one that this version can't read.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that isn't what its manifest says.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A row that isn't what its checksum says.
    #[error("{}: row {row} (source {source_path:?}): {reason}", path.display())]
    CorruptRow {
        /// The shard.
        path: PathBuf,
        /// The row in the dataset.
        row: u64,
        /// Where the sample came from when it was packed.
        source_path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that can't be decoded or transformed as asked.
    #[error("{reason}")]
    Decode {
        /// What is wrong with it.
        reason: String,
    },
    /// The same, with the place in a dataset.
    #[error("{} row {row} ({}, source {source_path:?}): {reason}", dataset.display(), shard)]
    Sample {
        /// The dataset's folder.
        dataset: PathBuf,
        /// The shard's file name.
        shard: String,
        /// The row in the dataset.
        row: u64,
        /// Where the sample came from when it was packed.
        source_path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that is no class.
    #[error("{} row {row}: {field:?} is {value}, expected a class from 0 to {} (num_classes)", dataset.display(), num_classes - 1)]
    Label {
        /// The dataset's folder.
        dataset: PathBuf,
        /// The row in the dataset.
        row: u64,
        /// The label's field.
        field: String,
        /// What it holds.
        value: f64,
        /// How many classes there are.
        num_classes: usize,
    },
    /// A source that can't be packed as asked.
    #[error("{reason}")]
    Source {
        /// Which file, row and value, and what was expected.
        reason: String,
    },
    /// An option that makes no sense.
    #[error("{reason}")]
    Option {
        /// The value received and what was expected.
        reason: String,
    },
    /// The destination is there and overwriting wasn't asked for.
    #[error("{} exists already; replace it with overwrite=True", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// Memory that can't be had.
    #[error("{what} needs {} of memory, which could not be allocated (this process may use {}); {advice}", size(*bytes), size(*limit))]
    Memory {
        /// What was to be allocated.
        what: String,
        /// Its size.
        bytes: u64,
        /// The most that this process may use.
        limit: u64,
        /// What to change.
        advice: String,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// An object that belongs to another process, or a state that can't be.
    #[error("{reason}")]
    State {
        /// What was done and what to do.
        reason: String,
    },
    /// A bug: a panic that was caught.
    #[error("{reason}; please report this")]
    Internal {
        /// What was being done, and the panic's message and place.
        reason: String,
    },
}

/// Bytes for a person to read.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10).max(1);
    let count = bytes as f64 / 2f64.powi(10 * unit as i32);
    format!("{count:.1} {}", UNITS[unit as usize - 1])
}

/// The core's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn decode(reason: impl Into<String>) -> Self {
        Self::Decode {
            reason: reason.into(),
        }
    }

    pub(crate) fn source(reason: impl Into<String>) -> Self {
        Self::Source {
            reason: reason.into(),
        }
    }

    pub(crate) fn option(reason: impl Into<String>) -> Self {
        Self::Option {
            reason: reason.into(),
        }
    }
}
