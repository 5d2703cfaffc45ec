//! A shuffle for data that does not fit in memory: whole runs of rows change places, and rows are mixed among the runs
//! of a window that fits.
//!
//! What is read at a time lies in as many pieces as a window has runs, each long enough for a disk to read at full speed.
//! As with the uniform shuffle there is no index array, and a position's row follows from the position alone.

use super::permutation::Permutation;
use crate::random::mix;

/// How a block-wise shuffle cuts the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Rows a run; at least 1.
    pub run: u64,
    /// Runs a window; at least 1.
    pub window: u64,
}

/// A permutation of `0..count` that keeps neighbours near each other.
#[derive(Clone, Debug)]
pub(super) struct Blockwise {
    count: u64,
    cut: Cut,
    runs: Permutation,
    /// Where the last run, which may be shorter, comes to lie, and by how much it is shorter.
    short: (u64, u64),
    key: u64,
    epoch: u64,
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

    pub(super) fn at(&self, position: u64) -> u64 {
        let span = self.cut.run * self.cut.window;
        let (window, within) = (position / span, position % span);
        let rows = span.min(self.count - window * span);
        let mixed = Permutation::new(rows, self.key ^ mix(window), self.epoch).at(within);
        self.row(window * span + mixed)
    }

    /// The row at a place among the permuted runs.
    fn row(&self, place: u64) -> u64 {
        let (slot, missing) = self.short;
        let end = (slot + 1) * self.cut.run - missing;
        // As if the short run were as long as the others.
        let place = if place < end { place } else { place + missing };
        self.runs.at(place / self.cut.run) * self.cut.run + place % self.cut.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(count: u64, cut: Cut, epoch: u64) -> Vec<u64> {
        let order = Blockwise::new(count, cut, 7, epoch);
        (0..count).map(|position| order.at(position)).collect()
    }

    proptest! {
        #[test]
        fn is_a_permutation_of_few_runs_at_a_time(count in 1u64..2000, run in 1u64..70, window in 1u64..9, epoch: u64) {
            let cut = Cut { run, window };
            let rows = rows(count, cut, epoch);
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.iter().copied().eq(0..count));
            for part in rows.chunks((run * window) as usize) {
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
