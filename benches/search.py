"""The same hyperparameter search three times: a folder read in each trial, an object store, and fastshard.

    python benches/search.py

Random search with Ray Tune over a small CNN, 12 trials of 3 epochs, two at once, each search in a fresh process. All
three go through `fs.tune.random`, with the same engine, space, seed and model (96 pixels, three convolutions, about a
thousandth of a second of a core for each picture); only where batches come from differs:

folder     torch `DataLoader` with workers over torchvision's `ImageFolder`, as most people do it
objects    all pictures decoded once, and given to every trial through Ray's object store
fastshard  packed, with a cache that is empty when the search begins; packing counts

A trial's first batch is timed from asking for an iterator; its stall is the share of its epochs that it waited for
batches. Memory is what the machine had less of than before, at the most (without page cache), and the decoded pixels
that trials have mapped, a page that they share once.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

import machine
from compare import warm
from measure import environment
from photos import available_cores, generate

ROOT = Path(__file__).resolve().parent.parent
MODES = ("folder", "objects", "fastshard")
STORED, CROP, BATCH = 112, 96, 64
PARTS = {"train": 0.9, "val": 0.1}
CLAIMS = {
    "the whole search against the folder": 3.0,
    "stall of trials 2 and later": 5.0,
    "first batch of trials 2 and later, seconds": 0.5,
    "pixels held by two trials against one": 1.2,
}


def main() -> None:
    options = parse()
    if options.mode:
        search(options)
        return
    photos = generate(options.work / f"photos-{options.count}", options.count)
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for repeat in range(options.repeats):
        for mode in MODES[:: -1 if repeat % 2 else 1]:
            warm(photos)
            found[mode].append(in_a_process(mode, photos, options))
            print(f"{mode}: {found[mode][-1]['seconds']:.1f} s", file=sys.stderr)
    figures = {
        "machine": machine.describe(),
        "search": {name: getattr(options, name) for name in ("count", "trials", "epochs", "concurrent", "repeats")},
        "runs": found,
    }
    figures["claims"] = claims(figures)
    print(table(figures))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "search.json").write_text(json.dumps(figures, indent=2) + "\n")
    draw(figures, options.out / "search.svg")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a hyperparameter search, fed in three ways.")
    parser.add_argument("--count", type=int, default=3000, help="photos")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--concurrent", type=int, default=2, help="trials at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="photos, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_a_process(mode: str, photos: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--mode", mode, "--photos", str(photos)]
    for name in ("count", "trials", "epochs", "concurrent"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def search(options: argparse.Namespace) -> None:
    """One search, in this process: from its data to its results."""
    import fastshard as fs

    with tempfile.TemporaryDirectory(prefix="search-") as folder, Memory() as memory:
        work = Path(folder)
        start_ray(options.concurrent)
        started = time.perf_counter()
        batches = PREPARE[options.mode](options.photos, work)
        prepared = time.perf_counter() - started
        results = fs.tune.random(
            functools.partial(train, batches),
            {"lr": fs.tune.Float(1e-3, 1e-1, log=True), "width": fs.tune.Choice([4, 8])},
            metric="accuracy",
            max_trials=options.trials,
            max_concurrent=options.concurrent,
            epochs=options.epochs,
            path=work / "results",
            progress=False,
        )
        seconds = time.perf_counter() - started
        memory.stop()
        failed = [trial.error for trial in results.trials if trial.error]
        if failed or len(results) != options.trials:
            raise RuntimeError(f"{len(results)} trials, {failed}")
        told = {"mode": options.mode, "seconds": seconds, "prepare_seconds": prepared, "memory": memory.figures()}
        print(json.dumps(told | {"best": results.best.value, "trials": [describe(trial) for trial in results.trials]}))


def start_ray(concurrent: int) -> None:
    import ray

    ray.init(num_cpus=max(concurrent, available_cores()), include_dashboard=False, configure_logging=False)


def describe(trial: Any) -> dict[str, float]:
    metrics = [report.metrics for report in trial.reports]
    return {
        "seconds": trial.seconds,
        "accuracy": trial.value,
        "first_batch_seconds": metrics[0]["first_batch"],
        "stall_percent": 100 * sum(one["waited"] for one in metrics) / sum(one["looped"] for one in metrics),
        "images_per_second": sum(one["images"] for one in metrics) / sum(one["looped"] for one in metrics),
    }


# What a trial does, whatever it is fed with.


def train(batches: Callable[[str, int], Iterable[Any]], trial: Any) -> None:
    import torch

    torch.manual_seed(0)
    model = network(trial.config["width"])
    optimizer = torch.optim.SGD(model.parameters(), trial.config["lr"], momentum=0.9)
    feed = batches(trial)
    for epoch in trial.epochs():
        clock = Clock()
        for images, labels in clock.time(lambda epoch=epoch: feed("train", epoch)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images.float() / 255), labels).backward()
            optimizer.step()
        right = seen = 0
        with torch.inference_mode():
            for images, labels in feed("val", epoch):
                right += int((model(images.float() / 255).argmax(1) == labels).sum())
                seen += len(labels)
        trial.report({"accuracy": right / seen, **clock.figures()})


def network(width: int) -> Any:
    from torch import nn

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, width), *block(width, 2 * width), *block(2 * width, 4 * width)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class Clock:
    """How long a loop over batches takes, and how long it waits for them."""

    def __init__(self) -> None:
        self.waited = self.looped = self.first = 0.0
        self.images = 0

    def time(self, start: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        began = asked = time.perf_counter()
        for batch in start():
            self.waited += time.perf_counter() - asked
            self.first = self.first or self.waited
            self.images += len(batch[1])
            yield batch
            asked = time.perf_counter()
        self.waited += time.perf_counter() - asked
        self.looped = time.perf_counter() - began

    def figures(self) -> dict[str, float]:
        return {"waited": self.waited, "looped": self.looped, "first_batch": self.first, "images": self.images}


# Where batches come from: each gives, for a trial, a function from part and epoch to (uint8 NCHW, labels).


def prepare_folder(photos: Path, work: Path) -> Callable[[Any], Any]:  # noqa: ARG001
    return functools.partial(folder_batches, str(photos))


def folder_batches(photos: str, trial: Any) -> Callable[[str, int], Iterable[Any]]:
    import torch
    from torch.utils.data import DataLoader, random_split
    from torchvision import datasets
    from torchvision.transforms import v2

    torch.set_num_threads(trial.num_threads)
    crops = [v2.RandomCrop(CROP), v2.RandomHorizontalFlip()]
    steps = {"train": crops, "val": [v2.CenterCrop(CROP)]}
    loaders = {}
    for number, part in enumerate(PARTS):
        pipeline = v2.Compose([v2.PILToTensor(), v2.Resize((STORED, STORED), antialias=True), *steps[part]])
        whole = datasets.ImageFolder(photos, pipeline)
        split = random_split(whole, list(PARTS.values()), torch.Generator().manual_seed(0))[number]
        # A worker a core of the trial, kept between epochs.
        workers = {"num_workers": max(1, trial.num_threads), "persistent_workers": True}
        loaders[part] = DataLoader(split, BATCH, shuffle=part == "train", **workers)
    return lambda part, epoch: loaders[part]  # noqa: ARG005


def prepare_objects(photos: Path, work: Path) -> Callable[[Any], Any]:  # noqa: ARG001
    """Decodes on all cores, as somebody would who has the memory."""
    import ray
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets
    from torchvision.transforms import v2

    steps = v2.Compose([v2.PILToTensor(), v2.Resize((STORED, STORED), antialias=True)])
    loader = DataLoader(datasets.ImageFolder(str(photos), steps), BATCH, num_workers=available_cores())
    images, labels = (torch.cat(part).numpy() for part in zip(*loader, strict=True))
    return functools.partial(object_batches, ray.put(images), ray.put(labels))


def object_batches(images: Any, labels: Any, trial: Any) -> Callable[[str, int], Iterable[Any]]:
    import ray
    import torch

    torch.set_num_threads(trial.num_threads)
    pixels, classes = ray.get([images, labels])
    order = np.random.default_rng(0).permutation(len(classes))
    ends = round(PARTS["train"] * len(order))
    rows = {"train": order[:ends], "val": order[ends:]}

    def batches(part: str, epoch: int) -> Iterator[Any]:
        draw = np.random.default_rng(epoch)
        mixed = draw.permutation(rows[part]) if part == "train" else rows[part]
        for start in range(0, len(mixed), BATCH):
            taken = mixed[start : start + BATCH]
            yield torch.from_numpy(cut(pixels, taken, draw, part == "train")), torch.from_numpy(classes[taken])

    return batches


def cut(pixels: np.ndarray, rows: np.ndarray, draw: np.random.Generator, random: bool) -> np.ndarray:
    """Crops and flips, a picture at a time, straight into the batch."""
    batch = np.empty((len(rows), 3, CROP, CROP), np.uint8)
    room = STORED - CROP
    places = draw.integers(0, room + 1, (len(rows), 2)) if random else np.full((len(rows), 2), room // 2)
    flips = draw.random(len(rows)) < 0.5 if random else np.zeros(len(rows), bool)
    for at, (row, (y, x), flip) in enumerate(zip(rows, places, flips, strict=True)):
        crop = pixels[row, :, y : y + CROP, x : x + CROP]
        batch[at] = crop[..., ::-1] if flip else crop
    return batch


def prepare_fastshard(photos: Path, work: Path) -> Callable[[Any], Any]:
    import fastshard as fs

    fs.pack(photos, work / "packed", progress=False)
    return functools.partial(fastshard_batches, str(work / "packed"), str(work / "cache"))


def fastshard_batches(path: str, cache: str, trial: Any) -> Callable[[str, int], Iterable[Any]]:
    import torch

    import fastshard as fs

    torch.set_num_threads(trial.num_threads)
    crops = {"train": [fs.RandomCrop(CROP), fs.RandomHorizontalFlip()], "val": [fs.CenterCrop(CROP)]}
    loaders = {}
    for part, steps in crops.items():
        transforms = {"image": [fs.Resize((STORED, STORED)), *steps]}
        options = {"split": part, "parts": PARTS, "stratify": "label", "shuffle": part == "train"}
        loaders[part] = fs.tune.trial_loader(path, BATCH, transforms=transforms, layout="NCHW", cache=cache, **options)

    def batches(part: str, epoch: int) -> Iterator[Any]:
        loaders[part].set_epoch(epoch)
        for batch in fs.torch.ShardDataset(loaders[part]):
            yield batch["image"], batch["label"]

    return batches


PREPARE = {"folder": prepare_folder, "objects": prepare_objects, "fastshard": prepare_fastshard}


# Memory.


class Memory:
    """Watches what the machine has left, and the decoded pixels that processes share."""

    def __init__(self) -> None:
        self._before = available_memory()
        self._least = self._before
        self._mapped = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch(self) -> None:
        looks = 0
        while not self._stopped.wait(0.25):
            self._least = min(self._least, available_memory())
            if looks % 8 == 0:
                self._mapped = max(self._mapped, mapped_pixels())
            looks += 1

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def figures(self) -> dict[str, float]:
        return {"machine_mib": (self._before - self._least) / 2**20, "mapped_pixels_mib": self._mapped / 2**20}


def available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def mapped_pixels() -> float:
    """Bytes of caches that processes have mapped and touched, a page that several share once."""
    total = 0.0
    for maps in Path("/proc").glob("[0-9]*/smaps"):
        ours = False
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            continue  # gone, or somebody else's
        for line in lines:
            if "-" in line.split()[0]:
                ours = line.endswith(".pixels")
            elif ours and line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


# What is said of it.


def claims(figures: dict[str, Any]) -> list[dict[str, Any]]:
    runs = figures["runs"]
    ours, folder = runs["fastshard"], runs["folder"]
    # Trials 0 and 1 begin together, with an empty cache.
    later = [trial for run in ours for trial in run["trials"][figures["search"]["concurrent"] :]]
    pixels = round(figures["search"]["count"]) * STORED * STORED * 3 / 2**20
    values = [
        median(run["seconds"] for run in folder) / median(run["seconds"] for run in ours),
        mean(trial["stall_percent"] for trial in later),
        max(trial["first_batch_seconds"] for trial in later),
        max(run["memory"]["mapped_pixels_mib"] for run in ours) / pixels,
    ]
    return [
        {"what": what, "value": value, "asked": asked, "holds": value >= asked if at == 0 else value <= asked}
        for at, ((what, asked), value) in enumerate(zip(CLAIMS.items(), values, strict=True))
    ]


def table(figures: dict[str, Any]) -> str:
    head = ("data", "search", "of which preparing", "trial", "img/s", "stall", "first batch, later", "machine's memory")
    rows = [head]
    for mode, runs in figures["runs"].items():
        trials = [trial for run in runs for trial in run["trials"]]
        later = [trial for run in runs for trial in run["trials"][figures["search"]["concurrent"] :]]
        rows.append(
            (
                mode,
                f"{median(run['seconds'] for run in runs):.1f} s",
                f"{median(run['prepare_seconds'] for run in runs):.1f} s",
                f"{median(trial['seconds'] for trial in trials):.2f} s",
                f"{median(trial['images_per_second'] for trial in trials):,.0f}",
                f"{mean(trial['stall_percent'] for trial in later or trials):.1f} %",
                f"{1000 * median(trial['first_batch_seconds'] for trial in later or trials):,.0f} ms",
                f"{max(run['memory']['machine_mib'] for run in runs):,.0f} MiB",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for one in figures["claims"]:
        verdict = "holds" if one["holds"] else "MISSED"
        lines.append(f"{verdict}: {one['what']}: {one['value']:.2f} (asked: {one['asked']})")
    return "\n".join(lines)


def draw(figures: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    text = "#6e7781"
    mpl.rcParams |= {"svg.hashsalt": "search", "svg.fonttype": "none", "text.color": text, "ytick.color": text}
    mpl.rcParams |= {"xtick.color": text, "axes.labelcolor": text, "axes.edgecolor": text}
    from matplotlib import pyplot as plt

    colors = {"folder": "#8d99ae", "objects": "#b8c0cc", "fastshard": "#d1495b"}
    runs = {mode: found[0] for mode, found in figures["runs"].items()}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    left.barh(list(runs)[::-1], [run["seconds"] for run in runs.values()][::-1], color=[*colors.values()][::-1])
    left.set_xlabel("seconds of the whole search")
    for mode, run in runs.items():
        heights = [trial["stall_percent"] for trial in run["trials"]]
        right.plot(range(1, len(heights) + 1), heights, marker="o", label=mode, color=colors[mode])
    right.set_xlabel("trial")
    right.set_ylabel("waiting for batches, %")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
