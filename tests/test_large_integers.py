"""Whole numbers that float64 rounds and int64 can't hold: they are stored as they are, or refused by name."""

from io import BytesIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import fastshard as fs

MOST = 2**64 - 1
ROUNDED = 2**53 + 1


def packed(source, tmp_path, **options):
    fs.pack(source, tmp_path / "ds", progress=False, overwrite=True, **options)
    return fs.open(tmp_path / "ds")


@pytest.fixture
def csv(tmp_path):
    def write(*cells):
        path = tmp_path / "t.csv"
        path.write_text("id,x\n" + "".join(f"{cell},{at}\n" for at, cell in enumerate(cells)))
        return path

    return write


def test_a_column_that_uint64_holds(csv, tmp_path):
    ds = packed(csv(MOST, MOST - 1, 0), tmp_path)
    assert ds.field("id").dtype == "uint64"
    assert ds.column("id").tolist() == [MOST, MOST - 1, 0]
    ds = packed(csv(MOST, "", 0), tmp_path, missing=5)
    assert ds.column("id").tolist() == [MOST, 5, 0]


@pytest.mark.parametrize(("cells", "row"), [((2**63, -1), 1), ((5, 2**64, 2**70), 2), ((-(2**63) - 1,), 1)])
def test_a_column_that_no_type_holds(cells, row, csv, tmp_path):
    with pytest.raises(
        fs.SourceError, match=rf"t\.csv: row {row}, column 'id': '{cells[row - 1]}'; expected whole num"
    ):
        packed(csv(*cells), tmp_path)
    assert packed(csv(*cells), tmp_path, types={"id": "text"}).column("id").tolist() == [str(one) for one in cells]
    rounded = packed(csv(*cells), tmp_path, types={"id": "float64"}).column("id")
    assert rounded.tolist() == [float(one) for one in cells]


def test_fractions_among_them_make_floats(csv, tmp_path):
    ds = packed(csv(2**63, 0.5, "1e30"), tmp_path)
    assert ds.column("id").tolist() == [2.0**63, 0.5, 1e30]


def test_one_far_down(csv, tmp_path):
    path = csv(*[1] * 1_200_000, 2**63)
    with pytest.raises(
        fs.SourceError, match=r"row 1200001, column 'id': '9223372036854775808'; .*\"uint64\"\} holds it"
    ):
        packed(path, tmp_path)
    ds = packed(path, tmp_path, types={"id": "uint64"})
    assert ds.column("id")[-1] == 2**63


def test_gaps_are_not_filled_by_way_of_floats(csv, tmp_path):
    assert packed(csv(ROUNDED, ""), tmp_path, missing=-1).column("id").tolist() == [ROUNDED, -1]
    table = pa.table({"id": pa.array([ROUNDED, None]), "y": [0, 1]})
    ds = packed(table, tmp_path, features=["id"], label="y", dtype="int64", missing=7)
    assert ds.column("features").tolist() == [[ROUNDED], [7]]
    with pytest.raises(fs.SourceError, match=r"row 2, column 'id': -1.*fits in uint8"):
        packed(pa.table({"id": pa.array([1, None], pa.uint8())}), tmp_path, missing=-1)


def test_text_that_says_them(tmp_path):
    table = pd.DataFrame({"id": [str(ROUNDED), "-3"], "y": [0, 1]})
    ds = packed(table, tmp_path, features=["id"], label="y", dtype="int64")
    assert ds.column("features").tolist() == [[ROUNDED], [-3]]
    with pytest.raises(
        fs.SourceError, match="row 1, column 'id': '9223372036854775808'; expected numbers that all fit"
    ):
        packed(pd.DataFrame({"id": [str(2**63), "-3"]}), tmp_path, types={"id": "int64"})


def image(seed):
    sink = BytesIO()
    Image.fromarray(np.full((8, 8, 3), seed, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def test_labels_of_a_folder(tmp_path):
    samples = [{"image": image(at), "key": np.uint64(MOST - at)} for at in range(3)]
    fs.pack(samples, tmp_path / "samples")
    fs.open(tmp_path / "samples").export(tmp_path / "folder", to="folder", progress=False)
    back = packed(tmp_path / "folder", tmp_path, csv="metadata.csv", shuffle=False)
    assert back.field("key").dtype == "uint64"
    assert back.column("key").tolist() == [MOST, MOST - 1, MOST - 2]


@pytest.mark.parametrize(
    ("cells", "message"),
    [((2**64, 1), "row 1, column 'key': '18446744073709551616'"), ((ROUNDED, ""), "row 1: 9007199254740993 would be")],
)
def test_labels_of_a_folder_that_no_type_holds(cells, message, tmp_path):
    (tmp_path / "images").mkdir()
    for at in range(2):
        (tmp_path / "images" / f"{at}.png").write_bytes(image(at))
    rows = "".join(f"{at}.png,{cell}\n" for at, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"file,key\n{rows}")
    with pytest.raises(fs.SourceError, match=message):
        packed(tmp_path / "images", tmp_path, csv=tmp_path / "t.csv")
    ds = packed(tmp_path / "images", tmp_path, csv=tmp_path / "t.csv", types={"key": "text"}, shuffle=False)
    assert ds.column("key").tolist() == [str(cell) for cell in cells]


@pytest.mark.parametrize(
    "values", [[1.5, ROUNDED], [1, 2**63], [[1.5], [ROUNDED]], [[1], [2**63]], [[1.5], [2**64 - 1]]]
)
def test_samples(values, tmp_path):
    first, second = ({"x": value} for value in values)
    number = values[1] if isinstance(values[1], int) else values[1][0]
    with pytest.raises(fs.SourceError, match=f"row 1, field 'x': {number}"):
        packed([first, second], tmp_path)


def test_whole_numbers_that_float64_holds(tmp_path):
    ds = packed([{"x": 0.5, "l": [0.5]}, {"x": 2**60, "l": [2**60, -(2**53)]}], tmp_path)
    assert ds.column("x").tolist() == [0.5, 2.0**60]
    assert ds[1]["l"].tolist() == [2.0**60, -(2.0**53)]
