"""Runs one piece of work in a forked child, and says how it ended: in memory and time that were given, and how else.

Forking needs a parent without threads, which has imported all that children need.
"""

from __future__ import annotations

import linecache
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fastshard as fs

__all__ = ["Ending", "Limits", "foreign", "forked", "threads"]

# What fastshard may raise for any input. Others count when a `raise` of fastshard's own says them.
ALLOWED = (fs.FastshardError, ValueError, OSError, MemoryError)
PACKAGE = str(Path(fs.__file__).parent)


@dataclass(frozen=True)
class Limits:
    """What a child may take: seconds on the clock, resident MB, and MB of addresses."""

    seconds: float = 30
    resident: int = 1000
    addresses: int = 8000


@dataclass
class Ending:
    """How a child ended: what it said, line by line, and what is wrong with it, if anything is."""

    key: object
    said: list[str] = field(default_factory=list)
    fault: str = ""
    resident: int = 0  # MB
    seconds: float = 0
    errors: str = ""  # what it wrote to stderr


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def foreign(error: BaseException) -> bool:
    """Whether an error is one that no user should see: a slip, or a panic."""
    if isinstance(error, ALLOWED):
        return False
    if not isinstance(error, Exception):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1:]
    said_by_us = last and last[0].filename.startswith(PACKAGE)
    return not (said_by_us and linecache.getline(last[0].filename, last[0].lineno or 0).lstrip().startswith("raise"))


def describe(error: BaseException) -> str:
    """The type, the text and the last place in fastshard's Python, in one line."""
    places = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(PACKAGE)]
    place = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}: {str(error)[:160]}{place}".replace("\n", " ")


def forked(
    work: Iterator[tuple[object, Callable[[Callable[[str], None]], None]]], jobs: int, limits: Limits
) -> Iterator[Ending]:
    """Runs each ``(key, work)`` in a child of its own, ``jobs`` at a time. Work says lines, which the ending has."""
    assert threads() == 1, "a child of a process with threads may hang"
    running: dict[int, _Child] = {}
    work = iter(work)
    exhausted = False
    try:
        while running or not exhausted:
            while not exhausted and len(running) < jobs:
                following = next(work, None)
                if following is None:
                    exhausted = True
                else:
                    child = _start(*following, limits)
                    running[child.pipe] = child
            for pipe in select.select(list(running), [], [], 0.2)[0] if running else ():
                if not running[pipe].read():
                    yield running.pop(pipe).end(limits)
            for child in running.values():
                child.stop_if_late(limits)
    finally:
        for child in running.values():
            os.kill(child.pid, signal.SIGKILL)
            child.end(limits)


@dataclass
class _Child:
    key: object
    pid: int
    pipe: int
    stderr: object
    started: float
    text: bytes = b""
    late: bool = False

    def read(self) -> bool:
        part = os.read(self.pipe, 1 << 16)
        self.text += part
        return bool(part)

    def stop_if_late(self, limits: Limits) -> None:
        if time.monotonic() - self.started > limits.seconds and not self.late:
            self.late = True
            os.kill(self.pid, signal.SIGKILL)

    def end(self, limits: Limits) -> Ending:
        os.close(self.pipe)
        _, status, usage = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        resident = usage.ru_maxrss // 1024
        self.stderr.seek(0)
        errors = self.stderr.read().decode(errors="replace")
        self.stderr.close()
        fault = ""
        if self.late:
            fault = f"hang: {limits.seconds:.0f} s"
        elif code < 0:
            fault = f"signal: {signal.Signals(-code).name}"
        elif code > 0:
            fault = f"exit: {code}"
        elif resident > limits.resident:
            fault = f"memory: {resident} MB"
        said = self.text.decode(errors="replace").splitlines()
        return Ending(self.key, said, fault, resident, time.monotonic() - self.started, errors)


def _start(key: object, task: Callable[[Callable[[str], None]], None], limits: Limits) -> _Child:
    reads, writes = os.pipe()
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
    pid = os.fork()
    if pid == 0:
        _run(task, writes, stderr.fileno(), limits)
    os.close(writes)
    return _Child(key, pid, reads, stderr, time.monotonic())


def _run(task: Callable[[Callable[[str], None]], None], pipe: int, stderr: int, limits: Limits) -> None:
    """The child's life. A fault of the harness itself ends it with 3."""
    code = 3
    try:
        os.dup2(stderr, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="replace", closefd=False)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        resource.setrlimit(resource.RLIMIT_AS, (limits.addresses << 20,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        task(lambda line: _say(pipe, line))
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of it may get into the parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _say(pipe: int, line: str) -> None:
    plain = "".join(char if char.isprintable() else "?" for char in line)
    os.write(pipe, plain.encode(errors="replace") + b"\n")
