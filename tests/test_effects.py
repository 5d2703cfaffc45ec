"""Effects, automatic augmentation and nested transforms against torchvision v2: pixels, parameters, probabilities."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from skimage import data
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 - as everybody calls it

import fastshard as fs
from fastshard._transforms.image import to_json, transform_list
from fastshard._transforms.parse import parse_transform


def views(photos):
    """Colour and gray photographs of odd sides, tiny ones, and constants."""
    random = np.random.default_rng(0)
    coffee, camera = photos["coffee"], data.camera()[..., None]
    return {
        "coffee": coffee[3:200, 5:296],
        "astronaut": photos["astronaut"][:151, :203],
        "dahlia": photos["dahlia"][100:333, 200:401],
        "camera": camera[:131, :207],
        "noise": random.integers(0, 256, (37, 41, 3), np.uint8),
        "dark": (photos["cat"][:99, :64] // 5 + 20).astype(np.uint8),
        "three": coffee[50:53, 60:63],
        "two": coffee[50:52, 60:63],
        "one": coffee[:1, :1],
        "column": coffee[:9, :1],
        "gray one": camera[5:6, 5:6],
        "black": np.zeros((5, 7, 3), np.uint8),
        "white": np.full((5, 7, 3), 255, np.uint8),
        "colour": np.full((6, 5, 3), (200, 100, 7), np.uint8),
        "flat gray": np.full((6, 5, 1), 101, np.uint8),
    }


@pytest.fixture(scope="module")
def images(photos):
    return views(photos)


@pytest.fixture(scope="module")
def apply(images, tmp_path_factory):
    """Calls it with transforms to get all images, transformed."""
    natives = {}
    for name, image in images.items():
        path = tmp_path_factory.mktemp("effects") / "ds"
        fs.pack([{"image": image}], path)
        natives[name] = fs.open(path)._opened.native

    def apply(*steps, only=tuple(images)):
        ops = {"image": to_json(steps)}
        return {name: np.asarray(natives[name].row(0, ["image"], ops)["image"]) for name in only}

    return apply


def tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def compare(ours, images, peer, most=0, share=0.0):
    """Each image at most so many levels apart, and at most a share of its values apart at all."""
    for name, image in images.items():
        theirs = peer(tensor(image)).permute(1, 2, 0).numpy()
        assert (ours[name].shape, ours[name].dtype) == (theirs.shape, theirs.dtype), name
        apart = np.abs(ours[name].astype(int) - theirs)
        assert apart.max() <= most, (name, apart.max(), (apart > 0).mean())
        assert (apart > 0).mean() <= share, (name, (apart > 0).mean())


FACTORS = [0.0, 0.3, 0.77, 1.0, 1.1, 1.456789, 2.0, 7.5]  # torch takes whole numbers as bytes, which overflow


@pytest.mark.parametrize("factor", FACTORS)
def test_brightness(apply, images, factor):
    step = fs.ColorJitter(brightness=(factor, factor))
    compare(apply(step), images, lambda image: F.adjust_brightness(image, factor))


# torch adds up the mean in single precision: a value that lies just between two levels may fall to the other one.
@pytest.mark.parametrize("factor", FACTORS)
def test_contrast(apply, images, factor):
    step = fs.ColorJitter(contrast=(factor, factor))
    compare(apply(step), images, lambda image: F.adjust_contrast(image, factor), most=1, share=0.001)


@pytest.mark.parametrize("factor", FACTORS)
def test_saturation(apply, images, factor):
    step = fs.ColorJitter(saturation=(factor, factor))
    compare(apply(step), images, lambda image: F.adjust_saturation(image, factor))


# Hue goes through divisions; where a result lies at the edge of a level, the last bit decides.
@pytest.mark.parametrize("turn", [-0.5, -0.31, -0.1, 0, 0.05, 0.2, 1 / 3, 0.5])
def test_hue(apply, images, turn):
    step = fs.ColorJitter(hue=(turn, turn))
    compare(apply(step), images, lambda image: F.adjust_hue(image, turn), most=1, share=0.005)


@pytest.mark.parametrize("factor", [0, 0.5, 0.91, 1, 1.3, 2, 4])
def test_sharpness(apply, images, factor):
    step = fs.RandomAdjustSharpness(factor, p=1)
    compare(apply(step), images, lambda image: F.adjust_sharpness(image, factor))


# torch adds up the whole kernel at once: sums near a half may be rounded to the other side.
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.7, 10])
@pytest.mark.parametrize("kernel", [1, 3, 5, (7, 3), (3, 9), 23])
def test_blur(apply, images, kernel, sigma):
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    # Torch can't mirror an image at a kernel that reaches beyond it.
    large = {name: image for name, image in images.items() if min(image.shape[:2]) > max(sides) // 2}
    ours = apply(fs.GaussianBlur(kernel, sigma))
    compare(ours, large, lambda image: F.gaussian_blur(image, sides, [sigma, sigma]), most=1, share=0.001)
    for name in ("black", "white", "colour", "flat gray", "one"):
        np.testing.assert_array_equal(ours[name], images[name])


@pytest.mark.parametrize("bits", range(9))
def test_posterize(apply, images, bits):
    compare(apply(fs.RandomPosterize(bits, p=1)), images, lambda image: F.posterize(image, bits))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 100.0, 127.5, 254.0, 255.0])
def test_solarize(apply, images, threshold):
    compare(apply(fs.RandomSolarize(threshold, p=1)), images, lambda image: F.solarize(image, threshold))


@pytest.mark.parametrize(
    ("step", "peer"),
    [
        (fs.RandomInvert(1), F.invert),
        (fs.RandomAutocontrast(1), F.autocontrast),
        (fs.RandomEqualize(1), F.equalize),
        (fs.RandomGrayscale(1), v2.RandomGrayscale(1)),
        (fs.RandomInvert(0), lambda image: image),
        (fs.RandomEqualize(0), lambda image: image),
        (fs.ColorJitter(), v2.ColorJitter()),
        (fs.ColorJitter((1, 1), 0, None, (0, 0)), lambda image: image),
    ],
    ids=str,
)
def test_without_parameters(apply, images, step, peer):
    compare(apply(step), images, peer)


def fixed(draw):
    """A random transform of ours and the same call of torchvision's functions."""
    factor = float(draw.uniform(0.2, 2))
    turn = float(draw.uniform(-0.5, 0.5))
    return [
        (fs.ColorJitter(brightness=(factor, factor)), lambda image: F.adjust_brightness(image, factor)),
        (fs.ColorJitter(contrast=(factor, factor)), lambda image: F.adjust_contrast(image, factor)),
        (fs.ColorJitter(saturation=(factor, factor)), lambda image: F.adjust_saturation(image, factor)),
        (fs.ColorJitter(hue=(turn, turn)), lambda image: F.adjust_hue(image, turn)),
        (fs.RandomPosterize(5, 1), lambda image: F.posterize(image, 5)),
        (fs.RandomSolarize(128, 1), lambda image: F.solarize(image, 128)),
        (fs.RandomAutocontrast(1), F.autocontrast),
        (fs.RandomEqualize(1), F.equalize),
        (fs.RandomInvert(1), F.invert),
        (fs.RandomAdjustSharpness(factor, 1), lambda image: F.adjust_sharpness(image, factor)),
        (fs.RandomGrayscale(1), lambda image: F.rgb_to_grayscale(image, image.shape[0])),
        (fs.RandomHorizontalFlip(1), F.hflip),
    ][draw.integers(12)]


# A level of difference grows when the next effect stretches it; most values of all chains are equal.
@pytest.mark.parametrize("seed", range(12))
def test_chains(apply, images, seed):
    draw = np.random.default_rng(seed)
    steps = [fixed(draw) for _ in range(6)]

    def peer(image):
        for _, step in steps:
            image = step(image)
        return image

    for name, ours in apply(*(step for step, _ in steps)).items():
        apart = np.abs(ours.astype(int) - peer(tensor(images[name])).permute(1, 2, 0).numpy())
        assert (apart > 1).mean() <= 0.02, (name, steps)
        assert apart.mean() <= 0.1, (name, steps)


@pytest.mark.parametrize(
    ("steps", "peers"),
    [
        ([fs.Grayscale(3), fs.RandomInvert(1)], [v2.Grayscale(3), v2.RandomInvert(1)]),
        ([fs.Grayscale(), fs.RandomEqualize(1)], [v2.Grayscale(), v2.RandomEqualize(1)]),
        ([fs.Grayscale(), fs.RandomSolarize(99, 1), fs.Grayscale(3)], [v2.Grayscale(), v2.RandomSolarize(99, 1)]),
        ([fs.Grayscale(), fs.ColorJitter(saturation=(2, 2), hue=(0.3, 0.3))], [v2.Grayscale()]),
        ([fs.RandomInvert(1), fs.Grayscale()], [v2.RandomInvert(1), v2.Grayscale()]),
        ([fs.Grayscale(), fs.Pad(2, 9)], [v2.Grayscale(), v2.Pad(2, 9)]),
        ([fs.Grayscale(3), fs.Pad(2, (200, 10, 0))], [v2.Grayscale(3), v2.Pad(2, (200, 10, 0))]),
        ([fs.Grayscale(3), fs.RandomInvert(1), fs.Grayscale()], [v2.Grayscale(3), v2.RandomInvert(1), v2.Grayscale()]),
        ([fs.RandomApply([fs.Grayscale(3)], 1), fs.Grayscale()], [v2.Grayscale(3), v2.Grayscale()]),
    ],
    ids=str,
)
def test_gray_comes_in_its_turn(apply, images, steps, peers):
    peer = v2.Compose(peers)
    colour = [name for name, image in images.items() if image.shape[2] == 3]
    for name, ours in apply(*steps, only=colour).items():
        theirs = peer(tensor(images[name])).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(ours, np.broadcast_to(theirs, ours.shape))


def test_gray_then_values_and_layout(images, tmp_path):
    fs.pack([{"image": images["coffee"]}], tmp_path / "ds")
    steps = [fs.Grayscale(), fs.RandomInvert(1), fs.ToDtype(), fs.Normalize(0.5, 0.25)]
    (batch,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": steps}, layout="NCHW")
    peers = [v2.Grayscale(), v2.RandomInvert(1), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])]
    np.testing.assert_array_equal(batch["image"][0], v2.Compose(peers)(tensor(images["coffee"])).numpy())


# What is drawn: one image many times, so that each sample shows its parameters.
ROWS = 2000
SIDES = (40, 50)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """The same gray-blue ramp, with faint tiles, in each row: every effect shows in it."""
    pixels = np.zeros((*SIDES, 3), np.uint8)
    pixels[..., 0] = 40 + np.arange(SIDES[1]) * 2
    pixels[..., 1] = 60 + np.arange(SIDES[0])[:, None] * 2
    pixels[..., 2] = 100 + 2 * (np.add.outer(np.arange(SIDES[0]) // 4, np.arange(SIDES[1]) // 5) % 2)
    path = tmp_path_factory.mktemp("ramp") / "ds"
    fs.pack([{"number": i, "image": pixels} for i in range(ROWS)], path)
    return fs.open(path), pixels


def load(dataset, *steps, **options):
    """The images of an epoch in the order of their rows."""
    loader = fs.Loader(dataset, **{"batch_size": 100, "transforms": {"image": steps}, **options})
    batches = list(loader)
    numbers = np.concatenate([batch["number"] for batch in batches])
    return np.concatenate([batch["image"] for batch in batches])[np.argsort(numbers)]


@pytest.mark.parametrize("p", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: fs.RandomInvert(p),
        lambda p: fs.RandomPosterize(3, p),
        lambda p: fs.RandomSolarize(90, p),
        lambda p: fs.RandomAutocontrast(p),
        lambda p: fs.RandomEqualize(p),
        lambda p: fs.RandomAdjustSharpness(3, p),
        lambda p: fs.RandomGrayscale(p),
        lambda p: fs.RandomErasing(p),
        lambda p: fs.RandomApply([fs.RandomInvert(1), fs.RandomPosterize(4, 1)], p),
        lambda p: fs.RandomChoice([fs.RandomInvert(1), fs.RandomInvert(0)], [p, 1 - p]),
    ],
)
def test_probabilities(ramp, make, p):
    dataset, pixels = ramp
    changed = (load(dataset, make(p)) != pixels).any(axis=(1, 2, 3)).mean()
    assert abs(changed - p) <= 4 * math.sqrt(p * (1 - p) / ROWS)


def test_jitter_draws_from_its_ranges(ramp):
    dataset, _ = ramp
    found = load(dataset, fs.ColorJitter(brightness=0.4))[..., 2, 2, 2].astype(float) / 100
    assert 0.59 <= found.min() < 0.61
    assert 1.38 < found.max() <= 1.4
    assert abs(found.mean() - 0.995) < 0.02  # truncated: half a level less
    assert abs(found.std() - 0.8 / math.sqrt(12)) < 0.01


def test_jitter_takes_every_order(ramp):
    dataset, pixels = ramp
    pair = {"brightness": (1.7, 1.7), "saturation": (0.2, 0.2), "contrast": (2.5, 2.5), "hue": (0.25, 0.25)}
    calls = {
        "brightness": lambda image: F.adjust_brightness(image, 1.7),
        "contrast": lambda image: F.adjust_contrast(image, 2.5),
        "saturation": lambda image: F.adjust_saturation(image, 0.2),
        "hue": lambda image: F.adjust_hue(image, 0.25),
    }
    results = []
    for order in itertools.permutations(calls):
        image = tensor(pixels)
        for name in order:
            image = calls[name](image)
        results.append(image.permute(1, 2, 0).numpy())
    distances = np.stack(
        [np.abs(load(dataset, fs.ColorJitter(**pair)).astype(int) - result).mean(axis=(1, 2, 3)) for result in results]
    )
    assert distances.min(axis=0).max() < 0.1
    counts = np.bincount(distances.argmin(axis=0), minlength=24)
    # Orders that give the same image are counted as the first of them.
    same = [next(j for j in range(24) if np.abs(results[j].astype(int) - results[i]).mean() < 0.1) for i in range(24)]
    expected = np.bincount(same, minlength=24) * ROWS / 24
    seen = expected > 0
    assert ((counts[seen] - expected[seen]) ** 2 / expected[seen]).sum() < 60  # chi-squared, 23 degrees, 99.99 %


def test_blur_draws_from_its_range(tmp_path):
    pixels = np.zeros((9, 9, 1), np.uint8)
    pixels[4, 4] = 255
    fs.pack([{"number": i, "image": pixels} for i in range(ROWS)], tmp_path / "ds")
    middle = load(fs.open(tmp_path / "ds"), fs.GaussianBlur(5, (0.5, 1.5)))[:, 4, 4, 0].astype(float)
    at = [F.gaussian_blur(tensor(pixels), [5, 5], [s, s])[0, 4, 4].item() for s in np.linspace(0.5, 1.5, 401)]
    assert middle.max() <= at[0]
    assert middle.min() >= at[-1]
    for quantile in (0.1, 0.5, 0.9):
        assert abs(np.quantile(middle, 1 - quantile) - at[int(400 * quantile)]) < 6


@pytest.mark.parametrize(("scale", "ratio"), [((0.02, 0.33), (0.3, 3.3)), ((0.1, 0.2), (0.5, 1)), ((0.5, 1), (1, 1))])
def test_erased_boxes_are_distributed_as_torchvisions(ramp, scale, ratio):
    dataset, _ = ramp
    ours = load(dataset, fs.RandomErasing(1, scale, ratio, value=0))[..., 2] == 0
    torch.manual_seed(0)
    peer = v2.RandomErasing(1, scale, ratio)
    boxes = [peer.make_params([torch.zeros(3, *SIDES)]) for _ in range(ROWS)]
    erased = [box if box["v"] is not None else {**box, "h": 0, "w": 0} for box in boxes]
    found = [
        ours.any(axis=2).sum(axis=1),  # heights
        ours.any(axis=1).sum(axis=1),
        ours.any(axis=2).argmax(axis=1),  # tops
        ours.any(axis=1).argmax(axis=1),
    ]
    np.testing.assert_array_equal(ours.sum(axis=(1, 2)), found[0] * found[1])
    for values, name in zip(found, "hwij", strict=True):
        theirs = np.array([box[name] for box in erased])
        error = 4 * math.sqrt(2 / ROWS) * max(theirs.std(), 0.1)
        assert abs(values.mean() - theirs.mean()) < error, name
        assert abs(values.std() - theirs.std()) < error, name


def test_erasing_writes_values_of_its_place(ramp):
    dataset, pixels = ramp
    scaled = v2.ToDtype(torch.float32, scale=True)
    normalized = v2.Compose([scaled, v2.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD)])
    for steps, painted, outside in [
        ([fs.RandomErasing(1, value=(1, 2, 3)), fs.ToDtype()], np.float32([1, 2, 3]) * np.float32(1 / 255), scaled),
        ([fs.Normalize.imagenet(), fs.RandomErasing(1)], [0, 0, 0], normalized),
        ([fs.Normalize.imagenet(), fs.RandomErasing(1, value=(0.5, -7, 1e3))], [0.5, -7, 1e3], normalized),
    ]:
        images = load(dataset, *steps)
        inside = (images == np.float32(painted)).all(axis=3)
        assert 0.1 < inside.mean() < 0.2
        expected = outside(tensor(pixels)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(images[~inside], np.broadcast_to(expected, images.shape)[~inside])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_erasing_with_noise(ramp, dtype):
    dataset, _ = ramp
    steps = [fs.ToDtype(dtype, scale=False), fs.RandomErasing(1, value="random")]
    images = load(dataset, *steps)
    noise = images[(np.abs(images) < 8).all(axis=3)].astype(np.float64)  # the ramp's values are 40 and more
    assert 3e5 < len(noise) < 9e5
    assert np.abs(noise.mean(axis=0)).max() < 0.01
    assert np.abs(noise.std(axis=0) - 1).max() < 0.01
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.01
    np.testing.assert_array_equal(load(dataset, *steps, layout="NCHW").transpose(0, 2, 3, 1), images)
    assert len(np.unique(images[:, 20, 25])) > 100  # each sample has noise of its own


@pytest.mark.parametrize("value", [(1.5, -7, 300), "random"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_erasing_of_bfloat16(ramp, value, layout):
    """The same values as in float32, rounded."""
    dataset, _ = ramp
    exact, rounded = (
        load(dataset, fs.ToDtype(dtype, scale=False), fs.RandomErasing(1, value=value), layout=layout)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_array_equal(rounded, exact.astype(rounded.dtype))


def test_erasing_with_bytes(ramp):
    dataset, pixels = ramp
    images = load(dataset, fs.RandomErasing(1, value="random"))
    changed = images[(images != pixels).any(axis=3)]
    assert np.abs(np.bincount(changed.ravel(), minlength=256) / changed.size * 256 - 1).max() < 0.1


SMALL = [fs.RandomErasing(1, value="random"), fs.RandomErasing(1, value="random")]
STEPS = [
    fs.RandAugment(fill=7),
    fs.TrivialAugmentWide(),
    fs.AutoAugment(),
    fs.ColorJitter(0.4, 0.4, 0.4, 0.1),
    fs.GaussianBlur(3),
    fs.RandomApply([fs.RandomChoice([fs.RandomSolarize(99), fs.RandomHorizontalFlip()]), *SMALL]),
    fs.ToDtype(),
    fs.RandomErasing(value="random"),
]


@pytest.mark.parametrize(
    "options", [{"num_threads": 1}, {"num_threads": 5, "prefetch": 9}, {"batch_size": 1}, {"shuffle": True}], ids=str
)
def test_a_sample_depends_on_seed_epoch_and_row_alone(ramp, options):
    rows = ramp[0][:300]
    expected = load(rows, *STEPS, seed=9)
    np.testing.assert_array_equal(load(rows, *STEPS, seed=9, **options), expected)
    np.testing.assert_array_equal(load(ramp[0][40:50], *STEPS, seed=9), expected[40:50])
    assert (load(rows, *STEPS, seed=8) != expected).any(axis=(1, 2, 3)).mean() > 0.99


def test_nested_transforms_draw_on(ramp):
    dataset, pixels = ramp
    twice = load(dataset, fs.RandomApply([fs.RandomInvert(0.5), fs.RandomInvert(0.5)], 1))
    assert 0.4 < (twice != pixels).any(axis=(1, 2, 3)).mean() < 0.6
    # Noise takes many numbers, none of which the next one gets.
    (first,) = load(dataset[:1], fs.RandomApply([fs.RandomErasing(1, (0.2, 0.2), (1, 1), "random")], 1))
    (both,) = load(dataset[:1], fs.RandomApply([fs.RandomErasing(1, (0.2, 0.2), (1, 1), "random")] * 2, 1))
    assert (first != both).any()


def test_choice_has_its_weights(ramp):
    dataset, pixels = ramp
    steps = [fs.RandomPosterize(bits, 1) for bits in (1, 2, 3, 4)]
    for weights, expected in [(None, [0.25] * 4), ([1, 0, 3, 4], [0.125, 0, 0.375, 0.5])]:
        images = load(dataset, fs.RandomChoice(steps, weights))
        same = [
            (images == F.posterize(tensor(pixels), b).permute(1, 2, 0).numpy()).all(axis=(1, 2, 3))
            for b in (1, 2, 3, 4)
        ]
        shares = np.mean(same, axis=1)
        assert abs(shares.sum() - 1) < 1e-9
        assert np.abs(shares - expected).max() < 0.05


CALLS = {
    "Identity": lambda image, m: image,
    "Brightness": lambda image, m: F.adjust_brightness(image, 1 + m),
    "Color": lambda image, m: F.adjust_saturation(image, 1 + m),
    "Contrast": lambda image, m: F.adjust_contrast(image, 1 + m),
    "Sharpness": lambda image, m: F.adjust_sharpness(image, 1 + m),
    "Posterize": lambda image, m: F.posterize(image, int(m)),
    "Solarize": lambda image, m: F.solarize(image, 255 * m),
    "AutoContrast": lambda image, m: F.autocontrast(image),
    "Equalize": lambda image, m: F.equalize(image),
    "Invert": lambda image, m: F.invert(image),
}


def variants(peer, pixels, bins, places, interpolation):
    """What torchvision makes of an image with each operation, magnitude and sign: (operation, place, image)."""
    peer = peer(interpolation=v2.InterpolationMode(interpolation), fill=9)
    for name, (magnitudes, signed) in peer._AUGMENTATION_SPACE.items():
        values = magnitudes(bins, *pixels.shape[:2])
        if values is None:
            places_of, values = [0], [0.0]
        else:
            places_of = places
        for place in places_of:
            for sign in (1, -1) if signed else (1,):
                image = peer._apply_image_or_video_transform(
                    tensor(pixels), name, sign * float(values[place]), peer.interpolation, peer._fill
                )
                yield name, place, image.permute(1, 2, 0).numpy()


# Neighbours on the ramp are two levels apart: where a warp hits the border of two pixels, either may be taken.
def alike(one, others):
    """The share of values that differ, for each of the others."""
    return (np.abs(one.astype(np.int16) - others) > 2).mean(axis=(1, 2, 3))


def nearest_variants(images, options, most=0.0):
    """For each image the index of the option that it is; at most so many are none."""
    shapes = np.stack([image for _, _, image in options]).astype(np.int16)
    shares = np.stack([alike(image, shapes) for image in images])
    assert (shares.min(axis=1) > 0.02).mean() <= most, [options[at][:2] for at in shares.argmin(axis=1)]
    return shares.argmin(axis=1).tolist()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augment_is_torchvisions(ramp, magnitude, interpolation):
    dataset, pixels = ramp
    images = load(dataset, fs.RandAugment(1, magnitude, interpolation=interpolation, fill=9))
    options = list(variants(v2.RandAugment, pixels, 31, [magnitude], interpolation))
    check_shares(images, options, len(v2.RandAugment._AUGMENTATION_SPACE))


def check_shares(images, options, operations):
    """Every option as often as it is drawn; those that look alike are counted together."""
    places = {}
    for name, place, _ in options:
        places.setdefault(name, []).append(place)
    shapes = np.stack([image for _, _, image in options]).astype(np.int16)
    first = [int((alike(shape, shapes) < 0.02).argmax()) for shape in shapes]
    expected = np.zeros(len(options))
    for at, (name, _, _) in zip(first, options, strict=True):
        expected[at] += len(images) / operations / len(places[name])
    found = [first[at] for at in nearest_variants(images, options)]
    counts = np.bincount(found, minlength=len(options))
    seen = expected > 0
    assert counts[~seen].sum() == 0
    chi = ((counts[seen] - expected[seen]) ** 2 / expected[seen]).sum()
    degrees = seen.sum() - 1
    assert chi < degrees + 5 * math.sqrt(2 * degrees) + 10


def test_trivial_augment_is_torchvisions(ramp):
    dataset, pixels = ramp
    images = load(dataset, fs.TrivialAugmentWide(7, fill=9))
    options = list(variants(v2.TrivialAugmentWide, pixels, 7, range(7), "nearest"))
    check_shares(images, options, len(v2.TrivialAugmentWide._AUGMENTATION_SPACE))


def test_two_operations_follow_each_other(ramp):
    dataset, pixels = ramp
    images = load(dataset[:200], fs.RandAugment(2, 20, fill=9))
    options = []
    for _, _, image in variants(v2.RandAugment, pixels, 31, [20], "nearest"):
        options += variants(v2.RandAugment, image, 31, [20], "nearest")
    # Two warps in a row are one resampling here and two in torchvision.
    assert len(set(nearest_variants(images, options, most=0.1))) > 100


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_auto_augment_is_torchvisions(ramp, policy):
    dataset, pixels = ramp
    images = load(dataset[:500], fs.AutoAugment(policy, fill=9))
    peer = v2.AutoAugment(v2.AutoAugmentPolicy(policy), fill=9)
    weights = {}

    def act(image, name, place):
        magnitudes, signed = peer._AUGMENTATION_SPACE[name]
        values = magnitudes(10, *SIDES)
        magnitude = 0.0 if values is None else float(values[place])
        for sign in (1, -1) if signed else (1,):
            done = peer._apply_image_or_video_transform(image, name, sign * magnitude, peer.interpolation, peer._fill)
            yield (sign, 0.5 if signed else 1.0), done

    for (one, p, at), (two, q, to) in peer._policies:
        firsts = [(1 - p, tensor(pixels)), *((p * s[1], image) for s, image in act(tensor(pixels), one, at))]
        for weight, image in firsts:
            for share, result in [(1 - q, image), *((q * s[1], done) for s, done in act(image, two, to))]:
                if weight * share > 0:
                    key = result.numpy().tobytes()
                    total, _ = weights.get(key, (0, None))
                    weights[key] = (total + weight * share / 25, result.permute(1, 2, 0).numpy())
    assert abs(sum(weight for weight, _ in weights.values()) - 1) < 1e-9
    options = [(policy, weight, image) for weight, image in weights.values()]
    chosen = nearest_variants(images, options)
    common = max(weights.values(), key=lambda item: item[0])[0]
    unchanged = np.mean([(image == pixels).all() for image in images])
    same = sum(weight for _, weight, image in options if (image == pixels).all())
    assert abs(unchanged - same) < 4 * math.sqrt(common / 500) + 0.01
    assert len(set(chosen)) > 20


def size(tmp_path, *steps):
    loader = fs.Loader(tmp_path / "ds", 1, transforms={"image": steps})
    (batch,) = loader
    return batch["image"].shape[1:3]


def test_sizes_that_are_known(tmp_path):
    fs.pack([{"image": np.zeros((20, 30, 3), np.uint8)}], tmp_path / "ds")
    crop, other = fs.RandomCrop((9, 8)), fs.CenterCrop((9, 8))
    assert size(tmp_path, fs.RandomApply([fs.RandomInvert()])) == (20, 30)
    assert size(tmp_path, fs.RandomApply([crop], 1)) == (9, 8)
    assert size(tmp_path, fs.RandomApply([crop], 0)) == (20, 30)
    assert size(tmp_path, fs.RandomApply([fs.Pad(1), fs.CenterCrop((20, 30))])) == (20, 30)
    assert size(tmp_path, fs.RandomChoice([crop, other, fs.RandomApply([crop], 1)])) == (9, 8)
    assert size(tmp_path, fs.RandomChoice([crop, fs.Pad(1)], [1, 0])) == (9, 8)
    assert size(tmp_path, fs.RandomApply([crop]), fs.Resize((5, 6))) == (5, 6)
    for step in (
        fs.RandomApply([crop]),
        fs.RandomChoice([crop, fs.Pad(1)]),
        fs.RandomChoice([fs.RandomInvert(), crop]),
    ):
        with pytest.raises(ValueError, match="different sizes"):
            size(tmp_path, step)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([fs.ToDtype(), fs.RandomInvert()], "transform 1 moves or changes pixels after ToDtype"),
        ([fs.ToDtype(), fs.RandomApply([fs.RandomErasing(), fs.RandomInvert()])], "transform 1"),
        ([fs.ToDtype(), fs.RandomErasing(), fs.Normalize.imagenet()], "transform 2 changes values that RandomErasing"),
        ([fs.RandomErasing(value=256)], r"value \[256.0\], expected 0 to 255"),
        ([fs.RandomApply([fs.RandomErasing(value=-1)])], r"value \[-1.0\]"),
        ([fs.Grayscale(), fs.RandomErasing(value=(1, 2, 3))], "expected one number or 1"),
        ([fs.Grayscale(), fs.ToDtype(), fs.RandomErasing(value=(1, 2, 3))], "expected one number or 1"),
        ([fs.RandomApply([fs.Pad(1, fill=256)], 1)], "fill is"),
        ([fs.RandAugment(fill=256)], "fill is"),
    ],
    ids=str,
)
def test_lists_that_make_no_sense(tmp_path, steps, named):
    fs.pack([{"image": np.zeros((20, 30, 3), np.uint8)}], tmp_path / "ds")
    with pytest.raises(ValueError, match=named):
        fs.Loader(tmp_path / "ds", 1, transforms={"image": steps})


def test_effects_need_8_bits(tmp_path):
    fs.pack([{"image": np.zeros((20, 30, 3), np.uint16)}], tmp_path / "ds")
    for step in (fs.RandomInvert(), fs.RandomApply([fs.RandomChoice([fs.GaussianBlur(3)])]), fs.RandAugment()):
        with pytest.raises(ValueError, match="8 bits"):
            fs.Loader(tmp_path / "ds", 1, transforms={"image": step})
    (batch,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": [fs.ToDtype(), fs.RandomErasing(1, value=7)]})
    assert set(np.unique(batch["image"])) == {0, 7}


SAME_AS_TORCHVISION = [
    "AutoAugment",
    "ColorJitter",
    "GaussianBlur",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
    "TrivialAugmentWide",
]


@pytest.mark.parametrize("name", SAME_AS_TORCHVISION)
def test_arguments_are_torchvisions(name):
    theirs = inspect.signature(getattr(v2, name)).parameters
    ours = inspect.signature(getattr(fs, name)).parameters
    assert list(ours) == [argument for argument in theirs if argument != "inplace"]
    for argument, parameter in ours.items():
        default = theirs[argument].default
        assert parameter.default == getattr(default, "value", default)


@pytest.mark.parametrize(
    ("make", "error", "named"),
    [
        (lambda: fs.ColorJitter(-1), ValueError, "-1"),
        (lambda: fs.ColorJitter(contrast=(2, 1)), ValueError, r"contrast=\(2, 1\)"),
        (lambda: fs.ColorJitter(hue=0.6), ValueError, "hue=0.6"),
        (lambda: fs.ColorJitter(hue=(-0.6, 0)), ValueError, "hue"),
        (lambda: fs.ColorJitter(saturation="x"), TypeError, "saturation='x'"),
        (lambda: fs.GaussianBlur(4), ValueError, "kernel_size=4: expected odd"),
        (lambda: fs.GaussianBlur((3, 1025)), ValueError, "1025"),
        (lambda: fs.GaussianBlur(3, 0), ValueError, "sigma"),
        (lambda: fs.GaussianBlur(3, (2, 1)), ValueError, r"sigma=\(2, 1\)"),
        (lambda: fs.RandomErasing(2), ValueError, "p=2"),
        (lambda: fs.RandomErasing(scale=(0.5, 1.5)), ValueError, "scale"),
        (lambda: fs.RandomErasing(ratio=(0, 1)), ValueError, "ratio"),
        (lambda: fs.RandomErasing(value="noise"), ValueError, "value='noise': expected one of 'random'"),
        (lambda: fs.RandomErasing(value=(1, 2)), ValueError, r"value=\(1, 2\)"),
        (lambda: fs.RandomPosterize(9), ValueError, "bits=9"),
        (lambda: fs.RandomSolarize(256), ValueError, "threshold=256"),
        (lambda: fs.RandomAdjustSharpness(-1), ValueError, "sharpness_factor=-1"),
        (lambda: fs.RandAugment(-1), ValueError, "num_ops=-1"),
        (lambda: fs.RandAugment(magnitude=31), ValueError, "magnitude=31: expected an integer from 0 to 30"),
        (lambda: fs.RandAugment(interpolation="bicubic"), ValueError, "interpolation='bicubic'"),
        (lambda: fs.TrivialAugmentWide(1), ValueError, "num_magnitude_bins=1"),
        (lambda: fs.TrivialAugmentWide(fill="x"), TypeError, "fill='x'"),
        (lambda: fs.AutoAugment("coco"), ValueError, "policy='coco': expected one of 'imagenet', 'cifar10', 'svhn'"),
        (lambda: fs.RandomApply([]), ValueError, "at least one"),
        (lambda: fs.RandomApply([fs.ToDtype()]), ValueError, "type of the pixels"),
        (lambda: fs.RandomChoice([fs.RandomApply([fs.Grayscale()])]), ValueError, "Grayscale"),
        (lambda: fs.RandomChoice([fs.Decode()]), ValueError, "Decode"),
        (lambda: fs.RandomChoice([fs.RandomInvert()], [1, 2]), ValueError, r"p=\[1, 2\]: expected 1 weights"),
        (lambda: fs.RandomChoice([fs.RandomInvert()], [0]), ValueError, "not all of them 0"),
        (lambda: fs.RandomApply([np.flipud]), TypeError, r"fs\.Lambda"),
    ],
)
def test_impossible_options_are_named(make, error, named):
    with pytest.raises(error, match=named):
        make()


@pytest.mark.parametrize("function", [lambda image: image, np.flipud, v2.ColorJitter(0.4)], ids=["lambda", "f", "v2"])
def test_callables_belong_to_whole_batches(packed, function):
    for steps in (function, [function], [fs.Resize(5), function]):
        with pytest.raises(TypeError, match=r"run natively.*fs\.Lambda in batch_transforms"):
            transform_list("transforms['image']", steps)
        with pytest.raises(TypeError, match=r"fs\.Lambda"):
            fs.Loader(packed, 1, transforms={"image": steps})


def test_transforms_are_frozen_values():
    assert fs.ColorJitter(0.5) == fs.ColorJitter((0.5, 1.5))
    assert fs.RandAugment() == fs.RandAugment(fill=0)
    assert hash(fs.RandomApply([fs.RandomInvert()])) == hash(fs.RandomApply((fs.RandomInvert(0.5),)))


@pytest.mark.parametrize(
    ("text", "transform"),
    [
        ("ColorJitter(0.4, 0.4, 0.4, 0.1)", fs.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        ("RandAugment", fs.RandAugment()),
        ("AutoAugment('cifar10')", fs.AutoAugment("cifar10")),
        ("RandomErasing(0.25, value='random')", fs.RandomErasing(0.25, value="random")),
        (
            "RandomApply([GaussianBlur(23), RandomInvert(0.1)], p=0.2)",
            fs.RandomApply([fs.GaussianBlur(23), fs.RandomInvert(0.1)], p=0.2),
        ),
        (
            "RandomChoice([RandomInvert(1), RandomEqualize(1)], [1, 2])",
            fs.RandomChoice([fs.RandomInvert(1), fs.RandomEqualize(1)], [1, 2]),
        ),
    ],
)
def test_transforms_as_text(text, transform):
    assert parse_transform(text) == transform


@pytest.mark.parametrize("text", ["RandomApply([print()])", "RandomApply([RandomInvert(2)])", "RandomApply([1])"])
def test_text_that_is_no_transform_is_refused(text):
    with pytest.raises(ValueError, match="transform "):
        parse_transform(text)
