//! The format: how fields become Arrow columns, and what the manifest says of the shards. `FORMAT.md` is its prose.

mod arrow;
mod block;
mod entries;
mod manifest;
mod manifest_check;
mod manifest_read;
mod message;
mod ranges;

pub use arrow::arrow_schema;
pub(crate) use arrow::{file_children, tiles_item};
pub use block::{Block, Column, Tiles, text_of};
pub(crate) use block::{columns, row_crc};
pub use entries::{BlockEntry, ChunkEntry, ShardEntry};
pub use manifest::{Manifest, VERSION};
pub(crate) use manifest_check::check_provenance;
pub(crate) use message::read as read_message;
pub use ranges::{AudioRanges, FileRanges, ImageSizes};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// The column that holds each row's CRC32C.
pub const CRC_COLUMN: &str = "_crc32c";

/// The column that holds where a row came from, in datasets without a field of files.
pub const PATH_COLUMN: &str = "_path";

/// Buffers start at multiples of this, the width of a cache line and of the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Names of the small columns that go with an image field.
#[must_use]
pub fn image_columns(field: &str) -> [String; 4] {
    ["width", "height", "orientation", "tiles"].map(|what| format!("_{field}_{what}"))
}

/// Names of the small columns that go with an audio field.
#[must_use]
pub fn audio_columns(field: &str) -> [String; 3] {
    ["sample_rate", "channels", "frames"].map(|what| format!("_{field}_{what}"))
}
