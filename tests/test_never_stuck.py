"""Nothing waits for ever, and nothing panics: failing threads, stopped processes, forks, files that are none."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import fastshard as fs
from mutations.layout import read_layout, refit

pytestmark = pytest.mark.timeout(60)

RESIZE = {"image": [fs.Resize((32, 32))]}


def python(code, *args, timeout=30, **options):
    """Runs code in a process of its own, which must end by itself; what it printed."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def falsify(dataset, column, row, value):
    """Overwrites a number of one of fastshard's own columns, as somebody would who can make all checksums fit."""
    files = {path.name: path.read_bytes() for path in dataset.iterdir()}
    entry = json.loads(files["manifest.json"])["shards"][0]
    layout = read_layout(dataset / entry["file"], entry)
    (place,) = (one for one in layout.regions if (one.column, one.role) == (column, "values"))
    data = bytearray(files[entry["file"]])
    data[place.start + row * len(value) : place.start + (row + 1) * len(value)] = value
    for name, content in refit(files | {entry["file"]: bytes(data)}, {entry["file"]: layout}).items():
        (dataset / name).write_bytes(content)


@pytest.fixture
def boxed(photos, tmp_path):
    """Eight images of 128 x 96 with a box each; the number of columns of row 3 is said to be 0."""
    folder = tmp_path / "images"
    folder.mkdir()
    images, annotations = [], []
    for i in range(8):
        Image.fromarray(photos["cat"][i : i + 96, :128]).save(folder / f"{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 128, "height": 96})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 50, 40], "iscrowd": 0})
    (tmp_path / "a.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]})
    )
    fs.pack(folder, tmp_path / "ds", annotations=str(tmp_path / "a.json"))
    falsify(tmp_path / "ds", "_image_width", 3, bytes(4))
    return tmp_path / "ds"


STEPS = {
    "crop": [fs.RandomResizedCrop(64)],
    "resize": [fs.Resize((64, 64))],
    "fit": [fs.ResizePad(64)],
    "shorter": [fs.Resize(64), fs.CenterCrop(64)],
    "mosaic": [fs.Mosaic(64, p=0.0), fs.CenterCrop(64)],
    "warp": [fs.RandomAffine(10), fs.Resize((64, 64))],
}


class TestRows:
    @pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
    def test_a_size_that_cannot_be_is_an_error_of_its_row(self, boxed, steps):
        loader = fs.Loader(boxed, 4, transforms={"image": steps})
        with pytest.raises(fs.FastshardError, match=r"row 3\b"):
            list(loader)
        skipping = fs.Loader(boxed, 4, transforms={"image": steps}, on_error="skip")
        assert [len(batch["image"]) for batch in skipping] == [3, 4]
        assert skipping.num_skipped == 1
        assert "row 3" in skipping.skipped[0]

    def test_boxes_without_their_image(self, boxed):
        skipping = fs.Loader(boxed, 4, fields=["boxes"], on_error="skip")
        assert [len(batch["boxes_offsets"]) - 1 for batch in skipping] == [3, 4]

    def test_a_batch_of_which_nothing_is_left_is_passed_over(self, boxed):
        skipping = fs.Loader(fs.open(boxed)[2:6], 1, transforms=RESIZE, on_error="skip")
        assert len(list(skipping)) == 3


class TestPacking:
    @pytest.fixture
    def folder(self, photos, tmp_path):
        folder = tmp_path / "in" / "a"
        folder.mkdir(parents=True)
        Image.fromarray(photos["cat"][:90, :90]).save(folder / "good.jpg")
        planes = np.ascontiguousarray(photos["cat"][:100, :100].transpose(2, 0, 1))
        # Planes in tiles, which one of the codecs doesn't expect.
        tifffile.imwrite(folder / "tiles.tif", planes, planarconfig="separate", tile=(64, 64), photometric="rgb")
        return folder.parent

    def test_a_codec_that_fails_names_the_file(self, folder, tmp_path):
        code = """
            import sys, fastshard as fs
            try:
                fs.pack(sys.argv[1], sys.argv[2], check="decode")
            except fs.DecodeError as error:
                assert "tiles.tif" in str(error), error
            report = fs.pack(sys.argv[1], sys.argv[3], check="decode", on_error="skip")
            print(report.rows + len(report.skipped), end="")
            sys.stderr.flush()
        """
        assert python(code, folder, tmp_path / "x", tmp_path / "y") == "2"

    def test_a_fifo_is_an_error(self, folder, tmp_path):
        os.mkfifo(folder / "a" / "pipe.jpg")
        (tmp_path / "t.csv").write_text("path,label\na/good.jpg,a\na/pipe.jpg,a\n")
        with pytest.raises((OSError, fs.FastshardError), match=r"pipe\.jpg"):
            fs.pack(folder, tmp_path / "ds", csv=str(tmp_path / "t.csv"))


def test_a_manifest_that_is_a_fifo(packed, tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(fs.FormatError, match="a fifo"):
        fs.open(tmp_path)


class TestCacheFiles:
    CODE = """
        import sys, warnings, fastshard as fs
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            loader = fs.Loader(sys.argv[1], 8, transforms={"image": [fs.Resize((32, 32))]},
                               cache=fs.Cache(sys.argv[2], sys.argv[3] or None))
            rows = sum(len(batch["image"]) for batch in loader)
        print(rows, [str(w.message) for w in caught if w.category is RuntimeWarning])
    """

    def fill(self, packed, folder):
        list(fs.Loader(packed, 8, transforms=RESIZE, cache=folder))
        (entry,) = folder.iterdir()
        return entry

    @pytest.mark.parametrize("limit", ["", "1GB"])
    def test_a_stopped_process_with_its_lock(self, packed, tmp_path, limit):
        entry = self.fill(packed, tmp_path)
        hold = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); "
        with subprocess.Popen(
            [sys.executable, "-c", hold + "time.sleep(99)", entry], stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            try:
                found = python(self.CODE, packed, tmp_path, limit)
            finally:
                process.kill()
        assert found.startswith("40 ['cache: ")
        assert "lock" in found

    def test_a_stopped_process_with_the_lock_of_the_folder(self, packed, tmp_path):
        hold = "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX); "
        command = [sys.executable, "-c", hold + "print(flush=True); time.sleep(99)", tmp_path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            found = python(self.CODE, packed, tmp_path, "1GB")
            assert python(self.CODE, packed, tmp_path, "") == "40 []\n"
            process.kill()
        assert found.startswith("40 ['cache: ")

    @pytest.mark.parametrize("name", ["x.pixels", "x.unfinished"])
    def test_fifos_in_the_folder_are_left_alone(self, packed, tmp_path, name):
        os.mkfifo(tmp_path / name)
        assert python(self.CODE, packed, tmp_path, "1GB") == "40 []\n"
        assert len(fs.Cache(tmp_path).entries()) == 1
        assert fs.Cache(tmp_path).clear()[0] == 1
        assert (tmp_path / name).is_fifo()

    @pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
    def test_an_entry_that_is_no_file(self, packed, tmp_path, kind):
        entry = self.fill(packed, tmp_path)
        entry.unlink()
        victim = tmp_path / "victim"
        victim.write_text("precious")
        os.utime(victim, (1, 1))
        if kind == "link":
            entry.symlink_to(victim)
        elif kind == "folder":
            entry.mkdir()
        else:
            os.mkfifo(entry)
        found = python(self.CODE, packed, tmp_path, "")
        assert found.startswith("40 ['cache: ")
        assert "expected a regular file" in found
        assert (victim.read_text(), victim.stat().st_mtime) == ("precious", 1)

    def test_a_file_that_is_cut_while_it_is_in_use(self, packed, tmp_path):
        wanted = [batch["image"].copy() for batch in fs.Loader(packed, 8, transforms=RESIZE)]
        loader = fs.Loader(packed, 8, transforms=RESIZE, cache=tmp_path)
        list(loader)
        (entry,) = tmp_path.iterdir()
        for length in (entry.stat().st_size // 2, 5000, 0):
            os.truncate(entry, length)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = [batch["image"].copy() for batch in loader]
            np.testing.assert_array_equal(found, wanted)
        assert not caught  # it has been said

    def test_says_that_a_file_was_cut(self, packed, tmp_path):
        loader = fs.Loader(packed, 8, transforms=RESIZE, cache=tmp_path)
        list(loader)
        os.truncate(next(tmp_path.iterdir()), 6000)
        with pytest.warns(RuntimeWarning, match="was cut while it was in use"):
            list(loader)


class TestCacheFolders:
    def test_one_that_cannot_be_made(self, packed):
        for cache in ("/proc/none", fs.Cache("/proc/none", "1GB")):
            with pytest.warns(RuntimeWarning, match="/proc/none: .*without a cache for field"):
                loader = fs.Loader(packed, 8, transforms=RESIZE, cache=cache)
            assert len(list(loader)) == 5
            assert "not cached: /proc/none" in loader.plan()

    def test_one_that_is_a_file(self, packed, tmp_path):
        """A mistake of the caller's, and not a folder that has become unusable."""
        (tmp_path / "file").write_text("precious")
        with pytest.raises(NotADirectoryError, match="file"):
            fs.Loader(packed, 8, transforms=RESIZE, cache=tmp_path / "file")
        assert (tmp_path / "file").read_text() == "precious"

    def test_one_on_a_full_disk(self, packed, tmp_path):
        code = """
            import resource, sys, warnings, fastshard as fs
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loader = fs.Loader(sys.argv[1], 8, transforms={"image": [fs.Resize((32, 32))]}, cache=sys.argv[2])
                assert len(list(loader)) == 5
            (warning,) = caught
            print(warning.category.__name__, warning.message)
        """
        assert "File too large" in python(code, packed, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_without_a_home(self, packed, monkeypatch):
        def none():
            raise RuntimeError("Could not determine home directory.")

        for name in ("FASTSHARD_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pathlib.Path.home", none)
        with pytest.warns(RuntimeWarning, match="no home folder"):
            loader = fs.Loader(packed, 8, transforms=RESIZE, cache="auto")
        assert len(list(loader)) == 5
        with pytest.raises(RuntimeError, match="set FASTSHARD_CACHE"):
            fs.Cache()

    def test_the_limit_holds_for_many_loaders(self, packed, tmp_path):
        limit = 200_000
        steps = [[fs.Resize((60 + i, 60)), fs.RandomCrop(32)] for i in range(6)]
        loaders = [fs.Loader(packed, 8, transforms={"image": step}, cache=fs.Cache(tmp_path, limit)) for step in steps]
        for loader in loaders:
            list(loader)
        assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) <= limit
        hits = [loader._native.cache_filled() for loader in loaders]
        assert sum(map(len, hits)) == 1
        assert hits[0][0] > 10

    def test_the_limit_holds_for_many_processes(self, packed, tmp_path):
        code = """
            import sys, fastshard as fs
            steps = [fs.Resize((60 + int(sys.argv[3]), 60)), fs.RandomCrop(32)]
            loader = fs.Loader(sys.argv[1], 8, transforms={"image": steps}, cache=fs.Cache(sys.argv[2], 200_000))
            print("up", flush=True)
            sys.stdin.readline()
            list(loader)
            print("done", flush=True)
            sys.stdin.readline()
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(packed), str(tmp_path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running = [subprocess.Popen([*command, str(i)], **pipes) for i in range(4)]
        try:
            for said in ("up", "done"):
                assert [process.stdout.readline().strip() for process in running] == [said] * 4
                if said == "up":
                    for process in running:
                        process.stdin.write("\n")
                        process.stdin.flush()
            assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) <= 200_000
        finally:
            for process in running:
                process.communicate("\n")

    @pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
    def test_a_group_shares_one(self, packed):
        """Another user may write to a file, but not set its time to one of choice."""
        code = """
            import os, sys, warnings
            import numpy.random  # which other users may not be able to read
            import fastshard as fs
            list(fs.Loader(sys.argv[1], 8, fields=["label"]))
            os.umask(0o002)
            os.setgroups([]); os.setgid(5000); os.setuid(int(sys.argv[3]))
            warnings.simplefilter("error")
            loader = fs.Loader(sys.argv[1], 8, transforms={"image": [fs.Resize((32, 32))]}, cache=sys.argv[2])
            list(loader)
            print(*loader._native.cache_counts())
        """
        with tempfile.TemporaryDirectory() as folder:
            shared = Path(folder)
            shared.chmod(0o755)
            shutil.copytree(packed, shared / "ds")
            (shared / "cache").mkdir()
            os.chown(shared / "cache", -1, 5000)
            (shared / "cache").chmod(0o2775)
            counts = [python(code, shared / "ds", shared / "cache", user) for user in (1001, 1002)]
        assert counts == ["0 40\n", "40 0\n"]


class TestForks:
    @pytest.mark.parametrize("what", ["next(it)", "it.close()", "del it", "next(iter(loader))", "loader.stats()"])
    def test_while_another_thread_iterates(self, packed, what):
        code = f"""
            import os, signal, sys, threading, time
            import fastshard as fs
            ds = fs.open(sys.argv[1])
            view = ds.weighted([1.0] * len(ds), num_samples=1_000_000)
            loader = fs.Loader(view, 8, shuffle=True, num_threads=1, prefetch=1, fields=["image"],
                               transforms={{"image": [fs.Resize((200, 200))]}})
            it = iter(loader)
            next(it)
            thread = threading.Thread(target=lambda: [None for _ in it], daemon=True)
            thread.start()
            time.sleep(0.1)
            for _ in range(8):
                child = os.fork()
                if child == 0:
                    signal.alarm(5)
                    try:
                        {what}
                    except RuntimeError as error:
                        os._exit(0 if "before a fork" in str(error) else 1)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                time.sleep(0.013)
            os._exit(0)
        """
        python(code, packed, timeout=50)

    def test_a_grandchild_goes_on(self, packed):
        code = """
            import os, sys
            import fastshard as fs
            loader = fs.Loader(sys.argv[1], 8, transforms={"image": [fs.Resize((32, 32))]})
            for _ in range(2):
                child = os.fork()
                if child:
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                assert len(list(loader)) == 5
        """
        python(code, packed)


class TestThreads:
    def test_of_python_share_an_iterator(self):
        loader = fs.Loader(fs.from_arrays({"id": np.arange(2000)}), 8, shuffle=True)
        native = iter(loader)._native
        found, errors = [], []

        def take():
            try:
                while (batch := native.next()) is not None:
                    found.extend(batch["id"].tolist())
            except BaseException as error:  # noqa: BLE001 - none is expected
                errors.append(error)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (sorted(found), errors) == (list(range(2000)), [])
        assert native.handed_over == 250

    def test_closing_does_not_wait_for_a_thread_that_waits(self, packed):
        dataset = fs.open(packed)
        view = dataset.weighted([1.0] * len(dataset), num_samples=100_000)
        native = iter(fs.Loader(view, 8, shuffle=True, num_threads=1, prefetch=1, transforms=RESIZE))._native

        def take():
            while native.next() is not None:
                pass

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        native.close()
        for thread in threads:
            thread.join(5)
        assert time.monotonic() - started < 5
        assert native.next() is None
