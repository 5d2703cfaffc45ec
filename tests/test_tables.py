"""Tables: packed from files and frames, columns fused, standardised, and everything that may be wrong with them."""

import gzip
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli

ROWS = 569


@pytest.fixture(scope="module")
def frame():
    """Real measurements: 30 features of 569 tumours, float32, and whether they are benign."""
    data = load_breast_cancer(as_frame=True)
    features = data.data.astype(np.float32)
    return features.assign(label=data.target.astype(np.int64))


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The same table in every format."""
    folder = tmp_path_factory.mktemp("tables")
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    columns = ["label", *frame.columns[:-1]]
    frame[columns].astype({"label": float}).to_csv(folder / "headerless.csv", index=False, header=False)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pa.parquet.write_table(table, folder / "t.parquet", row_group_size=100)
    pa.feather.write_feather(table, folder / "t.feather", chunksize=100)
    return folder


def fused(frame):
    return frame.drop(columns="label").to_numpy(), frame["label"].to_numpy()


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.feather"])
def test_files(folder, frame, name, tmp_path):
    report = fs.pack(folder / name, tmp_path / "ds", label="label", features="all")
    assert report.rows == ROWS
    ds = fs.open(tmp_path / "ds")
    assert [str(field) for field in ds.fields] == ["features: tensor[30] float32", "label: scalar int64"]
    features, label = fused(frame)
    np.testing.assert_array_equal(ds.column("features"), features)
    np.testing.assert_array_equal(ds.column("label"), label)
    assert ds.statistics["features"]["columns"] == list(frame.columns[:-1])
    assert ds.verify() == []


@pytest.mark.parametrize(
    "make", [lambda frame: frame, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "pyarrow"]
)
def test_frames(frame, make, tmp_path):
    fs.pack(make(frame), tmp_path / "ds", label=-1, features="all")
    features, label = fused(frame)
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("features"), features)
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("label"), label)


def test_no_header_and_the_label_first(folder, frame, tmp_path):
    fs.pack(folder / "headerless.csv", tmp_path / "ds", header=False, label=0, features="all", types={0: "int64"})
    ds = fs.open(tmp_path / "ds")
    features, label = fused(frame)
    np.testing.assert_array_equal(ds.column("features"), features)
    np.testing.assert_array_equal(ds.column("label"), label)
    assert ds.field("label").dtype == "int64"


def test_every_column_a_field(folder, frame, tmp_path):
    fs.pack(folder / "t.parquet", tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    assert [field.name for field in ds.fields] == list(frame.columns)
    for name in frame.columns:
        np.testing.assert_array_equal(ds.column(name), frame[name])
    assert ds.statistics["mean radius"]["mean"] == pytest.approx(frame["mean radius"].mean(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_types_of_features(dtype, tmp_path):
    values = pd.DataFrame({"a": np.arange(200), "b": np.arange(200) % 7, "y": 1})
    fs.pack(values, tmp_path / "ds", label="y", features=["b", 0], dtype=dtype)
    found = fs.open(tmp_path / "ds").column("features")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values[["b", "a"]])


def test_several_files_of_one_table(frame, tmp_path):
    for at, part in enumerate(np.array_split(np.arange(ROWS), 4)):
        # Columns in another order are the same columns.
        frame.iloc[part].iloc[:, :: 1 if at % 2 else -1].to_csv(tmp_path / f"{at}.csv", index=False)
    fs.pack(
        [tmp_path / f"{at}.csv" for at in range(4)], tmp_path / "ds", label="label", features=list(frame.columns[:-1])
    )
    features, label = fused(frame)
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("features"), features)
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("label"), label)


def test_large_tables_come_in_blocks(tmp_path):
    values = np.random.default_rng(0).standard_normal((300_000, 20)).astype(np.float32)
    table = pa.table({f"c{at}": values[:, at] for at in range(20)})
    report = fs.pack(table, tmp_path / "ds", features="all", shard_size="8MiB")
    ds = fs.open(tmp_path / "ds")
    assert report.shards == 5
    np.testing.assert_array_equal(ds.column("features"), values)
    np.testing.assert_allclose(ds.statistics["features"]["mean"], values.mean(axis=0, dtype=np.float64), atol=1e-12)
    np.testing.assert_allclose(ds.statistics["features"]["std"], values.std(axis=0, dtype=np.float64), rtol=1e-9)


def test_text_becomes_numbers(tmp_path):
    table = pd.DataFrame(
        {"size": [1.5, 2.5, 3.5, 4.5], "colour": ["red", "blue", "red", "green"], "kind": ["dog", "cat", "cat", "dog"]}
    )
    fs.pack(table, tmp_path / "ds", label="kind", features="all")
    ds = fs.open(tmp_path / "ds")
    assert ds.class_names == ("cat", "dog")
    assert ds.column("kind").tolist() == [1, 0, 0, 1]
    assert ds.column("features").tolist() == [[1.5, 2], [2.5, 0], [3.5, 2], [4.5, 1]]
    assert ds.statistics["features"]["categories"] == {"colour": ["blue", "green", "red"]}
    dictionary = table.astype({"colour": "category"})
    fs.pack(dictionary, tmp_path / "again", label="kind", features="all")
    np.testing.assert_array_equal(fs.open(tmp_path / "again").column("features"), ds.column("features"))


@pytest.mark.parametrize(
    ("missing", "filled"), [("mean", [1.0, 3.0, 2.0]), (-1, [1.0, 3.0, -1.0]), ("keep", [1.0, 3.0, np.nan])]
)
def test_missing_values(missing, filled, tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,0\n3,1\n,0\n")
    fs.pack(tmp_path / "t.csv", tmp_path / "ds", label="y", features=["x"], missing=missing)
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("features")[:, 0], filled)


def test_standardize_is_scikit_learns(folder, frame, tmp_path):
    fs.pack(folder / "t.csv", tmp_path / "ds", label="label", features="all")
    features, label = fused(frame)
    scaler = StandardScaler().fit(features.astype(np.float64))
    ds = fs.open(tmp_path / "ds")
    known = ds.statistics["features"]
    np.testing.assert_allclose(known["mean"], scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(known["std"], scaler.scale_, rtol=1e-9)
    np.testing.assert_array_equal(known["min"], features.min(axis=0))
    np.testing.assert_array_equal(known["max"], features.max(axis=0))
    for shuffle in (False, True):
        plain = np.concatenate([batch["features"] for batch in fs.Loader(ds, 50, shuffle=shuffle)])
        loader = fs.Loader(ds, 50, shuffle=shuffle, transforms={"features": [fs.Standardize()]})
        found = np.concatenate([batch["features"] for batch in loader])
        np.testing.assert_allclose(found, scaler.transform(plain.astype(np.float64)), rtol=2e-4, atol=2e-5)
    assert label.sum() == ds.column("label").sum()
    np.testing.assert_array_equal(ds.column("features"), features)


def test_standardize_with_numbers_of_ones_own(frame, tmp_path):
    ds = fs.from_arrays({"features": fused(frame)[0]})
    loader = fs.Loader(ds, ROWS, transforms={"features": fs.Standardize(mean=[1.0] * 30, std=2)})
    np.testing.assert_allclose(next(iter(loader))["features"], (fused(frame)[0] - 1) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="has no statistics"):
        fs.Loader(ds, 4, transforms={"features": fs.Standardize()})
    with pytest.raises(ValueError, match="3 values of mean, expected 1 or 30"):
        fs.Loader(ds, 4, transforms={"features": fs.Standardize(mean=[1, 2, 3], std=1)})
    with pytest.raises(ValueError, match="expected both or neither"):
        fs.Standardize(mean=1)
    whole = fs.from_arrays({"n": np.arange(5)})
    with pytest.raises(ValueError, match="expected a float32 field"):
        fs.Loader(whole, 2, transforms={"n": fs.Standardize(mean=0, std=1)})


def test_arrays_keep_statistics_when_packed(frame, tmp_path):
    features, label = fused(frame)
    fs.pack(fs.from_arrays({"features": features, "label": label}), tmp_path / "ds")
    known = fs.open(tmp_path / "ds").statistics["features"]
    np.testing.assert_allclose(known["mean"], features.mean(axis=0, dtype=np.float64), rtol=1e-9)
    fs.pack(tmp_path / "ds", tmp_path / "again")
    assert fs.open(tmp_path / "again").statistics["features"] == known


def test_tensor_loader_of_a_packed_table(folder, frame, tmp_path):
    fs.pack(folder / "t.parquet", tmp_path / "ds", label="label", features="all")
    loader = fs.torch.TensorLoader(
        tmp_path / "ds", batch_size=64, shuffle=True, transforms={"features": fs.Standardize()}
    )
    seen = torch.cat([x for x, _ in loader])
    assert torch.allclose(seen.mean(dim=0), torch.zeros(30), atol=1e-4)
    assert torch.allclose(seen.std(dim=0, correction=0), torch.ones(30), atol=1e-4)


BAD = {
    "ragged": ("x,y\n1,2\n1\n", {}, r"row 2, 1 columns, expected 2"),
    "text among numbers": ("x,y\n" + "1,2\n" * 9 + "abc,2\n", {"features": ["x"]}, r"row 10, column 'x': 'abc'"),
    "a header where none was said": (
        "x,y\n1,2\n3,4\n5,6\n",
        {"header": False, "features": [0]},
        "is this line a header",
    ),
    "no header where one was said": ("1,2\n3,4\n", {"features": "all"}, "need header=False"),
    "nothing": ("", {}, r"t\.csv: "),
    "a header alone": ("x,y\n", {}, "no rows"),
    "an empty cell": ("x,y\n1,2\n,2\n", {"features": "all"}, r"row 2, column 'x': nothing; expected a value"),
    "NaN": ("x,y\n1,2\nnan,2\n", {"features": "all"}, r"row 2, column 'x': nothing"),
    "infinity": ("x,y\n1,2\n1,-inf\n", {"features": "all"}, r"row 2, column 'y': -inf; expected a finite number"),
    "too large": ("x,y\n1,2\n300,2\n", {"features": ["x"], "dtype": "uint8"}, r"row 2, column 'x': '?300'?; expected"),
    "too large for float16": ("x\n1\n70000\n", {"features": "all", "dtype": "float16"}, r"row 2, column 'x': 70000\.0"),
    "an unknown column": ("x,y\n1,2\n", {"features": ["z"]}, r"features='z'"),
    "a column twice": ("x,x\n1,2\n", {}, "several columns are named 'x'"),
    "a label that is missing": (
        "x,y\n1,a\n2,\n3,b\n",
        {"label": "y", "features": "all"},
        r"row 2, column 'y': nothing",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(name, tmp_path):
    text, options, message = BAD[name]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(fs.SourceError, match=message) as caught:
        fs.pack(tmp_path / "t.csv", tmp_path / "ds", **options)
    assert "t.csv" in str(caught.value) or "features=" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_errors_far_down_name_their_row(tmp_path):
    lines = [f"{at},{at / 2}" for at in range(1_500_000)]
    lines[1_400_000] = "1,wrong"
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(lines) + "\n")
    with pytest.raises(fs.SourceError, match=r"row 1400001, column 'y': 'wrong'"):
        fs.pack(tmp_path / "t.csv", tmp_path / "ds", features="all")
    assert not (tmp_path / "ds").exists()


def test_files_that_differ(tmp_path):
    (tmp_path / "1.csv").write_text("x,y\n1,2\n")
    (tmp_path / "2.csv").write_text("x,z\n1,2\n")
    with pytest.raises(fs.SourceError, match=r"2\.csv lacks the columns 'y' and has the columns 'z' besides"):
        fs.pack([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "ds")
    (tmp_path / "2.csv").write_text("x,y\n1,2\n1.5,2\n")
    with pytest.raises(fs.SourceError, match=r"2\.csv: row 2, column 'x': '1\.5'"):
        fs.pack([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "ds")
    fs.pack([tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "ds", features="all")


def test_broken_binary_files(folder, tmp_path):
    for name in ("t.parquet", "t.feather", "t.csv.gz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes()[:-200])
        with pytest.raises(fs.SourceError, match=name):
            fs.pack(tmp_path / name, tmp_path / "ds", features="all")
        assert not (tmp_path / "ds").exists()
    with pytest.raises(FileNotFoundError):
        fs.pack(tmp_path / "absent.parquet", tmp_path / "ds")


def test_options_that_need_a_table(photo_folder, tmp_path):
    with pytest.raises(ValueError, match="features='all' needs a table"):
        fs.pack(photo_folder, tmp_path / "ds", features="all")
    with pytest.raises(ValueError, match="dtype='complex64'"):
        fs.pack(pd.DataFrame({"x": [1]}), tmp_path / "ds", features="all", dtype="complex64")
    with pytest.raises(ValueError, match="missing='median'"):
        fs.pack(pd.DataFrame({"x": [1]}), tmp_path / "ds", features="all", missing="median")


def test_statistics_are_in_the_manifest(folder, tmp_path):
    fs.pack(folder / "t.csv", tmp_path / "ds", label="label", features="all")
    manifest = json.loads((tmp_path / "ds" / "manifest.json").read_text())
    assert manifest["statistics"]["features"].keys() == {"columns", "mean", "std", "min", "max"}
    manifest["statistics"]["features"]["mean"][0] += 1
    (tmp_path / "ds" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(fs.FormatError):
        fs.open(tmp_path / "ds")


def run(*arguments):
    done = CliRunner().invoke(_cli.app, [str(one) for one in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line(folder, frame, tmp_path):
    options = ("--no-header", "--label", 0, "--features", "all", "--type", "0=int64", "--missing", "mean")
    run("pack", folder / "headerless.csv", tmp_path / "ds", *options, "-q")
    ds = fs.open(tmp_path / "ds")
    np.testing.assert_array_equal(ds.column("features"), fused(frame)[0])
    np.testing.assert_array_equal(ds.column("label"), fused(frame)[1])
    shown = run("inspect", tmp_path / "ds")
    assert "mean" in shown
    assert "f30" in shown
    described = json.loads(run("inspect", tmp_path / "ds", "--json"))
    assert described["statistics"]["features"]["min"] == fused(frame)[0].min(axis=0).tolist()
    names = [item for name in ("mean radius", "mean area") for item in ("--features", name)]
    run("pack", folder / "t.csv", tmp_path / "two", "--label", "label", *names, "-q")
    assert fs.open(tmp_path / "two").field("features").shape == (2,)


def test_columns_of_other_kinds(tmp_path):
    for column in (pa.array([{"a": 1}]), pa.array([0], pa.timestamp("s")), pa.array([0], pa.duration("s"))):
        wanted = r"column 'x' is .*; expected numbers, text, images, audio, bytes or lists of numbers"
        with pytest.raises(fs.SourceError, match=wanted):
            fs.pack(pa.table({"x": column}), tmp_path / "ds")
