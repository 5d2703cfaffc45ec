"""Loaders: order, batches, memory, errors and what happens when things stop half way."""

import io
import json
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastshard as fs
from fastshard import _fastshard
from fastshard._sources import rows as _rows

ROWS = 50


def python(code, *args):
    """Runs code in a process of its own and gives what it prints, as JSON."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def samples(count=ROWS):
    random = np.random.default_rng(0)
    for i in range(count):
        yield {
            "id": i,
            "pixels": random.integers(0, 256, (48, 64, 3), dtype=np.uint8),
            "half": np.full((5, 2), i / 8, np.float16),
            "text": f"näme {i}",
            "blob": bytes([i % 256]) * (i % 7),
            "flag": i % 3 == 0,
        }


@pytest.fixture(scope="module")
def expected():
    return list(samples())


@pytest.fixture(scope="module")
def raw(expected, tmp_path_factory):
    """Numbers, tensors, text and bytes in several shards, whose edges lie within batches."""
    path = tmp_path_factory.mktemp("loader") / "raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "_CHUNK_BYTES", 130_000)  # blocks of 16 MiB would make one shard
        fs.pack(expected, path, shard_size=128 * 1024)
    dataset = fs.open(path)
    assert len(dataset.manifest["shards"]) > 2
    return dataset


@pytest.fixture(scope="module")
def spoilt(photos, tmp_path_factory):
    """PNG files; those of rows 7 and 20 have a sound header, and nonsense behind it."""
    path = tmp_path_factory.mktemp("loader") / "spoilt"
    rows = []
    for i in range(24):
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photos["cat"][i : i + 32, :32])).save(stream, "PNG")
        encoded = bytearray(stream.getvalue())
        if i in (7, 20):
            encoded[60:200] = bytes(140)
        rows.append({"image": bytes(encoded), "id": i})
    fs.pack(rows, path)
    return fs.open(path)


def ids(batches):
    return [batch["id"].tolist() for batch in batches]


def flat(batches):
    return [number for batch in ids(batches) for number in batch]


class TestOrder:
    @pytest.mark.parametrize("batch_size", [1, 7, 10, 50, 51])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_batches_and_length(self, raw, batch_size, drop_last):
        if drop_last and batch_size > ROWS:
            with pytest.raises(ValueError, match="drop_last=True leaves no batch of 50 samples, since batch_size=51;"):
                fs.Loader(raw, batch_size, drop_last=True)
            return
        loader = fs.Loader(raw, batch_size, drop_last=drop_last)
        batches = ids(loader)
        wanted = [list(range(i, min(i + batch_size, ROWS))) for i in range(0, ROWS, batch_size)]
        if drop_last:
            wanted = [batch for batch in wanted if len(batch) == batch_size]
        assert batches == wanted
        assert len(loader) == len(wanted)

    @pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (5, 0), (2**64 - 1, 7)])
    def test_a_shuffled_epoch_is_the_permutation(self, raw, seed, epoch):
        loader = fs.Loader(raw, 8, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        order = flat(loader)
        assert sorted(order) == list(range(ROWS))
        assert order == np.frombuffer(_fastshard.permutation(ROWS, seed, epoch, 0, ROWS), np.int64).tolist()

    def test_seeds_and_epochs_differ(self, raw):
        orders = set()
        for seed in range(3):
            loader = fs.Loader(raw, 8, shuffle=True, seed=seed)
            orders |= {tuple(flat(loader)) for _ in range(3)}
        assert len(orders) == 9

    def test_a_full_pass_moves_on_and_a_broken_one_does_not(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True)
        next(iter(loader))
        assert loader.epoch == 0
        first = flat(loader)
        assert loader.epoch == 1
        second = flat(loader)
        assert first != second
        loader.set_epoch(0)
        assert flat(loader) == first
        assert flat(loader) == second

    @pytest.mark.parametrize(
        "options",
        [{"num_threads": n} for n in (1, 2, 5)] + [{"prefetch": n} for n in (1, 3, 100)] + [{"verify": False}],
        ids=str,
    )
    def test_options_of_speed_change_nothing(self, raw, options):
        wanted = list(fs.Loader(raw, 8, shuffle=True, seed=3))
        found = list(fs.Loader(raw, 8, shuffle=True, seed=3, **options))
        for one, other in zip(wanted, found, strict=True):
            assert one.keys() == other.keys()
            for name, values in one.items():
                np.testing.assert_array_equal(values, other[name])

    def test_views_of_a_dataset(self, raw):
        assert flat(fs.Loader(raw[10:40:7], 2)) == [10, 17, 24, 31, 38]
        assert flat(fs.Loader(raw[::-1], 8)) == list(range(ROWS))[::-1]
        assert flat(fs.Loader(raw[[3, 3, 49, 0]], 3)) == [3, 3, 49, 0]
        assert sorted(flat(fs.Loader(raw[5:9], 3, shuffle=True))) == [5, 6, 7, 8]
        assert ids(fs.Loader(raw[:0], 3)) == []

    @pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 3), (2, 3), (6, 1), (7, 1), (100, 5)])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_iterate_takes_every_nth_batch(self, raw, first, step, shuffle):
        loader = fs.Loader(raw, 8, shuffle=shuffle)
        every = ids(loader.iterate(epoch=0))
        assert ids(loader.iterate(first, step, epoch=0)) == every[first::step]

    def test_independent_iterators(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True)
        wanted = ids(loader.iterate(epoch=0))
        iterators = [loader.iterate(epoch=0) for _ in range(5)]
        found = [[] for _ in iterators]
        for _ in wanted:
            for batches, iterator in zip(found, iterators, strict=True):
                batches.append(next(iterator)["id"].tolist())
        assert found == [wanted] * 5
        assert all(next(iterator, None) is None for iterator in iterators)

    def test_pickles(self, raw):
        loader = fs.Loader(raw[3:30], 4, shuffle=True, seed=2, transforms={"pixels": fs.CenterCrop(9)})
        loader.set_epoch(3)
        copy = pickle.loads(pickle.dumps(loader))
        assert copy.epoch == 3
        assert ids(copy) == ids(loader)


class TestFields:
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("batch_size", [1, 9, ROWS])
    def test_values_and_types(self, raw, expected, shuffle, batch_size):
        for batch in fs.Loader(raw, batch_size, shuffle=shuffle):
            assert list(batch) == list(expected[0])
            rows = [expected[i] for i in batch["id"]]
            for name, values in batch.items():
                assert isinstance(values, np.ndarray)
                np.testing.assert_array_equal(values, np.array([row[name] for row in rows], values.dtype))
            assert {name: str(values.dtype) for name, values in batch.items()} == {
                "id": "int64",
                "pixels": "uint8",
                "half": "float16",
                "text": "object",
                "blob": "object",
                "flag": "bool",
            }

    def test_a_choice_in_its_order(self, raw):
        (batch,) = fs.Loader(raw, ROWS, fields=["text", "id"])
        assert list(batch) == ["text", "id"]

    def test_batch_spec(self, raw):
        spec = fs.Loader(raw, 10, layout="NCHW", fields=["pixels", "half", "text", "blob"]).batch_spec
        assert {name: (field.shape, field.dtype) for name, field in spec.items()} == {
            "pixels": ((10, 3, 48, 64), "uint8"),
            "half": ((10, 5, 2), "float16"),
            "text": ((10,), "str"),
            "blob": ((10,), "bytes"),
        }
        assert fs.Loader(raw, 7).batch_spec["id"].shape == (None,)
        assert fs.Loader(raw, 7, drop_last=True).batch_spec["id"].shape == (7,)

    def test_images(self, packed):
        dataset = fs.open(packed)
        loader = fs.Loader(packed, 16, transforms={"image": [fs.Resize((40, 50)), fs.ToDtype()]}, layout="NCHW")
        batches = list(loader)
        assert [batch["image"].shape for batch in batches] == [(16, 3, 40, 50)] * 2 + [(8, 3, 40, 50)]
        np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches]), dataset.column("label"))


def mapped(array, dataset):
    """Whether an array's memory is that of a mapped shard."""
    start = array.__array_interface__["data"][0]
    shards = str(dataset.path.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        if shards not in line:
            continue
        area, mode, *_ = line.split()
        low, high = (int(end, 16) for end in area.split("-"))
        if low <= start < high:
            assert mode.startswith("r-")
            return start + array.nbytes <= high
    return False


def address(array):
    return array.__array_interface__["data"][0]


def overlap(one, other):
    return address(one) < address(other) + other.nbytes and address(other) < address(one) + one.nbytes


class TestMemory:
    def test_raw_tensors_in_order_are_views_of_the_file(self, raw):
        views = 0
        for batch in fs.Loader(raw, 5, fields=["pixels", "half", "id"]):
            for values in batch.values():
                if not mapped(values, raw):
                    continue  # a batch over the edge of a shard
                views += 1
                assert not values.flags.owndata
                assert not values.flags.writeable
                with pytest.raises(ValueError, match="read-only"):
                    values[0] = 0
                with pytest.raises(ValueError, match="WRITEABLE"):
                    values.flags.writeable = True
        assert views >= 3 * (ROWS // 5 - len(raw.manifest["shards"]))

    def test_views_outlive_loader_and_dataset(self, expected, tmp_path):
        fs.pack(expected, tmp_path / "ds")
        dataset = fs.open(tmp_path / "ds")
        batches = list(fs.Loader(dataset, 10, fields=["pixels"]))
        assert mapped(batches[0]["pixels"], dataset)
        del dataset
        for i, batch in enumerate(batches):
            np.testing.assert_array_equal(batch["pixels"], [row["pixels"] for row in expected[10 * i : 10 * i + 10]])

    @pytest.mark.parametrize("options", [{"shuffle": True}, {"layout": "NCHW"}, {"batch_size": 50}], ids=str)
    def test_all_else_is_writable_and_nobody_elses(self, raw, expected, options):
        loader = fs.Loader(raw, **{"batch_size": 8, "fields": ["pixels", "id"], **options})
        before = [path.read_bytes() for path in sorted(raw.path.glob("*.arrow"))]
        held = [batch["pixels"] for batch in loader]
        for i, pixels in enumerate(held):
            assert not mapped(pixels, raw)
            pixels[:] = i
            assert not any(overlap(pixels, other) for other in held[:i])
        assert all((pixels == i).all() for i, pixels in enumerate(held))
        for batch in loader.iterate(views=False, epoch=0):
            wanted = np.stack([expected[i]["pixels"] for i in batch["id"]])
            if options.get("layout") == "NCHW":
                wanted = wanted.transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(batch["pixels"], wanted)
        assert before == [path.read_bytes() for path in sorted(raw.path.glob("*.arrow"))]

    def test_without_views_nothing_is_shared(self, raw):
        for batch in fs.Loader(raw, 5, fields=["pixels", "id"]).iterate(views=False):
            assert batch["pixels"].flags.writeable
            assert not mapped(batch["pixels"], raw)

    def test_held_batches_keep_their_values(self, raw, expected):
        loader = fs.Loader(raw, 4, shuffle=True, prefetch=1, num_threads=2)
        held = [batch for _ in range(20) for batch in loader]
        assert len({address(batch["pixels"]) for batch in held}) == len(held)
        for batch in held:
            np.testing.assert_array_equal(batch["pixels"], [expected[i]["pixels"] for i in batch["id"]])

    def test_one_field_keeps_the_slot(self, raw, expected):
        loader = fs.Loader(raw, 4, shuffle=True, prefetch=1)
        kept = [(batch["id"].tolist(), batch["pixels"][1:3, 4]) for _ in range(10) for batch in loader]
        for rows, part in kept:
            np.testing.assert_array_equal(part, np.stack([expected[i]["pixels"][4] for i in rows])[1:3])

    def test_dropped_slots_are_used_again(self, raw):
        loader = fs.Loader(raw, 5, shuffle=True, prefetch=2)
        seen = set()
        for _ in range(20):
            for batch in loader:
                seen.add(address(batch["pixels"]))
                del batch
        # Two ahead, one at the consumer, one more between passes.
        assert len(seen) <= 5

    def test_arrays_are_aligned(self, raw):
        for shuffle in (False, True):
            batch = next(iter(fs.Loader(raw, 5, shuffle=shuffle)))
            assert all(address(values) % 64 == 0 for name, values in batch.items() if name in ("pixels", "half"))

    def test_peak_memory(self, tmp_path):
        code = """
        import io, json, sys, threading, time
        import numpy as np
        import fastshard as fs

        def anonymous():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        from PIL import Image
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        fs.pack(({"image": stream.getvalue(), "id": i} for i in range(1024)), sys.argv[1])
        steps = {"image": [fs.RandomResizedCrop(224), fs.ToDtype(), fs.Normalize.imagenet()]}
        loader = fs.Loader(sys.argv[1], 64, shuffle=True, transforms=steps, num_threads=2, prefetch=3)
        before, most, over = anonymous(), 0, False

        def watch():
            global most
            while not over:
                most = max(most, anonymous())
                time.sleep(0.002)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for batch in loader:
            time.sleep(0.02)
        over = True
        watcher.join()
        print(json.dumps([most - before, 3 * batch["image"].nbytes]))
        """
        grown, prefetched = python(code, tmp_path / "ds")
        print(f"peak {grown / 2**20:.0f} MiB, prefetch batches {prefetched / 2**20:.0f} MiB")
        assert grown < prefetched + 100 * 2**20


class TestEnds:
    def test_nothing_is_left_of_200_abandoned_iterators(self, packed):
        code = """
        import gc, json, os, sys
        import fastshard as fs

        def state():
            gc.collect()
            with open("/proc/self/statm") as statm:
                resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), resident

        steps = {"image": fs.RandomResizedCrop(160)}
        loader = fs.Loader(sys.argv[1], 8, shuffle=True, transforms=steps, num_threads=4)
        def abandon(count):
            for i in range(count):
                iterator = iter(loader)
                for _ in range(i % 3):
                    next(iterator)
        abandon(30)
        before = state()
        abandon(200)
        print(json.dumps([before, state()]))
        """
        (threads, files, resident), after = python(code, packed)
        assert after[:2] == [threads, files]
        assert after[2] - resident < 20 * 2**20

    def test_context_managers(self, packed):
        code = """
        import json, os, sys
        import numpy  # its own threads start here
        import fastshard as fs

        def threads():
            return len(os.listdir("/proc/self/task")) - before

        before, counts = 0, []
        before = threads()
        with fs.Loader(sys.argv[1], 8, transforms={"image": fs.Resize((64, 64))}, num_threads=3) as loader:
            one, other = iter(loader), iter(loader)
            batch = next(one)
            counts.append(threads())
            with one:
                pass
            assert next(one, None) is None
            counts.append(threads())
        counts.append(threads())
        assert next(other, None) is None
        assert batch["image"].shape == (8, 64, 64, 3)
        assert sum(len(batch["label"]) for batch in loader) == 40
        counts.append(threads())
        print(json.dumps(counts))
        """
        assert python(code, packed) == [6, 3, 0, 0]

    def test_interpreter_exit_with_open_iterators(self, packed):
        code = """
        import sys
        import fastshard as fs
        loader = fs.Loader(sys.argv[1], 4, transforms={"image": fs.Resize((64, 64))})
        kept = [iter(loader) for _ in range(3)]
        next(kept[0])
        print("[]")
        """
        assert python(code, packed) == []

    @pytest.mark.parametrize("where", ["waiting", "computing"])
    def test_ctrl_c_ends_an_epoch_at_once(self, photos, tmp_path, where):
        stream = io.BytesIO()
        Image.fromarray(np.tile(photos["coffee"], (4, 4, 1))).save(stream, "JPEG")
        fs.pack([{"image": stream.getvalue()}] * 2, tmp_path / "ds")
        code = """
        import sys, time
        import fastshard as fs
        many = fs.open(sys.argv[1])[[0, 1] * 2000]
        size = 1000 if sys.argv[2] == "waiting" else 1
        batches = iter(fs.Loader(many, size, transforms={"image": fs.RandomResizedCrop(64, scale=(0.9, 1))}))
        try:
            next(batches) if size == 1 else None
            print("ready", flush=True)
            for batch in batches:
                pass
            print("finished", flush=True)
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "ds"), where]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with process:
            process.stdout.readline()
            time.sleep(0.3)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            out = process.communicate(timeout=20)[0].split()
        took = float(out[-1]) - sent
        print(f"Ctrl-C took {1000 * took:.0f} ms")
        assert process.returncode == 0
        assert 0 < took < 1

    def test_after_a_fork(self, packed):
        code = """
        import json, os, sys, traceback
        import fastshard as fs

        loader = fs.Loader(sys.argv[1], 8, shuffle=True, transforms={"image": fs.RandomResizedCrop(32)}, num_threads=2)
        wanted = [batch["image"].sum().item() for batch in loader.iterate(epoch=0)]
        old = loader.iterate(epoch=0)
        batch = next(old)
        raw = batch["image"].sum().item()
        child = os.fork()
        if child == 0:
            try:
                try:
                    next(old)
                except RuntimeError as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError("the parent's iterator went on in the child")
                assert batch["image"].sum().item() == raw
                assert [batch["image"].sum().item() for batch in loader.iterate(epoch=0)] == wanted
                del old, batch
                assert len(loader) == 5 and len(loader.dataset) == 40
                assert loader.dataset[0]["image"].ndim == 3
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        rest = [batch["image"].sum().item() for batch in old]
        assert [raw, *rest] == wanted
        print("[]")
        """
        assert python(code, packed) == []


class TestErrors:
    @pytest.mark.parametrize("num_threads", [1, 2, 5])
    @pytest.mark.parametrize("prefetch", [1, 4])
    def test_the_sample_is_named_at_its_batch(self, spoilt, num_threads, prefetch):
        loader = fs.Loader(spoilt, 3, num_threads=num_threads, prefetch=prefetch)
        iterator = iter(loader)
        assert [next(iterator)["id"].tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(fs.DecodeError, match=r"shard-\S+") as caught:
            next(iterator)
        assert str(spoilt.path) in str(caught.value)
        assert re.search(r"row 7\b", str(caught.value))
        assert next(iterator, None) is None
        assert loader.epoch == 0

    def test_the_source_path_is_named(self, photo_folder, tmp_path):
        folder = tmp_path / "src" / "a class"
        folder.mkdir(parents=True)
        stream = io.BytesIO()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(stream, "PNG")
        spoilt = bytearray(stream.getvalue())
        spoilt[45:60] = bytes(15)
        (folder / "bad one.png").write_bytes(spoilt)
        fs.pack(folder.parent, tmp_path / "ds")
        with pytest.raises(fs.DecodeError, match=r"ds row 0 .*a class/bad one\.png"):
            list(fs.Loader(tmp_path / "ds", 1))

    @pytest.mark.parametrize("num_threads", [1, 4])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_skip_leaves_out_and_counts(self, spoilt, num_threads, shuffle):
        loader = fs.Loader(spoilt, 3, on_error="skip", num_threads=num_threads, shuffle=shuffle)
        batches = list(loader)
        numbers = [number for batch in batches for number in batch["id"].tolist()]
        assert sorted(numbers) == [i for i in range(24) if i not in (7, 20)]
        assert sum(3 - len(batch["id"]) for batch in batches) == 2
        assert loader.num_skipped == len(loader.skipped) == 2
        assert sorted(re.search(r"row (\d+)", message)[1] for message in loader.skipped) == ["20", "7"]
        for batch in batches:
            assert batch["image"].shape == (len(batch["id"]), 32, 32, 3)
            for pixels, row in zip(batch["image"], batch["id"], strict=True):
                np.testing.assert_array_equal(pixels, spoilt[int(row)]["image"])
        assert loader.batch_spec["id"].shape == (None,)

    def test_a_batch_of_nothing_but_bad_samples_is_left_out(self, spoilt):
        loader = fs.Loader(spoilt[[0, 1, 7, 20, 2, 3]], 2, on_error="skip")
        assert ids(loader) == [[0, 1], [2, 3]]

    def test_fields_that_are_not_loaded_do_no_harm(self, spoilt):
        assert flat(fs.Loader(spoilt, 5, fields=["id"])) == list(range(24))

    def test_a_flipped_bit_is_found_before_decoding(self, photo_folder, tmp_path):
        fs.pack(photo_folder, tmp_path / "ds")
        (shard,) = (tmp_path / "ds").glob("*.arrow")
        encoded = fs.open(tmp_path / "ds").encoded(11)[0]
        content = bytearray(shard.read_bytes())
        content[content.index(encoded) + len(encoded) // 2] ^= 1
        shard.write_bytes(content)
        steps = {"image": fs.Resize((32, 32))}
        iterator = iter(fs.Loader(tmp_path / "ds", 5, transforms=steps))
        next(iterator), next(iterator)
        with pytest.raises(fs.CorruptionError, match=rf"{shard.name}.*row 11\b"):
            next(iterator)
        assert len(list(fs.Loader(tmp_path / "ds", 5, transforms=steps, verify=False))) == 8

    def test_images_of_different_sizes(self, packed):
        with pytest.raises(ValueError, match=r"'?image'?.*different sizes.*Resize"):
            fs.Loader(packed, 4)
        with pytest.raises(ValueError, match="different sizes"):
            fs.Loader(packed, 4, transforms={"image": fs.Resize(64)})
        assert len(list(fs.Loader(packed, 4, fields=["label"]))) == 10

    def test_a_crop_that_does_not_fit_names_the_sample(self, packed):
        with pytest.raises(fs.DecodeError, match=r"row \d+ .*\.jpg.*RandomCrop of 290 x 290"):
            list(fs.Loader(packed, 4, transforms={"image": fs.RandomCrop(290)}))

    def test_an_image_bomb_is_refused_from_its_header(self, packed):
        with pytest.raises(fs.DecodeError, match=r"row \d+ .*at most 1000"):
            list(fs.Loader(packed, 4, transforms={"image": [fs.Decode(max_pixels=1000), fs.Resize((8, 8))]}))

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"batch_size": 0}, ValueError, "batch_size=0"),
            ({"batch_size": 2.5}, TypeError, "batch_size=2.5"),
            ({"batch_size": True}, TypeError, "batch_size=True"),
            ({"batch_size": 2**31}, ValueError, "2147483648"),
            ({"shuffle": 1}, TypeError, "shuffle=1"),
            ({"seed": -1}, ValueError, "seed=-1"),
            ({"seed": 2**64}, ValueError, f"seed={2**64}"),
            ({"layout": "NWHC"}, ValueError, "layout='NWHC'"),
            ({"num_threads": 0}, ValueError, "num_threads=0"),
            ({"num_threads": 5000}, ValueError, "5000"),
            ({"prefetch": 0}, ValueError, "prefetch=0"),
            ({"prefetch": 5000}, ValueError, "5000"),
            ({"fields": ["image", "lable"]}, ValueError, "'lable'.*'image'"),
            ({"fields": "image"}, TypeError, "fields='image'"),
            ({"fields": []}, ValueError, r"fields=\[\]"),
            ({"fields": ["label", "label"]}, ValueError, "label"),
            ({"on_error": "ignore"}, ValueError, "on_error='ignore'"),
            ({"drop_last": None}, TypeError, "drop_last=None"),
            ({"transforms": [fs.Resize(3)]}, TypeError, "transforms="),
            ({"transforms": {"label": fs.Resize(3)}}, ValueError, "'label'.*image"),
            ({"transforms": {"nothing": fs.Resize(3)}}, (ValueError, KeyError), "nothing"),
            ({"transforms": {"image": "Resize"}}, TypeError, "Resize"),
            ({"transforms": {"image": [fs.Resize]}}, TypeError, "Resize.*parentheses"),
            ({"transforms": {"image": [fs.ToDtype(), fs.Resize((3, 3))]}}, ValueError, "transform 1"),
            (
                {"transforms": {"image": [fs.ToDtype(), fs.Normalize.imagenet(), fs.Resize((3, 3))]}},
                ValueError,
                "Normalize",
            ),
            ({"transforms": {"image": [fs.Resize((3, 3)), fs.Decode()]}}, ValueError, "Decode must come first"),
            (
                {"transforms": {"image": [fs.Decode("L"), fs.Resize((3, 3)), fs.ToDtype(), fs.Normalize.imagenet()]}},
                ValueError,
                "3 means for 1 channels",
            ),
            ({"transforms": {"image": fs.ResizePad(9, fill=300)}}, ValueError, "300"),
            ({"transforms": {"image": fs.Resize((10**6, 3))}}, ValueError, "1000000"),
        ],
        ids=str,
    )
    def test_impossible_options(self, packed, options, error, words):
        with pytest.raises(error, match=words):
            fs.Loader(packed, **{"batch_size": 4, "transforms": {"image": fs.Resize((8, 8))}, **options})

    def test_transforms_of_what_is_no_picture(self, raw):
        with pytest.raises(ValueError, match="half"):
            fs.Loader(raw, 4, transforms={"half": fs.Resize(3)})
        with pytest.raises(ValueError, match="raw pixels"):
            fs.Loader(raw, 4, transforms={"pixels": fs.Decode()})


class TestStats:
    def test_counts(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True, fields=["id", "pixels"])
        assert loader.stats()["samples"] == loader.stats()["samples_per_second"] == 0
        batches = list(loader)
        stats = loader.stats()
        assert (stats["samples"], stats["batches"]) == (ROWS, len(batches))
        assert stats["bytes"] == sum(array.nbytes for batch in batches for array in batch.values())
        assert stats["cache_hits"] == stats["cache_misses"] == 0

    def test_times(self, spoilt):
        """A consumer that is slow waits little; one that does nothing else waits most of the time."""
        steps = {"image": [fs.Resize((200, 200)), fs.GaussianBlur(9)]}
        loader = fs.Loader(spoilt, 4, transforms=steps, on_error="skip", num_threads=1)
        for _ in range(5):
            list(loader)
        busy = loader.stats()
        assert busy["stall_percent"] > 50
        assert busy["decode_seconds"] > 0
        assert busy["resample_seconds"] > busy["copy_seconds"] > 0
        assert 0 < busy["first_batch_ms"] < 1000 * busy["seconds"]
        slow = fs.Loader(spoilt, 4, transforms=steps, on_error="skip", num_threads=1)
        for _ in slow:
            time.sleep(0.05)
        assert slow.stats()["stall_percent"] < busy["stall_percent"]


def test_threads_share_an_iterator(raw):
    """Each batch goes to one of them, and the end to all."""
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            source = iter(fs.Loader(raw, 4, num_threads=1))
            shares = list(pool.map(ids, [source] * 4))
            assert sorted(number for share in shares for batch in share for number in batch) == list(range(ROWS))


class TestHalfReadPasses:
    def leave(self, loader, passes, **options):
        for _ in range(passes):
            with loader.iterate(**options) as source:
                next(source)

    def test_warn_once(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True)
        self.leave(loader, 2)  # a look at a batch, and another
        with pytest.warns(RuntimeWarning, match=r"epoch 0 were left half way.*set_epoch") as caught:
            next(iter(loader))
        assert caught[0].filename == __file__
        self.leave(loader, 3)

    def test_of_a_data_set_for_torch(self, raw):
        dataset = fs.torch.ShardDataset(fs.Loader(raw, 8, shuffle=True))
        for _ in range(2):
            for _ in zip(range(2), dataset, strict=False):
                pass
        with pytest.warns(RuntimeWarning, match="left half way"):
            next(iter(dataset))

    def test_are_all_right_where_somebody_knows(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True)
        self.leave(loader, 5, epoch=0)
        for epoch in range(5):
            loader.set_epoch(epoch % 2)
            self.leave(loader, 1)
        loader.set_epoch(0)
        for _ in range(5):
            self.leave(loader, 1)
            loader.state_dict()
        self.leave(fs.Loader(raw, 8), 5)  # whose passes are all alike

    def test_are_no_whole_passes(self, raw):
        loader = fs.Loader(raw, 8, shuffle=True)
        for _ in range(3):
            next(iter(loader))
            list(loader)
        passes = [iter(loader) for _ in range(5)]  # side by side
        for source in passes:
            next(source)


def test_a_dataset_that_was_replaced_is_told(tmp_path):
    def pack(first):
        images = ({"image": np.full((32, 32, 3), (i + first) % 256, np.uint8), "id": i + first} for i in range(300))
        fs.pack(images, tmp_path / "ds", shuffle=False, overwrite=True, shard_size=65536)

    pack(0)
    loader = fs.Loader(tmp_path / "ds", 8, num_threads=1, prefetch=1)
    source = iter(loader)
    next(source)
    pack(1000)
    for batches in (source, iter(loader)):
        with pytest.raises(
            fs.CorruptionError, match=r"ds: replaced by another dataset since it was opened; open it again"
        ):
            list(batches)
    assert next(iter(fs.Loader(tmp_path / "ds", 8)))["id"].tolist() == list(range(1000, 1008))
