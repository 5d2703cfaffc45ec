"""A grid of samples as a picture, drawn from the batches that training would get."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastshard._base.escape import printable
from fastshard._dataset import Dataset, Field
from fastshard._fastshard import DecodeError
from fastshard._load.loader import Loader
from fastshard._transforms.audio import AudioTransform, Mono
from fastshard._transforms.boxes import ConvertBoundingBoxFormat, InstanceMasks
from fastshard._transforms.image import Decode, Follow, ImageTransform, ResizePad

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["file_of", "preview"]

_MARGIN, _TEXT_HEIGHT, _FONT_SIZE = 4, 18, 13
_WAVE_HEIGHT, _WAVE_WIDTH = 112, 224
_MOST_CHANNELS = 8  # more rows than that are a spectrogram's
_MOST_LINES = 3
# For classes and objects; far from each other, and begun anew when there are more.
_COLOURS = np.array(
    [
        *((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180)),
        *((70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (170, 110, 40)),
    ],
    np.uint8,
)


def preview(
    dataset: Dataset, field: str | None, count: int, steps: Sequence[ImageTransform | AudioTransform], seed: int
) -> Image.Image:
    """``count`` random samples with their labels; without ``steps`` encoded images are fitted into 224 x 224.

    Boxes are drawn on an image, masks laid over it: image fields that are called so, and the ``segmentation`` of boxes.
    Masks that don't fit their image are left out, with a warning. A text beside an image is its caption.
    Floating-point images are stretched from their smallest to their largest value. Audio is drawn as a waveform a
    channel, without ``steps`` all of it as one channel, and with ``LogMel`` as a spectrogram. ``field`` is by default
    the first of images or audio.
    """
    shown = _shown(dataset, field)
    field = shown.name
    defaults: dict[str, list[ImageTransform | AudioTransform]] = {"image": [ResizePad(224)], "audio": [Mono()]}
    chosen = list(steps) or defaults.get(shown.type, [])
    labels = _labels(dataset)
    boxes = [item for item in dataset.fields if item.type == "boxes" and item.of == field]
    transforms: dict[str, Any] = {item.name: ConvertBoundingBoxFormat("xyxy") for item in boxes}
    if chosen:
        transforms[field] = chosen
    masks = _masks(dataset, shown, boxes)
    texts = [item for item in dataset.fields if item.type == "text" and item.name not in masks]
    names = [field, *(item.name for item in [*boxes, *labels, *texts])]
    options: dict[str, Any] = {"batch_size": min(count, len(dataset)), "shuffle": True, "seed": seed}
    try:
        batch = _first(Loader(dataset, transforms=transforms | masks, fields=[*names, *masks], **options))
    except DecodeError as error:
        # Such as another size, or colours without a palette; what is wrong with images comes up again.
        if not masks:
            raise
        warnings.warn(f"masks are left out: {error}", RuntimeWarning, stacklevel=2)
        masks = {}
        batch = _first(Loader(dataset, transforms=transforms, fields=names, **options))
    if shown.type == "audio":
        tiles = [_sound(sound) for sound in _sounds(batch, field)]
    else:
        tiles = [_pixels(image) for image in batch[field]]
    for name in masks:
        tiles = [_overlaid(tile, _mask_of_row(batch, name, i)) for i, tile in enumerate(tiles)]
    for item in boxes:
        tiles = [_outlined(tile, _of_row(batch, item, i)) for i, tile in enumerate(tiles)]
    caption = next((item for item in texts if not any(_is_json(text) for text in batch[item.name])), None)
    captions = [[_caption(item, _of_row(batch, item, i)) for item in labels] for i in range(len(tiles))]
    if caption is not None:
        captions = [[*said, str(text)] for said, text in zip(captions, batch[caption.name], strict=True)]
    return _grid(tiles, [", ".join(filter(None, said)) for said in captions])


def _first(loader: Loader) -> dict[str, Any]:
    with loader.iterate() as batches:
        return next(batches)


def _masks(dataset: Dataset, shown: Field, boxes: list[Field]) -> dict[str, Any]:
    """The fields that are laid over the image, and the transforms that bring them there."""
    masks: dict[str, Any] = {}
    for item in dataset.fields:
        if item.is_image and item.name != shown.name and "mask" in item.name.lower():
            masks[item.name] = [*([Decode("P")] if item.type == "image" else []), Follow(shown.name)]
        elif item.type == "text" and item.name == "segmentation" and boxes:
            masks[item.name] = InstanceMasks(boxes[0].name)
    return masks


def _is_json(text: str) -> bool:
    return text.startswith(("[", "{"))


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


def _mask_of_row(batch: Mapping[str, Any], name: str, row: int) -> NDArray[np.int64]:
    """0 where nothing is, then a number for each class or object, the last one on top."""
    offsets = batch.get(f"{name}_offsets")
    if offsets is None:
        return np.asarray(batch[name][row, ..., 0], np.int64)
    objects = batch[name][offsets[row] : offsets[row + 1]]
    numbers = np.arange(1, len(objects) + 1)[:, None, None]
    return np.asarray((objects * numbers).max(axis=0, initial=0), np.int64)


def _overlaid(image: NDArray[np.uint8], mask: NDArray[np.int64]) -> NDArray[np.uint8]:
    colours = _COLOURS[(mask - 1) % len(_COLOURS)]
    mixed = (image.astype(np.uint16) + colours) // 2
    return np.where(mask[..., None] > 0, mixed, image).astype(np.uint8)


def _outlined(image: NDArray[np.uint8], boxes: NDArray[Any]) -> NDArray[np.uint8]:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline="red")
    return np.asarray(canvas)


def file_of(picture: Image.Image, suffix: str) -> bytes:
    """A picture as a file of the format that a suffix stands for; ValueError for one of no format."""
    formats = Image.registered_extensions()
    if suffix.lower() not in formats:
        raise ValueError(f"suffix {suffix!r}: expected that of a format for pictures, such as '.png'")
    file = io.BytesIO()
    picture.save(file, formats[suffix.lower()])
    return file.getvalue()


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
    font = ImageFont.load_default(_FONT_SIZE)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    wrapped = [_wrapped(caption, measure, font, width) for caption in captions]
    text_height = _TEXT_HEIGHT * max(map(len, wrapped))
    cell_width, cell_height = width + _MARGIN, height + text_height + _MARGIN
    canvas = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (tile, lines) in enumerate(zip(tiles, wrapped, strict=True)):
        left, top = _MARGIN + i % columns * cell_width, _MARGIN + i // columns * cell_height
        canvas.paste(Image.fromarray(tile), (left, top))
        for number, line in enumerate(lines):
            draw.text((left, top + height + number * _TEXT_HEIGHT), line, fill="black", font=font)
    return canvas


def _wrapped(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> list[str]:
    """Lines that fit; at most three, the last of which is shortened."""
    words = [printable(word) for word in text[: 40 * _MOST_LINES * _FONT_SIZE].split()]
    lines = [""]
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < _MOST_LINES:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[number:]])
            break
    return [_shortened(line, draw, font, width) for line in lines]


def _shortened(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
