"""The methods: presets over what the engines have."""

from __future__ import annotations

import math
from typing import Any

from fastshard._base import check

from . import _search
from ._options import Method, Options
from ._results import Results
from ._search import Train
from ._space import Space

__all__ = ["bayes", "evolution", "hyperband", "random"]


def random(train: Train, space: Space, **options: Any) -> Results:
    """Draws configurations at random: the baseline, which needs nothing else.

        def train(trial):
            loader = fs.tune.trial_loader("pets/", split="train", parts={"train": 0.9, "val": 0.1}, shuffle=True)
            model = ...
            for epoch in trial.epochs(5):
                ...
                trial.report({"val_accuracy": accuracy})

        space = {"lr": fs.tune.Float(1e-4, 1e-1, log=True), "batch_size": fs.tune.Choice([32, 64])}
        results = fs.tune.random(train, space, metric="val_accuracy", max_trials=20, max_concurrent=2)
        results.best.config

    - ``train``: a function that takes a ``Trial``. It runs in another process, which is given paths and no data.
    - ``space``: a dict of ``Float``, ``Int`` and ``Choice``, and of plain values that are the same for all trials.
    - ``options``: ``metric``, and more: see ``Options``. Searches with Ray use the cluster that ``ray.init`` has
      started; several of them then needn't each start one.

    A trial that fails ends alone, and the report says why. At the time limit, the target or Ctrl-C the search ends with
    what there is. Raises TypeError and ValueError for impossible options, ImportError where an engine is missing, and
    RuntimeError with the first error if all trials fail before they report anything.
    """
    return _search.run(train, space, Options.of(options), Method("random"))


def bayes(train: Train, space: Space, *, initial_points: int = 10, **options: Any) -> Results:
    """Bayesian search: learns from finished trials where good configurations are (Optuna's tree of Parzen estimators).

    ``initial_points``: trials that are drawn at random before it begins. The more trials run at once
    (``max_concurrent``), the less each of them knows. With ``engine="ray"`` Ray Tune runs the trials and Optuna
    suggests. The rest is as for ``random``.
    """
    points = check.integer("initial_points", initial_points, 1)
    return _search.run(train, space, Options.of(options), Method("bayes", initial_points=points))


def hyperband(
    train: Train, space: Space, *, min_epochs: int = 1, max_epochs: int = 27, reduction_factor: int = 3, **options: Any
) -> Results:
    """Asynchronous successive halving (ASHA): many configurations begin, and few get to the end.

    A trial that has reported ``min_epochs``, ``min_epochs * reduction_factor``, ... times goes on if it is among the
    best ``1 / reduction_factor`` of those that came so far, up to ``max_epochs``, which ``trial.epochs()`` counts to.
    With ``data_fraction=FractionSchedule([0.1, 0.3, 1.0])`` those that go on see more data from there on. The rest is
    as for ``random``. The source: Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020.
    """
    low = check.integer("min_epochs", min_epochs, 1)
    high = check.integer("max_epochs", max_epochs, low)
    factor = check.integer("reduction_factor", reduction_factor, 2)
    count = math.ceil(math.log(high / low, factor) - 1e-9)
    rungs = tuple(low * factor**rung for rung in range(max(0, count)))
    if options.setdefault("epochs", high) != high:
        raise ValueError(f"epochs={options['epochs']!r}: expected max_epochs={high}, or nothing")
    return _search.run(train, space, Options.of(options), Method("hyperband", rungs=rungs, reduction_factor=factor))


def evolution(
    train: Train,
    space: Space,
    *,
    rounds: int = 10,
    population: int = 8,
    perturbation_interval: int = 1,
    exchange_ratio: float = 0.25,
    resample_probability: float = 0.25,
    loader_state: str = "continue",
    **options: Any,
) -> Results:
    """Population based training: trials train side by side, and the worst copy the best and vary their configuration.

    - ``rounds``: how often the population is compared. ``perturbation_interval``: epochs of each round.
    - ``population``: trials. ``exchange_ratio``: the share of them, up to a half, that copies as many of the best:
      weights and configuration.
    - ``resample_probability``: how likely a copied value is drawn anew; otherwise it becomes 0.8 or 1.2 times what it
      was, or the next one of a choice, always within the space.
    - ``loader_state``: what a copy's loaders do: ``"continue"`` where those of the trial that it copies stood, or
      ``"restart"`` with epoch 0 of the order.

    ``max_trials`` counts configurations: the population, and each copy; by default there is no end to copies. ``train``
    has to call ``trial.report(..., checkpoint=save)`` and to begin from ``trial.restored``. Ray alone has this method
    (``engine="ray"``). Between rounds Ray starts members one after another, each in a process, so a round should last
    longer than starting one. The source: Jaderberg et al., Population Based Training of Neural Networks, 2017.
    """
    members = check.integer("population", population, 2)
    interval = check.integer("perturbation_interval", perturbation_interval, 1)
    epochs = check.integer("rounds", rounds, 1) * interval
    if options.setdefault("epochs", epochs) != epochs:
        raise ValueError(f"epochs={options['epochs']!r}: expected rounds * perturbation_interval, {epochs}, or nothing")
    if options.get("engine", "ray") != "ray":
        raise ValueError(f"engine={options['engine']!r}: population based training needs engine='ray'")
    if options.setdefault("max_trials", members * (int(rounds) + 1)) < members:
        raise ValueError(f"max_trials={options['max_trials']!r}: expected at least population={members}")
    method = Method(
        "evolution",
        population=members,
        perturbation_interval=interval,
        exchange_ratio=check.number("exchange_ratio", exchange_ratio, 0, 0.5),
        resample_probability=check.number("resample_probability", resample_probability, 0, 1),
        loader_state=check.one_of("loader_state", loader_state, ("continue", "restart")),
    )
    return _search.run(train, space, Options.of(options), method)
