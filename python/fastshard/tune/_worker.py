"""A process that trains trials for a search with Optuna: ``python -m fastshard.tune._worker SOCKET``."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fastshard._base import write

from . import _log
from ._trial import OptionError, Saver, Trial, TrialStoppedError, error_text, run_trial

__all__ = ["main"]


def main() -> None:
    """Trains what it is sent until the other side closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the process that searches, which then ends this one
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    # The function of the process that started this one, and nobody else's: it comes through a socket that has no name.
    search = pickle.loads(connection.recv_bytes())  # noqa: S301
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job = json.loads(connection.recv_bytes())
            connection.send_bytes(json.dumps(_train(search, job, connection)).encode())


def _train(search: Any, job: dict[str, Any], connection: Connection) -> dict[str, Any]:
    kept = search.folder / "checkpoints" / f"{job['number']:05}"
    _recover(kept)
    restored = kept if kept.exists() else None
    said: dict[str, Any] = {"state": _log.FINISHED, "fatal": False, "error": None}
    trial = None
    try:
        reports = _Reports(connection, kept)
        trial = Trial(search.folder, job["number"], job["config"], search.rules, reports, restored, search.cpus)
        run_trial(search.train, trial)
    except TrialStoppedError:
        said["state"] = _log.STOPPED
    except Exception as error:  # noqa: BLE001 - whatever training raises
        traceback.print_exc()
        said |= {"state": _log.FAILED, "fatal": isinstance(error, OptionError), "error": error_text(error)}
    return said | {"best": None if trial is None else trial._best}


def _recover(kept: Path) -> None:
    """Brings back a checkpoint whose process was killed while the next one took its place."""
    write.finish_replacing(kept)
    if not kept.exists():
        # As earlier versions called it.
        for old in sorted(kept.parent.glob(f".{kept.name}-*.old"))[-1:]:
            write.rename(old, kept.name)


class _Reports:
    """Reports go through the socket; the last checkpoint stays in a folder of the search."""

    def __init__(self, connection: Connection, kept: Path) -> None:
        self._connection, self._kept = connection, kept

    def report(self, trial: Trial, metrics: dict[str, Any], save: Saver | None) -> None:  # noqa: ARG002
        if save is not None:
            self._keep(save)
        try:
            self._connection.send_bytes(json.dumps({"report": metrics}).encode())
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)  # nobody searches any more; what is written down is that of a trial that can go on
        if answer["stop"]:
            raise TrialStoppedError

    def _keep(self, save: Saver) -> None:
        """Puts a checkpoint in the place of the last one, when it is complete."""
        with write.replacing_folder(self._kept) as unfinished:
            save(unfinished)


def _end_with(parent: int) -> None:
    """Ends this process when the one that searches is gone, whatever it is at."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
