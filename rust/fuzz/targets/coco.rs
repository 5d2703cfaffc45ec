//! COCO's annotations: refused, or sound. All that is said of boxes is said of each.

#![no_main]

use std::path::Path;

use fastshard_core::ingest::parse_coco;
use libfuzzer_sys::fuzz_target;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};

fuzz_target!(|text: &[u8]| {
    let Ok(coco) = parse_coco(Path::new("instances.json"), text) else {
        return;
    };
    let table = coco.table;
    let ids = table["annotation_id"].as_list::<i32>();
    for name in ["boxes", "labels", "iscrowd", "area", "keypoints"] {
        if let Some(lists) = table.column_by_name(name) {
            assert_eq!(lists.as_list::<i32>().value_offsets(), ids.value_offsets(), "{name}");
        }
    }
    for name in ["segmentation", "captions"] {
        let Some(texts) = table.column_by_name(name) else {
            continue;
        };
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            let listed: Vec<serde_json::Value> = serde_json::from_str(text.unwrap()).unwrap();
            assert_eq!(listed.len(), ids.value_length(row) as usize);
        }
    }
    if let Some(labels) = table.column_by_name("labels") {
        let labels = labels.as_list::<i32>().values().as_primitive::<Int64Type>();
        assert!(labels.values().iter().all(|&label| (label as usize) < coco.categories.len()));
        let boxes = table["boxes"].as_list::<i32>().values().as_fixed_size_list();
        let numbers = boxes.values().as_primitive::<Float32Type>().values();
        for corners in numbers.chunks(4) {
            assert!(corners.iter().all(|number| number.is_finite()));
            assert!(corners[0] <= corners[2] && corners[1] <= corners[3]);
        }
    }
    for path in table["image"].as_string::<i32>().iter().flatten() {
        let path = Path::new(path);
        assert!(path.is_relative() && !path.components().any(|part| part.as_os_str() == ".."));
    }
});
