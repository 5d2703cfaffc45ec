"""Measure one loader on one track, in a fresh process: `run` starts it and watches its memory, `main` is that process.

A loader's iterator never ends. The first batch is timed apart; half an epoch or more goes by unmeasured, so that queues
are full and tf.data has tuned itself; then an epoch is timed. Queues are as full at its end as at its start, so that
nobody profits from work done before the clock started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from job import Images, Job
from loaders import open_loader
from processes import session_cpu_seconds, session_memory

TIMEOUT = 600.0


@dataclass(frozen=True)
class Result:
    """One measurement. Times in seconds, memory in bytes of all the processes together."""

    loader: str
    track: str
    images: int = 0
    seconds: float = 0.0
    setup_s: float = 0.0
    first_batch_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss: int = 0
    peak_anonymous: int = 0
    wrong_batches: int = 0
    error: str = ""

    @property
    def rate(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0


def run(loader: str, job: Job, images: int) -> Result:
    """Measure in a process of its own; whatever goes wrong there becomes `Result.error`."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, __file__, loader, str(images), json.dumps(asdict(job))]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(), start_new_session=True
        )
        try:
            peak_rss, peak_anonymous = _watch(process)
            output = process.stdout.read() if process.stdout else ""
        finally:
            end_session(process)
        log.seek(0)
        result = _parse(output, log.read(), Result(loader, job.track))
    return replace(result, peak_rss=peak_rss, peak_anonymous=peak_anonymous)


def environment() -> dict[str, str]:
    """No accelerator and no chatter, for everybody."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}


def _watch(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for the end, and return the highest resident and anonymous memory seen in the process's session."""
    deadline = time.monotonic() + TIMEOUT
    rss = anonymous = 0
    while process.poll() is None and time.monotonic() < deadline:
        now_rss, now_anonymous = session_memory(process.pid)
        rss, anonymous = max(rss, now_rss), max(anonymous, now_anonymous)
        time.sleep(0.1)
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    return rss, anonymous


def end_session(process: subprocess.Popen[str]) -> None:
    """Leave no loader's workers behind, even after Ctrl-C; they are in a session of their own and never saw it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _parse(output: str, log: str, empty: Result) -> Result:
    # The last line: Keras prints a greeting of its own before it.
    lines = output.strip().splitlines()
    if lines and lines[-1].startswith("{"):
        return Result(**json.loads(lines[-1]))
    return replace(empty, error=(log.strip().splitlines() or ["no output"])[-1])


def measure(loader: str, job: Job, images: int) -> Result:
    """Open, time the first batch, warm up, and time at least `images` pictures."""
    started = time.perf_counter()
    stream = open_loader(loader, job)
    opened = time.perf_counter()
    batches = stream()
    job.is_sound(next(batches))
    first = time.perf_counter()
    consume(batches, job, max(images // 2, 8 * job.batch))
    cpu, begun = session_cpu_seconds(os.getpid()), time.perf_counter()
    seen, wrong = consume(batches, job, images)
    seconds = time.perf_counter() - begun
    cpu = session_cpu_seconds(os.getpid()) - cpu
    return Result(loader, job.track, seen, seconds, opened - started, first - opened, cpu, wrong_batches=wrong)


def consume(batches: Iterator[Images], job: Job, images: int) -> tuple[int, int]:
    """Take and touch batches until `images` went by; count them, and the batches that hold no picture."""
    seen = wrong = 0
    while seen < images:
        batch = next(batches)
        wrong += not job.is_sound(batch)
        seen += len(batch)
    return seen, wrong


def main() -> None:
    loader, images, job = sys.argv[1:]
    result = measure(loader, Job(**json.loads(job)), int(images))
    print("\n" + json.dumps(asdict(result)), flush=True)
    # Endless pipelines take seconds to wind down; the parent ends the workers.
    os._exit(0)


if __name__ == "__main__":
    main()
