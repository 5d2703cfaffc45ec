"""Several iterators one behind the other, the next few of which run ahead in threads, within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

__all__ = ["in_order"]

_HOP = 1 << 20
_HOP_ITEMS = 4096
_PATIENCE = 1.0  # seconds


def in_order(
    parts: Sequence[Callable[[], Iterator[T]]], size: Callable[[T], int], threads: int, limit: int
) -> Iterator[T]:
    """What the parts give, in their order; up to ``threads`` of them work at a time, each ``limit`` bytes ahead.

    An error of a part comes where the part would have gone on. Closing the iterator ends the threads.
    """
    waiting = deque(parts)
    running: deque[_Part[T]] = deque()
    try:
        while waiting or running:
            while waiting and len(running) < max(1, threads):
                running.append(_Part(waiting.popleft(), size, limit))
            yield from running[0].items()
            running.popleft()
    finally:
        for part in running:
            part.stop()


class _Part(Generic[T]):
    """One iterator in a thread of its own; items change hands a MiB at a time."""

    def __init__(self, make: Callable[[], Iterator[T]], size: Callable[[T], int], limit: int) -> None:
        self._make, self._size, self._limit = make, size, limit
        self._hops: deque[tuple[list[T], int]] = deque()
        self._moved = threading.Condition()
        self._bytes = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fastshard-ahead", daemon=True)
        self._thread.start()

    def items(self) -> Iterator[T]:
        """All of them, as they come."""
        while (hop := self._next_hop()) is not None:
            yield from hop
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the thread. One that waits for a disk or a pipe is left behind: it ends with what it waits for."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()
        self._thread.join(_PATIENCE)

    def _next_hop(self) -> list[T] | None:
        with self._moved:
            # In slices, so that Ctrl-C is noticed.
            while not self._hops and not self._ended:
                self._moved.wait(0.05)
            if not self._hops:
                return None
            hop, filled = self._hops.popleft()
            self._bytes -= filled
            self._moved.notify_all()
            return hop

    def _run(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that asks
            self._error = error
        with self._moved:
            self._ended = True
            self._moved.notify_all()

    def _pump(self) -> None:
        hop: list[T] = []
        filled = 0
        iterator = self._make()
        try:
            for item in iterator:
                hop.append(item)
                filled += self._size(item)
                if filled >= _HOP or len(hop) >= _HOP_ITEMS:
                    if not self._hand_over(hop, filled):
                        return
                    hop, filled = [], 0
        finally:
            # What came before an error comes before it there, too.
            self._hand_over(hop, filled)
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _hand_over(self, hop: list[T], filled: int) -> bool:
        with self._moved:
            while self._bytes >= self._limit and not self._stopped:
                self._moved.wait()
            self._hops.append((hop, filled))
            self._bytes += filled
            self._moved.notify_all()
            return not self._stopped
