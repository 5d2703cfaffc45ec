"""Comparing every byte of a dataset with its checksums, and decoding every row: one native job a folder and pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastshard import _fastshard
from fastshard._base import check
from fastshard._base.progress import Update, progress_bar

from .opened import Opened
from .view import Problem, View

__all__ = ["verify"]


def verify(dataset: View, num_threads: int | None, progress: bool | None, decode: bool) -> list[Problem]:
    """See ``Dataset.verify``."""
    threads = 0 if num_threads is None else check.integer("num_threads", num_threads, 1)
    parts = dataset._opened.parts
    sizes = [sum(shard["bytes"] for shard in part.manifest["shards"]) for part in parts]
    with progress_bar("verifying", progress, in_bytes=True) as update:
        problems = _verify_folders(parts, sizes, threads, update, decode=False)
    if decode:
        rows = [part.native.num_rows for part in parts]
        with progress_bar("decoding", progress) as update:
            problems += _verify_folders(parts, rows, threads, update, decode=True)
    return problems


def _verify_folders(
    parts: Sequence[Opened], sizes: Sequence[int], threads: int, update: Update, decode: bool
) -> list[Problem]:
    """``sizes``: what progress counts of each folder."""
    total, problems = sum(sizes), []
    done = rows = 0
    for part, size in zip(parts, sizes, strict=True):

        def show(part_done: int, before: int = done) -> None:
            update(before + part_done, total)

        found = _verify_folder(part, threads, show, decode)
        problems += found if len(parts) == 1 else [_of_whole(problem, part, rows) for problem in found]
        done += size
        rows += part.native.num_rows
    return problems


def _verify_folder(part: Opened, threads: int, show: Callable[[int], None], decode: bool) -> list[Problem]:
    job = _fastshard.VerifyJob(part.native, threads, decode)
    try:
        while not job.wait(0.05):
            show(job.progress()[0])
        show(job.progress()[0])
    except BaseException:
        job.cancel()
        raise
    return [Problem(*problem) for problem in job.problems()]


def _of_whole(problem: Problem, part: Opened, before: int) -> Problem:
    """Shards of several folders have the same names."""
    row = None if problem.row is None else before + problem.row
    return problem._replace(shard=str(Path(part.paths[0], problem.shard)), row=row)
