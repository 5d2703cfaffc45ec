"""Lists: packed from every source, in batches one after the other or filled up, and brought together by length."""

import itertools
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli


@pytest.fixture(scope="module")
def texts():
    """What NumPy's functions say of themselves, as bytes: real text of 0 to a few thousand tokens."""
    names = [name for name in dir(np) if not name.startswith("_")]
    found = [np.frombuffer((getattr(np, name).__doc__ or "").encode(), np.uint8).astype(np.int32) for name in names]
    return [*found, np.empty(0, np.int32)]


@pytest.fixture(scope="module")
def packed(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "ds"
    rows = ({"number": number, "tokens": tokens} for number, tokens in enumerate(texts))
    # Shards of few rows, so that batches straddle blocks.
    fs.pack(rows, path, types={"tokens": "list[int32]"}, shard_size="64KiB")
    return fs.open(path)


def lists(batch, name="tokens"):
    offsets = batch[f"{name}_offsets"]
    assert offsets.dtype == np.int64
    assert (offsets[0], offsets[-1]) == (0, len(batch[name]))
    return np.split(batch[name], offsets[1:-1]) if len(offsets) > 1 else []


def padded(texts, length, value=0, side="right"):
    out = np.full((len(texts), length), value, np.int32)
    mask = np.zeros((len(texts), length), bool)
    for row, text in enumerate(texts):
        place = slice(0, len(text)) if side == "right" else slice(length - len(text), length)
        out[row, place], mask[row, place] = text, True
    return out, mask


def test_field(packed, texts):
    assert str(packed.field("tokens")) == "tokens: list int32"
    assert packed.manifest["version"] == 4
    for row in (0, 5, -1):
        np.testing.assert_array_equal(packed[row]["tokens"], texts[row])
        assert packed[row]["tokens"].dtype == np.int32
    column = packed[10:40].column("tokens")
    assert all(np.array_equal(a, b) for a, b in zip(column, texts[10:40], strict=True))
    assert packed.to_arrow().column("tokens").to_pylist()[7] == texts[7].tolist()
    assert packed.to_hf()["tokens"][7] == texts[7].tolist()
    assert packed.verify() == []


@pytest.mark.parametrize("shuffle", [False, True, "block"])
@pytest.mark.parametrize("threads", [1, 3])
def test_one_after_the_other(packed, texts, shuffle, threads):
    loader = fs.Loader(packed, 50, shuffle=shuffle, num_threads=threads, seed=3)
    seen = []
    for batch in loader:
        for number, tokens in zip(batch["number"], lists(batch), strict=True):
            np.testing.assert_array_equal(tokens, texts[number])
            seen.append(int(number))
    assert sorted(seen) == list(range(len(texts)))
    assert (seen == sorted(seen)) == (not shuffle)


def test_in_order_nothing_is_copied(packed):
    views = [batch["tokens"] for batch in fs.Loader(packed, 8)]
    assert any(not values.flags.writeable for values in views)
    copies = [batch["tokens"] for batch in fs.Loader(packed, 8).iterate(views=False)]
    assert all(values.flags.writeable for values in copies)
    assert all(np.array_equal(a, b) for a, b in zip(views, copies, strict=True))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("multiple", [1, 64])
def test_filled_up_to_the_longest(packed, texts, side, multiple):
    step = fs.PadSequence(-1, multiple_of=multiple, side=side)
    loader = fs.Loader(packed, 20, shuffle=True, transforms={"tokens": step})
    spec = loader.batch_spec
    assert (spec["tokens"].shape, spec["tokens_mask"].dtype) == ((None, None), "bool")
    for batch in loader:
        own = [texts[number] for number in batch["number"]]
        length = -(-max(map(len, own)) // multiple) * multiple
        values, mask = padded(own, length, -1, side)
        np.testing.assert_array_equal(batch["tokens"], values)
        np.testing.assert_array_equal(batch["tokens_mask"], mask)


@pytest.mark.parametrize("side", ["left", "right"])
def test_cut_and_filled_up_to_one_length(packed, texts, side):
    steps = [fs.Truncate(100, side), fs.PadSequence(7, length=100, mask=False)]
    loader = fs.Loader(packed, 20, shuffle=True, drop_last=True, transforms={"tokens": steps})
    assert loader.batch_spec == {
        "number": fs.BatchField((20,), "int64"),
        "tokens": fs.BatchField((20, 100), "int32"),
    }
    for batch in loader:
        own = [texts[number] for number in batch["number"]]
        own = [text[:100] if side == "right" else text[-100:] for text in own]
        np.testing.assert_array_equal(batch["tokens"], padded(own, 100, 7)[0])


def test_cut_without_filling_up(packed, texts):
    for batch in fs.Loader(packed, 20, transforms={"tokens": fs.Truncate(10, "left")}):
        for number, tokens in zip(batch["number"], lists(batch), strict=True):
            np.testing.assert_array_equal(tokens, texts[number][-10:])


def test_a_list_that_is_too_long(packed, texts):
    steps = {"tokens": fs.PadSequence(length=100)}
    first = next(number for number, text in enumerate(texts) if len(text) > 100)
    with pytest.raises(fs.DecodeError, match=rf"row {first}.*{len(texts[first])} elements.*Truncate\(100\)"):
        list(fs.Loader(packed, 20, transforms=steps))
    loader = fs.Loader(packed, 20, transforms=steps, on_error="skip")
    seen = [int(number) for batch in loader for number in batch["number"]]
    assert seen == [number for number, text in enumerate(texts) if len(text) <= 100]
    assert loader.num_skipped == len(texts) - len(seen)


def test_torch(packed, texts):
    dataset = fs.torch.ShardDataset(fs.Loader(packed, 16, shuffle=True))
    for batch in dataset:
        nested = torch.nested.nested_tensor_from_jagged(batch["tokens"], batch["tokens_offsets"])
        for number, tokens in zip(batch["number"].tolist(), nested.unbind(), strict=True):
            np.testing.assert_array_equal(tokens, texts[number])
    with pytest.raises(ValueError, match="PadSequence"):
        fs.torch.TensorLoader(packed, batch_size=4)
    loader = fs.torch.TensorLoader(packed, batch_size=4, transforms={"tokens": [fs.Truncate(9), fs.PadSequence()]})
    assert next(iter(loader))[1].shape == (4, 9)
    workers = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert sum(len(batch["number"]) for batch in workers) == len(texts)


def test_tensorflow(packed, texts):
    import tensorflow as tf

    steps = [fs.Truncate(64), fs.PadSequence(length=64)]
    loader = fs.Loader(packed, 16, drop_last=True, transforms={"tokens": steps})
    data = fs.tensorflow.dataset(loader)
    assert data.element_spec["tokens"].shape == (16, 64)
    first = next(iter(data))
    np.testing.assert_array_equal(first["tokens"], padded([text[:64] for text in texts[:16]], 64)[0])
    ragged = next(iter(fs.tensorflow.dataset(fs.Loader(packed, 16))))
    rows = tf.RaggedTensor.from_row_splits(ragged["tokens"], ragged["tokens_offsets"])
    assert rows.to_list() == [text.tolist() for text in texts[:16]]


@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_buckets(packed, texts, shuffle):
    def waste(buckets):
        loader = fs.Loader(packed, 8, shuffle=shuffle, transforms={"tokens": fs.PadSequence()}, buckets=buckets, seed=1)
        masks = [batch["tokens_mask"] for batch in loader]
        return 1 - sum(map(np.sum, masks)) / sum(mask.size for mask in masks)

    assert waste("tokens") < 0.4 * waste(None)
    assert waste(fs.Buckets("tokens", batches=4)) < waste(None)

    def numbers(**options):
        options = {"buckets": "tokens", "seed": 5} | options
        return [batch["number"].tolist() for batch in fs.Loader(packed, 8, shuffle=shuffle, **options)]

    once = numbers()
    assert sorted(itertools.chain.from_iterable(once)) == list(range(len(texts)))
    assert once == numbers(num_threads=3, prefetch=1)
    assert (once == numbers(seed=6)) == (not shuffle)


def test_buckets_with_ranks_and_resume(packed, texts):
    def loader(rank, world):
        return fs.Loader(packed, 8 // world, shuffle=True, seed=2, buckets="tokens", rank=rank, world_size=world)

    whole = [batch["number"].tolist() for batch in loader(0, 1)]
    ranks = [[batch["number"].tolist() for batch in loader(rank, 2)] for rank in range(2)]
    for batch, *parts in zip(whole[:-1], *ranks, strict=False):
        assert [number for pair in zip(*parts, strict=True) for number in pair] == batch
    first = loader(0, 1)
    batches = iter(first)
    seen = [next(batches)["number"].tolist() for _ in range(3)]
    state = json.loads(json.dumps(first.state_dict()))
    batches.close()
    second = loader(0, 1)
    second.load_state_dict(state)
    assert seen + [batch["number"].tolist() for batch in second] == whole
    other = fs.Loader(packed, 4, shuffle=True, seed=2, buckets="tokens", rank=0, world_size=1)
    with pytest.raises(ValueError, match="buckets"):
        other.load_state_dict(state)


def test_buckets_by_bytes_and_what_they_refuse(packed, tmp_path):
    fs.pack(({"text": "x" * (n * 37 % 101), "n": n} for n in range(300)), tmp_path / "ds")
    loader = fs.Loader(tmp_path / "ds", 10, shuffle=True, buckets="text")
    spans = [np.ptp([len(text) for text in batch["text"]]) for batch in loader]
    assert max(spans) < 10
    with pytest.raises(ValueError, match="one length"):
        fs.Loader(packed, 8, buckets="number")
    with pytest.raises(ValueError, match='no field "nothing"'):
        fs.Loader(packed, 8, buckets="nothing")
    with pytest.raises(ValueError, match="batches=0"):
        fs.Buckets("tokens", batches=0)


def test_sources_agree(texts, packed, tmp_path):
    plain = [text.tolist() for text in texts]
    table = pa.table({"number": range(len(plain)), "tokens": pa.array(plain, pa.large_list(pa.int32()))})
    pa.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=50)
    sources = {
        "arrow": table,
        "parquet": tmp_path / "t.parquet",
        "polars": pl.from_arrow(table),
        "pandas": pd.DataFrame({"number": range(len(texts)), "tokens": texts}),
        "dataset": packed,
    }
    for name, source in sources.items():
        fs.pack(source, tmp_path / name)
        ds = fs.open(tmp_path / name)
        assert str(ds.field("tokens")) == "tokens: list int32", name
        assert all(np.array_equal(a, b) for a, b in zip(ds.column("tokens"), texts, strict=True)), name
    fs.pack(packed[::-3], tmp_path / "view")
    assert np.array_equal(fs.open(tmp_path / "view")[0]["tokens"], texts[-1])
    joined = fs.concat([fs.open(tmp_path / "arrow"), fs.open(tmp_path / "view")])
    assert np.array_equal(joined[len(texts)]["tokens"], texts[-1])


def test_elements_with_a_shape(tmp_path):
    draws = np.random.default_rng(0)
    boxes = [draws.random((count, 4), np.float32) for count in (2, 0, 5, 1)]
    fs.pack(({"boxes": one} for one in boxes), tmp_path / "rows", types={"boxes": "list[float32, 4]"})
    nested = pa.array([one.tolist() for one in boxes], pa.list_(pa.list_(pa.float32(), 4)))
    fs.pack(pa.table({"boxes": nested}), tmp_path / "table")
    for name in ("rows", "table"):
        ds = fs.open(tmp_path / name)
        assert str(ds.field("boxes")) == "boxes: list[4] float32"
        np.testing.assert_array_equal(ds[1]["boxes"], np.empty((0, 4), np.float32))
        (batch,) = fs.Loader(ds, 4)
        np.testing.assert_array_equal(batch["boxes"], np.concatenate(boxes))
        assert batch["boxes_offsets"].tolist() == [0, 2, 2, 7, 8]
        (batch,) = fs.Loader(ds, 4, transforms={"boxes": fs.PadSequence(-1)})
        assert batch["boxes"].shape == (4, 5, 4)
        assert batch["boxes_mask"].sum(axis=1).tolist() == [2, 0, 5, 1]
        np.testing.assert_array_equal(batch["boxes"][0, :2], boxes[0])
        assert (batch["boxes"][0, 2:] == -1).all()
        assert all(np.array_equal(a, b) for a, b in zip(ds.column("boxes"), boxes, strict=True))
        assert fs.open(tmp_path / name).to_hf()["boxes"][3] == boxes[3].tolist()


def test_arrays_of_one_shape_are_tensors(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    nested = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    fs.pack(
        pa.table({"a": nested, "b": pa.array(values.reshape(3, 4).tolist(), pa.list_(pa.int8(), 4))}), tmp_path / "ds"
    )
    ds = fs.open(tmp_path / "ds")
    assert [str(field) for field in ds.fields] == ["a: tensor[2, 2] float32", "b: tensor[4] int8"]
    np.testing.assert_array_equal(ds.column("a"), values)
    np.testing.assert_allclose(ds.statistics["a"]["mean"], values.mean(axis=0))


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "uint64", "float16", "float64"])
def test_types(kind, tmp_path):
    values = [np.array([0, 1, 1], kind), np.array([], kind), np.array([1], kind)]
    fs.pack(({"x": one} for one in values), tmp_path / "ds", types={"x": f"list[{kind}]"})
    (batch,) = fs.Loader(tmp_path / "ds", 3, transforms={"x": fs.PadSequence(1)})
    assert batch["x"].dtype == kind
    np.testing.assert_array_equal(batch["x"], np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]], kind))


def test_python_lists_say_their_type(tmp_path):
    fs.pack(({"i": [n] * n, "f": [0.5, 1][: n + 1]} for n in range(1, 4)), tmp_path / "ds")
    assert [str(field) for field in fs.open(tmp_path / "ds").fields] == ["i: list int64", "f: list float64"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1], [2.5]], r"row 1, field 'x'.*2\.5.*expected a list of int32"),
        ([[1], [2**40]], r"row 1, field 'x'.*1099511627776"),
        ([[1], ["a"]], "row 1, field 'x'"),
        ([[1], [[1, 2]]], "row 1, field 'x'"),
        ([[1], [[1], [1, 2]]], "row 1, field 'x'"),
        ([[1], 5], "row 1, field 'x': 5"),
    ],
)
def test_rows_that_are_no_such_list(rows, message, tmp_path):
    with pytest.raises(fs.SourceError, match=message):
        fs.pack(({"x": row} for row in rows), tmp_path / "ds", types={"x": "list[int32]"})
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], None], pa.list_(pa.int32())), "row 2, column 'x': nothing; expected a list"),
        (pa.array([[1], [2, None]], pa.list_(pa.int32())), "row 2, column 'x': nothing; expected a value"),
        (pa.array([[1.0], [2.0, float("inf")]], pa.list_(pa.float32())), "row 2, column 'x': inf"),
        (pa.array([["a"]], pa.list_(pa.string())), "expected lists of numbers"),
        (pa.array([[[1], [1, 2]]], pa.list_(pa.list_(pa.int32()))), "expected lists of numbers"),
    ],
)
def test_columns_that_hold_no_lists(column, message, tmp_path):
    with pytest.raises(fs.SourceError, match=message):
        fs.pack(pa.table({"x": column}), tmp_path / "ds")
    assert not (tmp_path / "ds").exists()


def test_options(packed):
    for steps in ([fs.PadSequence(), fs.Truncate(3)], [fs.Truncate(3), fs.Truncate(3)], [fs.Resize(3)], []):
        if steps:
            with pytest.raises(ValueError, match="lists take a Truncate, a PadSequence, or both"):
                fs.Loader(packed, 8, transforms={"tokens": steps})
    with pytest.raises(ValueError, match=r"can't be filled up with 0\.5"):
        fs.Loader(packed, 8, transforms={"tokens": fs.PadSequence(0.5)})
    with pytest.raises(ValueError, match="image field"):
        fs.Loader(packed, 8, transforms={"number": fs.Truncate(3)})
    with pytest.raises(ValueError, match="expected one of them"):
        fs.PadSequence(length=8, multiple_of=8)
    with pytest.raises(ValueError, match="finite"):
        fs.PadSequence(float("nan"))


def test_names_that_clash(tmp_path):
    fs.pack(({"x": [1, 2], "x_offsets": 1} for _ in range(2)), tmp_path / "ds")
    with pytest.raises(ValueError, match="x_offsets"):
        fs.Loader(tmp_path / "ds", 2)
    assert len(next(iter(fs.Loader(tmp_path / "ds", 2, fields=["x"])))) == 2


def test_a_damaged_list_is_found(texts, tmp_path):
    fs.pack(({"tokens": tokens} for tokens in texts), tmp_path / "ds", types={"tokens": "list[int32]"})
    (shard,) = (tmp_path / "ds").glob("*.arrow")
    data = bytearray(shard.read_bytes())
    place = data.find(texts[30].tobytes())
    data[place + 4] ^= 1
    shard.write_bytes(data)
    ds = fs.open(tmp_path / "ds")
    assert [problem.row for problem in ds.verify()] == [30]
    with pytest.raises(fs.CorruptionError, match="row 30"):
        list(fs.Loader(ds, 8))
    with pytest.raises(fs.CorruptionError, match="row 30"):
        ds[30]


def test_inspect(packed):
    result = CliRunner().invoke(_cli.app, ["inspect", str(packed.path)])
    assert "tokens elements: min 0" in result.output
