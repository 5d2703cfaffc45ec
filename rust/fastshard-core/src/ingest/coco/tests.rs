use std::io::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt32Type};
use proptest::prelude::*;

use super::segmentation::append_compact;
use super::*;

fn read(json: &str) -> Result<Coco> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json.as_bytes()).unwrap();
    read_coco(file.path())
}

/// Images behind their annotations, annotations out of order, unknown keys.
const SMALL: &str = r#"{
    "info": {"year": [2017, {"a": null}]},
    "annotations": [
        {"id": 7, "image_id": 2, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 1, "area": 3,
         "segmentation": {"counts": "a b\"c", "size": [4, 4]}, "score": 1},
        {"id": 3, "image_id": 1, "category_id": 5, "bbox": [0.5, 0, 0, 1], "area": 0.25, "segmentation": [ [1, 2, 3, 4, 5, 6.50] ]},
        {"id": 5, "image_id": 2, "category_id": 5, "bbox": [0, 0, 1, 1], "area": 1}
    ],
    "categories": [{"id": 90, "name": "b", "supercategory": null}, {"id": 5, "name": "a", "supercategory": "top"}],
    "images": [{"id": 2, "file_name": "./x//b.jpg", "width": 40, "height": 30.0},
        {"id": 4, "file_name": "c.jpg", "width": null, "height": "30"}, {"id": 1, "file_name": "a.jpg", "width": 1.5, "height": -3}]
}"#;

#[test]
fn lists_go_along_with_their_images() {
    let Coco { table, categories } = read(SMALL).unwrap();
    let names = table["image"].as_string::<i32>();
    assert_eq!(
        names.iter().flatten().collect::<Vec<_>>(),
        ["x/b.jpg", "c.jpg", "a.jpg"]
    );
    for (name, sides) in [
        ("_declared_width", [40, 0, 0]),
        ("_declared_height", [30, 0, 0]),
    ] {
        assert_eq!(table[name].as_primitive::<UInt32Type>().values()[..], sides);
    }
    let ids = table["annotation_id"].as_list::<i32>();
    assert_eq!(ids.value_offsets(), [0, 2, 2, 3]);
    assert_eq!(
        ids.values().as_primitive::<Int64Type>().values()[..],
        [7, 5, 3]
    );
    let labels = table["labels"].as_list::<i32>();
    assert_eq!(
        labels.values().as_primitive::<Int64Type>().values()[..],
        [1, 0, 0]
    );
    let boxes = table["boxes"]
        .as_list::<i32>()
        .values()
        .as_fixed_size_list()
        .clone();
    let corners = boxes.values().as_primitive::<Float32Type>();
    assert_eq!(
        corners.values()[..],
        [1.0, 2.0, 4.5, 6.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.5, 1.0]
    );
    let shapes = table["segmentation"].as_string::<i32>();
    assert_eq!(
        shapes.value(0),
        r#"[{"counts":"a b\"c","size":[4,4]},null]"#
    );
    assert_eq!(
        (shapes.value(1), shapes.value(2)),
        ("[]", "[[[1,2,3,4,5,6.50]]]")
    );
    assert_eq!(categories[0]["id"], 5);
    assert_eq!(
        categories[1],
        serde_json::json!({"id": 90, "name": "b", "supercategory": null})
    );
}

/// What is replaced in [`SMALL`], by what, and what the message then says.
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "\"bbox\": [0, 0, 1, 1]",
        "\"bbox\": [0, 0, NaN, 1]",
        "annotation 3 (id 5), field \"bbox\": expected value at line 7 column 67: found \"NaN, 1], \\\"area",
    ),
    ("[0, 0, 1, 1]", "[0, 0, 1e999, 1]", "number out of range"),
    (
        "[0, 0, 1, 1]",
        "[0, 0, 1e99, 1]",
        "field \"bbox\": [0.0, 0.0, 1e99, 1.0]: too large",
    ),
    (
        "[0, 0, 1, 1]",
        "[0, 0, -1, 1]",
        "[0.0, 0.0, -1.0, 1.0] (x, y, width, height): a box can't",
    ),
    ("[0, 0, 1, 1]", "[0, 0, 1]", "3 numbers, expected 4"),
    ("[0, 0, 1, 1]", "[0, 0, 1, 1, 1]", "5 numbers, expected 4"),
    ("[0, 0, 1, 1]", "\"0011\"", "invalid type: string \"0011\""),
    (
        "\"bbox\": [0, 0, 1, 1]",
        "\"box\": 1",
        "annotation 3 (id 5): no bbox",
    ),
    ("\"area\": 1}", "\"area\": -1}", "field \"area\": -1"),
    (
        "\"area\": 1}",
        "\"area\": true}",
        "field \"area\": invalid type: boolean `true`",
    ),
    (
        "\"area\": 1}",
        "\"extent\": 1}",
        "annotation 3 (id 5): no area, but others",
    ),
    (
        "\"iscrowd\": 1",
        "\"iscrowd\": 2",
        "field \"iscrowd\": 2, expected 0 or 1",
    ),
    (
        "\"id\": 5, \"image_id\"",
        "\"id\": 7, \"image_id\"",
        "annotations 1 and 3 have the same id, 7",
    ),
    (
        "\"id\": 5, \"image_id\"",
        "\"id\": 5.5, \"image_id\"",
        "annotation 3, field \"id\": invalid type: floating",
    ),
    (
        "\"id\": 5, \"image_id\"",
        "\"image_id\"",
        "annotation 3, field \"id\": is missing",
    ),
    (
        "\"id\": 5, \"image_id\"",
        "\"id\": 99999999999999999999, \"image_id\"",
        "annotation 3, field \"id\"",
    ),
    (
        "\"image_id\": 1",
        "\"image_id\": 11",
        "annotation 2 (id 3): image_id 11 is no image",
    ),
    (
        "\"category_id\": 90",
        "\"category_id\": 91",
        "annotation 1 (id 7): category_id 91 is no category",
    ),
    (
        "\"category_id\": 90, ",
        "",
        "annotation 1 (id 7): no category_id",
    ),
    (
        "\"category_id\": 90",
        "\"id\": 7",
        "annotation 1 (id 7), field \"id\": stands there twice",
    ),
    (
        "[ [1, 2, 3, 4, 5, 6.50] ]",
        "[[1, 2, 3]]",
        "field \"segmentation\": a polygon of 3 numbers",
    ),
    (
        "[ [1, 2, 3, 4, 5, 6.50] ]",
        "[1, 2, 3, 4, 5, 6]",
        "expected a polygon",
    ),
    (
        "\"size\": [4, 4]",
        "\"size\": [4]",
        "field \"segmentation\": invalid length 1",
    ),
    (
        "\"size\": [4, 4]",
        "\"sizes\": [4]",
        "needs \"counts\" and \"size\"",
    ),
    (
        "{\"id\": 4,",
        "{\"id\": 2,",
        "images 1 and 2 have the same id, 2",
    ),
    (
        "c.jpg",
        "a.jpg",
        "images 2 and 3 have the same file_name, \"a.jpg\"",
    ),
    (
        "c.jpg",
        "/c.jpg",
        "image 2 (id 4), field \"file_name\": \"/c.jpg\" may leave",
    ),
    ("c.jpg", "x/../../c.jpg", "may leave"),
    ("c.jpg", "c\\u0000.jpg", "may leave"),
    ("c.jpg", "", "may leave"),
    (
        "\"file_name\": \"c.jpg\"",
        "\"coco_url\": \"c.jpg\"",
        "image 2 (id 4), field \"file_name\": is missing",
    ),
    (
        "\"name\": \"b\"",
        "\"name\": \"a\"",
        "categories 1 and 2 have the same name",
    ),
    (
        "{\"id\": 90,",
        "{\"id\": 5,",
        "categories 1 and 2 have the same id",
    ),
    (
        "\"info\"",
        "\"images\": [], \"info\"",
        "\"images\" stands there twice",
    ),
    ("\"images\": [", "\"pictures\": [", "no \"images\""),
    (
        "\"score\": 1",
        "\"segments_info\": []",
        "annotation 1 (id 7): has segments_info",
    ),
    (
        "\"score\": 1",
        "\"score\": ",
        "annotation 1 (id 7): expected value",
    ),
];

#[test]
fn faults_are_named() {
    for &(from, to, named) in FAULTS {
        let json = SMALL.replacen(from, to, 1);
        assert_ne!(json, SMALL, "{from}");
        let error = read(&json).unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{to}: {error}");
    }
}

#[test]
fn other_files_are_refused() {
    for (json, named) in [
        ("", "EOF while parsing"),
        (
            "[]",
            "invalid type: sequence, expected an object with images",
        ),
        ("{\"images\": 1}", "expected a list of image entries"),
        (
            "{\"images\": [1]}",
            "image 1: invalid type: integer `1`, expected an object",
        ),
        ("{\"images\": []}", "no images"),
        (
            "{\"images\": [{\"id\": 1, \"file_name\": \"a\"}]} x",
            "trailing characters",
        ),
        ("{\"images\": [{\"id\": 1, \"file_name\": \"a\"}]", "EOF"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.to_string().contains(named), "{json}: {error}");
    }
    let gone = read_coco(Path::new("/gone.json")).unwrap_err();
    assert!(matches!(gone, Error::Io { .. }), "{gone:?}");
}

#[test]
fn depth_costs_no_stack() {
    let deep = "[".repeat(1 << 20);
    assert!(read(&format!("{{\"info\": {deep}")).is_err());
    let close = "]".repeat(1 << 20);
    let image = r#""images": [{"id": 1, "file_name": "a"}]"#;
    assert_eq!(
        read(&format!("{{\"info\": {deep}{close}, {image}}}"))
            .unwrap()
            .table
            .num_rows(),
        1
    );
    let shape =
        format!(r#"{{"annotations": [{{"id": 1, "segmentation": {deep}{close}}}], {image}}}"#);
    assert!(read(&shape).is_err());
}

#[test]
fn keypoints_are_filled_up() {
    let json = |points: &str| {
        let annotation = |id: u32, points: &str| {
            format!(
                r#"{{"id": {id}, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]{points}}}"#
            )
        };
        let (first, second) = (
            annotation(1, ""),
            annotation(2, r#", "keypoints": [1, 2, 2, 3, 4, 1]"#),
        );
        format!(
            r#"{{"images": [{{"id": 1, "file_name": "a"}}], "categories": [{{"id": 1, "name": "a", "keypoints": ["x", "y"], "skeleton": [[1, 2]]}}],
            "annotations": [{first}, {second}, {}]}}"#,
            annotation(3, points)
        )
    };
    let Coco { table, categories } = read(&json(r#", "keypoints": [0, 0, 0, 9, 9, 2]"#)).unwrap();
    let points = table["keypoints"]
        .as_list::<i32>()
        .values()
        .as_fixed_size_list()
        .clone();
    assert_eq!((points.len(), points.value_length()), (3, 6));
    let numbers = points.values().as_primitive::<Float32Type>().values();
    assert_eq!(numbers[..9], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0]);
    assert_eq!(categories[0]["skeleton"][0][1], 2);
    assert!(
        table.column_by_name("area").is_none() && table.column_by_name("segmentation").is_none()
    );
    for (points, named) in [
        (
            r#", "keypoints": [0, 0, 0]"#,
            "1 keypoints, expected 2, as before",
        ),
        (
            r#", "keypoints": [0, 0]"#,
            "2 numbers, expected x, y and visibility",
        ),
        (r#", "keypoints": [0, 0, 0, 0, 0, 1e300]"#, "too large"),
        (
            &format!(r#", "keypoints": [0{}]"#, ", 0".repeat(900)),
            "of 256 keypoints at most",
        ),
    ] {
        let error = read(&json(points)).unwrap_err().to_string();
        assert!(
            error.contains(named) && error.contains("annotation 3 (id 3), field \"keypoints\""),
            "{error}"
        );
    }
}

#[test]
fn captions_are_texts() {
    let json = r#"{"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}],
        "annotations": [{"id": 1, "image_id": 2, "caption": "one \"two\"\u00e9"}, {"id": 2, "image_id": 2, "caption": ""}]}"#;
    let table = read(json).unwrap().table;
    let (first, all) = (
        table["caption"].as_string::<i32>(),
        table["captions"].as_string::<i32>(),
    );
    assert_eq!((first.value(0), first.value(1)), ("", "one \"two\"é"));
    assert_eq!(
        (all.value(0), all.value(1)),
        ("[]", r#"["one \"two\"é",""]"#)
    );
    assert!(table.column_by_name("boxes").is_none());
    let mixed = json.replace(r#", "caption": """#, "");
    assert!(
        read(&mixed)
            .unwrap_err()
            .to_string()
            .contains("annotation 1 (id 1): no bbox")
    );
}

proptest! {
    #[test]
    fn compact_json_means_the_same(text in ".*", numbers in proptest::collection::vec(any::<f64>(), 0..9)) {
        let value = serde_json::json!({ "a b": text, "c": [numbers, { "d": " \\\" " }] });
        let mut compact = String::new();
        append_compact(&serde_json::to_string_pretty(&value).unwrap(), &mut compact);
        prop_assert_eq!(compact, value.to_string());
    }

    #[test]
    fn cut_short_anywhere_is_an_error(end in 0..SMALL.len() - 1) {
        if SMALL.is_char_boundary(end) {
            prop_assert!(read(&SMALL[..end]).is_err());
        }
    }
}
