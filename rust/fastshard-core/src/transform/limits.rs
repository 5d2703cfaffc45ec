//! What arguments of operations may be.

use crate::error::{Error, Result};

/// The largest side of an output; far beyond any model's input, well below what overflows.
pub(super) const MAX_SIDE: u32 = 1 << 15;
/// Of what earlier operations made: whatever is added to it fits in 32 bits.
pub(super) const MAX_CANVAS: u32 = 1 << 28;

pub(super) fn check(holds: bool, complaint: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::option(complaint()))
    }
}

pub(super) fn check_sides(name: &str, sides: &[u32]) -> Result<()> {
    check(
        sides.iter().all(|side| (1..=MAX_SIDE).contains(side)),
        || format!("{name}: size {sides:?}, expected sides of 1 to {MAX_SIDE} pixels"),
    )
}

pub(super) fn check_range(name: &str, what: &str, [low, high]: [f64; 2], most: f64) -> Result<()> {
    check(low > 0.0 && low <= high && high <= most, || {
        format!("{name}: {what} ({low}, {high}), expected 0 < low <= high <= {most}")
    })
}
