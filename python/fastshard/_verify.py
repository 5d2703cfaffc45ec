"""Comparing every byte of a dataset with its checksums: one native job a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import _check, _fastshard
from ._dataset import Dataset, Problem
from ._opened import Opened
from ._progress import progress_bar

__all__ = ["verify"]


def verify(dataset: Dataset, num_threads: int | None, progress: bool | None) -> list[Problem]:
    """See ``Dataset.verify``."""
    threads = 0 if num_threads is None else _check.integer("num_threads", num_threads, 1)
    parts = dataset._opened.parts
    total = sum(shard["bytes"] for part in parts for shard in part.manifest["shards"])
    problems: list[Problem] = []
    done = rows = 0
    with progress_bar("verifying", progress, in_bytes=True) as update:
        for part in parts:

            def show(part_done: int, before: int = done) -> None:
                update(before + part_done, total)

            found = _verify_folder(part, threads, show)
            problems += found if len(parts) == 1 else [_of_whole(problem, part, rows) for problem in found]
            done += sum(shard["bytes"] for shard in part.manifest["shards"])
            rows += part.native.num_rows
    return problems


def _verify_folder(part: Opened, threads: int, show: Callable[[int], None]) -> list[Problem]:
    job = _fastshard.VerifyJob(part.native, threads)
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
