"""Train one of torchvision's detectors for a few steps from a packed COCO-like set, and say how well it does.

python examples/train_detector.py                # makes a small set from pictures that scikit-image ships
fastshard pack coco/ packed/ --annotations annotations/instances_val2017.json
python examples/train_detector.py packed/ --steps 500
"""

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

import fastshard as fs

SIZE = 320
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_coco(folder: Path, count: int, seed: int = 0) -> Path:
    """Photographs into which cut-out coins and cats were pasted; images and COCO's JSON."""
    random = np.random.default_rng(seed)
    backgrounds = [data.coffee(), data.astronaut(), data.rocket()]
    cat = data.chelsea()[:, 60:400]
    coin = np.repeat(data.coins()[20:90, 15:85, None], 3, axis=2)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        picture = Image.fromarray(backgrounds[number % 3]).resize((400, 300))
        images.append({"id": number, "file_name": f"{number:04}.jpg", "width": 400, "height": 300})
        for _ in range(random.integers(1, 4)):
            kind = int(random.integers(2))
            side = int(random.integers(50, 110))
            left, top = int(random.integers(400 - side)), int(random.integers(300 - side))
            picture.paste(Image.fromarray((coin, cat)[kind]).resize((side, side)), (left, top))
            box = [left, top, side, side]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": (7, 17)[kind], "bbox": box})
            annotations[-1] |= {"area": side * side, "iscrowd": 0}
        picture.save(folder / "images" / f"{number:04}.jpg", quality=92)
    categories = [{"id": 7, "name": "coin"}, {"id": 17, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def batches_of(dataset: fs.Dataset, batch_size: int, *, train: bool) -> fs.torch.ShardDataset:
    augment = (
        [fs.RandomHorizontalFlip(), fs.ColorJitter(0.2, 0.2), fs.RandomAffine(5, scale=(0.8, 1.2))] if train else []
    )
    loader = fs.Loader(
        dataset,
        batch_size,
        shuffle=train,
        fields=["image", "boxes", "labels"],
        transforms={
            "image": [*augment, fs.ResizePad(SIZE), fs.ToDtype()],
            "boxes": [fs.ConvertBoundingBoxFormat("xyxy"), fs.SanitizeBoundingBoxes(min_size=4, min_visible=0.3)],
        },
        layout="NCHW",
    )
    return fs.torch.ShardDataset(loader)


def found_share(model: torch.nn.Module, dataset: fs.Dataset) -> float:
    """Of the boxes, how many have a prediction of their class that overlaps them by half."""
    model.eval()
    hits, total = 0, 0
    with torch.no_grad():
        for batch in batches_of(dataset, 8, train=False):
            targets = fs.torch.detection_targets(batch)
            for target, found in zip(targets, model(list(batch["image"].to(DEVICE))), strict=True):
                sure = found["scores"] > 0.2
                overlaps = box_iou(target["boxes"], found["boxes"][sure].cpu())
                same = target["labels"][:, None] == found["labels"][sure].cpu()
                hits += int(((overlaps > 0.5) & same).any(dim=1).sum())
                total += len(target["boxes"])
    return hits / max(total, 1)


def train(dataset: fs.Dataset, steps: int, batch_size: int) -> None:
    classes = dataset.field("labels").class_names or ()
    training, held_out = dataset.split([0.8, 0.2], seed=0)
    torch.manual_seed(0)
    # Without weights from the network: a few steps only show that the loss falls.
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(classes) + 1).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = batches_of(training, batch_size, train=True)
    step = 0
    while step < steps:
        model.train()
        for batch in islice(fs.torch.to_device(batches, DEVICE), steps - step):
            losses = model(list(batch["image"]), fs.torch.detection_targets(batch))
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 5 == 0 or step == steps:
                print(f"step {step}: loss {loss.detach().item():.2f}", flush=True)
    print(f"of the boxes of {len(held_out)} images not trained on, found: {found_share(model, held_out):.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, help="a packed set; by default a small one is made")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=120, help="of the set that is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.dataset
        if path is None:
            coco = make_coco(Path(scratch) / "coco", options.images)
            path = Path(scratch) / "packed"
            print(fs.pack(coco, path, annotations="instances.json"))
        train(fs.open(path), options.steps, options.batch_size)


if __name__ == "__main__":
    main()
