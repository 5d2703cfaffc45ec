//! A dataset of one shard that may be anything, read in every way: what `shard` and `offsets` have in common.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastshard_core::format::{BlockEntry, FileRanges, Manifest, ShardEntry};
use fastshard_core::imaging::read_image;
use fastshard_core::order::{Rows, View};
use fastshard_core::pipeline::{Loader, Pass, Poll, Spec, read_audio};
use fastshard_core::schema::{Field, Kind};
use fastshard_core::verify::Verify;
use fastshard_core::{Access, Dataset};
use serde_json::json;

/// Longer than any input takes, and shorter than what libFuzzer calls a hang.
const PATIENCE: Duration = Duration::from_secs(8);
const MOST_ROWS: u64 = 16;

/// A folder of this process, below `TMPDIR`; whoever started it removes that.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("fastshard-fuzz-{}", std::process::id()));
        fs::create_dir_all(path.join("ds")).unwrap();
        path
    })
}

/// Leaves panics of Arrow's to whoever catches them: the reader of blocks does, and says that the block is corrupt. Where
/// nobody catches one, the run ends with it all the same.
fn allow_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_arrows = info.location().is_some_and(|place| place.file().contains("/arrow-"));
            if !is_arrows {
                abort(info);
            }
        }));
    });
}

/// Writes the dataset with a manifest that fits, as far as a manifest can, and reads it.
pub fn read_shard(fields: Vec<Field>, block: BlockEntry, shard: &[u8]) {
    allow_caught_panics();
    let path = folder().join("ds");
    let entry = json!({
        "file": "shard-00000.arrow", "rows": block.rows, "bytes": shard.len(), "blake3": "", "blocks": [block],
    });
    let entry: ShardEntry = serde_json::from_value(entry).unwrap();
    let ranges = FileRanges::default();
    let manifest = Manifest::new(fields, false, ranges, vec![entry], json!({}));
    fs::write(path.join("shard-00000.arrow"), shard).unwrap();
    fs::write(path.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let Ok(dataset) = Dataset::open(&path, Access::Read) else {
        return;
    };
    let dataset = Arc::new(dataset);
    verify(&dataset);
    for row in 0..dataset.rows().min(MOST_ROWS) {
        read_row(&dataset, row);
    }
    for verify in [false, true] {
        load(&dataset, verify);
    }
}

fn verify(dataset: &Arc<Dataset>) {
    let Ok(verify) = Verify::start(dataset, 1) else {
        return;
    };
    let started = Instant::now();
    while !verify.is_finished() {
        assert!(started.elapsed() < PATIENCE, "verify hangs");
        sleep(Duration::from_micros(20));
    }
    let _ = verify.problems();
}

fn read_row(dataset: &Dataset, row: u64) {
    let _ = dataset.check_rows([row]);
    let Ok(place) = dataset.locate(row) else {
        return;
    };
    for (at, field) in dataset.fields().iter().enumerate() {
        let column = place.block.column(at);
        let _ = column.length(place.row);
        match field.kind {
            Kind::Image => drop(read_image(dataset, row, &field.name, &[])),
            Kind::Audio => drop(read_audio(dataset, row, &field.name)),
            _ => {}
        }
    }
}

/// A pass with a crop of every image that there is, as in training.
fn load(dataset: &Arc<Dataset>, verify: bool) {
    let crop = json!([{"op": "random_resized_crop", "size": [16, 16], "scale": [0.08, 1.0], "ratio": [0.75, 1.3],
        "interpolation": "bilinear", "antialias": true}]);
    let images = dataset.fields().iter().filter(|field| field.kind == Kind::Image);
    let transforms: serde_json::Map<_, _> = images.map(|field| (field.name.clone(), crop.clone())).collect();
    let spec: Spec = serde_json::from_value(json!({
        "batch_size": 4, "num_threads": 1, "shuffle": "uniform", "on_error": "skip", "verify": verify,
        "transforms": transforms,
    }))
    .unwrap();
    let view = View { rows: Rows::Range { start: 0, step: 1, count: dataset.rows().min(MOST_ROWS) }, weights: None };
    let Ok(loader) = Loader::new(dataset.clone(), view, spec) else {
        return;
    };
    let Ok(mut batches) = loader.iterate(Pass { epoch: 0, start: 0, first: 0, step: 1, views: true }) else {
        return;
    };
    let started = Instant::now();
    loop {
        match batches.poll(Duration::from_millis(10)) {
            Ok(Poll::Ready(batch)) => assert!(batch.rows <= 4),
            Ok(Poll::Pending) => assert!(started.elapsed() < PATIENCE, "the loader hangs"),
            Ok(Poll::End) | Err(_) => return,
        }
    }
}
