"""What one measurement is asked to do, in words that every loader understands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[Any]
# Called once per measurement; the iterator never ends, epoch follows epoch, as in training.
Stream = Callable[[], Iterator[Images]]

TRACKS = {
    "train": "RandomResizedCrop(224) + flip, uint8 NHWC",
    "eval": "Resize(256) + CenterCrop(224), uint8 NHWC",
    "resize": "Resize((224, 224)) + flip, uint8 NHWC",
    "float": "train + normalise, float32 NCHW",
    "raw": "224x224x3 uint8 shards, shuffled, no transform",
}
SIDE = 224
EVAL_SIDE = 256
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Job:
    """One track over one data set: `photos` is the folder per class, `packed` and `raw` are the same as shards."""

    track: str
    photos: str
    packed: str
    raw: str
    batch: int = 64
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.track not in TRACKS:
            raise ValueError(f"track must be one of {', '.join(TRACKS)}, got {self.track!r}")

    @property
    def shuffle(self) -> bool:
        return self.track != "eval"


def touch(batch: Images) -> float:
    """Read a little of every page or so of a batch, so that it must exist in memory."""
    return float(batch[:, ::7, ::31].sum(dtype=np.float64))
