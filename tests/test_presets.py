"""Presets after other libraries: what they are made of."""

import pytest

import fastshard as fs

FLIPS = [fs.RandomHorizontalFlip(), fs.RandomVerticalFlip()]


def test_keras_layers():
    warp = fs.RandomAffine((-162, 162), scale=(1 / 1.1, 1 / 0.9), interpolation="bilinear", padding_mode="symmetric")
    assert fs.presets.keras_augment(rotation=0.45, zoom=0.1) == [*FLIPS, warp]
    (turn,) = fs.presets.keras_augment(flip=None, rotation=(0, 0.25), fill_mode="constant", fill_value=7)
    assert turn == fs.RandomAffine((-90, 0), interpolation="bilinear", fill=7)
    assert fs.presets.keras_augment(flip="vertical") == FLIPS[1:]


def test_keras_contrast():
    *geometry, contrast = fs.presets.keras_augment(rotation=0.45, contrast=0.2, zoom=0.1)
    assert geometry == fs.presets.keras_augment(rotation=0.45, zoom=0.1)
    assert contrast == fs.ColorJitter(contrast=0.2)


def test_keras_shear():
    (shear,) = fs.presets.keras_augment(flip=None, shear=1.0)
    assert shear == fs.RandomAffine(0, shear=(-45, 45, -45, 45), interpolation="bilinear", padding_mode="symmetric")


def test_everything_at_once_is_one_resampling():
    steps = fs.presets.keras_augment(rotation=0.45, contrast=0.2, zoom=0.1, shear=0.1)
    assert [type(step) for step in steps] == [*map(type, FLIPS), fs.RandomAffine, fs.ColorJitter]


def test_image_data_generator():
    found = fs.presets.image_data_generator(
        zoom_range=0.1, rotation_range=45, shear_range=0.1, horizontal_flip=True, vertical_flip=True
    )
    warp = fs.RandomAffine(45, None, (1 / 1.1, 1 / 0.9), 0.1, "bilinear", padding_mode="edge")
    assert found == [*FLIPS, warp]
    (shift,) = fs.presets.image_data_generator(width_shift_range=0.2, zoom_range=(0.5, 1), fill_mode="reflect")
    assert shift == fs.RandomAffine(0, (0.2, 0), (1, 2), interpolation="bilinear", padding_mode="symmetric")
    assert fs.presets.image_data_generator() == []


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fs.presets.keras_augment(flip="both"), "flip='both': expected one of"),
        (lambda: fs.presets.keras_augment(rotation=2), "rotation=2"),
        (lambda: fs.presets.keras_augment(zoom=(-1, 0)), "zoom from 0 to 1 of the size: expected more than 0"),
        (lambda: fs.presets.keras_augment(zoom=0.1, fill_mode="wrap"), "fill_mode='wrap': expected one of"),
        (lambda: fs.presets.image_data_generator(zoom_range=(1, 2, 3)), "zoom_range"),
    ],
)
def test_impossible_options_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
