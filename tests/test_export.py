"""Exports: what the libraries of each format read back, and what is refused."""

import csv
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import torch
import webdataset
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder
from torchvision.ops import box_convert
from typer.testing import CliRunner

import fastshard as fs
from fastshard import _fastshard
from fastshard._base import png as _png
from fastshard._base.names import Names, safe_name
from fastshard._cli.app import app
from fastshard._export import tfrecord as _export_tfrecord
from fastshard._export import webdataset as _export_webdataset
from open_files import OPEN_FILES

FORMATS = ("folder", "webdataset", "parquet", "tfrecord")


@pytest.fixture(scope="module")
def rich(photos, tmp_path_factory):
    """A dataset with a field of nearly every type, its samples, and images of three formats."""
    random = np.random.default_rng(1)
    samples = []
    for i in range(23):
        photo = Image.fromarray(list(photos.values())[i % 5][: 40 + i, : 60 + i])
        file = io.BytesIO()
        photo.save(file, ("JPEG", "PNG", "WEBP")[i % 3])
        samples.append(
            {
                "image": file.getvalue(),
                "label": i % 4,
                "text": f'row {i}, "quoted"\nand ümlauts',
                "age": np.float32(i / 3) if i != 5 else np.float32("nan"),
                "weight": i / 7,
                "count": i - 7,
                "large": np.uint64(2**64 - 1 - i),
                "half": np.float16(i / 8),
                "seen": bool(i % 2),
                "vector": random.normal(size=4).astype(np.float32),
                "matrix": random.integers(-9, 9, (2, 3)),
                "exact": random.normal(size=3),
                "mask": random.integers(0, 2, (5, 7)).astype(np.uint8),
                "tokens": random.integers(-(2**40), 2**40, i % 12),
                "points": random.normal(size=(i % 3, 2)).astype(np.float32),
            }
        )
    path = tmp_path_factory.mktemp("rich") / "rich"
    names = {"label": ["red", "green", "blue", "gray"]}
    types = {"tokens": "list[int64]", "points": "list[float32, 2]"}
    fs.pack(samples, path, class_names=names, types=types, seekable=False)
    return fs.open(path), samples


def same(read, written):
    """Whether a value that was read equals the one that was packed, NaN included."""
    np.testing.assert_array_equal(np.asarray(read), np.asarray(written))


def files_below(folder):
    """Relative path to bytes of all files but fastshard's own."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def leftovers(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# Folders.


def test_a_packed_folder_comes_out_as_it_went_in(kept, photo_folder, tmp_path):
    report = fs.export(kept, tmp_path / "out", to="folder")
    assert files_below(tmp_path / "out") == files_below(photo_folder)
    assert (report.rows, report.files) == (40, 40)
    assert report.bytes == sum(map(len, files_below(photo_folder).values()))
    assert leftovers(tmp_path) == ["out"]


def test_torchvision_reads_class_folders(packed, tmp_path):
    ds = fs.open(packed)
    ds.export(tmp_path / "out", to="folder")
    read = ImageFolder(tmp_path / "out", loader=lambda path: Path(path).read_bytes())
    assert tuple(read.classes) == ds.class_names
    stored = {ds.encoded(i)[0]: int(ds[i]["label"]) for i in range(len(ds))}
    assert dict(iter(read)) == stored


def test_a_view_is_exported_in_its_rows_alone(kept, tmp_path):
    ds = fs.open(kept)
    view = ds.where(label="cat")
    report = view.export(tmp_path / "cats", to="folder")
    found = files_below(tmp_path / "cats")
    assert {name.split("/")[0] for name in found} == {"cat"}
    assert sorted(found.values()) == sorted(view.encoded(i)[0] for i in range(len(view)))
    assert "4" in str(report)
    assert any("without a row" in note for note in report.notes)


@OPEN_FILES
def test_metadata_is_read_by_datasets(rich, tmp_path):
    ds, samples = rich
    ds.export(tmp_path / "out", to="folder", fields=["image", "label", "text", "count", "weight", "seen"])
    read = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=tmp_path / "hf", split="train"
    )
    rows = {row["text"]: row for row in read.cast_column("image", datasets.Image(decode=False))}
    assert len(rows) == len(samples)
    for sample in samples:
        row = rows[sample["text"]]
        assert Path(row["image"]["path"]).read_bytes() == sample["image"]
        assert row["label"] == ds.field("label").class_names[sample["label"]]
        for name in ("count", "weight", "seen"):
            assert row[name] == sample[name]


def test_metadata_is_packed_again(rich, tmp_path):
    ds, samples = rich
    fields = ["image", "label", "text", "age", "weight", "count", "large", "half", "seen"]
    ds.export(tmp_path / "out", to="folder", fields=fields)
    types = {"age": "float32", "large": "uint64"}
    fs.pack(tmp_path / "out", tmp_path / "again", csv="metadata.csv", types=types, seekable=False)
    again = fs.open(tmp_path / "again")
    order = [again.encoded(i)[0] for i in range(len(again))]
    for sample in samples:
        row = again[order.index(sample["image"])]
        assert again.class_names[row["label"]] == ds.class_names[sample["label"]]
        for name in fields[2:]:
            same(row[name], sample[name])


def test_multi_hot_labels_are_names_between_bars(photo_folder, tmp_path):
    names = sorted(str(path.relative_to(photo_folder)) for path in photo_folder.rglob("*.jpg"))
    findings = [("", "Mass", "Mass|Edema", "Edema")[i % 4] for i in range(len(names))]
    table = tmp_path / "labels.csv"
    table.write_text("file,findings\n" + "".join(f"{a},{b}\n" for a, b in zip(names, findings, strict=True)))
    fs.pack(photo_folder, tmp_path / "ds", csv=table, label="findings", label_sep="|", seekable=False)
    ds = fs.open(tmp_path / "ds")
    ds.export(tmp_path / "out", to="folder")
    with (tmp_path / "out" / "metadata.csv").open(newline="", encoding="utf-8") as file:
        read = {row["file_name"]: row["findings"] for row in csv.DictReader(file)}
    wanted = dict(zip(names, ("|".join(sorted(cell.split("|"))) for cell in findings), strict=True))
    for i in range(len(ds)):
        data, path = ds.encoded(i)
        exported = next(name for name in read if (tmp_path / "out" / name).read_bytes() == data)
        assert Path(exported).stem.split("_")[0] == Path(path).stem
        assert read.pop(exported) == wanted[path]


def test_raw_pixels_become_png(photos, tmp_path):
    pixels = [photo[:50, :70] for photo in photos.values()]
    samples = [{"image": np.ascontiguousarray(image), "label": i} for i, image in enumerate(pixels)]
    fs.pack(samples, tmp_path / "ds")
    report = fs.export(tmp_path / "ds", tmp_path / "out", to="folder")
    assert "PNG" in str(report)
    for i, image in enumerate(pixels):
        same(Image.open(io.BytesIO((tmp_path / "out" / f"{i:08d}.png").read_bytes())), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_what_other_libraries_read(dtype, channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (19, 31, channels)).astype(dtype)
    data = _png.png(pixels)
    same(tf.io.decode_png(data, dtype=dtype).numpy(), pixels)
    if dtype == np.uint8 or channels == 1:
        same(np.asarray(Image.open(io.BytesIO(data))).reshape(pixels.shape), pixels)


HOSTILE = [
    "../../x",
    "a/b",
    "",
    "n\0ul",
    ".",
    "..",
    ".hidden",
    "x" * 5000,
    "ü" * 400,
    "a\\b",
    "metadata.csv",
    "a_b",
    "con\n",
]


def pack_batch(batch, fields, path, provenance=None):
    """Packs a batch as it is, with any image paths and numbers of classes."""
    spec = {
        "ops": [], "encode": "original", "quality": 90, "max_pixels": 10**8, "seekable": "no", "metadata": "keep",
        "check": "header", "shard_size": 1 << 20, "num_threads": 1, "on_error": "raise", "overwrite": False,
        "shuffle_seed": None, "fields": fields, "provenance": provenance or {},
    }  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    job = _fastshard.PackJob(str(path), json.dumps(spec))
    job.start_stream()
    assert job.push(sink.getvalue().to_pybytes(), 10)
    job.end_stream()
    while not job.wait(0.05):
        pass
    return fs.open(path)


def images_with_paths(image, paths):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": image, "path": path} for path in paths], kind)


def test_hostile_class_names_stay_in_their_folder(photo_folder, tmp_path):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    samples = [{"image": image, "label": i} for i in range(len(HOSTILE))]
    fs.pack(samples, tmp_path / "ds", class_names={"label": HOSTILE}, seekable=False)
    report = fs.export(tmp_path / "ds", tmp_path / "deep" / "out", to="folder")
    out = tmp_path / "deep" / "out"
    assert len(files_below(out)) == len(HOSTILE) + 1
    assert len(list(out.iterdir())) == len(HOSTILE) + 2  # metadata.csv, and what says that it is an export
    assert (leftovers(tmp_path), leftovers(tmp_path / "deep")) == (["deep", "ds"], ["out"])
    assert "class names that no folder can have" in str(report)
    with (out / "metadata.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == HOSTILE


PATHS = [
    "../../../etc/passwd", "/abs/olute.jpg", "", "..", "a/../..", "n\0ul.jpg", "y" * 5000 + ".png", ".jpg", "~",
    "dir/same.jpg", "other/same.JPG", "other\\same.jpg", "same_2.jpg", "photo.tar.gz", "wrong.png", "dots...",
]  # fmt: skip


@pytest.mark.parametrize("to", FORMATS)
def test_hostile_paths_stay_in_their_folder(photo_folder, tmp_path, to):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    batch = pa.record_batch({"image": images_with_paths(image, PATHS)})
    ds = pack_batch(batch, [{"name": "image", "type": "image"}], tmp_path / "ds")
    ds.export(tmp_path / "deep" / "out", to=to)
    assert (leftovers(tmp_path), leftovers(tmp_path / "deep")) == (["deep", "ds"], ["out"])
    if to == "folder":
        found = files_below(tmp_path / "deep" / "out")
        assert list(found.values()) == [image] * len(PATHS)
        names = {"same.jpg", "same.JPG", "same_2.jpg", "same_2_2.jpg", "olute.jpg", "photo.tar.gz.jpg", "wrong.jpg"}
        assert names < set(found)
        assert all("/" not in name and len(name.encode()) < 150 for name in found)


@pytest.mark.parametrize("text", HOSTILE)
def test_safe_names_are_names_of_one_file(text, tmp_path):
    name = safe_name(text)
    (tmp_path / name).write_text("")
    assert leftovers(tmp_path) == [name]
    assert not name.startswith(".")


def test_names_differ():
    names = Names()
    assert [names.unique("a", ".jpg") for _ in range(3)] == ["a.jpg", "a_2.jpg", "a_3.jpg"]
    assert names.unique("a_2", ".jpg") == "a_2_2.jpg"
    assert [names.unique("b_2"), names.unique("b"), names.unique("b")] == ["b_2", "b", "b_3"]


# WebDataset.


def read_tars(folder):
    urls = sorted(map(str, Path(folder).glob("*.tar")))
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)), urls


@OPEN_FILES
def test_webdataset_reads_what_was_packed(rich, tmp_path):
    ds, samples = rich
    report = ds.export(tmp_path / "out", to="webdataset", shard_size=20_000)
    read, urls = read_tars(tmp_path / "out")
    assert report.files == len(urls) > 1
    assert [Path(url).name for url in urls[:2]] == ["data-000000.tar", "data-000001.tar"]
    assert report.bytes == sum(Path(url).stat().st_size for url in urls)
    assert [sample["__key__"] for sample in read] == [f"{i:06d}" for i in range(len(samples))]
    for row, sample in zip(read, samples, strict=True):
        suffix = ("jpg", "png", "webp")[int(row["__key__"]) % 3]
        assert row[suffix] == sample["image"]
        assert (int(row["cls"]), row["txt"].decode()) == (sample["label"], sample["text"])
        numbers = json.loads(row["json"])
        for name in ("age", "weight", "count", "large", "half", "seen"):
            same(np.asarray(numbers[name], np.asarray(sample[name]).dtype), sample[name])
        for name in ("vector", "matrix", "exact", "mask", "tokens", "points"):
            array = np.load(io.BytesIO(row[f"{name}.npy"]), allow_pickle=False)
            same(array, sample[name])
    decoded = next(iter(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8")))
    same(decoded["jpg"], np.asarray(Image.open(io.BytesIO(samples[0]["image"]))))
    assert decoded["cls"] == samples[0]["label"]


@pytest.mark.parametrize("name", ["0.cls", "x" * 96 + ".jpg", "x" * 97 + ".jpg", "ü.txt", "y" * 300])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 2**33 - 1, 2**33])
def test_tar_headers_are_those_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert _export_webdataset._tar_header(name, size) == info.tobuf(tarfile.PAX_FORMAT)


def test_tars_are_the_same_each_time(rich, tmp_path):
    ds, _ = rich
    ds.export(tmp_path / "a", to="webdataset", shard_size="30kB", name="train")
    time.sleep(1.1)  # what a tar file's time would differ by
    fs.export(ds.path, tmp_path / "b", to="webdataset", shard_size="30kB", name="train")
    found = files_below(tmp_path / "a")
    assert found == files_below(tmp_path / "b")
    assert len(found) > 1
    assert all(name.startswith("train-") for name in found)


def test_shards_are_no_larger_than_asked(packed, tmp_path):
    fs.export(packed, tmp_path / "out", to="webdataset", shard_size=100_000, fields=["label", "image"])
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.tar")]
    assert max(sizes) <= 100_000 + 20 * 512 + 1024
    assert len(sizes) > 3


@OPEN_FILES
def test_keys_come_from_the_field_of_that_name(photo_folder, tmp_path):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    samples = [{"key": f"{i}-ü", "photo": image, "mask": image} for i in range(3)]
    fs.pack(samples, tmp_path / "ds", seekable=False)
    report = fs.export(tmp_path / "ds", tmp_path / "out", to="webdataset")
    read, _ = read_tars(tmp_path / "out")
    assert [(row["__key__"], row["photo.jpg"], row["mask.jpg"]) for row in read] == [
        (sample["key"], image, image) for sample in samples
    ]
    assert ".mask.*" in str(report)


@pytest.mark.parametrize("key", ["../../x", "a/b", "", "a.b", "n\0ul", ".a", "x" * 5000])
def test_keys_that_are_none_are_refused(key, tmp_path):
    fs.pack([{"key": "fine", "x": 1}, {"key": key, "x": 2}], tmp_path / "ds")
    with pytest.raises(fs.SourceError, match="row 1: field 'key'"):
        fs.export(tmp_path / "ds", tmp_path / "out", to="webdataset")
    assert leftovers(tmp_path) == ["ds"]


def test_keys_that_come_twice_are_refused(tmp_path):
    fs.pack([{"key": "a", "x": 1}, {"key": "b", "x": 2}, {"key": "a", "x": 3}], tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    with pytest.raises(fs.SourceError, match="'a' in 2 rows"):
        ds.export(tmp_path / "out", to="webdataset")
    ds[:2].export(tmp_path / "out", to="webdataset")


# Parquet.


def test_parquet_is_read_by_datasets(rich, tmp_path):
    ds, samples = rich
    report = ds.export(tmp_path / "out", to="parquet", shard_size=20_000)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert report.files == len(files) > 1
    assert files[0] == f"data-00000-of-{len(files):05d}.parquet"
    read = datasets.load_dataset("parquet", data_dir=str(tmp_path / "out"), cache_dir=tmp_path / "hf", split="train")
    assert read.features["image"] == datasets.Image()
    assert read.features["label"] == datasets.ClassLabel(names=["red", "green", "blue", "gray"])
    same(np.asarray(read[0]["image"]), np.asarray(Image.open(io.BytesIO(samples[0]["image"]))))
    read = read.cast_column("image", datasets.Image(decode=False))
    for row, sample in zip(read, samples, strict=True):
        assert row.pop("image")["bytes"] == sample["image"]
        assert set(row) == set(sample) - {"image"}
        for name, value in row.items():
            same(np.asarray(value, np.asarray(sample[name]).dtype).reshape(np.shape(sample[name])), sample[name])


def test_parquet_keeps_types_and_bounds_row_groups(rich, tmp_path):
    ds, _ = rich
    ds.export(tmp_path / "out", to="parquet", shard_size=30_000)
    files = [pq.ParquetFile(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    schema = files[0].schema_arrow
    assert schema.field("half").type == pa.float16()
    assert schema.field("seen").type == pa.bool_()
    assert schema.field("matrix").type == pa.list_(pa.list_(pa.int64(), 3), 2)
    assert schema.field("points").type == pa.list_(pa.list_(pa.float32(), 2))
    groups = [file.metadata.row_group(i) for file in files for i in range(file.num_row_groups)]
    assert sum(group.num_rows for group in groups) == len(ds)
    assert max(group.total_byte_size for group in groups) < 60_000


def test_parquet_of_a_table_is_packed_again(tmp_path):
    random = np.random.default_rng(0)
    features, label = random.normal(size=(5000, 7)).astype(np.float32), random.integers(0, 9, 5000)
    ds = fs.from_arrays({"features": features, "label": label})
    view = ds.filter(label != 3)
    view.export(tmp_path / "out", to="parquet")
    fs.pack(next((tmp_path / "out").glob("*.parquet")), tmp_path / "again")
    again = fs.open(tmp_path / "again")
    same(again.column("features"), features[label != 3])
    same(again.column("label"), label[label != 3])


# TFRecord.


def parsed(paths, features):
    dataset = tf.data.TFRecordDataset([str(path) for path in paths])
    return [tf.io.parse_single_example(record, features) for record in dataset]


def test_tensorflow_reads_what_was_packed(rich, tmp_path):
    ds, samples = rich
    report = ds.export(tmp_path / "out", to="tfrecord", shard_size=20_000)
    paths = sorted((tmp_path / "out").glob("*.tfrecord"))
    assert report.files == len(paths) + 1 > 2
    assert paths[0].name == f"data-00000-of-{len(paths):05d}.tfrecord"
    kinds = {"int64_list": tf.int64, "float_list": tf.float32, "bytes_list": tf.string}
    about = json.loads((tmp_path / "out" / "features.json").read_text())
    features = {
        one["name"]: tf.io.RaggedFeature(kinds[one["stored"]])
        if one["type"] == "list" and one["stored"] != "bytes_list"
        else tf.io.FixedLenFeature(one.get("shape", ()) if one["stored"] != "bytes_list" else (), kinds[one["stored"]])
        for one in about["features"]
    }
    assert about["rows"] == len(samples)
    for row, sample in zip(parsed(paths, features), samples, strict=True):
        assert row["image"].numpy() == sample["image"]
        assert row["text"].numpy().decode() == sample["text"]
        for name in ("label", "count", "seen", "matrix", "tokens", "age", "half", "vector"):
            same(row[name].numpy(), sample[name])
        same(tf.bitcast(row["large"], tf.uint64).numpy(), sample["large"])
        same(tf.io.decode_raw(row["weight"], tf.float64).numpy()[0], sample["weight"])
        same(tf.io.decode_raw(row["exact"], tf.float64).numpy(), sample["exact"])
        same(tf.reshape(tf.io.decode_raw(row["mask"], tf.uint8), (5, 7)).numpy(), sample["mask"])
        same(tf.reshape(row["points"], (-1, 2)).numpy(), sample["points"])


def test_numbers_of_all_lengths_are_what_tensorflow_writes(tmp_path):
    values = np.array([0, 1, -1, 127, 128, 2**31, -(2**31), 2**63 - 1, -(2**63), *(2**i for i in range(63))])
    for count in (0, 1, 7, 8, len(values)):
        wanted = tf.train.Feature(int64_list=tf.train.Int64List(value=values[:count].tolist()))
        assert tf.train.Feature.FromString(_export_tfrecord._int64_list(values[:count])) == wanted
    assert _fastshard.crc32c(b"123456789") == 0xE3069283  # from RFC 3720's definition


# COCO.


@pytest.fixture(scope="module")
def boxes(photos, tmp_path_factory):
    """Images with boxes, and the categories that their labels name."""
    random = np.random.default_rng(3)
    samples = []
    for i in range(7):
        count = i % 4
        corner = random.uniform(0, 50, (count, 2))
        box = np.concatenate([corner, corner + random.uniform(1, 40, (count, 2))], 1).astype(np.float32)
        file = io.BytesIO()
        Image.fromarray(list(photos.values())[i % 5][: 100 + i, :90]).save(file, "PNG")
        crowd = random.integers(0, 2, count).astype(np.uint8)
        ids = 100 * i + np.arange(1, count + 1)
        labels = random.choice([3, 17], count)
        samples.append(
            {
                "image": file.getvalue(),
                "boxes": box,
                "labels": labels,
                "iscrowd": crowd,
                "annotation_id": ids,
                "image_id": 50 - i,
            }
        )
    types = {
        "boxes": "list[float32, 4]",
        "labels": "list[int64]",
        "iscrowd": "list[uint8]",
        "annotation_id": "list[int64]",
    }
    path = tmp_path_factory.mktemp("boxes") / "boxes"
    fs.pack(samples, path, types=types)
    return path, samples, [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 17, "name": "dog"}]


def load_coco(folder):
    return COCO(str(folder / "annotations.json"))


def test_pycocotools_reads_what_was_packed(boxes, tmp_path):
    path, samples, categories = boxes
    fs.export(path, tmp_path / "out", to="coco", categories=categories)
    coco = load_coco(tmp_path / "out")
    assert coco.loadCats(coco.getCatIds()) == categories
    assert sorted(coco.getImgIds()) == sorted(sample["image_id"] for sample in samples)
    for sample in samples:
        (about,) = coco.loadImgs([sample["image_id"]])
        file = tmp_path / "out" / "images" / about["file_name"]
        assert file.read_bytes() == sample["image"]
        assert (about["width"], about["height"]) == Image.open(io.BytesIO(sample["image"])).size
        found = coco.loadAnns(coco.getAnnIds(imgIds=[sample["image_id"]]))
        read = np.array([one["bbox"] for one in found]).reshape(-1, 4)
        same((read[:, :2] + read[:, 2:]).astype(np.float32), sample["boxes"][:, 2:])
        same(read[:, :2].astype(np.float32), sample["boxes"][:, :2])
        same([one["category_id"] for one in found], sample["labels"])
        same([one["id"] for one in found], sample["annotation_id"])
        same([one["iscrowd"] for one in found], sample["iscrowd"])
        np.testing.assert_allclose([one["area"] for one in found], read[:, 2] * read[:, 3])


def test_coco_numbers_what_has_no_numbers(boxes, tmp_path):
    path, samples, categories = boxes
    view = fs.open(path)[1:6]
    report = view.export(tmp_path / "out", to="coco", categories=categories, fields=["image", "boxes", "labels"])
    coco = load_coco(tmp_path / "out")
    assert coco.getImgIds() == [1, 2, 3, 4, 5]
    assert coco.getAnnIds() == list(range(1, 1 + sum(len(sample["labels"]) for sample in samples[1:6])))
    assert report.files == 6


def test_coco_takes_the_categories_of_the_provenance(boxes, tmp_path, photo_folder):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    batch = pa.record_batch(
        {
            "image": images_with_paths(image, ["a.jpg"]),
            "boxes": pa.array([[[1.0, 2.0, 3.0, 5.0]]], pa.list_(pa.list_(pa.float32(), 4))),
            "labels": pa.array([[3]], pa.list_(pa.int64())),
        }
    )
    fields = [
        {"name": "image", "type": "image"},
        {"name": "boxes", "type": "list", "dtype": "float32", "shape": [4]},
        {"name": "labels", "type": "list", "dtype": "int64"},
    ]
    categories = [{"id": 3, "name": "cat"}]
    pack_batch(batch, fields, tmp_path / "ds", {"categories": categories})
    fs.pack(tmp_path / "ds", tmp_path / "again")
    fs.export(tmp_path / "again", tmp_path / "out", to="coco")
    coco = load_coco(tmp_path / "out")
    assert coco.loadCats([3]) == categories
    assert coco.loadAnns([1])[0]["bbox"] == [1, 2, 2, 3]


@pytest.mark.parametrize("kind", ["xyxy", "xywh", "cxcywh", "xyxy, normalized", "cxcywh, normalized"])
def test_boxes_of_all_formats_are_those_that_torchvision_converts(photo_folder, tmp_path, kind):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    size = Image.open(io.BytesIO(image)).size
    corners = np.array([[10, 20, 40, 60], [1, 2, 3, 90.5]], np.float32)
    own = box_convert(torch.from_numpy(corners), "xyxy", kind.split(",")[0]).numpy()
    own = own / np.tile(size, 2) if "normalized" in kind else own
    points = np.arange(12).reshape(2, 2, 3).astype(np.float32)
    samples = [{"image": image, "boxes": own, "labels": [1, 0], "keypoints": points}]
    types = {"boxes": f"boxes[{kind}]", "labels": "list[int64] along boxes", "keypoints": "points[2, 3] along boxes"}
    fs.pack(samples, tmp_path / "ds", types=types, class_names={"labels": ["cat", "dog"]}, seekable=False)
    fs.export(tmp_path / "ds", tmp_path / "out", to="coco")
    coco = load_coco(tmp_path / "out")
    assert coco.loadCats([1, 2]) == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    found = coco.loadAnns(coco.getAnnIds())
    wanted = box_convert(torch.from_numpy(corners), "xyxy", "xywh").numpy()
    np.testing.assert_allclose([one["bbox"] for one in found], wanted, atol=1e-4)
    assert [one["category_id"] for one in found] == [2, 1]
    assert [one["num_keypoints"] for one in found] == [2, 2]
    same([one["keypoints"] for one in found], points.reshape(2, 6))
    categories = [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 1, "name": "cow"}]
    fs.export(tmp_path / "ds", tmp_path / "other", to="coco", categories=categories)
    assert [one["category_id"] for one in load_coco(tmp_path / "other").loadAnns([1, 2])] == [7, 9]
    with pytest.raises(ValueError, match="none is called 'dog'"):
        fs.export(tmp_path / "ds", tmp_path / "none", to="coco", categories=categories[1:])


@OPEN_FILES
def test_boxes_are_lists_elsewhere(photo_folder, tmp_path):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    boxes = np.arange(24, dtype=np.float32).reshape(6, 4)
    samples = [{"image": image, "boxes": boxes[i : 2 * i], "labels": list(range(i))} for i in range(4)]
    types = {"boxes": "boxes[xywh]", "labels": "list[int64] along boxes"}
    ds = fs.open(fs.pack(samples, tmp_path / "ds", types=types, class_names={"labels": ["a", "b", "c"]}).path)
    assert "names of its classes" in str(ds.export(tmp_path / "parquet", to="parquet"))
    table = pq.read_table(tmp_path / "parquet")
    ds.export(tmp_path / "tars", to="webdataset")
    ds.export(tmp_path / "records", to="tfrecord")
    features = {"boxes": tf.io.RaggedFeature(tf.float32), "labels": tf.io.RaggedFeature(tf.int64)}
    records = parsed((tmp_path / "records").glob("*.tfrecord"), features)
    about = {one["name"]: one for one in json.loads((tmp_path / "records" / "features.json").read_text())["features"]}
    assert (about["boxes"]["format"], about["labels"]["class_names"]) == ("xywh", ["a", "b", "c"])
    for i, (row, record) in enumerate(zip(read_tars(tmp_path / "tars")[0], records, strict=True)):
        for found in (np.load(io.BytesIO(row["boxes.npy"])), table["boxes"][i].as_py(), record["boxes"].numpy()):
            same(np.reshape(found, (-1, 4)), samples[i]["boxes"])
        for found in (np.load(io.BytesIO(row["labels.npy"])), table["labels"][i].as_py(), record["labels"].numpy()):
            same(found, samples[i]["labels"])


@pytest.mark.parametrize("text", ["", "{}", "[[1, 2, 3, 4, 5, 6]", "[" * 9999, "[1, 2]", "[NaN]"])
def test_outlines_that_are_none_are_refused(photo_folder, tmp_path, text):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    outline = [[[1, 2, 3, 4, 5, 6]]]
    columns = {
        "image": images_with_paths(image, ["a.jpg", "b.jpg"]),
        "boxes": pa.array([[[1.0, 2.0, 3.0, 5.0]]] * 2, pa.list_(pa.list_(pa.float32(), 4))),
        "labels": pa.array([[0], [0]], pa.list_(pa.int64())),
        "segmentation": pa.array([json.dumps(outline), text]),
    }
    fields = [
        {"name": "image", "type": "image"},
        {"name": "boxes", "type": "boxes", "image": "image", "format": "xyxy", "normalized": False},
        {"name": "labels", "type": "list", "dtype": "int64", "class_names": ["cat"], "along": "boxes"},
        {"name": "segmentation", "type": "text"},
    ]
    provenance = {"kind": "coco", "categories": [{"id": 3, "name": "cat"}]}
    ds = pack_batch(pa.record_batch(columns), fields, tmp_path / "ds", provenance)
    with pytest.raises(fs.SourceError, match="row 1: field 'segmentation'"):
        ds.export(tmp_path / "out", to="coco")
    ds[:1].export(tmp_path / "out", to="coco")
    (found,) = load_coco(tmp_path / "out").loadAnns([1])
    assert (found["segmentation"], found["category_id"]) == (outline[0], 3)


@pytest.mark.parametrize(
    ("categories", "fields", "message"),
    [
        (None, None, "categories=None"),
        ([{"id": "3", "name": "cat"}], None, "expected an integer 'id'"),
        ([{"id": 3, "name": "cat"}] * 2, None, "the same 'id'"),
        ([{"id": 3, "name": "cat"}], None, "label 17 is that of no category"),
        ([{"id": 3, "name": "cat"}], ["image", "labels"], "needs a field 'boxes'"),
        ([{"id": 3, "name": "cat"}], ["boxes", "labels"], "needs one field of images"),
    ],
)
def test_coco_refuses_what_it_can_not_say(boxes, tmp_path, categories, fields, message):
    with pytest.raises(ValueError, match=message):
        fs.export(boxes[0], tmp_path / "out", to="coco", categories=categories, fields=fields)
    assert leftovers(tmp_path) == []


# What all formats share.


@OPEN_FILES
@pytest.mark.parametrize("to", FORMATS)
def test_views_in_any_order_with_repeats(rich, tmp_path, to):
    ds, samples = rich
    picks = np.random.default_rng(5).integers(0, len(ds), 60)
    fields = ["image", "label"]
    ds.select(picks).export(tmp_path / "out", to=to, fields=fields, **({} if to == "folder" else {"shard_size": 9000}))
    wanted = [samples[pick]["image"] for pick in picks]
    if to == "folder":
        found = list(files_below(tmp_path / "out").values())
        assert sorted(found) == sorted(wanted)
        return
    if to == "webdataset":
        found = [
            next(v for k, v in row.items() if k in ("jpg", "png", "webp")) for row in read_tars(tmp_path / "out")[0]
        ]
    elif to == "parquet":
        tables = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
        found = [image["bytes"] for table in tables for image in table.column("image").to_pylist()]
    else:
        features = {"image": tf.io.FixedLenFeature((), tf.string)}
        found = [row["image"].numpy() for row in parsed(sorted((tmp_path / "out").glob("*.tfrecord")), features)]
    assert found == wanted


@OPEN_FILES
@pytest.mark.parametrize("to", FORMATS)
def test_concatenations_and_empty_views(kept, packed, tmp_path, to):
    both = fs.concat([fs.open(kept), fs.open(packed)])
    assert both.export(tmp_path / "both", to=to).rows == 80
    report = both[:0].export(tmp_path / "none", to=to)
    assert report.rows == 0
    if to == "parquet":
        assert pq.read_table(tmp_path / "none" / "data-00000-of-00001.parquet").num_rows == 0
    elif to == "webdataset":
        assert read_tars(tmp_path / "none")[0] == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_corrupt_row_is_named_and_nothing_is_published(photo_folder, tmp_path, to):
    fs.pack(photo_folder, tmp_path / "ds", seekable=False)
    ds = fs.open(tmp_path / "ds")
    data, _ = ds.encoded(17)
    shard = tmp_path / "ds" / "shard-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(fs.CorruptionError, match="row 17"):
        fs.export(tmp_path / "ds", tmp_path / "out", to=to)
    assert leftovers(tmp_path) == ["ds"]
    fs.open(tmp_path / "ds")[:17].export(tmp_path / "out", to=to)  # nobody reads the row


@pytest.mark.parametrize("to", FORMATS)
def test_a_class_that_is_none_is_named(photo_folder, tmp_path, to):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    batch = pa.record_batch({"image": images_with_paths(image, ["a", "b"]), "label": pa.array([0, 7])})
    fields = [{"name": "image", "type": "image"}, {"name": "label", "type": "class", "class_names": ["only"]}]
    ds = pack_batch(batch, fields, tmp_path / "ds")
    with pytest.raises(fs.SourceError, match="row 1: field 'label' holds the class 7"):
        ds.export(tmp_path / "out", to=to)
    assert leftovers(tmp_path) == ["ds"]


@pytest.mark.parametrize("to", FORMATS)
def test_replaces_exports_and_nothing_else(kept, tmp_path, to):
    out = tmp_path / "out"
    fs.export(kept, out, to=to)
    with pytest.raises(FileExistsError, match="is there already"):
        fs.export(kept, out, to=to)
    fs.open(kept)[:3].export(out, to=to, overwrite=True)
    assert json.loads((out / ".fastshard-export.json").read_text())["rows"] == 3
    (out / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match="will not be replaced"):
        fs.export(kept, out, to=to, overwrite=True)
    assert (out / "thesis.txt").exists()
    assert leftovers(tmp_path) == ["out"]


def test_destinations_that_would_lose_something_are_refused(kept, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "full", "link"):
        with pytest.raises(ValueError, match="will not be replaced"):
            fs.export(kept, tmp_path / name, to="folder", overwrite=True)
        with pytest.raises(FileExistsError):
            fs.export(kept, tmp_path / name, to="folder")
    for out in (kept, kept / "out", kept.parent):
        with pytest.raises(ValueError, match="expected another place"):
            fs.export(kept, out, to="folder", overwrite=True)
    (tmp_path / "new.exporting").mkdir()
    (tmp_path / "new.exporting" / "mine").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        fs.export(kept, tmp_path / "new", to="folder")
    assert (tmp_path / "new.exporting" / "mine").exists()
    fs.export(kept, tmp_path / "empty", to="folder", overwrite=True)
    fs.open(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "zip"}, "to='zip'"),
        ({"to": "folder", "shard_size": 5}, "shard_size=5 is for"),
        ({"to": "folder", "name": "x"}, "name='x' is for"),
        ({"to": "parquet", "label": "label"}, "label='label' is for"),
        ({"to": "parquet", "num_threads": 2}, "num_threads=2 is for"),
        ({"to": "parquet", "categories": []}, "is for coco"),
        ({"to": "parquet", "name": "../x"}, "name='../x'"),
        ({"to": "parquet", "fields": []}, "at least one name"),
        ({"to": "parquet", "shard_size": "many"}, "shard_size='many'"),
        ({"to": "folder", "label": "nothing"}, "label='nothing'"),
        ({"to": "folder", "fields": ["label"]}, "needs one field of images"),
    ],
)
def test_impossible_options_are_refused(kept, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        fs.export(kept, tmp_path / "out", **options)
    assert leftovers(tmp_path) == []


def test_fields_that_do_not_fit_are_refused(photo_folder, tmp_path):
    image = next(photo_folder.rglob("*.jpg")).read_bytes()
    fs.pack([{"image": image, "extra": b"\0", "image/path": "x"}], tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    with pytest.raises(ValueError, match="'extra' of bytes fits no CSV file"):
        ds.export(tmp_path / "out", to="folder")
    with pytest.raises(ValueError, match="the name of another field"):
        ds.export(tmp_path / "out", to="tfrecord")
    with pytest.raises(KeyError, match="nothing"):
        ds.export(tmp_path / "out", to="parquet", fields=["nothing"])
    with pytest.raises(TypeError, match="a list of names"):
        ds.export(tmp_path / "out", to="parquet", fields="image")


INTERRUPTED = """
import sys, threading, _thread, time
import fastshard as fs
from fastshard._export import rows

real = rows.blocks
def slow(*args, **kwargs):
    for block in real(*args, **kwargs):
        yield block
        print("block", flush=True)
        time.sleep(30)

rows.blocks = slow
fs.export(sys.argv[1], sys.argv[2], to=sys.argv[3])
"""


@pytest.mark.parametrize("to", ["folder", "webdataset"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_exports_leave_nothing_that_counts(kept, tmp_path, to, number):
    out = tmp_path / "out"
    command = [sys.executable, "-c", INTERRUPTED, str(kept), str(out), to]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"block\n"
        with pytest.raises(RuntimeError, match="another process is exporting"):
            fs.export(kept, out, to=to)
        process.send_signal(number)
    assert leftovers(tmp_path) == ([] if number == signal.SIGINT else ["out.exporting"])
    fs.export(kept, out, to=to)
    assert leftovers(tmp_path) == ["out"]


def test_weighted_views_are_written_once(kept, tmp_path):
    ds = fs.open(kept)
    report = ds.balanced("label", num_samples=500).export(tmp_path / "out", to="folder")
    assert (report.rows, report.files) == (40, 40)
    assert "is weighted" in str(report)


def test_threads_do_not_matter(packed, tmp_path):
    fs.export(packed, tmp_path / "one", to="folder", num_threads=1)
    fs.export(packed, tmp_path / "five", to="folder", num_threads=5)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "five")


def test_the_command_line_exports(packed, boxes, tmp_path):
    run = CliRunner().invoke
    result = run(app, ["export", str(packed), str(tmp_path / "out"), "--to", "webdataset", "--name", "train"])
    assert result.exit_code == 0, result.output
    assert "40 rows as webdataset, 1 file" in result.output
    assert (tmp_path / "out" / "train-000000.tar").exists()
    assert run(app, ["export", str(packed), str(tmp_path / "out"), "--to", "folder"]).exit_code == 1
    path, _, categories = boxes
    (tmp_path / "categories.json").write_text(json.dumps({"categories": categories}))
    arguments = ["--to", "coco", "--categories", str(tmp_path / "categories.json"), "--quiet"]
    result = run(app, ["export", str(path), str(tmp_path / "coco"), *arguments])
    assert (result.exit_code, result.output) == (0, "")
    load_coco(tmp_path / "coco")
    (tmp_path / "categories.json").write_text("3")
    assert run(app, ["export", str(path), str(tmp_path / "other"), *arguments]).exit_code == 1
