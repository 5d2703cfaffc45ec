"""DALI without a GPU: its graph on its own threads, decoding only the crop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.auto_aug import rand_augment
from nvidia.dali.pipeline import do_not_convert

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
    list_files,
)


def stream(job: Job) -> Stream:
    files, labels = list_files(job.photos)
    pipe = _pipeline(
        job, files, labels, batch_size=job.batch, num_threads=job.workers, seed=job.seed + 1, prefetch_queue_depth=2
    )

    def batches() -> Iterator[Images]:
        pipe.build()
        while True:
            (images,) = pipe.run()
            yield [np.asarray(image) for image in images] if job.track == "decode" else images.as_array()

    return batches


@pipeline_def(enable_conditionals=True, device_id=None)
def _pipeline(job: Job, files: list[str], labels: list[int]) -> Any:
    data, _ = fn.readers.file(
        files=files,
        labels=labels,
        random_shuffle=job.shuffle,
        initial_fill=len(files) if job.shuffle else 1,
        name="reader",
    )
    # Only RandAugment has branches that depend on the picture; the graph's compiler need not see the rest.
    return _rand_augment(data) if job.track == "randaugment" else do_not_convert(_picture)(job.track, data)


def _picture(track: str, data: Any) -> Any:
    if track == "decode":
        return fn.decoders.image(data, output_type=types.RGB)
    if track in ("eval", "large-eval"):
        return _central_crop(data)
    if track == "xray":
        return _letterbox(data)
    if track == "augment":
        return _augment(data)
    return _normalise(_random_crop(data)) if track == "float" else _flip(_random_crop(data))


def _random_crop(data: Any) -> Any:
    crop = fn.decoders.image_random_crop(
        data, output_type=types.RGB, random_area=SCALE, random_aspect_ratio=RATIO, num_attempts=10
    )
    return fn.resize(crop, size=[SIDE, SIDE], interp_type=types.INTERP_LINEAR, antialias=True)


def _flip(images: Any) -> Any:
    return fn.flip(images, horizontal=fn.random.coin_flip())


def _normalise(images: Any) -> Any:
    return fn.crop_mirror_normalize(
        images,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
        mirror=fn.random.coin_flip(),
    )


def _central_crop(data: Any) -> Any:
    images = fn.decoders.image(data, output_type=types.RGB)
    resized = fn.resize(images, resize_shorter=EVAL_SIDE, interp_type=types.INTERP_LINEAR, antialias=True)
    return fn.crop(resized, crop=[SIDE, SIDE])


def _letterbox(data: Any) -> Any:
    images = fn.decoders.image(data, output_type=types.GRAY)
    fitted = fn.resize(images, size=[XRAY_SIDE, XRAY_SIDE], mode="not_larger", antialias=True)
    return fn.crop(fitted, crop=[XRAY_SIDE, XRAY_SIDE], out_of_bounds_policy="pad")


def _augment(data: Any) -> Any:
    images = fn.resize(fn.decoders.image(data, output_type=types.RGB), size=[SIDE, SIDE], antialias=True)
    angle = fn.random.uniform(range=[-360 * ROTATION, 360 * ROTATION])
    centre = [SIDE / 2, SIDE / 2]
    matrix = fn.transforms.combine(
        fn.transforms.shear(angles=fn.random.uniform(range=[-SHEAR, SHEAR], shape=[2]), center=centre),
        fn.transforms.scale(scale=fn.random.uniform(range=[1 - ZOOM, 1 + ZOOM], shape=[2]), center=centre),
        fn.transforms.rotation(angle=angle, center=centre),
    )
    flips = {"horizontal": fn.random.coin_flip(), "vertical": fn.random.coin_flip()}
    warped = fn.warp_affine(fn.flip(images, **flips), matrix=matrix, fill_value=0)
    return fn.brightness_contrast(warped, contrast=fn.random.uniform(range=[1 - CONTRAST, 1 + CONTRAST]))


def _rand_augment(data: Any) -> Any:
    images = _flip(_random_crop(data))
    return rand_augment.rand_augment(images, n=NUM_OPS, m=MAGNITUDE, num_magnitude_bins=31, shape=[SIDE, SIDE])
