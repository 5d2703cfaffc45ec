"""Random transforms: what is drawn, recomputed with NumPy's Philox, and how often, held against torchvision."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 - as everybody calls it

import fastshard as fs

HEIGHT, WIDTH = 90, 120
ROWS = 64


class Draws:
    """The twin of ``random.rs``: Philox4x64 with the key (seed, 0) and the counter (block, operation, row, epoch)."""

    def __init__(self, seed, epoch, row, field, operation):
        counter = (operation | field << 32) << 64 | row << 128 | epoch << 192
        # NumPy counts up before it draws.
        philox = np.random.Philox(key=seed, counter=(counter - 1) % 2**256)
        self._raw = iter(philox.random_raw(64).tolist())

    def unit(self):
        return (next(self._raw) >> 11) * 2.0**-53

    def uniform(self, low, high):
        return low + (high - low) * self.unit()

    def below(self, bound):
        return (next(self._raw) >> 32) * bound >> 32


def random_box(width, height, scale, ratio, draws):
    """torchvision's ``RandomResizedCrop.make_params`` with these draws: x, y, width, height."""
    for _ in range(10):
        area = width * height * draws.uniform(*scale)
        aspect = math.exp(draws.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            y = draws.below(height - h + 1)
            return draws.below(width - w + 1), y, w, h
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (width - w) // 2, (height - h) // 2, w, h


@pytest.fixture(scope="module")
def images(photos):
    random = np.random.default_rng(0)
    coffee = photos["coffee"]
    tops, lefts = random.integers(400 - HEIGHT, size=ROWS), random.integers(600 - WIDTH, size=ROWS)
    return np.stack([coffee[y : y + HEIGHT, x : x + WIDTH] for y, x in zip(tops, lefts, strict=True)])


@pytest.fixture(scope="module")
def dataset(images, tmp_path_factory):
    """Rows of a number and an image: field 1."""
    path = tmp_path_factory.mktemp("random") / "ds"
    fs.pack([{"number": i, "image": image} for i, image in enumerate(images)], path)
    return fs.open(path)


def load(dataset, *steps, epoch=0, **options):
    """The images of an epoch in the order of their rows."""
    loader = fs.Loader(dataset, **{"batch_size": 7, "transforms": {"image": steps}, **options})
    loader.set_epoch(epoch)
    batches = list(loader)
    numbers = np.concatenate([batch["number"] for batch in batches])
    return np.concatenate([batch["image"] for batch in batches])[np.argsort(numbers)]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (3, 0), (3, 5), (2**64 - 1, 2**31)])
def test_random_crop_draws(dataset, images, seed, epoch):
    ours = load(dataset, fs.RandomCrop((50, 70)), seed=seed, epoch=epoch)
    for row, (image, found) in enumerate(zip(images, ours, strict=True)):
        draws = Draws(seed, epoch, row, field=1, operation=0)
        x, y = draws.below(WIDTH - 70 + 1), draws.below(HEIGHT - 50 + 1)
        np.testing.assert_array_equal(found, image[y : y + 50, x : x + 70])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**64 - 1, 2**31)])
@pytest.mark.parametrize(
    "options", [{}, {"scale": (0.5, 0.6), "ratio": (1, 1)}, {"scale": (0.9, 1), "ratio": (3, 4)}], ids=str
)
def test_random_resized_crop_is_torchvisions(dataset, images, seed, epoch, options):
    step = fs.RandomResizedCrop((40, 60), **options)
    ours = load(dataset, step, seed=seed, epoch=epoch)
    for row, (image, found) in enumerate(zip(images, ours, strict=True)):
        x, y, w, h = random_box(WIDTH, HEIGHT, step.scale, step.ratio, Draws(seed, epoch, row, 1, 0))
        picture = F.resized_crop(Image.fromarray(image), y, x, h, w, [40, 60], antialias=True)
        assert np.abs(found.astype(int) - np.asarray(picture)).max() <= 1
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        theirs = F.resized_crop(tensor, y, x, h, w, [40, 60], antialias=True).permute(1, 2, 0).numpy()
        assert np.abs(found.astype(int) - theirs).max() <= 1


def test_training_pipeline(dataset, images):
    steps = [fs.RandomResizedCrop(48), fs.RandomHorizontalFlip(), fs.RandomVerticalFlip(0.3), fs.ToDtype()]
    ours = load(dataset, *steps, fs.Normalize.imagenet(), seed=5, epoch=2)
    flips = 0
    for row, (image, found) in enumerate(zip(images, ours, strict=True)):
        x, y, w, h = random_box(WIDTH, HEIGHT, (0.08, 1), (3 / 4, 4 / 3), Draws(5, 2, row, 1, 0))
        picture = F.resized_crop(Image.fromarray(image), y, x, h, w, [48, 48], antialias=True)
        for operation, p, flip in [(1, 0.5, F.hflip), (2, 0.3, F.vflip)]:
            if Draws(5, 2, row, 1, operation).unit() < p:
                picture, flips = flip(picture), flips + 1
        tensor = F.to_dtype(F.to_image(picture), torch.float32, scale=True)
        theirs = F.normalize(tensor, list(fs.IMAGENET_MEAN), list(fs.IMAGENET_STD)).permute(1, 2, 0).numpy()
        assert np.abs(found - theirs).max() <= 1.001 / 255 / min(fs.IMAGENET_STD)
    assert 0 < flips < 2 * ROWS


@pytest.fixture(scope="module")
def coordinates(tmp_path_factory):
    """Images whose pixels say where they are: a hundred times the column in channel 0, the row in channel 1."""
    height, width = 75, 100
    pixels = np.zeros((height, width, 3), np.uint16)
    pixels[..., 0], pixels[..., 1] = 100 * np.arange(width), 100 * np.arange(height)[:, None]
    path = tmp_path_factory.mktemp("coordinates") / "ds"
    fs.pack([{"number": i, "image": pixels} for i in range(1000)], path)
    return fs.open(path)


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9])
@pytest.mark.parametrize(("flip", "channel"), [(fs.RandomHorizontalFlip, 0), (fs.RandomVerticalFlip, 1)])
def test_flips_have_their_probability(coordinates, flip, channel, p):
    flipped = load(coordinates, flip(p), batch_size=500)[:, 0, 0, channel] > 0
    assert abs(flipped.mean() - p) < 4 * math.sqrt(p * (1 - p) / 1000)


def test_flips_are_independent(coordinates):
    pixels = load(coordinates, fs.RandomHorizontalFlip(), fs.RandomVerticalFlip(), batch_size=500)
    flipped = pixels[:, 0, 0, :2] > 0
    assert abs(np.corrcoef(flipped.T)[0, 1]) < 0.13


def test_random_crops_are_uniform(coordinates):
    corners = load(coordinates, fs.RandomCrop((66, 91)), batch_size=500)[:, 0, 0]
    for channel in (0, 1):  # ten places each
        counts = np.bincount(corners[:, channel] // 100, minlength=10)
        assert len(counts) == 10
        assert ((counts - 100) ** 2 / 100).sum() < 34  # chi-squared, 9 degrees of freedom, 99.99 %


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.5), (0.5, 2.0))])
def test_areas_are_distributed_as_torchvisions(coordinates, scale, ratio):
    step = fs.RandomResizedCrop((2, 2), scale, ratio, antialias=False)
    # A linear ramp stays one: the distance of two outputs is half of the box.
    pixels = load(coordinates, step, batch_size=500) / 50
    areas = (pixels[:, 0, 1, 0] - pixels[:, 0, 0, 0]) * (pixels[:, 1, 0, 1] - pixels[:, 0, 0, 1]) / 7500
    torch.manual_seed(0)
    peer = v2.RandomResizedCrop(2, scale, ratio)
    boxes = [peer.make_params([torch.zeros(3, 75, 100)]) for _ in range(4000)]
    theirs = np.array([box["height"] * box["width"] for box in boxes]) / 7500
    error = 4 * theirs.std() / math.sqrt(1000)
    assert abs(areas.mean() - theirs.mean()) < error
    assert abs(np.median(areas) - np.median(theirs)) < 2 * error
    assert abs(areas.std() - theirs.std()) < error


STEPS = [fs.RandomResizedCrop(24), fs.RandomHorizontalFlip(), fs.RandomVerticalFlip()]


@pytest.mark.parametrize(
    "options",
    [
        {"num_threads": 1},
        {"num_threads": 5},
        {"prefetch": 1},
        {"prefetch": 9, "num_threads": 2},
        {"batch_size": 1},
        {"batch_size": 64},
        {"batch_size": 1000, "shuffle": True},
        {"shuffle": True},
        {"fields": ["image", "number"]},
        {"layout": "NHWC", "verify": False},
    ],
    ids=str,
)
def test_a_sample_depends_on_seed_epoch_and_row_alone(dataset, options):
    expected = load(dataset, *STEPS, seed=9, epoch=4)
    np.testing.assert_array_equal(load(dataset, *STEPS, seed=9, epoch=4, **options), expected)


def test_views_keep_the_draws_of_their_rows(dataset):
    whole = load(dataset, *STEPS, seed=9)
    np.testing.assert_array_equal(load(dataset[10:40:3], *STEPS, seed=9), whole[10:40:3])
    np.testing.assert_array_equal(load(dataset[[5, 7, 50]], *STEPS, seed=9), whole[[5, 7, 50]])


def test_epochs_and_seeds_differ(dataset):
    first = load(dataset, *STEPS, seed=9, epoch=0)
    for other in (load(dataset, *STEPS, seed=9, epoch=1), load(dataset, *STEPS, seed=10, epoch=0)):
        same = (first == other).reshape(ROWS, -1).all(axis=1)
        assert same.mean() < 0.05


def test_operations_draw_independently(dataset):
    # The same transform twice in a list must not do the same twice.
    twice = load(dataset, fs.RandomHorizontalFlip(), fs.RandomHorizontalFlip())
    never = load(dataset)
    unchanged = (twice == never).reshape(ROWS, -1).all(axis=1).mean()
    assert 0.25 < unchanged < 0.75
