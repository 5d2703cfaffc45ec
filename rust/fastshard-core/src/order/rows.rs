//! Views: which rows of a dataset an order runs over.

use std::ops::Range;

/// Which rows of a dataset an order runs over: a view.
#[derive(Clone, Debug)]
pub enum Rows {
    /// `start, start + step, ...`, `count` of them.
    Range {
        /// The first row.
        start: u64,
        /// The distance from one row to the next; may be negative.
        step: i64,
        /// How many rows.
        count: u64,
    },
    /// Any rows in any order.
    List(Vec<u64>),
}

impl Rows {
    /// How many rows the view has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(rows) => rows.len() as u64,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of the dataset at an index of the view.
    #[must_use]
    pub fn at(&self, index: u64) -> u64 {
        match self {
            Self::Range { start, step, .. } => start.wrapping_add_signed(step * index as i64),
            Self::List(rows) => rows[index as usize],
        }
    }

    /// The range of dataset rows that holds the rows at these indices, if at least about half of the range are such
    /// rows.
    #[must_use]
    pub fn piece(&self, indices: Range<u64>) -> Option<Range<u64>> {
        let (first, last) = (self.at(indices.start), self.at(indices.end - 1));
        let length = last.checked_sub(first)? + 1;
        (length / 2 <= indices.end - indices.start).then(|| first..last + 1)
    }

    /// Whether every row lies below `limit`.
    #[must_use]
    pub fn all_below(&self, limit: u64) -> bool {
        match self {
            Self::Range { count: 0, .. } => true,
            Self::Range { start, step, count } => {
                let last = i128::from(*start) + i128::from(*step) * i128::from(count - 1);
                *start < limit && (0..i128::from(limit)).contains(&last)
            }
            Self::List(rows) => rows.iter().all(|&row| row < limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_stay_inside() {
        let range = |start, step, count| Rows::Range { start, step, count };
        assert!(range(9, -3, 4).all_below(10));
        assert!(!range(9, -3, 5).all_below(10));
        assert!(!range(0, 5, 3).all_below(10));
        assert!(!range(0, i64::MAX, u64::MAX).all_below(10));
        assert_eq!(range(9, -3, 4).at(3), 0);
        assert!(!Rows::List(vec![1, 10]).all_below(10));
    }
}
