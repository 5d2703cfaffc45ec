"""Audio in archives and tables, and exported to them: as the libraries of each format write and read it."""

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import webdataset
from PIL import Image

import fastshard as fs
from open_files import OPEN_FILES
from sounds import encode, signal

KINDS = ("wav", "flac", "ogg", "mp3")
# With a tag that is longer than what is looked at of images.
TAG = b"ID3\4\0\0\0\0\1\0" + bytes(128)


@pytest.fixture(scope="module")
def sounds():
    """Eight files of four kinds, behind a tag where that is usual."""
    encoded = [encode(signal(0.2, 16000, seed=number), 16000, KINDS[number % 4]) for number in range(8)]
    return [TAG + data if number % 4 == 3 else data for number, data in enumerate(encoded)]


@pytest.fixture(scope="module")
def folder(sounds, tmp_path_factory):
    """Two class folders of them."""
    root = tmp_path_factory.mktemp("sounds")
    for number, data in enumerate(sounds):
        path = root / ("no", "yes")[number % 2] / f"{number}.{KINDS[number % 4]}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "ds"
    fs.pack(folder, path)
    return fs.open(path)


def stored(path):
    dataset = fs.open(path)
    assert dataset.field("audio").type == "audio"
    return [dataset.encoded(row, "audio")[0] for row in range(len(dataset))]


def files_below(folder):
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_zip_is_the_folder(folder, packed, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files_below(folder).items():
            archive.writestr(name, data)
    report = fs.pack(tmp_path / "a.zip", tmp_path / "ds")
    assert report.source == f"{tmp_path}/a.zip: ZIP of images or audio"
    assert stored(tmp_path / "ds") == [packed.encoded(row, "audio")[0] for row in range(8)]
    assert fs.open(tmp_path / "ds").column("label").tolist() == packed.column("label").tolist()
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("yes/cover.png", b"x")
    with pytest.raises(fs.SourceError, match=r"a.zip: 1 images and 8 audio files, expected one kind: yes/cover\.png"):
        fs.pack(tmp_path / "a.zip", tmp_path / "other")
    report = fs.pack(tmp_path / "a.zip", tmp_path / "other", on_error="skip")
    assert (report.rows, report.ignored_files) == (8, ("yes/cover.png",))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_webdataset(sounds, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with webdataset.TarWriter(str(path)) as sink:
        for number, data in enumerate(sounds):
            sink.write({"__key__": f"{number:04d}", KINDS[number % 4]: data, "cls": number % 2})
    with pytest.raises(fs.SourceError, match="fields"):  # each kind of audio would be as good a field of its own
        fs.pack(path, tmp_path / "bytes", types={"wav": "bytes"})
    fs.pack(path, tmp_path / "ds", check="decode")
    assert stored(tmp_path / "ds") == sounds
    assert fs.open(tmp_path / "ds").encoded(1, "audio")[1] == f"a.{suffix}/0001.flac"


def test_webdataset_of_several_and_of_bytes(sounds, tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for number, data in enumerate(sounds[::4]):
            sink.write({"__key__": f"{number:04d}", "left.wav": data, "right.wav": sounds[number * 2 + 1]})
    fs.pack(tmp_path / "a.tar", tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    assert {field.name: field.type for field in ds.fields} == {"key": "text", "left.wav": "audio", "right.wav": "audio"}
    assert ds.encoded(1, "right.wav")[0] == sounds[3]
    fs.pack(tmp_path / "a.tar", tmp_path / "kept", types={"right.wav": "bytes"})
    assert {field.name: field.type for field in fs.open(tmp_path / "kept").fields} == {
        "key": "text",
        "audio": "audio",
        "right.wav": "bytes",
    }
    assert fs.open(tmp_path / "kept")[1]["right.wav"] == sounds[3]


def test_webdataset_names_what_is_no_audio(sounds, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("0.wav", sounds[0]), ("1.wav", b"none")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(fs.DecodeError, match=r"row 1 \(a.tar/1.wav\): "):
        fs.pack(tmp_path / "a.tar", tmp_path / "ds")
    report = fs.pack(tmp_path / "a.tar", tmp_path / "ds", on_error="skip")
    assert (report.rows, [row.path for row in report.skipped]) == (1, ["a.tar/1.wav"])


@pytest.mark.parametrize("options", ["", "GZIP"])
def test_tfrecord(sounds, tmp_path, options):
    path = tmp_path / f"a.tfrecord{'.gz' if options else ''}"
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for data in sounds:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            features = tf.train.Features(feature={"audio": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())
    fs.pack(path, tmp_path / "ds", check="decode")
    assert stored(tmp_path / "ds") == sounds
    fs.pack(path, tmp_path / "bytes", types={"audio": "bytes"})
    assert fs.open(tmp_path / "bytes")[3]["audio"] == sounds[3]


def test_parquet_of_hugging_faces(sounds, tmp_path):
    features = datasets.Features({"audio": datasets.Audio(decode=False), "word": datasets.Value("string")})
    rows = {"audio": [{"bytes": data, "path": f"{n}.x"} for n, data in enumerate(sounds)], "word": list("abcdefgh")}
    source = datasets.Dataset(pa.Table.from_pydict(rows, schema=features.arrow_schema))
    source.to_parquet(tmp_path / "a.parquet")
    for name, src in (("file", tmp_path / "a.parquet"), ("loaded", source)):
        fs.pack(src, tmp_path / name, check="decode")
        assert stored(tmp_path / name) == sounds
        assert fs.open(tmp_path / name).encoded(2, "audio")[1] == "2.x"


def test_types_of_iterables(sounds, tmp_path):
    fs.pack([{"audio": sounds[0]}], tmp_path / "bytes", types={"audio": "bytes"})
    assert fs.open(tmp_path / "bytes")[0]["audio"] == sounds[0]
    with pytest.raises(fs.DecodeError, match="row 0"):
        fs.pack([{"audio": b"none"}], tmp_path / "ds", types={"audio": "audio"})


def test_export_to_class_folders(folder, packed, tmp_path):
    report = packed.export(tmp_path / "out", to="folder")
    assert files_below(tmp_path / "out") == files_below(folder)
    assert report.files == 8


def test_export_with_a_csv_file(sounds, tmp_path):
    fs.pack(({"audio": data, "word": f"w{n}"} for n, data in enumerate(sounds)), tmp_path / "ds")
    fs.export(tmp_path / "ds", tmp_path / "out", to="folder")
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["word"] for row in rows] == [f"w{n}" for n in range(8)]
    assert [(tmp_path / "out" / row["file_name"]).read_bytes() for row in rows] == sounds
    assert [row["file_name"] for row in rows[:4]] == [f"{n:08d}.{kind}" for n, kind in enumerate(KINDS)]
    fs.pack(tmp_path / "out", tmp_path / "again", csv="metadata.csv", shuffle=False)
    assert stored(tmp_path / "again") == sounds


def test_folders_hold_one_field_of_files(sounds, tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    fs.pack([{"image": picture.getvalue(), "audio": sounds[0]}], tmp_path / "ds")
    with pytest.raises(ValueError, match="field 'audio' of audio fits no CSV file"):
        fs.export(tmp_path / "ds", tmp_path / "out", to="folder")
    fs.export(tmp_path / "ds", tmp_path / "out", to="folder", fields=["audio"])
    assert files_below(tmp_path / "out") == {"00000000.wav": sounds[0]}
    with pytest.raises(ValueError, match="field"):
        fs.export(tmp_path / "ds", tmp_path / "coco", to="coco", fields=["audio"])


@OPEN_FILES
def test_export_to_webdataset(packed, tmp_path):
    packed.export(tmp_path / "out", to="webdataset")
    urls = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(read) == len(packed)
    for row, sample in enumerate(read):
        data, path = packed.encoded(row, "audio")
        assert sample[path.rpartition(".")[2]] == data
        assert int(sample["cls"]) == packed[row]["label"]
    fs.pack(urls[0], tmp_path / "again", class_names={"label": packed.class_names})
    assert stored(tmp_path / "again") == [packed.encoded(row, "audio")[0] for row in range(8)]


def test_export_to_parquet(packed, tmp_path):
    packed.export(tmp_path / "out", to="parquet")
    (path,) = (tmp_path / "out").glob("*.parquet")
    read = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert read.features["audio"] == datasets.Audio()
    assert pq.read_schema(path).field("audio").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for row, value in enumerate(pq.read_table(path).column("audio").to_pylist()):
        assert (value["bytes"], value["path"]) == packed.encoded(row, "audio")


def test_export_to_tfrecord(packed, tmp_path):
    packed.export(tmp_path / "out", to="tfrecord")
    (path,) = (tmp_path / "out").glob("*.tfrecord")
    kinds = {name: tf.io.FixedLenFeature([], kind) for name, kind in (("audio", "string"), ("audio/path", "string"))}
    for row, record in enumerate(tf.data.TFRecordDataset(str(path))):
        read = tf.io.parse_single_example(record, kinds)
        assert (read["audio"].numpy(), read["audio/path"].numpy().decode()) == packed.encoded(row, "audio")
    fs.pack(path, tmp_path / "again")
    assert stored(tmp_path / "again") == [packed.encoded(row, "audio")[0] for row in range(8)]
