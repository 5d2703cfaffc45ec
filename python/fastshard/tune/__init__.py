"""Hyperparameter search on one packed dataset: trials are given a path, and find the pixels decoded.

    import fastshard as fs

    def train(trial):
        parts = {"train": 0.9, "val": 0.1}
        loader = fs.tune.trial_loader("pets/", split="train", parts=parts, shuffle=True)
        ...
        for epoch in trial.epochs(5):
            for batch in loader:
                ...
            trial.report({"val_accuracy": accuracy})

    space = {"lr": fs.tune.Float(1e-4, 1e-1, log=True), "batch_size": fs.tune.Choice([32, 64, 128])}
    results = fs.tune.random(train, space, metric="val_accuracy", max_trials=20, max_concurrent=2)
    fs.tune.report(results, "report/")

The searching is done by engines that are good at it: Ray Tune, Optuna and Keras Tuner. This is what joins them to the
loaders. ``fs.tune.keras_tuner`` loads Keras Tuner when it is first used, and searches load their engine.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._fraction import FractionSchedule
from ._options import Options
from ._presets import bayes, evolution, hyperband, random
from ._report import report
from ._results import Report, Results, TrialResult
from ._space import Choice, Float, Int, suggest
from ._trial import Trial, current_trial
from ._trial_loader import trial_loader

if TYPE_CHECKING:
    from . import keras_tuner as keras_tuner

__all__ = [
    "Choice",
    "Float",
    "FractionSchedule",
    "Int",
    "Options",
    "Report",
    "Results",
    "Trial",
    "TrialResult",
    "bayes",
    "current_trial",
    "evolution",
    "hyperband",
    "random",
    "report",
    "suggest",
    "trial_loader",
]


def __getattr__(name: str) -> Any:
    if name == "keras_tuner":
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
