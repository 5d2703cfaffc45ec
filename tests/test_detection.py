"""Boxes on the way to training and evaluation: what they come to is what the original files come to."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert

import fastshard as fs

SIZE = 256


@pytest.fixture(scope="module")
def coco(photos, tmp_path_factory):
    """A set in COCO's layout: crops of photographs of many sizes with zero to six boxes; ids with gaps."""
    root = tmp_path_factory.mktemp("coco")
    (root / "images").mkdir()
    random = np.random.default_rng(5)
    images, annotations = [], []
    for number in range(20):
        photo = list(photos.values())[number % 5]
        height, width = (int(side) for side in random.integers(120, 300, 2))
        Image.fromarray(photo[:height, :width]).save(root / "images" / f"{number}.png")
        images.append({"id": 10 * number + 3, "file_name": f"{number}.png", "width": width, "height": height})
        for _ in range(number % 7):
            left, top = random.uniform(0, width - 40), random.uniform(0, height - 40)
            box = [left, top, random.uniform(8, width - left), random.uniform(8, height - top)]
            one = {
                "id": len(annotations) + 1,
                "image_id": 10 * number + 3,
                "category_id": int(random.choice([2, 9, 44])),
            }
            annotations.append(one | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in ((2, "cup"), (9, "cat"), (44, "dog"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def packed(coco, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "ds"
    fs.pack(coco, path, annotations="instances.json")
    return fs.open(path)


def predictions(dataset, noise):
    """What a detector says that sees letterboxed images: their boxes, shaken, and taken back to the source's pixels."""
    steps = {"image": [fs.RandomHorizontalFlip(), fs.ResizePad(SIZE)]}
    loader = fs.Loader(dataset, 6, shuffle=True, seed=2, transforms=steps, matrices=True)
    ids = [category["id"] for category in dataset.manifest["provenance"]["categories"]]
    random = np.random.default_rng(0)
    for batch in loader:
        starts = batch["boxes_offsets"]
        for row, image in enumerate(batch["image_id"].tolist()):
            part = slice(starts[row], starts[row + 1])
            shaken = batch["boxes"][part] + random.normal(0, noise, (starts[row + 1] - starts[row], 4))
            boxes = fs.unmap_boxes(shaken, batch["image_matrix"][row])
            for box, label in zip(boxes.astype(float), batch["labels"][part], strict=True):
                left, top, right, bottom = box
                found = {"image_id": image, "category_id": ids[label], "score": float(random.uniform(0.5, 1))}
                yield found | {"bbox": [left, top, right - left, bottom - top]}


def shaken_originals(content, noise):
    """The same predictions, made from the file without fastshard: boxes shaken by as much in the letterbox's pixels."""
    random = np.random.default_rng(1)
    sizes = {image["id"]: max(image["width"], image["height"]) for image in content["images"]}
    for one in content["annotations"]:
        left, top, width, height = one["bbox"]
        corners = np.array([left, top, left + width, top + height])
        left, top, right, bottom = corners + random.normal(0, noise * sizes[one["image_id"]] / SIZE, 4)
        found = {"image_id": one["image_id"], "category_id": one["category_id"], "score": float(random.uniform(0.5, 1))}
        yield found | {"bbox": [left, top, right - left, bottom - top]}


def mean_precision(truth, found):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(list(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2]


@pytest.fixture(scope="module")
def truth(coco):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(coco / "instances.json")


def test_perfect_predictions_are_perfect(truth, packed):
    np.testing.assert_allclose(mean_precision(truth, predictions(packed, 0)), 1)


def test_shaken_predictions_score_as_shaken_originals(coco, truth, packed):
    content = json.loads((coco / "instances.json").read_text())
    for noise, low, high in ((2, 0.5, 0.95), (6, 0.1, 0.8)):
        ours = mean_precision(truth, predictions(packed, noise))
        theirs = mean_precision(truth, shaken_originals(content, noise))
        assert low < ours[0] < high
        np.testing.assert_allclose(ours, theirs, atol=0.12)


def test_an_exported_set_is_evaluated_alike(truth, packed, tmp_path):
    fs.export(packed, tmp_path / "out", to="coco")
    with contextlib.redirect_stdout(io.StringIO()):
        again = COCO(tmp_path / "out" / "annotations.json")
    assert len(again.anns) == len(truth.anns)
    assert [c["name"] for c in again.loadCats(again.getCatIds())] == ["cup", "cat", "dog"]
    by_area = [sorted(round(one["area"], 2) for one in each.anns.values()) for each in (again, truth)]
    assert by_area[0] == by_area[1]


def loaded(packed, *boxes):
    steps = {"image": fs.ResizePad(SIZE), "boxes": list(boxes)}
    return next(iter(fs.torch.ShardDataset(fs.Loader(packed, 20, transforms=steps))))


def test_targets_of_torchvision(packed):
    batch = loaded(packed, fs.ConvertBoundingBoxFormat("xyxy"))
    targets = fs.torch.detection_targets(batch)
    assert len(targets) == 20
    for row, target in enumerate(targets):
        own = slice(*batch["boxes_offsets"][row : row + 2].tolist())
        assert torch.equal(target["boxes"], batch["boxes"][own])
        assert target["boxes"].shape[1:] == (4,)
        assert torch.equal(target["labels"], batch["labels"][own] + 1)
        assert target["labels"].dtype == torch.int64


def test_targets_of_yolo(packed):
    batch = loaded(packed, fs.ConvertBoundingBoxFormat("cxcywh", normalized=True))
    targets = fs.torch.yolo_targets(batch)
    assert targets.shape == (len(batch["boxes"]), 6)
    images = [row for row, count in enumerate(batch["boxes_offsets"].diff().tolist()) for _ in range(count)]
    assert targets[:, 0].tolist() == images
    assert torch.equal(targets[:, 1], batch["labels"].float())
    pixels = box_convert(targets[:, 2:] * SIZE, "cxcywh", "xyxy")
    np.testing.assert_allclose(pixels, loaded(packed)["boxes"], atol=1e-3)


def test_targets_need_boxes_one_after_the_other(packed):
    batch = loaded(packed, fs.PadSequence())
    for targets in (fs.torch.detection_targets, fs.torch.yolo_targets):
        with pytest.raises(ValueError, match="without PadSequence"):
            targets(batch)
