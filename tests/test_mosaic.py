"""Mosaics: four images in one, with their boxes; against a slow twin, and against painted pixels."""

import io

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

COUNT = 12
TYPES = {
    "boxes": "boxes[xyxy]",
    "labels": "list[int64] along boxes",
    "corners": "points[2, 2] along boxes",
}
FIELDS = ["image", "number", *TYPES]


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def colour(label):
    """One for each of the first 27."""
    return [80 * (1 + label // part % 3) for part in (1, 3, 9)]


@pytest.fixture(scope="module")
def samples():
    """Black pictures of many sizes with none to three rectangles, each of a colour that only it has."""
    random = np.random.default_rng(4)
    found = []
    for number in range(COUNT):
        height, width = (int(side) for side in random.integers(60, 160, 2))
        pixels = np.zeros((height, width, 3), np.uint8)
        boxes, labels = [], []
        for at in range(number % 3):
            left, top = 2 + at * width // 2, int(random.integers(2, height - 30))
            right, bottom = left + int(random.integers(15, width // 2 - 4)), top + int(random.integers(15, 28))
            labels.append(2 * number + at)
            pixels[top:bottom, left:right] = colour(labels[-1])
            boxes.append([left, top, right, bottom])
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        found.append(
            {
                "image": png(pixels),
                "mask": png(np.repeat((pixels.max(axis=2, keepdims=True) > 0).astype(np.uint8) * 7, 3, 2)[..., 0]),
                "boxes": boxes,
                "labels": np.array(labels, np.int64),
                "corners": boxes.reshape(-1, 2, 2),
                "number": number,
            }
        )
    return found


@pytest.fixture(scope="module")
def packed(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("mosaic") / "ds"
    fs.pack(samples, path, types=TYPES)
    return fs.open(path)


class Draws:
    """The random numbers of a place in a list, from NumPy's generator of the same name."""

    def __init__(self, seed, epoch, row, field, place):
        counter = (place | field << 32) << 64 | row << 128 | epoch << 192
        # NumPy counts up before it draws.
        self.bits = np.random.Philox(counter=(counter - 1) % 2**256, key=seed)

    def unit(self):
        return int(self.bits.random_raw() >> 11) * 2.0**-53

    def below(self, bound):
        return (int(self.bits.random_raw()) >> 32) * bound >> 32


def fitted(picture, size):
    scale = min(size[1] / picture.width, size[0] / picture.height)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def twin(samples, row, size, p, epoch=0, seed=0, place=0):
    """One sample's mosaic as a YOLO's training pastes it, one image after the other."""
    draws = Draws(seed, epoch, row, 0, place)
    height, width = 2 * size[0], 2 * size[1]
    canvas = Image.new("RGB", (width, height), (114, 114, 114))
    joined = draws.unit() < p
    center = [side // 2 + draws.below(side) for side in (size[1], size[0])] if joined else None
    rows = [row, *(int(draws.unit() * len(samples)) for _ in range(3))] if joined else [row]
    boxes, labels = [], []
    for tile, other in enumerate(rows):
        picture = Image.open(io.BytesIO(samples[other]["image"]))
        w, h = fitted(picture, size)
        resized = picture.resize((w, h), Image.Resampling.BILINEAR)
        scale = np.array([w / picture.width, h / picture.height] * 2)
        if joined:
            left = center[0] - w if tile % 2 == 0 else center[0]
            top = center[1] - h if tile < 2 else center[1]
        else:
            left, top = (size[1] - w) // 2 + round(size[1] / 2), (size[0] - h) // 2 + round(size[0] / 2)
        canvas.paste(resized, (left, top))
        moved = samples[other]["boxes"] * scale + [left, top, left, top]
        limits = [max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)]
        moved = np.clip(moved, limits[:2] * 2, limits[2:] * 2)
        kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
        boxes.append(moved[kept])
        labels.append(samples[other]["labels"][kept])
    return np.asarray(canvas), np.concatenate(boxes), np.concatenate(labels)


def rows_of(batch, name="boxes"):
    return np.split(batch[name], batch[f"{name}_offsets"][1:-1])


@pytest.mark.parametrize("size", [(96, 96), (75, 121)])
@pytest.mark.parametrize("p", [1.0, 0.5, 0.0])
def test_as_its_twin(packed, samples, size, p):
    loader = fs.Loader(packed, COUNT, seed=9, transforms={"image": fs.Mosaic(size, p)}, fields=FIELDS)
    for epoch in range(2):
        (batch,) = loader
        assert batch["image"].shape == (COUNT, 2 * size[0], 2 * size[1], 3)
        np.testing.assert_array_equal(batch["number"], np.arange(COUNT))
        for row in range(COUNT):
            pixels, boxes, labels = twin(samples, row, size, p, epoch, 9)
            assert np.abs(batch["image"][row].astype(int) - pixels).max() <= 1
            np.testing.assert_array_equal(rows_of(batch, "labels")[row], labels)
            np.testing.assert_allclose(rows_of(batch)[row], boxes, atol=1e-3)


def test_filled_up(packed, samples):
    steps = {"image": fs.Mosaic(96), "boxes": [fs.Truncate(3), fs.PadSequence(-1, length=3)]}
    (batch,) = fs.Loader(packed, COUNT, transforms=steps, fields=FIELDS)
    for row in range(COUNT):
        _, boxes, labels = twin(samples, row, (96, 96), 1)
        count = min(len(boxes), 3)
        assert batch["boxes_mask"][row].tolist() == [True] * count + [False] * (3 - count)
        np.testing.assert_allclose(batch["boxes"][row, :count], boxes[:3], atol=1e-3)
        np.testing.assert_array_equal(batch["labels"][row, :count], labels[:3])


# Every pixel keeps the colour that it has.
PAINTED = fs.Mosaic(100, fill=0, interpolation="nearest")
CHAINS = {
    "alone": [PAINTED],
    "cropped": [PAINTED, fs.CenterCrop(100)],
    "mirrored before": [fs.RandomHorizontalFlip(), fs.RandomVerticalFlip(), PAINTED],
    "yolo": [
        PAINTED,
        fs.RandomAffine(0, translate=(0.1, 0.1), scale=(0.7, 1.4)),
        fs.CenterCrop(100),
        fs.RandomHorizontalFlip(),
    ],
    "perspective": [PAINTED, fs.RandomPerspective(0.2, p=1, interpolation="nearest")],
    "colours between": [PAINTED, fs.RandomPosterize(8, 1), fs.RandomHorizontalFlip(1)],
    "resized": [fs.Mosaic(100, 0.7, 0, "nearest"), fs.Resize((120, 90), "nearest")],
}


@pytest.mark.parametrize("name", CHAINS)
def test_as_the_pixels_go(packed, name):
    """Each rectangle is where its box says; what has no box is not to be seen."""
    loader = fs.Loader(packed, COUNT, shuffle=True, seed=2, transforms={"image": CHAINS[name]}, fields=FIELDS)
    seen = 0
    for _ in range(4):
        (batch,) = loader
        for image, boxes, labels in zip(batch["image"], rows_of(batch), rows_of(batch, "labels"), strict=True):
            for label in range(2 * COUNT):
                where = np.argwhere((image == colour(label)).all(axis=2))
                own = boxes[labels == label]
                if not len(own):
                    assert len(where) < 40
                    continue
                if len(own) > 1 or len(where) < 60:
                    continue  # a row that was drawn twice, or too little to measure
                (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
                atol = 4 if name == "perspective" else 2.6
                np.testing.assert_allclose(own[0], [left, top, right, bottom], atol=atol)
                seen += 1
    assert seen > 40


def test_points_go_along(packed):
    (batch,) = fs.Loader(packed, COUNT, transforms={"image": [fs.Mosaic(100), fs.CenterCrop(190)]}, fields=FIELDS)
    boxes, corners = batch["boxes"], batch["corners"].reshape(-1, 4)
    cut = (corners < 5.1).any(axis=1) | (corners > 184.9).any(axis=1)
    whole = np.abs(boxes - corners).max(axis=1) < 1e-3
    assert whole.sum() > 8
    # Points are not cut off, and lie around what is left of their box.
    assert (corners[:, :2] <= boxes[:, :2] + 1e-3).all()
    assert (corners[:, 2:] >= boxes[:, 2:] - 1e-3).all()
    assert (~cut).any()


@pytest.mark.parametrize("size", [96, (75, 120), (33, 50)])
def test_alone_and_cropped_it_is_a_letterbox(packed, size):
    alone = [fs.Mosaic(size, p=0), fs.CenterCrop(size)]
    (batch,) = fs.Loader(packed, COUNT, transforms={"image": alone}, fields=["image", "boxes"])
    letterbox = {"image": fs.ResizePad(size, fill=114)}
    (expected,) = fs.Loader(packed, COUNT, transforms=letterbox, fields=["image", "boxes"])
    np.testing.assert_array_equal(batch["image"], expected["image"])
    np.testing.assert_allclose(batch["boxes"], expected["boxes"], atol=1e-3)


@pytest.mark.parametrize("encoded", ["png", "jpeg"])
@pytest.mark.parametrize("warped", [False, True])
def test_what_is_not_seen_is_not_missed(packed, photo_folder, encoded, warped, tmp_path):
    """Parts of images that a crop will leave out are never decoded."""
    if encoded == "jpeg":
        fs.pack(photo_folder, tmp_path / "photos")
        packed = fs.open(tmp_path / "photos")
    turned = [fs.RandomRotation((20, 20), interpolation="bilinear")] if warped else []
    options = {"seed": 3, "fields": ["image"]}
    steps = [fs.Mosaic(64), *turned]
    (whole,) = fs.Loader(packed, len(packed), transforms={"image": steps}, **options)
    for size, left in ((64, 32), (20, 54)):
        cut = [*steps, fs.CenterCrop(size)]
        (part,) = fs.Loader(packed, len(packed), transforms={"image": cut}, **options)
        np.testing.assert_array_equal(part["image"], whole["image"][:, left : left + size, left : left + size])


YOLO = {
    "image": [
        fs.Mosaic(64, 0.8),
        fs.RandomAffine(5, scale=(0.5, 1.5), fill=114),
        fs.CenterCrop(64),
        fs.RandomHorizontalFlip(),
    ],
    "boxes": [fs.SanitizeBoundingBoxes(min_size=2), fs.PadSequence()],
}


def by_number(loader):
    """What each sample gives in an epoch."""
    return {
        int(number): (batch["image"][at], batch["boxes"][at][batch["boxes_mask"][at]])
        for batch in loader
        for at, number in enumerate(batch["number"])
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for number, (image, boxes) in one.items():
        np.testing.assert_array_equal(image, other[number][0])
        np.testing.assert_array_equal(boxes, other[number][1])


def test_the_same_whatever_the_threads_and_the_batch_size(packed, tmp_path):
    options = {"shuffle": True, "seed": 5, "transforms": YOLO, "fields": FIELDS}
    expected = by_number(fs.Loader(packed, 4, num_threads=1, **options))
    for batch_size, threads in ((1, 2), (5, 3), (12, 1)):
        assert_same(by_number(fs.Loader(packed, batch_size, num_threads=threads, **options)), expected)
    ranks = [by_number(fs.Loader(packed, 4, rank=rank, world_size=2, **options)) for rank in range(2)]
    assert_same(ranks[0] | ranks[1], expected)
    in_order = by_number(fs.Loader(packed, 4, **options | {"shuffle": False}))
    assert_same(in_order, expected)
    other = fs.Loader(packed, 4, **options)
    other.set_epoch(1)
    assert any((image != expected[number][0]).any() for number, (image, _) in by_number(other).items())


def test_it_goes_on_where_it_stopped(packed):
    options = {"shuffle": True, "seed": 5, "transforms": YOLO, "fields": FIELDS}
    whole = list(fs.Loader(packed, 3, **options))
    first = fs.Loader(packed, 3, **options)
    with first.iterate() as batches:
        next(batches)
        next(batches)
        state = first.state_dict()
    second = fs.Loader(packed, 3, num_threads=3, **options)
    second.load_state_dict(state)
    rest = list(second)
    assert len(rest) == len(whole) - 2
    for one, other in zip(rest, whole[2:], strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_masks_follow(packed):
    follow = [fs.Decode("L"), fs.Follow("image", fill=0)]
    steps = {"image": [fs.RandomHorizontalFlip(), fs.Mosaic(100, fill=0), fs.RandomAffine(20)], "mask": follow}
    (batch,) = fs.Loader(packed, COUNT, seed=3, transforms=steps)
    inside = batch["image"].max(axis=3) > 60
    assert inside.mean() > 0.02
    assert np.mean(inside == (batch["mask"][..., 0] == 7)) > 0.99
    assert set(np.unique(batch["mask"])) == {0, 7}


def test_the_cache_changes_nothing(packed, tmp_path):
    steps = {"image": [fs.Resize(80), fs.Mosaic(64), fs.CenterCrop(64)]}
    options = {"transforms": steps, "fields": ["image", "boxes"], "seed": 1}
    (plain,) = fs.Loader(packed, COUNT, **options)
    for hits in (False, True):
        loader = fs.Loader(packed, COUNT, cache=tmp_path, **options)
        (cached,) = loader
        np.testing.assert_array_equal(cached["image"], plain["image"])
        np.testing.assert_array_equal(cached["boxes"], plain["boxes"])
        counted = loader.stats()
        assert (counted["cache_misses"] == 0) == hits
    assert "once: decode, resize(80)" in loader.plan()


def test_only_rows_of_the_view_are_joined(packed):
    for view, allowed in ((packed[6:9], {6, 7, 8}), (packed.weighted([0.0] * 5 + [1.0] * 3 + [0.0] * 4), {5, 6, 7})):
        loader = fs.Loader(view, 4, shuffle=True, transforms={"image": fs.Mosaic(64)}, fields=FIELDS)
        found = {int(label) // 2 for _ in range(6) for batch in loader for label in batch["labels"]}
        assert found == {number for number in allowed if number % 3}


@pytest.mark.parametrize("kind", ["gray", "raw", "sixteen bits", "values"])
def test_other_pixels(packed, samples, kind, tmp_path):
    steps = [fs.Mosaic(64)]
    ds = packed
    if kind == "raw":
        steps = [fs.Pad(0), *steps]  # in the same place of the list, and so with the same draws
        fs.pack(packed, tmp_path / "raw", resize=(60, 50), encode="raw")
        ds = fs.open(tmp_path / "raw")
    elif kind == "gray":
        steps = [fs.Decode("L"), *steps]
    elif kind == "sixteen bits":
        steps = [fs.Decode("RGB", "uint16"), fs.Mosaic(64, fill=114 * 257)]
    else:
        steps = [*steps, fs.Grayscale(), fs.ToDtype()]
    options = {"seed": 8, "fields": ["image", "boxes"]}
    (batch,) = fs.Loader(ds, COUNT, transforms={"image": steps}, **options)
    if kind == "raw":
        squeezed = {"image": [fs.Resize((60, 50)), fs.Mosaic(64)]}
        (plain,) = fs.Loader(packed, COUNT, transforms=squeezed, **options)
        np.testing.assert_allclose(batch["boxes"], plain["boxes"], atol=1e-3)
        assert np.abs(batch["image"].astype(int) - plain["image"]).max() <= 2
    else:
        place = {"gray": 1, "sixteen bits": 1}.get(kind, 0)
        for row in range(COUNT):
            pixels, boxes, _ = twin(samples, row, (64, 64), 1, 0, 8, place)
            np.testing.assert_allclose(rows_of(batch)[row], boxes, atol=1e-3)
            found = batch["image"][row].astype(np.float64)
            expected = pixels.astype(np.float64)
            if kind in ("gray", "values"):
                expected = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)[..., None]
            scale = {"values": 255, "sixteen bits": 1 / 257}.get(kind, 1)
            assert np.abs(found * scale - expected).max() <= 2.01


def test_a_partner_that_cannot_be_decoded(packed):
    areas = packed.column("_image_width").astype(int) * packed.column("_image_height")
    large = int(areas.argmax())
    steps = {"image": [fs.Decode(max_pixels=int(areas.max()) - 1), fs.Mosaic(64)]}
    options = {"transforms": steps, "fields": FIELDS}
    with pytest.raises(fs.DecodeError, match=f"row {large} "):
        list(fs.Loader(packed[[0, large]], 1, **options))
    loader = fs.Loader(packed, 4, on_error="skip", **options)
    batches = [batch for _ in range(3) for batch in loader]
    kept = sum(len(batch["number"]) for batch in batches)
    assert 0 < kept < 3 * (COUNT - 1)
    assert kept + loader.num_skipped == 3 * COUNT
    assert all(f"row {large} " in message for message in loader.skipped)
    for batch in batches:
        assert len(batch["boxes_offsets"]) == len(batch["number"]) + 1
        assert large not in batch["number"]
        assert not {2 * large, 2 * large + 1} & set(batch["labels"].tolist())


def test_too_many_boxes_to_fill_up(packed):
    steps = {"image": fs.Mosaic(64), "boxes": fs.PadSequence(length=3)}
    with pytest.raises(fs.DecodeError, match=r"can't be filled up to 3; Truncate\(3\)"):
        list(fs.Loader(packed, COUNT, transforms=steps, fields=FIELDS))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([fs.ColorJitter(0.1), fs.Mosaic(64)], "transform 0 stands before Mosaic"),
        ([fs.Decode(), fs.Grayscale(), fs.Mosaic(64)], "transform 1 stands before Mosaic"),
        ([fs.Mosaic(64), fs.Resize(64), fs.Mosaic(64)], "Mosaic stands twice"),
        ([fs.RandomApply([fs.Mosaic(64)]), fs.CenterCrop(64)], "RandomApply: Mosaic can't be in it"),
        ([fs.ToDtype(), fs.Mosaic(64)], "after ToDtype"),
        ([fs.Mosaic(20_000)], "at most 89478485 pixels"),
        ([fs.Decode("L"), fs.Mosaic(64, fill=(1, 2, 3))], "fill is"),
        ([fs.Mosaic(64, fill=300)], "fill is"),
    ],
)
def test_lists_that_do_not_fit(packed, steps, message):
    with pytest.raises(ValueError, match=message):
        fs.Loader(packed, 1, transforms={"image": steps})


def test_there_is_no_way_back(packed):
    with pytest.raises(ValueError, match=r"matrices: field \"image\" has a Mosaic"):
        fs.Loader(packed, 1, transforms={"image": fs.Mosaic(64)}, fields=["image"], matrices=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 1}, ValueError, "size=1: expected sides of at least 2"),
        ({"size": (64, 0)}, ValueError, "size"),
        ({"size": "big"}, TypeError, "size"),
        ({"size": 64, "p": 1.5}, ValueError, "p=1.5"),
        ({"size": 64, "fill": (1, 2)}, ValueError, "fill"),
        ({"size": 64, "interpolation": "cubic"}, ValueError, "interpolation"),
    ],
)
def test_wrong_options(arguments, error, message):
    with pytest.raises(error, match=message):
        fs.Mosaic(**arguments)
