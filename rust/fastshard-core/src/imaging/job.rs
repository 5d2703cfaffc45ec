//! What is wanted of one image.

use crate::pixels::Rect;
use crate::random::Key;
use crate::transform::Tile;

/// Bits of a key's field that fields take: the number of a mosaic's image lies above them.
const FIELD_BITS: u32 = 24;

/// What is wanted of an image: whose random numbers are drawn for it, and which part of a mosaic it becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) key: Key,
    /// Without: all of the list is done to it.
    pub(crate) tile: Option<Tile>,
    /// The part of the tile that is wanted.
    pub(crate) window: Option<Rect>,
}

impl From<Key> for Job {
    fn from(key: Key) -> Self {
        Self {
            key,
            tile: None,
            window: None,
        }
    }
}

impl Job {
    /// For what comes before a mosaic: each of its images draws numbers of its own.
    pub(super) fn own_key(&self) -> Key {
        let number = self.tile.map_or(0, Tile::number);
        let field = self.key.field | u64::from(number) << FIELD_BITS;
        Key { field, ..self.key }
    }
}
