"""Loaders for trials: each opens the packed dataset by its path, and finds the pixels that others have decoded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastshard._base import check
from fastshard._dataset import Dataset
from fastshard._load.loader import Loader, NoBatchError, _Begin

from ._fraction import FractionSchedule, fraction_at
from ._trial import Trial, current_trial

if TYPE_CHECKING:
    from fastshard._load.cache import Cache

__all__ = ["trial_loader"]


def trial_loader(
    data: Dataset | str | os.PathLike[str],
    batch_size: int | None = None,
    *,
    split: str | None = None,
    parts: Mapping[str, float] | None = None,
    stratify: str | None = None,
    split_seed: int = 0,
    config: Mapping[str, Any] | None = None,
    data_fraction: float | FractionSchedule | None = None,
    shuffle: bool | str = False,
    seed: int | None = None,
    num_threads: int | None = None,
    cache: str | os.PathLike[str] | Cache = "auto",
    **options: Any,
) -> Loader:
    """A ``Loader`` for one trial of a search. Works in workers of Ray, Optuna and Keras Tuner, and in plain scripts.

    - ``data``: the path of a packed dataset, which is all that a trial needs to be given; or a dataset.
    - ``batch_size``, ``seed``: by default what ``config`` has under these names; a seed of 0 if it has none. The
      order depends on the seed and the epoch alone: all trials of a seed see the same samples in the same order.
    - ``split``: which part, by name: of ``parts``, such as ``{"train": 0.9, "val": 0.1}``, cut alike in every trial
      (``Dataset.split`` with ``stratify`` and ``split_seed``); without ``parts`` rows whose field ``split`` is that.
    - ``config``: by default that of the running trial, if a search of ``fastshard.tune`` runs it.
    - ``data_fraction``: the part of the data that is trained on; by default the running trial's, or what ``config``
      has under this name, where ``shuffle`` is on. Loaders that don't shuffle see all, since they evaluate. Parts lie
      inside larger ones, and hold every class of ``stratify`` in proportion. A ``FractionSchedule`` makes the
      loader grow when its epoch does.
    - ``num_threads``: by default the cores of the trial: those that its search or Ray gave it, or all there are.
    - ``cache``: where decoded pixels are kept for all trials, ``"auto"`` by default; see ``Loader``.
    - ``options``: those of ``Loader``. Which of several processes of one trial it is, the loader finds out itself.

    Raises what ``Loader`` raises, and ValueError or KeyError for a part or field that isn't there.
    """
    trial = current_trial()
    given = (trial.config if trial is not None else {}) if config is None else config
    dataset = _part(data if isinstance(data, Dataset) else Dataset(data), split, parts, stratify, split_seed)
    size = given.get("batch_size") if batch_size is None else batch_size
    if size is None:
        raise TypeError("batch_size=None: expected one, or 'batch_size' in the configuration")
    options |= {
        "shuffle": shuffle,
        "seed": given.get("seed", 0) if seed is None else seed,
        "num_threads": _threads(trial) if num_threads is None else num_threads,
        "cache": cache,
    }
    fraction = _fraction(data_fraction, given, trial) if shuffle or data_fraction is not None else 1.0
    epoch = trial.epoch if trial is not None else 0
    state = trial._next_state() if trial is not None else None
    share = fraction_at(fraction, epoch)
    try:
        loader = Loader(_subset(dataset, share, stratify), size, **options)
    except NoBatchError as error:
        raise NoBatchError(f"data_fraction={share!r}: {error}" if share != 1 else str(error)) from None
    if isinstance(fraction, FractionSchedule):
        first = epoch - (0 if state is None else state["epoch"])
        loader = GrowingLoader.of(loader, _Growth(dataset, fraction, stratify, first))
    if state is not None:
        loader.load_state_dict(state)
    if trial is not None:
        trial._adopt(loader)
    return loader


def _part(
    dataset: Dataset, split: str | None, parts: Mapping[str, float] | None, stratify: str | None, seed: int
) -> Dataset:
    if split is None:
        if parts is not None:
            raise ValueError(f"split=None: expected one of {', '.join(map(repr, parts))}")
        return dataset
    if parts is None:
        if "split" not in (field.name for field in dataset.fields):
            wanted = "parts={'train': 0.9, 'val': 0.1}, or a field 'split'"
            raise ValueError(f"split={split!r}: expected {wanted}; {dataset._opened.name} has none")
        found = dataset.where(split=split)
        if not len(found):
            raise ValueError(f"split={split!r}: no row of {dataset._opened.name} has that in its field 'split'")
        return found
    check.one_of("split", split, list(parts))
    return dataset.split(dict(parts), stratify=stratify, seed=seed)[split]


def _subset(dataset: Dataset, fraction: float, stratify: str | None) -> Dataset:
    check.number("data_fraction", fraction, 0, 1)
    found = dataset if fraction == 1 else dataset.subset(float(fraction), stratify=stratify)
    if not len(found):
        raise ValueError(f"data_fraction={fraction!r}: nothing is left of {len(dataset):,} rows")
    return found


def _fraction(
    given: float | FractionSchedule | None, config: Mapping[str, Any], trial: Trial | None
) -> float | FractionSchedule:
    if given is not None:
        return given
    if "data_fraction" in config:
        return float(config["data_fraction"])
    return trial._rules.data_fraction if trial is not None else 1.0


def _threads(trial: Trial | None) -> int | None:
    if trial is not None and trial.num_threads is not None:
        return trial.num_threads
    return ray_cpus()


def ray_cpus() -> int | None:
    """The cores that Ray gave to the task or actor that runs this, or None outside of one."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None and context.get_task_id() is None:
        return None
    cpus = context.get_assigned_resources().get("CPU")
    return None if cpus is None else max(1, int(cpus))


class GrowingLoader(Loader):
    """A loader whose dataset becomes larger with its epochs, as a ``FractionSchedule`` says."""

    _growth: _Growth | None = None

    @classmethod
    def of(cls, loader: Loader, growth: _Growth) -> GrowingLoader:
        """A loader like ``loader`` that grows."""
        grown = cast("GrowingLoader", cls._of(loader.dataset, loader._spec, loader._functions, loader._finds_rank))
        grown._growth = growth
        grown._set_next(loader._next)
        return grown

    def _set_next(self, begin: _Begin) -> None:
        self._show(begin.epoch)
        super()._set_next(begin)

    def _show(self, epoch: int) -> None:
        """Takes the part of the dataset that an epoch sees."""
        if self._growth is None:
            return
        part = self._growth.part(epoch)
        if part.fingerprint != self.dataset.fingerprint:
            self._restart(part, self._options)

    def _read_state(self, state: Mapping[str, Any]) -> _Begin:
        if hasattr(state, "get") and isinstance(state.get("epoch"), int):
            self._show(state["epoch"])
        return super()._read_state(state)

    def _like(self, spec: dict[str, Any], finds_rank: bool) -> Loader:
        return _regrow(super()._like(spec, finds_rank), self._growth)

    def __reduce__(self) -> tuple[Any, ...]:
        return _regrow, (super()._like(self._spec, self._finds_rank), self._growth)


class _Growth(NamedTuple):
    """What grows how; epoch 0 of the loader is epoch ``first`` of the schedule."""

    whole: Dataset
    schedule: FractionSchedule
    stratify: str | None
    first: int

    def part(self, epoch: int) -> Dataset:
        return _subset(self.whole, self.schedule.at(epoch + self.first), self.stratify)


def _regrow(loader: Loader, growth: _Growth | None) -> Loader:
    return loader if growth is None else GrowingLoader.of(loader, growth)
