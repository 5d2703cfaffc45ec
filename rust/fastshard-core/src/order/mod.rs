//! The order of samples: a function from (seed, epoch, position) to row.
//!
//! A shuffled order is a keyed permutation. No index array and no shuffle buffer exist, so that a million rows cost what
//! ten do, and position `n` is known without the `n - 1` before it: that is what makes resuming free, and lets several
//! ranks share an epoch without a word between them.

mod blockwise;
mod permutation;
mod rows;
mod weights;

pub use blockwise::Cut;
pub use permutation::Permutation;
pub use rows::Rows;
pub use weights::Weights;

use std::cell::RefCell;
use std::ops::Range;

use blockwise::{Blockwise, Window};

/// A view as an order sees it: rows, and how often each comes.
#[derive(Clone, Debug)]
pub struct View {
    /// The rows.
    pub rows: Rows,
    /// Without weights each comes once.
    pub weights: Option<Weights>,
}

impl View {
    /// Samples an epoch.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.weights
            .as_ref()
            .map_or_else(|| self.rows.len(), Weights::samples)
    }
}

/// How positions are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Not at all.
    None,
    /// Every order is as likely as any other.
    Uniform,
    /// Runs of rows change places, and rows are mixed within windows.
    Blockwise(Cut),
}

/// Which positions of an epoch one of several ranks goes through: `start + rank`, `start + rank + world`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Positions that were gone through before, by all ranks together.
    pub start: u64,
    /// This rank, below `world`.
    pub rank: u64,
    /// How many ranks there are.
    pub world: u64,
}

impl Share {
    /// How many samples each rank takes when none may take more than another: the last ones begin anew at the epoch's
    /// first positions.
    #[must_use]
    pub fn samples(&self, positions: u64) -> u64 {
        positions.saturating_sub(self.start).div_ceil(self.world)
    }

    /// How many it takes when what can't be shared in full batches is left out.
    #[must_use]
    pub fn full_batches(&self, positions: u64, batch_size: u64) -> u64 {
        positions.saturating_sub(self.start) / (self.world * batch_size)
    }
}

/// A sample's row, and what tells its random numbers from those of others in the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// The row of the dataset.
    pub row: u64,
    /// The row; or, where rows may come more than once, the position, marked as such.
    pub key: u64,
}

/// The mark of a position among keys: datasets have far fewer rows.
const POSITION: u64 = 1 << 63;

#[derive(Clone, Debug)]
enum Mix {
    None,
    Uniform(Permutation),
    /// With the window that was used last.
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
        }
    }

    /// The position in the epoch of this rank's sample at an index.
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

    /// This rank's samples from an index on: quicker than one by one.
    pub fn fill(&self, first: u64, drawn: &mut [Drawn]) {
        let indices = first..;
        for (drawn, index) in drawn.iter_mut().zip(indices) {
            drawn.key = self.position(index);
        }
        match &self.mix {
            Mix::None => drawn.iter_mut().for_each(|drawn| drawn.row = drawn.key),
            Mix::Uniform(permutation) => {
                for drawn in &mut *drawn {
                    drawn.row = permutation.at(drawn.key);
                }
            }
            Mix::Blockwise(blockwise, window) => {
                let mut window = window.borrow_mut();
                for drawn in &mut *drawn {
                    drawn.row = blockwise.at(drawn.key, &mut window);
                }
            }
        }
        let rows = &self.view.rows;
        let Some(weights) = &self.view.weights else {
            for drawn in drawn {
                drawn.row = rows.at(drawn.row);
                drawn.key = drawn.row;
            }
            return;
        };
        for drawn in drawn {
            drawn.row = rows.at(weights.draw(drawn.row, self.seed, self.epoch));
            drawn.key |= POSITION;
        }
    }

    /// Rows to be asked for before a batch is filled, in pieces that a disk reads at full speed: those of the next
    /// window where a new one begins, and at the beginning those of both. `before` is the batch before, if there was one;
    /// batches are given as indices.
    #[must_use]
    pub fn soon(&self, before: Option<Range<u64>>, batch: Range<u64>) -> Vec<Range<u64>> {
        let (Mix::Blockwise(blockwise, _), None) = (&self.mix, &self.view.weights) else {
            return Vec::new();
        };
        let window = |index: u64| blockwise.window_of(self.position(index));
        let first = before.map_or_else(|| window(batch.start), |before| window(before.end - 1) + 2);
        let runs = (first..window(batch.end - 1) + 2).flat_map(|number| blockwise.runs(number));
        runs.filter_map(|run| self.view.rows.piece(run)).collect()
    }

    /// The row at an index when the samples after it are the rows after it.
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
        plain.then(|| start + self.share.start + index)
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
