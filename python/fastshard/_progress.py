"""The progress bar of long work: rate, elapsed time and time left, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import _check

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

__all__ = ["progress_bar"]

Update = Callable[..., None]


@contextmanager
def progress_bar(title: str, show: bool | None, *, in_bytes: bool = False) -> Iterator[Update]:
    """Gives ``update(done, total, skipped=0)``; silent if ``show`` is False, or None and stderr is no terminal."""
    if show is not None:
        _check.boolean("progress", show)
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda *_: None
        return
    bar = _rich_bar(in_bytes)
    task = bar.add_task(title, total=None, note="")

    def update(done: int, total: int, skipped: int = 0) -> None:
        note = f"{skipped:,} skipped" if skipped else ""
        bar.update(task, completed=done, total=total or None, note=note)

    with bar:
        yield update


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
