"""A loader in a process of its own that reads so many images whenever it is told to.

For pytest-benchmark, which times calls: TensorFlow and torch's compiler abort each other in one process, and worker
processes must not be forked from one that runs TensorFlow's threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from types import TracebackType

from job import Job
from loaders import open_loader
from measure import consume, end_session, environment


class RemoteLoader:
    """Context manager around the process. `read` raises RuntimeError with what the process said when it failed."""

    def __init__(self, loader: str, job: Job) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed on exit)
        self._process = subprocess.Popen(
            [sys.executable, __file__, loader, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def __enter__(self) -> RemoteLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_session(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream:
                stream.close()

    def read(self, images: int) -> int:
        """Have at least so many images read and touched; returns how many came in sound batches."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{images}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("read "):  # Keras prints a greeting of its own
                return int(line.split()[1])
        self._log.seek(0)
        raise RuntimeError(f"the loader's process ended:\n{self._log.read()}")


def main() -> None:
    loader, asked = sys.argv[1], Job(**json.loads(sys.argv[2]))
    batches = open_loader(loader, asked)()
    for line in sys.stdin:
        seen, wrong = consume(batches, asked, int(line))
        print(f"read {0 if wrong else seen}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
