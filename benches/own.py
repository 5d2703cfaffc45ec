"""fastshard: the bare loader and its two framework adapters."""

from __future__ import annotations

from collections.abc import Iterator

import fastshard as fs
from job import EVAL_SIDE, MEAN, RATIO, SCALE, SIDE, STD, Images, Job, Stream


def bare(job: Job) -> Stream:
    loader = build(job)

    def stream() -> Iterator[Images]:
        while True:  # each pass moves on to the next epoch
            for batch in loader:
                yield batch["image"]

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


def transforms(track: str) -> list[fs.Transform]:
    crop: list[fs.Transform] = [fs.RandomResizedCrop(SIDE, scale=SCALE, ratio=RATIO), fs.RandomHorizontalFlip()]
    steps: dict[str, list[fs.Transform]] = {
        "train": crop,
        "eval": [fs.Resize(EVAL_SIDE), fs.CenterCrop(SIDE)],
        "resize": [fs.Resize((SIDE, SIDE)), fs.RandomHorizontalFlip()],
        "float": [*crop, fs.ToDtype(), fs.Normalize(MEAN, STD)],
        "raw": [],
    }
    return steps[track]
