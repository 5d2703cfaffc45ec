"""tf.data tuned by hand.

The pipelines list the files once, map with AUTOTUNE (reading, decoding and resizing in one function a picture),
let results arrive out of order, and hand out batches without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import tensorflow as tf

from job import EVAL_SIDE, MEAN, RATIO, SCALE, SIDE, STD, XRAY_SIDE, Images, Job, Stream, list_files

Picture = Callable[[Any], Any]


def fused(job: Job) -> Stream:
    """Decode only the crop, then an antialiased resize, as torchvision's and ours."""
    if job.track == "decode":
        return _decoded(job)
    return _stream(_letterbox if job.track == "xray" else _fused(job.track, antialias=True), job)


def fused_aliased(job: Job) -> Stream:
    """The same without antialiasing: what hand-tuned pipelines usually do, a cheaper and coarser resize."""
    return _stream(_fused(job.track, antialias=False), job)


def plain(job: Job) -> Stream:
    """Decode the whole picture, then crop and resize."""
    pictures = {
        "train": _decode_then_crop,
        "eval": _resize_then_crop,
        "large-eval": _resize_then_crop,
        "resize": _squash,
    }
    return _stream(pictures[job.track], job)


def _decoded(job: Job) -> Stream:
    """Pictures of their own sizes, one at a time, put into lists."""
    pictures = _pictures(lambda data: tf.image.decode_jpeg(data, channels=3), job).prefetch(2 * job.batch)

    def stream() -> Iterator[Any]:
        each = pictures.as_numpy_iterator()
        while True:
            yield [image for image, _ in islice(each, job.batch)]

    return stream


def _fused(track: str, antialias: bool) -> Picture:
    picture = {"eval": _central_crop, "large-eval": _central_crop, "float": _normalised_crop}.get(track, _random_crop)
    return partial(picture, antialias=antialias)


def _random_crop(data: Any, antialias: bool = True) -> Any:
    window = _draw_window(tf.image.extract_jpeg_shape(data))
    return _flip(_resize(tf.image.decode_and_crop_jpeg(data, window, channels=3), antialias))


def _normalised_crop(data: Any, antialias: bool = True) -> Any:
    scaled = tf.cast(_random_crop(data, antialias), tf.float32) / 255.0
    return tf.transpose((scaled - MEAN) / STD, [2, 0, 1])


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


def _letterbox(data: Any) -> Any:
    image = tf.image.decode_png(data, channels=1)
    return _to_uint8(tf.image.resize_with_pad(image, XRAY_SIDE, XRAY_SIDE, antialias=True))


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
    return _pictures(picture, job).batch(job.batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _pictures(picture: Picture, job: Job) -> Any:
    files = tf.data.Dataset.from_tensor_slices(list_files(job.photos))
    if job.shuffle:
        files = files.shuffle(len(files), seed=job.seed)
    options = tf.data.Options()
    options.deterministic = False
    pictures = files.repeat().map(
        lambda path, label: (picture(tf.io.read_file(path)), label), num_parallel_calls=tf.data.AUTOTUNE
    )
    return pictures.with_options(options)
