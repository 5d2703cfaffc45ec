//! fastshard's core: packed, memory-mapped datasets and ready batches for model training, without any Python.

mod block_index;
pub mod cache;
mod caught;
mod checksums;
pub mod codec;
#[cfg(target_arch = "x86_64")]
mod cpu;
pub mod dataset;
mod disk;
pub mod error;
pub mod format;
pub mod imaging;
pub mod ingest;
mod mapping;
pub mod mask;
pub mod memory;
pub mod order;
pub mod pipeline;
pub mod pixels;
pub mod random;
mod regular;
pub mod schema;
pub mod shard;
pub mod slot;
pub mod sound;
mod threads;
pub mod transform;
pub mod verify;
mod writer;

pub use caught::{caught, install_hook};
pub use crc32c::crc32c;
pub use dataset::Dataset;
pub use disk::{finish_replacing, replace_folder, sync_file_system};
pub use error::{Error, Result};
pub use mapping::Access;
pub use mapping::guard::keep as keep_guard;
pub use threads::available_threads;
