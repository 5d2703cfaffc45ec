"""Arrays in memory as datasets, and TensorLoader over them and over packed ones."""

import gc
import json
import pickle
import weakref

import numpy as np
import pytest
import torch

import fastshard as fs

ROWS = 1000
BATCH = 64


@pytest.fixture(scope="module")
def features():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, 28), dtype=np.float32))


@pytest.fixture(scope="module")
def labels():
    return torch.arange(ROWS)


@pytest.fixture(scope="module")
def table(features, labels, tmp_path_factory):
    """The same rows packed, in blocks that end within batches."""
    path = tmp_path_factory.mktemp("tensors") / "table"
    rows = ({"features": x, "label": y} for x, y in zip(features.numpy(), labels.numpy(), strict=True))
    fs.pack(rows, path, shard_size="64KiB")
    return path


@pytest.fixture(params=["memory", "packed"])
def source(request, features, labels, table):
    return (features, labels) if request.param == "memory" else (table,)


def joined(batches):
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def test_in_order_as_slices(source, features, labels):
    batches = list(fs.torch.TensorLoader(*source, batch_size=BATCH))
    assert [len(y) for _, y in batches] == [BATCH] * (ROWS // BATCH) + [ROWS % BATCH]
    for at, (x, y) in enumerate(batches):
        assert torch.equal(x, features[at * BATCH : (at + 1) * BATCH])
        assert torch.equal(y, labels[at * BATCH : (at + 1) * BATCH])
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("shuffle", [True, "block"])
def test_shuffled_rows_stay_together(source, features, labels, num_threads, shuffle):
    loader = fs.torch.TensorLoader(*source, batch_size=BATCH, shuffle=shuffle, seed=3, num_threads=num_threads)
    epochs = [joined(loader) for _ in range(2)]
    for x, y in epochs:
        assert torch.equal(y.sort().values, labels)
        assert torch.equal(x, features[y])
    assert not torch.equal(epochs[0][1], epochs[1][1])


def test_memory_and_shards_have_one_order(table, features, labels):
    options = {"batch_size": 50, "shuffle": True, "seed": 9}
    memory = joined(fs.torch.TensorLoader(features, labels, **options))
    packed = joined(fs.torch.TensorLoader(fs.open(table), **options))
    assert all(torch.equal(one, other) for one, other in zip(memory, packed, strict=True))


def test_slices_are_the_memory_of_the_tensors():
    x, y = torch.zeros(10, 3), torch.arange(10)
    first = next(iter(fs.torch.TensorLoader(x, y, batch_size=4)))
    assert first[0].data_ptr() == x.data_ptr()
    assert first[1].data_ptr() == y.data_ptr()
    first[0].fill_(7)
    assert x[:4].eq(7).all()
    assert x[4:].eq(0).all()


def test_writing_to_slices_of_a_packed_dataset_leaves_its_files(table, features):
    before = {path.name: path.read_bytes() for path in table.iterdir()}
    loader = fs.torch.TensorLoader(table, batch_size=BATCH, fields=["features"])
    for (x,) in loader:
        x.add_(1)
    assert {path.name: path.read_bytes() for path in table.iterdir()} == before
    np.testing.assert_array_equal(fs.open(table).column("features"), features)
    (again,) = joined(fs.torch.TensorLoader(table, batch_size=BATCH, fields=["features"]))
    assert torch.equal(again, features)
    # Those of one loader are the same memory in each epoch, as slices of a tensor are, where they need no copy.
    (changed,) = joined(loader)
    assert (changed[:BATCH] == features[:BATCH] + 1).all()


def test_shuffled_batches_are_memory_of_their_own(source, features):
    held = [x.clone() for x, _ in fs.torch.TensorLoader(*source, batch_size=BATCH, shuffle=True)]
    kept = []
    for x, _ in fs.torch.TensorLoader(*source, batch_size=BATCH, shuffle=True):
        kept.append(x)
    assert all(torch.equal(one, other) for one, other in zip(held, kept, strict=True))
    for x in kept:
        x.zero_()
    assert features.any(dim=1).all()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).integers(0, 255, (ROWS, 5, 7), dtype=np.uint8),
        np.random.default_rng(1).standard_normal((ROWS, 40, 3)).astype(np.float16),
        np.random.default_rng(1).standard_normal((ROWS, 300)),
        np.arange(ROWS) % 2 == 0,
        np.arange(ROWS, dtype=np.int16),
        np.arange(ROWS * 3, dtype=np.uint16).reshape(ROWS, 3),
    ],
    ids=lambda values: f"{values.dtype}{list(values.shape[1:])}",
)
def test_every_type_and_width(values):
    numbers = np.arange(ROWS)
    for x, n in fs.torch.TensorLoader(values, numbers, batch_size=BATCH, shuffle=True):
        np.testing.assert_array_equal(x, values[n])
        assert x.numpy().dtype == values.dtype


def test_bfloat16():
    values = torch.randn(100, 3).bfloat16()
    for shuffle in (False, True):
        for x, n in fs.torch.TensorLoader(values, torch.arange(100), batch_size=7, shuffle=shuffle):
            assert x.dtype == torch.bfloat16
            assert torch.equal(x, values[n])


def test_arrays_out_of_order_in_memory_are_copied():
    values = torch.arange(60).reshape(3, 20).T
    big_endian = np.arange(20, dtype=">i4")
    for x, n in fs.torch.TensorLoader(values, big_endian, batch_size=6):
        assert torch.equal(x, values[n.long()])


def test_memmap(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(300, dtype=np.float32).reshape(100, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader = fs.Loader(fs.from_arrays({"x": mapped}), 8, shuffle=True)
    rows = np.concatenate([batch["x"] for batch in loader])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], mapped)


@pytest.mark.parametrize("shuffle", [False, True])
def test_resume(source, shuffle):
    options = {"batch_size": BATCH, "shuffle": shuffle, "seed": 5}
    loader = fs.torch.TensorLoader(*source, **options)
    wanted = list(loader)
    loader.set_epoch(0)
    for stop, _ in enumerate(loader):
        if stop == 6:
            break
    state = json.loads(json.dumps(loader.state_dict()))
    other = fs.torch.TensorLoader(*source, **options)
    other.load_state_dict(state)
    rest = list(other)
    assert len(rest) == len(wanted) - 7
    for found, expected in zip(rest, wanted[7:], strict=True):
        assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_ranks_share_an_epoch(source, shuffle):
    seen = []
    for rank in range(3):
        loader = fs.torch.TensorLoader(*source, batch_size=50, shuffle=shuffle, rank=rank, world_size=3)
        batches = list(loader)
        assert len(batches) == len(loader) == 7
        seen.append(joined(batches)[1])
    # 1,000 rows for three ranks: two come twice, so that all have equally many.
    counts = torch.cat(seen).bincount(minlength=ROWS)
    assert counts.min() == 1
    assert counts.sum() == ROWS + 2


def test_length_and_dropping():
    x = torch.arange(10)
    assert len(fs.torch.TensorLoader(x, batch_size=4)) == 3
    loader = fs.torch.TensorLoader(x, batch_size=4, drop_last=True)
    assert len(loader) == len(list(loader)) == 2
    assert "TensorLoader" in repr(loader)
    assert list(fs.torch.TensorLoader(torch.empty(0, 3), batch_size=4)) == []


def test_statistics_count(features, labels):
    loader = fs.torch.TensorLoader(features, labels, batch_size=BATCH, shuffle=True)
    list(loader)
    assert loader.loader.stats()["samples"] == ROWS
    assert loader.loader.stats()["bytes"] == ROWS * (28 * 4 + 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected at least one"),
        ((torch.zeros(3), torch.zeros(4)), "tensor_0: 3, tensor_1: 4"),
        ((torch.tensor(3.0),), "a single value"),
        ((torch.zeros(3, dtype=torch.complex64),), "complex64"),
        ((np.array(["a", "b"]),), "<U1"),
        ((torch.zeros(3, device="meta"),), "meta"),
    ],
)
def test_what_is_no_table_is_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fs.torch.TensorLoader(*arguments, batch_size=2)


def test_texts_and_images_are_refused(packed, tmp_path):
    fs.pack(({"text": str(n), "n": n} for n in range(4)), tmp_path / "texts")
    with pytest.raises(ValueError, match="field 'text' is no tensor"):
        fs.torch.TensorLoader(tmp_path / "texts", batch_size=2)
    assert len(list(fs.torch.TensorLoader(tmp_path / "texts", batch_size=2, fields=["n"]))) == 2
    with pytest.raises(ValueError, match="different sizes"):
        fs.torch.TensorLoader(packed, batch_size=2)


def test_memory_lives_as_long_as_somebody_needs_it():
    array = np.arange(100)
    gone = weakref.ref(array)
    batches = iter(fs.Loader(fs.from_arrays({"n": array}), 10))
    del array
    first = next(batches)["n"]
    batches.close()
    del batches
    gc.collect()
    assert gone() is not None
    np.testing.assert_array_equal(first, np.arange(10))
    del first
    gc.collect()
    assert gone() is None


def test_views_of_arrays(features, labels):
    ds = fs.from_arrays({"features": features, "label": labels % 5})
    assert len(ds) == ROWS
    assert [field.name for field in ds.fields] == ["features", "label"]
    train, test = ds.split([0.8, 0.2], stratify="label", seed=1)
    assert np.bincount(test.column("label")).tolist() == [40] * 5
    assert set(ds.where(label=3).column("label")) == {3}
    assert len(ds.filter(labels.numpy() > 989)) == 10
    np.testing.assert_array_equal(ds[7]["features"], features[7])
    np.testing.assert_array_equal(ds.column("features"), features)
    both = fs.concat([train, test])
    assert len(both) == ROWS
    seen = np.concatenate([batch["features"] for batch in fs.Loader(both, 100)])
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(features.numpy(), axis=0))
    assert ds.to_arrow().column("label").to_pylist() == (labels % 5).tolist()


def test_what_arrays_in_memory_cannot_do():
    ds = fs.from_arrays({"n": np.arange(5)})
    for impossible in (ds.verify, lambda: ds.path, lambda: pickle.dumps(ds)):
        with pytest.raises(ValueError, match=r"in memory; fastshard\.pack"):
            impossible()
    with pytest.raises(ValueError, match="concatenate the arrays"):
        fs.concat([ds, fs.from_arrays({"n": np.arange(3)})])
    with pytest.raises(ValueError, match="at least one array"):
        fs.from_arrays({})


def test_forked_workers_load_arrays(features, labels):
    ds = fs.from_arrays({"features": features, "label": labels})
    dataset = fs.torch.ShardDataset(fs.Loader(ds, BATCH, shuffle=True, seed=2))
    wanted = {int(n) for batch in dataset for n in batch["label"]}
    dataset.set_epoch(0)
    workers = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert {int(n) for batch in workers for n in batch["label"]} == wanted == set(range(ROWS))
