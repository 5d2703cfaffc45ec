"""Crops decode only a part of a JPEG: they must be the same part of what PIL decodes, to the last bit."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

SIZE = (219, 173)  # height, width: odd, and no multiple of any block


def save(pixels, **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def resample(encoded, factors):
    """Other sampling factors with as many blocks a unit: what PIL can't write. The picture is scrambled, but valid."""
    at = next(encoded.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in encoded)
    frame = bytearray(encoded)
    frame[at + 5 : at + 9] = struct.pack(">HH", *SIZE)
    frame[at + 11] = factors
    return bytes(frame)


def variants(photo):
    """Name to file, all of one size; every combination that decodes along a path of its own."""
    photo = np.ascontiguousarray(photo)
    part = photo[: SIZE[0], : SIZE[1]]
    storage = {"sequential": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 4}}
    files = {}
    for name, options in storage.items():
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            files[f"{subsampling} {name}"] = save(part, subsampling=subsampling, **options)
        files[f"gray {name}"] = save(part[..., 0], **options)
        # 28 x 6 units of 32 x 8 pixels, from as many of 16 x 16, and so on.
        files[f"4:1:1 {name}"] = resample(save(photo[:, :96][: 28 * 16], subsampling="4:2:0", **options), 0x41)
        files[f"4:4:1 {name}"] = resample(save(photo[: 7 * 16, : 22 * 16], subsampling="4:2:0", **options), 0x14)
        files[f"4:4:0 {name}"] = resample(save(photo[: 14 * 8, : 22 * 16], subsampling="4:2:2", **options), 0x12)
    files["restart rows"] = save(part, restart_marker_rows=1)
    files["optimised"] = save(part, optimize=True)
    files["stored as RGB"] = save(part, keep_rgb=True)
    files["CMYK"] = save(Image.fromarray(part).convert("CMYK"))
    ycck = bytearray(files["CMYK"])
    ycck[ycck.index(b"Adobe") + 11] = 2
    files["YCCK"] = bytes(ycck)
    files["trailing zeros"] = files["4:2:0 sequential"] + bytes(5)
    files["trailing film"] = files["4:2:0 sequential"] + b"ftypmp42" * 100
    files["fill bytes"] = files["4:2:0 sequential"].replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)
    return files


@pytest.fixture(scope="module")
def pair(photos, tmp_path_factory):
    """A dataset of JPEG files, and its twin of the pixels that PIL decodes: the same rows, and so the same draws."""
    root = tmp_path_factory.mktemp("regions")
    files = variants(photos["coffee"][:, : 28 * 16])
    fs.pack([{"image": encoded} for encoded in files.values()], root / "jpeg")
    decoded = [np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")) for encoded in files.values()]
    assert {pixels.shape for pixels in decoded} == {(*SIZE, 3)}
    fs.pack([{"image": pixels} for pixels in decoded], root / "raw")
    return root / "jpeg", root / "raw", list(files)


def largest(pair, transforms, epochs):
    """The largest difference a variant over some epochs."""
    loaders = [fs.Loader(path, 100, transforms={"image": transforms}) for path in pair[:2]]
    worst = np.zeros(len(pair[2]), int)
    for _ in range(epochs):
        (jpeg,), (raw,) = loaders
        differences = np.abs(jpeg["image"].astype(int) - raw["image"])
        worst = np.maximum(worst, differences.reshape(len(worst), -1).max(axis=1))
    return dict(zip(pair[2], worst, strict=True))


def test_whole(pair):
    assert max(largest(pair, [], 1).values()) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (16, 16), (17, 31), (64, 64), (150, 160), (1, 173), (219, 1)])
def test_random_crop(pair, size):
    worst = largest(pair, fs.RandomCrop(size), 30)
    assert not {name: difference for name, difference in worst.items() if difference}


@pytest.mark.parametrize("size", [1, 8, 33, 128, (219, 40), (40, 173), (218, 172), 300])
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
