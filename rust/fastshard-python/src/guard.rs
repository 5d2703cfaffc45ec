//! What every call from Python goes through: panics become exceptions, locks are waited for with an eye on signals, and
//! nothing of a parent process is touched after a fork.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use fastshard_core::{Error, caught, keep_guard};
use pyo3::prelude::*;

use crate::error::to_python;

/// How long a call waits before it looks for signals.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Runs the body of a method; a panic becomes a `RuntimeError` that asks for a report. Mapped files stay guarded, whatever
/// other libraries did to signals since the last call.
pub(crate) fn guarded<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    keep_guard();
    caught("fastshard", || Ok(body())).map_err(to_python)?
}

/// Works without the interpreter's lock.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    guarded(|| py.detach(work).map_err(to_python))
}

/// Takes a lock. The interpreter's is free while another thread has this one, and signals are looked at.
pub(crate) fn lock<'a, T>(py: Python<'_>, mutex: &'a Mutex<T>) -> PyResult<MutexGuard<'a, T>> {
    let mut pause = Duration::from_micros(20);
    let mut looked = Instant::now();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => py.detach(|| std::thread::sleep(pause)),
        }
        pause = (pause * 2).min(Duration::from_millis(1));
        if looked.elapsed() > SLICE {
            py.check_signals()?;
            looked = Instant::now();
        }
    }
}

/// Something with threads or locks. In a forked child the threads don't exist, and a lock may stay taken for ever: there
/// it can't be had, and is never dropped.
pub(crate) struct Own<T> {
    process: u32,
    forked: &'static str,
    inner: Option<T>,
}

impl<T> Own<T> {
    /// `forked`: what somebody hears who asks for it in a child.
    pub(crate) fn new(inner: T, forked: &'static str) -> Self {
        Self {
            process: std::process::id(),
            forked,
            inner: Some(inner),
        }
    }

    /// It, in the process that made it.
    pub(crate) fn here(&self) -> Option<&T> {
        let inner = self.inner.as_ref();
        inner.filter(|_| self.process == std::process::id())
    }

    /// The same, or an error in a forked child.
    pub(crate) fn get(&self) -> PyResult<&T> {
        self.here().ok_or_else(|| {
            to_python(Error::State {
                reason: self.forked.into(),
            })
        })
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            std::mem::forget(self.inner.take());
        }
    }
}
