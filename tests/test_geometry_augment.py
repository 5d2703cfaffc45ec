"""Random rotations, affine maps and perspectives against torchvision v2: their parameters and their pixels."""

import inspect
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import _get_perspective_coeffs
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812 - as everybody calls it

import fastshard as fs
from fastshard._transforms.image import to_json
from fastshard._transforms.parse import parse_transform

MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
COLOR = (7, 99, 200)


class Draws:
    """The twin of ``random.rs``, for row 0 of epoch 0 of seed 0 unless said otherwise."""

    def __init__(self, seed=0, epoch=0, row=0, field=0, operation=0):
        counter = (operation | field << 32) << 64 | row << 128 | epoch << 192
        philox = np.random.Philox(key=seed, counter=(counter - 1) % 2**256)
        self._raw = iter(philox.random_raw(64).tolist())

    def uniform(self, low, high):
        return low + (high - low) * ((next(self._raw) >> 11) * 2.0**-53)

    def below(self, bound):
        return (next(self._raw) >> 32) * bound >> 32


@pytest.fixture(scope="module")
def images(photos):
    """Portrait, landscape, odd sides, a square, gray, single rows and columns, and one pixel."""
    astronaut, cat, coffee = photos["astronaut"], photos["cat"], photos["coffee"]
    gray = coffee[:91, :128, :1]
    thin = [cat[50:51, :60], cat[:60, 50:51], cat[9:10, 9:10], gray[:1, :1], cat[:2, :2]]
    return [astronaut[:101, :67], coffee[:120, :161], cat[:64, :64], cat[:37, :37], gray, *thin]


@pytest.fixture(scope="module")
def samples(images, tmp_path_factory):
    """Each image with a dataset that holds only it, so that all have the draws of row 0."""
    path = tmp_path_factory.mktemp("geometry")
    return [(image, store(image, path / f"{at}")) for at, image in enumerate(images)]


def store(image, path):
    fs.pack([{"image": image}], path)
    return fs.open(path)._opened.native


def apply(native, *steps):
    return np.asarray(native.row(0, ["image"], {"image": to_json(steps)})["image"])


def tensor(pixels):
    """Doubles, as torchvision computes places with the type of the image: half a pixel is exact only so."""
    return torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)


def floats(fill, image):
    """A fill as torchvision takes it."""
    return [float(value) for value in (fill if isinstance(fill, tuple) else (fill,) * image.shape[2])]


def assert_alike(ours, theirs, interpolation, most=1):
    theirs = theirs.permute(1, 2, 0).numpy()
    assert ours.shape == theirs.shape
    apart = np.abs(ours.astype(int) - theirs)
    if interpolation == "nearest":  # a place between two pixels may fall to either side
        wrong = (apart > 0).any(axis=2)
        assert wrong.mean() <= 0.005
    else:
        assert apart.max() <= most


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("degrees", [0, 13, -31, 44, 89.5, 180, 211, 270.25, 360, 1000])
def test_rotations(samples, degrees, interpolation):
    for expand in (False, True):
        step = fs.RandomRotation((degrees, degrees), interpolation, expand, fill=9)
        for image, native in samples:
            theirs = F.rotate(tensor(image), float(degrees), MODES[interpolation], expand, fill=floats(9, image))
            assert_alike(apply(native, step), theirs, interpolation)


@pytest.mark.parametrize("degrees", [13, -118])
def test_tensors_of_8_bits(samples, degrees):
    for image, native in samples:
        picture = tensor(image).to(torch.uint8)
        rotated = F.rotate(picture, float(degrees), MODES["bilinear"], fill=floats(9, image))
        ours = apply(native, fs.RandomRotation((degrees, degrees), "bilinear", fill=9))
        assert_alike(ours, rotated, "bilinear")


@pytest.mark.parametrize("degrees", [90, 270, -90])
@pytest.mark.parametrize("interpolation", MODES)
def test_quarter_turns_are_exact(samples, degrees, interpolation):
    for image, native in samples:
        found = apply(native, fs.RandomRotation((degrees, degrees), interpolation, expand=True))
        np.testing.assert_array_equal(found, np.rot90(image, degrees // 90))


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("center", [(0, 0), (10.5, 33.25), (-40, 200)])
def test_centers(samples, center, interpolation):
    mode = MODES[interpolation]
    for image, native in samples:
        options = {"center": list(center), "fill": floats(0, image)}
        turned = apply(native, fs.RandomRotation((25, 25), interpolation, center=center))
        assert_alike(turned, F.rotate(tensor(image), 25.0, mode, **options), interpolation)
        moved = apply(native, fs.RandomAffine((-5, -5), None, (1.2, 1.2), (9, 9), interpolation, center=center))
        assert_alike(moved, F.affine(tensor(image), -5.0, [0, 0], 1.2, [9.0, 0.0], mode, **options), interpolation)


@pytest.mark.parametrize("fill", [0, 200, COLOR])
@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize(
    ("degrees", "scale", "shear"),
    [
        (20, 1, (10, -24)),
        (-140, 0.3, (0, 0)),
        (3, 7.5, (40, 0)),
        (0, 1, (80, 60)),
        (44, 0.02, (0, 0)),
        (0, 39.7, (0, 0)),
    ],
)
def test_affine(samples, degrees, scale, shear, interpolation, fill):
    step = fs.RandomAffine(
        (degrees,) * 2, None, (scale,) * 2, (shear[0], shear[0], shear[1], shear[1]), interpolation, fill
    )
    for image, native in samples:
        if fill == COLOR and image.shape[2] == 1:
            continue
        arguments = (float(degrees), [0, 0], float(scale), [*map(float, shear)], MODES[interpolation])
        theirs = F.affine(tensor(image), *arguments, fill=floats(fill, image))
        assert_alike(apply(native, step), theirs, interpolation)


def affine_params(step, width, height, draws):
    """``RandomAffine.make_params`` with these draws."""
    angle = draws.uniform(*step.degrees)
    most_x, most_y = step.translate[0] * width, step.translate[1] * height
    translate = [round(draws.uniform(-most_x, most_x)), round(draws.uniform(-most_y, most_y))]
    scale = draws.uniform(*step.scale)
    shear = [draws.uniform(*step.shear[:2]), draws.uniform(*step.shear[2:])]
    return angle, translate, scale, shear


def perspective_points(scale, width, height, draws):
    """The end points of ``RandomPerspective.make_params`` with these draws."""
    bound_x, bound_y = int(scale * (width // 2)) + 1, int(scale * (height // 2)) + 1
    corners = [(False, False), (True, False), (True, True), (False, True)]
    return [
        [(width - bound_x) * right + draws.below(bound_x), (height - bound_y) * bottom + draws.below(bound_y)]
        for right, bottom in corners
    ]


ROWS = 40


@pytest.fixture(scope="module")
def rows(photos, tmp_path_factory):
    coffee = photos["coffee"]
    images = [coffee[3 * i : 3 * i + 61, 5 * i : 5 * i + 83] for i in range(ROWS)]
    path = tmp_path_factory.mktemp("rows") / "ds"
    fs.pack([{"number": i, "image": image} for i, image in enumerate(images)], path)
    return images, fs.open(path)


def load(dataset, *steps, epoch=0, **options):
    """The images of an epoch in the order of their rows."""
    loader = fs.Loader(dataset, **{"batch_size": 7, "transforms": {"image": steps}, **options})
    loader.set_epoch(epoch)
    batches = list(loader)
    numbers = np.concatenate([batch["number"] for batch in batches])
    return np.concatenate([batch["image"] for batch in batches])[np.argsort(numbers)]


RANDOM_AFFINE = {"degrees": 40, "translate": (0.3, 0.1), "scale": (0.5, 2.0), "shear": (-30, 10, 5, 20)}


@pytest.mark.parametrize("interpolation", MODES)
def test_what_an_affine_map_draws(rows, interpolation):
    images, dataset = rows
    step = fs.RandomAffine(**RANDOM_AFFINE, interpolation=interpolation, fill=COLOR)
    for row, (image, found) in enumerate(zip(images, load(dataset, step, seed=4, epoch=2), strict=True)):
        angle, *rest = affine_params(step, 83, 61, Draws(4, 2, row, field=1))
        theirs = F.affine(tensor(image), angle, *rest, MODES[interpolation], fill=floats(COLOR, image))
        assert_alike(found, theirs, interpolation)


def test_what_a_rotation_draws(rows):
    images, dataset = rows
    for row, (image, found) in enumerate(
        zip(images, load(dataset, fs.RandomRotation((-20, 70), "bilinear"), seed=1), strict=True)
    ):
        angle = Draws(1, 0, row, field=1).uniform(-20, 70)
        assert_alike(found, F.rotate(tensor(image), angle, MODES["bilinear"], fill=floats(0, image)), "bilinear")


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_what_a_perspective_draws(rows, scale, interpolation):
    images, dataset = rows
    step = fs.RandomPerspective(scale, 0.6, interpolation, fill=31)
    moved = 0
    for row, (image, found) in enumerate(zip(images, load(dataset, step, seed=8), strict=True)):
        draws = Draws(8, 0, row, field=1)
        if draws.uniform(0, 1) >= 0.6:
            np.testing.assert_array_equal(found, image)
            continue
        moved += 1
        ends = perspective_points(scale, 83, 61, draws)
        starts = [[0, 0], [82, 0], [82, 60], [0, 60]]
        theirs = F.perspective(tensor(image), starts, ends, MODES[interpolation], fill=floats(31, image))
        assert_alike(found, theirs, interpolation)
    assert 0.3 < moved / ROWS < 0.9


def test_parameters_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    step = fs.RandomAffine(**RANDOM_AFFINE)
    peer = v2.RandomAffine(**RANDOM_AFFINE)
    image = torch.zeros(3, 61, 83)
    theirs = [peer.make_params([image]) for _ in range(4000)]
    theirs = np.array([[p["angle"], *p["translate"], p["scale"], *p["shear"]] for p in theirs])
    ours = [affine_params(step, 83, 61, Draws(row=row)) for row in range(4000)]
    ours = np.array([[angle, *translate, scale, *shear] for angle, translate, scale, shear in ours])
    assert_same_distribution(ours, theirs)


def test_corners_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    peer = v2.RandomPerspective(0.4)
    starts = [[0, 0], [82, 0], [82, 60], [0, 60]]
    theirs = [peer.make_params([torch.zeros(3, 61, 83)])["coefficients"] for _ in range(4000)]
    ours = [
        _get_perspective_coeffs(starts, perspective_points(0.4, 83, 61, Draws(row=row, operation=1)))
        for row in range(4000)
    ]
    assert_same_distribution(np.array(ours), np.array(theirs))


def assert_same_distribution(ours, theirs):
    deviation = theirs.std(axis=0)
    error = 5 * deviation * math.sqrt(2 / len(ours))
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < error).all()
    assert (np.abs(ours.std(axis=0) - deviation) < error).all()
    for part in (10, 50, 90):
        apart = np.abs(np.percentile(ours, part, axis=0) - np.percentile(theirs, part, axis=0))
        assert (apart <= np.maximum(2 * error, 1e-12)).all()


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
@pytest.mark.parametrize("interpolation", MODES)
def test_padding_modes(samples, mode, interpolation):
    """The twin pads by hand, so far that the border is not seen."""
    options = {"degrees": (30, 30), "scale": (0.8, 0.8), "shear": (10, 10), "interpolation": interpolation}
    for image, native in samples:
        found = apply(native, fs.RandomAffine(**options, padding_mode=mode))
        far = 2 * max(image.shape)
        padded = np.pad(image, ((far, far), (far, far), (0, 0)), mode)
        theirs = F.affine(tensor(padded), 30.0, [0, 0], 0.8, [10.0, 0.0], MODES[interpolation], fill=None)
        assert_alike(found, F.center_crop(theirs, list(image.shape[:2])), interpolation)


@pytest.mark.parametrize("interpolation", MODES)
def test_16_bits(images, tmp_path, interpolation):
    image = images[1].astype(np.uint16) * 257
    found = apply(store(image, tmp_path / "ds"), fs.RandomAffine((33, 33), shear=(5, 5), interpolation=interpolation))
    exact = F.affine(tensor(image), 33.0, [0, 0], 1.0, [5.0, 0.0], MODES[interpolation], fill=[0.0])
    apart = np.abs(found - exact.permute(1, 2, 0).numpy())
    assert found.dtype == np.uint16
    assert np.quantile(apart, 0.999) <= (0 if interpolation == "nearest" else 20)


def psnr(ours, theirs):
    theirs = theirs.permute(1, 2, 0).numpy().astype(float) if isinstance(theirs, torch.Tensor) else theirs.astype(float)
    return 10 * math.log10(255**2 / np.mean((ours - theirs) ** 2))


def test_a_chain_is_its_product(samples):
    parts = [fs.RandomRotation((20, 20), "bilinear"), fs.RandomAffine((35, 35), interpolation="bilinear")]
    _, native = samples[1]
    # 20 degrees counter-clockwise and 35 clockwise; what left the frame in between is gone, only the middle is equal.
    middle = fs.CenterCrop((60, 61))
    whole = apply(native, fs.RandomRotation((-15, -15), "bilinear"), middle)
    np.testing.assert_array_equal(apply(native, *parts, middle), whole)
    mirrored = apply(native, *parts, fs.RandomHorizontalFlip(1), middle)
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])
    # And sharper than its steps: there and back is the image.
    back = fs.RandomRotation((-20, -20), "bilinear")
    np.testing.assert_array_equal(apply(native, parts[0], back, middle), apply(native, middle))


def test_a_chain_is_close_to_its_steps(samples):
    ours = [
        fs.RandomRotation((20, 20), "bilinear", fill=90),
        fs.RandomHorizontalFlip(1),
        fs.RandomAffine((8, 8), None, (0.7, 0.7), (10, 10), "bilinear", fill=90),
        fs.CenterCrop((100, 90)),
        fs.RandomRotation((-70, -70), "bilinear", fill=90),
        fs.RandomVerticalFlip(1),
    ]
    image, native = samples[1]
    options = {"interpolation": MODES["bilinear"], "fill": [90.0] * 3}
    theirs = F.horizontal_flip(F.rotate(tensor(image), 20.0, **options))
    theirs = F.center_crop(F.affine(theirs, 8.0, [0, 0], 0.7, [10.0, 0.0], **options), [100, 90])
    theirs = F.vertical_flip(F.rotate(theirs, -70.0, **options))
    assert psnr(apply(native, *ours), theirs) > 30


def test_other_operations_around_a_warp(samples):
    image, native = samples[1]
    steps = [
        fs.Pad(11, fill=5),
        fs.RandomAffine((9, 9), interpolation="bilinear"),
        fs.RandomGrayscale(1),
        fs.RandomRotation((30, 30), "bilinear"),
        fs.Resize((50, 60)),
        fs.RandomRotation((-10, -10), "bilinear", fill=250),
    ]
    options = {"interpolation": MODES["bilinear"]}
    theirs = F.affine(F.pad(tensor(image), [11], 5), 9.0, [0, 0], 1.0, [0.0, 0.0], fill=[0.0] * 3, **options)
    theirs = F.resize(F.rotate(F.rgb_to_grayscale(theirs, 3), 30.0, fill=[0.0] * 3, **options), [50, 60])
    theirs = F.rotate(theirs, -10.0, fill=[250.0] * 3, **options)
    assert_alike(apply(native, *steps), theirs, "bilinear", most=3)


@pytest.mark.parametrize(
    "warp",
    [
        fs.RandomRotation((33, 33), "bilinear"),
        fs.RandomRotation((33, 33), "nearest", padding_mode="edge"),
        fs.RandomAffine((-4, -4), interpolation="bilinear", padding_mode="reflect"),
        fs.RandomPerspective(0.8, 1),
    ],
    ids=str,
)
def test_only_what_is_needed_of_a_jpeg(photos, tmp_path, warp):
    stream = io.BytesIO()
    Image.fromarray(photos["coffee"][:301, :403]).save(stream, "JPEG", quality=90)
    native = store(stream.getvalue(), tmp_path / "ds")
    whole = apply(native, warp)
    for size in [(1, 1), (50, 70), (299, 31)]:
        top, left = round((301 - size[0]) / 2), round((403 - size[1]) / 2)
        part = apply(native, warp, fs.CenterCrop(size))
        np.testing.assert_array_equal(part, whole[top : top + size[0], left : left + size[1]])


STEPS = [
    fs.RandomRotation(30, "bilinear"),
    fs.RandomHorizontalFlip(),
    fs.RandomPerspective(),
    fs.RandomAffine(0, (0.1, 0.1), (0.9, 1.1)),
    fs.RandomResizedCrop(24),
]


@pytest.mark.parametrize(
    "options", [{"num_threads": 1}, {"num_threads": 5}, {"batch_size": 1}, {"batch_size": 64, "shuffle": True}], ids=str
)
def test_a_sample_depends_on_seed_epoch_and_row_alone(rows, options):
    expected = load(rows[1], *STEPS, seed=9, epoch=4)
    np.testing.assert_array_equal(load(rows[1], *STEPS, seed=9, epoch=4, **options), expected)
    assert (load(rows[1], *STEPS, seed=9, epoch=5) != expected).any()


def test_expanded_sizes_need_a_resize(rows):
    step = fs.RandomRotation(30, expand=True)
    with pytest.raises(ValueError, match="different sizes"):
        next(iter(fs.Loader(rows[1], 4, transforms={"image": step})))
    assert load(rows[1], step, fs.Resize((20, 20))).shape == (ROWS, 20, 20, 3)


def test_expanding_has_a_limit(tmp_path):
    thin = np.zeros((1, 30_000, 1), np.uint8)
    native = store(thin, tmp_path / "ds")
    with pytest.raises(fs.DecodeError, match="1 x 30000"):
        apply(native, fs.RandomRotation((45, 45), expand=True))


@pytest.mark.parametrize("name", ["RandomAffine", "RandomPerspective", "RandomRotation"])
def test_arguments_are_torchvisions(name):
    theirs = inspect.signature(getattr(v2, name)).parameters
    ours = inspect.signature(getattr(fs, name)).parameters
    assert {argument: value.default for argument, value in ours.items() if argument != "padding_mode"} == {
        argument: value.default for argument, value in theirs.items()
    }


@pytest.mark.parametrize(
    ("transform", "spec"),
    [
        (
            fs.RandomRotation(15),
            {
                "op": "random_rotation",
                "degrees": [-15, 15],
                "interpolation": "nearest",
                "expand": False,
                "center": None,
                "fill": [0],
                "padding_mode": "constant",
            },
        ),
        (
            fs.RandomAffine([1, 2], (0, 1), (0.5, 2), 3, "bilinear", (1, 2, 3), (4, 5), "edge"),
            {
                "op": "random_affine",
                "degrees": [1, 2],
                "translate": [0, 1],
                "scale": [0.5, 2],
                "shear": [[-3, 3], [0, 0]],
                "interpolation": "bilinear",
                "fill": [1, 2, 3],
                "center": [4, 5],
                "padding_mode": "edge",
            },
        ),
        (
            fs.RandomPerspective(),
            {
                "op": "random_perspective",
                "distortion_scale": 0.5,
                "p": 0.5,
                "interpolation": "bilinear",
                "fill": [0],
                "padding_mode": "constant",
            },
        ),
    ],
    ids=lambda value: value.get("op") if isinstance(value, dict) else "",
)
def test_what_the_core_receives(transform, spec):
    assert json.loads(to_json([transform])) == [spec]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fs.RandomRotation(-1), "degrees=-1: expected a number of at least 0"),
        (lambda: fs.RandomRotation((5, 1)), r"degrees=\(5, 1\): expected low <= high"),
        (lambda: fs.RandomRotation((1, 2, 3)), "degrees"),
        (lambda: fs.RandomRotation(1, "bicubic"), "interpolation='bicubic': expected one of 'nearest', 'bilinear'"),
        (lambda: fs.RandomRotation(1, center=(1, 2, 3)), r"center=\(1, 2, 3\): expected two numbers"),
        (lambda: fs.RandomRotation(1, fill=-1), "fill=-1"),
        (lambda: fs.RandomRotation(1, padding_mode="wrap"), "padding_mode='wrap': expected one of 'constant'"),
        (lambda: fs.RandomAffine(float("inf")), "degrees=inf"),
        (lambda: fs.RandomAffine(0, (0.1, 1.1)), r"translate=\(0.1, 1.1\): expected fractions from 0 to 1"),
        (lambda: fs.RandomAffine(0, scale=(0, 1)), r"scale=\(0, 1\)"),
        (lambda: fs.RandomAffine(0, shear=(1, 2, 3)), r"shear=\(1, 2, 3\)"),
        (lambda: fs.RandomAffine(0, shear=(1, 2, 4, 3)), "expected low <= high"),
        (lambda: fs.RandomPerspective(1.5), "distortion_scale=1.5: expected a number from 0 to 1"),
        (lambda: fs.RandomPerspective(p=2), "p=2"),
    ],
)
def test_impossible_options_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_fills_fit_the_image(samples):
    _, native = samples[4]
    with pytest.raises(ValueError, match="fill"):
        apply(native, fs.RandomPerspective(fill=COLOR))
    with pytest.raises(ValueError, match="256"):
        apply(native, fs.RandomAffine(0, fill=256))


def test_transforms_as_text():
    assert parse_transform("RandomRotation(15)") == fs.RandomRotation(15)
    text = "RandomAffine((-5, 5), scale=(0.9, 1.1), interpolation='bilinear', padding_mode='edge')"
    expected = fs.RandomAffine((-5, 5), scale=(0.9, 1.1), interpolation="bilinear", padding_mode="edge")
    assert parse_transform(text) == expected
    assert parse_transform("RandomPerspective") == fs.RandomPerspective()
