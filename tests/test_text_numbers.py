"""Text that must become numbers: numbers that it says, codes of names, and what may be either."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastshard as fs

MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


def packed(source, tmp_path, **options):
    fs.pack(source, tmp_path / "ds", progress=False, overwrite=True, **options)
    return fs.open(tmp_path / "ds")


def features(texts, tmp_path, make=pa.table, **options):
    table = make({"a": texts, "y": [0] * len(texts)})
    return packed(table, tmp_path, features=["a"], label="y", **options).column("features")[:, 0].tolist()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_numbers_in_text_are_numbers(make, tmp_path):
    texts = ["1", "2", "10", "-3.5", "+4", ".5", "1e3"]
    assert features(texts, tmp_path, make) == [float(text) for text in texts]


def test_many_different_numbers(tmp_path):
    texts = [str(at / 8) for at in range(70_000)]
    assert features(texts, tmp_path, dtype="float64") == [float(text) for text in texts]


def test_numbers_in_text_of_a_parquet_file(tmp_path):
    pq.write_table(pa.table({"a": ["1", "2", "10"], "y": [0, 1, 0]}), tmp_path / "t.parquet")
    ds = packed(tmp_path / "t.parquet", tmp_path, features="all", label="y")
    assert ds.column("features").tolist() == [[1], [2], [10]]


def test_missing_numbers_in_text(tmp_path):
    assert features(["1", None, "5"], tmp_path, missing="mean") == [1, 3, 5]
    assert features(["1", "nan", "5"], tmp_path, missing=0) == [1, 0, 5]
    np.testing.assert_array_equal(features(["1", None], tmp_path, missing="keep"), [1, np.nan])
    with pytest.raises(fs.SourceError, match="row 2, column 'a': nothing; expected a value"):
        features(["1", None], tmp_path)


ODD = {
    "thousands": ["900", "1,234", "5,678"],
    "decimal comma": ["1,5", "10,5"],
    "percent": ["1%", "10%"],
    "currency": ["$1", "€ 10"],
    "dates": ["2020-01-05", "2019-01-05"],
    "times": ["10:30", "9:15"],
    "codes": ["01234", "00501"],
    "digits of another script": ["\u0661", "\u0662"],
    "blanks": [" 1", "2"],
}


@pytest.mark.parametrize("texts", ODD.values(), ids=ODD)
def test_what_may_be_a_number(texts, tmp_path):
    first = next(text for text in texts if not text.isascii() or not text.isdigit() or text.startswith("0"))
    wanted = rf"column 'a': {first!r}; expected a number.*types=\{{'a': 'category'\}} makes codes"
    with pytest.raises(fs.SourceError, match=wanted.replace("$", r"\$")):
        features(texts, tmp_path)
    codes = [sorted(texts).index(text) for text in texts]
    assert features(texts, tmp_path, types={"a": "category"}) == codes


def test_names_are_codes(tmp_path):
    texts = ["18-25", "<18", "65+", "red", "18-25"]
    assert features(texts, tmp_path) == [sorted(set(texts)).index(text) for text in texts]


def test_types_of_text(tmp_path):
    table = pa.table({"a": ["10", "9"], "b": ["x", "y"]})
    assert packed(table, tmp_path, types={"a": "int32"}).column("a").tolist() == [10, 9]
    with pytest.raises(fs.SourceError, match="row 1, column 'b': 'x'; expected a number"):
        packed(table, tmp_path, types={"b": "int32"})
    with pytest.raises(ValueError, match="types\\['a'\\]='text': expected a type of numbers"):
        packed(table, tmp_path, features="all", types={"a": "text"})
    assert packed(table, tmp_path, types={"a": "category"}).field("a").class_names == ("9", "10")
    (tmp_path / "t.csv").write_text("zip,n\n01234,1\n00501,2\n")
    ds = packed(tmp_path / "t.csv", tmp_path, types={"zip": "text", "n": "float64"})
    assert ds.column("zip").tolist() == ["01234", "00501"]
    assert ds.field("n").dtype == "float64"
    with pytest.raises(ValueError, match="types\\['n'\\]='foo': column 'n' is int64; expected a type of numbers"):
        packed(tmp_path / "t.csv", tmp_path, types={"n": "foo"})


def test_labels_that_are_numbers_come_in_their_order(photo_folder, tmp_path):
    ds = packed(pa.table({"x": [1.0, 2.0, 3.0], "y": ["10", "9", "1"]}), tmp_path, features=["x"], label="y")
    assert ds.class_names == ("1", "9", "10")
    assert ds.column("y").tolist() == [2, 1, 0]
    files = sorted(photo_folder.rglob("*.jpg"))[:3]
    rows = "".join(
        f"{path.relative_to(photo_folder)},{label}\n" for path, label in zip(files, ("10|9", "1", "9"), strict=True)
    )
    (tmp_path / "t.csv").write_text(f"file,label\n{rows}")
    ds = packed(photo_folder, tmp_path, csv=tmp_path / "t.csv", label="label", label_sep="|", shuffle=False)
    assert ds.field("label").class_names == ("1", "9", "10")
    assert ds.column("label").tolist() == [[0, 1, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("ordered", [True, False])
def test_categories_keep_their_order(ordered, tmp_path):
    sizes = pd.Categorical(["S", "L", "M"], categories=["S", "M", "L", "XL"], ordered=ordered)
    frame = pd.DataFrame({"size": sizes, "y": pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"])})
    for source in (frame, tmp_path / "t.parquet", tmp_path / "t.feather"):
        if source is not frame:
            frame.to_parquet(source) if source.suffix == ".parquet" else frame.to_feather(source)
        ds = packed(source, tmp_path, features=["size"], label="y")
        assert ds.column("features")[:, 0].tolist() == sizes.codes.tolist()
        assert ds.class_names == ("b", "a", "c")
        assert ds.column("y").tolist() == frame["y"].cat.codes.tolist()
        assert ds.statistics["features"]["categories"] == {"size": ["S", "M", "L", "XL"]}


def test_an_enum_of_polars_keeps_its_order(tmp_path):
    frame = pl.DataFrame({"size": pl.Series(["S", "L", "M"], dtype=pl.Enum(["S", "M", "L"])), "y": [0, 1, 0]})
    ds = packed(frame, tmp_path, features=["size"], label="y")
    assert ds.column("features")[:, 0].tolist() == frame["size"].to_physical().to_list()


def test_categories_of_several_files(tmp_path):
    parts = [pd.Categorical(["b", "a"], categories=["b", "a"]), pd.Categorical(["c", "a"], categories=["a", "c"])]
    for at, part in enumerate(parts):
        pd.DataFrame({"x": [1.0, 2.0], "y": part}).to_parquet(tmp_path / f"{at}.parquet")
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    united = pd.api.types.union_categoricals(parts)
    ds = packed(paths, tmp_path, features=["x"], label="y")
    assert list(ds.class_names) == united.categories.tolist()
    assert ds.column("y").tolist() == united.codes.tolist()
    for at, part in enumerate(parts):
        pd.DataFrame({"x": [1.0, 2.0], "y": part.as_ordered()}).to_parquet(tmp_path / f"{at}.parquet")
    with pytest.raises(fs.SourceError, match=r"1\.parquet: column 'y' is ordered a, c; expected .*0\.parquet: b, a"):
        packed(paths, tmp_path, features=["x"], label="y")


def test_categories_that_are_all_numbers(tmp_path):
    texts = pd.Categorical(["1", "10", "2"])
    frame = pd.DataFrame({"a": texts, "y": [0, 1, 0]})
    with pytest.raises(fs.SourceError, match=r"column 'a': '1'; expected types= for categories that are all numbers"):
        packed(frame, tmp_path, features=["a"], label="y")
    ds = packed(frame, tmp_path, features=["a"], label="y", types={"a": "float64"})
    assert ds.column("features")[:, 0].tolist() == [1, 10, 2]
    ds = packed(frame, tmp_path, features=["a"], label="y", types={"a": "category"})
    assert ds.column("features")[:, 0].tolist() == texts.codes.tolist()


def labelled(path, names, labels):
    table = pa.table({"label": pa.array(labels, pa.int64())})
    if names is not None:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path)
    return path


def test_class_names_that_parts_number_in_other_ways(tmp_path):
    parts = [
        labelled(tmp_path / "0.parquet", ["cat", "dog"], [0, 1]),
        labelled(tmp_path / "1.parquet", ["dog", "bird"], [0, 1]),
    ]
    ds = packed(parts, tmp_path)
    assert ds.class_names == ("cat", "dog", "bird")
    assert ds.column("label").tolist() == [0, 1, 1, 2]
    given = packed(parts, tmp_path, class_names={"label": ["bird", "cat", "dog"]})
    assert given.column("label").tolist() == [1, 2, 2, 0]
    with pytest.raises(fs.SourceError, match=r"1\.parquet: column 'label' has .* class_names lacks 'bird'"):
        packed(parts, tmp_path, class_names={"label": ["cat", "dog"]})
    assert packed(parts, tmp_path, types={"label": "int64"}).column("label").tolist() == [0, 1, 0, 1]
    labelled(tmp_path / "1.parquet", ["dog", "bird"], [0, 2])
    with pytest.raises(fs.SourceError, match=r"1\.parquet: row 2, column 'label': 2; expected a class from 0 to 1"):
        packed(parts, tmp_path)


def test_class_names_that_only_some_parts_have(tmp_path):
    parts = [
        labelled(tmp_path / "0.parquet", None, [0, 1]),
        labelled(tmp_path / "1.parquet", ["cat", "dog"], [0, 1]),
    ]
    with pytest.raises(
        fs.SourceError, match=r"0\.parquet: column 'label' has no class names, but .*1\.parquet has: cat"
    ):
        packed(parts, tmp_path)
    assert packed(parts, tmp_path, class_names={"label": ["cat", "dog"]}).column("label").tolist() == [0, 1, 0, 1]
