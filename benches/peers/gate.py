"""The quality gate: every peer's pixels on the tracks without chance, against torchvision v2's on the same pictures.

Peers hand out pictures in any order, so each is held against the reference that it resembles most; the few pictures
of the gate are all different.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from job import Images, Job, list_files
from loaders import open_loader
from measure import end_session, environment
from quality import Quality, difference

# Where chance decides what a crop shows, the same peer's track without chance stands for it.
STANDS_FOR = {
    "train": "eval",
    "float": "eval",
    "eval": "eval",
    "large": "large-eval",
    "large-eval": "large-eval",
    "xray": "xray",
}
OTHER_GEOMETRY = ("datago",)
TIMEOUT = 120


class Gate:
    """Reads the references once a track; `check` gives None with a reason on stderr when a peer cannot be checked."""

    def __init__(self) -> None:
        self._references: dict[str, Images] = {}

    def check(self, loader: str, job: Job) -> Quality | str:
        """A reason in words when there is nothing to compare."""
        if loader in OTHER_GEOMETRY:
            return "other geometry"
        try:
            if job.track not in self._references:
                self._references[job.track] = _produce("reference", job)
            return _nearest(_produce(loader, job), self._references[job.track])
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return str(error)


def _produce(loader: str, job: Job) -> Images:
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "pictures.npy"), Path(folder, "log")
        command = [sys.executable, "-W", "ignore", "-m", "peers.gate", loader, json.dumps(asdict(job)), str(out)]
        with log.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment(), start_new_session=True)
            try:
                process.wait(TIMEOUT)
            finally:
                end_session(process)
        if not out.exists():
            raise RuntimeError((log.read_text().strip().splitlines() or ["no output"])[-1])
        return np.load(out).reshape(-1, *job.shape)


def _nearest(theirs: Images, references: Images) -> Quality:
    errors = [[np.square(image.astype(np.float32) - other).mean() for other in references] for image in theirs]
    return difference(theirs, references[np.argmin(errors, axis=1)])


def _reference(job: Job) -> Images:
    from PIL import Image
    from torchvision.transforms import v2

    from peers.pytorch import steps

    chain = v2.Compose([v2.PILToTensor(), *steps(job.track)])
    mode = "L" if job.track == "xray" else "RGB"
    pictures = [chain(Image.open(path).convert(mode)) for path in list_files(job.photos)[0]]
    return np.stack([picture.permute(1, 2, 0).numpy() for picture in pictures])


def main() -> None:
    loader, job, out = sys.argv[1], Job(**json.loads(sys.argv[2])), sys.argv[3]
    pictures = _reference(job) if loader == "reference" else np.array(next(open_loader(loader, job)()))
    np.save(out, pictures)
    # Endless pipelines take seconds to wind down.
    os._exit(0)


if __name__ == "__main__":
    main()
