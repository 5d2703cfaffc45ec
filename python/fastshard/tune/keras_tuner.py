"""Keras Tuner's tuners on packed datasets: every trial has loaders of its own, over the same shards and cache.

def data(hp):
    options = {"parts": {"train": 0.95, "val": 0.05}, "stratify": "label", "config": hp.values}
    train = fs.tune.trial_loader("fashion/", 32, split="train", shuffle=True, **options)
    val = fs.tune.trial_loader("fashion/", 256, split="val", **options)
    return fs.keras.PyDataset(train, one_hot=True), fs.keras.PyDataset(val, one_hot=True)

tuner = fs.tune.keras_tuner.BayesianOptimization(build, data=data, objective="val_accuracy", max_trials=30)
tuner.search(epochs=10)
fs.tune.report(tuner.results(), "report/")
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from fastshard._base import check
from fastshard.keras import PyDataset

from . import _log, _trial
from ._fraction import FractionSchedule
from ._results import Results
from ._trial import Rules, Saver, Trial

__all__ = ["BayesianOptimization", "Hyperband", "RandomSearch", "TunerMixin"]

Data = Callable[[Any], Any]


class TunerMixin:
    """Gives a tuner of Keras Tuner its data trial by trial, and keeps what the loaders did.

    - ``data``: a function from ``keras_tuner.HyperParameters`` to ``(train, val)``, or ``train`` alone: two
      ``fs.keras.PyDataset``. It is called for each training, so that every one begins with epoch 0 of the same order,
      or goes on with the epoch that Hyperband comes back to. It may ask ``hp`` for a batch size.
    - ``data_fraction``: as for the searches; a ``FractionSchedule`` needs its epochs. Hyperband trains in stages, each
      with the fraction of its first epoch.
    - ``time_limit``, ``target``: seconds after which, and a value of the objective at which, the search ends.

    ``results()`` is what ``fs.tune.report`` takes; they lie in ``DIRECTORY/PROJECT/fastshard``. BayesianOptimization
    draws three trials for each hyperparameter at random, unless ``num_initial_points`` says otherwise. The others are
    options of the tuner that it is mixed into, and to resume is Keras Tuner's: the same ``directory`` and
    ``project_name``.
    """

    def __init__(
        self,
        *args: Any,
        data: Data,
        data_fraction: float | FractionSchedule = 1.0,
        time_limit: float | None = None,
        target: float | None = None,
        **options: Any,
    ) -> None:
        if not callable(data):
            raise TypeError(f"data={data!r}: expected a function from HyperParameters to (train, val)")
        _check_tensorboard()
        super().__init__(*args, **options)
        self._data = data
        self._rules = _rules(self.oracle.objective, data_fraction)  # type: ignore[attr-defined]
        self._target = None if target is None else check.numbers("target", target)[0]
        self._limit = None if time_limit is None else check.number("time_limit", time_limit, 0, float("inf"))
        self._deadline = float("inf")
        self._numbers: dict[str, int] = {}
        self._folder = Path(self.project_dir) / "fastshard"  # type: ignore[attr-defined]

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Searches; options are those of ``fit``, without the data."""
        for name in ("x", "y", "validation_data", "validation_split", "batch_size", "shuffle"):
            if fit_args or name in fit_kwargs:
                raise TypeError(f"{name}: the data of each trial comes from data=")
        told, started = self._told(), time.time()
        _log.write_json(self._folder / _log.SEARCH, told)
        self._deadline = float("inf") if self._limit is None else time.monotonic() + self._limit
        stopped = "interrupted"
        try:
            super().search(**fit_kwargs)  # type: ignore[misc]
            stopped = "all trials done"
        except _SearchOverError as over:
            stopped = str(over)
        finally:
            seconds = told["seconds"] + time.time() - started
            _log.write_json(self._folder / _log.SEARCH, told | {"stopped": stopped, "seconds": seconds})

    def _told(self) -> dict[str, Any]:
        file = self._folder / _log.SEARCH
        before = _log.read_json(file)["seconds"] if file.exists() else 0.0
        rules, space = self._rules, self.oracle.get_space().space  # type: ignore[attr-defined]
        return {
            "version": 1,
            "method": type(self).__name__,
            "engine": "keras-tuner",
            "metric": rules.metric,
            "mode": rules.mode,
            "space": {parameter.name: repr(parameter) for parameter in space},
            "data_fraction": str(rules.data_fraction),
            "started": time.time(),
            "seconds": before,
            "stopped": None,
        }

    def results(self) -> Results:
        """What was found so far."""
        return Results(self._folder)

    def _build_and_fit_model(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras Tuner's hook for data of one's own: called for every training of a trial."""
        begin = kwargs.get("initial_epoch", 0)
        number, values = self._number(trial), dict(trial.hyperparameters.values)
        # What Hyperband keeps there for itself; the trial whose weights this one goes on with is worth a column.
        own = {name: values.pop(name) for name in list(values) if name.startswith("tuner/")}
        origin = self._numbers.get(own.get("tuner/trial_id", ""))
        running = Trial(self._folder, number, values, self._rules, _Nobody(), epoch=begin, origin=origin)
        fitted: list[Any] = []

        def train(running: Trial) -> None:
            kwargs["callbacks"] = [_Reporter(running, self), *kwargs.get("callbacks", [])]
            sets = self._sets(trial.hyperparameters, begin)
            fit: Any = super(TunerMixin, self)
            fitted.append(fit._build_and_fit_model(trial, *args, **kwargs, **sets))

        try:
            _trial.run_trial(train, running)
        except _trial.OptionError as error:
            raise keras_tuner.errors.FatalValueError(str(error)) from error  # which Keras Tuner lets through
        return fitted[0]

    def _sets(self, hp: Any, begin: int) -> dict[str, Any]:
        """What ``fit`` is given, with loaders that begin at an epoch."""
        data = self._data(hp)
        train, val = data if isinstance(data, tuple) else (data, None)
        for one in (train, val):
            if isinstance(one, PyDataset) and one.loader.epoch == 0:
                one.loader.set_epoch(begin)
        return {"x": train, "shuffle": False} | ({} if val is None else {"validation_data": val})

    def _number(self, trial: Any) -> int:
        """Trials by number, from Keras Tuner's names for them."""
        if trial.trial_id not in self._numbers:
            file = self._folder / "names.json"
            names = _log.read_json(file) if file.exists() else {}
            if trial.trial_id not in names:
                names[trial.trial_id] = _log.TrialLog.next(self._folder)
                _log.write_json(file, names)
            self._numbers = names
        return self._numbers[trial.trial_id]

    def _is_over(self, value: float | None) -> str | None:
        if value is not None and self._target is not None:
            reached = value >= self._target if self._rules.mode == "max" else value <= self._target
            if reached:
                return "target reached"
        return "time limit" if time.monotonic() >= self._deadline else None

    def on_trial_end(self, trial: Any) -> None:
        """Called by Keras Tuner; ends the search after the trial in which its target or time limit came."""
        super().on_trial_end(trial)  # type: ignore[misc]
        over = self._is_over(trial.score)
        if over is not None:
            raise _SearchOverError(over)


class _SearchOverError(Exception):
    """The search ends here."""


class _Nobody:
    """Keras Tuner reads the history of ``fit`` instead."""

    def report(self, trial: Trial, metrics: dict[str, Any], save: Saver | None) -> None:
        """Nothing to do."""


def _check_tensorboard() -> None:
    # Otherwise every trial fails, and Keras Tuner says so after three of them.
    if keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "Keras Tuner with TensorFlow needs the package tensorboard: pip install 'fastshard[keras-tuner]'"
        )


def _rules(objective: Any, data_fraction: float | FractionSchedule) -> Rules:
    if not isinstance(data_fraction, FractionSchedule):
        check.number("data_fraction", data_fraction, math.ulp(0), 1)
    elif data_fraction.epochs is None:
        raise ValueError(f"data_fraction={data_fraction!r}: expected epochs=..., since Keras Tuner sets the rungs")
    return Rules(objective.name, objective.direction, data_fraction, keep_loader_state=False)


class _Reporter(keras.callbacks.Callback):
    """Reports each epoch, and ends training at the time limit and at the target."""

    def __init__(self, trial: Trial, tuner: TunerMixin) -> None:
        super().__init__()
        self._trial, self._tuner = trial, tuner

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        found = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        self._trial.report(found)
        if self._tuner._is_over(found.get(self._tuner._rules.metric)) is not None:
            self.model.stop_training = True


class RandomSearch(TunerMixin, keras_tuner.RandomSearch):
    """``keras_tuner.RandomSearch`` with ``data``: see ``TunerMixin``."""


class BayesianOptimization(TunerMixin, keras_tuner.BayesianOptimization):
    """``keras_tuner.BayesianOptimization`` with ``data``: see ``TunerMixin``."""


class Hyperband(TunerMixin, keras_tuner.Hyperband):
    """``keras_tuner.Hyperband`` with ``data``: see ``TunerMixin``."""
