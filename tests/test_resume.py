"""Packs that are killed, interrupted or started twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

# Some 0.5 MB each, so that a pack of them takes its time and several shards.
DISTINCT, FILES = 16, 160
OPTIONS = {"shard_size": "6MiB", "check": "decode", "num_threads": 1}


@pytest.fixture(scope="module")
def large_folder(photos, tmp_path_factory):
    """Noisy photographs under many names (links to the same file are files like any other)."""
    root = tmp_path_factory.mktemp("large")
    noise = np.random.default_rng(0)
    for i in range(DISTINCT):
        photo = Image.fromarray(photos[("temple", "dahlia")[i % 2]][i : i + 400]).resize((1000, 640))
        noisy = np.asarray(photo, np.int16) + noise.integers(-20, 21, (640, 1000, 3), dtype=np.int16)
        path = root / f"{'ab'[i % 2]}" / f"{i:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=93)
    for i in range(DISTINCT, FILES):
        os.link(root / f"{'ab'[i % 2]}" / f"{i % DISTINCT:03}.jpg", root / f"{'ab'[i % 2]}" / f"{i:03}.jpg")
    return root


@pytest.fixture(scope="module")
def undisturbed(large_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "ds"
    assert fs.pack(large_folder, path, **OPTIONS).shards >= 5
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(src, dst, **options):
    """A process that packs."""
    code = "import json, sys, fastshard as fs; fs.pack(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))"
    arguments = [sys.executable, "-c", code, str(src), str(dst), json.dumps({**OPTIONS, **options})]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finished_shards(dst):
    return len(list(dst.with_name(dst.name + ".partial").glob("shard-*.json")))


def wait_for(condition, process, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


def test_kill_9_and_go_on(large_folder, undisturbed, tmp_path):
    dst, moment = tmp_path / "ds", random.Random(7)
    kills = 0
    for _ in range(3):
        before = finished_shards(dst)
        process = start(large_folder, dst)
        alive = wait_for(lambda before=before: finished_shards(dst) > before, process)
        time.sleep(moment.uniform(0, 0.1))
        process.kill()
        process.communicate()
        if not alive or dst.exists():
            break
        kills += 1
        assert finished_shards(dst) > before
    assert kills >= 2
    if not dst.exists():
        done = finished_shards(dst)
        started = time.monotonic()
        report = fs.pack(large_folder, dst, **OPTIONS)
        print(f"killed {kills} times, went on from {report.resumed_shards} shards, {time.monotonic() - started:.2f} s")
        assert report.resumed_shards >= done > 0
        assert report.rows == FILES
    assert fs.open(dst).fingerprint == fs.open(undisturbed).fingerprint
    assert fs.open(dst).verify() == []
    assert names(dst) == names(undisturbed)
    assert names(tmp_path) == ["ds"]


@pytest.fixture(scope="module")
def killed(large_folder, tmp_path_factory):
    """What a killed pack leaves: the path of a folder ``ds.partial`` with finished shards."""
    dst = tmp_path_factory.mktemp("killed") / "ds"
    process = start(large_folder, dst)
    assert wait_for(lambda: finished_shards(dst) > 1, process)
    process.kill()
    process.communicate()
    return dst.with_name("ds.partial")


@pytest.fixture
def interrupted(killed, tmp_path):
    """A copy of it; the path that was to be packed to."""
    shutil.copytree(killed, tmp_path / "ds.partial")
    return tmp_path / "ds"


@pytest.mark.parametrize(
    "option",
    [{"seed": 1}, {"shuffle": False}, {"shard_size": "7MiB"}, {"check": "header"}, {"seekable": False}],
    ids=str,
)
def test_other_options_start_again(large_folder, interrupted, option):
    report = fs.pack(large_folder, interrupted, **{**OPTIONS, **option})
    assert (report.resumed_shards, report.rows) == (0, FILES)
    assert names(interrupted.parent) == ["ds"]


def test_an_iterable_starts_again(interrupted):
    assert fs.pack([{"x": 1}], interrupted).resumed_shards == 0
    assert fs.open(interrupted).column("x").tolist() == [1]
    assert names(interrupted.parent) == ["ds"]


def test_a_changed_file_starts_again(large_folder, interrupted):
    path = large_folder / "a/000.jpg"
    before = path.stat()
    try:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert fs.pack(large_folder, interrupted, **OPTIONS).resumed_shards == 0
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", ["none", "truncated", "removed"])
def test_a_finished_shard_that_was_damaged_is_made_again(large_folder, undisturbed, interrupted, damage):
    first, done = interrupted.with_name("ds.partial") / "shard-00000.arrow", finished_shards(interrupted)
    if damage == "truncated":
        os.truncate(first, 1000)
    elif damage == "removed":
        first.unlink()
    report = fs.pack(large_folder, interrupted, **{**OPTIONS, "num_threads": 2})  # more threads, the same bytes
    assert report.resumed_shards == done - (damage != "none")
    assert fs.open(interrupted).fingerprint == fs.open(undisturbed).fingerprint
    assert fs.open(interrupted).verify() == []


def test_ctrl_c_ends_at_once_and_publishes_nothing(large_folder, undisturbed, tmp_path):
    dst = tmp_path / "ds"
    process = start(large_folder, dst)
    assert wait_for(lambda: finished_shards(dst) > 0, process)
    time.sleep(0.03)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    took = time.monotonic() - pressed
    print(f"Ctrl-C ended the pack after {took * 1000:.0f} ms")
    assert took < 1  # 0.2 s is the goal; busy machines get more
    assert process.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not dst.exists()
    assert fs.pack(large_folder, dst, **OPTIONS).resumed_shards > 0
    assert fs.open(dst).fingerprint == fs.open(undisturbed).fingerprint


def test_ctrl_c_in_an_iterable(tmp_path):
    code = """
import itertools, sys, numpy as np, fastshard as fs
fs.pack(({"x": np.zeros(100_000, np.uint8)} for _ in itertools.count()), sys.argv[1])
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ds")], stderr=subprocess.PIPE, text=True)
    assert wait_for((tmp_path / "ds.partial/shard-00000.arrow.tmp").exists, process)
    time.sleep(0.1)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - pressed < 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not (tmp_path / "ds").exists()


def test_two_packs_to_one_place(large_folder, undisturbed, tmp_path):
    dst = tmp_path / "ds"
    first = start(large_folder, dst)
    assert wait_for(lambda: finished_shards(dst) > 0, first)
    with pytest.raises(RuntimeError, match=r"ds\.partial: another process is packing"):
        fs.pack(large_folder, dst, **OPTIONS)
    with pytest.raises(RuntimeError, match="another process is packing"):
        fs.pack([{"x": 1}], dst)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert fs.open(dst).fingerprint == fs.open(undisturbed).fingerprint


def test_packs_that_race_for_one_place(photo_folder, tmp_path):
    """One of them wins, the others say why; whoever comes last, the dataset is whole."""
    processes = [start(photo_folder, tmp_path / "ds", num_threads=2) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes.count(0) == 1
    for code, error in zip(codes, errors, strict=True):
        assert code == 0 or "another process is packing" in error or "there is a dataset" in error or "exists" in error
    assert len(fs.open(tmp_path / "ds")) == 40
    assert fs.open(tmp_path / "ds").verify() == []
    assert names(tmp_path) == ["ds"]
