"""Makes every call fail that changes files, one after another, in everything that fastshard writes; as SQLite tests.

python tests/faults/run.py --all                     every point of every scenario: minutes
python tests/faults/run.py --sample 100 --seed 1     some of them
python tests/faults/run.py --only pack --all         of one scenario
python tests/faults/run.py --point pack/17/kill      one of them, with what happened

A point is a scenario, the number of a call, and how it fails (``MODES``). After it, the destination must be the old one
or the new one, or not be there; an error must have been raised exactly where it isn't the new one; and the same again
must leave what a run without faults leaves, to the byte and without any other file. ``shim.c`` does the failing.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import hashlib
import json
import mmap
import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OFF, COUNT, FAIL, SHORT, FULL, KILL = range(6)
# Mode, error, whether all later calls fail too, and of which calls (all by default).
MODES = {
    "eio": (FAIL, errno.EIO, False, None),
    "broken": (FAIL, errno.EIO, True, None),  # all calls from here on
    "enospc": (FAIL, errno.ENOSPC, False, "OWMLrst"),
    "full": (FULL, errno.ENOSPC, True, "OWML"),  # a write goes half through, and the disk stays full
    "short": (SHORT, 0, False, "W"),
    "eintr": (FAIL, errno.EINTR, False, "OW"),
    "kill": (KILL, 0, False, None),
}
HARMLESS = ("short", "eintr")
PATIENCE = 60  # seconds for one run


class State(ctypes.Structure):
    """As in shim.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("mode", "at", "error", "sticky", "root", "no_exchange", "count", "hits")),
        ("folder", ctypes.c_char * 512),
        ("trace", ctypes.c_char * 4096),
        ("what", ctypes.c_char * 512),
    ]


def shared_state() -> State:
    with Path(os.environ["FASTSHARD_FAULTS"]).open("r+b") as file:
        return State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(State)))


@dataclass
class Scenario:
    """What is done in ``folder/t``, which is made by ``before``; ``run`` may find what an earlier run left there."""

    name: str
    run: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: None
    # Before that, it was run and killed when this came true.
    killed_when: Callable[[Path], bool] | None = None
    exchanges: bool = True
    # What is compared; by default all files, and after a fault those of the destination.
    look: Callable[[Path], object] | None = None
    # What may be there after a fault, and after the run that follows it, beside the old or the new one.
    fine: Callable[[object, bool], bool] | None = None
    # That an earlier run had done it all is fine, too.
    already: type[BaseException] | tuple[type[BaseException], ...] = ()


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below one, with what is in it."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
        for path in sorted(folder.rglob("*"))
    }


def destination(found: dict[str, str], name: str) -> dict[str, str]:
    """What a destination holds, but for the lock that says that what it replaced is still to be removed."""
    inside = {path: content for path, content in found.items() if path == name or path.startswith(f"{name}/")}
    inside.pop(f"{name}/lock", None)
    return inside


# --- processes -------------------------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], object]) -> tuple[str, object]:
    """``("ok", result)``, ``("error", exception)``, ``("signal", number)`` or ``("hang", None)``."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _run_and_tell(work, write)
    os.close(write)
    told = _read_until(read, time.monotonic() + PATIENCE)
    os.close(read)
    if told is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    _end_children()
    if told is None:
        return "hang", None
    return pickle.loads(told) if told else ("signal", os.WTERMSIG(status))


def _run_and_tell(work: Callable[[], object], write: int) -> None:
    try:
        warnings.simplefilter("ignore")
        try:
            told = "ok", work()
        except BaseException as error:  # noqa: BLE001 - whatever comes is looked at
            told = "error", (type(error), getattr(error, "errno", None), "".join(traceback.format_exception(error)))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(told))
    finally:
        os._exit(0)


def _read_until(read: int, until: float) -> bytes | None:
    parts = []
    while select.select([read], [], [], max(0, until - time.monotonic()))[0]:
        part = os.read(read, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def _adopt_orphans() -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: workers of killed processes end with each point


def _end_children() -> None:
    while children := Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


# --- points ----------------------------------------------------------------------------------------------------------


class Sweep:
    """One scenario, with what its runs leave when nothing fails."""

    def __init__(self, scenario: Scenario, folder: Path, state: State) -> None:
        self.scenario, self._folder, self._state = scenario, folder, state
        self._work, self._before = folder / "t", folder / "before"
        self._work.mkdir(parents=True)
        state.mode, state.no_exchange, state.folder = OFF, not scenario.exchanges, os.fsencode(self._work)
        told = in_a_fork(lambda: scenario.before(folder))
        if told[0] != "ok":
            raise RuntimeError(f"{scenario.name}: could not be prepared: {_text(told)}")
        shutil.copytree(self._work, self._before, symlinks=True)
        if scenario.killed_when is not None:
            self._kill_when(scenario.killed_when)
        self._old = self._look()
        outcome = self._try(COUNT, 0, 0, False)
        if outcome[0] != "ok":
            raise RuntimeError(f"{scenario.name}: fails without faults: {_text(outcome)}")
        self._new = self._look()
        self.trace = state.trace[: state.count].decode()

    def _kill_when(self, reached: Callable[[Path], bool]) -> None:
        at = 0
        while not reached(self._work):
            self._reset()
            at += 1
            if self._try(KILL, at, 0, False)[0] != "signal":
                raise RuntimeError(f"{self.scenario.name}: was done before it was killed")
        shutil.rmtree(self._before)
        shutil.copytree(self._work, self._before, symlinks=True)

    def points(self) -> Iterator[tuple[int, str]]:
        for at, kind in enumerate(self.trace, 1):
            for mode, (_, _, _, kinds) in MODES.items():
                if kinds is None or kind in kinds:
                    yield at, mode

    def _look(self) -> object:
        return tree(self._work) if self.scenario.look is None else self.scenario.look(self._work)

    def _reset(self) -> None:
        shutil.rmtree(self._work)
        shutil.copytree(self._before, self._work, symlinks=True)

    def _try(self, mode: int, at: int, error: int, sticky: bool) -> tuple[str, object]:
        state = self._state
        state.at, state.error, state.sticky, state.count, state.hits, state.what = at, error, sticky, 0, 0, b""
        state.mode = mode

        def work() -> object:
            state.root = os.getpid()
            return self.scenario.run(self._work)

        try:
            return in_a_fork(work)
        finally:
            state.mode = OFF

    def check(self, at: int, name: str) -> str | None:
        """Lets one call fail, and says what is wrong then."""
        self._reset()
        mode, error, sticky, _ = MODES[name]
        outcome = self._try(mode, at, error, sticky)
        what = os.fsdecode(self._state.what) or "no such call"
        found = self._look()
        problem = self._problem(name, outcome, found, what)
        if problem is None:
            again = in_a_fork(lambda: self.scenario.run(self._work))
            problem = self._problem_again(again)
        return None if problem is None else f"{self.scenario.name}/{at}/{name} ({what}): {problem}"

    def _problem(self, name: str, outcome: tuple[str, object], found: object, what: str) -> str | None:
        fine = self.scenario.fine is not None and self.scenario.fine(found, False)
        is_new, is_old = fine or self._is(found, self._new), self._is(found, self._old)
        if outcome[0] == "hang":
            return "hangs"
        if outcome[0] == "signal":
            if name != "kill" or outcome[1] != signal.SIGKILL:
                return f"signal {outcome[1]}"
        elif outcome[0] == "ok":
            return None if is_new or what == "no such call" else f"no error, but not the new one: {self._said(found)}"
        elif not issubclass(outcome[1][0], OSError):
            return f"an error of another kind:\n{outcome[1][2]}"
        elif name in HARMLESS:
            return f"an error that is none:\n{outcome[1][2]}"
        elif is_new and not fine and not (self._may_fail_late(what) or name == "broken"):
            return f"an error, but the new one is there:\n{outcome[1][2]}"
        if is_new or is_old or self._is_set_aside(found):
            return None
        return f"neither the old nor the new one: {self._said(found)}"

    def _may_fail_late(self, what: str) -> bool:
        """That a name isn't sure to be on disk is told after it was given."""
        return what.startswith("fsync")

    def _is(self, found: object, wanted: object) -> bool:
        name = self.scenario.name.split()[0]
        if self.scenario.look is not None or name not in DESTINATIONS:
            return found == wanted
        return destination(found, DESTINATIONS[name]) == destination(wanted, DESTINATIONS[name])

    def _is_set_aside(self, found: object) -> bool:
        return not self.scenario.exchanges and any(path.endswith(".replaced") for path in found)

    def _said(self, found: object) -> str:
        return json.dumps(found, default=str)[:2000]

    def _problem_again(self, again: tuple[str, object]) -> str | None:
        if again[0] != "ok" and not (again[0] == "error" and issubclass(again[1][0], self.scenario.already or ())):
            return f"the next one ends with {_text(again)}"
        found = self._look()
        fine = self.scenario.fine is not None and self.scenario.fine(found, True)
        if found != self._new and not fine:
            return f"the next one leaves {self._said(_difference(found, self._new))}"
        return None


def _text(outcome: tuple[str, object]) -> str:
    return outcome[1][2] if outcome[0] == "error" else f"{outcome[0]} {outcome[1]}"


def _difference(found: object, wanted: object) -> object:
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return {"found": found, "wanted": wanted}
    names = sorted(found.keys() | wanted.keys())
    return {name: (found.get(name), wanted.get(name)) for name in names if found.get(name) != wanted.get(name)}


# --- scenarios -------------------------------------------------------------------------------------------------------

DESTINATIONS: dict[str, str] = {}


def scenarios() -> list[Scenario]:
    import scenarios as found

    DESTINATIONS.update(found.DESTINATIONS)
    return found.scenarios(Scenario)


# --- the program -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--all", action="store_true", help="try every point")
    chosen.add_argument("--sample", type=int, default=100, help="how many points to draw")
    chosen.add_argument("--point", help="SCENARIO/NUMBER/MODE: try this one")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--only", action="append", help="the name of a scenario, or its beginning")
    options = parser.parse_args()
    if "FASTSHARD_FAULTS" not in os.environ:
        sys.exit(_with_shim())
    sys.exit(_sweep(options))


def _with_shim() -> int:
    """Starts this again with the shim, which has to be there from the beginning."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder is made in it
    with tempfile.TemporaryDirectory(prefix="fastshard-faults-", dir=memory) as folder:
        shim, state = Path(folder, "shim.so"), Path(folder, "state")
        compiler = shutil.which("cc") or sys.exit("this needs a C compiler")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
        state.write_bytes(bytes(ctypes.sizeof(State)))
        alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        env = os.environ | alone | {"LD_PRELOAD": str(shim), "FASTSHARD_FAULTS": str(state)}
        return subprocess.run([sys.executable, *sys.argv], env=env, check=False).returncode


def _sweep(options: argparse.Namespace) -> int:
    folder = Path(os.environ["FASTSHARD_FAULTS"]).parent
    state = shared_state()
    _adopt_orphans()
    wanted = options.only or ([options.point.split("/")[0]] if options.point else [""])
    all_of_them = scenarios()
    names = {scenario.name for scenario in all_of_them}
    sweeps = [
        Sweep(scenario, folder / f"s{number}", state)
        for number, scenario in enumerate(all_of_them)
        if any(scenario.name == name or (name not in names and scenario.name.startswith(name)) for name in wanted)
    ]
    chosen = _chosen(sweeps, options)
    print(f"{'scenario':<36} {'calls':>6} {'points':>7} {'wrong':>6} {'seconds':>8}", flush=True)
    problems = 0
    for sweep, points in zip(sweeps, chosen, strict=True):
        state.no_exchange, state.folder = not sweep.scenario.exchanges, os.fsencode(sweep._work)
        started = time.monotonic()
        found = [problem for at, mode in points if (problem := sweep.check(at, mode)) is not None]
        problems += len(found)
        seconds = time.monotonic() - started
        print(f"{sweep.scenario.name:<36} {len(sweep.trace):>6} {len(points):>7} {len(found):>6} {seconds:>8.1f}")
        print(*(f"  WRONG {problem}" for problem in found), sep="\n", end="\n" if found else "", flush=True)
    calls, count = sum(len(sweep.trace) for sweep in sweeps), sum(map(len, chosen))
    print(f"{'all':<36} {calls:>6} {count:>7} {problems:>6}", flush=True)
    return int(problems > 0)


def _chosen(sweeps: list[Sweep], options: argparse.Namespace) -> list[list[tuple[int, str]]]:
    points = [list(sweep.points()) for sweep in sweeps]
    if options.point:
        _, at, mode = options.point.split("/")
        return [[(int(at), mode)] for _ in sweeps]
    if options.all:
        return points
    # As many of each scenario, so that the small ones come up, too.
    drawing = random.Random(options.seed)
    share = -(-options.sample // len(points))
    return [sorted(drawing.sample(some, min(share, len(some)))) for some in points]


if __name__ == "__main__":
    main()
