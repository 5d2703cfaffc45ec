"""torch `DataLoader`s over the folder: ImageFolder with PIL as in every tutorial, and torchvision v2 on tensors.

All keep their workers between epochs and put whole batches together in the worker, in the layout of the track, so that
the main process only maps shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode, v2

from job import (
    CONTRAST,
    EVAL_SIDE,
    MAGNITUDE,
    MEAN,
    NUM_OPS,
    RATIO,
    ROTATION,
    SCALE,
    SHEAR,
    SIDE,
    STD,
    XRAY_SIDE,
    ZOOM,
    Images,
    Job,
    Stream,
)


def pil(job: Job) -> Stream:
    """Pillow decodes and resizes, as `ImageFolder` does by default."""
    mode = "L" if job.track == "xray" else "RGB"
    dataset = ImageFolder(job.photos, v2.Compose(steps(job.track)), loader=partial(_open, mode))
    return _stream(dataset, partial(collate, pil_to_tensor, job.track), job)


def pil_draft(job: Job) -> Stream:
    """Pillow told that a smaller picture will do: it decodes at 1/2, 1/4 or 1/8."""
    dataset = ImageFolder(job.photos, v2.Compose(steps(job.track)), loader=_open_draft)
    return _stream(dataset, partial(collate, pil_to_tensor, job.track), job)


def v2_tensors(job: Job) -> Stream:
    """torchvision's own libjpeg-turbo decoder and v2 transforms on uint8 tensors."""
    if job.track == "raw-train":
        return _pixels(job)
    mode = ImageReadMode.GRAY if job.track == "xray" else ImageReadMode.RGB
    return _tensors(job, partial(decode_image, mode=mode))


def torchcodec(job: Job) -> Stream:
    """torchcodec decodes; the rest is torchvision v2's."""
    from torchcodec import decoders

    # Files of another kind than JPEG need the general function.
    return _tensors(job, partial(decoders.decode_image, mode="GRAY") if job.track == "xray" else decoders.decode_jpeg)


def _pixels(job: Job) -> Stream:
    dataset = _Pixels(f"{job.formats}/pixels.npy", v2.Compose(steps(job.track)))
    return _stream(dataset, partial(collate, _channels_last, job.track), job)


def _tensors(job: Job, decode: Callable[[str], torch.Tensor]) -> Stream:
    chosen = steps(job.track)
    if job.track == "float":
        chosen += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    dataset = ImageFolder(job.photos, v2.Compose(chosen), loader=decode)
    as_they_are = job.track == "float"
    return _stream(dataset, partial(collate, _unchanged if as_they_are else _channels_last, job.track), job)


def steps(track: str) -> list[Any]:
    """The track's transforms, for PIL images and tensors alike."""
    crop = [v2.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO, antialias=True), v2.RandomHorizontalFlip()]
    middle = [v2.Resize(EVAL_SIDE, antialias=True), v2.CenterCrop(SIDE)]
    squash = v2.Resize((SIDE, SIDE), antialias=True)
    return {
        "train": crop,
        "float": crop,
        "large": crop,
        "raw-train": crop,
        "randaugment": [*crop, v2.RandAugment(NUM_OPS, MAGNITUDE)],
        "eval": middle,
        "large-eval": middle,
        "resize": [squash, v2.RandomHorizontalFlip()],
        "augment": [squash, *_augment()],
        # A centre crop larger than the picture pads it.
        "xray": [v2.Resize(None, max_size=XRAY_SIDE, antialias=True), v2.CenterCrop(XRAY_SIDE)],
        "decode": [v2.Identity()],
    }[track]


def _augment() -> list[Any]:
    zoom = (1 - ZOOM, 1 + ZOOM)
    return [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomAffine(360 * ROTATION, scale=zoom, shear=SHEAR, interpolation=InterpolationMode.BILINEAR),
        v2.ColorJitter(contrast=CONTRAST),
    ]


class _Pixels(Dataset[tuple[torch.Tensor, int]]):
    """Rows of a memory-mapped array, opened in each worker."""

    def __init__(self, path: str, transform: Any) -> None:
        self.path, self.transform = path, transform
        self.rows: Any = None
        self.count = len(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        if self.rows is None:
            self.rows = np.load(self.path, mmap_mode="c")
        return self.transform(torch.from_numpy(self.rows[row]).permute(2, 0, 1)), 0


def _open(mode: str, path: str) -> Image.Image:
    return Image.open(path).convert(mode)


def _open_draft(path: str) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (EVAL_SIDE, EVAL_SIDE))
    return image.convert("RGB")


def pil_to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def _channels_last(image: torch.Tensor) -> torch.Tensor:
    # The decoder and the resize keep channels last in memory, so this permutation costs nothing.
    return image.permute(1, 2, 0)


def _unchanged(image: torch.Tensor) -> torch.Tensor:
    return image


def collate(convert: Callable[[Any], torch.Tensor], track: str, samples: list[tuple[Any, int]]) -> Any:
    images = [convert(image) for image, _ in samples]
    return (images if track == "decode" else torch.stack(images)), torch.tensor([label for _, label in samples])


def _stream(dataset: Dataset[Any], collate: Any, job: Job) -> Stream:
    batches = DataLoader(
        dataset,
        batch_size=job.batch,
        shuffle=job.shuffle,
        num_workers=job.workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=job.workers > 0,
        generator=torch.Generator().manual_seed(job.seed),
    )

    def stream() -> Iterator[Images]:
        while True:
            for images, _ in batches:
                yield [image.numpy() for image in images] if job.track == "decode" else images.numpy()

    return stream
