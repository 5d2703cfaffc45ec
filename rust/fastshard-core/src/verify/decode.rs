//! Decoding every image and sound of a dataset, to find the rows that can't be.
//!
//! Rows are claimed in small runs, so that one shard keeps all threads busy. A row whose checksum differs is left to the
//! check of the bytes, which reports it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Problem, Shared, Verify};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::pipeline::RowDecoder;

/// Rows that a thread claims at once.
const RUN: usize = 8;

impl Verify {
    /// Starts decoding all rows on this many threads. Progress counts rows.
    pub fn decode(dataset: &Arc<Dataset>, threads: usize) -> Result<Self> {
        let total = dataset.rows();
        let runs = usize::try_from(total.div_ceil(RUN as u64)).unwrap_or(usize::MAX);
        let mut this = Self {
            shared: Arc::new(Shared::default()),
            total,
            threads: Vec::new(),
        };
        for _ in 0..threads.clamp(1, runs.max(1)) {
            let (shared, dataset) = (this.shared.clone(), dataset.clone());
            let decoder = RowDecoder::new(&dataset)?;
            let thread = std::thread::Builder::new()
                .name("fastshard-decode".into())
                .spawn(move || decode_rows(&shared, &dataset, decoder));
            this.threads
                .push(thread.map_err(Error::io("starting a thread"))?);
        }
        Ok(this)
    }
}

fn decode_rows(shared: &Shared, dataset: &Dataset, mut decoder: RowDecoder) {
    loop {
        let first = shared.next.fetch_add(RUN, Ordering::Relaxed) as u64;
        if first >= dataset.rows() {
            return;
        }
        for row in first..dataset.rows().min(first + RUN as u64) {
            if shared.cancelled.load(Ordering::Relaxed) {
                return;
            }
            decode_row(shared, dataset, row, &mut decoder);
            shared.bytes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn decode_row(shared: &Shared, dataset: &Dataset, row: u64, decoder: &mut RowDecoder) {
    // What the check of the bytes reports: a block that can't be read, or a row that was altered.
    let Ok(place) = dataset.locate(row) else {
        return;
    };
    if place.block.check(place.row).is_err() {
        return;
    }
    for (field, error) in decoder.failures(&place) {
        let source = place.block.source_path(place.row);
        shared.report(Problem {
            shard: dataset.shard_of(&place).entry().file.clone(),
            row: Some(row),
            reason: format!("field {field:?} can't be decoded: {error} (source {source:?})"),
        });
    }
}
