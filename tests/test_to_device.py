"""Batches on their way to a device: in order, one ahead, and nothing left behind. Streams are stand-ins here."""

import contextlib
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import fastshard as fs

ROWS, BATCH = 40, 4


class Stream:
    """Writes down what is asked of a stream."""

    def __init__(self, log):
        self.log = log
        self.events = 0

    def record_event(self):
        self.events += 1
        return self.events - 1

    def wait_event(self, event):
        self.log.append(("wait", event))


@pytest.fixture
def log(monkeypatch):
    """Lets a GPU's way of copying run on the CPU, and gives what happens."""
    log = []
    stream = Stream(log)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda one: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: log.append("pin") or tensor.clone())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append("record"))
    real = torch.Tensor.to

    def to(tensor, device, non_blocking=False):
        log.append("copy" if non_blocking else "blocking")
        return real(tensor, "cpu" if device.type == "cuda" else device)

    monkeypatch.setattr(torch.Tensor, "to", to)
    return log


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("device") / "ds"
    pixels = np.zeros((32, 32, 3), np.uint8)
    fs.pack(({"n": n, "image": pixels + n, "text": f"sample {n}"} for n in range(ROWS)), path)
    return path


def make(path, **options):
    return fs.Loader(path, BATCH, shuffle=True, num_threads=2, **options)


def test_the_same_batches_in_the_same_order(path, log):
    wanted = [batch["n"].tolist() for batch in make(path)]
    assert [batch["n"].tolist() for batch in fs.torch.to_device(fs.torch.ShardDataset(make(path)), "cuda")] == wanted


def test_one_is_copied_ahead_and_each_is_waited_for(log):
    def source():
        for n in range(3):
            log.append(("read", n))
            yield {"x": torch.full((2,), n)}

    for batch in fs.torch.to_device(source(), "cuda"):
        log.append(("work", int(batch["x"][0])))
    copy = ["pin", "copy"]
    assert log == [
        *[("read", 0), *copy, ("read", 1), *copy, ("wait", 0), "record", ("work", 0)],
        *[("read", 2), *copy, ("wait", 1), "record", ("work", 1)],
        *[("wait", 2), "record", ("work", 2)],
    ]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("good", [0, 1, 3])
def test_an_error_comes_after_the_batches_before_it(log, device, good):
    def source():
        yield from ({"x": torch.tensor([n])} for n in range(good))
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        collect(fs.torch.to_device(source(), device), seen)
    assert seen == list(range(good))


def collect(batches, seen):
    for batch in batches:
        seen.append(int(batch["x"]))


def test_ctrl_c_comes_at_once(log):
    def source():
        yield {"x": torch.tensor([0])}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(fs.torch.to_device(source(), "cuda"))


class Pair(NamedTuple):
    left: torch.Tensor
    right: list


@pytest.mark.parametrize("device", ["cuda", "meta"])
def test_nested_tensors_go_along(log, device):
    one = torch.arange(3)
    batch = {"deep": {"a": [one, (one, "text")]}, "pair": Pair(one, [one]), "text": ["x", "y"], "n": 3, "none": None}
    (moved,) = fs.torch.to_device([batch], device)
    found = [moved["deep"]["a"][0], moved["deep"]["a"][1][0], moved["pair"].left, moved["pair"].right[0]]
    assert {one.device.type for one in found} == {"cpu" if device == "cuda" else "meta"}
    assert all(tensor is not one for tensor in found)
    assert isinstance(moved["pair"], Pair)
    assert isinstance(moved["deep"]["a"], list)
    assert moved["deep"]["a"][1][1] == "text"
    assert (moved["text"], moved["n"], moved["none"]) == (["x", "y"], 3, None)
    if device == "cuda":
        assert (log.count("pin"), log.count("copy"), log.count("record")) == (4, 4, 4)


def test_tuples_of_tensors(log):
    (moved,) = fs.torch.to_device([(torch.ones(2), torch.zeros(1))], "cuda")
    assert [tensor.tolist() for tensor in moved] == [[1, 1], [0]]


def test_what_a_lambda_makes_goes_along(path, log):
    nest = fs.Lambda(lambda batch: {"x": {"n": torch.from_numpy(batch["n"])}})
    moved = next(fs.torch.to_device(fs.torch.ShardDataset(make(path, batch_transforms=[nest])), "cuda"))
    assert moved["x"]["n"].shape == (BATCH,)
    assert log.count("pin") == 2


def test_on_the_cpu_nothing_is_copied():
    one = torch.arange(3)
    (moved,) = fs.torch.to_device([{"x": one}], "cpu")
    assert moved["x"] is one


def native_threads():
    return sum("fastshard" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("end", ["dropped", "closed", "failed"])
def test_no_thread_is_left(path, log, device, end):
    before = native_threads(), threading.active_count()
    calls = []

    def fail(batch):
        calls.append(batch)
        if end == "failed" and len(calls) == 3:
            raise OSError("in a Lambda")
        return batch

    moved = fs.torch.to_device(fs.torch.ShardDataset(make(path, batch_transforms=[fs.Lambda(fail)])), device)
    next(moved)
    assert native_threads() > before[0]
    if end == "closed":
        moved.close()
    elif end == "failed":
        with pytest.raises(OSError, match="in a Lambda"):
            list(moved)
    else:
        del moved
    assert (native_threads(), threading.active_count()) == before


@pytest.mark.parametrize("device", ["nowhere", "cuda:x"])
def test_a_device_that_is_none_is_refused_at_once(device):
    with pytest.raises(RuntimeError):
        fs.torch.to_device([], device)
