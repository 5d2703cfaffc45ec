"""Keras' two ways to augment: `ImageDataGenerator` over the folder, and layers over a tf.data set cached in RAM."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from job import CONTRAST, MAGNITUDE, NUM_OPS, ROTATION, SHEAR, SIDE, ZOOM, Images, Job, Stream


def bilinear(job: Job) -> Stream:
    """Iterated as its documentation shows, with the filter that the other loaders use."""
    return lambda: (images for images, _ in _flow(job, "bilinear"))


def nearest(job: Job) -> Stream:
    """Its default filter: less work and a worse picture than all the others."""
    return lambda: (images for images, _ in _flow(job, "nearest"))


def threads(job: Job) -> Stream:
    """Whole batches on a thread each, which Keras itself only does when told to."""
    flow = _flow(job, "bilinear")

    def stream() -> Iterator[Images]:
        with ThreadPoolExecutor(job.workers) as pool:
            waiting: deque[Any] = deque()
            while True:
                flow._set_index_array()
                for index in range(len(flow)):
                    waiting.append(pool.submit(flow.__getitem__, index))
                    if len(waiting) > 2 * job.workers:
                        yield waiting.popleft().result()[0]

    return stream


def _flow(job: Job, interpolation: str) -> Any:
    return _generator(job.track).flow_from_directory(
        job.photos,
        target_size=(SIDE, SIDE),
        batch_size=job.batch,
        class_mode="sparse",
        shuffle=job.shuffle,
        seed=job.seed,
        interpolation=interpolation,
    )


def _generator(track: str) -> Any:
    options: dict[str, Any] = {"horizontal_flip": True}
    if track == "augment":  # it has no contrast
        options |= {"vertical_flip": True, "rotation_range": 360 * ROTATION, "zoom_range": ZOOM, "shear_range": SHEAR}
    try:  # Keras 3 keeps it among its legacy parts; tf.keras may be Keras 2.
        return tf.keras.preprocessing.image.ImageDataGenerator(**options)
    except AttributeError:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        return ImageDataGenerator(**options)


def layers(job: Job) -> Stream:
    """Whole batches through the layers, inside tf.data and as parallel as it likes; nothing is decoded."""
    import keras

    augment = keras.Sequential(_layers(job.track))
    pixels = np.load(f"{job.formats}/pixels.npy")
    batches = (
        tf.data.Dataset.from_tensor_slices(pixels)
        .shuffle(len(pixels), seed=job.seed)
        .repeat()
        .batch(job.batch, drop_remainder=True)
        .map(lambda images: augment(images, training=True), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )

    def stream() -> Iterator[Images]:
        yield from batches.as_numpy_iterator()

    return stream


def _layers(track: str) -> list[Any]:
    from keras import layers as library

    if track == "randaugment":
        return [library.RandAugment((0, 255), num_ops=NUM_OPS, factor=MAGNITUDE / 30)]
    return [
        library.RandomFlip("horizontal_and_vertical"),
        library.RandomRotation(ROTATION),
        library.RandomContrast(CONTRAST),
        library.RandomZoom(ZOOM),
    ]
