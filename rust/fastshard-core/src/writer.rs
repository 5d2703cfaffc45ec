//! Writing one shard: a temporary file, hashed on the way, renamed when it is whole and on disk.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use arrow_array::RecordBatch;
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::read_footer_length;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Footer, root_as_footer};
use arrow_schema::{ArrowError, SchemaRef};

use crate::checksums::ChunkSums;
use crate::disk;
use crate::error::{Error, Result};
use crate::format::{ALIGNMENT, Block, BlockEntry, ChunkEntry, ShardEntry, read_message};
use crate::mapping::{self, Access};
use crate::schema::Field;

/// Bytes of a buffer that is hashed while it is written; starting a thread takes as long as hashing a tenth of it.
const SIDE_BY_SIDE: usize = 4 << 20;

/// Hashes and counts what passes.
struct Hashing {
    file: BufWriter<File>,
    hash: blake3::Hasher,
    sums: ChunkSums,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() < SIDE_BY_SIDE {
            self.file.write_all(bytes)?;
            hash(&mut self.hash, &mut self.sums, bytes);
        } else {
            self.write_side_by_side(bytes)?;
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Takes bytes in by pieces that stay in the processor's cache for both.
fn hash(whole: &mut blake3::Hasher, sums: &mut ChunkSums, bytes: &[u8]) {
    for piece in bytes.chunks(PIECE) {
        whole.update(piece);
        sums.update(piece);
    }
}

impl Hashing {
    /// The one thread that writes is what packing waits for, when nothing has to be encoded.
    fn write_side_by_side(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Self {
            file,
            hash: whole,
            sums,
            ..
        } = self;
        std::thread::scope(|scope| {
            let hashing =
                std::thread::Builder::new().spawn_scoped(scope, || hash(whole, sums, bytes))?;
            let written = write_in_pieces(file, bytes);
            hashing
                .join()
                .map_err(|_| std::io::Error::other("hashing panicked"))?;
            written
        })
    }
}

/// Bytes of one call. The kernel keeps what one call writes in pages as large, and looks for those among memory that it has
/// not used for long; where it runs in a virtual machine, the host may have taken that away.
const PIECE: usize = 256 << 10;

fn write_in_pieces(file: &mut BufWriter<File>, bytes: &[u8]) -> std::io::Result<()> {
    file.flush()?;
    bytes
        .chunks(PIECE)
        .try_for_each(|piece| file.get_mut().write_all(piece))
}

/// Bytes that may wait in memory before the disk gets them.
const SYNC_BYTES: u64 = 16 << 20;

/// Brings what was written to disk while more is being written, so that little is left to wait for in the end. A thread
/// and `fdatasync`, where `sync_file_range` would do, because that tells of no errors.
struct EarlySync {
    file: File,
    waiting: u64,
    running: Option<JoinHandle<std::io::Result<()>>>,
}

impl EarlySync {
    fn new(file: &File) -> std::io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            waiting: 0,
            running: None,
        })
    }

    fn written(&mut self, bytes: u64) -> std::io::Result<()> {
        self.waiting += bytes;
        let is_busy = self.running.as_ref().is_some_and(|one| !one.is_finished());
        if self.waiting < SYNC_BYTES || is_busy {
            return Ok(());
        }
        self.waiting = 0;
        self.join()?;
        let file = self.file.try_clone()?;
        self.running = Some(std::thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// An error of the disk is told once, perhaps to this thread and not to the one that syncs in the end.
    fn join(&mut self) -> std::io::Result<()> {
        let done = self.running.take().map(JoinHandle::join);
        done.map_or(Ok(()), |result| {
            result.unwrap_or_else(|_| Err(std::io::Error::other("syncing panicked")))
        })
    }
}

/// A shard that is being written.
pub(crate) struct ShardWriter {
    folder: PathBuf,
    name: String,
    temporary: PathBuf,
    schema: SchemaRef,
    inner: Option<FileWriter<Hashing>>,
    early: EarlySync,
    rows: Vec<u64>,
}

fn failed(path: &Path) -> impl Fn(ArrowError) -> Error + '_ {
    move |error| match error {
        ArrowError::IoError(_, source) => Error::Io {
            path: path.to_owned(),
            source,
        },
        other => Error::source(format!("{}: {other}", path.display())),
    }
}

impl ShardWriter {
    pub(crate) fn create(folder: &Path, name: &str, schema: &SchemaRef) -> Result<Self> {
        let temporary = folder.join(format!("{name}.tmp"));
        let file = disk::create_anew(&temporary).map_err(Error::io(&temporary))?;
        let early = EarlySync::new(&file).map_err(Error::io(&temporary))?;
        let sink = Hashing {
            file: BufWriter::with_capacity(1 << 20, file),
            hash: blake3::Hasher::new(),
            sums: ChunkSums::default(),
            bytes: 0,
        };
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
            .map_err(failed(&temporary))?;
        let inner =
            FileWriter::try_new_with_options(sink, schema, options).map_err(failed(&temporary))?;
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            temporary: temporary.clone(),
            schema: schema.clone(),
            inner: Some(inner),
            early,
            rows: Vec::new(),
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let inner = self.inner.as_mut().expect("present until finished");
        inner.write(batch).map_err(failed(&self.temporary))?;
        self.rows.push(batch.num_rows() as u64);
        let bytes = batch.get_array_memory_size() as u64;
        (self.early.written(bytes)).map_err(Error::io(&self.temporary))
    }

    /// Ends the file, brings it to disk, reads its index back and gives it its name.
    pub(crate) fn finish(mut self, fields: &[Field]) -> Result<ShardEntry> {
        let mut inner = self.inner.take().expect("finished once");
        let (covered, sums) = (inner.get_ref().bytes, inner.get_ref().sums.text());
        inner.write_metadata(CHUNKS, sums);
        let mut sink = finish_file(inner).map_err(failed(&self.temporary))?;
        let io = |source| Error::io(&self.temporary)(source);
        sink.flush().map_err(io)?;
        self.early.join().map_err(io)?;
        sink.file.get_ref().sync_all().map_err(io)?;
        let (footer, start) = read_footer(&self.temporary)?;
        let footer = root_as_footer(&footer).map_err(|error| {
            Error::corrupt(&self.temporary, format!("footer just written: {error}"))
        })?;
        let blocks = self.index(&footer, sink.bytes, fields)?;
        let chunks = chunk_entry(&footer, start, covered);
        let path = self.folder.join(&self.name);
        disk::rename(&self.temporary, &path)?;
        Ok(ShardEntry {
            file: self.name.clone(),
            rows: self.rows.iter().sum(),
            bytes: sink.bytes,
            blake3: sink.hash.finalize().to_hex().to_string(),
            blocks,
            chunks,
        })
    }

    /// The blocks as the file's own footer lists them.
    fn index(&self, footer: &Footer<'_>, bytes: u64, fields: &[Field]) -> Result<Vec<BlockEntry>> {
        let bad = |reason: String| Error::corrupt(&self.temporary, reason);
        let listed = footer
            .recordBatches()
            .map(|blocks| blocks.iter().copied().collect::<Vec<_>>());
        let mapped = mapping::map(&self.temporary, bytes, Access::Read)?;
        let mut entries = Vec::new();
        for (block, &rows) in listed.unwrap_or_default().iter().zip(&self.rows) {
            let start = block.offset() as usize;
            let header = block.metaDataLength() as usize;
            let message =
                (mapped.data).slice_with_length(start, header + block.bodyLength() as usize);
            let read = read_message(&self.schema, &message, header, rows).map_err(bad)?;
            let parsed = Block::new(&read.batch, fields).map_err(bad)?;
            entries.push(BlockEntry {
                offset: start as u64,
                metadata_bytes: header as u64,
                body_bytes: block.bodyLength() as u64,
                rows,
                index_crc32c: parsed.index_crc(&message[..header], Some(read.index)),
            });
        }
        Ok(entries)
    }
}

/// The name of the checksums in the footer's metadata.
const CHUNKS: &str = "fastshard.chunks";

/// Where the checksums by the chunk are, of a footer that starts at this byte of its file.
fn chunk_entry(footer: &Footer<'_>, start: u64, covered: u64) -> Option<ChunkEntry> {
    let listed = footer.custom_metadata()?;
    let of_chunks = listed.iter().find(|one| one.key() == Some(CHUNKS))?;
    let text = of_chunks.value()?.as_bytes();
    let inside = text.as_ptr().addr() - footer._tab.buf().as_ptr().addr();
    Some(ChunkEntry {
        covered,
        offset: start + inside as u64,
        bytes: text.len() as u64,
        crc32c: crc32c::crc32c(text),
    })
}

fn finish_file(mut inner: FileWriter<Hashing>) -> Result<Hashing, ArrowError> {
    inner.finish()?;
    inner.into_inner()
}

/// The footer, and where it starts.
fn read_footer(path: &Path) -> Result<(Vec<u8>, u64)> {
    let read = || -> std::io::Result<(Vec<u8>, u64)> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-10))?;
        let mut tail = [0; 10];
        file.read_exact(&mut tail)?;
        let length = read_footer_length(tail).map_err(std::io::Error::other)?;
        let start = file.seek(SeekFrom::End(-10 - length as i64))?;
        let mut footer = vec![0; length];
        file.read_exact(&mut footer)?;
        Ok((footer, start))
    };
    read().map_err(Error::io(path))
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // What failed before is told already, and nothing may write behind the back of a next try.
        let _ = self.early.join();
        // Renamed by now if all went well; otherwise half a shard helps nobody.
        let _ = disk::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_written_and_hashed_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        let file = File::create(&path).unwrap();
        let mut early = EarlySync::new(&file).unwrap();
        let mut sink = Hashing {
            file: BufWriter::with_capacity(1 << 20, file),
            hash: blake3::Hasher::new(),
            sums: ChunkSums::default(),
            bytes: 0,
        };
        let pieces = [100, SIDE_BY_SIDE - 1, SIDE_BY_SIDE, SIDE_BY_SIDE + 77, 3];
        let mut expected = Vec::new();
        for (at, length) in pieces.into_iter().enumerate() {
            let piece: Vec<u8> = (0..length).map(|byte| (byte * (at + 3)) as u8).collect();
            sink.write_all(&piece).unwrap();
            early.written(SYNC_BYTES / 2).unwrap();
            expected.extend(piece);
        }
        sink.flush().unwrap();
        early.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(sink.hash.finalize(), blake3::hash(&expected));
        assert_eq!(sink.bytes, expected.len() as u64);
    }
}
