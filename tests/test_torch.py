"""The torch adapter, and what torch's DataLoader does with it."""

import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

import fastshard as fs

ROWS = 40
STEPS = {"image": [fs.RandomResizedCrop(24), fs.RandomHorizontalFlip()]}


pytestmark = [
    # From Python 3.12 on; the threads are torch's, or those of other tests.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes:UserWarning"),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "raw"
    random = np.random.default_rng(0)
    fs.pack(
        (
            {
                "id": i,
                "pixels": random.integers(0, 256, (8, 9, 3), dtype=np.uint8),
                "wide": np.full(3, 60_000 + i, np.uint16),
                "half": np.full(3, i / 4, np.float16),
                "text": f"sample {i}",
                "blob": bytes([i]),
                "flag": i % 2 == 0,
            }
            for i in range(ROWS)
        ),
        path,
    )
    return path


@pytest.fixture
def loader(packed):
    return fs.Loader(packed, 6, shuffle=True, seed=1, transforms=STEPS, layout="NCHW", num_threads=2)


def epoch_of(loader, epoch):
    """The batches of an epoch, without moving the loader on."""
    return list(pickle.loads(pickle.dumps(loader)).iterate(epoch=epoch))


def same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(torch.as_tensor(left[name]), torch.as_tensor(right[name])) for name in left)


def test_tensors_of_every_type(raw):
    (batch,) = fs.torch.ShardDataset(fs.Loader(raw, ROWS))
    assert {name: value.dtype for name, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "id": torch.int64,
        "pixels": torch.uint8,
        "wide": torch.uint16,
        "half": torch.float16,
        "flag": torch.bool,
    }
    assert batch["text"] == [f"sample {i}" for i in range(ROWS)]
    assert batch["blob"] == [bytes([i]) for i in range(ROWS)]
    assert batch["wide"].tolist() == [[60_000 + i] * 3 for i in range(ROWS)]
    assert batch["half"].tolist() == [[i / 4] * 3 for i in range(ROWS)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_tensors_are_the_memory_of_the_slot(raw, shuffle, monkeypatch):
    arrays = []
    original = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: arrays.append(array) or original(array))
    held = []
    for batch in fs.torch.ShardDataset(fs.Loader(raw, 7, shuffle=shuffle)):
        for array, tensor in zip(
            arrays[-5:], [value for value in batch.values() if torch.is_tensor(value)], strict=True
        ):
            assert tensor.data_ptr() == array.__array_interface__["data"][0]
            assert not array.flags.owndata
        held.append((batch["id"].tolist(), batch["pixels"]))
    dataset = fs.open(raw)
    for rows, pixels in held:
        np.testing.assert_array_equal(pixels, [dataset[row]["pixels"] for row in rows])
        pixels.zero_()  # writable, and nobody else's
    np.testing.assert_array_equal(fs.open(raw)[0]["pixels"], dataset[0]["pixels"])
    assert dataset[0]["pixels"].any()


def test_equals_the_bare_loader(loader):
    dataset = fs.torch.ShardDataset(loader)
    assert len(dataset) == len(loader) == 7
    same(list(dataset), epoch_of(loader, 0))


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 9])
def test_workers_share_the_batches(loader, num_workers):
    wanted = epoch_of(loader, 0)
    found = list(DataLoader(fs.torch.ShardDataset(loader), batch_size=None, num_workers=num_workers))
    # Batch k comes from worker k modulo n, and torch asks them in turn: so even the order is the same.
    same(found, wanted)
    assert sum(len(batch["label"]) for batch in found) == 40


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_ways_to_start_workers(loader, context):
    wanted = epoch_of(loader, 0)
    next(iter(loader))  # threads have run in the parent before
    workers = DataLoader(
        fs.torch.ShardDataset(loader),
        batch_size=None,
        num_workers=2 if context == "fork" else 1,
        multiprocessing_context=context,
    )
    same(list(workers), wanted)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_go_on_and_can_be_set(loader, num_workers):
    wanted = [epoch_of(loader, epoch) for epoch in range(3)]
    dataset = fs.torch.ShardDataset(loader)
    data = DataLoader(dataset, batch_size=None, num_workers=num_workers)
    for epoch in range(3):
        same(list(data), wanted[epoch])
    dataset.set_epoch(1)
    same(list(data), wanted[1])


def test_persistent_workers(loader):
    wanted = [epoch_of(loader, epoch) for epoch in range(4)]
    dataset = fs.torch.ShardDataset(loader)
    data = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        same(list(data), wanted[epoch])
    dataset.set_epoch(0)
    same(list(data), wanted[0])
    same(list(data), wanted[1])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_early_end_does_not_hang(loader, num_workers):
    dataset = fs.torch.ShardDataset(loader)
    data = DataLoader(dataset, batch_size=None, num_workers=num_workers)
    wanted = epoch_of(loader, 0)
    warned = pytest.warns(RuntimeWarning, match="left half way") if num_workers == 0 else nullcontext()
    with warned:
        for _ in range(3):
            iterator = iter(data)
            next(iterator)
            del iterator
    same(list(data), wanted)  # passes left half way are repeated


def test_several_iterators(loader):
    dataset = fs.torch.ShardDataset(loader)
    wanted = epoch_of(loader, 0)
    one, other = iter(dataset), iter(dataset)
    pairs = list(zip(one, other, strict=True))
    same([pair[0] for pair in pairs], wanted)
    same([pair[1] for pair in pairs], wanted)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pinned_memory(loader, num_workers):
    wanted = epoch_of(loader, 0)
    data = DataLoader(fs.torch.ShardDataset(loader), batch_size=None, num_workers=num_workers, pin_memory=True)
    if torch.cuda.is_available():
        found = list(data)
        assert all(batch["image"].is_pinned() for batch in found)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no accelerator is found")
            found = list(data)
    same(found, wanted)


def test_text_survives_workers(raw):
    data = DataLoader(fs.torch.ShardDataset(fs.Loader(raw, 7)), batch_size=None, num_workers=2)
    assert [text for batch in data for text in batch["text"]] == [f"sample {i}" for i in range(ROWS)]


def test_errors_come_out_of_workers(packed):
    loader = fs.Loader(packed, 6, transforms={"image": fs.RandomCrop(290)})
    with pytest.raises(fs.DecodeError, match=r"row \d+"):
        list(fs.torch.ShardDataset(loader))
    with pytest.raises(fs.DecodeError, match=r"row \d+"):
        list(DataLoader(fs.torch.ShardDataset(loader), batch_size=None, num_workers=2))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"batch_size": 4, "drop_last": True}], ids=str)
def test_batches_are_not_batched_again(loader, num_workers, options):
    data = DataLoader(fs.torch.ShardDataset(loader), num_workers=num_workers, **options)
    with pytest.raises(ValueError, match=r"write DataLoader\(dataset, batch_size=None\)"):
        next(iter(data))


def test_what_a_data_loader_cannot_read_is_refused(loader, raw):
    with pytest.raises(TypeError, match=r"ShardDataset\(loader\) with batch_size=None"):
        next(iter(DataLoader(loader)))
    tensors = fs.torch.TensorLoader(raw, batch_size=4, fields=["id"])
    with pytest.raises(TypeError, match="without a DataLoader"):
        next(iter(DataLoader(tensors)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_tuples(loader, num_workers):
    dataset = fs.torch.ShardDataset(loader, as_tuple=("image", "label"))
    wanted = [(batch["image"], batch["label"]) for batch in epoch_of(loader, 0)]
    found = list(DataLoader(dataset, batch_size=None, num_workers=num_workers))
    assert [len(x) for x, y in found] == [6] * 6 + [4]
    for (x, y), (images, labels) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(y, labels)
    for names in ((), ("image", "breed"), "image"):
        with pytest.raises(ValueError, match=r"as_tuple=.*: expected names out of image, label"):
            fs.torch.ShardDataset(loader, as_tuple=names)


def test_what_is_no_loader_is_refused(packed):
    with pytest.raises(TypeError, match=r"expected a fastshard.Loader"):
        fs.torch.ShardDataset(fs.open(packed))


def test_a_batch_trains(loader):
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 5))
    for batch in fs.torch.ShardDataset(loader):
        loss = torch.nn.functional.cross_entropy(model(batch["image"].float() / 255), batch["label"])
        loss.backward()
    assert torch.isfinite(loss)


def test_collating_samples_gives_the_same(raw):
    dataset = fs.open(raw)
    names = ("id", "pixels", "half")
    samples = default_collate([{name: dataset[i][name] for name in names} for i in range(6)])
    batch = next(iter(fs.torch.ShardDataset(fs.Loader(dataset, 6, fields=names))))
    same([batch], [samples])


def test_batches_on_a_device(raw):
    loader = fs.Loader(raw, 16, shuffle=True)
    moved = list(fs.torch.to_device(fs.torch.ShardDataset(loader), "cpu"))
    wanted = epoch_of(loader, 0)
    assert [batch["id"].tolist() for batch in moved] == [batch["id"].tolist() for batch in wanted]
    assert isinstance(moved[0]["text"], list)
    on_meta = next(fs.torch.to_device(fs.torch.ShardDataset(loader), "meta"))
    assert on_meta["pixels"].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu(raw):
    wanted = epoch_of(fs.Loader(raw, 16, shuffle=True), 0)
    moved = list(fs.torch.to_device(fs.torch.ShardDataset(fs.Loader(raw, 16, shuffle=True)), "cuda"))
    assert all(batch["pixels"].is_cuda for batch in moved)
    same([{"pixels": batch["pixels"].cpu()} for batch in moved], [{"pixels": batch["pixels"]} for batch in wanted])
