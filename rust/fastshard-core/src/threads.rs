//! How many threads there may be, and waiting for them to end, but never for long.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The cores that this process may use: affinity and cgroup limits respected.
#[must_use]
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How long to wait for threads that were told to stop: longer than a photograph takes to decode, short enough for
/// Ctrl-C to feel immediate.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Joins those threads that end in time; the others end by themselves, and free what they hold.
pub(crate) fn join_within(threads: impl Iterator<Item = JoinHandle<()>>, patience: Duration) {
    let until = Instant::now() + patience;
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        if thread.is_finished() {
            // Bodies of threads catch their panics.
            let _ = thread.join();
        }
    }
}
