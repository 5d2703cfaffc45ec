"""A search: from checked options through an engine to results."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fastshard import _fastshard

from . import _log, _space
from ._fraction import FractionSchedule
from ._options import Method, Options
from ._results import Results
from ._trial import Rules, Trial

__all__ = ["Search", "Train", "run"]

Train = Callable[[Trial], object]
_EXTRAS = {"ray": ("ray.tune", "ray"), "optuna": ("optuna", "optuna")}


@dataclass(frozen=True)
class Search:
    """All that an engine needs to run a search, and a trial to know of it."""

    train: Train
    space: dict[str, Any]
    options: Options
    method: Method
    folder: Path

    @property
    def rules(self) -> Rules:
        """What a trial has to know."""
        options, method = self.options, self.method
        keeps, copies = method.loader_state == "continue", method.population > 0
        return Rules(options.metric, options.mode, options.data_fraction, options.epochs, keeps, copies)

    @property
    def cpus(self) -> int:
        """Processor cores of each trial."""
        return self.options.cpus or max(1, _fastshard.available_threads() // self.options.max_concurrent)


def run(train: Train, space: _space.Space, options: Options, method: Method) -> Results:
    """Runs a search until there is nothing left to try, or something ends it; raises what is wrong for all trials."""
    if not callable(train):
        raise TypeError(f"train={train!r}: expected a function that takes a fastshard.tune.Trial")
    options = dataclasses.replace(options, data_fraction=method.schedule(options.data_fraction))
    checked = _space.checked(space)
    _space.check_configs(checked, options.first)
    search = Search(train, checked, options, method, _folder(options, method))
    engine = _engine(options.engine)
    _begin(search)
    stopped = engine.run(search)
    _end(search, stopped)
    results = Results(search.folder)
    if stopped == "failed":  # now, and not in what a resumed search left
        raise ValueError(next(trial.error for trial in reversed(results.trials) if trial.fatal))
    if stopped != "interrupted":
        _check_any_worked(results)
    return results


def _check_any_worked(results: Results) -> None:
    """Raises RuntimeError if all trials failed before they reported anything."""
    if results.trials and all(trial.state == _log.FAILED and not trial.reports for trial in results.trials):
        first = results.trials[0]
        raise RuntimeError(
            f"{results.path}: all {len(results)} trials failed. The first error, of trial {first.number}: "
            f"{first.error}. fastshard.tune.Results({str(results.path)!r}) has them all"
        )


def _engine(name: str) -> Any:
    module, extra = _EXTRAS[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"engine={name!r} needs {module}: pip install 'fastshard[{extra}]' ({error})") from None
    return importlib.import_module(f"fastshard.tune._{name}")


def _folder(options: Options, method: Method) -> Path:
    if options.path is None:
        return Path("searches", f"{method.name}-{datetime.now():%Y%m%d-%H%M%S}").absolute()  # noqa: DTZ005 - a name
    return Path(options.path).absolute()


def _begin(search: Search) -> None:
    """Writes down what is searched, or holds it against what was."""
    path = search.folder / _log.SEARCH
    told = _told(search)
    if not path.exists():
        _log.write_json(path, told | {"started": time.time(), "seconds": 0.0, "stopped": None})
        return
    if not search.options.resume:
        raise FileExistsError(f"{search.folder}: a search is there already; resume=True goes on with it")
    before = _log.read_json(path)
    for name in ("method", "engine", "metric", "mode", "space"):
        if before.get(name) != told[name]:
            raise ValueError(f"{search.folder}: its {name} is {before.get(name)!r}, this one's {told[name]!r}")
    _log.write_json(path, before | told | {"started": time.time(), "stopped": None})


def _told(search: Search) -> dict[str, Any]:
    options = {field.name: getattr(search.options, field.name) for field in dataclasses.fields(search.options)}
    for name in ("path", "resume", "progress"):
        del options[name]
    options["first"] = [dict(config) for config in options["first"]]
    if isinstance(options["data_fraction"], FractionSchedule):
        options["data_fraction"] = str(options["data_fraction"])
    shown = {name: _words(value) for name, value in search.space.items()}
    method = {field.name: getattr(search.method, field.name) for field in dataclasses.fields(search.method)}
    del method["name"]
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in method.items() if value}
    return {"version": 1, "method": search.method.name, "space": shown, **options, "own": own}


def _words(value: Any) -> Any:
    return repr(value) if dataclasses.is_dataclass(value) else value


def _end(search: Search, stopped: str) -> None:
    path = search.folder / _log.SEARCH
    told = _log.read_json(path)
    seconds = told["seconds"] + time.time() - told["started"]
    _log.write_json(path, told | {"stopped": stopped, "seconds": seconds})
