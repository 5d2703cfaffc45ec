"""Verifying a dataset, and the commands of the command line as a shell runs them."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(*args, expect=0):
    """The command line in this process, which is quicker."""
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = CliRunner().invoke(_cli.app, [str(arg) for arg in args], env=environment)
    assert done.exit_code == expect, done.output
    return done


def shell(*args, expect=0):
    """The same in a process of its own."""
    command = [sys.executable, "-m", "fastshard", *map(str, args)]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture
def spoilt(packed, tmp_path):
    """A copy with a bit flipped in the images of rows 3 and 31, and their source paths."""
    shutil.copytree(packed, tmp_path / "ds")
    shard = tmp_path / "ds/shard-00000.arrow"
    dataset = fs.open(packed)
    whole = bytearray(shard.read_bytes())
    paths = {}
    for row in (3, 31):
        data, paths[row] = dataset.encoded(row)
        whole[whole.index(data) + len(data) // 3] ^= 0x10
    shard.write_bytes(whole)
    return tmp_path / "ds", paths


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_a_clean_dataset(packed, threads):
    assert fs.open(packed).verify(num_threads=threads) == []


def test_every_bad_row_is_named(spoilt):
    path, sources = spoilt
    problems = fs.open(path).verify()
    assert [(problem.shard, problem.row) for problem in problems] == [("shard-00000.arrow", row) for row in sources]
    for problem, source in zip(problems, sources.values(), strict=True):
        assert source in problem.error
        assert "checksum" in problem.error


def test_a_view_verifies_the_whole(spoilt):
    assert len(fs.open(spoilt[0])[:2].verify()) == 2


def test_problems_in_several_shards(tmp_path):
    rows = ({"x": np.full(1 << 20, n, np.uint8)} for n in range(80))
    fs.pack(rows, tmp_path / "ds", shard_size="32MiB")
    shards = sorted((tmp_path / "ds").glob("*.arrow"))
    for number, shard in enumerate(shards[:2]):
        with shard.open("r+b") as file:
            file.seek((10 + number) << 20)
            file.write(b"\xff")
    problems = fs.open(tmp_path / "ds").verify()
    assert [problem.shard for problem in problems] == [shard.name for shard in shards[:2]]
    values = [problem.row for problem in problems]
    stored = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(shard))).read_all() for shard in shards)
    for row in values:
        x = stored["x"].slice(row, 1).combine_chunks()
        assert len(set(x.to_pylist()[0])) == 2  # the one value that was written, and 255
    assert values[0] < 32 <= values[1]


def test_good_rows_of_a_spoilt_dataset_can_be_read(spoilt):
    path, sources = spoilt
    dataset = fs.open(path)
    good = [row for row in range(40) if row not in sources]
    assert all(dataset[row]["image"].size for row in good)
    loader = fs.Loader(path, batch_size=40, transforms={"image": fs.Resize((8, 8))}, verify=False, on_error="skip")
    assert len(next(iter(loader))["label"]) >= 38


def test_the_command_verify(spoilt, packed):
    path, sources = spoilt
    done = shell("verify", path, expect=1)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    for line, (row, source) in zip(lines, sources.items(), strict=True):
        assert f"shard-00000.arrow, row {row}: " in line
        assert source in line
    assert "40 rows in 1 shard, all as they were written" in run("verify", packed).stdout
    assert run("verify", packed, "--quiet").stdout == ""


def test_the_commands_one_after_the_other(photo_folder, tmp_path):
    ds = tmp_path / "ds"
    packed = shell("pack", photo_folder, ds, "--resize", "48x64", "--encode", "raw", "--seed", "5", "--threads", "2")
    assert "40 rows in 1 shard" in packed.stdout
    fs.pack(photo_folder, tmp_path / "same", resize=(48, 64), encode="raw", seed=5)
    assert fs.open(ds).fingerprint == fs.open(tmp_path / "same").fingerprint

    summary = json.loads(run("inspect", ds, "--json").stdout)
    assert summary["classes"]["label"] == dict.fromkeys(sorted(p.name for p in photo_folder.iterdir()), 8)
    assert summary["bytes"] == sum(shard.stat().st_size for shard in ds.glob("*.arrow"))
    assert "temple" in run("inspect", ds).stdout

    run("preview", ds, tmp_path / "grid.png", "--count", "9")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size[0] > 3 * 64
        assert np.asarray(grid).std() > 10

    speed = json.loads(run("bench", ds, "--seconds", "0.2", "--batch-size", "8", "--json").stdout)
    assert speed["samples_per_second"] > 0


@pytest.mark.parametrize("command", ["", "pack", "inspect", "verify", "preview", "bench"])
def test_help(command):
    args = [command, "--help"] if command else ["--help"]
    assert "Usage" in run(*args).stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["pack", "gone", "ds"], 1, "gone"),
        (["inspect", "gone"], 1, "gone"),
        (["verify", "gone"], 1, "gone"),
        (["preview", "gone", "x.png"], 1, "gone"),
        (["bench", "gone"], 1, "gone"),
        (["pack", "{src}", "{src}/inside"], 1, "lies in the source"),
        (["pack", "{src}", "{tmp}/ds", "--encode", "gif"], 1, "--encode gif: expected"),
        (["pack", "{src}", "{tmp}/ds", "--shard-size", "huge"], 1, "--shard-size huge: expected"),
        (["pack", "{src}", "{tmp}/ds", "--quality", "101"], 1, "--quality 101: expected"),
        (["pack", "{src}", "{tmp}/ds", "--label", "x"], 1, "--label x needs --csv"),
        (["pack", "{src}"], 2, "DST"),
        (["pack", "{src}", "{tmp}/ds", "--threads", "0"], 2, "--threads"),
        (["verify"], 2, "DATASET"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(photo_folder, tmp_path, args, code, said):
    done = run(*(arg.format(src=photo_folder, tmp=tmp_path) for arg in args), expect=code)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == []


def test_pack_skips_and_says_so(photo_folder, tmp_path):
    shutil.copytree(photo_folder / "cat", tmp_path / "src")
    (tmp_path / "src/bad.jpg").write_bytes(b"no image")
    done = run("pack", tmp_path / "src", tmp_path / "ds", expect=1)
    assert done.stderr.startswith("fastshard: bad.jpg: not an image")
    done = run("pack", tmp_path / "src", tmp_path / "ds", "--on-error", "skip")
    assert "rows skipped: 1" in done.stdout
    assert "bad.jpg" in done.stdout
    assert len(fs.open(tmp_path / "ds")) == 8
