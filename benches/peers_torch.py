"""torch `DataLoader`s over the folder: ImageFolder with PIL as in every tutorial, and torchvision v2 on tensors.

Both keep their workers between epochs and put whole batches together in the worker, in the layout of the track, so that
the main process only maps shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from job import EVAL_SIDE, MEAN, RATIO, SCALE, SIDE, STD, Images, Job, Stream


def pil(job: Job) -> Stream:
    """Pillow decodes and resizes, as `ImageFolder` does by default."""
    return _stream(ImageFolder(job.photos, transform=v2.Compose(_steps(job.track))), _stack_pil, job)


def v2_tensors(job: Job) -> Stream:
    """torchvision's own libjpeg-turbo decoder and v2 transforms on uint8 tensors."""
    steps = _steps(job.track)
    if job.track == "float":
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    dataset = ImageFolder(job.photos, transform=v2.Compose(steps), loader=_decode)
    return _stream(dataset, _stack_nchw if job.track == "float" else _stack_nhwc, job)


def _steps(track: str) -> list[Any]:
    flip = v2.RandomHorizontalFlip()
    return {
        "train": [v2.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO, antialias=True), flip],
        "float": [v2.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO, antialias=True), flip],
        "eval": [v2.Resize(EVAL_SIDE, antialias=True), v2.CenterCrop(SIDE)],
        "resize": [v2.Resize((SIDE, SIDE), antialias=True), flip],
    }[track]


def _decode(path: str) -> torch.Tensor:
    image: torch.Tensor = decode_image(path, mode=ImageReadMode.RGB)
    return image


def _stack_pil(samples: list[tuple[Image.Image, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    images = np.stack([np.asarray(image) for image, _ in samples])
    return torch.from_numpy(images), _labels(samples)


def _stack_nhwc(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    # The decoder and the resize keep channels last in memory, so this permutation costs nothing.
    return torch.stack([image.permute(1, 2, 0) for image, _ in samples]), _labels(samples)


def _stack_nchw(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([image for image, _ in samples]), _labels(samples)


def _labels(samples: list[tuple[Any, int]]) -> torch.Tensor:
    return torch.tensor([label for _, label in samples])


def _stream(dataset: ImageFolder, collate: Any, job: Job) -> Stream:
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
                yield images.numpy()

    return stream
