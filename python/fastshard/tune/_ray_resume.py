"""What a search by Ray goes on from after it was killed, when Ray's notes may be seconds old."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import tune

from . import _log
from ._trial import is_complete

__all__ = ["forgotten_trials", "number_of", "restored_checkpoint"]

_logger = logging.getLogger("fastshard")


def number_of(trial: object) -> int:
    """A trial's number, from its name."""
    return int(str(trial).rpartition("_")[2])


def forgotten_trials(folder: Path, experiment: Path) -> list[int]:
    """Numbers of trials that had begun before Ray noted them: Ray makes them again, and they keep their numbers."""
    noted: set[int] = set()
    if tune.Tuner.can_restore(str(experiment)):
        noted = {number_of(trial) for trial in tune.ExperimentAnalysis(str(experiment)).trials or ()}
    return [number for number, _ in _log.trial_logs(folder) if number not in noted]


@contextmanager
def restored_checkpoint(checkpoint: tune.Checkpoint | None) -> Iterator[Path | None]:
    """The folder to go on from, or None.

    Ray deletes old checkpoints before it notes the new ones: when that is where it was killed, the trial goes on from
    the newest one that is there as a whole.
    """
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as path:
        noted = Path(path)
        found = noted if is_complete(noted) else _newest(noted.parent)
        if found != noted:
            _logger.warning("%s isn't there: going on from %s", noted, "the start" if found is None else found.name)
        yield found


def _newest(folder: Path) -> Path | None:
    return max((path for path in folder.glob("checkpoint_*") if is_complete(path)), default=None)
