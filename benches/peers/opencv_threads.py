"""simplejpeg and OpenCV on Python threads, a whole batch a task: the best that a page of one's own code does.

Both let go of the interpreter lock. OpenCV's own threads are off: there are as many tasks as cores.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from job import MEAN, SIDE, STD, XRAY_SIDE, Images, Job, Stream, list_files
from peers.windows import window

SCALE = (1 / (255 * np.array(STD, np.float32))).reshape(3, 1, 1)
SHIFT = (-np.array(MEAN, np.float32) / np.array(STD, np.float32)).reshape(3, 1, 1)


def exact(job: Job) -> Stream:
    if job.track == "raw-train":
        return _pixels(job)
    make = {"decode": _decoded, "float": _normalised, "xray": partial(_batch, _letterbox)}
    return _stream(job, make.get(job.track, partial(_batch, partial(_picture, job.track))))


def scaled(job: Job) -> Stream:
    """Decodes at 1/2, 1/4 or 1/8 where the crop is still large enough: faster, and other pixels."""
    return _stream(job, partial(_batch, partial(_picture_scaled, job.track)))


def _pixels(job: Job) -> Stream:
    stored = np.load(Path(job.formats, "pixels.npy"), mmap_mode="r")
    make = partial(_batch, lambda row, out: _crop_into(job.track, stored[row], out))
    return _stream(job, make, list(range(len(stored))))


def _stream(job: Job, make: Callable[[list[Any]], Any], items: list[Any] | None = None) -> Stream:
    cv2.setNumThreads(0)
    items = list_files(job.photos)[0] if items is None else items

    def stream() -> Iterator[Images]:
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(job.workers) as pool:
            for batch in _batches(items, job):
                waiting.append(pool.submit(make, batch))
                if len(waiting) > 2 * job.workers:
                    yield waiting.popleft().result()

    return stream


def _batches(items: list[Any], job: Job) -> Iterator[list[Any]]:
    while True:
        order = random.sample(items, len(items)) if job.shuffle else items
        for start in range(0, len(order) - job.batch + 1, job.batch):
            yield order[start : start + job.batch]


def _batch(picture: Callable[[Any, Images], None], items: list[Any]) -> Images:
    shape = (XRAY_SIDE, XRAY_SIDE) if picture is _letterbox else (SIDE, SIDE, 3)
    out = np.empty((len(items), *shape), np.uint8)
    for item, slot in zip(items, out, strict=True):
        picture(item, slot)
    return out


def _decoded(paths: list[str]) -> list[Images]:
    return [simplejpeg.decode_jpeg(Path(path).read_bytes()) for path in paths]


def _normalised(paths: list[str]) -> Images:
    out = np.empty((len(paths), 3, SIDE, SIDE), np.float32)
    picture = np.empty((SIDE, SIDE, 3), np.uint8)
    for path, slot in zip(paths, out, strict=True):
        _picture("train", path, picture)
        np.multiply(picture.transpose(2, 0, 1), SCALE, out=slot)
        slot += SHIFT
    return out


def _picture(track: str, path: str, out: Images) -> None:
    _crop_into(track, simplejpeg.decode_jpeg(Path(path).read_bytes()), out)


def _picture_scaled(track: str, path: str, out: Images) -> None:
    data = Path(path).read_bytes()
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    crop = window(track, height, width)
    image = simplejpeg.decode_jpeg(data, min_height=-(-height * SIDE // crop.height), min_width=0)
    shrunk = image.shape[0] / height
    top, left, high, wide = (round(value * shrunk) for value in crop)
    _resize_into(image[top : top + high, left : left + max(1, wide)], out)
    _flip(track, out)


def _crop_into(track: str, image: Images, out: Images) -> None:
    top, left, height, width = window(track, *image.shape[:2])
    _resize_into(image[top : top + height, left : left + width], out)
    _flip(track, out)


def _resize_into(image: Images, out: Images) -> None:
    # Averages areas when it shrinks, which is OpenCV's antialiasing; enlarging with it would repeat pixels.
    shrinks = image.shape[0] >= out.shape[0] and image.shape[1] >= out.shape[1]
    cv2.resize(image, out.shape[1::-1], dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _flip(track: str, out: Images) -> None:
    if track not in ("eval", "large-eval") and random.random() < 0.5:
        cv2.flip(out, 1, dst=out)


def _letterbox(path: str, out: Images) -> None:
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    height, width = (round(side * XRAY_SIDE / max(image.shape)) for side in image.shape)
    top, left = (XRAY_SIDE - height) // 2, (XRAY_SIDE - width) // 2
    out[:] = 0
    out[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
