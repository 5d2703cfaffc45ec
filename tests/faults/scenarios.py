"""What is tried: packs, exports, a cache, searches, checkpoints, reports and single files."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # noqa: F401 - imported by the others, and here so that every fork has it
from PIL import Image

import fastshard as fs
import fastshard.tune
from fastshard._base import write as _write
from fastshard.tune import _optuna, _page, _worker

for _module in Path(fs.__file__).parent.glob("_*.py"):
    if not _module.stem.startswith("__"):
        importlib.import_module(f"fastshard.{_module.stem}")
Image.init()

# Of a scenario, by the first word of its name: what must be old or new as a whole.
DESTINATIONS = {"pack": "ds", "export": "out", "checkpoint": "checkpoints/00000", "file": "state.json"}
NEW, OLD = 1, 2  # seeds of what is written


def scenarios(make: Callable[..., Any]) -> list[Any]:
    exists = FileExistsError
    found = [
        make("pack", _pack(NEW), _sources, already=exists),
        make("pack of a stream", _pack_rows(NEW), already=exists),
        make("pack that goes on", _pack(NEW), _sources, killed_when=_is_half_packed, already=exists),
        make("pack over another", _pack(NEW, overwrite=True), _packed),
        make("pack of a stream over another", _pack_rows(NEW, overwrite=True), _packed),
        make("pack over another in two renames", _pack(NEW, overwrite=True), _packed, exchanges=False),
    ]
    for to in ("folder", "webdataset", "parquet", "tfrecord", "coco"):
        found.append(make(f"export as {to}", _export(to), _dataset, already=exists))
        found.append(make(f"export as {to} over another", _export(to, overwrite=True), _exported(to)))
    found += [
        make("export in two renames", _export("webdataset", overwrite=True), _exported("webdataset"), exchanges=False),
        make("cache", _fill, _dataset, fine=lambda _, done: not done),
        make("checkpoint", _checkpoint(NEW)),
        make("checkpoint over another", _checkpoint(NEW), lambda folder: _checkpoint(OLD)(folder / "t")),
        make(
            "checkpoint in two renames",
            _checkpoint(NEW),
            lambda folder: _checkpoint(OLD)(folder / "t"),
            exchanges=False,
        ),
        make("file", _file("new")),
        make("file over another", _file("new"), lambda folder: _file("old")(folder / "t")),
        make("lines", _lines, look=_whole_lines, fine=_are_lines),
        make("report", _report, _searched, look=_reported, fine=_is_report),
        make("search", _search, look=_found, fine=_is_search),
    ]
    return found


# --- packs -----------------------------------------------------------------------------------------------------------


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (160, 200, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _sources(folder: Path) -> None:
    (folder / "src/cat").mkdir(parents=True)
    for number in range(4):
        (folder / f"src/cat/{number}.jpg").write_bytes(_jpeg(number))


def _rows(seed: int) -> list[dict[str, Any]]:
    return [
        {
            "image": _jpeg(seed + row),
            "label": row % 2,
            "x": np.float32(row) / seed,
            "boxes": np.float32([[1, 2, 30 + row, 40]]),
            "labels": np.int64([row % 2]),
        }
        for row in range(4)
    ]


def _pack(seed: int, **options: Any) -> Callable[[Path], object]:
    options = {"shard_size": "66KB", "num_threads": 1, "progress": False, "seekable": seed == NEW} | options
    return lambda work: fs.pack(work.parent / "src", work / "ds", **options)


def _pack_rows(seed: int, path: str = "ds", **options: Any) -> Callable[[Path], object]:
    types = {"boxes": "list[float32, 4]", "labels": "list[int64]"}
    options = {"types": types, "class_names": {"label": ["a", "b"]}, "progress": False} | options
    return lambda work: fs.pack(iter(_rows(seed)), work / path, shard_size="66KB", num_threads=1, **options)


def _packed(folder: Path) -> None:
    _sources(folder)
    _pack(OLD)(folder / "t")


def _is_half_packed(work: Path) -> bool:
    return (work / "ds.partial/shard-00001.json").exists()


# --- exports ---------------------------------------------------------------------------------------------------------


def _dataset(folder: Path) -> None:
    _pack_rows(NEW, "source")(folder)


def _export(to: str, rows: int = 4, **options: Any) -> Callable[[Path], object]:
    if to in ("folder", "coco"):
        options |= {"num_threads": 1}
    if to == "coco":
        options |= {"categories": [{"id": number, "name": str(number)} for number in range(2)]}
    if to == "folder":
        options |= {"fields": ["image", "label", "x"]}
    return lambda work: fs.open(work.parent / "source")[:rows].export(work / "out", to=to, progress=False, **options)


def _exported(to: str) -> Callable[[Path], object]:
    def before(folder: Path) -> None:
        _dataset(folder)
        _export(to, rows=2)(folder / "t")

    return before


# --- the cache -------------------------------------------------------------------------------------------------------


def _fill(work: Path) -> object:
    steps = {"image": [fs.Resize((16, 16)), fs.RandomCrop(8)]}
    wanted = _pixels(work, steps, "off")
    with np.errstate(all="ignore"):
        found = _pixels(work, steps, fs.Cache(work / "cache"))
    if found != wanted:
        raise ValueError("other pixels with a cache than without")
    return None


def _pixels(work: Path, steps: dict[str, Any], cache: Any) -> list[bytes]:
    loader = fs.Loader(work.parent / "source", 2, num_threads=1, fields=["image"], transforms=steps, cache=cache)
    return [batch["image"].tobytes() for batch in loader]


# --- searches --------------------------------------------------------------------------------------------------------


def _checkpoint(seed: int) -> Callable[[Path], object]:
    def save(folder: Path) -> None:
        (folder / "layers").mkdir()
        for number in range(seed, seed + 2):
            _write.new_file(folder / f"layers/{number}", bytes([seed]) * 5000)

    return lambda work: _worker._Reports(None, work / "checkpoints/00000")._keep(save)  # type: ignore[arg-type]


def _train(trial: Any) -> None:
    for epoch in trial.epochs():
        begun = -1 if trial.restored is None or epoch != trial.epoch else int((trial.restored / "model").read_text())
        if begun not in (-1, epoch - 1):
            raise ValueError(f"epoch {epoch} goes on from epoch {begun}")
        trial.report({"accuracy": trial.config["lr"] + epoch}, checkpoint=lambda folder: _save(folder, epoch))  # noqa: B023


def _save(folder: Path, epoch: int) -> None:
    _write.new_file(folder / "model", str(epoch).encode())


def _search(work: Path) -> object:
    _optuna.subprocess.Popen = Forked  # type: ignore[misc]
    space = {"lr": fs.tune.Float(0, 1)}
    options = {"max_trials": 2, "max_concurrent": 1, "epochs": 2, "engine": "optuna", "resume": True}
    return repr(fs.tune.random(_train, space, metric="accuracy", path=work / "search", progress=False, **options))


class Forked:
    """A worker as a fork, which has all modules already, in place of ``subprocess.Popen``."""

    def __init__(self, command: list[str], pass_fds: list[int], **_: Any) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self._work(command, *pass_fds)
        while os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)

    def _work(self, command: list[str], socket: int) -> None:
        try:
            os.setsid()
            os.closerange(3, socket)
            os.closerange(socket + 1, 1024)
            sys.argv = ["worker", command[-1]]
            sys.stderr = io.StringIO()  # tracebacks of trials that are meant to fail
            _worker.main()
        finally:
            os._exit(0)

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (30 if timeout is None else timeout)
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout or 30)
            time.sleep(0.001)


def _found(work: Path) -> object:
    """Of a search: its trials, and the names of files that are there."""
    if not (work / "search").exists():
        return None
    try:
        results = fs.tune.Results(work / "search")
    except FileNotFoundError:
        return None
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.name.startswith("."))
    trials = [(trial.state, trial.value, trial.epochs, _saved(trial)) for trial in results.trials]
    return {"trials": trials, "stopped": results.stopped, "left": names}


def _is_search(found: Any, done: bool) -> bool:
    """Every trial has come to its end, or failed, or goes on; and what it kept fits what it reported."""
    if found is None:
        return not done
    whole = all(_is_trial(*trial) for trial in found["trials"])
    states = [state for state, *_ in found["trials"]]
    return whole and (not done or (not found["left"] and len(states) == 2 and set(states) <= {"finished", "failed"}))


def _is_trial(state: str, value: float | None, epochs: int, saved: str | None) -> bool:
    if state == "finished" and (epochs != 2 or value is None or not 1 <= value <= 2 or saved != "1"):
        return False
    # A report is written down before its checkpoint is there.
    return saved in ((None,), ("0", None), ("0", "1"))[epochs]


def _saved(trial: Any) -> str | None:
    return None if trial.checkpoint is None else (trial.checkpoint / "model").read_text()


def _searched(folder: Path) -> None:
    _search(folder)


def _report(work: Path) -> object:
    _page.render = lambda _: f"<html>{'page ' * 1000}</html>"  # plotly takes a second
    return fs.tune.report(work.parent / "search", work / "report")


def _reported(work: Path) -> object:
    """Whether each file of a report is there as a whole: its page has ids that are drawn anew each time."""
    ends = {"trials.csv": b"\n", "searches.csv": b"\n", "report.html": b"</html>"}
    files = {path.name: path.read_bytes().rstrip(b" ") for path in (work / "report").glob("*")}
    return {
        name: "whole" if data.rstrip().endswith(ends.get(name, b"?").rstrip()) and len(data) > 50 else "cut"
        for name, data in files.items()
    }


def _is_report(found: Any, done: bool) -> bool:
    return not done and all(found[name] == "whole" for name in found if not name.startswith("."))


# --- single files ----------------------------------------------------------------------------------------------------


def _file(text: str) -> Callable[[Path], object]:
    return lambda work: _write.write_file(work / "state.json", text * 1000)


def _lines(work: Path) -> object:
    for number in range(len(_whole_lines(work) or ()), 3):
        _write.append_lines(work / "log.jsonl", f'{{"line": {number}}}\n')


def _whole_lines(work: Path) -> object:
    path = work / "log.jsonl"
    lines = path.read_text().split("\n") if path.exists() else [""]
    return lines[:-1]


def _are_lines(found: Any, done: bool) -> bool:
    return not done and found == [f'{{"line": {number}}}' for number in range(len(found))]
