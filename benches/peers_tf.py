"""TensorFlow's two ways to read a folder: Keras `ImageDataGenerator`, and tf.data tuned by hand.

The tuned pipelines list the files once, map with AUTOTUNE (reading, decoding and resizing in one function a picture),
let results arrive out of order, and hand out batches without a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from job import EVAL_SIDE, RATIO, SCALE, SIDE, Images, Job, Stream

Picture = Callable[[Any], Any]


def keras_bilinear(job: Job) -> Stream:
    """Iterated as its documentation shows, with the filter that the other loaders use."""
    return lambda: (images for images, _ in _flow(job, "bilinear"))


def keras_nearest(job: Job) -> Stream:
    """Its default filter: less work and a worse picture than all the others."""
    return lambda: (images for images, _ in _flow(job, "nearest"))


def keras_threads(job: Job) -> Stream:
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
    try:  # Keras 3 keeps it among its legacy parts; tf.keras may be Keras 2.
        generator = tf.keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True)
    except AttributeError:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        generator = ImageDataGenerator(horizontal_flip=True)
    return generator.flow_from_directory(
        job.photos,
        target_size=(SIDE, SIDE),
        batch_size=job.batch,
        class_mode="sparse",
        shuffle=job.shuffle,
        seed=job.seed,
        interpolation=interpolation,
    )


def fused(job: Job) -> Stream:
    """Decode only the crop, then an antialiased resize, as torchvision's and ours."""
    return _stream({"train": _random_crop, "eval": _central_crop}[job.track], job)


def fused_aliased(job: Job) -> Stream:
    """The same without antialiasing: what hand-tuned pipelines usually do, a cheaper and coarser resize."""
    picture = {"train": _random_crop, "eval": _central_crop}[job.track]
    return _stream(partial(picture, antialias=False), job)


def plain(job: Job) -> Stream:
    """Decode the whole picture, then crop and resize."""
    return _stream({"train": _decode_then_crop, "eval": _resize_then_crop, "resize": _squash}[job.track], job)


def _random_crop(data: Any, antialias: bool = True) -> Any:
    window = _draw_window(tf.image.extract_jpeg_shape(data))
    return _flip(_resize(tf.image.decode_and_crop_jpeg(data, window, channels=3), antialias))


def _decode_then_crop(data: Any) -> Any:
    image = tf.image.decode_jpeg(data, channels=3)
    top, left, height, width = tf.unstack(_draw_window(tf.shape(image)))
    return _flip(_resize(tf.image.crop_to_bounding_box(image, top, left, height, width)))


def _draw_window(shape: Any) -> Any:
    """RandomResizedCrop's window; any overlap counts, or TensorFlow would leave out the smallest crops."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.zeros([1, 0, 4]),
        min_object_covered=0.0,
        aspect_ratio_range=RATIO,
        area_range=SCALE,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def _central_crop(data: Any, antialias: bool = True) -> Any:
    """The window of the source that Resize(256) + CenterCrop(224) shows, to the nearest pixel, and nothing else."""
    shape = tf.image.extract_jpeg_shape(data)[:2]
    side = tf.cast(tf.round(tf.cast(tf.reduce_min(shape), tf.float32) * (SIDE / EVAL_SIDE)), tf.int32)
    window = tf.concat([(shape - side) // 2, [side, side]], axis=0)
    return _to_uint8(_resize(tf.image.decode_and_crop_jpeg(data, window, channels=3), antialias))


def _resize_then_crop(data: Any) -> Any:
    image = tf.image.decode_jpeg(data, channels=3)
    shape = tf.shape(image)[:2]
    size = shape * EVAL_SIDE // tf.reduce_min(shape)
    top, left = tf.unstack((size - SIDE) // 2)
    resized = tf.image.resize(image, size, antialias=True)
    return _to_uint8(tf.image.crop_to_bounding_box(resized, top, left, SIDE, SIDE))


def _squash(data: Any) -> Any:
    return _flip(_resize(tf.image.decode_jpeg(data, channels=3)))


def _resize(image: Any, antialias: bool = True) -> Any:
    return tf.image.resize(image, [SIDE, SIDE], antialias=antialias)


def _flip(image: Any) -> Any:
    return tf.image.random_flip_left_right(_to_uint8(image))


def _to_uint8(image: Any) -> Any:
    # Interpolation stays within 0-255, and a cast of a half more is cheaper than tf.round.
    return tf.cast(image + 0.5, tf.uint8)


def _stream(picture: Picture, job: Job) -> Stream:
    dataset = _dataset(picture, job)

    def stream() -> Iterator[Images]:
        for images, _ in dataset.as_numpy_iterator():
            yield images

    return stream


def _dataset(picture: Picture, job: Job) -> Any:
    files = tf.data.Dataset.from_tensor_slices(_list_files(job.photos))
    if job.shuffle:
        files = files.shuffle(len(files), seed=job.seed)
    batches = (
        files.repeat()
        .map(lambda path, label: (picture(tf.io.read_file(path)), label), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(job.batch, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    options = tf.data.Options()
    options.deterministic = False
    return batches.with_options(options)


def _list_files(folder: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    classes = sorted(entry for entry in Path(folder).iterdir() if entry.is_dir())
    files = [(str(path), label) for label, name in enumerate(classes) for path in sorted(name.iterdir())]
    return [path for path, _ in files], np.array([label for _, label in files], dtype=np.int64)
