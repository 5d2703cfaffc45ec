"""Ray Tune as the engine: its schedulers, and Optuna for its Bayesian search."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune

from . import _log, _space
from ._monitor import Monitor, monitor
from ._options import Method, Options
from ._ray_resume import forgotten_trials, number_of, restored_checkpoint
from ._results import Results
from ._search import Search
from ._trial import Saver, Trial, TrialStoppedError, run_trial

__all__ = ["run"]

_NAME = "search"


def run(search: Search) -> str:
    """Runs the trials, and says why that ended."""
    started = time.monotonic()
    # It misses files that nobody writes: metrics are kept in the search's own.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    with (
        _cluster(search),
        monitor(search) as watching,
        _driving(search, watching) as driver,
        _seeded(search.options.seed),
    ):
        _tuner(search).fit()
    limit = search.options.time_limit
    if limit is not None and time.monotonic() - started >= limit:
        driver.reason = driver.reason or "time limit"
    return driver.reason or ("all trials done" if _complete(search) else "interrupted")


@contextmanager
def _cluster(search: Search) -> Iterator[None]:
    """Uses the cluster that is there, or starts one on this machine and ends it."""
    # What was reported before a crash counts when the search is resumed; by default Ray notes it every ten seconds.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    # What there is to see is seen here, and kept in the folder of the search.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    if ray.is_initialized():
        yield
        return
    # As many trials as may run at once fit in it, and no more.
    cpus = search.cpus * search.options.max_concurrent
    quiet = ray.LoggingConfig(log_level="WARNING")
    ray.init(num_cpus=cpus, include_dashboard=False, configure_logging=False, logging_config=quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Ray's population based training draws from the random numbers of the whole program."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


class _Driver:
    """What the stopper, the callback and the scheduler of a search share; Ray copies and pickles those."""

    def __init__(self, search: Search, watching: Monitor) -> None:
        self.search, self.watching = search, watching
        self.reason: str | None = None
        self.configurations = search.method.population
        self.forgotten: list[int] = []


_running: list[_Driver] = []


def _driver() -> _Driver:
    return _running[0]


@contextmanager
def _driving(search: Search, watching: Monitor) -> Iterator[_Driver]:
    if _running:
        raise RuntimeError("Ray Tune runs one search at a time in a process, and one is running")
    _running.append(_Driver(search, watching))
    try:
        yield _running[0]
    finally:
        _running.clear()


class _Stopper(tune.Stopper):
    """Ends the search at its target, or where somebody else gave a reason."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        driver = _driver()
        if driver.search.options.reaches_target(result.get(driver.search.options.metric)):
            driver.reason = driver.reason or "target reached"
        return False

    def stop_all(self) -> bool:
        return _driver().reason is not None


class _Callback(tune.Callback):
    """Writes down how trials ended that couldn't say so themselves."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._ended(trial, _log.STOPPED)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        error = trial.get_error()
        said = "its process died; what Ray printed may say why"
        if error is not None:
            said = str(error).strip().splitlines()[-1]
        self._ended(trial, _log.FAILED, said)

    def _ended(self, trial: Any, state: str, error: str | None = None) -> None:
        driver, number = _driver(), number_of(trial)
        log = _log.TrialLog(driver.search.folder, number)
        log.end(state, error)
        driver.watching.ended(number)
        if list(_log.read_lines(log.path))[-1].get("fatal"):
            driver.reason = "failed"


class _Explore:
    """Keeps copied configurations inside the space, and counts them."""

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        driver = _driver()
        driver.configurations += 1
        if driver.configurations > driver.search.options.max_trials:
            driver.reason = driver.reason or "all trials done"
        space = driver.search.space
        domains = {name: value for name, value in space.items() if isinstance(value, _space.Domain)}
        return config | {name: domain.nearest(config[name]) for name, domain in domains.items()}


class _DefineByRun:
    """The space as a function of an ``optuna.Trial``."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space

    def __call__(self, trial: Any) -> dict[str, Any]:
        _space.suggest(self._space, trial)
        return _space.constants(self._space)


def _tuner(search: Search) -> tune.Tuner:
    trainable = tune.with_resources(_trainable(search), {"cpu": search.cpus, "gpu": search.options.gpus})
    storage = search.folder / "ray"
    experiment = storage / _NAME
    _driver().forgotten = forgotten_trials(search.folder, experiment)
    if search.options.resume and tune.Tuner.can_restore(str(experiment)):
        return tune.Tuner.restore(str(experiment), trainable, resume_unfinished=True, param_space=_param_space(search))
    return tune.Tuner(
        trainable,
        param_space=_param_space(search),
        tune_config=_tune_config(search),
        run_config=tune.RunConfig(
            name=_NAME,
            storage_path=str(storage),
            stop=_Stopper(),
            callbacks=[_Callback()],
            # Whoever is copied may be a round ahead before the copy begins.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2 + search.method.perturbation_interval),
            verbose=0,
        ),
    )


def _param_space(search: Search) -> dict[str, Any]:
    if search.method.name == "bayes":
        return {}
    return {name: value.to_ray() if isinstance(value, _space.Domain) else value for name, value in search.space.items()}


def _tune_config(search: Search) -> tune.TuneConfig:
    options, method = search.options, search.method
    return tune.TuneConfig(
        num_samples=method.population or options.max_trials,
        max_concurrent_trials=options.max_concurrent if method.name == "bayes" else None,
        time_budget_s=options.time_limit,
        search_alg=_bayes(search) if method.name == "bayes" else _variants(options, method),
        scheduler=_SCHEDULERS[method.name](search),
        trial_name_creator=_name,
        # A trial begins in a process that is there, instead of importing everything anew.
        reuse_actors=True,
    )


def _variants(options: Options, method: Method) -> Any:
    from ray.tune.search.basic_variant import BasicVariantGenerator

    # Of a population all live at once, and those that are paused make room for others.
    live = 0 if method.population else options.max_concurrent
    first = [dict(config) for config in options.first]
    return BasicVariantGenerator(points_to_evaluate=first, max_concurrent=live, random_state=options.seed)


def _bayes(search: Search) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f"bayes with engine='ray' needs optuna: pip install 'fastshard[optuna]' ({error})") from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=search.method.initial_points, seed=search.options.seed)
    first = [dict(config) for config in search.options.first] or None
    return OptunaSearch(
        _DefineByRun(search.space),
        metric="best",
        mode=search.options.mode,
        points_to_evaluate=first,
        sampler=sampler,
    )


def _fifo(search: Search) -> Any:  # noqa: ARG001
    return tune.schedulers.FIFOScheduler()  # type: ignore[no-untyped-call]


def _asha(search: Search) -> Any:
    epochs, rungs = search.options.epochs, search.method.rungs
    assert epochs is not None  # hyperband sets it
    return tune.schedulers.ASHAScheduler(
        time_attr="epoch",
        metric=search.options.metric,
        mode=search.options.mode,
        max_t=epochs,
        grace_period=rungs[0] if rungs else epochs,
        reduction_factor=search.method.reduction_factor,
    )


def _pbt(search: Search) -> Any:
    method = search.method
    mutations: dict[str, Any] = {
        name: list(value.values) if isinstance(value, _space.Choice) else value.draw
        for name, value in search.space.items()
        if isinstance(value, _space.Domain)
    }
    return tune.schedulers.PopulationBasedTraining(
        time_attr="epoch",
        metric=search.options.metric,
        mode=search.options.mode,
        perturbation_interval=method.perturbation_interval,
        hyperparam_mutations=mutations,
        quantile_fraction=method.exchange_ratio,
        resample_probability=method.resample_probability,
        custom_explore_fn=_Explore(),
        synch=True,  # rounds, so that the result doesn't depend on who is quick
    )


_SCHEDULERS: dict[str, Callable[[Search], Any]] = {
    "random": _fifo,
    "bayes": _fifo,
    "hyperband": _asha,
    "evolution": _pbt,
}


def _name(trial: Any) -> str:  # noqa: ARG001
    driver = _driver()
    number = driver.forgotten.pop(0) if driver.forgotten else _log.TrialLog.next(driver.search.folder)
    return f"trial_{number:05}"


def _trainable(search: Search) -> Callable[[dict[str, Any]], None]:
    here = Path.cwd()

    def fastshard_trial(config: dict[str, Any]) -> None:
        # The next trial in this process waits until this one has cleaned up; by default it fails after two seconds.
        os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "600")
        # Ray puts each trial into a folder of its own, where "pets/" would be somewhere else.
        with contextlib.suppress(FileNotFoundError):  # on a machine that has no such folder
            os.chdir(here)
        number = number_of(tune.get_context().get_trial_name())
        with restored_checkpoint(tune.get_checkpoint()) as restored:
            trial = Trial(search.folder, number, config, search.rules, _Reports(), restored, search.cpus)
            try:
                run_trial(search.train, trial)
            except TrialStoppedError:
                sys.exit(0)

    return fastshard_trial


class _Reports:
    """Reports go to Ray, which ends a trial by ending its thread."""

    def report(self, trial: Trial, metrics: dict[str, Any], save: Saver | None) -> None:  # noqa: ARG002
        try:
            if save is None:
                tune.report(metrics)
                return
            with tempfile.TemporaryDirectory(prefix="fastshard-") as folder:
                save(Path(folder))
                tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
        except SystemExit:
            raise TrialStoppedError from None


def _complete(search: Search) -> bool:
    results = Results(search.folder)
    ended = [trial for trial in results.trials if trial.state in (_log.FINISHED, _log.STOPPED, _log.FAILED)]
    return len(ended) >= (search.method.population or search.options.max_trials)
