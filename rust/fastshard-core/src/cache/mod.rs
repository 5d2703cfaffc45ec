//! Decoded pixels, kept on disk and shared by all processes.
//!
//! What a field's transforms begin with, up to the first random one, gives the same pixels in every epoch of every trial.
//! An [`Entry`] holds those of one field: a sparse file with a place for each row, and a word that says whether the
//! row is there. There is no daemon, no lock around a row and no name in shared memory: a process that is killed leaves
//! rows, or none.

mod entry;
mod folder;
mod layout;

pub use entry::{Entry, Lines, RowPlace};
pub use folder::{Folder, Listed, Wanted};
pub use layout::Sizes;
