"""What training on a part of the data costs a search in quality, and what it gains in time.

    python benches/data_fractions.py

The same search with a small CNN on scikit-learn's digits, by asynchronous successive halving: with all of the data,
with a fixed part of it, and with a part that grows from rung to rung. Each search's best configuration is then trained
from the start with all data and scored on pictures that no search has seen, so that searches compare, whatever they
trained on.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import fastshard as fs
import machine

ROOT = Path(__file__).resolve().parent.parent
SIDE, BATCH = 32, 32
PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}
EPOCHS = 9
FRACTIONS: dict[str, float | fs.tune.FractionSchedule] = {
    "all of it": 1.0,
    "a third": 0.33,
    "a tenth": 0.1,
    "growing: 0.1, 0.33, 1": fs.tune.FractionSchedule([0.1, 0.33, 1.0]),
}
SPACE = {
    "lr": fs.tune.Float(1e-4, 1.0, log=True),
    "width": fs.tune.Choice([4, 8, 16]),
    "dropout": fs.tune.Float(0, 0.6),
    "decay": fs.tune.Float(1e-6, 1e-1, log=True),
}


def main() -> None:
    options = parse()
    runs = []
    with tempfile.TemporaryDirectory(prefix="fractions-") as folder:
        data = Path(folder, "digits")
        pack(data)
        for seed in range(options.seeds):
            for name, fraction in FRACTIONS.items():
                runs.append(
                    {"data": name, "seed": seed, **run(data, Path(folder, f"{name}-{seed}"), fraction, options, seed)}
                )
                print(runs[-1], flush=True)
    figures = {"machine": machine.describe(), "trials": options.trials, "epochs": EPOCHS, "runs": runs}
    print(table(runs))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "data_fractions.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw(runs, options.out / "data_fractions.svg")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure searches on parts of the data.")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    return parser.parse_args()


def pack(path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * 15).astype(np.uint8)[..., None]
    rows = ({"image": one, "label": int(label)} for one, label in zip(pixels, digits.target, strict=True))
    fs.pack(rows, path, progress=False)


def run(
    data: Path, folder: Path, fraction: float | fs.tune.FractionSchedule, options: argparse.Namespace, seed: int
) -> dict[str, Any]:
    results = fs.tune.hyperband(
        functools.partial(train, str(data), str(folder)),
        SPACE,
        metric="accuracy",
        max_epochs=EPOCHS,
        max_trials=options.trials,
        max_concurrent=2,
        data_fraction=fraction,
        engine="optuna",
        seed=seed,
        path=folder,
        progress=False,
    )
    samples = sum(trial.samples for trial in results.trials)
    score = test_accuracy(str(data), str(folder), results.best.config)
    return {"seconds": results.seconds, "samples": samples, "validation": results.best.value, "test": score}


def loaders(data: str, cache: str, *parts: str, **options: Any) -> list[fs.Loader]:
    steps = {"image": [fs.Resize((SIDE, SIDE))]}
    shared = {"parts": PARTS, "stratify": "label", "transforms": steps, "layout": "NCHW", "cache": cache, **options}
    return [fs.tune.trial_loader(data, BATCH, split=part, shuffle=part == "train", **shared) for part in parts]


def train(data: str, cache: str, trial: Any) -> None:
    import torch

    torch.set_num_threads(1)
    model, optimizer = make(trial.config)
    batches, val = loaders(data, f"{cache}-cache", "train", "val")
    for _ in trial.epochs():
        train_epoch(model, optimizer, batches)
        trial.report({"accuracy": accuracy(model, val)})


def test_accuracy(data: str, cache: str, config: dict[str, Any]) -> float:
    model, optimizer = make(config)
    batches, test = loaders(data, f"{cache}-cache", "train", "test", data_fraction=1.0)
    for _ in range(EPOCHS):
        train_epoch(model, optimizer, batches)
    return accuracy(model, test)


def make(config: dict[str, Any]) -> tuple[Any, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    width = config["width"]
    layers = [nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU()]
    layers += [nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Dropout(config["dropout"]), nn.Linear(16 * width, 10))
    return model, torch.optim.SGD(model.parameters(), config["lr"], momentum=0.9, weight_decay=config["decay"])


def train_epoch(model: Any, optimizer: Any, batches: fs.Loader) -> None:
    import torch

    model.train()
    for batch in fs.torch.ShardDataset(batches):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch["image"].float() / 255), batch["label"]).backward()
        optimizer.step()


def accuracy(model: Any, loader: fs.Loader) -> float:
    import torch

    model.eval()
    with torch.inference_mode():
        right = [
            (model(batch["image"].float() / 255).argmax(1) == batch["label"]) for batch in fs.torch.ShardDataset(loader)
        ]
    return float(torch.cat(right).float().mean())


def table(runs: list[dict[str, Any]]) -> str:
    lines = [f"{'training data':>24}  {'seconds':>8}  {'samples':>9}  {'validation':>10}  {'test':>6}"]
    for name in FRACTIONS:
        own = [run for run in runs if run["data"] == name]
        means = {key: mean(run[key] for run in own) for key in ("seconds", "samples", "validation", "test")}
        cells = (f"{means['seconds']:8.1f}", f"{means['samples']:9,.0f}", f"{means['validation']:10.3f}")
        lines.append("  ".join((f"{name:>24}", *cells, f"{means['test']:6.3f}")))
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    text = "#6e7781"
    mpl.rcParams |= {"svg.hashsalt": "data_fractions", "svg.fonttype": "none", "text.color": text, "ytick.color": text}
    mpl.rcParams |= {"xtick.color": text, "axes.labelcolor": text, "axes.edgecolor": text}
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for name, color in zip(FRACTIONS, ("#8d99ae", "#2563eb", "#b8c0cc", "#d1495b"), strict=True):
        own = [run for run in runs if run["data"] == name]
        axis.scatter([run["seconds"] for run in own], [run["test"] for run in own], label=name, color=color)
    axis.set_xlabel("seconds of the search")
    axis.set_ylabel("test accuracy of its best")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
