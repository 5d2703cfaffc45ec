"""The progress bar of long work: rate, elapsed time and time left, on stderr."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import check

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

__all__ = ["Update", "progress_bar"]

Update = Callable[..., None]


@contextmanager
def progress_bar(title: str, show: bool | None, *, in_bytes: bool = False) -> Iterator[Update]:
    """Gives ``update(done, total, skipped=0)``; silent if ``show`` is False, or None and stderr is no terminal.

    In a notebook without ipywidgets, which the bar needs there, a line of text takes its place.
    """
    if show is not None:
        check.boolean("progress", show)
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda *_: None
        return
    if _lacks_widgets():
        line = _Line(title, in_bytes)
        try:
            yield line.update
        finally:
            line.end()
        return
    bar = _rich_bar(in_bytes)
    task = bar.add_task(title, total=None, note="")

    def update(done: int, total: int, skipped: int = 0) -> None:
        note = f"{skipped:,} skipped" if skipped else ""
        bar.update(task, completed=done, total=total or None, note=note)

    with bar:
        yield update


def _lacks_widgets() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_jupyter and importlib.util.find_spec("ipywidgets") is None


class _Line:
    """One line that is written over itself, twice a second at most."""

    _INTERVAL = 0.5

    def __init__(self, title: str, in_bytes: bool) -> None:
        self._title, self._in_bytes = title, in_bytes
        self._started, self._next, self._text = time.monotonic(), 0.0, ""

    def update(self, done: int, total: int, skipped: int = 0) -> None:
        amounts = [f"{one / 2**20:,.0f}" if self._in_bytes else f"{one:,}" for one in (done, total)]
        counted = " of ".join(amounts if total else amounts[:1]) + " MiB" * self._in_bytes
        seconds = time.monotonic() - self._started
        note = f", {skipped:,} skipped" if skipped else ""
        self._text = f"{self._title}: {counted}, {seconds:.0f} s{note}"
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._INTERVAL
            self._write("")

    def end(self) -> None:
        if self._text:
            self._write("\n")

    def _write(self, end: str) -> None:
        print(f"\r{self._text}", end=end, file=sys.stderr, flush=True)


def _rich_bar(in_bytes: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    rate = TransferSpeedColumn() if in_bytes else _rate_column()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        rate,
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left {task.fields[note]}"),
        console=Console(stderr=True),
    )


def _rate_column() -> ProgressColumn:
    # Defined here because rich loads only when a bar is shown.
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")

    return RateColumn()
