"""Decoding at 1/2, 1/4 or 1/8 what is to become that small: when it happens, what it costs, and how to do without.

The yardsticks are PIL, whose ``draft`` asks libjpeg for the same, and exact mode, which filters every pixel.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import fastshard as fs
from jpegs import EXACT, SIZE, decode, largest, save, variants

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def psnr(a, b):
    error = np.mean((a.astype(float) - b) ** 2)
    return np.inf if error == 0 else -10 * np.log10(error / 255**2)


def load(path, *steps, epochs=1):
    """The only sample of a dataset, some epochs long."""
    loader = fs.Loader(path, 1, transforms={"image": list(steps)})
    return [batch["image"][0] for _ in range(epochs) for batch in loader]


def drafted(path, file, size, interpolation="bilinear", mode="RGB"):
    """What PIL makes of a file when it is asked to be quick."""
    path.write_bytes(file)
    image = Image.open(path)
    width, height = image.size
    _, (_, _, *box) = image.draft(mode, size[::-1]) or (None, (0, 0, width, height))
    return np.asarray(image.resize(size[::-1], FILTERS[interpolation], box=(0, 0, *box)).convert("RGB")), box


@pytest.fixture(scope="module")
def files(photos):
    return {name: save(photo, quality=90) for name, photo in photos.items()}


@pytest.fixture(scope="module")
def datasets(files, tmp_path_factory):
    """Name to a dataset of one photograph."""
    root = tmp_path_factory.mktemp("scaled")
    for name, file in files.items():
        fs.pack([{"image": file}], root / name, seekable=False)
    return {name: root / name for name in files}


def report(title, values):
    print(f"{title}: PSNR {min(values):.1f} dB at worst, {np.mean(np.minimum(values, 99)):.1f} on average")


# Measured on five photographs with three filters: 32.3 dB at worst, where what was decoded is the result itself and the
# only filter its 8 x 8 cosines; 38.0 dB at worst where a shrinking by 1.4 is left to do, and 42.5 where one by 1.9 is.
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("beyond", "worst"), [(1, 31), (1.4, 37), (1.9, 41)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_resize_is_close(photos, datasets, factor, beyond, worst, interpolation):
    values = []
    for name, path in datasets.items():
        size = tuple(int(side / factor / beyond) for side in photos[name].shape[:2])
        step = fs.Resize(size, interpolation)
        (scaled,), (exact,) = load(path, step), load(path, EXACT, step)
        values.append(psnr(scaled, exact))
        assert values[-1] < 60  # it was scaled
    report(f"1/{factor}, resized to 1/{factor * beyond:g}, {interpolation}", values)
    assert min(values) >= worst


@pytest.mark.parametrize("size", [16, 32, 64, 96])
def test_random_resized_crop_is_close(datasets, size):
    values = []
    for path in datasets.values():
        step = fs.RandomResizedCrop(size)
        # Decode stands first in both lists, so that both draw the same.
        for scaled, exact in zip(
            load(path, fs.Decode(), step, epochs=20), load(path, EXACT, step, epochs=20), strict=True
        ):
            values.append(psnr(scaled, exact))
    report(f"RandomResizedCrop({size})", values)
    assert min(values) >= 31  # measured: 32.0
    assert np.mean(np.minimum(values, 60)) >= 38  # measured: 40 and more


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("divisor", [2, 2.7, 4, 5, 8, 9.5, 30])
def test_resize_as_pil_does_with_draft(photos, files, datasets, tmp_path, divisor, interpolation):
    for name, file in files.items():
        size = tuple(int(side / divisor) for side in photos[name].shape[:2])
        expected, box = drafted(tmp_path / "a.jpg", file, size, interpolation)
        assert box[0] <= photos[name].shape[1] / 2
        (found,) = load(datasets[name], fs.Resize(size, interpolation))
        assert np.abs(found.astype(int) - expected).max() <= 1, name


def test_not_at_less_than_half(photos, datasets):
    for name, path in datasets.items():
        height, width = photos[name].shape[:2]
        for size in (
            (height, width),
            (height // 2 + 1, width // 2 + 1),
            (height // 2, width // 2 + 1),  # one side is not enough
            (height // 8, width),
            (2 * height, width // 8),
        ):
            (scaled,), (exact,) = (load(path, *before, fs.Resize(size)) for before in ((), (EXACT,)))
            np.testing.assert_array_equal(scaled, exact)


@pytest.mark.parametrize(
    "steps",
    [
        [fs.Resize((50, 60), "nearest")],
        [fs.Resize((50, 60), antialias=False)],
        [fs.CenterCrop(64)],
        [fs.CenterCrop((100, 110)), fs.Resize((60, 60))],
        [fs.RandomResizedCrop(150, antialias=False)],
    ],
    ids=str,
)
def test_not_where_every_pixel_counts_as_it_is(datasets, steps):
    for path in datasets.values():
        for scaled, exact in zip(
            load(path, fs.Decode(), *steps, epochs=3), load(path, EXACT, *steps, epochs=3), strict=True
        ):
            np.testing.assert_array_equal(scaled, exact)


def test_not_for_other_formats(photos, tmp_path):
    Image.fromarray(photos["cat"]).save(tmp_path / "a.png")
    fs.pack([{"image": (tmp_path / "a.png").read_bytes()}], tmp_path / "ds")
    (scaled,), (exact,) = (load(tmp_path / "ds", *before, fs.Resize((30, 40))) for before in ((), (EXACT,)))
    np.testing.assert_array_equal(scaled, exact)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(256, 320), (251, 317)], ids=["whole blocks", "parts of blocks"])
def test_orientation(photos, tmp_path, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(photos["temple"][: size[0], : size[1]], exif=exif.tobytes(), quality=92)
    fs.pack([{"image": file}], tmp_path / "ds", seekable=True)
    sides = (size[0] // 4, size[1] // 4)
    upright = sides if orientation < 5 else sides[::-1]
    (found,), (exact,) = (
        load(tmp_path / "ds", fs.Decode(exif_orientation=True, scaled=scaled), fs.Resize(upright))
        for scaled in (True, False)
    )
    if size[0] % 8 and orientation > 1:
        # Turned about, a partial last pixel would come first.
        np.testing.assert_array_equal(found, exact)
        return
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    expected, _ = drafted(tmp_path / "a.jpg", file, sides)
    turned = Image.fromarray(expected)
    turned = turned.transpose(turns[orientation]) if orientation > 1 else turned
    assert np.abs(found.astype(int) - np.asarray(turned)).max() <= 1
    assert 31 <= psnr(found, exact) < 60


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {"progressive": True}), ("L", {}), ("L", {"progressive": True}), ("CMYK", {})],
    ids=str,
)
def test_other_kinds_of_jpeg(photos, tmp_path, mode, options):
    image = Image.fromarray(photos["astronaut"][:400, :501]).convert(mode)
    file = save(image, quality=92, **options)
    for seekable in (False, True):
        path = tmp_path / str(seekable)
        fs.pack([{"image": file}], path, seekable=seekable)
        for divisor in (2, 3, 4, 8, 11):
            size = (400 // divisor, 501 // divisor)
            (found,), (exact,) = load(path, fs.Resize(size)), load(path, EXACT, fs.Resize(size))
            expected, _ = drafted(tmp_path / "a.jpg", file, size, mode=mode)
            most = 1 if mode != "CMYK" else 3  # there PIL turns colours after it has resized, and we before
            assert np.abs(found.astype(int) - expected).max() <= most
            assert 31 <= psnr(found, exact) < 60


@pytest.fixture(scope="module")
def twins(photos, tmp_path_factory):
    """The variants of test_jpeg_regions.py, as they are and seekable."""
    root = tmp_path_factory.mktemp("twins")
    encoded = variants(photos["astronaut"])
    for seekable in (False, True):
        fs.pack([{"image": file} for file in encoded.values()], root / str(seekable), seekable=seekable)
    return root / "True", root / "False", list(encoded)


@pytest.mark.parametrize(
    "steps",
    [
        fs.RandomResizedCrop(16),
        fs.RandomResizedCrop((7, 30), interpolation="lanczos"),
        fs.RandomResizedCrop(50, interpolation="bicubic"),
        fs.Resize((SIZE[0] // 2, SIZE[1] // 2)),
        [fs.CenterCrop((200, 177)), fs.Resize((40, 30)), fs.RandomHorizontalFlip()],
        [fs.RandomCrop((100, 120)), fs.Resize(13), fs.Pad(3)],
        [fs.Resize((50, 50)), fs.RandomCrop((9, 11))],
    ],
    ids=str,
)
def test_seekable_files_give_the_same(twins, steps):
    seekable, plain, names = twins
    worst = largest(seekable, plain, steps, 12, (fs.Decode(), fs.Decode()), names)
    assert not {name: difference for name, difference in worst.items() if difference}


@pytest.mark.parametrize("size", [(30, 40), (100, 70), (150, 225), (37, 56)], ids=str)
def test_exact_mode_is_exact(files, datasets, size):
    for name, path in datasets.items():
        pixels = torch.from_numpy(decode(files[name]).copy()).permute(2, 0, 1)
        expected = v2.functional.resize(pixels, list(size), antialias=True).permute(1, 2, 0).numpy()
        (found,) = load(path, EXACT, fs.Resize(size))
        assert np.abs(found.astype(int) - expected).max() <= 1, name


def test_packing_is_always_exact(files, photos, tmp_path):
    for name, file in files.items():
        fs.pack([{"image": file}], tmp_path / name, resize=(40, 60), encode="png")
        expected = np.asarray(Image.fromarray(decode(file)).resize((60, 40), Image.Resampling.BILINEAR), int)
        assert np.abs(fs.open(tmp_path / name)[0]["image"] - expected).max() <= 2, name
