"""Decoded pixels that are kept: the same pixels, shared, bounded, and sound whatever happens to the processes."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

# What begins with fixed geometry, and what follows.
CHAINS = {
    "fixed": [fs.Resize(64), fs.CenterCrop(48)],
    "exact": [fs.Resize((40, 56))],
    "padded": [fs.ResizePad(64, fill=7), fs.RandomHorizontalFlip()],
    "then_crop": [fs.Resize(96), fs.RandomResizedCrop(48), fs.RandomHorizontalFlip()],
    "then_random_crop": [fs.Resize(72), fs.Pad(4), fs.RandomCrop(60)],
    "then_warp": [fs.Resize(80), fs.CenterCrop(64), fs.RandomRotation(30), fs.ColorJitter(0.4)],
    "then_values": [fs.Resize(64), fs.CenterCrop(48), fs.ToDtype(), fs.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD)],
    "gray": [fs.Decode("L"), fs.Resize(64), fs.CenterCrop(48), fs.RandomErasing()],
    "gray_later": [fs.Resize(64), fs.Grayscale(), fs.RandomCrop(48)],
    "sixteen": [fs.Decode("L", "uint16"), fs.Resize(64), fs.CenterCrop(48)],
    "whole": [fs.RandomCrop(64)],
    "exactly": [fs.Decode(scaled=False), fs.RandomResizedCrop(32)],
    "twice": [fs.Resize(90), fs.CenterCrop(80), fs.Resize(40), fs.RandomVerticalFlip(), fs.CenterCrop(32)],
}


def loader(dataset, cache, steps, **options):
    options = {"shuffle": True, "seed": 3, "num_threads": 2} | options
    return fs.Loader(dataset, 8, transforms={"image": steps}, cache=cache, **options)


def epochs(loader, count=2):
    return [[batch["image"].copy() for batch in loader] for _ in range(count)]


def same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def counts(loader):
    return loader._native.cache_counts()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def python(code, *args, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestPixels:
    @pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_are_those_without(self, packed, tmp_path, steps, layout):
        wanted = epochs(loader(packed, "off", steps, layout=layout))
        first = loader(packed, tmp_path, steps, layout=layout)
        same(epochs(first), wanted)
        assert counts(first) == (40, 40)
        again = loader(packed, tmp_path, steps, layout=layout, num_threads=3, prefetch=1)
        same(epochs(again), wanted)
        assert counts(again) == (80, 0)

    @pytest.mark.parametrize("edge", [63, 64, 65, 100])
    def test_of_images_that_need_no_resize(self, photos, tmp_path, edge):
        """What follows must not decide how an image is decoded that is of the right size by chance."""
        fs.pack([{"image": np.ascontiguousarray(photos["cat"][:edge, : edge + 30])}], tmp_path / "ds", encode="jpeg")
        steps = [fs.Resize(64), fs.RandomResizedCrop(16, scale=(0.9, 1.0))]
        wanted = epochs(loader(tmp_path / "ds", "off", steps), 4)
        same(epochs(loader(tmp_path / "ds", tmp_path / "cache", steps), 4), wanted)

    def test_of_turned_images(self, photos, tmp_path):
        paths = []
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            paths.append(tmp_path / "in" / "a" / f"{orientation}.jpg")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photos["cat"][:90, :140]).save(paths[-1], exif=exif)
        fs.pack(tmp_path / "in", tmp_path / "ds")
        steps = [fs.Decode(exif_orientation=True), fs.Resize(64), fs.RandomCrop(48)]
        wanted = epochs(loader(tmp_path / "ds", "off", steps))
        same(epochs(loader(tmp_path / "ds", tmp_path / "cache", steps)), wanted)

    def test_of_views_share_an_entry(self, packed, tmp_path):
        train, val = fs.open(packed).split([0.5, 0.5])
        steps = [fs.Resize(64), fs.CenterCrop(48)]
        list(loader(train, tmp_path, steps))
        one, other = loader(train, tmp_path, steps), loader(val, tmp_path, steps)
        epochs(one, 1)
        epochs(other, 1)
        assert (counts(one), counts(other)) == ((20, 0), (0, 20))
        assert len(files(tmp_path)) == 1

    def test_of_random_samplers(self, packed, tmp_path):
        view = fs.open(packed).weighted(np.arange(40), num_samples=60)
        same(epochs(loader(view, tmp_path, CHAINS["then_crop"])), epochs(loader(view, "off", CHAINS["then_crop"])))

    def test_bad_images_stay_errors(self, photos, tmp_path):
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photos["cat"][:80, :80])).save(stream, "PNG")
        good = stream.getvalue()
        # A sound header, and nonsense behind it.
        fs.pack([{"image": image} for image in (good, good[:60] + bytes(140) + good[200:], good)], tmp_path / "ds")
        steps = [fs.Resize(64), fs.CenterCrop(48)]
        with pytest.raises(fs.DecodeError, match="row 1"):
            epochs(loader(tmp_path / "ds", tmp_path / "cache", steps))
        skipping = loader(tmp_path / "ds", tmp_path / "cache", steps, on_error="skip")
        epochs(skipping)
        assert skipping.num_skipped == 2
        assert skipping._native.cache_filled() == [2]

    def test_a_changed_dataset_or_list_is_another_entry(self, packed, photo_folder, tmp_path):
        fs.pack(photo_folder, tmp_path / "other", resize=128)
        for dataset, steps in (
            (packed, [fs.Resize(64), fs.CenterCrop(48)]),
            (packed, [fs.Resize(65), fs.CenterCrop(48)]),
            (packed, [fs.Decode(scaled=False), fs.Resize(64), fs.CenterCrop(48)]),
            (tmp_path / "other", [fs.Resize(64), fs.CenterCrop(48)]),
        ):
            one = loader(dataset, tmp_path / "cache", steps)
            epochs(one, 1)
            assert counts(one) == (0, 40)
        assert len(files(tmp_path / "cache")) == 4


class TestSharing:
    STEPS = "[fs.Resize(64), fs.RandomCrop(48)]"

    def test_processes_fill_it_together(self, packed, tmp_path):
        code = f"""
            import sys, hashlib, json
            import fastshard as fs
            one = fs.Loader(sys.argv[1], 8, shuffle=True, transforms={{"image": {self.STEPS}}}, cache=sys.argv[2])
            print(json.dumps([hashlib.sha256(b["image"].tobytes()).hexdigest() for _ in range(3) for b in one]))
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(packed), str(tmp_path)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        found = [json.loads(process.communicate(timeout=120)[0]) for process in running]
        assert all(one == found[0] for one in found)
        assert found[0] == json.loads(python(code, packed, tmp_path / "other"))
        assert len([name for name in files(tmp_path) if name != "other"]) == 1

    def test_the_other_framework_and_workers(self, packed, tmp_path):
        from torch.utils.data import DataLoader

        steps = [fs.Resize(64), fs.CenterCrop(48)]
        wanted = epochs(loader(packed, "off", steps), 1)[0]
        dataset = fs.torch.ShardDataset(loader(packed, tmp_path, steps))
        got = [batch["image"].numpy() for batch in DataLoader(dataset, None, num_workers=2)]
        same([got], [wanted])
        second = loader(packed, tmp_path, steps)
        same([[batch["image"].numpy() for batch in fs.tensorflow.dataset(second)]], [wanted])
        assert counts(second) == (40, 0)

    def test_a_killed_process_leaves_a_sound_cache(self, packed, tmp_path):
        code = """
            import sys
            import fastshard as fs
            print("up", flush=True)
            while True:
                for number in range(60, 70):
                    steps = [fs.Resize(number), fs.RandomCrop(48)]
                    for batch in fs.Loader(sys.argv[1], 8, transforms={"image": steps}, cache=sys.argv[2]):
                        pass
                fs.Cache(sys.argv[2]).clear()
        """
        random = np.random.default_rng(0)
        command = [sys.executable, "-c", textwrap.dedent(code), str(packed), str(tmp_path)]
        for _ in range(6):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                time.sleep(random.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
        fs.Cache(tmp_path).entries()
        assert not [name for name in files(tmp_path) if not name.endswith(".pixels")]
        for number in range(60, 70):
            steps = [fs.Resize(number), fs.RandomCrop(48)]
            same(epochs(loader(packed, tmp_path, steps)), epochs(loader(packed, "off", steps)))

    def test_a_forked_child_goes_on(self, packed, tmp_path):
        steps = [fs.Resize(64), fs.CenterCrop(48)]
        one = loader(packed, tmp_path, steps)
        epochs(one, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            list(one)
            os._exit(0 if counts(one) == (40, 0) else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_pickles(self, packed, tmp_path):
        one = loader(packed, tmp_path, [fs.Resize(64), fs.CenterCrop(48)])
        epochs(one, 1)
        other = pickle.loads(pickle.dumps(one))
        epochs(other, 1)
        assert counts(other) == (40, 0)


class TestFolder:
    def fill(self, packed, folder, size, **options):
        one = loader(packed, fs.Cache(folder, **options), [fs.Resize((size, size))])
        epochs(one, 1)
        return one

    def test_lists_and_clears(self, packed, tmp_path):
        assert fs.Cache(tmp_path / "none").entries() == []
        assert fs.Cache(tmp_path / "none").clear() == (0, 0)
        one = self.fill(packed, tmp_path, 64)
        (entry,) = fs.Cache(tmp_path).entries()
        assert entry.datasets == (str(packed.resolve()),)
        assert (entry.field, entry.transforms, entry.in_use) == ("image", "resize", True)
        assert 40 * 64 * 64 * 3 <= entry.bytes <= entry.full_bytes + 8192
        assert fs.Cache(tmp_path).clear() == (0, 0)
        del one
        assert fs.Cache(tmp_path).clear() == (1, entry.bytes)
        assert files(tmp_path) == []

    def test_evicts_what_was_used_longest_ago(self, packed, tmp_path):
        limit = 100 * 64 * 64 * 3  # two and a half entries
        for size in (64, 63, 62):
            self.fill(packed, tmp_path, size, max_bytes=limit)
            time.sleep(0.02)
        assert len(files(tmp_path)) == 2
        self.fill(packed, tmp_path, 63, max_bytes=limit)
        time.sleep(0.02)
        self.fill(packed, tmp_path, 61, max_bytes=limit)
        assert counts(self.fill(packed, tmp_path, 63, max_bytes=limit)) == (40, 0)
        assert counts(self.fill(packed, tmp_path, 62, max_bytes=limit)) == (0, 40)

    def test_never_evicts_what_is_in_use(self, packed, tmp_path):
        limit = 40 * 64 * 64 * 3 + 20_000
        first = self.fill(packed, tmp_path, 64, max_bytes=limit)
        second = self.fill(packed, tmp_path, 63, max_bytes=limit)
        assert sum(second._native.cache_filled()) < 3
        epochs(first, 1)
        assert counts(first) == (40, 40)

    def test_keeps_what_fits(self, packed, tmp_path):
        one = self.fill(packed, tmp_path, 64, max_bytes=20 * 64 * 64 * 3 + 8192)  # rows, and what lies before them
        assert one._native.cache_filled() == [20]
        epochs(one, 1)
        assert counts(one) == (20, 60)
        for text, size in (("1KiB", 1024), ("2MB", 2_000_000), (7, 7)):
            assert fs.Cache(tmp_path, text).max_bytes == size

    def test_a_full_disk_ends_storing_with_one_warning(self, packed, tmp_path):
        """A limit on the size of files stands for it: both make writing fail."""
        code = """
            import resource, sys, warnings
            import fastshard as fs
            one = fs.Loader(sys.argv[1], 8, transforms={"image": [fs.Resize((64, 64))]}, cache=sys.argv[2])
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert [len(batch["image"]) for _ in range(3) for batch in one] == [8] * 15
            (warning,) = caught
            print(warning.category.__name__, warning.message)
        """
        found = python(code, packed, tmp_path)
        assert found.startswith("RuntimeWarning cache: ")
        assert "File too large" in found

    @pytest.mark.parametrize("damage", ["cut", "empty", "magic", "pixels", "index", "states", "text"])
    def test_damage_is_mended(self, packed, tmp_path, damage):
        steps = [fs.Resize(64), fs.RandomCrop(48)]
        wanted = epochs(loader(packed, "off", steps), 1)
        epochs(loader(packed, tmp_path, steps), 1)
        (path,) = tmp_path.iterdir()
        content = bytearray(path.read_bytes())
        index = 8192
        assert int.from_bytes(content[index : index + 8], "little") == 12_288
        places = {"magic": [0], "text": [60, 61], "states": range(4096, 4096 + 160), "pixels": range(20_000, 30_000)}
        for at in places.get(damage, [index + 8, index + 20] if damage == "index" else []):
            content[at] ^= 0x55
        path.write_bytes(content[: {"cut": len(content) // 2, "empty": 0}.get(damage, len(content))])
        again = loader(packed, tmp_path, steps)
        same(epochs(again, 1), wanted)
        same(epochs(again, 1), epochs(loader(packed, "off", steps), 2)[1:])

    def test_a_folder_that_cannot_be(self, packed, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            loader(packed, tmp_path / "file", [fs.Resize((8, 8))])
        for wrong in (1, None, True):
            with pytest.raises(TypeError, match="cache="):
                loader(packed, wrong, [fs.Resize((8, 8))])


class TestPlan:
    def test_says_what_is_done(self, packed, tmp_path):
        steps = [fs.Resize(64), fs.RandomCrop(48)]
        one = loader(packed, tmp_path, steps)
        assert "cached: 0 of 40 rows" in one.plan()
        epochs(one, 1)
        plan = one.plan()
        assert "40 samples an epoch, shuffled, in 5 batches of 8" in plan
        assert "once: decode, resize(64)" in plan
        assert "cached: 40 of 40 rows" in plan
        assert "each epoch: random_crop(48x48)" in plan
        assert "label: class -> int64 []\n  copied as stored" in plan
        assert "not cached: cache='off'" in loader(packed, "off", steps).plan()

    def test_says_how_to_make_it_cacheable(self, packed, tmp_path):
        one = loader(packed, tmp_path, [fs.RandomResizedCrop(32)])
        assert "put Resize before it" in one.plan()
        epochs(one, 1)
        assert files(tmp_path) == []

    def test_says_that_sixteen_bits_depend_on_what_follows(self, packed, tmp_path):
        one = loader(packed, tmp_path, [fs.Decode("L", "uint16"), fs.Resize(64), fs.RandomCrop(48)])
        assert "not cached: resizing 16-bit pixels" in one.plan()

    def test_auto(self, packed, tmp_path, monkeypatch):
        monkeypatch.setenv("FASTSHARD_CACHE", str(tmp_path))
        one = loader(packed, "auto", [fs.Resize((64, 64))])
        epochs(one, 1)
        assert "cached: 40 of 40 rows" in one.plan()
        huge = loader(packed, "auto", [fs.Resize((32_000, 32_000))])
        assert "% of the" in huge.plan()
        monkeypatch.setenv("FASTSHARD_CACHE", "/proc/none")
        with pytest.warns(RuntimeWarning, match="/proc/none: .*going on without a cache"):
            without = loader(packed, "auto", [fs.Resize((64, 64))])
        assert "not cached: /proc/none" in without.plan()


class TestWarm:
    @pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
    def test_fills_ahead(self, packed, tmp_path, steps):
        one = loader(packed, tmp_path, steps)
        assert one.warm(progress=False) == 40
        same(epochs(one), epochs(loader(packed, "off", steps)))
        assert counts(one) == (80, 0)

    def test_without_a_cache(self, packed):
        assert loader(packed, "off", CHAINS["fixed"]).warm() == 0

    def test_command_line(self, packed, tmp_path):
        def run(*arguments):
            command = [sys.executable, "-m", "fastshard", "cache", *arguments, "--folder", str(tmp_path)]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

        assert "40 of 40 images" in run("warm", str(packed), "--transform", "Resize(64)")
        (entry,) = json.loads(run("ls", "--json"))
        assert entry["transforms"] == "resize"
        assert "1 entries" in run("ls")
        one = loader(packed, tmp_path, [fs.Resize(64), fs.RandomResizedCrop(48)])
        epochs(one, 1)
        assert counts(one) == (40, 0)
        del one
        assert "removed 1 entries" in run("clear")
