"""Crops decode only a part of a JPEG: they must be the same part of what PIL decodes, to the last bit.

Each file is tried as it came and as a seekable one. Where an image is shrunk, every pixel of it is decoded here;
decoding at a smaller scale is another matter, in test_scaled.py.
"""

import numpy as np
import pytest

import fastshard as fs
from jpegs import SIZE, decode, variants
from jpegs import largest as largest_difference


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "seekable"])
def pair(request, photos, tmp_path_factory):
    """A dataset of JPEG files, and its twin of the pixels that PIL decodes: the same rows, and so the same draws."""
    root = tmp_path_factory.mktemp("regions")
    files = variants(photos["astronaut"])
    fs.pack([{"image": encoded} for encoded in files.values()], root / "jpeg", seekable=request.param)
    decoded = [decode(encoded) for encoded in files.values()]
    assert {pixels.shape for pixels in decoded} == {(*SIZE, 3)}
    fs.pack([{"image": pixels} for pixels in decoded], root / "raw")
    return root / "jpeg", root / "raw", list(files)


def largest(pair, transforms, epochs):
    """The largest difference a variant over some epochs."""
    files, raw, names = pair
    return largest_difference(files, raw, transforms, epochs, names=names)


def test_whole(pair):
    assert max(largest(pair, [], 1).values()) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (16, 16), (17, 31), (64, 64), (150, 160), (1, 189), (219, 1)])
def test_random_crop(pair, size):
    worst = largest(pair, fs.RandomCrop(size), 30)
    assert not {name: difference for name, difference in worst.items() if difference}


@pytest.mark.parametrize("size", [1, 8, 33, 128, (219, 40), (40, 189), (218, 188), 300])
def test_center_crop(pair, size):
    worst = largest(pair, fs.CenterCrop(size), 1)
    assert not {name: difference for name, difference in worst.items() if difference}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("antialias", [True, False])
def test_random_resized_crop(pair, interpolation, antialias):
    steps = fs.RandomResizedCrop(48, interpolation=interpolation, antialias=antialias)
    assert max(largest(pair, steps, 30).values()) == 0


@pytest.mark.parametrize("size", [64, 180, (100, 300)])
def test_resize_then_crop(pair, size):
    # A part of the resized image is computed from a part of the file.
    assert max(largest(pair, [fs.Resize(size), fs.RandomCrop(56), fs.RandomHorizontalFlip()], 20).values()) <= 1


def test_crops_in_16_bits_and_gray(pair):
    files = fs.open(pair[0])
    whole = fs.Loader(files, 100, transforms={"image": fs.Decode("L", dtype="uint16")})
    crops = fs.Loader(files, 100, transforms={"image": [fs.Decode("L", dtype="uint16"), fs.CenterCrop((100, 60))]})
    (expected,), (found,) = whole, crops
    top, left = round((SIZE[0] - 100) / 2), round((SIZE[1] - 60) / 2)
    np.testing.assert_array_equal(found["image"], expected["image"][:, top : top + 100, left : left + 60])
