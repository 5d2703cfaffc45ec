"""What a search leaves in its folder, whatever the engine: one file for the search, one for each trial.

``search.json`` holds the options. ``trials/00003.jsonl`` has a line for each event of trial 3, added when it happens,
so that a killed process loses nothing but a line: ``start`` (configuration, epoch, which trial it goes on from),
``report`` (metrics, and what the loaders did) and ``end`` (how). A trial that is paused or copied starts more than
once.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import stat
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastshard._base import write
from fastshard._base.escape import printable

__all__ = [
    "FAILED",
    "FINISHED",
    "SEARCH",
    "STOPPED",
    "TrialLog",
    "numbered_lines",
    "read_json",
    "read_lines",
    "trial_logs",
    "warn_of_line",
    "write_json",
]

SEARCH = "search.json"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


class TrialLog:
    """The events of one trial, written by whoever runs it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / "trials" / f"{number:05}.jsonl"

    @classmethod
    def next(cls, folder: Path) -> int:
        """The number of a new trial, whose empty file is there from now on."""
        number = max((number for number, _ in trial_logs(folder)), default=-1) + 1
        path = cls(folder, number).path
        path.parent.mkdir(parents=True, exist_ok=True)
        write.create_empty(path)
        return number

    def add(self, event: str, **values: Any) -> None:
        """Adds a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "time": time.time(), **_plain(values)}, allow_nan=False)
        write.append_lines(self.path, f"{line}\n")

    def end(self, state: str, error: str | None = None, fatal: bool = False, **values: Any) -> None:
        """Says how the trial ended, unless that is said already; ``fatal`` if the others can't do better."""
        events = [event["event"] for event in read_lines(self.path)]
        if events[-1:] != ["end"]:
            self.add("end", state=state, error=error, fatal=fatal, **values)


def _plain(value: Any) -> Any:
    """JSON has no NaN: what is no number is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a trial. A line that isn't one is left out, with a warning unless it is the last and cut off."""
    for _, event in numbered_lines(path):
        yield event


def numbered_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same with the numbers of the lines, from 1."""
    if not path.exists():
        return
    lines = _bytes(path).decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], 1):
        event = _event(line)
        if event is None:
            # An event that a full disk or a power failure cut off has no line end, so the next one follows in its line.
            event = next(filter(None, (_event(line[at:]) for at in _starts(line))), None)
            warn_of_line(path, number, line, "left out" if event is None else "its beginning is left out")
        if event is not None:
            yield number, event


def _bytes(path: Path) -> bytes:
    """What a file holds; a ValueError for a pipe, which a stranger may have left and which would be waited for."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: expected a regular file")
        return file.read()


def _event(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def _starts(line: str) -> Iterator[int]:
    """Where an event may begin behind one that was cut off."""
    return (found.start() for found in itertools.islice(re.finditer(r'\{"event": "', line), 8))


def warn_of_line(path: Path, number: int, line: object, done: str) -> None:
    """Says that a line of a trial's log is damaged. The others count, and so do the other trials."""
    shown = printable(str(line)[:80])
    message = f"{printable(path)}: line {number} is no event of a trial, and {done}: {shown}"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def trial_logs(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and files of the trials of a search."""
    found = (path for path in (folder / "trials").glob("*.jsonl") if path.stem.isdecimal())
    return sorted((int(path.stem), path) for path in found)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write.write_file(path, json.dumps(_plain(values), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` wrote; a ValueError if it is something else."""
    try:
        found = json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found
