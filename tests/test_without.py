"""Rows that can't be decoded: verify finds all of them, and they can be left out."""

import io
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fastshard as fs
import sounds
from fastshard import _fastshard
from fastshard._cli import app as _cli

BAD = [3, 8, 17]


def encode(seed, kind="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).save(stream, kind, **options)
    return stream.getvalue()


def spoilt(data):
    """A PNG whose chunks are whole and whose pixels aren't: its header tells nothing of it."""
    at = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    body = zlib.compress(b"\xff" * 1000).ljust(length, b"\0")[:length]
    return data[: at + 4] + body + struct.pack(">I", zlib.crc32(b"IDAT" + body)) + data[at + 8 + length :]


def damaged(data, seed, flips=12):
    """Some bits flipped behind the header."""
    draw, changed = random.Random(seed), bytearray(data)
    for _ in range(1 + seed % flips):
        changed[draw.randrange(len(data) // 4, len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """24 rows in 3 shards, three of which can't be decoded."""
    path = tmp_path_factory.mktemp("packed") / "ds"
    rows = (
        {
            "image": spoilt(encode(row)) if row in BAD else encode(row),
            "row": row,
            "filler": np.full(4 << 20, row, np.uint8),
        }
        for row in range(24)
    )
    fs.pack(rows, path, shard_size="32MiB")
    return path


def undecodable(ds):
    """The rows that reading one after the other finds."""
    return [row for row in range(len(ds)) if not decodes(ds, row)]


def decodes(ds, row):
    try:
        ds[row]
    except fs.DecodeError:
        return False
    return True


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_all_bad_rows_are_found(dataset, threads):
    ds = fs.open(dataset)
    assert len(ds.manifest["shards"]) > 1
    assert ds.verify() == []
    problems = ds.verify(num_threads=threads, decode=True)
    assert [problem.row for problem in problems] == undecodable(ds) == BAD
    ends = np.cumsum([shard["rows"] for shard in ds.manifest["shards"]])
    for problem in problems:
        shard = ds.manifest["shards"][int(np.searchsorted(ends, problem.row, "right"))]["file"]
        assert problem.shard == shard
        assert 'field "image" can\'t be decoded: ' in problem.error


def test_the_source_is_named(tmp_path, photo_folder):
    shutil.copytree(photo_folder / "cat", tmp_path / "src/cat")
    (tmp_path / "src/cat/bad.png").write_bytes(spoilt(encode(0)))
    fs.pack(tmp_path / "src", tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    (problem,) = ds.verify(decode=True)
    assert 'source "cat/bad.png"' in problem.error
    assert ds.encoded(problem.row)[1] == "cat/bad.png"


KINDS = ("PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG")


@pytest.mark.parametrize("kind", KINDS)
def test_what_reading_finds_in_damaged_images(tmp_path, kind):
    rows = ({"image": damaged(encode(seed, kind), seed) if seed % 3 else encode(seed, kind)} for seed in range(60))
    fs.pack(rows, tmp_path / "ds", on_error="skip")
    ds = fs.open(tmp_path / "ds")
    problems = ds.verify(decode=True)
    assert [problem.row for problem in problems] == undecodable(ds)
    good = ds.without(problems)
    assert len(good) == len(ds) - len(problems)
    assert undecodable(good) == []


def test_what_reading_finds_in_damaged_audio(tmp_path):
    whole = sounds.encode(sounds.signal(0.5, 8000, seed=3), 8000, "mp3")
    rows = ({"audio": damaged(whole, seed, 40), "image": encode(seed)} for seed in range(300))
    fs.pack(rows, tmp_path / "ds", types={"audio": "audio"}, on_error="skip")
    ds = fs.open(tmp_path / "ds")
    problems = ds.verify(decode=True)
    assert problems
    assert [problem.row for problem in problems] == undecodable(ds)
    assert all('field "audio"' in problem.error for problem in problems)
    assert undecodable(ds.without(problems)) == []


def test_a_row_of_two_bad_fields(tmp_path):
    fs.pack([{"a": spoilt(encode(0)), "b": spoilt(encode(1))}, {"a": encode(2), "b": encode(3)}], tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    problems = ds.verify(decode=True)
    assert [(problem.row, problem.error[:9]) for problem in problems] == [(0, 'field "a"'), (0, 'field "b"')]
    assert len(ds.without(problems)) == 1


def test_altered_rows_are_told_once(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "ds")
    ds = fs.open(dataset)
    shard = tmp_path / "ds" / ds.manifest["shards"][0]["file"]
    whole = bytearray(shard.read_bytes())
    for row in (1, BAD[0]):
        data, _ = ds.encoded(row)
        whole[whole.index(data) + 40] ^= 1
    shard.write_bytes(whole)
    ds = fs.open(tmp_path / "ds")
    problems = ds.verify(decode=True)
    assert sorted(problem.row for problem in problems) == [1, *BAD]
    assert sum("checksum" in problem.error for problem in problems) == 2
    assert [sample["row"] for sample in ds.without(problems)] == [row for row in range(24) if row not in (1, *BAD)]


def test_datasets_without_anything_to_decode(tmp_path):
    fs.pack([{"x": 1.0}], tmp_path / "ds")
    assert fs.open(tmp_path / "ds").verify(decode=True) == []


def test_concatenations(dataset, tmp_path):
    fs.pack([{"image": encode(0), "row": 0, "filler": np.zeros(4 << 20, np.uint8)}], tmp_path / "first")
    both = fs.concat([fs.open(tmp_path / "first"), fs.open(dataset)])
    problems = both.verify(decode=True)
    assert [problem.row for problem in problems] == [row + 1 for row in BAD]
    assert all(problem.shard.startswith(str(dataset)) for problem in problems)
    assert undecodable(both.without(problems)) == []


class TestWithout:
    def test_numbers_are_those_of_the_dataset(self, dataset):
        ds = fs.open(dataset)
        view = ds[::-1][2:20]
        rows = [sample["row"] for sample in view.without(BAD)]
        assert rows == [row for row in range(21, 3, -1) if row not in BAD]
        assert len(view.without([0, 1, 2])) == len(view)  # not in the view
        assert len(ds.without(np.array(BAD))) == len(ds.without(iter(BAD))) == 21
        assert len(ds.without([])) == 24
        assert len(ds.without([*ds.verify(decode=True), 0])) == 20

    def test_batches_are_full(self, dataset):
        ds = fs.open(dataset)
        loader = fs.Loader(ds.without(ds.verify(decode=True)), batch_size=7, fields=["image", "row"])
        assert [len(batch["row"]) for batch in loader] == [7, 7, 7]
        skipping = fs.Loader(ds, batch_size=8, fields=["image", "row"], on_error="skip")
        assert sorted(len(batch["row"]) for batch in skipping) == [7, 7, 7]

    def test_weights_are_kept(self, dataset):
        ds = fs.open(dataset)
        weighted = ds.weighted(np.arange(24) + 1.0).without(BAD)
        expected = [row + 1.0 for row in range(24) if row not in BAD]
        assert weighted._weights.tolist() == expected
        assert weighted.num_samples == 21
        assert ds.weighted(np.ones(24), num_samples=500).without(BAD).num_samples == 500

    def test_a_problem_of_a_whole_shard(self, dataset):
        ds = fs.open(dataset)
        shard = ds.manifest["shards"][1]
        first = ds.manifest["shards"][0]["rows"]
        problem = fs.Problem(shard["file"], None, "truncated")
        rows = range(first, first + shard["rows"])
        with pytest.raises(
            ValueError, match=rf"{shard['file']}: truncated.*without\(range\({rows[0]}, {rows[-1] + 1}\)"
        ):
            ds.without([problem])
        assert len(ds.without(rows)) == 24 - len(rows)
        with pytest.raises(ValueError, match="no shard of"):
            ds.without([fs.Problem("other.arrow", None, "truncated")])

    @pytest.mark.parametrize(
        ("problems", "error", "said"),
        [
            ([24], IndexError, "row 24: the dataset has 24 rows"),
            ([-1], IndexError, "row -1"),
            (["3"], TypeError, "'3'"),
            ([1.0], TypeError, "1.0"),
            ([True], TypeError, "True"),
            ("345", TypeError, "expected a list"),
            (fs.Problem("a", 3, "b"), TypeError, "expected a list"),
        ],
    )
    def test_errors(self, dataset, problems, error, said):
        with pytest.raises(error, match=said):
            fs.open(dataset).without(problems)


class TestJob:
    def test_progress_counts_rows(self, dataset):
        job = _fastshard.VerifyJob(fs.open(dataset)._opened.native, 2, True)
        while not job.wait(0.01):
            done, total = job.progress()
            assert 0 <= done <= total == 24
        assert job.progress() == (24, 24)

    def test_it_can_be_cancelled(self, tmp_path):
        data = encode(0, "PNG")
        fs.pack(({"image": data} for _ in range(20_000)), tmp_path / "ds")
        job = _fastshard.VerifyJob(fs.open(tmp_path / "ds")._opened.native, 1, True)
        job.cancel()
        assert job.progress()[0] < 20_000
        assert job.wait(0)

    def test_ctrl_c(self, tmp_path):
        file = io.BytesIO()
        Image.new("RGB", (2000, 2000)).save(file, "PNG")  # of few bytes that take long to decode
        fs.pack(({"image": file.getvalue()} for _ in range(3000)), tmp_path / "ds")
        code = "import sys, fastshard as fs; print('open', flush=True); fs.open(sys.argv[1]).verify(decode=True)"
        command = [sys.executable, "-c", code, str(tmp_path / "ds")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "open\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            _, said = process.communicate(timeout=60)
        assert time.monotonic() - started < 10
        assert process.returncode != 0
        assert "KeyboardInterrupt" in said


def run(*args):
    return CliRunner().invoke(_cli.app, [str(arg) for arg in args], env={"COLUMNS": "80", "NO_COLOR": "1"})


def test_the_command(dataset, tmp_path):
    done = run("verify", dataset, "--decode")
    assert done.exit_code == 1
    assert done.stdout == ""
    first, head, *rows, hint = done.stderr.splitlines()
    assert first == f"fastshard: {dataset}: 3 problems"
    assert head.split() == ["shard", "row", "problem"]
    assert [int(line.split()[1]) for line in rows] == BAD
    assert all("can't be decoded" in line for line in rows)
    assert "ds.without(ds.verify(decode=True))" in hint
    assert run("verify", dataset).exit_code == 0
    fs.pack([{"image": encode(0)}], tmp_path / "good")
    done = run("verify", tmp_path / "good", "--decode")
    assert done.exit_code == 0
    assert "1 row in 1 shard, all as they were written, and all decode" in done.stdout


def test_no_row_can_be_left_out_of_a_shard_that_is_damaged_as_a_whole(dataset, monkeypatch):
    problems = [fs.Problem("shard-00000.arrow", None, "truncated"), fs.Problem("shard-00000.arrow", 3, "bad")]
    monkeypatch.setattr(fs.Dataset, "verify", lambda self, **options: problems)
    done = run("verify", dataset, "--decode")
    assert done.exit_code == 1
    assert "ds.without" not in done.stderr
    assert "restore shards" in done.stderr


def test_the_hint_works(dataset):
    hint = run("verify", dataset, "--decode").stderr.splitlines()[-1].partition(": to train without these rows: ")[2]
    names = {"fastshard": fs}
    exec(hint, names)  # noqa: S102
    assert len(names["ds"]) == 21
