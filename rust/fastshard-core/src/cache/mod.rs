//! Decoded pixels, kept on disk and shared by all processes.
//!
//! What a field's transforms begin with, up to the first random one, gives the same pixels in every epoch of every
//! trial. An [`Entry`] holds those of one field: a sparse file with a place for each row, and a word that says whether
//! the row is there. There is no daemon, no lock around a row and no name in shared memory. A process that is killed
//! leaves whole rows, or none.
//!
//! `layout` says where everything is in the file, `entry` how rows are written and read, and `folder` how entries are
//! made, found and evicted.

mod entry;
mod folder;
mod layout;

pub use entry::{Entry, Lines, RowPlace};
pub use folder::{Folder, Listed, Wanted};
pub use layout::Sizes;
