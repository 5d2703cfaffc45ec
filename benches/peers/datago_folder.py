"""datago over the folder: Rust threads decode and resize, pictures come one at a time as PIL images.

It has no random crop, and its one geometry is the middle square at full size, without the step through 256.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datago import DatagoClient, initialize_logging

from job import SIDE, Images, Job, Stream, list_files

# A client reads its folder once; the folder that it gets names every picture so often.
EPOCHS = 6


def stream(job: Job) -> Stream:
    os.environ.setdefault("DATAGO_MAX_TASKS", str(job.workers))
    initialize_logging(log_level="error")
    folder = _repeated(job.photos)
    count = EPOCHS * len(list_files(job.photos)[0])

    def batches() -> Iterator[Images]:
        client = DatagoClient(json.dumps(_config(job, folder, count)))
        client.start()
        while True:
            images = [np.asarray(client.get_sample_auto_convert()["image"]) for _ in range(job.batch)]
            yield images if job.track == "decode" else np.stack(images)

    return batches


def _config(job: Job, folder: str, count: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "source_type": "file",
        "source_config": {"root_path": folder, "random_sampling": job.shuffle, "rank": 0, "world_size": 1},
        "limit": count,
        "prefetch_buffer_size": 256,
        "samples_buffer_size": 256,
    }
    if job.track != "decode":
        config["image_config"] = {
            "crop_and_resize": True,
            "default_image_size": SIDE,
            "downsampling_ratio": SIDE // 7,
            "min_aspect_ratio": 1.0,
            "max_aspect_ratio": 1.0,
            "pre_encode_images": False,
        }
    return config


def _repeated(photos: str) -> str:
    folder = tempfile.mkdtemp(prefix="datago-", dir=Path(photos).parent)
    for epoch in range(EPOCHS):
        for path in list_files(photos)[0]:
            Path(folder, f"{epoch}-{Path(path).name}").symlink_to(Path(path).resolve())
    return folder
