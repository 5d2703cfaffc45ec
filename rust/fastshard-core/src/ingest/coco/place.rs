//! Where in a file the reader is, for messages.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// How much of what could not be read a message shows.
const SHOWN: u64 = 24;

/// An entry of one of the file's lists, and its field. Entries count from 1.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What the entries of the list are: image, annotation or category; empty outside of lists.
    pub(super) entry: &'static str,
    pub(super) number: usize,
    pub(super) id: Option<i64>,
    pub(super) field: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entry.is_empty() {
            return Ok(());
        }
        write!(out, "{} {}", self.entry, self.number)?;
        if let Some(id) = self.id {
            write!(out, " (id {id})")?;
        }
        if !self.field.is_empty() {
            write!(out, ", field {:?}", self.field)?;
        }
        write!(out, ": ")
    }
}

impl Place {
    pub(super) fn entry(entry: &'static str, number: usize) -> Self {
        Self {
            entry,
            number,
            ..Self::default()
        }
    }

    /// The core's error for one of the parser's, which knows line and column.
    pub(super) fn explain(&self, path: &Path, error: serde_json::Error) -> Error {
        if error.is_io() {
            return Error::io(path)(error.into());
        }
        let found = if error.is_syntax() {
            found(path, error.line(), error.column()).unwrap_or_default()
        } else {
            String::new()
        };
        Error::source(format!("{}: {self}{error}{found}", path.display()))
    }
}

/// What stands where the parser stopped, since it says only what it expected; for `NaN`, which Python writes, above all.
fn found(path: &Path, line: usize, column: usize) -> Result<String> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    for _ in 1..line {
        file.skip_until(b'\n').map_err(Error::io(path))?;
    }
    file.seek_relative(column.saturating_sub(1) as i64)
        .map_err(Error::io(path))?;
    let mut text = Vec::new();
    file.take(SHOWN)
        .read_to_end(&mut text)
        .map_err(Error::io(path))?;
    let text = String::from_utf8_lossy(&text);
    let text = text.lines().next().unwrap_or_default();
    Ok(format!(": found {text:?}"))
}
