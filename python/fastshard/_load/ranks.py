"""Which of several training processes this one is. Asks frameworks that are loaded already, and loads none."""

from __future__ import annotations

import os
import sys

from fastshard._base import check

__all__ = ["found", "rank_and_world_size"]

_MOST_RANKS = 2**20


def rank_and_world_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """What was given; else what torch.distributed, Ray Train or torchrun's environment says; else the only one."""
    if (rank is None) != (world_size is None) and world_size != 1:
        raise ValueError(f"rank={rank!r}, world_size={world_size!r}: expected both or neither")
    if world_size is None:
        return found() or (0, 1)
    world = check.integer("world_size", world_size, 1, _MOST_RANKS)
    return check.integer("rank", 0 if rank is None else rank, 0, world - 1), world


def found() -> tuple[int, int] | None:
    """What torch.distributed, Ray Train or torchrun's environment say now; None if none of them knows."""
    return _torch() or _ray() or _environment()


def _torch() -> tuple[int, int] | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _ray() -> tuple[int, int] | None:
    train = sys.modules.get("ray.train")
    if train is None:
        return None
    try:
        context = train.get_context()
        rank, world = context.get_world_rank(), context.get_world_size()
    except (RuntimeError, DeprecationWarning):
        return None  # not in a worker of Ray Train, or in a function that Ray Tune runs, which raises the warning
    return None if rank is None or world is None else (rank, world)


def _environment() -> tuple[int, int] | None:
    """What torchrun sets, and launchers that do as it does."""
    rank, world = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE"))
    if rank is None or world is None:
        return None
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK={rank!r} and WORLD_SIZE={world!r} in the environment: expected a rank below the size")
    return int(rank), int(world)
