"""The notation of search spaces, and what each engine calls the same."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastshard._base import check

__all__ = ["Choice", "Float", "Int", "Space", "checked", "constants", "suggest"]

_PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class Float:
    """A number from ``low`` to ``high``, both included; ``log`` draws evenly over magnitudes, ``step`` on a grid."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        check.number("low", self.low, -math.inf, math.inf)
        check.number("high", self.high, self.low, math.inf)
        _check_log(self)
        if self.step is not None:
            check.number("step", self.step, math.ulp(0), max(self.high - self.low, math.ulp(0)))

    def to_optuna(self, name: str, trial: Any) -> Any:
        """What an ``optuna.Trial`` suggests."""
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    def to_keras_tuner(self, name: str, hp: Any) -> Any:
        """What ``keras_tuner.HyperParameters`` hold."""
        return hp.Float(name, self.low, self.high, step=self.step, sampling="log" if self.log else "linear")

    def to_ray(self) -> Any:
        """A domain of Ray Tune."""
        from ray import tune

        if self.step is not None:
            return tune.quniform(self.low, self.high, self.step)
        return tune.loguniform(self.low, self.high) if self.log else tune.uniform(self.low, self.high)

    def draw(self) -> float:
        """A value from Python's own random numbers."""
        if self.log:
            return self.nearest(math.exp(random.uniform(math.log(self.low), math.log(self.high))))  # noqa: S311
        return self.nearest(random.uniform(self.low, self.high))  # noqa: S311 - no secret

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isclose(self.nearest(value), value, rel_tol=1e-9, abs_tol=1e-12)

    def nearest(self, value: Any) -> float:
        """``value`` moved into the range, and onto the grid."""
        inside = min(max(float(value), self.low), self.high)
        if self.step is None:
            return inside
        steps = min(round((inside - self.low) / self.step), math.floor((self.high - self.low) / self.step + 1e-9))
        return self.low + steps * self.step


@dataclass(frozen=True)
class Int:
    """A whole number from ``low`` to ``high``, both included; ``log`` and ``step`` as those of ``Float``."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        low = check.integer("low", self.low, -(2**53), 2**53)
        check.integer("high", self.high, low, 2**53)
        check.integer("step", self.step, 1, max(1, self.high - low))
        _check_log(self)

    def to_optuna(self, name: str, trial: Any) -> Any:
        """What an ``optuna.Trial`` suggests."""
        return trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step)

    def to_keras_tuner(self, name: str, hp: Any) -> Any:
        """What ``keras_tuner.HyperParameters`` hold."""
        step = None if self.log else self.step
        return hp.Int(name, self.low, self.high, step=step, sampling="log" if self.log else "linear")

    def to_ray(self) -> Any:
        """A domain of Ray Tune, whose own ranges of whole numbers leave out their end."""
        from ray import tune

        if self.step != 1:
            return tune.choice(range(self.low, self.high + 1, self.step))
        return tune.lograndint(self.low, self.high + 1) if self.log else tune.randint(self.low, self.high + 1)

    def draw(self) -> int:
        """A value from Python's own random numbers."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return self.nearest(math.exp(random.uniform(low, high)))  # noqa: S311
        return random.randrange(self.low, self.high + 1, self.step)  # noqa: S311

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        return isinstance(value, int) and not isinstance(value, bool) and self.nearest(value) == value

    def nearest(self, value: Any) -> int:
        """``value`` moved into the range, and onto the grid."""
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return int(self.low + min(steps, (self.high - self.low) // self.step) * self.step)


@dataclass(frozen=True)
class Choice:
    """One of ``values``: texts, numbers and booleans, which every engine can keep."""

    values: tuple[str | int | float | bool, ...]

    def __init__(self, values: Sequence[str | int | float | bool]) -> None:
        values = check.items(values)
        if not values:
            raise ValueError("values=(): expected at least one to choose from")
        for value in values:
            if not isinstance(value, _PLAIN):
                raise TypeError(f"values={values!r}: {value!r} is not a text, a number or a boolean")
        object.__setattr__(self, "values", values)

    def to_optuna(self, name: str, trial: Any) -> Any:
        """What an ``optuna.Trial`` suggests."""
        return trial.suggest_categorical(name, self.values)

    def to_keras_tuner(self, name: str, hp: Any) -> Any:
        """What ``keras_tuner.HyperParameters`` hold, of one type as they want it."""
        if len({type(value) for value in self.values}) > 1:
            raise ValueError(f"{name}: Keras Tuner chooses among values of one type, these are {self.values!r}")
        return hp.Choice(name, list(self.values))

    def to_ray(self) -> Any:
        """A domain of Ray Tune."""
        from ray import tune

        return tune.choice(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        return value in self.values

    def nearest(self, value: Any) -> Any:
        """``value``, which is one of them."""
        return value


Domain = Float | Int | Choice
Space = Mapping[str, Any]


def _check_log(domain: Float | Int) -> None:
    check.boolean("log", domain.log)
    if domain.log and domain.low <= 0:
        raise ValueError(f"low={domain.low!r} with log=True: expected more than 0")
    if domain.log and domain.step not in (None, 1):
        raise ValueError(f"step={domain.step!r} with log=True: expected one or the other")


def checked(space: Space) -> dict[str, Any]:
    """The space as a dict, if there is something to search."""
    if not hasattr(space, "items") or {str} != {type(name) for name in space} | {str}:
        raise TypeError(f"space={space!r}: expected a dict such as {{'lr': fs.tune.Float(1e-4, 1e-1, log=True)}}")
    for name, value in space.items():
        if not isinstance(value, (Domain, *_PLAIN)) and value is not None:
            what = "Float, Int or Choice, or a text, number or boolean for all trials"
            raise TypeError(f"space[{name!r}]={value!r}: expected {what}")
    if not any(isinstance(value, Domain) for value in space.values()):
        raise ValueError(f"space={dict(space)!r}: nothing to search; expected at least one Float, Int or Choice")
    return dict(space)


def check_configs(space: Space, configs: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError for names that are not searched, and for values outside of the space."""
    for config in configs:
        for name, value in config.items():
            domain = space.get(name)
            if not isinstance(domain, Domain):
                searched = ", ".join(repr(name) for name in space if isinstance(space[name], Domain))
                raise ValueError(f"first={config!r}: {name!r} isn't searched; expected names among {searched}")
            if not domain.holds(value):
                raise ValueError(f"first={config!r}: {name}={value!r} isn't in {domain!r}")


def constants(space: Space) -> dict[str, Any]:
    """What is the same for all trials."""
    return {name: value for name, value in space.items() if not isinstance(value, Domain)}


def suggest(space: Space, trial: Any) -> dict[str, Any]:
    """A configuration: what an ``optuna.Trial`` or ``keras_tuner.HyperParameters`` suggest for each name of ``space``.

    For search loops and ``build(hp)`` functions of one's own. Constants stay as they are.
    """
    if not any(hasattr(trial, method) for method in ("suggest_float", "Float")):
        raise TypeError(f"trial={trial!r}: expected an optuna.Trial or keras_tuner.HyperParameters")
    config = {}
    for name, value in checked(space).items():
        if not isinstance(value, Domain):
            config[name] = value
        elif hasattr(trial, "suggest_float"):
            config[name] = value.to_optuna(name, trial)
        else:
            config[name] = value.to_keras_tuner(name, trial)
    return config
