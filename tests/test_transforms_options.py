"""Options: what is accepted, what is refused and named, and what reaches the native core."""

import dataclasses
import inspect
import json
import pickle

import pytest

import fastshard as fs
from fastshard._transforms.image import to_json, transform_list
from fastshard._transforms.parse import parse_transform

# The arguments of torchvision v2's transforms of the same name, which ours must take with the same defaults.
SAME_AS_TORCHVISION = [
    "CenterCrop",
    "Grayscale",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
]


@pytest.mark.parametrize("name", SAME_AS_TORCHVISION)
def test_arguments_are_torchvisions(name):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    theirs = inspect.signature(getattr(v2, name)).parameters
    for argument, ours in inspect.signature(getattr(fs, name)).parameters.items():
        default = theirs[argument].default
        assert ours.default == getattr(default, "value", default)


@pytest.mark.parametrize(
    ("transform", "spec"),
    [
        (
            fs.Decode("L", exif_orientation=True, max_pixels=10, scaled=False),
            {
                "op": "decode",
                "mode": "gray",
                "dtype": "uint8",
                "exif_orientation": True,
                "max_pixels": 10,
                "scaled": False,
            },
        ),
        (
            fs.Resize(256),
            {"op": "resize", "size": [256], "max_size": None, "interpolation": "bilinear", "antialias": True},
        ),
        (
            fs.Resize((10, 20), "lanczos", antialias=False),
            {"op": "resize", "size": [10, 20], "max_size": None, "interpolation": "lanczos", "antialias": False},
        ),
        (
            fs.ResizePad(8, fill=(1, 2, 3)),
            {"op": "resize_pad", "size": [8, 8], "fill": [1, 2, 3], "interpolation": "bilinear"},
        ),
        (fs.Pad(1), {"op": "pad", "padding": [1, 1, 1, 1], "fill": [0]}),
        (fs.Pad((1, 2)), {"op": "pad", "padding": [1, 2, 1, 2], "fill": [0]}),
        (fs.Pad((1, 2, 3, 4), fill=9), {"op": "pad", "padding": [1, 2, 3, 4], "fill": [9]}),
        (fs.CenterCrop(5), {"op": "center_crop", "size": [5, 5]}),
        (fs.RandomCrop((5, 6)), {"op": "random_crop", "size": [5, 6]}),
        (
            fs.RandomResizedCrop(5, scale=[0.5, 1]),
            {
                "op": "random_resized_crop",
                "size": [5, 5],
                "scale": [0.5, 1.0],
                "ratio": [3 / 4, 4 / 3],
                "interpolation": "bilinear",
                "antialias": True,
            },
        ),
        (fs.RandomHorizontalFlip(), {"op": "random_horizontal_flip", "p": 0.5}),
        (fs.RandomVerticalFlip(1), {"op": "random_vertical_flip", "p": 1.0}),
        (fs.Grayscale(3), {"op": "grayscale", "num_output_channels": 3}),
        (fs.ToDtype(), {"op": "to_dtype", "dtype": "float32", "scale": True}),
        (fs.Normalize.mobilenet(), {"op": "normalize", "mean": [0.5] * 3, "std": [0.5] * 3}),
    ],
)
def test_what_the_core_receives(transform, spec):
    assert json.loads(to_json([transform])) == [spec]
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize(
    ("make", "error", "named"),
    [
        (lambda: fs.Resize(0), ValueError, "size=0: expected an integer of at least 1"),
        (lambda: fs.Resize("256"), TypeError, "'256'"),
        (lambda: fs.Resize(True), TypeError, "size=True"),
        (lambda: fs.Resize((1, 2, 3)), ValueError, r"size=\(1, 2, 3\)"),
        (lambda: fs.Resize((1, 2), max_size=5), ValueError, "max_size=5"),
        (lambda: fs.Resize(10, max_size=5), ValueError, "max_size=5"),
        (lambda: fs.Resize(1, "cubic"), ValueError, "interpolation='cubic': expected one of 'nearest'"),
        (lambda: fs.Resize(1, antialias=1), TypeError, "antialias=1"),
        (lambda: fs.ResizePad(4, fill=(1, 2)), ValueError, r"fill=\(1, 2\)"),
        (lambda: fs.Pad((1, 2, 3)), ValueError, r"padding=\(1, 2, 3\)"),
        (lambda: fs.Pad(-1), ValueError, "padding=-1"),
        (lambda: fs.CenterCrop(2.5), TypeError, "size=2.5"),
        (lambda: fs.RandomResizedCrop(5, scale=(0.5, 0.1)), ValueError, r"scale=\(0.5, 0.1\)"),
        (lambda: fs.RandomResizedCrop(5, scale=(0.5, 2)), ValueError, "<= 1"),
        (lambda: fs.RandomResizedCrop(5, ratio=(0, 1)), ValueError, "ratio"),
        (lambda: fs.RandomHorizontalFlip(1.5), ValueError, "p=1.5: expected a number from 0 to 1"),
        (lambda: fs.RandomHorizontalFlip("x"), TypeError, "'x'"),
        (lambda: fs.Grayscale(2), ValueError, "num_output_channels=2"),
        (lambda: fs.Decode("CMYK"), ValueError, "mode='CMYK'"),
        (lambda: fs.Decode(scaled=2), TypeError, "scaled=2"),
        (lambda: fs.ToDtype("float64"), ValueError, "dtype='float64'"),
        (lambda: fs.Normalize((0.5, 0.5), (1, 1)), ValueError, "mean"),
        (lambda: fs.Normalize(0.5, 0), ValueError, "std=0"),
        (lambda: fs.Normalize(float("nan"), 1), ValueError, "mean=nan"),
    ],
)
def test_impossible_options_are_named(make, error, named):
    with pytest.raises(error, match=named):
        make()


def test_transforms_are_frozen_values():
    assert fs.Resize(4) == fs.Resize([4])
    assert hash(fs.Pad(1)) == hash(fs.Pad((1, 1)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fs.Resize(4).size = 5


def test_one_transform_or_a_list():
    assert transform_list("x", fs.Resize(4)) == transform_list("x", (fs.Resize(4),)) == [fs.Resize(4)]
    with pytest.raises(TypeError, match="with parentheses"):
        transform_list("x", [fs.Grayscale])
    with pytest.raises(TypeError, match="'Resize'"):
        transform_list("x", "Resize")


@pytest.mark.parametrize(
    ("text", "transform"),
    [
        ("Resize(256)", fs.Resize(256)),
        (" RandomResizedCrop((224, 192), scale=(0.5, 1.0)) ", fs.RandomResizedCrop((224, 192), scale=(0.5, 1.0))),
        ("RandomHorizontalFlip", fs.RandomHorizontalFlip()),
        ("Normalize(IMAGENET_MEAN, IMAGENET_STD)", fs.Normalize.imagenet()),
    ],
)
def test_transforms_as_text(text, transform):
    assert parse_transform(text) == transform


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Resize(",
        "Transform()",
        "__import__('os').system('true')",
        "Resize(__import__('os').getpid())",
        "Resize(*[1])",
        "Resize(**{'size': 1})",
        "Resize(1).op",
        "Resize(0)",
        "Resize(1, 2, 3, 4, 5)",
        "(lambda: 0)()",
    ],
)
def test_text_that_is_no_transform_is_refused(text):
    with pytest.raises(ValueError, match="transform "):
        parse_transform(text)
