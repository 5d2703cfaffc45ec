"""Stopping and going on, and sharing an epoch between ranks: the same samples, bit for bit."""

import io
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import fastshard as fs

ROWS = 203
STEPS = {"image": [fs.RandomResizedCrop(24), fs.RandomHorizontalFlip(), fs.ColorJitter(0.4)]}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata's
]


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "ds"
    random = np.random.default_rng(0)
    fs.pack(({"n": n, "image": random.integers(0, 256, (40, 40, 3), dtype=np.uint8)} for n in range(ROWS)), path)
    return fs.open(path)


@pytest.fixture(scope="module")
def spoilt(photos, tmp_path_factory):
    """Eight PNG files; those of rows 2 and 3 have a sound header, and nonsense behind it."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(photos["cat"][:32, :32])).save(stream, "PNG")
    good = stream.getvalue()
    bad = good[:60] + bytes(140) + good[200:]
    path = tmp_path_factory.mktemp("state") / "spoilt"
    fs.pack([{"image": bad if n in (2, 3) else good, "n": n} for n in range(8)], path)
    return fs.open(path)


def loader(ds, batch_size=8, shuffle=True, **options):
    return fs.Loader(ds, batch_size, shuffle=shuffle, seed=5, transforms=STEPS, **options)


def samples(batches):
    """(n, pixels) of every sample."""
    return [
        (n, np.asarray(image).tobytes())
        for batch in batches
        for n, image in zip(batch["n"].tolist(), batch["image"], strict=True)
    ]


def flat(batches):
    return [n for batch in batches for n in batch["n"].tolist()]


def take(loader, batches):
    """The first batches of a pass, which is then left."""
    with iter(loader) as source:
        return [next(source) for _ in range(batches)]


def through_json(state):
    return json.loads(json.dumps(state))


class TestResume:
    @pytest.mark.parametrize("shuffle", [False, True, "block"])
    def test_at_random_points(self, ds, shuffle):
        random = np.random.default_rng(1)
        wanted = [samples(loader(ds, shuffle=shuffle).iterate(epoch=epoch)) for epoch in range(3)]
        for _ in range(70):
            epoch, first, threads, size = (int(random.integers(n)) for n in (3, 26, 4, 20))
            stopped = loader(ds, shuffle=shuffle, num_threads=threads + 1)
            stopped.set_epoch(epoch)
            assert samples(take(stopped, first)) == wanted[epoch][: first * 8]
            resumed = loader(ds, size + 1, shuffle=shuffle, num_threads=4 - threads, prefetch=1 + threads)
            resumed.load_state_dict(through_json(stopped.state_dict()))
            assert samples(resumed) == wanted[epoch][first * 8 :]
            assert resumed.epoch == epoch + 1
            assert flat(resumed) == [n for n, _ in samples(loader(ds, shuffle=shuffle).iterate(epoch=epoch + 1))]

    def test_at_the_ends_of_an_epoch(self, ds):
        one = loader(ds)
        assert one.state_dict()["samples"] == one.state_dict()["epoch"] == 0
        list(one)
        assert (one.state_dict()["epoch"], one.state_dict()["samples"]) == (1, 0)
        with iter(loader(ds, drop_last=True)) as source:
            for _ in range(ROWS // 8):
                next(source)
            state = source._loader.state_dict()
        assert state["samples"] == 200
        other = loader(ds, drop_last=True)
        other.load_state_dict(state)
        assert other.epoch == 1
        assert flat(other) == flat(loader(ds, drop_last=True).iterate(epoch=1))

    def test_of_a_resumed_pass(self, ds):
        wanted = flat(loader(ds).iterate(epoch=0))
        state = loader(ds).state_dict()
        for at in range(0, 24, 4):
            again = loader(ds)
            again.load_state_dict(state)
            assert flat(take(again, 4)) == wanted[at * 8 : at * 8 + 32]
            state = again.state_dict()

    def test_a_pass_that_is_left_is_repeated(self, ds):
        """As an adapter leaves one that only looked at the first batch."""
        one = loader(ds)
        one.load_state_dict(loader(ds).state_dict() | {"samples": 80})
        first, second, third = flat(take(one, 3)), flat(one), flat(one)
        assert first == second[:24]
        assert (len(second), len(third)) == (ROWS - 80, ROWS)

    def test_skipped_batches_count(self, spoilt):
        """Batches of which nothing is left are not handed out, and still lie behind."""
        one = fs.Loader(spoilt, 2, on_error="skip")
        assert flat(take(one, 2)) == [0, 1, 4, 5]
        other = fs.Loader(spoilt, 2, on_error="skip")
        other.load_state_dict(one.state_dict())
        assert flat(other) == [6, 7]

    def test_mixed_batches(self, photos, tmp_path):
        pixels = [{"image": photos["cat"][:32, :32], "label": n % 2, "n": n} for n in range(24)]
        fs.pack(pixels, tmp_path / "ds")
        options = {"shuffle": True, "batch_transforms": fs.CutMix(num_classes=2, label="label")}
        wanted = list(fs.Loader(tmp_path / "ds", 8, **options).iterate(epoch=0))
        resumed = fs.Loader(tmp_path / "ds", 8, **options)
        resumed.load_state_dict(resumed.state_dict() | {"samples": 8})
        for one, other in zip(resumed, wanted[1:], strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["label"], other["label"])

    def test_what_does_not_fit_is_refused(self, ds):
        state = loader(ds).state_dict()
        for change, message in (
            ({"seed": 6}, "seed=6, expected 5"),
            ({"shuffle": False}, "shuffle=False, expected True"),
            ({"dataset": "other"}, "dataset='other'"),
            ({"version": 2}, "expected what state_dict"),
            ({"samples": ROWS + 1}, "samples of state=204"),
            ({"epoch": -1}, "epoch of state=-1"),
        ):
            with pytest.raises(ValueError, match=message):
                loader(ds).load_state_dict(state | change)
        with pytest.raises(ValueError, match="dataset"):
            loader(ds[:-1]).load_state_dict(state)
        with pytest.raises(ValueError, match="expected what state_dict"):
            loader(ds).load_state_dict(None)
        with pytest.raises(TypeError, match="epoch of state=None"):
            loader(ds).load_state_dict({name: value for name, value in state.items() if name != "epoch"})


class TestRanks:
    @pytest.mark.parametrize("world", [1, 2, 3, 7])
    @pytest.mark.parametrize("drop_last", [False, True])
    @pytest.mark.parametrize("shuffle", [False, True, "block"])
    def test_share_an_epoch_in_equal_steps(self, ds, world, drop_last, shuffle):
        ranks = [loader(ds, 5, shuffle, drop_last=drop_last, rank=rank, world_size=world) for rank in range(world)]
        passes = [list(one) for one in ranks]
        assert {len(batches) for batches in passes} == {len(ranks[0])}
        assert len({tuple(len(batch["n"]) for batch in batches) for batches in passes}) == 1
        order = flat(loader(ds, 5, shuffle).iterate(epoch=0))
        # Sample i of rank r stands at i * world + r.
        together = [n for step in zip(*map(flat, passes), strict=True) for n in step]
        if drop_last:
            assert together == order[: ROWS // (5 * world) * 5 * world]
        else:
            assert together == (order + order)[: -(-ROWS // world) * world]

    @pytest.mark.parametrize("worlds", [(4, 3, 2), (1, 5), (2, 2), (6, 1, 3)], ids=str)
    def test_elastic(self, ds, worlds):
        """Some batches on so many ranks, and on from there on as many others: what is left, bit for bit."""
        wanted = samples(loader(ds).iterate(epoch=0))
        seen, state = [], None
        for number, world in enumerate(worlds):
            ranks = [loader(ds, 4, rank=rank, world_size=world, num_threads=1 + rank % 2) for rank in range(world)]
            states = []
            for one in ranks:
                if state is not None:
                    one.load_state_dict(state)
            last = number == len(worlds) - 1
            shares = [samples(one if last else take(one, 3)) for one in ranks]
            states = [through_json(one.state_dict()) for one in ranks]
            assert all(one == states[0] for one in states)
            state = states[0]
            seen += [sample for step in zip(*shares, strict=True) for sample in step]
        assert seen[:ROWS] == wanted
        assert seen[ROWS:] == wanted[: len(seen) - ROWS]
        assert len(seen) - ROWS < worlds[-1]

    def test_given_or_found(self, ds, monkeypatch):
        def found(**options):
            spec = fs.Loader(ds, 8, **options)._spec
            return spec["rank"], spec["world_size"]

        assert found() == (0, 1)
        monkeypatch.setenv("RANK", "2")
        monkeypatch.setenv("WORLD_SIZE", "4")
        assert found() == (2, 4)
        assert found(rank=1, world_size=3) == (1, 3)
        assert found(world_size=1) == (0, 1)
        monkeypatch.setenv("RANK", "4")
        with pytest.raises(ValueError, match="RANK='4' and WORLD_SIZE='4'"):
            found()
        for rank, world in ((3, 3), (-1, 3), (0, 0), (0, None), (None, 2)):
            with pytest.raises(ValueError, match=r"rank|world_size"):
                found(rank=rank, world_size=world)

    def test_for_rank(self, ds):
        one = loader(ds, rank=0, world_size=3)
        assert flat(one.for_rank(2, 3)) == flat(loader(ds, rank=2, world_size=3))

    @pytest.mark.parametrize("world", [2, 4])
    def test_of_torch_distributed(self, ds, world, tmp_path):
        """Real processes that know of each other through gloo; the loader asks torch for its rank."""
        script = """
            import json, sys
            import torch.distributed as dist
            import fastshard as fs
            rank, world, store, path, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
            loader = fs.Loader(path, 8, shuffle=True, seed=5, fields=["n"], num_threads=1)
            mine = [[n for batch in fs.torch.ShardDataset(loader) for n in batch["n"].tolist()] for _ in range(2)]
            everybody = [None] * world
            dist.all_gather_object(everybody, mine)
            if rank == 0:
                json.dump(everybody, open(out, "w"))
            dist.destroy_process_group()
        """
        out = tmp_path / "seen.json"
        command = [sys.executable, "-c", textwrap.dedent(script)]
        common = [str(world), str(tmp_path / "store"), str(ds.path), str(out)]
        ranks = [subprocess.Popen([*command, str(rank), *common]) for rank in range(world)]
        assert [rank.wait(timeout=120) for rank in ranks] == [0] * world
        everybody = json.loads(out.read_text())
        for epoch in range(2):
            order = flat(loader(ds).iterate(epoch=epoch))
            together = [n for step in zip(*(mine[epoch] for mine in everybody), strict=True) for n in step]
            assert together == (order + order)[: len(together)]
            assert len(together) == -(-ROWS // world) * world


class TestTorch:
    def test_without_workers(self, ds):
        wanted = flat(loader(ds).iterate(epoch=0))
        dataset = fs.torch.ShardDataset(loader(ds))
        source = iter(dataset)
        seen = [next(source) for _ in range(5)]
        state = through_json(dataset.state_dict())
        assert flat(seen) == wanted[:40]
        source.close()
        other = fs.torch.ShardDataset(loader(ds, rank=0, world_size=1))
        other.load_state_dict(state)
        assert flat(other) == wanted[40:]
        assert flat(other) == flat(loader(ds).iterate(epoch=1))

    @pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
    @pytest.mark.parametrize("at", [1, 7, 20])
    def test_stateful_data_loader(self, ds, num_workers, at):
        def make():
            dataset = fs.torch.ShardDataset(loader(ds, num_threads=2))
            return StatefulDataLoader(dataset, batch_size=None, num_workers=num_workers)

        stopped = make()
        source = iter(stopped)
        seen = [next(source) for _ in range(at)]
        state = through_json(stopped.state_dict()) if num_workers == 0 else stopped.state_dict()
        rest = samples(source)
        resumed = make()
        resumed.load_state_dict(state)
        assert samples(resumed) == rest
        assert samples(seen) + rest == samples(
            DataLoader(fs.torch.ShardDataset(loader(ds)), None, num_workers=num_workers)
        )
        assert flat(resumed) == flat(loader(ds).iterate(epoch=1))

    @pytest.mark.parametrize("at", [1, 2, 20])
    def test_stateful_data_loader_in_a_later_epoch(self, ds, at):
        """A worker that has yet to begin says the epoch of now, not that in which the dataset was made."""
        stopped = StatefulDataLoader(fs.torch.ShardDataset(loader(ds, num_threads=1)), batch_size=None, num_workers=2)
        list(stopped)
        source = iter(stopped)
        for _ in range(at):
            next(source)
        resumed = StatefulDataLoader(fs.torch.ShardDataset(loader(ds, num_threads=1)), batch_size=None, num_workers=2)
        resumed.load_state_dict(stopped.state_dict())
        assert flat(resumed) == flat(loader(ds).iterate(epoch=1))[8 * at :]

    def test_what_a_dataset_says_before_its_next_pass(self, ds):
        dataset = fs.torch.ShardDataset(loader(ds, fields=["n"]))
        source = iter(dataset)
        next(source)
        dataset.set_epoch(3)
        assert dataset.state_dict()["epoch"] == 3
        assert dataset.state_dict()["samples"] == 0
        list(dataset)
        assert dataset.state_dict()["epoch"] == 4

    def test_a_worker_goes_on_among_as_many(self, ds):
        dataset = fs.torch.ShardDataset(loader(ds))
        state = dataset.state_dict() | {"batches": 3, "workers": 2}
        with pytest.raises(ValueError, match="one of 2 workers on 1 ranks, expected as many as now: 1 on 1"):
            dataset.load_state_dict(state)
