//! What each thread does: claim rows, and fill them in.
//!
//! A claim is one row where anything is decoded, and else as many rows as make 128 KiB. A plan that only copies goes
//! through `Gather`; if that fails, or the plan does more, rows are filled one by one. An error is noted in the batch
//! with its row, and the other rows go on.
//!
//! Threads share the plan and the order, and write to disjoint rows of the batch, so filling takes no lock. Everything
//! that is expensive to make (decoders, scratch) belongs to the thread and is reused. After a panic it is thrown away,
//! since a codec may have left it in any state.

use std::time::Instant;

use super::audio::{AudioWorker, values_of};
use super::batch::{Claim, OpenBatch};
use super::gather::Gather;
use crate::caught::caught;
use crate::dataset::{Place, not_as_planned};
use crate::error::{Error, Result};
use crate::format::Column;
use crate::imaging::{ImagePlan, ImageWorker, Piece, Times};
use crate::memory;
use crate::order::{Drawn, Order};
use crate::pipeline::plan::{AudioPlan, Plan, PlannedField, Work};
use crate::pixels::Scratch;
use crate::random::Key;

/// Bytes of rows that one claim takes: enough to make the claim itself negligible, few enough to keep all threads busy.
const CLAIM_BYTES: usize = 128 << 10;

/// How many rows to claim at once.
pub(in crate::pipeline) fn claim_rows(plan: &Plan) -> usize {
    if plan.fields.iter().any(PlannedField::is_decoded) {
        return 1;
    }
    let row_bytes: usize = plan.fields.iter().map(|field| field.row_bytes).sum();
    (CLAIM_BYTES / row_bytes.max(1)).max(1)
}

/// One thread's tools.
pub(in crate::pipeline) struct Worker<'a> {
    plan: &'a Plan,
    order: &'a Order<'a>,
    epoch: u64,
    images: Vec<Option<ImageWorker>>,
    audio: Vec<AudioWorker>,
    /// For plans that only copy.
    gather: Option<Gather>,
    /// Scratch of batch transforms.
    saved: Scratch,
    /// Whether whole rows are compared with their checksums: only where fields are decoded or lists, which costs more
    /// anyway.
    check: bool,
    /// Whether anything is decoded; else checksums by the chunk will do, which don't need the bytes of other fields.
    decodes: bool,
}

impl<'a> Worker<'a> {
    /// A worker; `gather` must be of the same plan.
    pub(in crate::pipeline) fn new(
        plan: &'a Plan,
        order: &'a Order<'a>,
        epoch: u64,
        gather: Option<Gather>,
    ) -> Self {
        let decodes = plan.fields.iter().any(PlannedField::is_decoded);
        let varies = |field: &PlannedField| matches!(field.work, Work::List | Work::Sequence(_));
        Self {
            plan,
            order,
            epoch,
            images: plan.fields.iter().map(|_| None).collect(),
            audio: plan.fields.iter().map(|_| AudioWorker::default()).collect(),
            gather,
            saved: Scratch::default(),
            check: plan.spec.verify && (decodes || plan.fields.iter().any(varies)),
            decodes,
        }
    }

    /// Fills the claimed rows; what fails is noted in the batch.
    pub(in crate::pipeline) fn run(&mut self, claim: &Claim) {
        let started = Instant::now();
        if !self.gather(claim) {
            self.rows(claim);
        }
        let mut times = Times::default();
        let images = self.images.iter_mut().flatten();
        let images = images.map(ImageWorker::take_times);
        for spent in images.chain(self.audio.iter_mut().map(AudioWorker::take_times)) {
            times.decode += spent.decode;
            times.resample += spent.resample;
        }
        self.plan.counters.worked(started, times);
    }

    /// Returns the `gather` that it was made with.
    pub(in crate::pipeline) fn into_gather(self) -> Option<Gather> {
        self.gather
    }

    /// Whether all claimed rows could be gathered. If not, filling them row by row shows what is wrong.
    fn gather(&mut self, claim: &Claim) -> bool {
        let Some(gather) = &mut self.gather else {
            return false;
        };
        let run = || gather.run(self.plan, self.order, claim);
        caught("copying rows", run).is_ok()
    }

    fn rows(&mut self, claim: &Claim) {
        for row in claim.start..claim.start + claim.count {
            let filled = caught("decoding", || self.row(&claim.batch, row));
            if let Err(error) = filled {
                if matches!(error, Error::Internal { .. }) {
                    self.renew_tools();
                }
                claim.batch.fail(self.plan, self.order, row, error);
            }
        }
    }

    /// Runs what is done to the batch as a whole; for the worker that filled its last row.
    pub(in crate::pipeline) fn complete(&mut self, batch: &OpenBatch) {
        batch.complete(self.plan, self.order, self.epoch, &mut self.saved);
    }

    /// A codec that panicked may have left its scratch in any state.
    fn renew_tools(&mut self) {
        self.images.iter_mut().for_each(|image| *image = None);
        self.audio
            .iter_mut()
            .for_each(|audio| *audio = AudioWorker::default());
    }

    fn row(&mut self, batch: &OpenBatch, at: usize) -> Result<()> {
        let dataset = &self.plan.dataset;
        let drawn = self.order.at(batch.first + at as u64);
        let row = drawn.row;
        #[cfg(test)]
        crate::caught::inject::point("row", self.plan.spec.seed, row);
        let place = dataset.locate(row)?;
        let filled = self.fill_row(batch, at, drawn, &place);
        // Zeros in the place of missing pages can have become anything.
        dataset.check_lost(&place)?;
        filled
    }

    /// Compares a row with its own checksum if files are decoded, and else its fields of fixed size by the chunk.
    fn check(&self, place: &Place<'_>) -> Result<()> {
        let dataset = &self.plan.dataset;
        let by_row = self.decodes || !dataset.has_chunks(place);
        if self.check && by_row && !self.is_kept(place.number) {
            return dataset.check(place);
        }
        let is_sound = |field: &PlannedField| match place.block.column(field.index) {
            Column::Image { .. } | Column::Audio { .. } => true,
            column => dataset.is_sound(place, column.piece(place.row..place.row + 1)),
        };
        if self.plan.spec.verify && !self.plan.fields.iter().all(is_sound) {
            return dataset.check(place);
        }
        Ok(())
    }

    fn fill_row(
        &mut self,
        batch: &OpenBatch,
        at: usize,
        drawn: Drawn,
        place: &Place<'_>,
    ) -> Result<()> {
        let (plan, dataset, row) = (self.plan, &self.plan.dataset, drawn.row);
        self.check(place)?;
        for (index, field) in plan.fields.iter().enumerate() {
            if let Work::Sequence(sequence) = &field.work {
                let length = sequence.stored_elements(plan, field.index, drawn, self.epoch);
                (length.and_then(|length| sequence.check(length)))
                    .map_err(|error| dataset.blame(row, place, error))?;
            }
            if let Work::Audio(audio) = &field.work
                && let Some(sequence) = audio.sequence()
            {
                let made = self.sound(index, audio, drawn, place);
                let kept = made.and_then(|made| {
                    sequence.check(made.len())?;
                    batch.keep(index, at, made);
                    Ok(())
                });
                kept.map_err(|error| dataset.blame(row, place, error))?;
            }
            if field.row_bytes == 0 || batch.is_view(index) {
                continue;
            }
            // SAFETY: each row of a batch is claimed by one thread, once, before the batch is handed over; fields
            // don't overlap.
            #[expect(unsafe_code, reason = "threads fill one slot together")]
            let out = unsafe {
                batch
                    .lease
                    .part(field.offset + at * field.row_bytes, field.row_bytes)
            };
            self.fill(index, field, drawn, place, out)
                .map_err(|error| dataset.blame(row, place, error))?;
        }
        Ok(())
    }

    /// Whether nothing of a row is decoded or handed over as a list.
    fn is_kept(&self, row: u64) -> bool {
        self.plan.fields.iter().all(|field| match &field.work {
            Work::Image(image) => image.is_kept(row),
            Work::Audio(_) | Work::List | Work::Sequence(_) => false,
            Work::Copy | Work::Label(_) => true,
        })
    }

    fn key(&self, field: usize, drawn: Drawn) -> Key {
        Key {
            seed: self.plan.spec.seed,
            epoch: self.epoch,
            row: drawn.key,
            field: self.plan.fields[field].index as u64,
        }
    }

    /// The waveform of a field whose samples differ in length.
    fn sound(
        &mut self,
        index: usize,
        audio: &AudioPlan,
        drawn: Drawn,
        place: &Place<'_>,
    ) -> Result<Vec<f32>> {
        let key = self.key(index, drawn);
        let mut made = Vec::new();
        let grown = &mut made;
        self.audio[index].run(audio, place, key, |shape| {
            *grown = memory::zeros(values_of(shape))?;
            Ok(&mut grown[..])
        })?;
        Ok(made)
    }

    fn fill(
        &mut self,
        index: usize,
        field: &PlannedField,
        drawn: Drawn,
        place: &Place<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let key = self.key(index, drawn);
        match (&field.work, place.block.column(field.index)) {
            (Work::Audio(audio), _) => self.audio[index].run(audio, place, key, |shape| {
                expect_shape(&field.shape, shape).map(|()| bytemuck::cast_slice_mut(out))
            }),
            (Work::Image(image), _) => {
                let worker = match &mut self.images[index] {
                    Some(worker) => worker,
                    none => none.insert(ImageWorker::new(image)?),
                };
                let key = Key {
                    field: image.draws_as as u64,
                    ..key
                };
                let (plan, check) = (self.plan, self.check);
                let fits = |place: &Place<'_>| {
                    if image.draws_as == field.index {
                        return Ok(());
                    }
                    check_sizes(plan, field.index, image, place)
                };
                let out = |found| expect_size(image.size(), found).map(|()| out);
                let pieces = plan.pieces(Some(image), drawn, key);
                if let [_] = pieces[..] {
                    fits(place)?;
                    return worker.run(image, place, key.into(), out);
                }
                let blame = |row, place: &Place<'_>, error| plan.dataset.blame(row, place, error);
                let find = |piece: &Piece| {
                    let place = plan.piece(piece, image, check)?;
                    fits(&place).map_err(|error| blame(piece.row, &place, error))?;
                    Ok(place)
                };
                worker.join(image, &pieces, find, blame, out)
            }
            (Work::Label(shares), Column::Fixed { values, row_bytes }) => {
                let stored = &values[place.row * row_bytes..][..*row_bytes];
                shares
                    .write(stored, bytemuck::cast_slice_mut(out))
                    .map_err(|value| Error::Label {
                        dataset: self.plan.dataset.folder(place).to_owned(),
                        row: drawn.row,
                        field: field.name.clone(),
                        value,
                        num_classes: field.shape[0],
                    })
            }
            (_, Column::Fixed { values, row_bytes }) => {
                out.copy_from_slice(&values[place.row * row_bytes..][..*row_bytes]);
                if let Some(scale) = &field.scale {
                    scale.apply(out);
                }
                Ok(())
            }
            _ => Err(not_as_planned(&field.name)),
        }
    }
}

fn expect_shape(expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::decode(format!(
        "comes out in shape {found:?}, but batches hold {expected:?}"
    )))
}

fn expect_size(expected: Option<[u32; 2]>, found: [u32; 2]) -> Result<()> {
    if expected == Some(found) {
        return Ok(());
    }
    let sides = |[height, width]: [u32; 2]| format!("{height} x {width}");
    let wanted = expected.map_or_else(|| "nothing of one size".into(), sides);
    Err(Error::decode(format!(
        "comes out as {} (height x width), but batches hold {wanted}",
        sides(found)
    )))
}

/// Refuses a row whose image has another size than the image that it follows: crops and warps would not match.
fn check_sizes(plan: &Plan, index: usize, image: &ImagePlan, place: &Place<'_>) -> Result<()> {
    let fields = plan.dataset.fields();
    let followed = image.draws_as;
    let loaded = plan.fields.iter().find(|field| field.index == followed);
    let loaded = loaded.and_then(|field| field.image());
    let own = ImagePlan::pose(Some(image), &fields[index], place, index)?.size();
    let others = ImagePlan::pose(loaded, &fields[followed], place, followed)?.size();
    if own == others {
        return Ok(());
    }
    Err(Error::decode(format!(
        "{:?} is {} x {} (width x height), and {:?}, which it follows, {} x {}",
        fields[index].name, own.0, own.1, fields[followed].name, others.0, others.1
    )))
}
