//! Panics as errors: a bug that one row meets must not end the process, nor leave others waiting for that row.
//!
//! Every native thread and every call from Python runs inside [`caught`]. A caught panic prints nothing: its message and
//! place go into the error. All other panics still reach the hook that was installed before.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use crate::error::{Error, Result};

thread_local! {
    /// How many calls of `caught` this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// File and line of the newest panic that was kept quiet.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics inside of [`caught`] silent. Later calls do nothing.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |panic| {
            // A thread that is ending has no locals any more.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                return previous(panic);
            }
            let place = panic.location().map_or_else(String::new, |place| {
                // The rest of the path is that of the machine which built this.
                let file = Path::new(place.file()).file_name().unwrap_or_default();
                format!(" ({}:{})", file.to_string_lossy(), place.line())
            });
            let _ = PLACE.try_with(|last| last.replace(place));
        }));
    });
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Runs `work`; a panic becomes [`Error::Internal`]. `doing` begins its message, as in "decoding".
///
/// What `work` changes must be thrown away, or be sound after half of the work, when this gives that error.
pub fn caught<T>(doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    let inside = Inside::enter();
    let outcome = catch_unwind(AssertUnwindSafe(work));
    drop(inside);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let place = PLACE.with(RefCell::take);
        Err(Error::Internal {
            reason: format!("{doing} panicked: {}{place}", text.unwrap_or("no message")),
        })
    })
}

/// Panics on purpose, where no input is known that makes one.
#[cfg(test)]
pub(crate) mod inject {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// By place and seed (tests run side by side, each with a seed of its own): the row that it is for, or all.
    type Armed = HashMap<(&'static str, u64), Option<u64>>;

    static ARMED: LazyLock<Mutex<Armed>> = LazyLock::new(Mutex::default);

    pub(crate) fn arm(place: &'static str, seed: u64, row: Option<u64>) {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        armed.insert((place, seed), row);
    }

    pub(crate) fn point(place: &'static str, seed: u64, row: u64) {
        let armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = armed.get(&(place, seed)).copied();
        drop(armed);
        let hit = found.is_some_and(|wanted| wanted.is_none_or(|wanted| wanted == row));
        assert!(!hit, "on purpose, in {place}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_with_message_and_place() {
        let number = |text: &str| -> Result<u32> { Ok(text.parse().expect("a number")) };
        assert_eq!(caught("parsing", || number("7")).unwrap(), 7);
        let error = caught("parsing", || number("x")).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Internal { .. }), "{text}");
        assert!(text.starts_with("parsing panicked: a number: "), "{text}");
        assert!(text.contains("(caught.rs:"), "{text}");
    }

    #[test]
    fn errors_stay_what_they_are_and_calls_nest() {
        let inner = || caught("inner", || -> Result<()> { panic!("on purpose") });
        let outer: Result<()> = caught("outer", || {
            assert!(inner().is_err());
            Err(Error::Cancelled)
        });
        assert!(matches!(outer, Err(Error::Cancelled)));
        assert_eq!(DEPTH.with(Cell::get), 0);
    }
}
