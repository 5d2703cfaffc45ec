"""fastshard: the bare loader and its two framework adapters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import fastshard as fs
from job import EVAL_SIDE, MEAN, RATIO, SCALE, SIDE, STD, Images, Job, Stream


def bare(job: Job) -> Stream:
    loader = build(job)

    def stream() -> Iterator[Images]:
        for epoch in count():
            loader.set_epoch(epoch)
            for batch in loader:
                yield batch["image"]

    return stream


def torch_adapter(job: Job) -> Stream:
    from fastshard.torch import ShardDataset
    from torch.utils.data import DataLoader

    loader = build(job)
    batches = DataLoader(ShardDataset(loader), batch_size=None)

    def stream() -> Iterator[Images]:
        for epoch in count():
            loader.set_epoch(epoch)
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
    return fs.Loader(
        fs.open(job.raw if job.track == "raw" else job.packed),
        batch_size=job.batch,
        shuffle=job.shuffle,
        seed=job.seed,
        drop_last=True,
        transforms={"image": steps} if (steps := transforms(job.track)) else None,
        layout="NCHW" if job.track == "float" else "NHWC",
        num_threads=job.workers,
    )


def transforms(track: str) -> list[object]:
    crop = [fs.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO), fs.RandomHorizontalFlip()]
    return {
        "train": crop,
        "eval": [fs.Resize(EVAL_SIDE), fs.CenterCrop(SIDE)],
        "resize": [fs.Resize((SIDE, SIDE)), fs.RandomHorizontalFlip()],
        "float": [*crop, fs.ToDtype(), fs.Normalize(MEAN, STD)],
        "raw": [],
    }[track]
