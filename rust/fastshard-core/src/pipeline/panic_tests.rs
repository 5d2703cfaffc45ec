//! A panic anywhere in a loader ends its pass, or leaves a sample out; nobody waits for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch};
use serde_json::json;

use super::{Loader, Pass, Poll, Spec};
use crate::caught::inject::arm;
use crate::dataset::Dataset;
use crate::ingest::{Job, PackSpec};
use crate::mapping::Access;
use crate::order::{Rows, View};

const ROWS: u64 = 64;

/// A scalar and a list, so that there is something to copy, and something to put together.
fn dataset(folder: &std::path::Path) -> Arc<Dataset> {
    let spec = json!({
        "fields": [
            {"name": "x", "type": "scalar", "dtype": "int64"},
            {"name": "ids", "type": "list", "dtype": "int32"},
        ],
        "ops": [], "encode": "original", "seekable": "no", "metadata": "keep", "quality": 90, "max_pixels": 100,
        "check": "header", "shard_size": 1 << 20, "num_threads": 1, "on_error": "raise", "overwrite": false,
        "shuffle_seed": null, "provenance": null,
    });
    let spec: PackSpec = serde_json::from_value(spec).unwrap();
    let lists = (0..ROWS as i32).map(|row| Some((0..row % 5).map(Some).collect::<Vec<_>>()));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    assert_eq!((numbers.len(), lists.len()), (64, 64));
    let batch = RecordBatch::try_from_iter([("x", numbers), ("ids", lists)]).unwrap();
    let mut job = Job::stream(&folder.join("ds"), spec).unwrap();
    assert!(job.push(&batch, Duration::from_secs(5)).unwrap());
    job.end_stream(None);
    assert!(job.wait(Duration::from_secs(20)).unwrap().is_some());
    Arc::new(Dataset::open(folder.join("ds"), Access::Read).unwrap())
}

fn loader(dataset: &Arc<Dataset>, seed: u64, options: &serde_json::Value) -> Loader {
    let mut spec = json!({"batch_size": 8, "seed": seed, "shuffle": "uniform"});
    for (name, value) in options.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let rows = Rows::Range {
        start: 0,
        step: 1,
        count: ROWS,
    };
    let view = View {
        rows,
        weights: None,
    };
    Loader::new(dataset.clone(), view, spec).unwrap()
}

/// The samples of a pass, or its error; never longer than ten seconds.
fn pass(loader: &Loader, views: bool) -> Result<usize, String> {
    let pass = Pass {
        epoch: 0,
        start: 0,
        first: 0,
        step: 1,
        views,
    };
    let mut batches = loader.iterate(pass).unwrap();
    let (until, mut rows) = (Instant::now() + Duration::from_secs(10), 0);
    while Instant::now() < until {
        match batches.poll(Duration::from_millis(50)) {
            Ok(Poll::Ready(batch)) => rows += batch.rows,
            Ok(Poll::Pending) => {}
            Ok(Poll::End) => return Ok(rows),
            Err(error) => {
                assert!(matches!(
                    batches.poll(Duration::from_millis(50)),
                    Ok(Poll::End)
                ));
                return Err(error.to_string());
            }
        }
    }
    panic!("the pass waits for ever");
}

#[test]
fn a_panic_about_a_row_names_it_or_leaves_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    for (seed, place) in [(1001, "row"), (1002, "lists")] {
        arm(place, seed, Some(13));
        for threads in [1, 3] {
            let options = json!({"num_threads": threads});
            let error = pass(&loader(&dataset, seed, &options), true).unwrap_err();
            assert!(error.contains("row 13 "), "{error}");
            assert!(error.contains("panicked: on purpose"), "{error}");
            let options = json!({"num_threads": threads, "on_error": "skip"});
            let skipping = loader(&dataset, seed, &options);
            assert_eq!(pass(&skipping, true), Ok(ROWS as usize - 1), "{place}");
            assert_eq!(skipping.num_skipped(), 1);
        }
    }
}

#[test]
fn all_rows_of_a_batch_may_fail() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    arm("lists", 1010, None);
    assert!(pass(&loader(&dataset, 1010, &json!({})), true).is_err());
    let skipping = loader(&dataset, 1010, &json!({"on_error": "skip"}));
    assert_eq!(pass(&skipping, true), Ok(0));
    assert_eq!(skipping.num_skipped(), ROWS);
}

#[test]
fn a_panic_elsewhere_ends_the_pass() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let places = ["thread", "open", "consumer", "ahead"];
    for (seed, place) in (1020..).zip(places) {
        arm(place, seed, None);
        let options = json!({"shuffle": "block", "num_threads": 2, "on_error": "skip"});
        let error = pass(&loader(&dataset, seed, &options), true).unwrap_err();
        assert!(error.contains("panicked: on purpose"), "{place}: {error}");
        assert!(error.contains("please report"), "{place}: {error}");
    }
}

#[test]
fn a_pass_in_order_fails_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let options = json!({"shuffle": "none"});
    arm("lists", 1030, Some(9));
    for views in [true, false] {
        let error = pass(&loader(&dataset, 1030, &options), views).unwrap_err();
        assert!(error.contains("row 9 "), "{error}");
    }
    arm("open", 1031, Some(2));
    let error = pass(&loader(&dataset, 1031, &options), true).unwrap_err();
    assert!(error.contains("panicked: on purpose"), "{error}");
}

#[test]
fn rows_that_are_gathered_fail_alike() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    arm("gather", 1040, None);
    let options = json!({"fields": ["x"], "num_threads": 2});
    assert_eq!(pass(&loader(&dataset, 1040, &options), false), Ok(64));
    arm("row", 1040, Some(3));
    let error = pass(&loader(&dataset, 1040, &options), false).unwrap_err();
    assert!(error.contains("row 3 "), "{error}");
}

#[test]
fn a_batch_transform_fails_its_batch() {
    let images = vec![0u8; 64 * 4 * 4 * 3];
    let labels: Vec<i64> = (0..64).map(|row| row % 3).collect();
    let fields = json!([
        {"name": "image", "type": "tensor", "dtype": "uint8", "shape": [4, 4, 3]},
        {"name": "label", "type": "class", "class_names": ["a", "b", "c"]},
    ]);
    let fields = serde_json::from_value(fields).unwrap();
    let values = vec![
        arrow_buffer::Buffer::from_vec(images),
        arrow_buffer::Buffer::from_vec(labels),
    ];
    let dataset = Arc::new(Dataset::in_memory(fields, 64, values).unwrap());
    let mix = json!([{"op": "mixup", "image": "image", "label": "label", "num_classes": 3, "alpha": 1.0}]);
    arm("mix", 1050, None);
    let error = pass(
        &loader(&dataset, 1050, &json!({"batch_transforms": mix})),
        true,
    );
    let error = error.unwrap_err();
    assert!(error.contains("a batch transform panicked"), "{error}");
    let options = json!({"batch_transforms": mix, "on_error": "skip"});
    assert_eq!(pass(&loader(&dataset, 1050, &options), true), Ok(0));
}
