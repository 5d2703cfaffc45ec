"""FFCV over its own files: pictures as JPEG, which it encodes anew when it writes them, or as pixels.

Its scratch is the largest picture times the batch times the slots, so large photographs go in few slots.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

from job import EVAL_SIDE, MEAN, RATIO, SCALE, SIDE, STD, Images, Job, Stream


def jpeg(job: Job) -> Stream:
    return _stream(job, "ffcv-jpeg")


def raw(job: Job) -> Stream:
    return _stream(job, "ffcv-raw")


# An epoch costs FFCV tenths of a second by itself, which would be most of one over so few pictures.
EPOCHS_IN_ONE = 32


def _stream(job: Job, name: str) -> Stream:
    path = f"{job.formats}/{name}.beton"
    loader = Loader(
        path,
        indices=np.tile(np.arange(Reader(path).num_samples, dtype=np.uint64), EPOCHS_IN_ONE),
        batch_size=job.batch,
        num_workers=job.workers,
        os_cache=True,
        order=OrderOption.RANDOM if job.shuffle else OrderOption.SEQUENTIAL,
        seed=job.seed,
        drop_last=True,
        batches_ahead=1 if job.track.startswith("large") else 3,
        pipelines={"image": _pipeline(job.track), "label": None},
    )

    def stream() -> Iterator[Images]:
        while True:
            for (images,) in loader:
                yield np.asarray(images)

    return stream


def _pipeline(track: str) -> list[object]:
    if track in ("eval", "large-eval"):
        return [CenterCropRGBImageDecoder((SIDE, SIDE), ratio=SIDE / EVAL_SIDE)]
    steps = [RandomResizedCropRGBImageDecoder((SIDE, SIDE), SCALE, RATIO), RandomHorizontalFlip()]
    if track == "float":
        normalise = NormalizeImage(255 * np.array(MEAN), 255 * np.array(STD), np.float32)
        steps += [normalise, ToTensor(), ToTorchImage(channels_last=False, convert_back_int16=False)]
    return steps
