"""What a search leaves in its folder, whatever the engine: one file for the search, one for each trial.

``search.json`` holds the options. ``trials/00003.jsonl`` has a line for each event of trial 3, added when it happens,
so that a killed process loses nothing but a line: ``start`` (configuration, epoch, which trial it goes on from),
``report`` (metrics, and what the loaders did) and ``end`` (how). A trial that is paused or copied starts more than
once.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["FAILED", "FINISHED", "SEARCH", "STOPPED", "TrialLog", "read_json", "read_lines", "trial_logs", "write_json"]

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
        path.touch(exist_ok=False)
        return number

    def add(self, event: str, **values: Any) -> None:
        """Adds a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "time": time.time(), **_plain(values)}, allow_nan=False)
        # One write to a file that only grows: a line is there as a whole, or it is the last one and cut off.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)

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
    """The events of a trial; a last line that was cut off is left out."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "event" not in event:
            raise ValueError(f"{path}: line {number} is no event of a trial: {line[:80]!r}")
        yield event


def trial_logs(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and files of the trials of a search."""
    found = (path for path in (folder / "trials").glob("*.jsonl") if path.stem.isdecimal())
    return sorted((int(path.stem), path) for path in found)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(_plain(values), indent=2, allow_nan=False) + "\n")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` wrote; a ValueError if it is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found
