//! The arrays of a batch, before there is one.

use crate::schema::Dtype;

/// What the first dimension of an array in a batch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Samples.
    Samples,
    /// Elements of all samples' lists.
    Elements,
    /// Where those of each sample start, and those of the last one end.
    Bounds,
}

/// An array in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name: that of the field, or one made from it.
    pub name: String,
    /// Its element type; `None` for text and bytes.
    pub dtype: Option<Dtype>,
    /// What its first dimension counts.
    pub rows: Rows,
    /// The dimensions behind it; `None` for those that differ between batches.
    pub shape: Vec<Option<usize>>,
    /// Whether it is text (else, without a dtype, bytes).
    pub text: bool,
}
