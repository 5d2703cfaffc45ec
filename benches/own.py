"""fastshard: the bare loader over each kind of shards, and its two framework adapters."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import fastshard as fs
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


def bare(job: Job) -> Stream:
    return _stream(build(job))


def original(job: Job) -> Stream:
    """The bytes as they came."""
    return _read(job, job.packed)


def original_scaled(job: Job) -> Stream:
    return _read(job, job.packed, scaled=True)


def seekable(job: Job) -> Stream:
    """Re-packed without loss, so that only the needed part of a JPEG is decoded."""
    return _read(job, f"{job.formats}/seekable")


def seekable_scaled(job: Job) -> Stream:
    return _read(job, f"{job.formats}/seekable", scaled=True)


def raw(job: Job) -> Stream:
    return _stream(_loader(job, job.raw, transforms(job.track)))


def cached(job: Job) -> Stream:
    """The same pixels as `bare`, from a cache that `cache warm` has filled."""
    return _stream(_loader(job, job.packed, transforms(job.track), cache=f"{job.formats}/cache"))


def take(job: Job) -> Stream:
    """What NumPy alone needs for a shuffled batch of raw pixels: one `take` into one buffer."""
    pixels = np.load(f"{job.formats}/{job.track}.npy", mmap_mode="r")

    def stream() -> Iterator[Images]:
        random = np.random.default_rng(job.seed)
        out = np.empty((job.batch, *pixels.shape[1:]), np.uint8)
        while True:
            order = random.permutation(len(pixels))
            for start in range(0, len(order) - job.batch + 1, job.batch):
                np.take(pixels, order[start : start + job.batch], axis=0, out=out, mode="clip")
                yield out

    return stream


def torch_adapter(job: Job) -> Stream:
    from torch.utils.data import DataLoader

    from fastshard.torch import ShardDataset

    batches = DataLoader(ShardDataset(build(job)), batch_size=None)

    def stream() -> Iterator[Images]:
        while True:
            for batch in batches:
                yield batch["image"].numpy()

    return stream


def tf_adapter(job: Job) -> Stream:
    from fastshard.tensorflow import dataset

    batches = dataset(build(job)).repeat()

    def stream() -> Iterator[Images]:
        for batch in batches.as_numpy_iterator():
            yield batch["image"]

    return stream


def build(job: Job) -> fs.Loader:
    """The loader of a track, over original JPEG bytes, or over raw pixels for the track "raw"."""
    return _loader(job, job.raw if job.track == "raw" else job.packed, transforms(job.track))


def _read(job: Job, shards: str, scaled: bool = False) -> Stream:
    if job.track == "decode":
        return _decoded(job, fs.open(shards))
    decode = fs.Decode(mode="L" if job.track == "xray" else "RGB", scaled=scaled)
    return _stream(_loader(job, shards, [decode, *transforms(job.track)]))


def _loader(job: Job, shards: str, steps: list[fs.Transform], cache: str = "off") -> fs.Loader:
    return fs.Loader(
        fs.open(shards),
        batch_size=job.batch,
        shuffle=job.shuffle or cache != "off",
        seed=job.seed,
        drop_last=True,
        transforms={"image": steps} if steps else None,
        layout="NCHW" if job.track == "float" else "NHWC",
        num_threads=job.workers,
        cache=cache,
    )


def _stream(loader: fs.Loader) -> Stream:
    def stream() -> Iterator[Images]:
        while True:  # each pass moves on to the next epoch
            for batch in loader:
                yield batch["image"]

    return stream


def _decoded(job: Job, dataset: fs.Dataset) -> Stream:
    """Whole pictures have sizes of their own and no batch: rows of the dataset, on threads."""

    def stream() -> Iterator[Any]:
        with ThreadPoolExecutor(job.workers) as pool:
            while True:
                for rows in np.array_split(np.arange(len(dataset)), max(1, len(dataset) // job.batch)):
                    yield list(pool.map(lambda row: dataset[int(row)]["image"], rows))

    return stream


def transforms(track: str) -> list[fs.Transform]:
    if track in ("train", "large", "raw-train"):
        return [*_crop(), fs.RandomHorizontalFlip()]
    if track in ("eval", "large-eval"):
        return [fs.Resize(EVAL_SIDE), fs.CenterCrop(SIDE)]
    return {
        "cached-train": lambda: [fs.Resize(EVAL_SIDE), *_crop(), fs.RandomHorizontalFlip()],
        "resize": lambda: [fs.Resize((SIDE, SIDE)), fs.RandomHorizontalFlip()],
        "float": lambda: [*_crop(), fs.RandomHorizontalFlip(), fs.ToDtype(), fs.Normalize(MEAN, STD)],
        "raw": list,
        "xray": lambda: [fs.ResizePad(XRAY_SIDE)],
        "augment": _augment,
        "randaugment": lambda: [
            *_crop(),
            fs.RandomHorizontalFlip(),
            fs.RandAugment(NUM_OPS, MAGNITUDE),
        ],
    }[track]()


def _crop() -> list[fs.Transform]:
    return [fs.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO)]


def _augment() -> list[fs.Transform]:
    return [
        fs.Resize((SIDE, SIDE)),
        fs.RandomHorizontalFlip(),
        fs.RandomVerticalFlip(),
        fs.RandomAffine(360 * ROTATION, scale=(1 - ZOOM, 1 + ZOOM), shear=SHEAR, interpolation="bilinear"),
        fs.ColorJitter(contrast=CONTRAST),
    ]
