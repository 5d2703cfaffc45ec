"""Reading a dataset without a loader."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fastshard as fs

ROWS = 1_000_000


@pytest.fixture(scope="module")
def ds(packed):
    return fs.open(packed)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A dataset of 1,000 rows: ``n``, and a tensor filled with it."""
    path = tmp_path_factory.mktemp("dataset") / "numbers"
    fs.pack(({"n": n, "x": np.full((2, 3), n, np.int32)} for n in range(1000)), path)
    return fs.open(path)


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """The path of a dataset of a million rows."""
    path = tmp_path_factory.mktemp("dataset") / "million"
    fs.pack(({"n": n} for n in range(ROWS)), path)
    return path


def n_of(dataset):
    return dataset.column("n").tolist()


def test_a_sample(ds, photo_folder):
    for i in (0, 23, 39):
        sample = ds[i]
        path = photo_folder / ds.encoded(i)[1]
        with Image.open(path) as image:
            np.testing.assert_array_equal(sample["image"], image)
        assert sample["image"].dtype == np.uint8
        assert ds.class_names[sample["label"]] == path.parent.name
        assert isinstance(sample["label"], np.int64)


def test_length_schema_and_fields(ds):
    assert len(ds) == 40
    assert ds.schema.names[:2] == ["image", "label"]
    assert ds.schema.field("label").type == pa.int64()
    assert [(field.name, field.type, field.shape) for field in ds.fields] == [
        ("image", "image", None),
        ("label", "class", ()),
    ]
    assert ds.field("label").class_names == ds.class_names
    assert "40 rows" in repr(ds)
    with pytest.raises(KeyError, match=r"field 'x': .* has image, label"):
        ds.field("x")


@pytest.mark.parametrize("index", [0, 1, 999, -1, -1000, np.int32(5), np.uint64(7)])
def test_an_integer(numbers, index):
    expected = range(1000)[index]
    assert numbers[index]["n"] == expected
    np.testing.assert_array_equal(numbers[index]["x"], np.full((2, 3), expected))


@pytest.mark.parametrize("index", [1000, -1001, 2**70, -(2**70)])
def test_an_integer_that_is_outside(numbers, index):
    with pytest.raises(IndexError, match=f"index {index}: the dataset has 1000 rows"):
        _ = numbers[index]


@pytest.mark.parametrize("index", ["n", 1.0, None, {}])
def test_an_index_of_the_wrong_type(numbers, index):
    with pytest.raises((TypeError, IndexError)):
        _ = numbers[index]


@pytest.mark.parametrize(
    "key",
    [slice(10), slice(5, 900, 7), slice(None, None, -1), slice(-3, None), slice(990, 5000), slice(8, 3)],
    ids=str,
)
def test_slices(numbers, key):
    expected = list(range(1000)[key])
    view = numbers[key]
    assert len(view) == len(expected)
    assert n_of(view) == expected
    assert [sample["n"] for sample in view] == expected
    assert view.to_arrow()["n"].to_pylist() == expected


@pytest.mark.parametrize("key", [[5, 3, 3, -1], np.array([999, 0]), [], range(4, 8), np.array([2], np.uint8)], ids=str)
def test_lists(numbers, key):
    expected = [range(1000)[i] for i in key]
    assert n_of(numbers[key]) == expected
    assert numbers[key].to_arrow()["n"].to_pylist() == expected


def test_masks_and_views_of_views(numbers):
    odd = np.arange(1000) % 2 == 1
    assert n_of(numbers[odd]) == list(range(1, 1000, 2))
    assert n_of(numbers[odd][10:20][::-1][[0, 2]]) == [39, 35]
    assert n_of(numbers[100:200][-1:]) == [199]
    with pytest.raises(IndexError, match="index 100: the dataset has 100 rows"):
        _ = numbers[100:200][100]
    with pytest.raises(IndexError, match="index 100"):
        _ = numbers[100:200][[0, 100]]
    with pytest.raises(TypeError, match="expected integers or a mask"):
        _ = numbers[[0.5]]


def test_to_arrow_copies_nothing(tmp_path):
    fs.pack(({"x": np.full(1 << 20, n, np.uint8)} for n in range(40)), tmp_path / "ds")
    dataset = fs.open(tmp_path / "ds")
    before = pa.total_allocated_bytes()
    table, some = dataset.to_arrow(), dataset[7:33].to_arrow()
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert some["x"].to_pylist()[0][:3] == [7, 7, 7]
    for column in (table["x"], some["x"]):
        for chunk in column.chunks:
            values = chunk.flatten() if not isinstance(chunk, pa.ExtensionArray) else chunk.storage.flatten()
            assert is_mapped(values.buffers()[1].address)


def is_mapped(address):
    """Whether a shard is mapped at this address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(text, 16) for text in line.split()[0].split("-"))
        if start <= address < end:
            return line.endswith(".arrow")
    return False


def test_encoded_needs_an_image(ds, numbers):
    with pytest.raises(ValueError, match="expected images or audio, this one is class"):
        ds.encoded(0, "label")
    with pytest.raises(IndexError):
        ds.encoded(40)
    with pytest.raises(KeyError):
        numbers.encoded(0)


def test_columns(ds, numbers):
    assert numbers.column("x").shape == (1000, 2, 3)
    assert numbers[::100].column("x")[:, 1, 2].tolist() == list(range(0, 1000, 100))
    with pytest.raises(ValueError, match="images have different sizes"):
        ds.column("image")
    with pytest.raises(KeyError, match="column 'y'"):
        ds.column("y")


def test_pickles_reopen(numbers):
    again = pickle.loads(pickle.dumps(numbers[::-5]))
    assert n_of(again) == list(range(999, -1, -5))


def test_a_pickle_of_what_was_replaced_is_refused(tmp_path):
    fs.pack([{"n": 1}], tmp_path / "ds")
    pickled = pickle.dumps(fs.open(tmp_path / "ds"))
    fs.pack([{"n": 2}], tmp_path / "ds", overwrite=True)
    with pytest.raises(fs.FormatError, match="changed since it was opened"):
        pickle.loads(pickled)


def test_a_relative_path_survives_a_change_of_folder(packed, monkeypatch, tmp_path):
    monkeypatch.chdir(packed.parent)
    dataset = fs.open(packed.name)
    monkeypatch.chdir(tmp_path)
    assert dataset[0]["image"].size
    assert dataset.to_arrow().num_rows == 40


def test_a_million_rows_open_in_milliseconds(million):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dataset = fs.open(million)
        first = next(iter(fs.Loader(dataset, batch_size=256, shuffle=True)))
        times.append(time.perf_counter() - start)
    assert len(dataset) == ROWS
    assert len(np.unique(first["n"])) == 256
    assert min(times) < 0.1  # the goal for opening and a first batch
    assert dataset[ROWS - 1]["n"] == ROWS - 1


def test_opening_reads_no_shard(million):
    code = f"""
import fastshard as fs
dataset = fs.open({str(million)!r})
maps = lambda: sum(".arrow" in line for line in open("/proc/self/maps"))
before, rows = maps(), len(dataset)
last = dataset[-1]["n"]
print(before, rows, last, maps())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(ROWS), str(ROWS - 1), "1"]
