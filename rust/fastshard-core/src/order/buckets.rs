//! Batches of samples of like lengths: less padding, and no batch that takes all the memory.
//!
//! # Idea
//!
//! ```text
//! window of the order       draw its samples (already shuffled)
//! sort by length            stable, so equal lengths stay in the order that was drawn
//! cut into units            a unit is a batch of every rank
//! permute the units         only if the order is shuffled
//! ```
//!
//! Samples that fill no unit stay at the end, unsorted: sorted, the last batch of an epoch would always have the
//! longest.
//!
//! # Why resuming still works
//!
//! A window is a function of (seed, epoch, start), so a sorted window is one, too. What a position leads to still
//! follows from the position alone; only a whole window has to be looked at for it.
//!
//! # Cost
//!
//! Sorting a window once, with the length of each of its rows, and 16 bytes a sample. The last few windows are
//! remembered, so threads that fill neighbouring batches sort each window once.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Drawn, Permutation};
use crate::random::mix;

/// Sorted windows that are remembered: those of the batches that are being filled, and of a second pass.
const REMEMBERED: usize = 4;

type Length = dyn Fn(u64) -> u64 + Send + Sync;

/// A sorted window of an epoch.
#[derive(Clone)]
struct Sorted {
    epoch: u64,
    start: u64,
    drawn: Arc<[Drawn]>,
}

/// How samples of like lengths are brought together, and the windows that were sorted last.
pub struct Buckets {
    unit: u64,
    window: u64,
    length: Box<Length>,
    sorted: Mutex<VecDeque<Sorted>>,
}

impl Buckets {
    /// `unit`: samples that stay together, one batch of every rank. `units`: how many units are sorted at a time. Both
    /// are at least 1. `length` gives the length of a row.
    #[must_use]
    pub fn new(unit: u64, units: u64, length: Box<Length>) -> Self {
        Self {
            unit,
            window: unit.saturating_mul(units),
            length,
            sorted: Mutex::default(),
        }
    }

    /// The positions that are sorted together with this one, in an epoch of so many samples.
    pub(super) fn window(&self, position: u64, samples: u64) -> Range<u64> {
        let start = position / self.window * self.window;
        start..start.saturating_add(self.window).min(samples)
    }

    /// The samples of a window in their new order. `draw` gives them in the old order. `shuffle` is the seed by which
    /// units change places, if they do.
    pub(super) fn sorted(
        &self,
        epoch: u64,
        window: &Range<u64>,
        shuffle: Option<u64>,
        draw: impl FnOnce(&mut [Drawn]),
    ) -> Arc<[Drawn]> {
        // One thread sorts, others wait for it rather than do the same.
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        let found = (sorted.iter()).find(|one| one.epoch == epoch && one.start == window.start);
        if let Some(found) = found {
            return found.drawn.clone();
        }
        let mut drawn = vec![Drawn::default(); (window.end - window.start) as usize];
        draw(&mut drawn);
        let drawn: Arc<[Drawn]> = self.sort(&drawn, epoch, window.start, shuffle).into();
        if sorted.len() == REMEMBERED {
            sorted.pop_front();
        }
        sorted.push_back(Sorted {
            epoch,
            start: window.start,
            drawn: drawn.clone(),
        });
        drawn
    }

    fn sort(&self, drawn: &[Drawn], epoch: u64, start: u64, shuffle: Option<u64>) -> Vec<Drawn> {
        let unit = self.unit as usize;
        // What fills no unit comes last, and must not always be the longest.
        let full = drawn.len() / unit * unit;
        let mut by_length: Vec<_> = (drawn[..full].iter())
            .map(|one| ((self.length)(one.row), *one))
            .collect();
        by_length.sort_by_key(|(length, _)| *length);
        let units = (full / unit) as u64;
        let places = shuffle.map(|seed| Permutation::new(units, mix(seed) ^ mix(start), epoch));
        let mut moved = Vec::with_capacity(drawn.len());
        for at in 0..units {
            let from = places.as_ref().map_or(at, |places| places.at(at)) as usize * unit;
            moved.extend(by_length[from..from + unit].iter().map(|(_, one)| *one));
        }
        moved.extend_from_slice(&drawn[full..]);
        moved
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets")
            .field("unit", &self.unit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Order, Rows, Share, Shuffle, View};
    use super::*;
    use proptest::prelude::*;

    fn length(row: u64) -> u64 {
        mix(row) % 100
    }

    proptest! {
        /// Every sample once, batches of like lengths, and the same whatever is asked for first.
        #[test]
        fn sorts_windows(count in 1u64..600, unit in 1u64..20, units in 1u64..9, epoch in 0u64..3, shuffled: bool) {
            let rows = Rows::Range { start: 0, step: 1, count };
            let view = View { rows, weights: None };
            let share = Share { start: 0, rank: 0, world: 1 };
            let shuffle = if shuffled { Shuffle::Uniform } else { Shuffle::None };
            let read = |backwards: bool| {
                let buckets = Buckets::new(unit, units, Box::new(length));
                let order = Order::new(&view, shuffle, share, 5, epoch).bucketed(Some(&buckets));
                let mut rows: Vec<_> = (0..count).map(|at| if backwards { count - 1 - at } else { at })
                    .map(|at| order.at(at).row).collect();
                if backwards {
                    rows.reverse();
                }
                rows
            };
            let rows = read(false);
            prop_assert_eq!(&rows, &read(true));
            let mut all = rows.clone();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..count));
            for window in rows.chunks((unit * units) as usize) {
                let mut spans: Vec<_> = window.chunks_exact(unit as usize).map(|batch| {
                    let lengths = batch.iter().map(|&row| length(row));
                    (lengths.clone().min().unwrap(), lengths.max().unwrap())
                }).collect();
                spans.sort_unstable();
                prop_assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            }
        }
    }
}
