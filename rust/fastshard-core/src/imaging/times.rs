//! What threads count.

use std::time::Duration;

/// Where a thread's time went since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) decode: Duration,
    pub(crate) resample: Duration,
}
