"""What one sees of a running search: a bar of trials, and a line for each that ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastshard._progress import progress_bar

from ._results import Results, TrialResult
from ._search import Search

__all__ = ["Monitor", "monitor"]


class Monitor:
    """Told of every trial that ends."""

    def __init__(self, search: Search, update: object, speaks: bool) -> None:
        self._search, self._update, self._speaks = search, update, speaks
        self._ended = 0

    def ended(self, number: int) -> None:
        """Counts a trial, and says how it went."""
        self._ended += 1
        assert callable(self._update)
        self._update(self._ended, max(self._ended, self._search.method.population or self._search.options.max_trials))
        if self._speaks:
            results = Results(self._search.folder)
            trial = next((trial for trial in results.trials if trial.number == number), None)
            if trial is not None:
                print(_line(trial, results), file=sys.stderr, flush=True)


@contextmanager
def monitor(search: Search) -> Iterator[Monitor]:
    """A monitor that shows what ``progress`` asks for."""
    shown = search.options.progress
    speaks = sys.stderr.isatty() if shown is None else shown
    with progress_bar(search.method.name, shown) as update:
        yield Monitor(search, update, speaks)


def _line(trial: TrialResult, results: Results) -> str:
    config = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.config.items()
    )
    if trial.error is not None:
        return f"trial {trial.number} {trial.state}: {trial.error.splitlines()[0]} ({config})"
    value = "no value" if trial.value is None else f"{results.metric} {trial.value:.4g}"
    best = results.best
    leads = " (best)" if best is not None and best.number == trial.number else ""
    return (
        f"trial {trial.number} {trial.state}: {value}{leads}, {trial.epochs} epochs, {trial.seconds:.1f} s ({config})"
    )
