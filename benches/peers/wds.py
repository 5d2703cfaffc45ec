"""webdataset with PIL and torchvision v2, as its documentation reads: tar files, a torch worker a core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import webdataset
from torchvision.transforms import v2

from job import Images, Job, Stream
from peers.pytorch import collate, pil_to_tensor, steps


def stream(job: Job) -> Stream:
    tars = sorted(str(path) for path in Path(job.formats, "tar").glob("*.tar"))
    samples = webdataset.WebDataset(tars, resampled=job.shuffle, shardshuffle=False, empty_check=False)
    samples = samples.shuffle(1000) if job.shuffle else samples.repeat()
    samples = samples.decode("pil").to_tuple("jpg", "cls").map_tuple(v2.Compose(steps(job.track)), int)
    batches = webdataset.WebLoader(
        samples,
        batch_size=job.batch,
        num_workers=job.workers,
        collate_fn=partial(collate, pil_to_tensor, job.track),
        persistent_workers=True,
    )

    def read() -> Iterator[Images]:
        for images, _ in batches:
            yield [image.numpy() for image in images] if job.track == "decode" else images.numpy()

    return read
