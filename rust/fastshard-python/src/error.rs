//! Errors: built-in exceptions where they exist, our own otherwise.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fastshard_core::Error;
use pyo3::exceptions::{
    PyException, PyFileExistsError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError,
    PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

pyo3::create_exception!(
    fastshard,
    FastshardError,
    PyException,
    "Base of every error that is fastshard's own."
);
pyo3::create_exception!(
    fastshard,
    FormatError,
    FastshardError,
    "A dataset that is not one, or that a newer fastshard wrote. Names the file."
);
pyo3::create_exception!(
    fastshard,
    CorruptionError,
    FormatError,
    "A file that is not what its manifest says: truncated, swapped or altered. Names file, shard and row."
);
pyo3::create_exception!(
    fastshard,
    DecodeError,
    FastshardError,
    "An image that cannot be decoded. Names dataset or file, shard, row and source path."
);

static SOURCE_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// `SourceError`, which is a `FastshardError` and a `ValueError`: two bases, so it is made by calling `type`.
pub(crate) fn source_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = SOURCE_ERROR.get_or_try_init(py, || -> PyResult<Py<PyType>> {
        let bases = PyTuple::new(py, [py.get_type::<FastshardError>(), py.get_type::<PyValueError>()])?;
        let namespace = pyo3::types::PyDict::new(py);
        namespace.set_item("__module__", "fastshard")?;
        namespace.set_item(
            "__doc__",
            "A source that cannot be packed as asked: missing or duplicate files, labels of the wrong type. Names \
             file, row and value.",
        )?;
        let class = py.get_type::<PyType>().call1(("SourceError", bases, namespace))?;
        Ok(class.cast_into::<PyType>()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// One line that a terminal only shows, as `_base/escape.py` makes it: names in messages are strangers', and Python prints
/// messages as they are.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if !is_command(character) => shown.push(character),
            _ if code < 0x100 => shown.extend([format!("\\x{code:02x}")]),
            _ => shown.extend([format!("\\u{code:04x}")]),
        }
    }
    shown
}

/// Control characters, separators of lines, and what turns the direction of writing round.
fn is_command(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// The attributes of exceptions, all `None` where an error doesn't say.
const ATTRIBUTES: [&str; 6] = ["path", "shard", "row", "field", "source", "reason"];

/// Gives the base of all exceptions its attributes.
pub(crate) fn add_attributes(py: Python<'_>) -> PyResult<()> {
    let base = py.get_type::<FastshardError>();
    ATTRIBUTES
        .iter()
        .try_for_each(|name| base.setattr(*name, py.None()))
}

/// The Python exception of a core error, with what is known of its place as attributes.
pub(crate) fn to_python(error: Error) -> PyErr {
    let place = Place::of(&error);
    let exception = exception_of(error);
    Python::attach(|py| {
        // Without attributes, the message still says all.
        let _ = place.tell(exception.value(py));
    });
    exception
}

/// Where something went wrong.
#[derive(Default)]
struct Place {
    path: Option<PathBuf>,
    row: Option<u64>,
    field: Option<String>,
    source: Option<String>,
    reason: Option<String>,
}

impl Place {
    fn of(error: &Error) -> Self {
        match error {
            Error::Format { path, reason } | Error::Corrupt { path, reason } => Self {
                path: Some(path.clone()),
                reason: Some(reason.clone()),
                ..Self::default()
            },
            Error::CorruptRow {
                path,
                row,
                source_path,
                reason,
            } => Self {
                path: Some(path.clone()),
                row: Some(*row),
                source: Some(source_path.clone()),
                reason: Some(reason.clone()),
                ..Self::default()
            },
            Error::Sample {
                dataset,
                shard,
                row,
                source_path,
                reason,
            } => Self {
                path: Some(dataset.join(shard)),
                row: Some(*row),
                source: Some(source_path.clone()),
                reason: Some(reason.clone()),
                ..Self::default()
            },
            Error::Label {
                dataset,
                row,
                field,
                ..
            } => Self {
                path: Some(dataset.clone()),
                row: Some(*row),
                field: Some(field.clone()),
                ..Self::default()
            },
            Error::Decode { reason } | Error::Source { reason } => Self {
                reason: Some(reason.clone()),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn tell(self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(path) = self.path {
            if let Some(shard) = path.file_name().filter(|_| is_shard(&path)) {
                exception.setattr("shard", shard.display().to_string())?;
            }
            exception.setattr("path", path.display().to_string())?;
        }
        if let Some(row) = self.row {
            exception.setattr("row", row)?;
        }
        let texts = [
            ("field", self.field),
            ("source", self.source),
            ("reason", self.reason),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                exception.setattr(name, text)?;
            }
        }
        Ok(())
    }
}

fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "arrow")
}

fn exception_of(error: Error) -> PyErr {
    let text = printable(&error.to_string());
    match error {
        Error::Io { path, source } => os_error(&path.display().to_string(), &source),
        Error::Format { .. } => FormatError::new_err(text),
        Error::Corrupt { .. } | Error::CorruptRow { .. } => CorruptionError::new_err(text),
        Error::Decode { .. } | Error::Sample { .. } => DecodeError::new_err(text),
        Error::Source { .. } => Python::attach(|py| match source_error(py) {
            Ok(class) => PyErr::from_type(class.clone(), text),
            Err(error) => error,
        }),
        Error::Label { .. } | Error::Option { .. } => PyValueError::new_err(text),
        Error::Memory { .. } => PyMemoryError::new_err(text),
        Error::Exists { .. } => PyFileExistsError::new_err(text),
        Error::Cancelled => PyKeyboardInterrupt::new_err(text),
        Error::State { .. } | Error::Internal { .. } => PyRuntimeError::new_err(text),
        _ => FastshardError::new_err(text),
    }
}

/// An `OSError` whose subclass Python picks by the error number, with the file's name as Python itself gives it.
fn os_error(path: &str, source: &std::io::Error) -> PyErr {
    let number = source.raw_os_error().or(match source.kind() {
        ErrorKind::NotFound => Some(2),
        ErrorKind::PermissionDenied => Some(13),
        _ => None,
    });
    let Some(number) = number else {
        return PyOSError::new_err(format!("{path}: {source}"));
    };
    Python::attach(|py| {
        let text = py
            .import("os")
            .and_then(|os| os.call_method1("strerror", (number,)));
        match text.and_then(|text| text.extract::<String>()) {
            Ok(text) => PyOSError::new_err((number, text, path.to_owned())),
            Err(error) => error,
        }
    })
}
