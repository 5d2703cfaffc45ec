//! Turning the rows of a unit into one block: reading, checking, transforming and encoding images; reading and checking
//! audio.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::annotated::{Evidence, is_upright, moves_of, segmentations};
use super::boxes::check_lengths;
use super::byte_column::{ByteColumn, SpareRoom};
use super::file_column::{File, FileColumn};
use super::image_column::{MAX_ITEM, Stored};
use super::spec::{Check, Encode, Metadata, PackSpec, Seekable};
use super::staging::SkippedRow;
use super::streamed::{OpenFiles, streamed_file};
use super::units::{BLOCK_BYTES, join, paths};
use crate::caught::caught;
use crate::codec::{
    AudioFile, AudioLimits, Header, Transcoding, Waves, encode_jpeg, encode_png, seekable_jpeg,
};
use crate::error::{Error, OnError, Result};
use crate::format::{FileRanges, VERSION, arrow_schema};
use crate::imaging::{ImagePlan, ImageWorker, Moves};
use crate::memory;
use crate::pixels::{Depth, PixelFormat};
use crate::random::Key;
use crate::regular;
use crate::schema::{Field, Kind};
use crate::transform::{DecodeOptions, Layout, Operation};

/// What all threads of a pack share.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) spec: PackSpec,
    /// The fields as they are stored.
    pub(super) stored: Vec<Field>,
    pub(super) schema: SchemaRef,
    /// Where columns of files hold paths, the folder they are relative to.
    pub(super) root: Option<PathBuf>,
    files: OpenFiles,
    pub(super) source_paths: bool,
    /// For colour and for gray, and both for images that are turned upright.
    plans: [ImagePlan; 4],
    evidence: Evidence,
    pub(super) counters: Arc<Counters>,
    /// What the files of the next block are gathered in.
    pub(super) room: SpareRoom,
}

/// What a progress bar shows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rows: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) cancelled: AtomicBool,
}

impl Counters {
    pub(super) fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// A finished block.
#[derive(Debug)]
pub(super) struct Built {
    /// `None` when all rows were skipped.
    pub(super) batch: Option<RecordBatch>,
    pub(super) ranges: FileRanges,
    pub(super) skipped: Vec<SkippedRow>,
}

/// One thread's tools.
pub(super) struct Tools {
    workers: [ImageWorker; 4],
    waves: Waves,
    /// What the next file is read into that is stored as another: fresh memory takes as long as reading.
    spare: Vec<u8>,
}

/// Buffers beyond this are given back.
const KEEP_BYTES: usize = 4 << 20;
/// Room that is made for a column before its files are read.
const MAX_ROOM: u64 = 64 << 20;

impl Builder {
    pub(super) fn new(
        spec: PackSpec,
        stored: Vec<Field>,
        root: Option<PathBuf>,
        counters: Arc<Counters>,
        size: Option<[u32; 2]>,
    ) -> Result<Self> {
        let source_paths = root.is_some() && !stored.iter().any(Field::is_file);
        let plan = |channels, upright| {
            let mut operations = spec.operations(channels);
            if let (true, Some(Operation::Decode(options))) = (upright, operations.first_mut()) {
                options.exif_orientation = true;
            }
            ImagePlan::encoded("image", 0, &operations, Layout::Nhwc, size)
        };
        Ok(Self {
            schema: arrow_schema(&stored, source_paths, VERSION),
            plans: [
                plan(3, false)?,
                plan(1, false)?,
                plan(3, true)?,
                plan(1, true)?,
            ],
            evidence: Evidence::default(),
            spec,
            stored,
            root,
            files: OpenFiles::default(),
            source_paths,
            counters,
            room: SpareRoom::default(),
        })
    }

    pub(super) fn tools(&self) -> Result<Tools> {
        Ok(Tools {
            workers: [
                ImageWorker::new(&self.plans[0])?,
                ImageWorker::new(&self.plans[1])?,
                ImageWorker::new(&self.plans[2])?,
                ImageWorker::new(&self.plans[3])?,
            ],
            waves: Waves::default(),
            spare: Vec::new(),
        })
    }

    /// Builds the block of these rows of a table. `number` gives a row's number in the source, for messages.
    pub(super) fn build(
        &self,
        tools: &mut Tools,
        table: &RecordBatch,
        rows: &[u64],
        number: impl Fn(u64) -> u64,
    ) -> Result<Built> {
        let fields: Vec<&Field> = self.spec.fields.iter().filter(|f| f.is_file()).collect();
        let mut files: Vec<FileColumn> = fields.iter().map(|field| FileColumn::of(field)).collect();
        for (field, column) in fields.iter().zip(&mut files) {
            let room = self.room.take(self.room_for(table, field, rows)?);
            *column.bytes() = ByteColumn::within(room);
        }
        let (mut kept, mut skipped) = (Vec::with_capacity(rows.len()), Vec::new());
        for &row in rows {
            self.counters.check()?;
            let read = || -> Result<Vec<File>> {
                check_lengths(&self.spec.fields, table, row as usize, number(row))?;
                let each = fields.iter().zip(&mut files);
                each.map(|(field, column)| self.file(tools, table, (field, column), row as usize))
                    .collect()
            };
            match caught("packing it", read) {
                Ok(stored) => {
                    for (column, stored) in files.iter_mut().zip(&stored) {
                        column.push(stored, self.spec.encode == Encode::Raw)?;
                    }
                    kept.push(row);
                }
                Err(error @ Error::Internal { .. }) => {
                    // A codec that panicked may have left them in any state.
                    *tools = self.tools()?;
                    let error = Error::decode(error.to_string());
                    skipped.push(self.skip(table, &fields, row, number(row), error)?);
                }
                Err(error) => skipped.push(self.skip(table, &fields, row, number(row), error)?),
            }
            self.counters.rows.fetch_add(1, Ordering::Relaxed);
        }
        let ranges = self.ranges(&fields, &files);
        let batch = if kept.is_empty() {
            None
        } else {
            Some(self.assemble(table, &kept, files)?)
        };
        Ok(Built {
            batch,
            ranges,
            skipped,
        })
    }

    /// What is known of a unit's files.
    fn ranges(&self, fields: &[&Field], files: &[FileColumn]) -> FileRanges {
        let mut ranges = FileRanges::default();
        for (field, column) in fields.iter().zip(files) {
            let name = || field.name.clone();
            match column {
                FileColumn::Image(_) if self.spec.encode == Encode::Raw => {}
                FileColumn::Image(column) => {
                    (ranges.image_sizes).extend(column.sizes().map(|sizes| (name(), sizes)));
                }
                FileColumn::Audio(column) => {
                    (ranges.audio_ranges).extend(column.ranges().map(|ranges| (name(), ranges)));
                }
            }
        }
        ranges
    }

    /// Notes a row that is left out, or gives the error with its place.
    fn skip(
        &self,
        table: &RecordBatch,
        fields: &[&Field],
        row: u64,
        number: u64,
        error: Error,
    ) -> Result<SkippedRow> {
        let path = match (&self.root, fields.first()) {
            (Some(_), Some(field)) => paths(table, &field.name)?.value(row as usize).to_owned(),
            (None, Some(field)) => {
                let file = streamed_file(table, &field.name, row as usize)?;
                file.path.to_owned()
            }
            _ => String::new(),
        };
        let located = match error {
            Error::Decode { reason } if self.root.is_some() => {
                Error::decode(format!("{path}: {reason}"))
            }
            Error::Decode { reason } if path.is_empty() => {
                Error::decode(format!("row {number}: {reason}"))
            }
            Error::Decode { reason } => Error::decode(format!("row {number} ({path}): {reason}")),
            other => other,
        };
        let about_the_row = matches!(
            located,
            Error::Decode { .. } | Error::Io { .. } | Error::Source { .. }
        );
        if self.spec.on_error == OnError::Raise || !about_the_row {
            return Err(located);
        }
        self.counters.skipped.fetch_add(1, Ordering::Relaxed);
        Ok(SkippedRow {
            row: number,
            path,
            error: located.to_string(),
        })
    }

    /// Bytes that a column will have, more or less, where that is known; a column that grows is copied as it does.
    fn room_for(&self, table: &RecordBatch, field: &Field, rows: &[u64]) -> Result<usize> {
        let kept = field.kind == Kind::Audio || self.spec.encode == Encode::Original;
        if !kept {
            return Ok(0);
        }
        let mut bytes = 0;
        if self.root.is_some() {
            bytes = BLOCK_BYTES.min(self.spec.shard_size);
        } else {
            for &row in rows {
                bytes += streamed_file(table, &field.name, row as usize)?.size();
            }
        }
        if self.spec.seekable != Seekable::No {
            // Restart markers take two in a hundred.
            bytes += bytes / 32;
        }
        Ok(bytes.min(MAX_ROOM) as usize)
    }

    /// Reads a row's file, behind what is there, and gives its path.
    fn read(
        &self,
        bytes: &mut Vec<u8>,
        table: &RecordBatch,
        name: &str,
        row: usize,
    ) -> Result<String> {
        let before = bytes.len();
        let path = if let Some(root) = &self.root {
            let relative = paths(table, name)?.value(row);
            let path = join(root, relative, row)?;
            let mut file = regular::open_to_read(&path).map_err(Error::io(&path))?;
            let length = file.metadata().map_err(Error::io(&path))?.len();
            if length > MAX_ITEM {
                return Err(Error::decode(format!(
                    "{length} bytes: one item holds at most 2 GiB"
                )));
            }
            memory::reserve(bytes, length as usize)?;
            file.read_to_end(bytes).map_err(Error::io(&path))?;
            relative.to_owned()
        } else {
            let file = streamed_file(table, name, row)?;
            file.read(&self.files, bytes)?;
            file.path.to_owned()
        };
        self.counters
            .bytes
            .fetch_add((bytes.len() - before) as u64, Ordering::Relaxed);
        Ok(path)
    }

    fn file(
        &self,
        tools: &mut Tools,
        table: &RecordBatch,
        (field, column): (&Field, &mut FileColumn),
        row: usize,
    ) -> Result<File> {
        let (name, column) = (&field.name[..], column.bytes());
        if field.kind == Kind::Audio {
            return self.audio(tools, table, (name, column), row);
        }
        let image = if self.spec.encode == Encode::Original {
            self.kept(tools, table, (name, column), row)
        } else {
            self.encoded(tools, table, name, row)
        };
        image.map(File::Image)
    }

    /// Audio, which is stored as it came.
    fn audio(
        &self,
        tools: &mut Tools,
        table: &RecordBatch,
        (name, column): (&str, &mut ByteColumn),
        row: usize,
    ) -> Result<File> {
        let path = self.read(column.room(), table, name, row)?;
        let limits = AudioLimits::default();
        let waves = &mut tools.waves;
        let decode = self.spec.check == Check::Decode;
        let mut file = AudioFile::open(column.unkept(), None, &limits)?;
        file.check(decode, waves)?;
        Ok(File::Audio(path, *file.header()))
    }

    /// An image whose pixels stay what they are.
    fn kept(
        &self,
        tools: &mut Tools,
        table: &RecordBatch,
        (name, column): (&str, &mut ByteColumn),
        row: usize,
    ) -> Result<Stored> {
        let path = self.read(column.room(), table, name, row)?;
        let (bytes, place) = (column.unkept(), (table, row));
        let header = tools.workers[0].decoder().header(bytes)?;
        let upright = is_upright(&self.spec, &self.evidence, place, (name, &path), &header)?;
        tools.workers[0].check(bytes, &header, self.spec.check == Check::Decode)?;
        let moves = moves_of(&self.spec, name, &header, upright);
        let segmentations = segmentations(&self.spec, name, place, moves.as_ref())?;
        let (bytes, tiles) = self.seekable(bytes)?.unzip();
        Ok(Stored {
            bytes,
            path,
            width: header.width,
            height: header.height,
            orientation: header.orientation,
            tiles: tiles.unwrap_or_default(),
            moves,
            segmentations,
        })
    }

    /// An image that is transformed and encoded anew.
    fn encoded(
        &self,
        tools: &mut Tools,
        table: &RecordBatch,
        name: &str,
        row: usize,
    ) -> Result<Stored> {
        let mut source = std::mem::take(&mut tools.spare);
        source.clear();
        let path = self.read(&mut source, table, name, row)?;
        let header = tools.workers[0].decoder().header(&source)?;
        let place = (table, row);
        let upright = is_upright(&self.spec, &self.evidence, place, (name, &path), &header)?;
        let gray = header.channels == 1 && self.spec.encode != Encode::Raw;
        let at = usize::from(gray) + 2 * usize::from(upright);
        let (plan, worker) = (&self.plans[at], &mut tools.workers[at]);
        let moves = self.moves(plan, &header, upright)?;
        let (pixels, [height, width]) = transform(plan, worker, &source)?;
        if source.capacity() <= KEEP_BYTES {
            tools.spare = source;
        }
        let bytes = match self.spec.encode {
            Encode::Jpeg => {
                encode_jpeg(&pixels, width, height, plan.channels(), self.spec.quality)?
            }
            Encode::Png => {
                let format = PixelFormat {
                    channels: plan.channels(),
                    depth: Depth::Eight,
                };
                encode_png(&pixels, width, height, format)?
            }
            _ => {
                expect_size(&self.plans[0], [height, width])?;
                pixels
            }
        };
        // Pixels were turned or not as they were decoded; what is stored has no orientation of its own.
        Ok(Stored {
            bytes: Some(bytes),
            path,
            width,
            height,
            orientation: 1,
            tiles: Vec::new(),
            moves,
            segmentations: None,
        })
    }

    /// Where the places of an image go, if any boxes lie in it.
    fn moves(&self, plan: &ImagePlan, header: &Header, upright: bool) -> Result<Option<Moves>> {
        let boxes = (self.spec.fields.iter()).any(|field| matches!(field.kind, Kind::Boxes { .. }));
        boxes.then(|| plan.moves_of(header, upright)).transpose()
    }

    /// A file that is seekable, and where its tiles start, where that is asked for and can be.
    fn seekable(&self, bytes: &[u8]) -> Result<Option<(Vec<u8>, Vec<u32>)>> {
        match self.spec.seekable {
            Seekable::No => Ok(None),
            wanted => seekable_jpeg(
                bytes,
                &Transcoding {
                    max_pixels: self.spec.max_pixels,
                    drop_metadata: self.spec.metadata == Metadata::Drop,
                    only_where_it_pays: wanted == Seekable::Auto,
                },
            ),
        }
    }
}

fn expect_size(plan: &ImagePlan, found: [u32; 2]) -> Result<()> {
    if plan.size() == Some(found) {
        return Ok(());
    }
    let [height, width] = found;
    Err(Error::decode(format!(
        "{height} x {width} (height x width), but raw pixels must all have one size, here {:?}: resize or pad them",
        plan.size().unwrap_or_default()
    )))
}

/// Pixels and (height, width) of a transformed image.
fn transform(
    plan: &ImagePlan,
    worker: &mut ImageWorker,
    bytes: &[u8],
) -> Result<(Vec<u8>, [u32; 2])> {
    let mut pixels = Vec::new();
    let mut size = [0; 2];
    let (grown, found) = (&mut pixels, &mut size);
    let key = Key {
        seed: 0,
        epoch: 0,
        row: 0,
        field: 0,
    };
    worker.run_encoded(
        plan,
        bytes.into(),
        decode_options(plan),
        key.into(),
        move |height_width| {
            *found = height_width;
            let pixels = height_width[0] as usize * height_width[1] as usize;
            *grown = memory::zeros(pixels * plan.channels())?;
            Ok(&mut grown[..])
        },
    )?;
    Ok((pixels, size))
}

fn decode_options(plan: &ImagePlan) -> DecodeOptions {
    plan.decode_options().expect("made for encoded images")
}

/// The operations of a plan whose output size must be known before packing.
pub(super) fn needs_size(spec: &PackSpec) -> bool {
    let known = spec.ops.iter().fold(None, |size, operation: &Operation| {
        operation.output_size(size)
    });
    spec.encode == Encode::Raw && known.is_none()
}
