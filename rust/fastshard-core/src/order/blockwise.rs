//! A shuffle for data that does not fit in memory: whole runs of rows change places, and rows are mixed among the runs
//! of a window that fits.
//!
//! # Idea
//!
//! ```text
//! runs of the view        0     1     2     3     4     5     6     7       each `run` rows long
//! slots: runs permuted    5     2     7  |  0     6     3  |  1     4       `window` slots make a window
//! positions               mixed anew     |  mixed anew     |  mixed anew    over all rows of the window
//! ```
//!
//! A position belongs to the window `position / (run * window)`. The window's own permutation moves it to another place
//! in the window. That place divided by `run` is a slot with a row in it, and the permutation of the runs says which
//! run the slot holds. What is read at a time so lies in as many pieces as a window has runs, each long enough for a
//! disk to read at full speed.
//!
//! The last run may be shorter, and its slot may be anywhere. Places behind it count as if it were as long as the
//! others (`widened`). That moves the borders of windows into the middle of slots, so a window can touch two runs more
//! than `window`.
//!
//! # Why it is a permutation
//!
//! One bijection moves places within each window. Another one pairs places with rows, run by run. No place is in two
//! windows.
//!
//! # Cost
//!
//! As with the uniform shuffle there is no index array, and a position's row follows from the position alone. A row
//! costs one permuted number, and a run of a window one more, which the [`Window`] remembers.

use std::ops::Range;

use super::permutation::Permutation;
use crate::random::mix;

/// How a block-wise shuffle cuts the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Rows per run; at least 1.
    pub run: u64,
    /// Runs per window; at least 1.
    pub window: u64,
}

/// A permutation of `0..count` that reads few runs at a time.
#[derive(Clone, Debug)]
pub(super) struct Blockwise {
    count: u64,
    cut: Cut,
    runs: Permutation,
    /// The slot of the last run, and how many rows that run is shorter than the others.
    short: (u64, u64),
    key: u64,
    epoch: u64,
}

/// A window: positions that are mixed among each other, and the runs that were looked up for them.
#[derive(Clone, Debug)]
pub(super) struct Window {
    start: u64,
    end: u64,
    mix: Permutation,
    /// The slot of the first position, and the runs in this slot and the following ones, as far as they were looked up.
    first_slot: u64,
    runs: Vec<Option<u64>>,
}

impl Window {
    fn contains(&self, position: u64) -> bool {
        (self.start..self.end).contains(&position)
    }
}

impl Blockwise {
    pub(super) fn new(count: u64, cut: Cut, seed: u64, epoch: u64) -> Self {
        let runs = count.div_ceil(cut.run).max(1);
        let permutation = Permutation::new(runs, seed, epoch);
        Self {
            count,
            cut,
            short: (permutation.position_of(runs - 1), runs * cut.run - count),
            runs: permutation,
            key: mix(seed),
            epoch,
        }
    }

    fn span(&self) -> u64 {
        self.cut.run * self.cut.window
    }

    /// The number of the window of a position.
    pub(super) fn window_of(&self, position: u64) -> u64 {
        position / self.span()
    }

    /// A window by its number.
    pub(super) fn window(&self, number: u64) -> Window {
        let start = number.saturating_mul(self.span()).min(self.count);
        let end = start.saturating_add(self.span()).min(self.count);
        let first_slot = self.widened(start) / self.cut.run;
        let last_slot = self.widened(end) / self.cut.run;
        Window {
            start,
            end,
            mix: Permutation::new(end - start, self.key ^ mix(number), self.epoch),
            first_slot,
            runs: vec![None; (last_slot - first_slot + 1) as usize],
        }
    }

    /// The runs of a window by its number: ranges of rows that together hold every row of the window.
    pub(super) fn runs(&self, number: u64) -> impl Iterator<Item = Range<u64>> {
        let window = self.window(number);
        let slots = window.first_slot..window.first_slot + window.runs.len() as u64;
        let (count, run) = (self.count, self.cut.run);
        let last = count.div_ceil(run);
        slots.filter(move |&slot| slot < last).map(move |slot| {
            let start = self.runs.at(slot) * run;
            start..(start + run).min(count)
        })
    }

    /// Replaces positions by their rows. `window` may be any; afterwards it is that of the last position, for the next
    /// call.
    pub(super) fn map(&self, mut positions: &mut [u64], window: &mut Window) {
        while let Some(&first) = positions.first() {
            if !window.contains(first) {
                *window = self.window(self.window_of(first));
            }
            let outside = positions.iter().position(|&other| !window.contains(other));
            let (inside, others) = positions.split_at_mut(outside.unwrap_or(positions.len()));
            for position in &mut *inside {
                *position -= window.start;
            }
            window.mix.map(inside);
            for place in inside {
                *place = self.row(window.start + *place, window);
            }
            positions = others;
        }
    }

    /// The row at a place among the slots; the window must hold the slot.
    fn row(&self, place: u64, window: &mut Window) -> u64 {
        let place = self.widened(place);
        let (slot, row) = (place / self.cut.run, place % self.cut.run);
        let run = &mut window.runs[(slot - window.first_slot) as usize];
        let run = *run.get_or_insert_with(|| self.runs.at(slot));
        run * self.cut.run + row
    }

    /// A place as it would be if the short run were as long as the others.
    fn widened(&self, place: u64) -> u64 {
        let (slot, missing) = self.short;
        let end = (slot + 1) * self.cut.run - missing;
        if place < end { place } else { place + missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(count: u64, cut: Cut, epoch: u64) -> Vec<u64> {
        let order = Blockwise::new(count, cut, 7, epoch);
        let mut window = order.window(0);
        let mut rows: Vec<u64> = (0..count).collect();
        order.map(&mut rows, &mut window);
        rows
    }

    proptest! {
        #[test]
        fn is_a_permutation_of_few_runs_at_a_time(count in 1u64..2000, run in 1u64..70, window in 1u64..9, epoch: u64) {
            let cut = Cut { run, window };
            let rows = rows(count, cut, epoch);
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.iter().copied().eq(0..count));
            let order = Blockwise::new(count, cut, 7, epoch);
            for (number, part) in rows.chunks((run * window) as usize).enumerate() {
                let asked: Vec<_> = order.runs(number as u64).collect();
                prop_assert!(part.iter().all(|row| asked.iter().any(|run| run.contains(row))));
                prop_assert!(asked.len() as u64 <= window + 2);
                let mut runs: Vec<_> = part.iter().map(|row| row / run).collect();
                runs.sort_unstable();
                runs.dedup();
                // The short run may leave room for a part of one more at either end.
                prop_assert!(runs.len() as u64 <= window + 2);
            }
        }
    }

    #[test]
    fn one_window_is_a_uniform_shuffle() {
        let rows = rows(
            5000,
            Cut {
                run: 100,
                window: 50,
            },
            3,
        );
        let near = rows
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < 50);
        // Of 4,999 pairs, about 1 in 50.
        assert!((60..140).contains(&near.count()));
    }

    #[test]
    fn epochs_differ() {
        let cut = Cut { run: 10, window: 4 };
        assert_ne!(rows(100, cut, 0), rows(100, cut, 1));
    }
}
