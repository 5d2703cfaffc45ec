"""Optuna as the engine: this process asks it and tells it, and trials train in other processes.

Only this process opens the study, so its storage sees one writer, ``max_trials`` is exact, and what is drawn for trial
n doesn't depend on who was quick. A worker is a fresh interpreter that is sent the function once (by cloudpickle, as
Ray does it, so notebooks work) and then lines of JSON over a socket. One that dies is a failed trial.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from fastshard._base import write

from . import _log, _space
from ._monitor import Monitor, monitor
from ._search import Search

__all__ = ["run"]

_STUDY = "search"
_PATIENCE = 5.0  # seconds that a worker has to end by itself


def run(search: Search) -> str:
    """Runs the trials, and says why that ended."""
    study = _study(search)
    with monitor(search) as watching, _Pool(search, study, watching) as pool:
        try:
            return pool.run()
        except KeyboardInterrupt:
            return "interrupted"


def _study(search: Search) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=_storage(search),
        study_name=_STUDY,
        direction="maximize" if search.options.mode == "max" else "minimize",
        pruner=_pruner(search),
        load_if_exists=search.options.resume,
    )
    if not study.get_trials(deepcopy=False):
        for config in search.options.first:
            study.enqueue_trial(dict(config))
    return study


def _storage(search: Search) -> Any:
    if search.options.storage is not None:
        return search.options.storage
    return JournalStorage(_Journal(search.folder / "optuna.journal"))


def _pruner(search: Search) -> Any:
    if not search.method.rungs:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=search.method.rungs[0], reduction_factor=search.method.reduction_factor
    )


def _sampler(search: Search, number: int) -> Any:
    """Seeded by the number of the trial: the same configurations, however many run at once and whatever came before."""
    seed = (search.options.seed * 1_000_003 + number) % 2**32
    if search.method.name == "bayes":
        return optuna.samplers.TPESampler(n_startup_trials=search.method.initial_points, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


class _Journal(JournalFileBackend):
    """Optuna's journal, which this process alone writes: no kill leaves a cut line in it, or a lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Called by Optuna."""
        write.append_lines(self._path, "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs))


class _Pool:
    """The workers, and who runs what."""

    def __init__(self, search: Search, study: optuna.Study, watching: Monitor) -> None:
        self._search, self._study, self._watching = search, study, watching
        self._running: dict[Connection, tuple[_Worker, optuna.Trial]] = {}
        self._idle: list[_Worker] = []
        self._reason: str | None = None
        limit = search.options.time_limit
        self._deadline = math.inf if limit is None else time.monotonic() + limit
        self._left = self._unfinished()
        self._reported = {trial.number: set(trial.intermediate_values) for trial in study.get_trials(deepcopy=False)}

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
            worker.end()
        write.clear_unfinished(self._search.folder / "checkpoints")

    def _unfinished(self) -> list[optuna.Trial]:
        """Trials that a search that was stopped left behind."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [optuna.Trial(self._study, trial._trial_id) for trial in running]

    def run(self) -> str:
        """Trials until there are no more, or the search ends."""
        while self._reason is None:
            while len(self._running) < self._search.options.max_concurrent and (trial := self._next()) is not None:
                self._start(trial)
            if not self._running:
                return "all trials done"
            left = self._deadline - time.monotonic()
            if left <= 0:
                return "time limit"
            for connection in wait(list(self._running), None if left == math.inf else left):
                assert isinstance(connection, Connection)
                self._hear(connection)
        return self._reason

    def _next(self) -> optuna.Trial | None:
        if self._left:
            return self._left.pop(0)
        begun = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state is not TrialState.WAITING]
        if len(begun) >= self._search.options.max_trials:
            return None
        return self._study.ask()

    def _start(self, trial: optuna.Trial) -> None:
        self._study.sampler = _sampler(self._search, trial.number)
        config = _space.suggest(self._search.space, trial)
        worker = self._idle.pop() if self._idle else _Worker(self._search)
        worker.send({"number": trial.number, "config": config})
        self._running[worker.connection] = worker, trial

    def _hear(self, connection: Connection) -> None:
        """Takes what a worker says, or its end."""
        worker, trial = self._running[connection]
        try:
            told = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            del self._running[connection]
            code = worker.wait()
            _log.TrialLog(self._search.folder, trial.number).end(_log.FAILED, f"its process ended with code {code}")
            self._tell(trial, TrialState.FAIL, None)
            return
        if "report" in told:
            self._report(worker, trial, told["report"])
            return
        del self._running[connection]
        self._idle.append(worker)
        # By then the trial has written it down itself, unless its log couldn't be written.
        _log.TrialLog(self._search.folder, trial.number).end(told["state"], told["error"], told["fatal"])
        if told["fatal"]:
            self._reason = "failed"
        states = {_log.FINISHED: TrialState.COMPLETE, _log.STOPPED: TrialState.PRUNED, _log.FAILED: TrialState.FAIL}
        self._tell(trial, states[told["state"]], told["best"])

    def _report(self, worker: _Worker, trial: optuna.Trial, metrics: dict[str, Any]) -> None:
        value, epoch = metrics[self._search.options.metric], metrics["epoch"]
        if epoch not in self._reported.get(trial.number, ()):  # by the trial before its search was stopped
            trial.report(value, epoch)
        if self._search.options.reaches_target(value):
            self._reason = "target reached"
            del self._running[worker.connection]
            worker.end()
            _log.TrialLog(self._search.folder, trial.number).end(_log.STOPPED)
            self._tell(trial, TrialState.COMPLETE, metrics["best"])
            return
        worker.send({"stop": trial.should_prune()})

    def _tell(self, trial: optuna.Trial, state: TrialState, value: float | None) -> None:
        complete = state is TrialState.COMPLETE and value is not None
        kept = TrialState.FAIL if state is TrialState.COMPLETE and not complete else state
        self._study.tell(trial, value if complete else None, state=kept)
        self._watching.ended(trial.number)


class _Worker:
    """A process that trains one trial after another."""

    def __init__(self, search: Search) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "fastshard.tune._worker", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(search),
                start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            )
        self.connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # of one that died already, which is heard later
            self.connection.send_bytes(_pickled(search))

    def send(self, message: dict[str, Any]) -> None:
        """Sends a line, if anybody is there."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(message).encode())

    def wait(self) -> int:
        """Its exit code."""
        self.connection.close()
        return self._process.wait()

    def end(self) -> None:
        """Ends it: kindly, and then not."""
        self.connection.close()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To it and to the processes that training started, which are a group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _environment(search: Search) -> dict[str, str]:
    """Without the threads of other trials: what numerical libraries go by, as Ray sets it."""
    paths = [path for path in sys.path if path] + [str(Path.cwd())]
    return {"OMP_NUM_THREADS": str(search.cpus)} | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _pickled(search: Search) -> bytes:
    try:
        import cloudpickle
    except ImportError as error:
        raise ImportError(f"engine='optuna' needs cloudpickle: pip install 'fastshard[optuna]' ({error})") from None
    dumped: bytes = cloudpickle.dumps(search)
    return dumped
