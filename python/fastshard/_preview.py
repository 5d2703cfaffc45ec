"""A grid of samples as a picture, drawn from the batches that training would get."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ._audio import AudioTransform, Mono
from ._boxes import ConvertBoundingBoxFormat
from ._dataset import Dataset, Field
from ._loader import Loader
from ._transforms import ResizePad, Transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["preview"]

_MARGIN, _TEXT_HEIGHT, _FONT_SIZE = 4, 18, 13
_WAVE_HEIGHT, _WAVE_WIDTH = 112, 224
_MOST_CHANNELS = 8  # more rows than that are a spectrogram's


def preview(
    dataset: Dataset, field: str | None, count: int, steps: Sequence[Transform | AudioTransform], seed: int
) -> Image.Image:
    """``count`` random samples with their labels and boxes; without ``steps`` encoded images are fitted into 224 x 224.

    Floating-point images are stretched from their smallest to their largest value. Audio is drawn as a waveform a
    channel, without ``steps`` all of it as one channel, and with ``LogMel`` as a spectrogram. ``field`` is by default
    the first of images or audio.
    """
    shown = _shown(dataset, field)
    field = shown.name
    defaults: dict[str, list[Transform | AudioTransform]] = {"image": [ResizePad(224)], "audio": [Mono()]}
    chosen = list(steps) or defaults.get(shown.type, [])
    labels = _labels(dataset)
    boxes = [item for item in dataset.fields if item.type == "boxes" and item.of == field]
    transforms: dict[str, Any] = {item.name: ConvertBoundingBoxFormat("xyxy") for item in boxes}
    loader = Loader(
        dataset,
        batch_size=min(count, len(dataset)),
        shuffle=True,
        seed=seed,
        transforms={**({field: chosen} if chosen else {}), **transforms},
        fields=[field, *(item.name for item in [*boxes, *labels])],
    )
    with loader.iterate() as batches:
        batch = next(batches)
    if shown.type == "audio":
        tiles = [_sound(sound) for sound in _sounds(batch, field)]
    else:
        tiles = [_pixels(image) for image in batch[field]]
    for item in boxes:
        tiles = [_outlined(tile, _of_row(batch, item, i)) for i, tile in enumerate(tiles)]
    captions = [", ".join(_caption(item, _of_row(batch, item, i)) for item in labels) for i in range(len(tiles))]
    return _grid(tiles, captions)


def _shown(dataset: Dataset, name: str | None) -> Field:
    fields = dataset.fields if name is None else [dataset.field(name)]
    shown = next((field for field in fields if field.is_image or field.type == "audio"), None)
    if shown is None:
        listed = ", ".join(map(str, fields))
        raise ValueError(f"field={name!r}: expected a field of images or audio, there is {listed}")
    return shown


def _labels(dataset: Dataset) -> list[Field]:
    """What captions are made of: all labels of images, and the first that boxes have."""
    named = [item for item in dataset.fields if item.class_names is not None or item.name == "label"]
    return [item for item in named if not item.is_list] + [item for item in named if item.is_list][:1]


def _of_row(batch: Mapping[str, Any], field: Field, row: int) -> Any:
    if not field.is_list:
        return batch[field.name][row]
    start, end = batch[f"{field.name}_offsets"][row : row + 2]
    return batch[field.name][start:end]


def _outlined(image: NDArray[np.uint8], boxes: NDArray[Any]) -> NDArray[np.uint8]:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline="red")
    return np.asarray(canvas)


def _sounds(batch: Mapping[str, Any], field: str) -> list[NDArray[np.float32]]:
    """Each sample's array, ``[channels, frames]`` or ``[n_mels, time]``."""
    offsets = batch.get(f"{field}_offsets")
    sounds = list(batch[field]) if offsets is None else np.split(batch[field], offsets[1:-1])
    return [sound if sound.ndim > 1 else sound[None] for sound in sounds]


def _sound(sound: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A spectrogram as pixels, low frequencies at the bottom, or waveforms below each other."""
    if sound.ndim == 3:
        sound = sound[0]
    if len(sound) > _MOST_CHANNELS:
        image = Image.fromarray(_pixels(sound[::-1, :, None])).resize((_WAVE_WIDTH, _WAVE_HEIGHT))
        return np.asarray(image)
    return np.concatenate([_wave(channel) for channel in sound])


def _wave(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    """From the lowest to the highest sample of each column of pixels, on a scale from -1 to 1."""
    image = Image.new("RGB", (_WAVE_WIDTH, _WAVE_HEIGHT), "#f4f4f4")
    draw = ImageDraw.Draw(image)
    middle = _WAVE_HEIGHT // 2
    draw.line((0, middle, _WAVE_WIDTH, middle), fill="#cccccc")
    bounds = np.linspace(0, len(samples), _WAVE_WIDTH + 1).astype(int)
    for x in range(_WAVE_WIDTH):
        part = samples[bounds[x] : max(bounds[x] + 1, bounds[x + 1])]
        if len(part):
            low, high = (middle * (1 - float(np.clip(edge, -1, 1))) for edge in (part.min(), part.max()))
            draw.line((x, low, x, high), fill="#1f5fa8")
    return np.asarray(image)


def _pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint16:
        image = image // 257
    elif image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = (image.astype(np.float32) - low) * (255 / max(high - low, 1e-9))
    return np.repeat(image, 3 // image.shape[2], axis=2).astype(np.uint8)


def _caption(field: Field, value: Any) -> str:
    names = field.class_names
    if names is None:
        return str(value)
    if field.is_list:
        counts = np.bincount(value, minlength=len(names))
        listed = [
            name + (f" x{count}" if count > 1 else "") for name, count in zip(names, counts, strict=True) if count
        ]
        return ", ".join(listed) or "none"
    if np.ndim(value):
        return ", ".join(name for name, is_set in zip(names, value, strict=True) if is_set) or "none"
    return names[int(value)]


def _grid(tiles: list[NDArray[np.uint8]], captions: list[str]) -> Image.Image:
    height, width = tiles[0].shape[:2]
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    cell_width, cell_height = width + _MARGIN, height + _TEXT_HEIGHT + _MARGIN
    canvas = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = _MARGIN + i % columns * cell_width, _MARGIN + i // columns * cell_height
        canvas.paste(Image.fromarray(tile), (left, top))
        draw.text((left, top + height), _shortened(caption, draw, font, width), fill="black", font=font)
    return canvas


def _shortened(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
