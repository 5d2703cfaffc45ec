"""The command line: what it says and how it ends. Packing and loading for real is tested elsewhere."""

import csv
import fcntl
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli


def run(*args):
    return CliRunner().invoke(_cli.app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (root / name).mkdir()
        for i in range(6):
            Image.fromarray(pixels[40 * i : 40 * i + 200, 30 * i : 30 * i + 240]).save(root / name / f"{i}.jpg")
    return root


@pytest.fixture(scope="module")
def dataset(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "ds"
    result = run("pack", photos, path)
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("command", ["pack", "inspect", "verify", "preview", "bench"])
def test_help_teaches_by_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"fastshard {command} " in result.stdout
    assert "For example" in result.stdout


def test_help_and_version():
    assert "fastshard pack photos/ pets/" in run("--help").stdout
    assert run("--version").stdout.startswith(f"fastshard {fs.__version__} (")


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fastshard", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fastshard ")


def test_errors_are_one_line(tmp_path):
    for args in (["inspect", tmp_path / "gone"], ["pack", tmp_path / "gone", tmp_path / "ds"], ["verify", tmp_path]):
        result = run(*args)
        assert result.exit_code == 1
        assert result.stderr.startswith("fastshard: ")
        assert result.stderr.count("\n") == 1
        assert str(tmp_path) in result.stderr


def test_a_destination_that_is_taken(photos, dataset, tmp_path):
    result = run("pack", photos, dataset)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "pack elsewhere, or replace it with --overwrite" in result.stderr
    (tmp_path / "ds.partial").mkdir()
    with (tmp_path / "ds.partial/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("pack", photos, tmp_path / "ds")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"fastshard: {tmp_path}")
    assert result.stderr.count("\n") == 1
    result = run("export", dataset, tmp_path, "--to", "folder")
    assert result.exit_code == 1
    assert "replace it with --overwrite" in result.stderr


def test_seekable_says_what_it_takes():
    result = run("pack", "a", "b", "--seekable", "maybe")
    assert result.exit_code == 2
    assert "maybe: expected auto, yes or no" in result.stderr
    with pytest.raises(ValueError, match="seekable='maybe': expected 'auto', True or False"):
        fs.pack("a", "b", seekable="maybe")


@pytest.mark.parametrize(
    "args",
    [["pack"], ["pack", "a", "b", "--resize", "big"], ["pack", "a", "b", "--type", "x"], ["nothing"], ["pack", "--no"]],
)
def test_usage_errors_exit_with_2(args):
    assert run(*args).exit_code == 2


def test_ctrl_c_says_how_to_go_on(monkeypatch, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli, "pack_dataset", interrupted)
    result = run("pack", tmp_path, tmp_path / "ds")
    assert result.exit_code == 130
    assert "the same command goes on where it was" in result.stderr


def test_options_arrive(monkeypatch):
    received = {}

    def packed(*args, **kwargs):
        received.update(kwargs, places=args)
        return fs.PackReport("x", 0, 0, 0, 0, 0.0)

    monkeypatch.setattr(_cli, "pack_dataset", packed)
    options = "--label a --label b --type n=int8 --resize 20x30 --shard-size 1000 --no-shuffle --gray --quiet"
    result = run("pack", "a", "b", "--csv", "c.csv", *options.split())
    assert result.exit_code == 0, result.output
    assert result.output == ""
    assert received["places"] == ("a", "b")
    assert received["label"] == ["a", "b"]
    assert received["types"] == {"n": "int8"}
    assert received["resize"] == (20, 30)
    assert (received["shard_size"], received["shuffle"], received["gray"]) == (1000, False, True)


def test_pack_reports(photos, tmp_path):
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["china/0.jpg", "temple"], ["flower/0.jpg", "dahlia"]])
    result = run("pack", photos, tmp_path / "ds", "--csv", tmp_path / "labels.csv")
    assert result.exit_code == 0, result.output
    assert "2 rows in 1 shard" in result.stdout
    assert "files without a row: 10" in result.stdout
    assert "warning: 10 files without a row" in result.stderr
    assert run("pack", photos, tmp_path / "ds").exit_code == 1
    assert run("pack", photos, tmp_path / "ds", "--overwrite", "-q").output == ""


def test_inspect(dataset):
    summary = json.loads(run("inspect", dataset, "--json").stdout)
    assert summary["rows"] == 12
    assert summary["classes"] == {"label": {"china": 6, "flower": 6}}
    assert summary["image_sizes"]["image"]["width"] == {"min": 240, "median": 240, "max": 240}
    shown = run("inspect", dataset).stdout
    assert "12 rows" in shown
    assert "50.0%" in shown


def test_verify(dataset):
    result = run("verify", dataset)
    assert result.exit_code == 0, result.output
    assert "all as they were written" in result.stdout


def test_verify_names_bad_rows(dataset, monkeypatch):
    problem = fs.Problem("shard-00000.arrow", 7, "checksum is wrong")
    monkeypatch.setattr(fs.Dataset, "verify", lambda self, **options: [problem])
    result = run("verify", dataset)
    assert result.exit_code == 1
    assert "shard-00000.arrow, row 7: checksum is wrong" in result.stderr


def test_preview(dataset, tmp_path):
    result = run("preview", dataset, tmp_path / "a.png", "--count", 4, "--transform", "Resize((50, 60))")
    assert result.exit_code == 0, result.output
    picture = Image.open(tmp_path / "a.png")
    assert picture.size == (2 * 64 + 4, 2 * 72 + 4)
    assert np.asarray(picture).std() > 10
    assert run("preview", dataset, tmp_path / "b.png", "--transform", "open('x')").exit_code == 1


def test_bench(dataset):
    args = ["bench", dataset, "--seconds", "0.2", "--batch-size", 4, "--transform", "Resize((32, 32))"]
    result = json.loads(run(*args, "--json").stdout)
    assert result["samples_per_second"] > 0
    assert result["first_batch_ms"] > 0
    assert "samples/s" in run(*args).stdout


class TestTrials:
    OPTIONS = ("--batch-size", 4, "--threads", 1)

    def test_the_second_one_finds_the_pixels_decoded(self, dataset):
        steps = ("--transform", "Resize(64)", "--transform", "RandomCrop(32)")
        result = run("bench", dataset, "--trials", 3, *steps, *self.OPTIONS, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert (found["rows"], found["batch_size"], found["threads"]) == (12, 4, 1)
        assert found["transforms"] == ["Resize(64)", "RandomCrop(32)"]
        counts = [(one["samples"], one["cache_hits"], one["cache_misses"]) for one in found["trials"]]
        assert counts == [(12, 0, 12), (12, 12, 0), (12, 12, 0)]
        for one in found["trials"]:
            assert one["first_batch_ms"] > 0
            assert one["samples_per_second"] > 0
            assert 0 <= one["stall_percent"] <= 100

    def test_a_cache_that_stays_is_hot_the_next_time(self, dataset, tmp_path):
        command = ("bench", dataset, "--trials", 1, "--cache", tmp_path, *self.OPTIONS, "--json")
        assert json.loads(run(*command).stdout)["trials"][0]["cache_misses"] == 12
        assert json.loads(run(*command).stdout)["trials"][0]["cache_hits"] == 12
        assert len(fs.Cache(tmp_path).entries()) == 1

    def test_a_folder_of_its_own_is_removed(self, dataset, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        shown = run("bench", dataset, "--trials", 2, "--step-ms", 1, *self.OPTIONS)
        assert shown.exit_code == 0, shown.output
        assert list(tmp_path.iterdir()) == []
        assert "12 of 12" in shown.stdout
        assert "steps of 1 ms" in shown.stdout

    def test_seconds_end_an_epoch_early(self, dataset):
        result = run("bench", dataset, "--trials", 1, "--seconds", 0.1, "--step-ms", 200, *self.OPTIONS, "--json")
        assert json.loads(result.stdout)["trials"][0]["samples"] == 4

    def test_what_can_not_be_kept_is_said(self, dataset):
        shown = run("bench", dataset, "--trials", 1, "--transform", "RandomResizedCrop(32)", *self.OPTIONS)
        assert "nothing to keep" in shown.stdout

    def test_errors(self, dataset, tmp_path):
        assert run("bench", dataset, "--step-ms", 5).exit_code == 2
        assert run("bench", dataset, "--cache", tmp_path).exit_code == 2
        assert run("bench", dataset, "--trials", 0).exit_code == 2
        for wrong in (["--transform", "Resize(0)"], ["--transform", "CenterCrop(32)", "--transform", "open('x')"]):
            result = run("bench", dataset, "--trials", 1, *wrong)
            assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        result = run("bench", dataset, "--trials", 1, "--transform", "RandomCrop(230)", *self.OPTIONS)
        assert result.exit_code == 1
        assert result.stderr.startswith("fastshard: a trial failed: ")
        assert "RandomCrop of 230 x 230" in result.stderr
