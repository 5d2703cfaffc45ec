//! The order of samples: a function from (seed, epoch, position) to row.
//!
//! # Idea
//!
//! A shuffle need not be a list. Here every step from a position to a row is a function of that position and a key, so
//! neither an index array nor a shuffle buffer exists:
//!
//! ```text
//! index of a rank -> position in the epoch -> mixed position -> index of the view -> row of the dataset
//!           share                     shuffle            weights, if any      view
//! ```
//!
//! - The *share* of rank `r` of `n` is every `n`-th position.
//! - The *shuffle* is a keyed permutation of all positions, or one of runs and windows.
//! - *Weights* turn a mixed position into a draw in proportion to them; without weights it is the index itself.
//! - *Buckets* sort a window of many batches by length and must look at that window as a whole. The result is still a
//!   function of the position.
//!
//! # What follows
//!
//! Position `n` is known without the `n - 1` before it. So an epoch can be resumed anywhere at no cost, and ranks share
//! it without exchanging a word. After equally many batches, all ranks together have used a beginning of the epoch's
//! order.
//!
//! # Cost
//!
//! The memory for a million rows is that for ten, apart from views that are lists, the sums of weights (8 bytes a row),
//! and a few sorted windows. A uniform shuffle costs fifteen 32-bit multiplications a row, or forty below 65,536 rows.
//! The same holds for a window of a block-wise shuffle.

mod blockwise;
mod buckets;
mod permutation;
mod rows;
mod weights;

pub use blockwise::Cut;
pub use buckets::Buckets;
pub use permutation::Permutation;
pub use rows::Rows;
pub use weights::Weights;

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use blockwise::{Blockwise, Window};

/// A view of a dataset: which rows, and how often each of them comes in an epoch.
#[derive(Clone, Debug)]
pub struct View {
    /// The rows, in the order of the view.
    pub rows: Rows,
    /// Weights of the rows; without them, each row comes once an epoch.
    pub weights: Option<Weights>,
}

impl View {
    /// How many samples an epoch has.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.weights
            .as_ref()
            .map_or_else(|| self.rows.len(), Weights::samples)
    }

    /// The row of the dataset at a position before any shuffling; with weights, the row that they draw there.
    #[must_use]
    pub fn row(&self, position: u64, seed: u64, epoch: u64) -> u64 {
        let weights = self.weights.as_ref();
        let index = weights.map_or(position, |weights| weights.draw(position, seed, epoch));
        self.rows.at(index)
    }
}

/// How the positions of an epoch are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Samples come in the order of the view.
    None,
    /// A keyed permutation of all positions: every row may be anywhere.
    Uniform,
    /// Runs of rows change places, and rows are mixed within windows of a few runs.
    Blockwise(Cut),
}

/// The positions of an epoch that one of several ranks goes through: `start + rank`, `start + rank + world`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Positions that were used before, by all ranks together.
    pub start: u64,
    /// This rank, below `world`.
    pub rank: u64,
    /// How many ranks there are.
    pub world: u64,
}

impl Share {
    /// Samples per rank if all ranks take equally many. What is missing at the end is taken from the epoch's first
    /// positions.
    #[must_use]
    pub fn samples(&self, positions: u64) -> u64 {
        positions.saturating_sub(self.start).div_ceil(self.world)
    }

    /// Batches per rank if all are full; what can't be shared in full batches is left out.
    #[must_use]
    pub fn full_batches(&self, positions: u64, batch_size: u64) -> u64 {
        positions.saturating_sub(self.start) / (self.world * batch_size)
    }
}

/// A sample's row, and the key of its random numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// The row of the dataset.
    pub row: u64,
    /// The row. With weights, where rows may come more than once, the position instead, with its highest bit set.
    pub key: u64,
}

/// Positions that are mixed together, so that the permutation can work on several at once.
const TOGETHER: usize = 64;

/// Tells keys that are positions from keys that are rows; datasets have far fewer rows.
const POSITION: u64 = 1 << 63;

#[derive(Clone, Debug)]
enum Mix {
    None,
    Uniform(Permutation),
    /// Together with the window that was used last.
    Blockwise(Box<Blockwise>, RefCell<Window>),
}

/// One epoch's order over a view, for one rank.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    view: &'a View,
    mix: Mix,
    share: Share,
    seed: u64,
    epoch: u64,
    buckets: Option<&'a Buckets>,
}

impl<'a> Order<'a> {
    /// The order of a view for an epoch.
    #[must_use]
    pub fn new(view: &'a View, shuffle: Shuffle, share: Share, seed: u64, epoch: u64) -> Self {
        let count = view.samples();
        let mix = match shuffle {
            Shuffle::None => Mix::None,
            Shuffle::Uniform => Mix::Uniform(Permutation::new(count, seed, epoch)),
            Shuffle::Blockwise(cut) => {
                let blockwise = Blockwise::new(count, cut, seed, epoch);
                let window = RefCell::new(blockwise.window(0));
                Mix::Blockwise(Box::new(blockwise), window)
            }
        };
        Self {
            view,
            mix,
            share,
            seed,
            epoch,
            buckets: None,
        }
    }

    /// Sorts windows of samples by length, where there are buckets.
    #[must_use]
    pub fn bucketed(mut self, buckets: Option<&'a Buckets>) -> Self {
        self.buckets = buckets;
        self
    }

    /// The position in the epoch of this rank's sample at an index. Behind the last position it begins anew.
    #[must_use]
    pub fn position(&self, index: u64) -> u64 {
        let Share { start, rank, world } = self.share;
        let (position, samples) = (start + index * world + rank, self.view.samples());
        // A division costs more than everything else about a row.
        if position < samples {
            position
        } else {
            position % samples
        }
    }

    /// This rank's sample at an index.
    #[must_use]
    pub fn at(&self, index: u64) -> Drawn {
        let mut drawn = [Drawn::default()];
        self.fill(index, &mut drawn);
        drawn[0]
    }

    /// This rank's samples from an index on; cheaper than one by one, as positions are mixed side by side.
    pub fn fill(&self, first: u64, drawn: &mut [Drawn]) {
        let mut first = first;
        for drawn in drawn.chunks_mut(TOGETHER) {
            let mut positions = [0; TOGETHER];
            let positions = &mut positions[..drawn.len()];
            for (position, index) in positions.iter_mut().zip(first..) {
                *position = self.position(index);
            }
            match self.buckets {
                Some(buckets) => self.draw_sorted(buckets, positions, drawn),
                None => self.draw(positions, drawn),
            }
            first += drawn.len() as u64;
        }
    }

    /// The samples at positions; `positions` is overwritten.
    fn draw(&self, positions: &mut [u64], drawn: &mut [Drawn]) {
        for (drawn, position) in drawn.iter_mut().zip(&*positions) {
            drawn.key = *position;
        }
        match &self.mix {
            Mix::None => {}
            Mix::Uniform(permutation) => permutation.map(positions),
            Mix::Blockwise(blockwise, window) => {
                blockwise.map(positions, &mut window.borrow_mut());
            }
        }
        self.look_up(positions, drawn);
    }

    /// The samples at positions of windows that are sorted by length.
    fn draw_sorted(&self, buckets: &Buckets, positions: &[u64], drawn: &mut [Drawn]) {
        let shuffle = (!matches!(self.mix, Mix::None)).then_some(self.seed);
        let mut window = 0..0;
        let mut sorted: Arc<[Drawn]> = Arc::new([]);
        for (drawn, position) in drawn.iter_mut().zip(positions) {
            if !window.contains(position) {
                window = buckets.window(*position, self.view.samples());
                sorted = buckets.sorted(self.epoch, &window, shuffle, |drawn| {
                    let mut positions: Vec<_> = window.clone().collect();
                    self.draw(&mut positions, drawn);
                });
            }
            *drawn = sorted[(position - window.start) as usize];
        }
    }

    /// The rows of the dataset at mixed positions of the view.
    fn look_up(&self, mixed: &[u64], drawn: &mut [Drawn]) {
        let rows = &self.view.rows;
        let Some(weights) = &self.view.weights else {
            for (drawn, &mixed) in drawn.iter_mut().zip(mixed) {
                drawn.row = rows.at(mixed);
                drawn.key = drawn.row;
            }
            return;
        };
        for (drawn, &mixed) in drawn.iter_mut().zip(mixed) {
            drawn.row = rows.at(weights.draw(mixed, self.seed, self.epoch));
            drawn.key |= POSITION;
        }
    }

    /// The last window of a block-wise shuffle from which this rank's sample at an index may come; 0 without windows.
    #[must_use]
    pub fn window(&self, index: u64) -> u64 {
        let Mix::Blockwise(blockwise, _) = &self.mix else {
            return 0;
        };
        blockwise.window_of(self.sorted_with(self.position(index)).end - 1)
    }

    /// The positions that are sorted together with this one; without buckets, only itself.
    fn sorted_with(&self, position: u64) -> Range<u64> {
        let alone = || position..position + 1;
        let samples = self.view.samples();
        (self.buckets).map_or_else(alone, |buckets| buckets.window(position, samples))
    }

    /// The windows of a block-wise shuffle from which the samples at these indices come; `None` if they can't be read
    /// one after the other. Samples that are taken from the epoch's first positions at the end are not counted.
    #[must_use]
    pub fn windows(&self, indices: Range<u64>) -> Option<RangeInclusive<u64>> {
        let (Mix::Blockwise(blockwise, _), None) = (&self.mix, &self.view.weights) else {
            return None;
        };
        let Share { start, rank, world } = self.share;
        let last = self.view.samples().checked_sub(1)?;
        let together = |index: u64| self.sorted_with((start + index * world + rank).min(last));
        let first = together(indices.start).start;
        let last = together(indices.end.checked_sub(1)?).end - 1;
        Some(blockwise.window_of(first)..=blockwise.window_of(last))
    }

    /// The rows of a window, as ranges of rows that are mostly contiguous in the dataset.
    #[must_use]
    pub fn pieces(&self, window: u64) -> Vec<Range<u64>> {
        let Mix::Blockwise(blockwise, _) = &self.mix else {
            return Vec::new();
        };
        let runs = blockwise.runs(window);
        runs.filter_map(|run| self.view.rows.piece(run)).collect()
    }

    /// The row at an index, if the samples after it are the rows after it; else `None`.
    #[must_use]
    pub fn run(&self, index: u64) -> Option<u64> {
        let View {
            rows: Rows::Range { start, step: 1, .. },
            weights: None,
        } = self.view
        else {
            return None;
        };
        let plain = matches!(self.mix, Mix::None) && self.share.world == 1;
        (plain && self.buckets.is_none()).then(|| start + self.share.start + index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view(count: u64) -> View {
        let rows = Rows::Range {
            start: 0,
            step: 1,
            count,
        };
        View {
            rows,
            weights: None,
        }
    }

    /// The rows of `samples` samples of every rank.
    fn rows(view: &View, start: u64, world: u64, samples: u64) -> Vec<u64> {
        let mut rows = Vec::new();
        for rank in 0..world {
            let share = Share { start, rank, world };
            let order = Order::new(view, Shuffle::Uniform, share, 1, 2);
            rows.extend((0..samples).map(|index| order.at(index).row));
        }
        rows
    }

    proptest! {
        /// However many ranks go on where others stopped, they see what is left.
        #[test]
        fn ranks_share_an_epoch(count in 1u64..500, worlds in proptest::collection::vec(1u64..6, 1..4)) {
            let view = view(count);
            let (mut start, mut seen) = (0, Vec::new());
            for world in worlds {
                let samples = count.saturating_sub(start) / world / 2;
                seen.extend(rows(&view, start, world, samples));
                start += samples * world;
            }
            let rest = Share { start, rank: 0, world: 3 }.samples(count);
            let mut last = rows(&view, start, 3, rest);
            // Interleaved as the ranks are, what comes too much stands at the end.
            last = (0..last.len()).map(|at| last[at % 3 * rest as usize + at / 3]).collect();
            let repeated = last.split_off((count - start) as usize);
            prop_assert!(repeated.len() < 3);
            seen.extend(last);
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..count));
        }
    }

    #[test]
    fn weighted_samples_are_told_apart() {
        let mut view = view(2);
        view.weights = Some(Weights::new(&[1.0, 0.0], 10).unwrap());
        let share = Share {
            start: 0,
            rank: 0,
            world: 1,
        };
        let order = Order::new(&view, Shuffle::Uniform, share, 1, 2);
        let drawn: Vec<_> = (0..10).map(|index| order.at(index)).collect();
        assert!(drawn.iter().all(|drawn| drawn.row == 0));
        let mut keys: Vec<_> = drawn.iter().map(|drawn| drawn.key).collect();
        keys.dedup();
        assert_eq!(keys.len(), 10);
    }
}
