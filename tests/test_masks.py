"""Masks and pairs of images: they go where their image goes, to the pixel, and keep their values."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

import fastshard as fs


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def regions(photo):
    """A mask of a few classes: how bright the photograph is, in steps."""
    return (np.array(Image.fromarray(photo).convert("L")) // 64 * 3).astype(np.uint8)


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "ds"
    samples = [{"image": png(photo), "mask": png(regions(photo)), "same": png(photo)} for photo in photos.values()]
    fs.pack(samples, path)
    return fs.open(path)


def load(packed, steps, mask=(), **options):
    mask = [fs.Decode("L"), fs.Follow("image", **options), *mask]
    transforms = {"image": steps, "mask": mask, "same": fs.Follow("image", effects=True)}
    (batch,) = fs.Loader(packed, len(packed), shuffle=True, transforms=transforms, seed=1)
    return batch


def pil_resized(mask):
    return np.array(Image.fromarray(mask).resize((97, 113), Image.Resampling.NEAREST))


FIXED = [
    ([fs.CenterCrop(200)], v2.CenterCrop(200)),
    # The pixel in whose middle an output's middle lies, as in PIL; torchvision's mask is half a pixel off.
    ([fs.Resize((113, 97))], lambda mask: torch.from_numpy(pil_resized(mask[0].numpy()))[None]),
    ([fs.CenterCrop(300), fs.RandomHorizontalFlip(1)], v2.Compose([v2.CenterCrop(300), v2.RandomHorizontalFlip(1)])),
    ([fs.CenterCrop(300), fs.RandomRotation((25, 25))], v2.Compose([v2.CenterCrop(300), v2.RandomRotation((25, 25))])),
]


@pytest.mark.parametrize("number", range(len(FIXED)))
def test_as_torchvision_moves_them(packed, photos, number):
    steps, transform = FIXED[number]
    transforms = {"image": steps, "mask": [fs.Decode("L"), fs.Follow("image")]}
    (batch,) = fs.Loader(packed, len(packed), transforms=transforms, fields=["image", "mask"])
    for found, photo in zip(batch["mask"], photos.values(), strict=True):
        expected = transform(tv_tensors.Mask(torch.from_numpy(regions(photo))[None]))[0].numpy()
        # Places exactly between two pixels may fall to either side.
        assert np.mean(found[..., 0] != expected) < 1e-2
        assert set(np.unique(found)) <= set(np.unique(regions(photo)))


RANDOM = {
    "crop": [fs.RandomResizedCrop(96), fs.RandomHorizontalFlip()],
    "decoded otherwise": [fs.Decode("RGB", scaled=False), fs.RandomResizedCrop(96), fs.RandomVerticalFlip()],
    "warps": [fs.RandomResizedCrop(96), fs.RandomAffine(30, scale=(0.8, 1.2)), fs.RandomPerspective(p=1)],
    "effects between": [fs.ColorJitter(0.5, 0.5), fs.RandomResizedCrop(96), fs.GaussianBlur(3), fs.RandomRotation(20)],
    "chances": [fs.RandomChoice([fs.ColorJitter(0.3), fs.RandomRotation(40)]), fs.RandomResizedCrop(96)],
    "erasing": [fs.RandomResizedCrop(96), fs.RandomErasing(1)],
    "values": [fs.RandomResizedCrop(96), fs.ToDtype(), fs.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD)],
}


@pytest.mark.parametrize("name", RANDOM)
def test_pairs_stay_pairs(packed, name):
    """A copy that follows, effects and all, is the image; a mask is what the same geometry makes of it."""
    batch = load(packed, RANDOM[name])
    image = batch["image"]
    if name == "values":
        mean, std = np.array(fs.IMAGENET_MEAN), np.array(fs.IMAGENET_STD)
        image = np.round((image * std + mean) * 255).astype(np.uint8)
    np.testing.assert_array_equal(batch["same"], image)
    assert set(np.unique(batch["mask"])) <= {0, 3, 6, 9}


@pytest.mark.parametrize("name", ["crop", "decoded otherwise", "warps"])
def test_masks_lie_on_their_image(packed, name):
    """Without effects, brightness says what the mask must be, but at the borders between classes."""
    batch = load(packed, RANDOM[name], fill=0)
    for image, mask in zip(batch["image"], batch["mask"], strict=True):
        gray = np.array(Image.fromarray(image).convert("L")).astype(int)
        agrees = np.abs(gray // 64 * 3 - mask[..., 0]) == 0
        near = np.minimum(gray % 64, 64 - gray % 64) < 14
        mirrored = np.abs(gray // 64 * 3 - mask[:, ::-1, 0]) == 0
        assert np.mean(agrees | near) > 0.93
        assert np.mean(mirrored | near) < np.mean(agrees | near) - 0.02


def test_a_fill_and_a_type_of_its_own(packed):
    steps = [fs.CenterCrop(100), fs.Pad(20, fill=114)]
    batch = load(packed, steps, [fs.ToDtype("uint8", scale=False)], fill=255)
    assert (batch["image"][:, :20] == 114).all()
    assert (batch["mask"][:, :20] == 255).all()
    assert set(np.unique(batch["mask"])) <= {0, 3, 6, 9, 255}
    smooth = load(packed, [fs.Resize((50, 50))], interpolation="bilinear")["mask"]
    assert len(np.unique(smooth)) > 5


def test_the_cache_changes_nothing(packed, tmp_path):
    steps = {
        "image": [fs.Resize((128, 128)), fs.RandomResizedCrop(64)],
        "mask": [fs.Decode("L"), fs.Follow("image")],
    }
    options = {"transforms": steps, "fields": ["image", "mask"]}
    (plain,) = fs.Loader(packed, 5, **options)
    for _ in range(2):
        (cached,) = fs.Loader(packed, 5, cache=tmp_path, **options)
        np.testing.assert_array_equal(cached["mask"], plain["mask"])
        np.testing.assert_array_equal(cached["image"], plain["image"])


def test_images_that_are_no_pair(photos, tmp_path):
    small = png(np.zeros((9, 9), np.uint8))
    fs.pack([{"image": png(photos["cat"]), "mask": small}], tmp_path / "ds")
    steps = {"image": fs.Resize((8, 8)), "mask": [fs.Decode("L"), fs.Follow("image")]}
    with pytest.raises(fs.DecodeError, match=r"row 0.*9 x 9 .*451 x 300"):
        list(fs.Loader(tmp_path / "ds", 1, transforms=steps))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"mask": fs.Follow("mask")}, "follows none"),
        ({"mask": fs.Follow("same"), "same": fs.Follow("image")}, "follows none"),
        ({"mask": fs.Follow("photo")}, "photo"),
        ({"mask": [fs.Resize(9), fs.Follow("image")]}, "only Decode may come before"),
        ({"mask": [fs.Follow("image"), fs.Resize(9)]}, "ToDtype and Normalize after"),
        ({"mask": [fs.Decode("L"), fs.Follow("image", fill=(1, 2, 3))]}, "fill"),
        ({"mask": fs.RandomApply([fs.Follow("image")])}, "only loaders"),
    ],
)
def test_lists_that_do_not_fit(packed, steps, message):
    with pytest.raises((ValueError, KeyError), match=message):
        fs.Loader(packed, 1, transforms={"image": fs.Resize((8, 8)), "same": fs.Resize((8, 8)), **steps})


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("optimize", [False, True])
def test_numbers_in_a_palette(photos, bits, optimize, tmp_path):
    """As Pascal VOC and many others store classes; what PIL shows of them is compared."""
    found = []
    for photo in photos.values():
        picture = Image.fromarray(photo).quantize(min(2**bits, 200))
        stream = io.BytesIO()
        picture.save(stream, "png", bits=bits, optimize=optimize, transparency=0)
        found.append((stream.getvalue(), np.array(picture)))
    fs.pack(
        [{"image": png(photo), "mask": mask} for photo, (mask, _) in zip(photos.values(), found, strict=True)],
        tmp_path / "ds",
    )
    steps = {"image": fs.CenterCrop(200), "mask": [fs.Decode("P"), fs.Follow("image")]}
    (batch,) = fs.Loader(tmp_path / "ds", 5, transforms=steps)
    for ours, (_, numbers) in zip(batch["mask"], found, strict=True):
        top, left = (round((side - 200) / 2) for side in numbers.shape)
        np.testing.assert_array_equal(ours[..., 0], numbers[top : top + 200, left : left + 200])


def test_no_numbers(photos, tmp_path):
    gray = np.array(Image.fromarray(photos["cat"]).convert("L"))
    fs.pack([{"image": png(gray)}, {"image": png(photos["cat"])}], tmp_path / "ds")
    steps = {"image": [fs.Decode("P"), fs.CenterCrop(50)]}
    batches = iter(fs.Loader(tmp_path / "ds", 1, transforms=steps))
    assert (next(batches)["image"][0, ..., 0] == gray[125:175, 200:250]).mean() > 0.99
    with pytest.raises(fs.DecodeError, match=r"row 1.*colours without a palette"):
        next(batches)
    with pytest.raises(ValueError, match="uint16"):
        fs.Loader(tmp_path / "ds", 1, transforms={"image": [fs.Decode("P", "uint16"), fs.CenterCrop(50)]})
