"""A trial as the function that trains sees it: its configuration, where it goes on, and what it reports."""

from __future__ import annotations

import contextvars
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastshard._base import check

from . import _fraction, _log
from ._fraction import FractionSchedule

if TYPE_CHECKING:
    from fastshard._load.loader import Loader

__all__ = ["Rules", "Saver", "Trial", "TrialStoppedError", "current_trial", "error_text", "is_complete", "run_trial"]

STATE = "fastshard.json"
Saver = Callable[[Path], object]
_current: contextvars.ContextVar[Trial | None] = contextvars.ContextVar("fastshard_trial", default=None)


class TrialStoppedError(BaseException):
    """Raised by ``Trial.report`` where the engine ends the trial; not an ``Exception``, so that nobody catches it."""


class OptionError(ValueError):
    """What is wrong for all trials, so that the search ends."""


class Engine(Protocol):
    """What carries a report to the engine."""

    def report(self, trial: Trial, metrics: dict[str, Any], save: Saver | None) -> None:
        """Hands over metrics and a checkpoint; raises ``TrialStoppedError`` where the trial is to end."""


@dataclass(frozen=True)
class Rules:
    """What a trial has to know of its search."""

    metric: str
    mode: str
    data_fraction: float | FractionSchedule = 1.0
    epochs: int | None = None
    keep_loader_state: bool = True
    needs_checkpoints: bool = False


class Trial:
    """One configuration in training. Searches make them and hand them to the function that trains.

    ``number``: from 0. ``config``: the values of the space. ``epoch``: how many reports there were, those included of
    the trial whose checkpoint it goes on from. ``restored``: the folder of that checkpoint, or None. ``num_threads``:
    the processor cores of this trial.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        config: Mapping[str, Any],
        rules: Rules,
        engine: Engine,
        restored: Path | None = None,
        num_threads: int | None = None,
        epoch: int = 0,
        origin: int | None = None,
    ) -> None:
        self.number, self.config, self.restored, self.num_threads = number, dict(config), restored, num_threads
        self._rules, self._engine = rules, engine
        self._log = _log.TrialLog(folder, number)
        self._loaders: list[Loader] = []
        self._state: dict[str, Any] = {} if restored is None else _log.read_json(restored / STATE)
        self.epoch: int = self._state.get("epoch", epoch)
        self._best: float | None = self._state.get("best")
        self._first_batch: float | None = None
        self._began = time.perf_counter()
        self._log.add("start", config=self.config, epoch=self.epoch, restored_from=self._state.get("trial", origin))

    @property
    def data_fraction(self) -> float:
        """The part of the training data that the coming epoch sees."""
        return _fraction.fraction_at(self._rules.data_fraction, self.epoch)

    def epochs(self, count: int | None = None) -> Iterator[int]:
        """Numbers of the epochs that are left of ``count``, by default of the search's ``epochs``.

        Report once in each, and a trial that goes on from a checkpoint begins where that was.
        """
        total = self._rules.epochs if count is None else check.integer("count", count, 1)
        if total is None:
            raise OptionError("epochs: expected trial.epochs(n), or epochs=n of the search")
        yield from range(self.epoch, total)

    def report(self, metrics: Mapping[str, Any], checkpoint: Saver | None = None) -> None:
        """Says how good the model is, once an epoch; the engine may end the trial here, and nothing after it runs.

        ``metrics``: numbers by name, that of the search among them. ``checkpoint``: a function that is called with an
        empty folder, to write the model there; a trial that goes on, from its own or a better one's checkpoint, finds
        it in ``restored``. Where the loaders of ``trial_loader`` stand is kept with it.
        """
        found = _numbers(metrics, self._rules.metric)
        if checkpoint is None and self._rules.needs_checkpoints:
            raise OptionError(
                "checkpoint=None: evolution copies trials, so report(..., checkpoint=save) has to save them"
            )
        fraction = self.data_fraction
        self.epoch += 1
        value = found[self._rules.metric]
        if math.isfinite(value):
            better = max if self._rules.mode == "max" else min
            self._best = value if self._best is None else better(self._best, value)
        seconds = time.perf_counter() - self._began
        loaded = self._loaded()
        self._log.add("report", epoch=self.epoch, fraction=fraction, seconds=seconds, metrics=found, loader=loaded)
        save = None if checkpoint is None else self._saver(checkpoint)
        self._engine.report(self, {**found, "epoch": self.epoch, "best": self._best}, save)

    def _saver(self, checkpoint: Saver) -> Saver:
        states = [loader.state_dict() for loader in self._loaders]
        state = {"trial": self.number, "epoch": self.epoch, "best": self._best, "loaders": states}

        def save(folder: Path) -> None:
            checkpoint(folder)
            sizes = {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder)}
            _log.write_json(folder / STATE, state | {"files": sizes})

        return save

    def _loaded(self) -> dict[str, float]:
        """What all loaders did so far in this process."""
        counts = [loader._counts() for loader in self._loaders]
        if self._first_batch is None and counts:
            self._first_batch = 1000 * counts[0]["first_batch_seconds"]
        return {
            "samples": sum(count["samples"] for count in counts),
            "seconds": sum(count["seconds"] for count in counts),
            "wait_seconds": sum(count["wait_seconds"] for count in counts),
            "first_batch_ms": self._first_batch or 0.0,
            "cache_hits": sum(loader._native.cache_counts()[0] for loader in self._loaders),
        }

    def _end(self, state: str, error: str | None = None, fatal: bool = False) -> None:
        self._log.end(state, error, fatal, seconds=time.perf_counter() - self._began)

    def _next_state(self) -> dict[str, Any] | None:
        """Where the next loader goes on: that of the checkpoint that was made as the so-manieth."""
        own = self._state.get("trial") == self.number
        states = self._state.get("loaders", []) if own or self._rules.keep_loader_state else []
        return states[len(self._loaders)] if len(self._loaders) < len(states) else None

    def _adopt(self, loader: Loader) -> None:
        """Counts a loader as one of this trial."""
        self._loaders.append(loader)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint has all its files: whoever copied it may have been killed, and files come in any order."""
    try:
        sizes = _log.read_json(checkpoint / STATE)["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # whatever stands there
        return False


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _numbers(metrics: Mapping[str, Any], wanted: str) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise OptionError(f"metrics={metrics!r}: expected a dict such as {{{wanted!r}: 0.9}}")
    found = {str(name): _number(name, value) for name, value in metrics.items()}
    if wanted not in found:
        raise OptionError(f"metric={wanted!r}: what the trial reports has {', '.join(map(repr, found)) or 'nothing'}")
    return found


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise OptionError(f"metrics[{name!r}]={value!r}: expected a number") from None


def current_trial() -> Trial | None:
    """The trial that this thread trains for a search of fastshard, or None."""
    return _current.get()


@contextmanager
def _as_current(trial: Trial) -> Iterator[None]:
    token = _current.set(trial)
    try:
        yield
    finally:
        _current.reset(token)
        for loader in trial._loaders:
            loader.close()


def error_text(error: BaseException) -> str:
    """What a trial's results say of an error."""
    return str(error) if isinstance(error, OptionError) else "".join(traceback.format_exception_only(error)).strip()


def run_trial(train: Callable[[Trial], object], trial: Trial) -> None:
    """Trains, and writes down how that ended; errors go on to the engine."""
    try:
        with _as_current(trial):
            train(trial)
        if trial.epoch == 0:
            raise OptionError("train: returned without a report; expected trial.report({...}) once an epoch")
    except TrialStoppedError:
        trial._end(_log.STOPPED)
        raise
    except BaseException as error:
        trial._end(_log.FAILED, error_text(error), isinstance(error, OptionError))
        raise
    trial._end(_log.FINISHED)
