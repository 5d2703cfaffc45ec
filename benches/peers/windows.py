"""The windows that crops show, for peers that leave them to their user. As torchvision draws and places them."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from job import EVAL_SIDE, RATIO, SCALE, SIDE

LOG_RATIO = (math.log(RATIO[0]), math.log(RATIO[1]))


class Window(NamedTuple):
    top: int
    left: int
    height: int
    width: int


def random_window(height: int, width: int) -> Window:
    """RandomResizedCrop's: ten tries, then the middle."""
    for _ in range(10):
        area = height * width * random.uniform(*SCALE)
        ratio = math.exp(random.uniform(*LOG_RATIO))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return Window(random.randint(0, height - high), random.randint(0, width - wide), high, wide)
    wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return Window((height - high) // 2, (width - wide) // 2, high, wide)


def central_window(height: int, width: int) -> Window:
    """What Resize(256) + CenterCrop(224) shows of the source, to the nearest pixel."""
    side = round(min(height, width) * SIDE / EVAL_SIDE)
    return Window((height - side) // 2, (width - side) // 2, side, side)


def window(track: str, height: int, width: int) -> Window:
    return central_window(height, width) if track in ("eval", "large-eval") else random_window(height, width)
