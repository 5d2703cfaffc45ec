"""The examples that search hyperparameters: run as programs at their smallest, and their parts held against others'."""

import csv
import gzip
import importlib.util
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import fastshard as fs

EXAMPLES = Path(__file__).parent.parent / "examples"
RANGES = {
    "learning_rate": (3e-4, 3e-2),
    "weight_decay": (1e-5, 1e-2),
    "batch_size": (4, 32),
    "anchor_scale": (1.5, 6),
    "anchor_ratio": (1, 3),
}


def run_example(name, *arguments):
    """What it prints, and what it says of errors."""
    with tempfile.TemporaryDirectory(prefix="ray") as short:
        # Ray puts sockets there, whose paths have to be short.
        quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        environment = os.environ | quiet | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def table(printed):
    """The rows of the table that a program ends in, by the names of its columns."""
    lines = printed.split("\n\n")[-2].splitlines()
    # Columns begin where all of their cells do.
    starts = [found.start() for found in re.finditer(r"(?<=  )\S|^\S", lines[0])]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def share(text):
    return float(text.rstrip("%")) / 100


def check_report(out, names):
    """The files of the report, which hold all the searches; gives the trials of each."""
    assert "plotly" in (out / "report.html").read_text()
    assert [row["search"] for row in rows_of(out / "searches.csv")] == names
    trials = rows_of(out / "trials.csv")
    return {name: [trial for trial in trials if trial["search"] == name] for name in names}


def test_choices_are_typed_as_lists_too():
    assert get_type_hints(fs.tune.Choice.__init__)["values"] == Sequence[str | int | float | bool]
    assert fs.tune.Choice([1, 2]) == fs.tune.Choice((1, 2))
    assert repr(fs.tune.Choice(["a"])) == "Choice(values=('a',))"


# Seed 004's protocol, by Keras Tuner.


def imported(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fashion():
    pytest.importorskip("tensorflow")
    return imported("search_fashion")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_search_fashion_compares_tuners_with_a_baseline(tmp_path):
    pytest.importorskip("keras_tuner")
    out = tmp_path / "out"
    sizes = ["--model", "mlp", "--max-trials", 2, "--epochs", 1, "--final-epochs", 2]
    done = run_example("search_fashion.py", "--out", out, *sizes)
    assert done.returncode == 0, done.stderr
    assert "Warning:" not in done.stderr
    rows = table(done.stdout)
    assert [(row["model"], row["tuner"]) for row in rows] == [
        ("mlp", "random"),
        ("mlp", "bayes"),
        ("mlp", "hyperband"),
    ]
    trials = check_report(out, [f"mlp {row['tuner']}" for row in rows])
    for row in rows:
        results = fs.tune.Results(out / f"mlp-{row['tuner']}" / "fastshard")
        assert int(row["trials"]) == len(results) == len(trials[f"mlp {row['tuner']}"])
        assert {trial.state for trial in results.trials} == {"finished"}
        # Of ten classes, guessing gets a tenth right.
        assert share(row["baseline"]) > 0.5
        assert share(row["best"]) > 0.2
        assert float(row["gain"]) == pytest.approx(100 * (share(row["best"]) - share(row["baseline"])), abs=0.11)
        best = results.best.config
        told = dict(pair.split("=") for pair in row["configuration"].split(", "))
        assert told == {name: str(value) for name, value in best.items() if "/" not in name}
        assert int(told["dense-bot"]) in range(50, 351, 50)
        assert told["Optimizer"] in ("Adam", "SGD")
        # All of the 80 % of 1,797 digits, to train and to validate; Keras looks at a few more to learn shapes.
        assert all(trial.samples >= 1437 for trial in results.trials)
    assert int(rows[0]["trials"]) == int(rows[1]["trials"]) == 2


# IDX files.


def idx(values, magic=None):
    head = bytes([0, 0, 8, values.ndim]) if magic is None else magic
    return head + struct.pack(f">{values.ndim}I", *values.shape) + values.astype("uint8").tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """A folder of the files, half of them packed, and their arrays by the names of the files."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("t10k", 20)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 8, 8))
        arrays[f"{part}-labels-idx1-ubyte"] = random.permutation(np.arange(count) % 10)
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, values in arrays.items():
        if name.startswith("train"):
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))
    return folder, arrays


def test_packs_idx_files(fashion, idx_folder, tmp_path):
    folder, arrays = idx_folder
    mnist = pytest.importorskip("torchvision.datasets.mnist")
    data = fashion.pack_idx(folder, tmp_path / "packed")
    for part, dataset in (("train", data.train), ("t10k", data.test)):
        batch = next(iter(fs.Loader(dataset, len(dataset))))
        for field, kind in (("image", "images-idx3"), ("label", "labels-idx1")):
            name = f"{part}-{kind}-ubyte"
            (tmp_path / name).write_bytes(idx(arrays[name]))
            theirs = mnist.read_sn3_pascalvincent_tensor(str(tmp_path / name)).numpy()
            assert np.array_equal(batch[field].reshape(theirs.shape), theirs)
    assert data.train.class_names[9] == "Ankle boot"


def test_batches_are_scaled_and_one_hot(fashion, tmp_path):
    from sklearn.datasets import load_digits

    data = fashion.pack_digits(tmp_path)
    digits, train, val, test = load_digits(), *(data.batches(part) for part in ("train", "val", "test"))
    sizes = [sum(len(y) for _, y in map(part.__getitem__, range(len(part)))) for part in (train, val, test)]
    assert sizes == [1365, 72, 360]
    counts = sum(y.sum(0) for part in (train, val, test) for _, y in map(part.__getitem__, range(len(part))))
    assert np.array_equal(counts, np.bincount(digits.target))
    x, y = val[0]
    assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)
    # Stratified: each class has a twentieth of its samples, rounded.
    assert y.sum(0).min() >= 7
    assert y.sum(0).max() <= 8
    assert np.array_equal(data.batches("val")[0][0], x)  # the same images for whoever asks


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (
            "train-images-idx3-ubyte.gz",
            lambda b: gzip.compress(b"\0\0\x09\3" + gzip.decompress(b)[4:]),
            "expected 00000803",
        ),
        ("train-images-idx3-ubyte.gz", lambda b: b[:-20], "end-of-stream"),
        ("train-images-idx3-ubyte.gz", lambda b: b"no gzip", "Not a gzipped file"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:-8] + bytes(4) + b[-4:], "CRC check failed"),
        ("t10k-images-idx3-ubyte", lambda b: b[:10], "expected 00000803 and 3 sizes"),
        ("t10k-images-idx3-ubyte", lambda b: b"", "begins with , expected"),
        ("t10k-images-idx3-ubyte", lambda b: b[:4] + b"\xff" * 12 + b[16:], "which can't be in 1,296 bytes"),
        ("t10k-images-idx3-ubyte", lambda b: b[:4] + bytes(12) + b[16:], r"says \(0, 0, 0\)"),
        ("t10k-images-idx3-ubyte", lambda b: b[:-1], r"says \(20, 8, 8\), 1,280 values, but there are 1,279"),
        ("t10k-images-idx3-ubyte", lambda b: b + b"\0", "1,280 values, but there are more"),
        ("t10k-labels-idx1-ubyte", lambda b: idx(np.zeros(19, int)), "19 labels, but there are 20 images"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "label 10 of image 19, expected 0 to 9"),
        ("t10k-labels-idx1-ubyte", None, "has neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"),
    ],
)
def test_damaged_idx_files_are_refused(fashion, idx_folder, tmp_path, name, damage, said):
    path = idx_folder[0] / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        fashion.pack_idx(idx_folder[0], tmp_path / "packed")
    assert str(path if damage else path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_search_fashion_are_one_line(fashion, tmp_path, monkeypatch):
    for arguments, said in [
        (
            ["--idx", str(tmp_path / "none"), "--out", str(tmp_path / "out")],
            r"search_fashion: .*none: has neither train-",
        ),
        (["--out", str(tmp_path)], r"search_fashion: .* is there already; --resume goes on with its searches"),
    ]:
        monkeypatch.setattr(sys, "argv", ["search_fashion.py", *arguments])
        with pytest.raises(SystemExit, match=said) as caught:
            fashion.main()
        assert "\n" not in str(caught.value)


# Seed 003's protocol, by Ray.


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_search_detector_compares_methods(tmp_path):
    pytest.importorskip("ray.tune", exc_type=ImportError)
    pytest.importorskip("pycocotools")
    out = tmp_path / "out"
    # Neither the target nor the time is reached.
    limits = ["--target", 0.99, "--time-limit", 500, "--data-fraction", 0.9]
    sizes = ["--images", 110, "--epochs", 4, "--rounds", 2, "--population", 2, "--max-trials", 2]
    methods = ["random", "bayes", "evolution"]
    done = run_example("search_detector.py", "--out", out, "--initial-points", 1, *sizes, *limits, "--method", *methods)
    assert done.returncode == 0, done.stderr
    assert "Warning:" not in done.stderr
    assert "A new study" not in done.stderr  # of Optuna's
    rows = table(done.stdout)
    assert [row["method"] for row in rows] == methods
    trials = check_report(out, methods)
    for row in rows:
        results = fs.tune.Results(out / row["method"])
        assert row["stopped by"] == "all trials done"
        assert int(row["trials"]) == len(results) == len(trials[row["method"]]) == 2
        assert [(trial.epochs, trial.data_fraction) for trial in results.trials] == [(4, 0.9)] * 2
        told = results.options
        assert (told["target"], told["time_limit"], told["epochs"]) == (0.99, 500, 4)
        check_detector(row, results, trials[row["method"]])


def check_detector(row, results, trials):
    """The best of a search, as the table, the report and the files of the search have it."""
    best = max(trials, key=lambda trial: float(trial["mAP"]))
    assert share(row["mAP"]) == pytest.approx(float(best["mAP"]), abs=5e-4)
    assert share(row["mAP"]) == pytest.approx(results.best.value, abs=5e-4)
    assert 0 < results.best.value <= 1
    for name, (low, high) in RANGES.items():
        assert float(row[name]) == pytest.approx(float(best[f"config/{name}"]), rel=0.01)
        assert low <= results.best.config[name] <= high
    assert best["config/batch_size"] in ("4", "8", "16", "32")
    # It learns.
    losses = [report.metrics["loss"] for report in results.best.reports]
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def detector():
    for name in ("ray.tune", "torchvision", "pycocotools"):
        pytest.importorskip(name, exc_type=ImportError)
    return imported("search_detector")


def test_anchors_are_torchvisions(detector):
    import torch
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    model = detector.Detector(2, 64, scale=4.0, ratio=2.0).eval()
    torch.nn.init.zeros_(model.head.weight)
    images = torch.zeros(1, 3, 64, 64)
    scores, boxes = model(images)
    assert scores.shape == (1, 8 * 8 * 3, 2)
    theirs = AnchorGenerator(((32,),), ((2.0, 1.0, 0.5),))  # heights by widths
    (anchors,) = theirs(ImageList(images, [(64, 64)]), [torch.zeros(1, 1, 8, 8)])
    # Theirs are rounded, and centred on the corners of the grid's cells.
    assert torch.allclose(boxes[0], anchors + 4, atol=0.5)


def test_every_box_has_an_anchor(detector):
    import torch

    model = detector.Detector(2, 64, scale=4.0, ratio=2.0)
    boxes = torch.tensor([[1.0, 1, 4, 4], [16, 16, 48, 48], [20, 30, 60, 50]])
    anchors, matched, unsure = model._match(boxes)
    assert set(matched.tolist()) == {0, 1, 2}
    assert not set(anchors.tolist()) & set(unsure.tolist())
    assert [len(found) for found in model._match(boxes[:0])] == [0, 0, 0]


def coco_rows(*boxes):
    return [
        {"image_id": n, "category_id": 0, "bbox": list(box), "area": box[2] * box[3], "score": 0.9}
        for n, box in enumerate(boxes)
    ]


def test_map_is_cocos(detector):
    truth = coco_rows((10, 10, 100, 100), (0, 0, 50, 50))
    assert detector.coco_map(truth, truth, 2, [0]) == pytest.approx(1)
    assert detector.coco_map(truth, [], 2, [0]) == 0
    # An overlap of 0.72 is one at five of the ten thresholds, 0.5, 0.55 ... 0.95.
    near = coco_rows((10, 10, 100, 72), (0, 0, 50, 36))
    assert detector.coco_map(truth, near, 2, [0]) == pytest.approx(0.5)
    # One of two found: precision 1 up to a recall of a half, which 51 of the 101 points are.
    assert detector.coco_map(truth, truth[:1], 2, [0]) == pytest.approx(51 / 101)


def test_errors_of_search_detector_are_one_line(detector, tmp_path, monkeypatch, capsys):
    for arguments, said in [([str(tmp_path / "none")], "none"), (["--size", "100"], "")]:
        monkeypatch.setattr(sys, "argv", ["search_detector.py", *arguments])
        monkeypatch.setattr(detector.ray, "init", lambda **options: None)
        with pytest.raises(SystemExit) as caught:
            detector.main()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert "--size 100: expected a multiple of 8 from 32 on" in capsys.readouterr().err
