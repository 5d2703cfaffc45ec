"""What one sees of a running search: a bar of trials, and a line for each that ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastshard._base.escape import printable
from fastshard._base.progress import progress_bar

from ._log import TrialLog
from ._results import Results, TrialResult, read_trial
from ._search import Search

__all__ = ["Monitor", "monitor"]


class Monitor:
    """Told of every trial that ends."""

    def __init__(self, search: Search, update: object, speaks: bool) -> None:
        self._search, self._update, self._speaks = search, update, speaks
        self._ended = 0
        self._results = Results(search.folder)
        self._best = self._results.best

    def ended(self, number: int) -> None:
        """Counts a trial, and says how it went."""
        self._ended += 1
        assert callable(self._update)
        self._update(self._ended, max(self._ended, self._search.method.population or self._search.options.max_trials))
        trial = read_trial(number, TrialLog(self._search.folder, number).path, self._results)
        if trial is None or not self._speaks:
            return
        better = trial.value is not None and (
            self._best is None or self._search.options.better(trial.value, self._best.value or 0.0)
        )
        self._best = trial if better else self._best
        print(printable(_line(trial, self._results.metric, better)), file=sys.stderr, flush=True)


@contextmanager
def monitor(search: Search) -> Iterator[Monitor]:
    """A monitor that shows what ``progress`` asks for."""
    shown = search.options.progress
    speaks = sys.stderr.isatty() if shown is None else shown
    with progress_bar(search.method.name, shown) as update:
        yield Monitor(search, update, speaks)


def _line(trial: TrialResult, metric: str, leads: bool) -> str:
    config = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.config.items()
    )
    if trial.error is not None:
        first = trial.error.split("\n", 1)[0]
        return f"trial {trial.number} {trial.state}: {first} ({config})"
    value = "no value" if trial.value is None else f"{metric} {trial.value:.4g}"
    best = " (best)" if leads else ""
    return f"trial {trial.number} {trial.state}: {value}{best}, {trial.epochs} epochs, {trial.seconds:.1f} s ({config})"
