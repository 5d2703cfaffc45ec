"""Search the hyperparameters of a small detector: without a search, at random, by Bayes and by evolution, side by side.

python examples/search_detector.py                            # a small set, made from pictures that scikit-image ships
fastshard pack MOT20/ packed/ --annotations annotations/train.json
python examples/search_detector.py packed/ --size 320 --max-trials 20 --epochs 24 --time-limit 10800 --data-fraction 0.3

Ray trains the trials. All of them read the one packed set by its path, and find its pictures decoded and resized.
"""

import argparse
import contextlib
import io
import json
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage import data
from torch import nn
from torchvision.ops import batched_nms, box_iou, generalized_box_iou_loss, sigmoid_focal_loss

import fastshard as fs

STRIDE = 8
PARTS = {"train": 0.6, "val": 0.2, "test": 0.2}
# What an experienced person would begin with, and where to look for better.
DEFAULTS = {"learning_rate": 1e-3, "weight_decay": 5e-4, "batch_size": 16, "anchor_scale": 4.0, "anchor_ratio": 2.0}
SPACE = {
    "learning_rate": fs.tune.Float(3e-4, 3e-2, log=True),
    "weight_decay": fs.tune.Float(1e-5, 1e-2, log=True),
    "batch_size": fs.tune.Choice([4, 8, 16, 32]),
    "anchor_scale": fs.tune.Float(1.5, 6.0),  # side of the anchors, in steps of the grid
    "anchor_ratio": fs.tune.Float(1.0, 3.0),  # of the sides of the wide one and of the tall one
}


def make_coco(folder: Path, count: int, seed: int) -> Path:
    """Photographs into which cut-out coins and cats were pasted, as they are, wide or tall; images and COCO's JSON."""
    random = np.random.default_rng(seed)
    backgrounds = [data.coffee(), data.astronaut(), data.rocket()]
    coin = np.repeat(data.coins()[20:90, 15:85, None], 3, axis=2)
    cutouts = [Image.fromarray(pixels) for pixels in (coin, data.chelsea()[:, 60:400])]
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        picture = Image.fromarray(backgrounds[number % 3]).resize((320, 240))
        images.append({"id": number, "file_name": f"{number:05}.jpg", "width": 320, "height": 240})
        for _ in range(random.integers(1, 4)):
            kind, side, stretch = int(random.integers(2)), random.uniform(50, 100), random.uniform(0.7, 1.4)
            width, height = round(side * stretch), round(side / stretch)
            left, top = int(random.integers(320 - width)), int(random.integers(240 - height))
            picture.paste(cutouts[kind].resize((width, height)), (left, top))
            box = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
            annotations.append({"id": len(annotations), "image_id": number, "category_id": (7, 17)[kind], **box})
        picture.save(folder / "images" / f"{number:05}.jpg", quality=92)
    categories = [{"id": 7, "name": "coin"}, {"id": 17, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


class Detector(nn.Module):
    """Three anchors at each place of a grid, and what convolutions say about them: classes, and where the box is."""

    def __init__(self, classes: int, size: int, scale: float, ratio: float) -> None:
        super().__init__()
        channels, layers = 3, []
        for width, stride in [(16, 2), (32, 2), (64, 2), (64, 1), (64, 1)]:
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, 3 * (4 + classes), 1)
        # At first every box is its anchor, and hardly anything is an object.
        bias = torch.tensor([0.0] * 4 + [-math.log(0.95 / 0.05)] * classes).repeat(3)
        self.head.bias = nn.Parameter(bias)
        centers = (torch.arange(size // STRIDE) + 0.5) * STRIDE
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        sides = [(scale * STRIDE * root, scale * STRIDE / root) for root in (ratio**-0.5, 1.0, ratio**0.5)]
        anchors = [torch.stack([x, y, torch.full_like(x, w), torch.full_like(x, h)], dim=-1) for w, h in sides]
        self.anchors: torch.Tensor
        # They belong to the configuration: a trial that goes on from the weights of another one has its own.
        self.register_buffer("anchors", torch.stack(anchors, dim=2).reshape(-1, 4), persistent=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``[batch, anchors, classes]``, before the sigmoid, and boxes ``[batch, anchors, 4]``, as xyxy."""
        found = self.head(self.body(images)).permute(0, 2, 3, 1)
        found = found.reshape(len(images), len(self.anchors), -1)
        offsets, scores = found[..., :4], found[..., 4:]
        centers = self.anchors[:, :2] + offsets[..., :2] * self.anchors[:, 2:]
        halves = self.anchors[:, 2:] * offsets[..., 2:].clamp(max=4).exp() / 2
        return scores, torch.cat([centers - halves, centers + halves], dim=-1)

    def loss(self, images: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Focal loss of the classes of all anchors, and GIoU of the boxes of those that have one."""
        scores, boxes = self(images)
        wanted, total, matched = torch.zeros_like(scores), scores.new_zeros(()), 0
        weights = torch.ones_like(scores[..., :1])
        for number, target in enumerate(targets):
            anchor, box, unsure = self._match(target["boxes"])
            wanted[number, anchor, target["labels"][box]] = 1
            weights[number, unsure] = 0
            total = total + generalized_box_iou_loss(boxes[number, anchor], target["boxes"][box], reduction="sum")
            matched += len(anchor)
        focal = (sigmoid_focal_loss(scores, wanted) * weights).sum()
        return (focal + total) / max(matched, 1)

    def _match(self, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Anchors that have a box, which one, and those that are neither near one nor far from all."""
        if not len(boxes):
            none = boxes.new_zeros(0, dtype=torch.long)
            return none, none, none
        halves = self.anchors[:, 2:] / 2
        overlaps = box_iou(torch.cat([self.anchors[:, :2] - halves, self.anchors[:, :2] + halves], dim=-1), boxes)
        best, box = overlaps.max(dim=1)
        nearest = overlaps.argmax(dim=0)  # every box has an anchor
        best[nearest], box[nearest] = 1, torch.arange(len(boxes), device=boxes.device)
        return (best >= 0.5).nonzero()[:, 0], box[best >= 0.5], ((best >= 0.4) & (best < 0.5)).nonzero()[:, 0]

    def predict(self, images: torch.Tensor) -> Iterable[dict[str, torch.Tensor]]:
        """Of each image up to 50 boxes, their scores and labels."""
        scores, boxes = self(images)
        for own, places in zip(scores.sigmoid(), boxes, strict=True):
            sure, at = own.flatten().topk(min(300, own.numel()))
            anchor, label = at // own.shape[1], at % own.shape[1]
            kept = batched_nms(places[anchor], sure, label, 0.5)[:50]
            yield {"boxes": places[anchor[kept]], "scores": sure[kept], "labels": label[kept]}


def batches_of(path: str, part: str, size: int, batch_size: int | None = None) -> fs.torch.ShardDataset:
    train = part == "train"
    loader = fs.tune.trial_loader(
        path,
        batch_size,  # or that of the trial's configuration
        split=part,
        parts=PARTS,
        shuffle=train,
        fields=["image", "boxes", "labels"],
        # What is alike in each epoch comes first: it is done once, for all trials.
        transforms={
            "image": [fs.ResizePad(size), *([fs.RandomHorizontalFlip()] if train else []), fs.ToDtype()],
            "boxes": [fs.ConvertBoundingBoxFormat("xyxy")],
        },
        layout="NCHW",
    )
    return fs.torch.ShardDataset(loader)


def mean_average_precision(model: Detector, batches: fs.torch.ShardDataset, device: torch.device) -> float:
    """COCO's mAP (IoU 0.5 to 0.95), computed by pycocotools."""
    model.eval()
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    images = 0
    with torch.inference_mode():
        for batch in fs.torch.to_device(batches, device):
            targets = fs.torch.detection_targets(batch, first_label=0)
            for target, prediction in zip(targets, model.predict(batch["image"]), strict=True):
                truth += coco_rows(target, images)
                found += coco_rows(prediction, images)
                images += 1
    labels = sorted({row["category_id"] for row in truth})
    return coco_map(truth, found, images, labels)


def coco_rows(boxes: dict[str, torch.Tensor], image: int) -> Iterable[dict[str, Any]]:
    places, labels = boxes["boxes"].tolist(), boxes["labels"].tolist()
    scores = boxes["scores"].tolist() if "scores" in boxes else [1.0] * len(labels)
    for (left, top, right, bottom), label, score in zip(places, labels, scores, strict=True):
        box = [left, top, right - left, bottom - top]
        yield {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "score": score}


def coco_map(truth: list[dict[str, Any]], found: list[dict[str, Any]], images: int, labels: list[int]) -> float:
    if not truth or not found:
        return 0.0
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(images)],
        "annotations": [row | {"id": number, "iscrowd": 0} for number, row in enumerate(truth, 1)],
        "categories": [{"id": label} for label in labels],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it is chatty
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return max(0.0, float(evaluation.stats[0]))


def train(trial: fs.tune.Trial, path: str, classes: int, size: int) -> None:
    """One trial: given a path and a configuration, reports after each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(trial.num_threads or 1)
    torch.manual_seed(0)
    config = trial.config
    model = Detector(classes, size, config["anchor_scale"], config["anchor_ratio"]).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    if trial.restored is not None:  # evolution: a copy of a better trial, or itself after a pause
        saved = torch.load(trial.restored / "model.pt", map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    for group in optimizer.param_groups:
        group.update(lr=config["learning_rate"], weight_decay=config["weight_decay"])
    batches = batches_of(path, "train", size)
    held_out = {"mAP": batches_of(path, "val", size, 32), "test_mAP": batches_of(path, "test", size, 32)}

    def save(folder: Path) -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "model.pt")

    for _ in trial.epochs():
        model.train()
        losses = []
        for batch in fs.torch.to_device(batches, device):
            loss = model.loss(batch["image"], fs.torch.detection_targets(batch, first_label=0))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            losses.append(loss.item())
        quality = {name: mean_average_precision(model, part, device) for name, part in held_out.items()}
        trial.report({"loss": float(np.mean(losses)), **quality}, checkpoint=save)


def search(options: argparse.Namespace, path: str) -> dict[str, fs.tune.Results]:
    """One search a method, all with the same trials; each leaves its folder in ``--out``."""
    classes = len(fs.open(path).field("labels").class_names or ())
    trained = partial(train, path=path, classes=classes, size=options.size)
    interval = max(1, options.epochs // options.rounds)
    evolution = {"rounds": options.rounds, "perturbation_interval": interval, "population": options.population}
    names = ("max_concurrent", "time_limit", "data_fraction", "seed", "gpus")
    common = {"metric": "mAP"} | {name: getattr(options, name) for name in names}
    trials = {"epochs": options.epochs, "max_trials": options.max_trials, "target": options.target}
    # No search is a search in a space of one configuration.
    alone = {name: fs.tune.Choice([value]) for name, value in DEFAULTS.items()}
    methods: dict[str, Callable[..., fs.tune.Results]] = {
        "none": partial(fs.tune.random, trained, alone, epochs=options.epochs, max_trials=1),
        "random": partial(fs.tune.random, trained, SPACE, **trials),
        "bayes": partial(fs.tune.bayes, trained, SPACE, initial_points=options.initial_points, **trials),
        "evolution": partial(fs.tune.evolution, trained, SPACE, target=options.target, **evolution),
    }
    found = {}
    for name in options.method:
        folder = options.out / name
        print(f"{name}: {folder}", flush=True)
        found[name] = methods[name](path=folder, resume=options.resume, **common)
    return found


def table(found: dict[str, fs.tune.Results]) -> str:
    """The searches side by side, as text."""
    rows = [["method", "mAP", "of test", *SPACE, "trials", "seconds", "stopped by"]]
    for name, results in found.items():
        counts = [str(len(results)), f"{results.seconds:.1f}", results.stopped or ""]
        best = results.best
        if best is None:
            rows.append([name, *[""] * (2 + len(SPACE)), *counts])
            continue
        # Chosen by the validation part, which makes it look better than it is; the test part had no say in it.
        quality = [f"{best.best_report.metrics[name]:.1%}" for name in ("mAP", "test_mAP")]
        rows.append([name, *quality, *(f"{best.config[key]:.3g}" for key in SPACE), *counts])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset", nargs="?", type=Path, help="a packed set with boxes; by default a small one is made")
    add("--out", type=Path, default=Path("searches/detector"), help="folder of the searches and the report")
    methods = ["none", "random", "bayes", "evolution"]
    add("--method", nargs="+", choices=methods, default=methods, help="all of them by default")
    add("--epochs", type=int, default=8, help="of each trial")
    add("--max-trials", type=int, default=6, help="configurations of random and bayes")
    add("--max-concurrent", type=int, default=2, help="trials at once; each has its share of the cores")
    add("--time-limit", type=float, metavar="SECONDS", help="for each search, which ends with the best so far")
    add("--target", type=float, metavar="MAP", help="such as 0.6: a search ends when a trial reaches it")
    add("--data-fraction", type=float, default=1.0, help="part of the training data that trials see")
    add("--initial-points", type=int, default=3, help="of bayes: trials before it knows anything")
    add("--rounds", type=int, default=4, help="of evolution: how often the worst copy the best")
    add("--population", type=int, default=4, help="of evolution: trials")
    add("--size", type=int, default=128, help="side of the pictures that the detector sees, a multiple of 8")
    add("--images", type=int, default=240, help="of the set that is made")
    add("--gpus", type=float, default=0, help="for each trial, such as 0.5")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on with the searches in --out")
    options = parser.parse_args()
    if options.size % STRIDE or options.size < 4 * STRIDE:
        parser.error(f"--size {options.size}: expected a multiple of {STRIDE} from {4 * STRIDE} on")
    if options.rounds < 1 or options.images < 10:
        parser.error("expected at least one round and ten images")
    return options


def main() -> None:
    options = parse()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = options.dataset
            if path is None:
                coco = make_coco(Path(scratch) / "coco", options.images, options.seed)
                path = Path(scratch) / "packed"
                print(fs.pack(coco, path, annotations="instances.json"))
            # One cluster for all searches: the processes of the first one train the trials of the next.
            cores = max(len(os.sched_getaffinity(0)), options.max_concurrent)
            ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            found = search(options, str(path.absolute()))
            ray.shutdown()
    except (OSError, ValueError, fs.FastshardError) as error:
        sys.exit(f"search_detector: {error}")
    print(f"\n{table(found)}\n\nreport: {fs.tune.report(found, options.out)}")


if __name__ == "__main__":
    main()
