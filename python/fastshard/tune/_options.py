"""What all searches take, and what a method adds to it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fastshard._base import check

from . import _fraction
from ._fraction import FractionSchedule

__all__ = ["ENGINES", "Method", "Options"]

ENGINES = ("ray", "optuna")


@dataclass(frozen=True)
class Options:
    """What all searches take.

    - ``metric``, ``mode``: the name of the reported number that counts, and whether ``"max"`` or ``"min"`` is best.
    - ``max_trials``: configurations at most. ``max_concurrent``: trials at once.
    - ``time_limit``: seconds after which the search ends, with the best trial so far.
    - ``target``: a value of ``metric``; the search ends when a trial reaches it.
    - ``data_fraction``: the part of the training data that trials see, more than 0 and at most 1, or a
      ``FractionSchedule``.
    - ``epochs``: what ``trial.epochs()`` counts to.
    - ``first``: configurations to begin with, such as what you use today: dicts of names of the space, each of them
      with some or all; what they leave out is drawn. They count as trials.
    - ``engine``: ``"ray"`` or ``"optuna"``.
    - ``path``: the folder for everything that the search leaves; by default a new one in ``searches/``.
    - ``resume``: goes on with the search in ``path``, if there is one: trials that ended count, the others start again
      at their last checkpoint.
    - ``cpus``, ``gpus``: for each trial; by default an equal share of the cores, and none.
    - ``storage``: for Optuna, the URL of a database, such as ``"sqlite:///search.db"``; a journal file in ``path`` by
      default.
    - ``seed``: what configurations are drawn with.
    - ``progress``: shows a bar, and a line for each trial; by default if stderr is a terminal.
    """

    metric: str
    mode: str = "max"
    max_trials: int = 20
    max_concurrent: int = 1
    time_limit: float | None = None
    target: float | None = None
    data_fraction: float | FractionSchedule = 1.0
    epochs: int | None = None
    first: Sequence[Mapping[str, Any]] = ()
    engine: str = "ray"
    path: str | os.PathLike[str] | None = None
    resume: bool = False
    cpus: int | None = None
    gpus: float = 0
    storage: str | None = None
    seed: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        if not (self.metric and type(self.metric) is str):
            raise TypeError(f"metric={self.metric!r}: expected the name of what trials report, such as 'val_accuracy'")
        check.one_of("mode", self.mode, ("max", "min"))
        check.one_of("engine", self.engine, ENGINES)
        for name in ("max_trials", "max_concurrent", "epochs", "cpus"):
            value = getattr(self, name)
            if value is not None:
                check.integer(name, value, 1)
        check.integer("seed", self.seed, 0, 2**31 - 1)
        check.boolean("resume", self.resume)
        if isinstance(self.first, Mapping) or not all(isinstance(config, Mapping) for config in self.first):
            raise TypeError(f"first={self.first!r}: expected a list of dicts")
        self._check_numbers()
        if self.resume and self.path is None:
            raise ValueError("path=None with resume=True: expected the folder of the search that is to go on")
        if self.storage is not None and self.engine != "optuna":
            raise ValueError(f"storage={self.storage!r}: only engine='optuna' keeps trials in a database")

    def _check_numbers(self) -> None:
        check.number("gpus", self.gpus, 0, math.inf)
        if self.time_limit is not None:
            check.number("time_limit", self.time_limit, math.ulp(0), math.inf)
        if self.target is not None:
            check.number("target", self.target, -math.inf, math.inf)
        if not isinstance(self.data_fraction, FractionSchedule):
            check.number("data_fraction", self.data_fraction, math.ulp(0), 1)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Options from keywords; an unknown one is named."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise TypeError(f"{name}={given[name]!r}: expected one of the options {', '.join(known)}")
        if "metric" not in given:
            raise TypeError("metric: expected the name of what trials report, such as metric='val_accuracy'")
        return cls(**given)

    def better(self, value: float, other: float) -> bool:
        """Whether one value of the metric beats another."""
        return value > other if self.mode == "max" else value < other

    def reaches_target(self, value: float | None) -> bool:
        """Whether a value of the metric is as good as ``target``."""
        if self.target is None or value is None or not math.isfinite(value):
            return False
        return value == self.target or self.better(value, self.target)


@dataclass(frozen=True)
class Method:
    """How configurations are chosen and trials ended: one of the methods, and its own options, checked."""

    name: str
    initial_points: int = 0  # bayes
    rungs: tuple[int, ...] = ()  # hyperband: epochs after which it decides
    reduction_factor: int = 0
    population: int = 0  # evolution
    perturbation_interval: int = 0
    exchange_ratio: float = 0
    resample_probability: float = 0
    loader_state: str = "continue"

    def schedule(self, fraction: float | FractionSchedule) -> float | FractionSchedule:
        """The data fraction with the epochs of the rungs."""
        if isinstance(fraction, FractionSchedule) and fraction.epochs is None and not self.rungs:
            raise ValueError(
                f"data_fraction={fraction!r}: expected epochs=..., because {self.name} has no rungs to go by"
            )
        return _fraction.with_rungs(fraction, self.rungs)
