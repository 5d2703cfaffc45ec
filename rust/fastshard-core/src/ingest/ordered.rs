//! A parallel map whose results come out in the order of its inputs.
//!
//! # Idea
//!
//! ```text
//! source --(lock)--> input number n --> work, on any thread --> results, by number --> sink, on the caller's thread
//! ```
//!
//! Threads take numbered inputs, and results wait in a map until their number is next. So the sink sees the same
//! sequence for any number of threads, and what it writes doesn't depend on them.
//!
//! # Memory
//!
//! At most `window` inputs are taken and not yet handed over. A slow input so stops the others after `window - 1` more,
//! and memory is bounded whatever the source holds. `window` must be at least 1, and should exceed the number of
//! threads.
//!
//! # Errors
//!
//! An error of the source or of the work takes the place of its result. It is raised when its turn comes, so the first
//! error in order wins, whichever was first in time. Panics become errors. When the caller has its error or its last
//! result, `stopped` ends the threads at their next input.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::caught::caught;
use crate::error::{Error, Result};

struct State<T> {
    /// How many inputs were taken.
    taken: usize,
    /// How many results were handed over.
    handed_over: usize,
    results: BTreeMap<usize, Result<T>>,
    /// Whether the source has no more inputs.
    exhausted: bool,
    /// Whether nobody wants more results.
    stopped: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes inputs from `source`, maps them with `work` on `threads` threads, and gives the results to `sink` in order.
/// The first error, in that order, ends the map; a panic of any of the three is an error.
pub(crate) fn ordered<I: Send, T: Send>(
    threads: usize,
    window: usize,
    source: impl FnMut() -> Result<Option<I>> + Send,
    work: impl Fn(I) -> Result<T> + Sync,
    mut sink: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let source = Mutex::new(source);
    let state = Mutex::new(State {
        taken: 0,
        handed_over: 0,
        results: BTreeMap::new(),
        exhausted: false,
        stopped: false,
    });
    let changed = Condvar::new();
    let wait = |guard| changed.wait(guard).unwrap_or_else(PoisonError::into_inner);

    let take = || -> Option<(usize, I)> {
        // Held while the source is asked, so that numbers follow the source's order.
        let mut source = lock(&source);
        let mut guard = lock(&state);
        while !guard.stopped && !guard.exhausted && guard.taken >= guard.handed_over + window {
            guard = wait(guard);
        }
        if guard.stopped || guard.exhausted {
            return None;
        }
        let number = guard.taken;
        drop(guard);
        let input = caught("reading the source", &mut *source);
        let mut guard = lock(&state);
        let input = match input {
            Ok(Some(input)) => {
                guard.taken += 1;
                Some((number, input))
            }
            Ok(None) => {
                guard.exhausted = true;
                None
            }
            Err(error) => {
                guard.taken += 1;
                guard.exhausted = true;
                guard.results.insert(number, Err(error));
                None
            }
        };
        changed.notify_all();
        input
    };

    let run = || {
        while let Some((number, input)) = take() {
            let result = caught("packing a block", || work(input));
            lock(&state).results.insert(number, result);
            changed.notify_all();
        }
    };

    std::thread::scope(|scope| {
        let spawn = || std::thread::Builder::new().spawn_scoped(scope, run);
        for number in 0..threads {
            // Where no more threads can be started, fewer work; without any, nobody would.
            match spawn() {
                Err(error) if number == 0 => return Err(Error::io("starting a thread")(error)),
                Err(_) => break,
                Ok(_) => {}
            }
        }
        let outcome = loop {
            let mut guard = lock(&state);
            let next = guard.handed_over;
            let result = loop {
                if let Some(result) = guard.results.remove(&next) {
                    break Some(result);
                }
                if guard.exhausted && next == guard.taken {
                    break None;
                }
                guard = wait(guard);
            };
            drop(guard);
            let Some(result) = result else { break Ok(()) };
            let written = result.and_then(|built| caught("writing a block", || sink(built)));
            if let Err(error) = written {
                break Err(error);
            }
            lock(&state).handed_over += 1;
            changed.notify_all();
        };
        lock(&state).stopped = true;
        changed.notify_all();
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_the_window() {
        let mut numbers = 0..200u64;
        let running = std::sync::atomic::AtomicI64::new(0);
        let mut out = Vec::new();
        ordered(
            4,
            6,
            || {
                assert!(running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) <= 6);
                Ok(numbers.next())
            },
            |n| {
                std::thread::sleep(std::time::Duration::from_micros(
                    crate::random::mix(n) % 300,
                ));
                Ok(n * n)
            },
            |n| {
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                out.push(n);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(out, (0..200).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_error_in_order_wins() {
        let mut numbers = 0..100;
        let work = |n| {
            if n % 10 == 7 {
                Err(Error::source(format!("{n}")))
            } else {
                Ok(n)
            }
        };
        let error = ordered(3, 5, || Ok(numbers.next()), work, |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "7");
    }

    #[test]
    fn panics_and_failing_sinks_end_it() {
        let mut numbers = 0..100;
        let error = ordered(
            3,
            5,
            || Ok(numbers.next()),
            Ok,
            |n| {
                if n == 9 {
                    Err(Error::Cancelled)
                } else {
                    Ok(())
                }
            },
        );
        assert!(matches!(error, Err(Error::Cancelled)));
    }

    #[test]
    fn a_panic_anywhere_ends_it_with_its_message() {
        for place in 0..3 {
            let at = |here: i32, n: i32| {
                assert!(place != here || n != 3, "on purpose");
                n
            };
            let mut numbers = 0..10;
            let source = || Ok(numbers.next().map(|n| at(0, n)));
            let outcome = ordered(
                2,
                3,
                source,
                |n| Ok(at(1, n)),
                |n| {
                    at(2, n);
                    Ok(())
                },
            );
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("panicked: on purpose"), "{place}: {text}");
        }
    }
}
