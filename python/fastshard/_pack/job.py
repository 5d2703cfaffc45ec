"""A source on its way through the native job: pushed, watched, cancelled if anything goes wrong, and reported."""

from __future__ import annotations

import bisect
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastshard import _fastshard
from fastshard._base.progress import Update, progress_bar
from fastshard._base.records import SkippedRow

from .report import PackReport

if TYPE_CHECKING:
    from types import TracebackType

    from fastshard._sources.base import FileSource, StreamSource

__all__ = ["pack_files", "pack_stream"]


def pack_files(
    source: FileSource, said: str, target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    """Packs files below a folder, which the native threads read."""
    job = _job(target, spec, source)
    with _Session(job, progress) as session:
        job.start_files(source.root, _ipc(source.table))
        session.wait()
    report = json.loads(job.report())
    numbers = source.row_numbers
    skipped = [_skipped(item, numbers[item["row"]] if numbers else item["row"]) for item in report["skipped"]]
    return _report(
        report,
        target,
        started,
        source=said,
        skipped=tuple(skipped),
        unused_files=source.unused_files,
        ignored_files=source.ignored_files,
        missing_files=source.missing_files,
    )


def pack_stream(
    source: StreamSource, said: str, target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    """Packs record batches, which are made here."""
    job = _job(target, spec, source)
    with _Session(job, progress, len(source)) as session:
        job.start_stream()
        session.push(source)
        known = source.described()
        job.end_stream(json.dumps(known) if known else None)
        session.wait()
    report = json.loads(job.report())
    number = _numbering(source.skipped)
    skipped = [*source.skipped, *(_skipped(item, number(item["row"])) for item in report["skipped"])]
    return _report(
        report,
        target,
        started,
        source=said,
        skipped=tuple(sorted(skipped)),
        ignored_files=tuple(source.ignored_files),
    )


def _job(target: str, spec: dict[str, Any], source: FileSource | StreamSource) -> _fastshard.PackJob:
    return _fastshard.PackJob(target, json.dumps({**spec, "fields": source.fields, "provenance": source.provenance}))


class _Session:
    """A job while it runs: shows its progress, and cancels it when anything goes wrong, Ctrl-C included."""

    def __init__(self, job: _fastshard.PackJob, progress: bool | None, total: int = 0) -> None:
        self._job = job
        self._total = total
        self._bar = progress_bar("packing", progress)
        self._update: Update

    def __enter__(self) -> _Session:
        self._update = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._job.cancel()
        finally:
            self._bar.__exit__(kind, error, trace)

    def push(self, source: StreamSource) -> None:
        for chunk in source.chunks():
            while not self._job.push(chunk, 0.05):
                self._show()
            self._show()

    def wait(self) -> None:
        while not self._job.wait(0.05):
            self._show()
        self._show()

    def _show(self) -> None:
        done, total, _, skipped = self._job.progress()
        self._update(done, total or self._total, skipped)


def _ipc(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _skipped(item: dict[str, Any], row: int) -> SkippedRow:
    return SkippedRow(row, item["path"], item["error"])


def _numbering(skipped: Sequence[SkippedRow]) -> Callable[[int], int]:
    """From the number of a row that was pushed to its number in the source, some rows of which were not."""
    # How many rows were pushed before each one that was not: the n-th gap moves on what comes from there on.
    before = [row - n for n, row in enumerate(sorted(row.row for row in skipped))]

    def number(row: int) -> int:
        return row + bisect.bisect_right(before, row)

    return number


def _report(report: dict[str, Any], target: str, started: float, **more: Any) -> PackReport:
    if report["left"]:
        warnings.warn(
            f"{target}: packed, but what it replaced could not be removed: {report['left']}; the next pack to this "
            "place removes it",
            stacklevel=5,
        )
    return PackReport(
        path=Path(target),
        rows=report["rows"],
        shards=report["shards"],
        bytes=report["bytes"],
        resumed_shards=report["resumed_shards"],
        seconds=time.monotonic() - started,
        **more,
    )
