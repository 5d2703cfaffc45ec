"""Boxes: moved with their images as torchvision moves them and as the pixels go; cut, dropped, padded, taken back."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

import fastshard as fs

CLASSES = ["person", "cup", "cat"]
TYPES = {
    "boxes": "boxes[xyxy]",
    "labels": "list[int64] along boxes",
    "score": "list[float32] along boxes",
    "corners": "points[2, 3] along boxes",
}


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def sample(photo, boxes, number):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    ones = np.ones(len(boxes), np.float32)
    corners = [np.column_stack([boxes[:, 0], boxes[:, 1], ones]), np.column_stack([boxes[:, 2], boxes[:, 3], 2 * ones])]
    return {
        "image": png(photo),
        "boxes": boxes,
        "labels": (np.arange(len(boxes)) + number) % len(CLASSES),
        "score": np.linspace(0, 1, len(boxes), dtype=np.float32),
        "corners": np.stack(corners, axis=1),
    }


@pytest.fixture(scope="module")
def samples(photos):
    """Photographs of different sizes with zero to nine boxes, some along the edges."""
    random = np.random.default_rng(3)
    found = []
    for number, photo in enumerate(photos.values()):
        height, width = photo.shape[:2]
        boxes = []
        for _ in range(2 * number + 1 if number else 0):
            left, top = random.uniform(0, width - 40), random.uniform(0, height - 40)
            boxes.append([left, top, random.uniform(left + 10, width), random.uniform(top + 10, height)])
        found.append(sample(photo, boxes, number))
    return found


@pytest.fixture(scope="module")
def packed(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("boxes") / "ds"
    fs.pack(samples, path, types=TYPES, class_names={"labels": CLASSES})
    return fs.open(path)


def rows(batch, name="boxes"):
    """One array for each sample."""
    return np.split(batch[name], batch[f"{name}_offsets"][1:-1])


def load(packed, *steps, boxes=(), **options):
    """One batch of all."""
    transforms = {"image": list(steps), **({"boxes": list(boxes)} if boxes else {})}
    (batch,) = fs.Loader(packed, len(packed), transforms=transforms, **options)
    return batch


def theirs(samples, transform):
    """torchvision's boxes after a transform without randomness, and which it would keep."""
    for one in samples:
        picture = tv_tensors.Image(Image.open(io.BytesIO(one["image"])))
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(one["boxes"]), format="XYXY", canvas_size=picture.shape[-2:])
        moved = v2.ClampBoundingBoxes()(transform(picture, boxes)[1])
        kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
        yield moved[kept].numpy(), kept.numpy()


def test_fields(packed, samples):
    assert [str(field) for field in packed.fields[1:3]] == [
        "boxes: boxes in image (xyxy)",
        "labels: list int64 (3 classes) along boxes",
    ]
    assert packed.field("boxes").of == "image"
    assert packed.field("labels").class_names == tuple(CLASSES)
    assert packed.manifest["version"] == 4
    for row, one in enumerate(samples):
        for name in TYPES:
            np.testing.assert_array_equal(packed[row][name], one[name])
    assert packed.to_hf()["boxes"][2] == samples[2]["boxes"].tolist()
    assert packed.verify() == []


FIXED = [
    ([fs.Resize((96, 160))], v2.Resize((96, 160))),
    ([fs.Resize(100), fs.CenterCrop((90, 80))], v2.Compose([v2.Resize(100), v2.CenterCrop((90, 80))])),
    ([fs.CenterCrop(800)], v2.CenterCrop(800)),
    (
        [fs.CenterCrop(300), fs.Pad([5, 9, 20, 40]), fs.Resize((64, 128)), fs.RandomHorizontalFlip(1)],
        v2.Compose([v2.CenterCrop(300), v2.Pad([5, 9, 20, 40]), v2.Resize((64, 128)), v2.RandomHorizontalFlip(1)]),
    ),
    (
        [fs.RandomVerticalFlip(1), fs.CenterCrop(200), fs.RandomHorizontalFlip(1)],
        v2.Compose([v2.RandomVerticalFlip(1), v2.CenterCrop(200), v2.RandomHorizontalFlip(1)]),
    ),
    (
        [fs.CenterCrop(320), fs.RandomRotation((30, 30))],
        v2.Compose([v2.CenterCrop(320), v2.RandomRotation((30, 30))]),
    ),
    (
        [fs.CenterCrop(320), fs.RandomAffine((-20, -20), scale=(0.7, 0.7), shear=(10, 10))],
        v2.Compose([v2.CenterCrop(320), v2.RandomAffine((-20, -20), scale=(0.7, 0.7), shear=(10, 10))]),
    ),
    (
        [fs.CenterCrop(250), fs.RandomRotation((15, 15)), fs.RandomHorizontalFlip(1), fs.RandomRotation((-40, -40))],
        v2.Compose(
            [
                v2.CenterCrop(250),
                v2.RandomRotation((15, 15)),
                v2.RandomHorizontalFlip(1),
                v2.RandomRotation((-40, -40)),
            ]
        ),
    ),
]


@pytest.mark.parametrize("number", range(len(FIXED)))
def test_as_torchvision_moves_them(packed, samples, number):
    ours, transform = FIXED[number]
    batch = load(packed, *ours)
    dropped = 0
    for found, labels, score, one, (expected, kept) in zip(
        rows(batch), rows(batch, "labels"), rows(batch, "score"), samples, theirs(samples, transform), strict=True
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-3)
        np.testing.assert_array_equal(labels, one["labels"][kept])
        np.testing.assert_array_equal(score, one["score"][kept])
        dropped += (~kept).sum()
    assert dropped or number not in (1, 4), "crops of this size leave boxes outside"


RANDOM = {
    "crop": [fs.RandomResizedCrop(160, scale=(0.3, 1))],
    "flips": [fs.RandomCrop(150), fs.RandomHorizontalFlip(), fs.RandomVerticalFlip()],
    "turns": [fs.ResizePad(200), fs.RandomRotation(180)],
    "affine": [fs.Resize((150, 200)), fs.RandomAffine(40, translate=(0.2, 0.2), scale=(0.6, 1.5), shear=20)],
    "perspective": [fs.Resize((150, 200)), fs.RandomPerspective(0.5, p=1), fs.RandomHorizontalFlip()],
    "effects between": [
        fs.ResizePad(200),
        fs.ColorJitter(0.1),
        fs.RandomRotation(30),
        fs.GaussianBlur(3),
        fs.RandomCrop(150),
    ],
    "a chance": [fs.RandomApply([fs.RandomRotation(45)], 0.5), fs.RandomResizedCrop(160, scale=(0.5, 1))],
}


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Black pictures with one white rectangle, whose box is given: where it goes can be seen."""
    random = np.random.default_rng(8)
    found = []
    for _ in range(24):
        height, width = random.integers(160, 300, 2)
        left, top = random.integers(0, width - 50), random.integers(0, height - 50)
        right, bottom = random.integers(left + 30, width), random.integers(top + 30, height)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[top:bottom, left:right] = 255
        found.append({"image": png(pixels), "boxes": np.array([[left, top, right, bottom]], np.float32)})
    path = tmp_path_factory.mktemp("painted") / "ds"
    fs.pack(found, path, types={"boxes": "boxes[xyxy]"})
    return fs.open(path)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("cached", [False, True])
def test_as_the_pixels_go(painted, name, cached, tmp_path):
    transforms = {"image": RANDOM[name]}
    loader = fs.Loader(painted, 24, shuffle=True, transforms=transforms, cache=tmp_path / "cache" if cached else "off")
    seen = 0
    for _ in range(3):
        (batch,) = loader
        for image, boxes in zip(batch["image"], rows(batch), strict=True):
            white = np.argwhere(image[..., 0] > 127)
            if not len(boxes):
                assert len(white) < 300, "a box may only go with its pixels"
                continue
            if len(white) < 50:
                continue
            (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0) + 1
            # Corners of what was cut and turned may lie outside of what is left of the pixels.
            inside = boxes[0][:2] <= (left + 2, top + 2), boxes[0][2:] >= (right - 2, bottom - 2)
            assert np.all(inside), f"{boxes[0]} for {left}, {top}, {right}, {bottom}"
            cut = left == 0 or top == 0 or right == image.shape[1] or bottom == image.shape[0]
            if name in ("crop", "flips") or (not cut and name != "effects between"):
                np.testing.assert_allclose(boxes[0], [left, top, right, bottom], atol=2.1)
                seen += 1
    assert seen > 10 or name == "effects between"


@pytest.mark.parametrize("name", RANDOM)
def test_the_way_back(painted, name):
    (batch,) = fs.Loader(painted, 24, transforms={"image": RANDOM[name]}, matrices=True)
    sizes = np.column_stack([painted.column("_image_height"), painted.column("_image_width")])
    np.testing.assert_array_equal(batch["image_size"], sizes)
    for row, boxes in enumerate(rows(batch)):
        stored = painted[row]["boxes"]
        assert len(boxes) <= 1
        if len(boxes) and name == "flips":
            back = fs.unmap_boxes(boxes, batch["image_matrix"][row])
            overlap = np.concatenate([np.maximum(back, stored)[:, :2], np.minimum(back, stored)[:, 2:]], axis=1)
            np.testing.assert_allclose(back, overlap, atol=1e-3)


def test_letterboxes_and_back(packed, samples):
    batch = load(packed, fs.ResizePad(416), boxes=[fs.PadSequence()], matrices=True)
    assert batch["image_matrix"].shape == (5, 3, 3)
    back = fs.unmap_boxes(batch["boxes"], batch["image_matrix"][:, None])
    for one, boxes, mask in zip(samples, back, batch["boxes_mask"], strict=True):
        # The other side was rounded to whole pixels.
        np.testing.assert_allclose(boxes[mask], one["boxes"], atol=1e-2)


@pytest.mark.parametrize("fmt", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("normalized", [False, True])
def test_formats(packed, samples, fmt, normalized, tmp_path):
    """In every stored format and every wanted one, they are the same boxes."""
    stored = []
    for one in samples:
        width, height = Image.open(io.BytesIO(one["image"])).size
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(one["boxes"]), format="XYXY", canvas_size=(height, width))
        boxes = v2.functional.convert_bounding_box_format(boxes, new_format=fmt.upper()).numpy()
        stored.append({"image": one["image"], "boxes": boxes / ([width, height] * 2 if normalized else 1)})
    for one in stored:
        one["boxes"] = one["boxes"].astype(np.float32)
    fs.pack(stored, tmp_path / "ds", types={"boxes": f"boxes[{fmt}{', normalized' * normalized}]"})
    ds = fs.open(tmp_path / "ds")
    assert ds.field("boxes").format == fmt + ", normalized" * normalized
    as_stored = load(ds, fs.Resize((200, 300)))["boxes"]
    plain = [fs.ConvertBoundingBoxFormat("xyxy")]
    expected = load(packed, fs.Resize((200, 300)))["boxes"]
    np.testing.assert_allclose(load(ds, fs.Resize((200, 300)), boxes=plain)["boxes"], expected, atol=1e-2)
    other = [fs.ConvertBoundingBoxFormat(fmt, normalized)]
    np.testing.assert_allclose(load(packed, fs.Resize((200, 300)), boxes=other)["boxes"], as_stored, atol=1e-2)


def test_what_is_too_small_goes(packed, samples):
    steps = [fs.CenterCrop(200)]
    whole = load(packed, *steps)
    for rule in (fs.SanitizeBoundingBoxes(min_size=40), fs.SanitizeBoundingBoxes(min_area=3000)):
        batch = load(packed, *steps, boxes=[rule])
        for found, labels, all_boxes, all_labels in zip(
            rows(batch), rows(batch, "labels"), rows(whole), rows(whole, "labels"), strict=True
        ):
            width, height = (all_boxes[:, 2:] - all_boxes[:, :2]).T
            kept = np.minimum(width, height) >= 40 if rule.min_size > 1 else width * height >= 3000
            np.testing.assert_array_equal(found, all_boxes[kept])
            np.testing.assert_array_equal(labels, all_labels[kept])
        assert 0 < len(batch["boxes"]) < len(whole["boxes"])
    (visible,) = {len(load(packed, *steps, boxes=[fs.SanitizeBoundingBoxes(0, 0, min_visible=0.999)])["boxes"])}
    inside = 0
    for one in samples:
        width, height = Image.open(io.BytesIO(one["image"])).size
        left, top = round((width - 200) / 2), round((height - 200) / 2)
        x0, y0, x1, y1 = one["boxes"].T
        inside += ((x0 >= left) & (y0 >= top) & (x1 <= left + 200) & (y1 <= top + 200)).sum()
    assert visible == inside


def test_points_go_along(packed, samples):
    batch = load(packed, fs.Resize((100, 50)), fs.RandomHorizontalFlip(1))
    assert batch["corners"].shape[1:] == (2, 3)
    boxes, corners = batch["boxes"], batch["corners"]
    # Mirrored, the left corner is the right one.
    np.testing.assert_allclose(corners[:, 0, :2], boxes[:, [2, 1]], atol=1e-3)
    np.testing.assert_allclose(corners[:, 1, :2], boxes[:, [0, 3]], atol=1e-3)
    np.testing.assert_array_equal(corners[:, :, 2], np.tile([1, 2], (len(boxes), 1)))


def test_padded_together(packed):
    batch = load(packed, fs.Resize((64, 64)), boxes=[fs.Truncate(4), fs.PadSequence(-1, length=4)])
    assert batch["boxes"].shape == (5, 4, 4)
    assert batch["labels"].shape == (5, 4)
    assert batch["boxes_mask"].sum(axis=1).tolist() == [0, 3, 4, 4, 4]
    assert (batch["boxes"][~batch["boxes_mask"]] == -1).all()
    assert "labels_mask" not in batch
    loader = fs.Loader(packed, 5, transforms={"image": fs.Resize((64, 64)), "labels": fs.PadSequence(9)})
    (batch,) = loader
    assert batch["labels"][0].tolist() == [9] * 9


def test_the_same_whatever_the_threads(packed):
    steps = {"image": [fs.RandomResizedCrop(64), fs.RandomRotation(30)]}
    one, other = (fs.Loader(packed, 2, shuffle=True, seed=4, transforms=steps, num_threads=n) for n in (1, 3))
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_without_their_image(packed, samples):
    (batch,) = fs.Loader(packed, 5, fields=["boxes", "labels"])
    np.testing.assert_array_equal(batch["boxes"], np.concatenate([one["boxes"] for one in samples]))
    half = [fs.ConvertBoundingBoxFormat("cxcywh", normalized=True)]
    (batch,) = fs.Loader(packed, 5, fields=["boxes"], transforms={"boxes": half})
    assert batch["boxes"].max() <= 1


def test_raw_pixels(painted, tmp_path):
    fs.pack(painted, tmp_path / "raw", resize=(100, 120), encode="raw")
    raw = fs.open(tmp_path / "raw")
    (batch,) = fs.Loader(raw, 24, transforms={"image": fs.RandomHorizontalFlip(1)})
    (encoded,) = fs.Loader(painted, 24, transforms={"image": [fs.Resize((100, 120)), fs.RandomHorizontalFlip(1)]})
    np.testing.assert_allclose(batch["boxes"], encoded["boxes"], atol=1e-3)


def test_exif_turns_them_too(tmp_path, photos):
    photo = photos["coffee"]
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(photo).save(stream, "jpeg", exif=exif)
    height, width = photo.shape[:2]
    whole = np.array([[0, 0, height, width]], np.float32)  # of the upright image
    fs.pack(
        [{"image": stream.getvalue(), "boxes": whole}],
        tmp_path / "ds",
        types={"boxes": "boxes[xyxy]"},
        annotated="upright",
    )
    upright = [fs.Decode(exif_orientation=True), fs.Resize((60, 40))]
    (batch,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": upright}, matrices=True)
    np.testing.assert_allclose(batch["boxes"], [[0, 0, 40, 60]])
    assert batch["image_size"].tolist() == [[width, height]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": {"boxes": "boxes[ltrb]"}}, "boxes\\[ltrb\\]"),
        ({"types": {**TYPES, "boxes": "boxes[xyxy, photo]"}}, '"photo", which is no image'),
        ({"types": {**TYPES, "labels": "list[int64] along crates"}}, '"crates", which holds no boxes'),
        ({"types": {**TYPES, "score": "list[float32]", "corners": "points[2, 3] along score"}}, "holds no boxes"),
    ],
)
def test_what_cannot_be_packed(samples, change, message, tmp_path):
    with pytest.raises((ValueError, fs.SourceError), match=message):
        fs.pack(samples, tmp_path / "ds", **change)
    assert not any(tmp_path.iterdir())


def test_labels_beyond_their_names(samples, tmp_path):
    bad = [{**samples[2], "labels": np.array([0, 1, 2, 3, 0])}]
    with pytest.raises(fs.SourceError, match=r"row 0, field 'labels': .*3.*from 0 to 2"):
        fs.pack(bad, tmp_path / "ds", types=TYPES, class_names={"labels": CLASSES})


def test_lists_that_are_longer_than_their_boxes(samples, tmp_path):
    bad = [*samples[1:3], {**samples[1], "labels": np.arange(2)}]
    with pytest.raises(fs.SourceError, match=r"row 2.*labels.*2 elements along 3 boxes"):
        fs.pack(bad, tmp_path / "ds", types=TYPES)
    assert not any(tmp_path.iterdir())


def test_options_that_do_not_fit(packed):
    with pytest.raises(ValueError, match="xyxy"):
        fs.ConvertBoundingBoxFormat("yxyx")
    with pytest.raises(ValueError, match="min_visible"):
        fs.SanitizeBoundingBoxes(min_visible=1.5)
    with pytest.raises(ValueError, match="SanitizeBoundingBoxes"):
        fs.Loader(packed, 2, transforms={"image": fs.Resize((9, 9)), "labels": fs.SanitizeBoundingBoxes()})
    with pytest.raises(ValueError, match="matrices"):
        fs.Loader(packed, 2, fields=["labels"], matrices=True)


def test_mixing_leaves_no_boxes(tmp_path, photos):
    found = [
        {"image": png(photo), "label": n, "boxes": np.zeros((1, 4), np.float32)}
        for n, photo in enumerate(photos.values())
    ]
    fs.pack(found, tmp_path / "ds", types={"boxes": "boxes[xyxy]"}, class_names={"label": list(photos)})
    options = {"transforms": {"image": fs.Resize((32, 32))}, "batch_transforms": fs.MixUp()}
    with pytest.raises(ValueError, match='boxes of "boxes" wrong'):
        fs.Loader(tmp_path / "ds", 2, **options)
    next(iter(fs.Loader(tmp_path / "ds", 2, fields=["image", "label"], **options)))


def test_torch(packed):
    dataset = fs.torch.ShardDataset(fs.Loader(packed, 5, transforms={"image": fs.Resize((64, 64))}))
    (batch,) = dataset
    boxes = batch["boxes"].split(batch["boxes_offsets"].diff().tolist())
    assert [len(one) for one in boxes] == [0, 3, 5, 7, 9]


def test_views_and_states(packed):
    train, rest = packed.split([0.6, 0.4], seed=1)
    loader = fs.Loader(train, 1, shuffle=True, transforms={"image": fs.RandomResizedCrop(32)})
    batches = iter(loader)
    next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    following = next(batches)
    loader.load_state_dict(state)
    again = next(iter(loader))
    np.testing.assert_array_equal(again["boxes"], following["boxes"])
    assert len(rest) == 2
