"""Instance masks: pycocotools' to the pixel where nothing moves, and with their image where something does."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision import tv_tensors
from torchvision.models import detection
from torchvision.transforms import v2

import fastshard as fs

# pycocotools hands NumPy an array in a way that is out of date.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH, COUNT = 150, 200, 10


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def blob(random, center, radius, corners=12):
    """A polygon with notches, around a place."""
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = radius * random.uniform(0.6, 1, corners)
    points = np.column_stack([center[0] + radii * np.cos(angles), center[1] + radii * np.sin(angles)])
    return points.round(2).ravel().tolist()


def runs_of(pixels, compressed):
    encoded = coco_mask.encode(np.asfortranarray(pixels))
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], pixels.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return {"size": encoded["size"], "counts": counts}


def decoded(shape, height=HEIGHT, width=WIDTH):
    """What pycocotools makes of a segmentation."""
    if shape is None:
        return np.zeros((height, width), np.uint8)
    if isinstance(shape, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(shape, height, width)))
    if isinstance(shape["counts"], list):
        shape = coco_mask.frPyObjects(shape, height, width)
    return coco_mask.decode(shape)


def box_of(pixels):
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 1, 1]


@pytest.fixture(scope="module")
def shapes():
    """For each image, up to six objects: polygons, some in two parts or over the edge, and encodings of both kinds."""
    random = np.random.default_rng(6)
    found = []
    for number in range(COUNT):
        own = []
        for at in range(number % 7):
            center = random.uniform(20, [WIDTH - 20, HEIGHT - 20])
            polygons = [blob(random, center, random.uniform(15, 60))]
            if at % 3 == 1:
                polygons.append(blob(random, random.uniform(0, [WIDTH, HEIGHT]), 25))
            own.append(polygons if at % 2 == 0 else runs_of(decoded(polygons), at % 4 == 1))
        found.append(own)
    return found


def dataset(shapes, path, **extra):
    random = np.random.default_rng(2)
    samples = []
    for own in shapes:
        boxes = np.array([box_of(decoded(shape)) for shape in own], np.float32).reshape(-1, 4)
        sample = {
            "image": png(random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)),
            "boxes": boxes,
            "labels": np.arange(len(own)),
            "segmentation": json.dumps(own),
        }
        samples.append(sample)
    types = {"boxes": "boxes[xyxy]", "labels": "list[int64] along boxes", "segmentation": "text"}
    fs.pack(samples, path, types=types, **extra)
    return fs.open(path)


@pytest.fixture(scope="module")
def packed(shapes, tmp_path_factory):
    return dataset(shapes, tmp_path_factory.mktemp("instances") / "ds")


def load(ds, steps=(), boxes=(), masks=(), **options):
    transforms = {"segmentation": [fs.InstanceMasks(), *masks]}
    transforms |= {"image": list(steps)} if steps else {}
    transforms |= {"boxes": list(boxes)} if boxes else {}
    (batch,) = fs.Loader(ds, len(ds), transforms=transforms, **options)
    return batch


def overlap(one, other):
    return np.sum(one & other) / np.sum(one | other)


def test_as_pycocotools_paints_them(packed, shapes):
    batch = load(packed)
    assert batch["segmentation"].dtype == np.uint8
    np.testing.assert_array_equal(batch["segmentation_offsets"], batch["boxes_offsets"])
    expected = np.stack([decoded(shape) for own in shapes for shape in own])
    np.testing.assert_array_equal(batch["segmentation"], expected)
    assert expected.any(axis=(1, 2)).all()


def test_polygons_of_all_kinds(tmp_path):
    """Corners on the grid, halves, beyond the edges, crossing edges, the same point twice, hardly any points."""
    random = np.random.default_rng(0)
    polygons = []
    for number in range(600):
        points = random.uniform(-20, 220, (int(random.integers(3, 9)), 2))
        points = [points, points.round(), points.round(1), np.repeat(points, 2, axis=0), points / 9 + 40][number % 5]
        polygons.append([points.ravel().tolist()])
    polygons += [[[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]], [[10, 10, 10, 10, 10, 10]], [[5, 5, 90, 90, 5, 5]]]
    ds = dataset([polygons], tmp_path / "ds")
    masks = load(ds)["segmentation"]
    for found, shape in zip(masks, polygons, strict=True):
        np.testing.assert_array_equal(found, decoded(shape))


FIXED = {
    "resize": ([fs.Resize((300, 260))], v2.Resize((300, 260))),
    "crop": ([fs.CenterCrop((100, 120))], v2.CenterCrop((100, 120))),
    "pad": (
        [fs.CenterCrop((100, 120)), fs.Pad([5, 9, 20, 40])],
        v2.Compose([v2.CenterCrop((100, 120)), v2.Pad([5, 9, 20, 40])]),
    ),
    "flips": (
        [fs.RandomHorizontalFlip(1), fs.RandomVerticalFlip(1)],
        v2.Compose([v2.RandomHorizontalFlip(1), v2.RandomVerticalFlip(1)]),
    ),
    "turn": ([fs.RandomRotation((30, 30))], v2.RandomRotation((30, 30))),
    "affine": (
        [fs.RandomAffine((-20, -20), scale=(1.2, 1.2), shear=(10, 10))],
        v2.RandomAffine((-20, -20), scale=(1.2, 1.2), shear=(10, 10)),
    ),
    "turned and back": (
        [fs.RandomRotation((40, 40)), fs.RandomRotation((-40, -40))],
        v2.Compose([v2.RandomRotation((40, 40)), v2.RandomRotation((-40, -40))]),
    ),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Objects of some hundred pixels across, one in an image, and what pycocotools makes of each."""
    random = np.random.default_rng(7)
    samples, masks = [], []
    for number in range(8):
        shape = [blob(random, (250, 200), 190, 14)]
        masks.append(decoded(shape, 400, 500))
        written = shape if number % 2 else runs_of(masks[-1], number % 4 == 0)
        sample = {"image": png(np.zeros((400, 500, 3), np.uint8)), "segmentation": json.dumps([written])}
        samples.append(sample | {"boxes": np.array([box_of(masks[-1])], np.float32)})
    path = tmp_path_factory.mktemp("large") / "ds"
    fs.pack(samples, path, types={"boxes": "boxes[xyxy]", "segmentation": "text"})
    return fs.open(path), masks


@pytest.mark.parametrize("name", FIXED)
def test_as_torchvision_moves_them(packed, shapes, large, name):
    """Small ones and cut ones differ by no more than their border, and the larger they are, the less that is."""
    steps, transform = FIXED[name]
    batch = load(packed, steps, [fs.SanitizeBoundingBoxes(0, 0)])
    rows = np.split(batch["segmentation"], batch["segmentation_offsets"][1:-1])
    labels = np.split(batch["labels"], batch["labels_offsets"][1:-1])
    for found, kept, own in zip(rows, labels, shapes, strict=True):
        for mask, label in zip(found, kept, strict=True):
            theirs = moved(transform, decoded(own[label]))
            border = sum(np.sum(theirs != np.roll(theirs, 1, axis)) for axis in (0, 1))
            assert np.sum(mask != theirs) <= max(border, 12)
    for found, pixels in zip(load(large[0], steps)["segmentation"], large[1], strict=True):
        assert overlap(found, moved(transform, pixels)) > 0.98


def moved(transform, pixels):
    return transform(tv_tensors.Mask(torch.from_numpy(pixels)[None]))[0].numpy()


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One object an image, beside a picture of its mask."""
    random = np.random.default_rng(1)
    samples = []
    for number in range(16):
        height, width = (int(side) for side in random.integers(150, 260, 2))
        shape = [blob(random, (width / 2, height / 2), 70, 14)]
        pixels = decoded(shape, height, width)
        written = shape if number % 2 else runs_of(pixels, number % 4 == 0)
        samples.append(
            {
                "image": png(random.integers(0, 255, (height, width, 3), np.uint8)),
                "mask": png(pixels),
                "boxes": np.array([box_of(pixels)], np.float32),
                "segmentation": json.dumps([written]),
            }
        )
    path = tmp_path_factory.mktemp("single") / "ds"
    fs.pack(samples, path, types={"boxes": "boxes[xyxy]", "segmentation": "text"})
    return fs.open(path)


RANDOM = {
    "crop": [fs.RandomResizedCrop(200, scale=(0.3, 1)), fs.RandomHorizontalFlip()],
    "affine": [fs.ResizePad(260), fs.RandomAffine(40, translate=(0.2, 0.2), scale=(0.8, 1.5), shear=20)],
    "perspective": [fs.Resize((250, 300)), fs.RandomPerspective(0.4, p=1), fs.RandomVerticalFlip()],
    "effects between": [fs.ResizePad(240), fs.ColorJitter(0.1), fs.RandomRotation(30), fs.RandomCrop(180)],
    "mosaic": [fs.Mosaic(240), fs.RandomAffine(10, scale=(0.8, 1.2)), fs.CenterCrop(300)],
    "mirrored mosaic": [fs.RandomHorizontalFlip(), fs.Mosaic(200, 0.7)],
}


@pytest.mark.parametrize("name", RANDOM)
def test_as_a_picture_of_the_mask_goes(single, name):
    transforms = {"image": RANDOM[name], "mask": [fs.Decode("L"), fs.Follow("image")]}
    transforms["segmentation"] = fs.InstanceMasks()
    loader = fs.Loader(single, 16, shuffle=True, transforms=transforms, seed=3)
    seen = 0
    for _ in range(2):
        (batch,) = loader
        for picture, masks in zip(
            batch["mask"][..., 0], np.split(batch["segmentation"], batch["segmentation_offsets"][1:-1]), strict=True
        ):
            # In a mosaic there are four objects, no two of which meet.
            union = masks.max(axis=0, initial=0)
            assert np.sum(union != picture) <= max(0.03 * picture.sum(), 60)
            if picture.sum() > 4000:
                assert overlap(union, picture) > 0.975
                seen += 1
    assert seen > 10


def test_filled_up_and_cut(packed, shapes):
    plain = load(packed, [fs.CenterCrop(100)])
    rows = np.split(plain["segmentation"], plain["segmentation_offsets"][1:-1])
    padded = load(packed, [fs.CenterCrop(100)], [fs.PadSequence()])
    most = max(map(len, rows))
    assert padded["segmentation"].shape == (COUNT, most, 100, 100)
    assert "segmentation_mask" not in padded
    for side in ("left", "right"):
        cut = load(packed, [fs.CenterCrop(100)], [fs.Truncate(2, side), fs.PadSequence(length=3)])
        assert cut["segmentation"].shape == (COUNT, 3, 100, 100)
        for found, own, mask in zip(cut["segmentation"], rows, cut["boxes_mask"], strict=True):
            kept = own[-2:] if side == "left" else own[:2]
            np.testing.assert_array_equal(found[mask], kept)
            assert not found[~mask].any()
    own = load(packed, [fs.CenterCrop(100)], [fs.PadSequence()], [fs.PadSequence(7, length=9)])
    assert own["segmentation"].shape == (COUNT, 9, 100, 100)
    assert (own["segmentation"][~own["segmentation_mask"]] == 7).all()
    few = load(packed, [fs.CenterCrop(100)], [fs.SanitizeBoundingBoxes(min_size=40)])
    assert 0 < len(few["segmentation"]) == len(few["boxes"]) < len(plain["boxes"])


def test_the_same_whatever_the_threads(single):
    steps = {"image": RANDOM["mosaic"], "segmentation": fs.InstanceMasks()}
    options = {"transforms": steps, "seed": 4, "fields": ["image", "boxes", "segmentation"]}
    one, other = (fs.Loader(single, 3, shuffle=True, num_threads=n, **options) for n in (1, 3))
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_without_a_segmentation(tmp_path):
    ds = dataset([[None, [blob(np.random.default_rng(0), (50, 50), 30)]]], tmp_path / "ds")
    masks = load(ds)["segmentation"]
    assert not masks[0].any()
    assert masks[1].any()


def test_shares_of_the_image(packed, shapes, tmp_path):
    shares = [
        [[(np.reshape(part, (-1, 2)) / [WIDTH, HEIGHT]).ravel().tolist() for part in shape] for shape in own]
        for own in ([shape for shape in own if isinstance(shape, list)] for own in shapes)
    ]
    samples = [
        {"image": png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "boxes": np.full((len(own), 4), 0.5, np.float32)}
        | {"segmentation": json.dumps(own)}
        for own in shares
    ]
    fs.pack(samples, tmp_path / "ds", types={"boxes": "boxes[cxcywh, normalized]", "segmentation": "text"})
    expected = [decoded(shape) for own in shapes for shape in own if isinstance(shape, list)]
    found = load(fs.open(tmp_path / "ds"))["segmentation"]
    assert np.mean(found != np.stack(expected)) < 1e-4
    transforms = {"segmentation": fs.InstanceMasks(normalized=False)}
    (batch,) = fs.Loader(tmp_path / "ds", COUNT, transforms=transforms)
    assert batch["segmentation"].mean() < 1e-3


@pytest.fixture(scope="module")
def coco(shapes, tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    (root / "images").mkdir()
    images, annotations = [], []
    for number, own in enumerate(shapes):
        pixels = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        for shape in own:
            left, top, right, bottom = map(int, box_of(decoded(shape)))
            one = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "segmentation": shape}
            one |= {"bbox": [left, top, right - left, bottom - top], "area": 1.0}
            annotations.append(one | {"iscrowd": int(isinstance(shape, dict))})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "instances.json").write_text(json.dumps(content))
    return root


def test_a_folder_of_coco(coco, tmp_path):
    fs.pack(coco, tmp_path / "ds", annotations="instances.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(coco / "instances.json")
    batch = load(fs.open(tmp_path / "ds"))
    assert len(batch["segmentation"]) == len(truth.anns)
    for found, number in zip(batch["segmentation"], batch["annotation_id"].tolist(), strict=True):
        np.testing.assert_array_equal(found, truth.annToMask(truth.anns[number]))


def test_targets_of_mask_rcnn(packed):
    steps = {"image": [fs.ResizePad(96), fs.ToDtype()], "segmentation": fs.InstanceMasks()}
    loader = fs.Loader(packed[3:7], 4, transforms=steps, layout="NCHW")
    batch = next(iter(fs.torch.ShardDataset(loader)))
    targets = fs.torch.detection_targets(batch)
    for row, target in enumerate(targets):
        own = slice(*batch["boxes_offsets"][row : row + 2].tolist())
        assert torch.equal(target["masks"], batch["segmentation"][own])
        assert target["masks"].shape == (len(target["boxes"]), 96, 96)
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "num_classes": 8, "min_size": 96, "max_size": 96}
    losses = detection.maskrcnn_resnet50_fpn(**options)(list(batch["image"]), targets)
    assert torch.isfinite(losses["loss_mask"])
    texts = next(iter(fs.torch.ShardDataset(fs.Loader(packed, 4))))
    assert "masks" not in fs.torch.detection_targets(texts)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[[1, 2, 3]]]", "a polygon of an odd number"),
        ("[", "EOF"),
        ("[]", "0 for 1 boxes, expected as many"),
        ("[null, null]", "2 for 1 boxes"),
        ('[{"size": [5, 6], "counts": [30]}]', r"encoding of 5 x 6 \(height x width\) for an image of 150 x 200"),
        ('[{"size": [150, 200], "counts": [30]}]', "encoding of 30 pixels for 150 x 200"),
        ('[{"size": [150, 200], "counts": "~"}]', "byte 0 of a compressed"),
        ('[{"size": [150, 200]}]', 'needs "counts"'),
    ],
)
def test_wrong_segmentations(text, message, tmp_path):
    sample = {"image": png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "boxes": np.ones((1, 4), np.float32)}
    types = {"boxes": "boxes[xyxy]", "segmentation": "text"}
    fs.pack([sample | {"segmentation": text}], tmp_path / "ds", types=types)
    with pytest.raises(fs.DecodeError, match=rf"row 0 .*segmentations: .*{message}"):
        load(fs.open(tmp_path / "ds"))


@pytest.mark.parametrize(
    ("transforms", "fields", "message"),
    [
        ({"segmentation": fs.InstanceMasks()}, ["image", "segmentation"], 'need field "boxes", which is not loaded'),
        ({"segmentation": fs.InstanceMasks()}, ["boxes", "segmentation"], 'need field "image", which is not loaded'),
        ({"segmentation": fs.InstanceMasks("labels")}, None, 'field "labels" holds no boxes'),
        ({"labels": fs.InstanceMasks()}, None, "only for a field of text"),
        ({"image": [fs.InstanceMasks()]}, None, "only for a field of text"),
        ({"segmentation": [fs.PadSequence(), fs.InstanceMasks()]}, None, "InstanceMasks comes first"),
        ({"segmentation": [fs.InstanceMasks(), fs.Resize(9)]}, None, "lists take a Truncate"),
        ({"segmentation": fs.PadSequence()}, None, "expected an image field"),
    ],
)
def test_lists_that_do_not_fit(packed, transforms, fields, message):
    with pytest.raises(ValueError, match=message):
        fs.Loader(packed, 1, transforms=transforms, fields=fields)


def test_the_plan_says_so(packed):
    plan = fs.Loader(packed, 2, transforms={"segmentation": fs.InstanceMasks()}).plan()
    assert "segmentation: text -> uint8" in plan
    assert "painted where the image's transforms take them" in plan


def test_wrong_options():
    with pytest.raises(TypeError, match="boxes=3"):
        fs.InstanceMasks(3)
    with pytest.raises(TypeError, match="normalized"):
        fs.InstanceMasks(normalized="yes")
