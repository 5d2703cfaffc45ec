"""What a search found, read from its folder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastshard._base.escape import printable

from . import _log

__all__ = ["Report", "Results", "TrialResult", "read_trial"]

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Report:
    """What a trial reported after an epoch.

    ``seconds``: since the trial began, pauses left out; ``time``: of the clock, since 1970. ``fraction``: the part of
    the training data of that epoch.
    """

    epoch: int
    seconds: float
    fraction: float
    metrics: dict[str, float | None]
    config: dict[str, Any]
    time: float


@dataclass(frozen=True)
class TrialResult:
    """One trial: ``state`` is ``"finished"``, ``"stopped"`` (by the engine), ``"failed"`` or ``"unfinished"``.

    - ``value``: the best value of the metric that it reported, or None; ``config``: the configuration of that moment.
    - ``reports``: all of them, in order. ``epochs``: how many epochs its model has been trained.
    - ``seconds``: how long it ran, after its process was there. ``startup_seconds``: of the first epoch, what was
      outside of passes over loaders; ``stall_seconds``: waiting for batches; ``train_seconds``: the rest.
    - ``samples_per_second``: while it loaded. ``first_batch_ms``: from asking its first loader to having a batch.
    - ``copied_from``: numbers of the trials whose checkpoints it took over.
    - ``checkpoint``: the folder of its last one, with the files that ``trial.report(..., checkpoint=)`` wrote, or None.
    - ``best_report``: the one that ``value`` comes from.
    """

    number: int
    state: str
    error: str | None
    config: dict[str, Any]
    value: float | None
    reports: list[Report]
    seconds: float
    stall_seconds: float
    startup_seconds: float
    samples: int
    samples_per_second: float
    first_batch_ms: float | None
    copied_from: list[int]
    checkpoint: Path | None
    best_report: Report | None
    fatal: bool = field(default=False, repr=False)

    @property
    def epochs(self) -> int:
        """How many epochs its model has been trained."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def data_fraction(self) -> float | None:
        """The largest part of the training data that an epoch saw."""
        return max((report.fraction for report in self.reports), default=None)

    @property
    def stall_percent(self) -> float:
        """The share of its time that it waited for batches."""
        return 100 * self.stall_seconds / self.seconds if self.seconds else 0.0

    @property
    def train_seconds(self) -> float:
        """What is neither waiting for batches nor the time before the first one."""
        return max(0.0, self.seconds - self.stall_seconds - self.startup_seconds)


class Results:
    """The results of a search, from its folder; while it runs, what there is.

    ``method``, ``metric``, ``mode``, ``options``: of the search. ``trials``: all of them, by number. ``best``: the one
    with the best value, or None. ``stopped``: why it ended: ``"all trials done"``, ``"target reached"``,
    ``"time limit"`` or ``"interrupted"``; None if it runs or was killed. ``seconds``: how long it took.

    A damaged line in the log of a trial is left out, with a RuntimeWarning that names file and line. Raises
    FileNotFoundError if the folder holds no search, and ValueError if ``search.json`` is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        file = self.path / _log.SEARCH
        if not file.exists():
            raise FileNotFoundError(f"{self.path}: no results of a search, {_log.SEARCH} isn't there")
        self.options: dict[str, Any] = _log.read_json(file)
        missing = [name for name in ("method", "metric", "mode") if not isinstance(self.options.get(name), str)]
        if missing:
            raise ValueError(f"{file}: has no {missing[0]!r}")
        self.method: str = self.options["method"]
        self.metric: str = self.options["metric"]
        self.mode: str = self.options["mode"]
        self.stopped: str | None = self._option("stopped", str)
        found = (read_trial(number, path, self) for number, path in _log.trial_logs(self.path))
        self.trials: list[TrialResult] = [trial for trial in found if trial is not None]
        self.seconds: float = self._option("seconds", (int, float)) or sum(trial.seconds for trial in self.trials)

    def _option(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """What ``search.json`` says, which may have been written by anybody, or None."""
        value = self.options.get(name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{self.path / _log.SEARCH}: {name!r} is {value!r}")
        return value

    @property
    def best(self) -> TrialResult | None:
        """The trial with the best value; the first one of equals."""
        valued = [trial for trial in self.trials if trial.value is not None]
        sign = 1 if self.mode == "max" else -1
        return max(valued, key=lambda trial: sign * (trial.value or 0), default=None)

    @property
    def stall_percent(self) -> float:
        """The share of all trials' time that they waited for batches."""
        seconds = sum(trial.seconds for trial in self.trials)
        return 100 * sum(trial.stall_seconds for trial in self.trials) / seconds if seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """A row about the search: what it tried, what it found, where its time went."""
        best, states = self.best, [trial.state for trial in self.trials]
        return {
            "method": self.method,
            "engine": self.options.get("engine"),
            "trials": len(states),
            "stopped early": states.count(_log.STOPPED),
            "failed": states.count(_log.FAILED),
            f"best {self.metric}": None if best is None else best.value,
            "seconds": round(self.seconds, 1),
            "stall_percent": round(self.stall_percent, 2),
            "ended": self.stopped,
            "data_fraction": self.options.get("data_fraction"),
            **({} if best is None else _columns(best.config)),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each trial, with plain values: for ``pandas.DataFrame(results.rows())``."""
        for trial in self.trials:
            yield {
                "trial": trial.number,
                "state": trial.state,
                self.metric: trial.value,
                "epochs": trial.epochs,
                "data_fraction": trial.data_fraction,
                "seconds": round(trial.seconds, 3),
                "samples_per_second": round(trial.samples_per_second, 1),
                "stall_percent": round(trial.stall_percent, 2),
                "first_batch_ms": None if trial.first_batch_ms is None else round(trial.first_batch_ms, 1),
                "copied_from": " ".join(map(str, trial.copied_from)),
                **_columns(trial.config),
                "error": trial.error,
            }

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        best = self.best
        found = "none finished" if best is None else f"best {self.metric}={best.value:g} with {best.config}"
        told = f"{self.method}, {len(self):,} trials, {self.stopped or 'running'}, {found}"
        return f"<fastshard.tune.Results {printable(told)}>"


def _columns(config: dict[str, Any]) -> dict[str, Any]:
    return {f"config/{name}": value for name, value in config.items()}


def read_trial(number: int, path: Path, results: Results) -> TrialResult | None:
    """A trial from its file, or None if it has not begun."""
    runs = _runs(path)
    if not runs:
        return None
    reports = _kept_reports(runs, number)
    sign = 1 if results.mode == "max" else -1
    valued = [(value, report) for report in reports if (value := report.metrics.get(results.metric)) is not None]
    value, best = max(valued, key=lambda pair: sign * pair[0], default=(None, None))
    last = runs[-1]
    loading = sum(run.loader.get("seconds", 0.0) for run in runs)
    samples = sum(run.loader.get("samples", 0) for run in runs)
    return TrialResult(
        number=number,
        state=_state(last, results),
        error=last.end.get("error"),
        config=best.config if best is not None else last.config,
        value=value,
        reports=reports,
        seconds=sum(run.seconds for run in runs),
        stall_seconds=sum(run.loader.get("wait_seconds", 0.0) for run in runs),
        startup_seconds=sum(run.startup for run in runs),
        samples=int(samples),
        samples_per_second=samples / loading if loading else 0.0,
        first_batch_ms=next((run.loader.get("first_batch_ms") for run in runs if run.loader.get("samples")), None),
        checkpoint=_checkpoint(results.path, number),
        best_report=best,
        copied_from=[run.origin for run in runs if run.reports and run.origin not in (None, number)],
        fatal=bool(last.end.get("fatal")),
    )


def _kept_reports(runs: Iterable[_Run], number: int) -> list[Report]:
    """The reports of all runs, without those of epochs that a later run made again.

    A trial that was killed after a report and before its checkpoint goes on from the checkpoint before.
    """
    kept: list[Report] = []
    for run in runs:
        if run.reports and run.origin in (None, number):
            kept = [report for report in kept if report.epoch < run.reports[0].epoch]
        kept += run.reports
    return kept


def _checkpoint(folder: Path, number: int) -> Path | None:
    """A trial's last one, where Optuna's workers keep it, or Ray."""
    kept = folder / "checkpoints" / f"{number:05}"
    if kept.exists():
        return kept
    return max((folder / "ray" / "search").glob(f"trial_{number:05}_*/checkpoint_*"), default=None)


def _state(last: _Run, results: Results) -> str:
    """How a trial ended; engines also stop those that have all their epochs."""
    state: str = last.end.get("state", UNFINISHED)
    epochs, whole = last.reports[-1].epoch if last.reports else 0, results._option("epochs", int)
    return _log.FINISHED if state == _log.STOPPED and whole and epochs >= whole else state


@dataclass
class _Run:
    """A trial from one start to its pause or end."""

    config: dict[str, Any]
    origin: int | None
    before: float  # seconds of the runs before it
    reports: list[Report] = field(default_factory=list)
    loader: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    startup: float = 0.0
    end: dict[str, Any] = field(default_factory=dict)


def _runs(path: Path) -> list[_Run]:
    runs: list[_Run] = []
    for number, event in _log.numbered_lines(path):
        try:
            _add(runs, event)
        except (KeyError, IndexError, OverflowError, TypeError, ValueError):  # noqa: PERF203 - each line for itself
            _log.warn_of_line(path, number, event, "left out")
    return runs


def _add(runs: list[_Run], event: dict[str, Any]) -> None:
    """Raises one of several errors, and changes nothing, if the event is not as fastshard writes it."""
    if event["event"] == "start":
        before, origin = sum(run.seconds for run in runs), event.get("restored_from")
        runs.append(_Run(dict(event["config"]), None if origin is None else int(origin), before))
    elif event["event"] == "report":
        _add_report(runs[-1], event)
    elif event["event"] == "end":
        _add_end(runs, event)


def _add_report(run: _Run, event: dict[str, Any]) -> None:
    seconds = _number(event["seconds"])
    loader = {str(name): _number(value) for name, value in dict(event["loader"]).items()}
    startup = max(0.0, seconds - loader["seconds"])
    metrics = {str(name): None if value is None else _number(value) for name, value in dict(event["metrics"]).items()}
    epoch, fraction, at = int(_number(event["epoch"])), _number(event["fraction"]), _number(event["time"])
    if not run.reports:
        run.startup = startup
    run.seconds, run.loader = seconds, loader
    run.reports.append(Report(epoch, run.before + seconds, fraction, metrics, run.config, at))


def _add_end(runs: list[_Run], event: dict[str, Any]) -> None:
    state, error, seconds = event["state"], event.get("error"), event.get("seconds")
    if not (isinstance(state, str) and isinstance(error, (str, type(None)))):
        raise TypeError
    spent = None if seconds is None else _number(seconds)
    if not runs:  # a trial that couldn't even begin
        runs.append(_Run({}, None, 0.0))
    runs[-1].end = event
    runs[-1].seconds = runs[-1].seconds if spent is None else spent


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return value
