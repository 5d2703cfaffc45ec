"""What a preview draws over images, and below them."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli
from fastshard._cli.preview import _COLOURS, preview

SIDE = 224


def png(pixels, palette=False):
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette(bytes(range(256)) * 3)
    picture.save(stream, "png")
    return stream.getvalue()


def square(left, top, right, bottom, value=1):
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[top:bottom, left:right] = value
    return pixels


def pack(path, *samples, **types):
    gray = np.full((SIDE, SIDE, 3), 100, np.uint8)
    fs.pack([{"image": png(gray), **sample} for sample in samples], path, types=types)
    return fs.open(path)


def drawn(ds):
    """The first tile, and what is below it."""
    pixels = np.asarray(preview(ds, None, 1, [], 0))
    return pixels[4 : 4 + SIDE, 4 : 4 + SIDE].astype(int), pixels[4 + SIDE :]


def mixed(number):
    return (100 + _COLOURS[number].astype(int)) // 2


@pytest.mark.parametrize("palette", [False, True])
def test_masks_lie_over_their_image(palette, tmp_path):
    mask = square(20, 30, 60, 90) + square(100, 30, 150, 90, 3)
    tile, _ = drawn(pack(tmp_path / "ds", {"mask": png(mask, palette)}))
    assert (tile[40, 40] == mixed(0)).all()
    assert (tile[40, 120] == mixed(2)).all()
    assert (tile[mask == 0] == 100).all()


def test_objects_have_colours_of_their_own(tmp_path):
    first, second = [[10, 10, 90, 10, 90, 90, 10, 90]], [[60, 60, 200, 60, 200, 200, 60, 200]]
    boxes = np.array([[10, 10, 90, 90], [60, 60, 200, 200]], np.float32)
    sample = {"boxes": boxes, "segmentation": json.dumps([first, second])}
    tile, below = drawn(pack(tmp_path / "ds", sample, boxes="boxes[xyxy]"))
    assert (tile[30, 30] == mixed(0)).all()
    assert (tile[150, 150] == mixed(1)).all()
    assert (tile[70, 70] == mixed(1)).all()
    assert (tile[10, 40] == (255, 0, 0)).all(), "the outline of the box"
    assert (tile[0] == 100).all()
    assert (below == 255).all(), "JSON is no caption"


def test_masks_that_do_not_fit_are_left_out(tmp_path):
    with pytest.warns(RuntimeWarning, match="masks are left out: .* 9 x 9 "):
        tile, _ = drawn(pack(tmp_path / "ds", {"mask": png(np.ones((9, 9), np.uint8))}))
    assert (tile == 100).all()
    sample = {"boxes": np.ones((1, 4), np.float32), "segmentation": "a text"}
    with pytest.warns(RuntimeWarning, match="masks are left out: .* segmentations: "):
        tile, _ = drawn(pack(tmp_path / "text", sample, boxes="boxes[xyxy]"))
    assert (tile[50:] == 100).all()


def test_captions_stand_below(tmp_path):
    words = "a cat that sits on a wall in the sun"
    short = preview(pack(tmp_path / "short", {"caption": "a cat"}), None, 1, [], 0)
    assert (np.asarray(short)[SIDE + 4 :] < 255).any()
    long = preview(pack(tmp_path / "long", {"caption": 20 * f"{words} "}), None, 1, [], 0)
    assert long.height == short.height + 2 * 18
    none = preview(pack(tmp_path / "none", {"caption": ""}), None, 1, [], 0)
    assert none.height == short.height
    assert (np.asarray(none)[SIDE + 4 :] == 255).all()


def test_several_on_the_command_line(tmp_path):
    samples = [{"caption": text, "mask": png(square(0, 0, 20 * at, 50))} for at, text in enumerate(("a", "bc", ""), 1)]
    pack(tmp_path / "ds", *samples)
    arguments = ["preview", str(tmp_path / "ds"), str(tmp_path / "a.png"), "--transform", "Mosaic(60)"]
    assert CliRunner().invoke(_cli.app, arguments).exit_code == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 124 + 4, 2 * (120 + 18 + 4) + 4)
