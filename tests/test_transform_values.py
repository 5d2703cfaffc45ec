"""Transforms against torchvision v2 and PIL on real photographs: how far apart the results are, in each case."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812 - as everybody calls it

import fastshard as fs
from fastshard._transforms.image import to_json

MODES = {"nearest": "NEAREST_EXACT", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
SIZES = [64, 224, 400, (100, 333), (32, 500), (77, 91), (1, 1), 1]


@pytest.fixture(scope="module")
def images(photos):
    """Portrait, landscape, square, panorama, and one of odd sides."""
    astronaut, cat, coffee = photos["astronaut"], photos["cat"], photos["coffee"]
    return [astronaut[:301, :203], coffee, cat[:100, :100], cat[:51, :400], coffee[:177, :255]]


@pytest.fixture(scope="module")
def apply(images, tmp_path_factory):
    """Calls it with transforms to get all images, transformed."""
    path = tmp_path_factory.mktemp("transforms") / "ds"
    fs.pack([{"image": png(image)} for image in images], path)
    native = fs.open(path)._opened.native

    def apply(*steps):
        ops = {"image": to_json(steps)}
        return [np.asarray(native.row(row, ["image"], ops)["image"]) for row in range(len(images))]

    return apply


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def array(image):
    pixels = image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def difference(ours, theirs):
    theirs = array(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    return np.abs(ours.astype(np.float64) - theirs).max()


@pytest.mark.parametrize("size", SIZES)
def test_bilinear(apply, images, size):
    for image, ours in zip(images, apply(fs.Resize(size)), strict=True):
        assert difference(ours, F.resize(Image.fromarray(image), size)) <= 1
        assert difference(ours, F.resize(tensor(image), size)) <= 1


# PIL resizes columns or rows first, whichever is less work; here it is always rows first. In between, values are
# rounded and, with filters that overshoot, cut off at 0 and 255: so the order shows at hard edges.
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("interpolation", "most"), [("bicubic", 10), ("lanczos", 16)])
def test_filters_that_overshoot(apply, images, size, interpolation, most):
    mode = InterpolationMode[MODES[interpolation]]
    for image, ours in zip(images, apply(fs.Resize(size, interpolation)), strict=True):
        picture = Image.fromarray(image)
        theirs = F.resize(picture, size, mode)
        assert difference(ours, theirs) <= most
        assert np.abs(ours.astype(int) - array(theirs)).mean() < 0.35
        filter_ = Image.Resampling[mode.name]
        in_order = picture.resize((theirs.width, picture.height), filter_).resize(theirs.size, filter_)
        # Weights have 14 bits here and up to 22 there, which can make a second level of two roundings.
        apart = np.abs(ours.astype(int) - array(in_order))
        assert apart.max() <= 2
        assert (apart > 1).mean() <= 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_without_antialias(apply, images, size):
    for image, ours in zip(images, apply(fs.Resize(size, antialias=False)), strict=True):
        theirs = F.resize(tensor(image), size, antialias=False)
        # Both round twice, after rows and after columns, and so may be off by one either way.
        assert difference(ours, theirs) <= 2
        assert (np.abs(ours.astype(int) - array(theirs)) > 1).mean() <= 2e-5


@pytest.mark.parametrize("size", [64, 224, (100, 333)])
def test_bicubic_without_antialias(apply, images, size):
    # torchvision's kernel has a = -0.75 here, and a = -0.5 as PIL's with antialiasing.
    for image, ours in zip(images, apply(fs.Resize(size, "bicubic", antialias=False)), strict=True):
        theirs = F.resize(tensor(image), size, InterpolationMode.BICUBIC, antialias=False)
        # Ours is clipped to 8 bit between rows and columns: at hard edges, and only there, that shows.
        distance = np.abs(ours.astype(int) - array(theirs))
        assert distance.max() <= 20
        assert distance.mean() <= 0.3
        assert (distance > 1).mean() <= 0.005


@pytest.mark.parametrize("size", [63, 65, (99, 331), (31, 499)])
def test_nearest(apply, images, size):
    for image, ours in zip(images, apply(fs.Resize(size, "nearest")), strict=True):
        height, width = ours.shape[:2]
        rows, columns = nearest(height, image.shape[0]), nearest(width, image.shape[1])
        candidates = [image[y[:, None], x] for y in rows for x in columns]
        assert np.any([(ours == candidate).all(axis=2) for candidate in candidates], axis=0).all()
        ties = (rows[0] != rows[1]).any() or (columns[0] != columns[1]).any()
        if not ties:
            assert difference(ours, F.resize(tensor(image), size, InterpolationMode.NEAREST_EXACT)) == 0
            assert difference(ours, F.resize(Image.fromarray(image), size, InterpolationMode.NEAREST)) == 0


def nearest(size, source):
    """Source pixels whose centre is nearest; two of them where an output lies just between."""
    doubled = (2 * np.arange(size) + 1) * source
    above = doubled // (2 * size)
    return above, np.where(doubled % (2 * size) == 0, np.maximum(above - 1, 0), above)


@pytest.mark.parametrize(("size", "max_size"), [(64, 65), (64, 100), (100, 101), (30, 1000), (300, 350)])
def test_max_size(apply, images, size, max_size):
    for image, ours in zip(images, apply(fs.Resize(size, max_size=max_size)), strict=True):
        assert difference(ours, F.resize(Image.fromarray(image), size, max_size=max_size)) <= 1


def test_max_size_is_larger_than_size():
    with pytest.raises(ValueError, match="max_size=64"):
        fs.Resize(64, max_size=64)  # as torchvision
    with pytest.raises(ValueError, match="max_size"):
        v2.functional.resize(torch.zeros(3, 9, 9), 64, max_size=64)


@pytest.mark.parametrize("fill", [0, 7, (10, 20, 255)])
@pytest.mark.parametrize("padding", [1, (3, 5), (1, 2, 3, 4), (0, 0, 9, 0)])
def test_pad(apply, images, padding, fill):
    ours = apply(fs.Pad(padding, fill))
    for image, found in zip(images, ours, strict=True):
        expected = F.pad(Image.fromarray(image), list(padding) if isinstance(padding, tuple) else padding, fill=fill)
        assert difference(found, expected) == 0


@pytest.mark.parametrize("size", [64, (100, 300), (300, 100), (331, 97)])
@pytest.mark.parametrize("fill", [0, (10, 20, 30)])
def test_resize_pad(apply, images, size, fill):
    height, width = (size, size) if isinstance(size, int) else size
    for image, ours in zip(images, apply(fs.ResizePad(size, fill)), strict=True):
        picture = Image.fromarray(image)
        part = ImageOps.contain(picture, (width, height), Image.Resampling.BILINEAR)
        twin = Image.new("RGB", (width, height), fill if isinstance(fill, tuple) else (fill,) * 3)
        twin.paste(part, ((width - part.width) // 2, (height - part.height) // 2))
        assert difference(ours, twin) <= 1
        if (width - part.width) % 2 == (height - part.height) % 2 == 0:  # what is left over goes to either side
            color = fill if isinstance(fill, tuple) else (fill,) * 3
            padded = ImageOps.pad(picture, (width, height), Image.Resampling.BILINEAR, color)
            assert difference(ours, padded) <= 1


@pytest.mark.parametrize(
    "size", [1, 50, 51, 99, 100, 101, 176, 177, 203, 224, 301, 401, 500, (51, 400), (60, 401), (7, 402)]
)
def test_center_crop(apply, images, size):
    for image, ours in zip(images, apply(fs.CenterCrop(size)), strict=True):
        assert difference(ours, F.center_crop(Image.fromarray(image), size)) == 0
        assert difference(ours, F.center_crop(tensor(image), size)) == 0


def test_flips(apply, images):
    for steps, flip in [
        ([fs.RandomHorizontalFlip(1)], F.hflip),
        ([fs.RandomVerticalFlip(1.0)], F.vflip),
        ([fs.RandomHorizontalFlip(1), fs.RandomVerticalFlip(1)], lambda image: F.vflip(F.hflip(image))),
        ([fs.RandomHorizontalFlip(0), fs.RandomVerticalFlip(0)], lambda image: image),
        ([fs.RandomHorizontalFlip(1), fs.RandomHorizontalFlip(1)], lambda image: image),
    ]:
        for image, ours in zip(images, apply(*steps), strict=True):
            assert difference(ours, flip(tensor(image))) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale(apply, images, channels):
    for image, ours in zip(images, apply(fs.Grayscale(channels)), strict=True):
        assert difference(ours, F.rgb_to_grayscale(tensor(image), channels)) == 0
        assert difference(ours, F.rgb_to_grayscale(Image.fromarray(image), channels)) <= 1


@pytest.mark.parametrize("normalize", [fs.Normalize.imagenet(), fs.Normalize.mobilenet(), fs.Normalize(0.25, 0.5)])
def test_normalize_is_bit_identical(apply, images, normalize):
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(normalize.mean, normalize.std)])
    for image, ours in zip(images, apply(fs.ToDtype("float32"), normalize), strict=True):
        assert difference(ours, theirs(tensor(image))) == 0


def test_normalize_scales_integers_by_itself(apply):
    for ours, expected in zip(
        apply(fs.Normalize.imagenet()), apply(fs.ToDtype("float32"), fs.Normalize.imagenet()), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


def test_mobilenet_goes_from_minus_one_to_one(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    fs.pack([{"image": pixels}], tmp_path / "ds")
    (batch,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": [fs.ToDtype(), fs.Normalize.mobilenet()]})
    expected = pixels.astype(np.float32) / 127.5 - 1  # keras.applications.mobilenet.preprocess_input
    np.testing.assert_allclose(batch["image"][0], expected, rtol=0, atol=1.2e-7)
    assert (batch["image"].min(), batch["image"].max()) == (-1, 1)


def test_to_dtype(apply, images):
    for image, scaled in zip(images, apply(fs.ToDtype("float32")), strict=True):
        assert difference(scaled, F.to_dtype(tensor(image), torch.float32, scale=True)) <= 6e-8
    for image, plain in zip(images, apply(fs.ToDtype("float32", scale=False)), strict=True):
        assert difference(plain, image.astype(np.float32)) == 0
    for image, half in zip(images, apply(fs.ToDtype("float16")), strict=True):
        assert difference(half, F.to_dtype(tensor(image), torch.float32, scale=True).half()) == 0
    for image, wide in zip(images, apply(fs.ToDtype("uint16")), strict=True):
        assert difference(wide, image.astype(np.uint16) * 257) == 0
    for image, wide in zip(images, apply(fs.ToDtype("uint16", scale=False)), strict=True):
        assert difference(wide, image.astype(np.uint16)) == 0


def test_to_dtype_from_16_bits(tmp_path):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    fs.pack([{"image": pixels}], tmp_path / "ds")

    def load(*steps):
        (batch,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": steps})
        return batch["image"][0]

    np.testing.assert_array_equal(load(fs.ToDtype("uint8")), (pixels >> 8).astype(np.uint8))
    np.testing.assert_allclose(load(fs.ToDtype("float32")), pixels / 65535, rtol=0, atol=1.2e-7)
    np.testing.assert_array_equal(load(fs.ToDtype("float32", scale=False)), pixels.astype(np.float32))
    (theirs,) = v2.Normalize([0.5], [0.25])(torch.from_numpy(pixels / 65535).permute(2, 0, 1))
    np.testing.assert_allclose(load(fs.ToDtype(), fs.Normalize(0.5, 0.25))[..., 0], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [64, 300])
def test_16_bits_are_resized_as_such(images, tmp_path, size):
    fs.pack([{"image": images[0].astype(np.uint16) * 257}], tmp_path / "ds")
    (wide,) = fs.Loader(tmp_path / "ds", 1, transforms={"image": fs.Resize((size, size))})
    exact = F.resize(tensor(images[0]).double(), [size, size]).permute(1, 2, 0).numpy() * 257
    assert wide["image"].dtype == np.uint16
    assert np.abs(wide["image"][0] - exact).max() <= 1


EVALUATION = [fs.Resize(256), fs.CenterCrop(224), fs.ToDtype(), fs.Normalize.imagenet()]


def test_evaluation_pipeline(apply, images):
    theirs = v2.Compose(
        [
            v2.Resize(256),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD),
        ]
    )
    for image, ours in zip(images, apply(*EVALUATION), strict=True):
        # One step of an 8-bit value, from the resize.
        assert difference(ours, theirs(Image.fromarray(image))) <= 1.001 / 255 / min(fs.IMAGENET_STD)


@pytest.mark.parametrize(
    ("steps", "theirs", "most"),
    [
        ([fs.Pad(20, 9), fs.Resize(64)], [v2.Pad(20, 9), v2.Resize(64)], 1),
        ([fs.Resize((200, 90)), fs.Resize(64)], [v2.Resize((200, 90)), v2.Resize(64)], 2),
        ([fs.CenterCrop(300), fs.Resize((40, 50))], [v2.CenterCrop(300), v2.Resize((40, 50))], 1),
        (
            [fs.Resize(90), fs.RandomHorizontalFlip(1), fs.CenterCrop((51, 80)), fs.Pad((1, 2, 3, 4), 5)],
            [v2.Resize(90), v2.RandomHorizontalFlip(1), v2.CenterCrop((51, 80)), v2.Pad([1, 2, 3, 4], 5)],
            1,
        ),
        ([fs.Grayscale(), fs.Resize(50)], [v2.Resize(50), v2.Grayscale()], 1),
    ],
    ids=["pad, resize", "two resizes", "crop, resize", "flip before crop", "gray"],
)
def test_chains(apply, images, steps, theirs, most):
    for image, ours in zip(images, apply(*steps), strict=True):
        picture = v2.Compose(theirs)(Image.fromarray(image))
        assert difference(ours, picture) <= most + (1 if ours.shape[2] == 1 else 0)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("raw", [False, True])
def test_layouts(images, tmp_path, dtype, raw):
    image = images[0]
    fs.pack([{"image": image if raw else png(image), "other": np.arange(6).reshape(1, 2, 3)}], tmp_path / "ds")
    steps = {"image": [] if dtype == "uint8" else [fs.ToDtype(dtype), fs.Normalize.imagenet()]}
    (last,) = fs.Loader(tmp_path / "ds", 1, transforms=steps)
    (first,) = fs.Loader(tmp_path / "ds", 1, transforms=steps, layout="NCHW")
    assert last["image"].shape == (1, *image.shape)
    assert first["image"].flags.c_contiguous
    np.testing.assert_array_equal(first["image"], last["image"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(first["other"], last["other"])
