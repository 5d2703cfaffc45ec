"""Damages small datasets of all kinds at random, and reads each in every way there is.

python tests/mutations/run.py --seed 7 --count 10000 --mode accident
python tests/mutations/run.py --mode accident --replay 7:123

Of an accident, a value that comes out must be that of the sound dataset, or there is an error. Attacks (``refit``, with
checksums that fit, and ``manifest``) may change values. Nothing may end in a signal, a hang, a panic, an exception that
no user should see, or take a gigabyte.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastshard as fs

from . import judge
from .bases import BASES
from .layout import read_layout
from .mutate import MODES, Pristine, mutant
from .readers import READERS, Place, Reader, digest
from .sources import SOURCES, Source, damaged_source, make_source, read_source

__all__ = ["main"]

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
# What children need; others may start threads.
IMPORTED = ("PIL", "fastshard", "numpy", "pandas", "pyarrow", "pydicom", "rich", "yaml")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    Image.init()
    folder = Path(tempfile.mkdtemp(prefix="mutations-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        if options.prove:
            return prove(make_bases(folder, ["lists"])["lists"], folder)
        names = options.base or [*BASES, *SOURCES]
        datasets = [name for name in names if name in BASES and options.mode != "sources"]
        sources = [name for name in names if name in SOURCES and options.mode in ("sources", "all")]
        subjects = Subjects(options, make_bases(folder, datasets), make_bases(folder, sources), folder)
        return replay(options, subjects) if options.replay else campaign(options, subjects)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of all mutants")
    parser.add_argument("--count", type=int, default=300, help="mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--mode", choices=(*MODES, "sources", "all"), default="all", help="damage; all in turn")
    parser.add_argument("--base", action="append", choices=[*BASES, *SOURCES], help="what to damage; all in turn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="children at a time")
    parser.add_argument("--limit", type=float, default=30, help="seconds a mutant may take")
    parser.add_argument("--replay", metavar="SEED:NUMBER", help="one mutant, with everything that is said of it")
    parser.add_argument("--keep", type=Path, help="folder for the files of a replayed mutant")
    parser.add_argument("--prove", action="store_true", help="plant a fault of each kind, and see that it is noticed")
    parser.add_argument("--json", type=Path, help="file for the counts")
    return parser.parse_args(arguments)


# Bases ---------------------------------------------------------------------------------------------------------------


def make_bases(folder: Path, names: list[str]) -> dict[str, Any]:
    """Makes datasets and sources, in children, since packing and loading start threads.

    What they import is then imported here as well, so that no mutant has to.
    """

    def make(name: str) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            made = _pristine(folder, name) if name in BASES else make_source(folder / name, name)
            (folder / f"{name}.pickle").write_bytes(pickle.dumps(made))
            for module in list(sys.modules):
                say(module)

        return work

    for ending in judge.forked(((name, make(name)) for name in names), 2, judge.Limits(120, 4000, 16_000)):
        if ending.fault:
            raise RuntimeError(f"base {ending.key}: {ending.fault}\n{ending.errors}")
        for module in ending.said:
            if module.partition(".")[0] in IMPORTED:
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
    return {name: pickle.loads((folder / f"{name}.pickle").read_bytes()) for name in names}


def _pristine(folder: Path, name: str) -> Pristine:
    dataset, cache, base = folder / name, folder / f"{name}.cache", BASES[name]
    base.make(dataset)
    if base.cached:
        list(fs.Loader(dataset, 8, transforms=base.cached, cache=cache))
    files = {path.name: path.read_bytes() for path in dataset.iterdir()}
    if cache.exists():
        files |= {f"cache/{path.name}": path.read_bytes() for path in cache.iterdir()}
    layouts = {
        shard["file"]: read_layout(dataset / shard["file"], shard)
        for shard in json.loads(files["manifest.json"])["shards"]
    }
    pristine = Pristine(name, files, layouts)
    place = _write(folder / f"{name}.read", files)
    for reader in READERS:
        at = Place(fs.open(place / "ds"), base, place, place / "cache")
        found = list(values(reader, at))
        if reader.name != "without_transforms":  # images of different sizes need some
            assert not [value for value in found if isinstance(value, BaseException)], (name, reader.name, found)
        pristine.expected[reader.name] = [_told(value) for value in found]
    shutil.rmtree(place)
    return pristine


def values(reader: Reader, at: Place) -> Iterator[object]:
    """What a reader gives; the error that ends it is the last value."""
    try:
        yield from reader.read(at)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - panics of native code derive from it
        yield error


def _told(value: object) -> str:
    """A value's digest, or an error's type where there is an error also of the sound dataset."""
    if isinstance(value, BaseException):
        return type(value).__name__
    return digest(value)


def _write(place: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = place / name if name.startswith("cache/") else place / "ds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return place


# Mutants -------------------------------------------------------------------------------------------------------------


class Subjects:
    """All that can be damaged; a mutant's number alone says which it is."""

    def __init__(
        self, options: argparse.Namespace, bases: dict[str, Pristine], sources: dict[str, Source], folder: Path
    ) -> None:
        self.options, self.bases, self.sources, self.folder = options, bases, sources, folder
        modes = [*MODES, "sources"] if options.mode == "all" else [options.mode]
        self.modes = [mode for mode in modes if (sources if mode == "sources" else bases)]

    def which(self, number: int) -> tuple[str, str]:
        """Name and mode."""
        mode, number = self.modes[number % len(self.modes)], number // len(self.modes)
        names = list(self.sources if mode == "sources" else self.bases)
        name = names[number % len(names)]
        if name == "blocks" and number // len(names) % 4:  # large, and of few ways to be wrong
            name = names[0]
        return name, mode

    def damaged(self, seed: int, number: int) -> tuple[dict[str, bytes], str]:
        """The files of a mutant and what was done to them."""
        name, mode = self.which(number)
        if mode == "sources":
            return damaged_source(self.sources[name], name, seed, number)
        return mutant(self.bases[name], mode, seed, number)

    def task(self, seed: int, number: int) -> Callable[[Callable[[str], None]], None]:
        """What a child does with a mutant."""
        (name, mode), place = self.which(number), self.folder / f"m{number}"
        if mode == "sources":
            return lambda say: read_source(self.sources[name], name, seed, number, place, say)
        return lambda say: read_mutant(self.bases[name], mode, seed, number, place, say)


def chosen(seed: int, number: int) -> list[Reader]:
    """Those that read every mutant, and half of the others."""
    picks = np.random.default_rng([seed, number]).random(len(READERS)) < 0.5
    return [reader for reader, pick in zip(READERS, picks, strict=True) if reader.always or pick]


def read_mutant(base: Pristine, mode: str, seed: int, number: int, place: Path, say: Callable[[str], None]) -> None:
    """What a child does. Says ``reader | outcome | detail`` for each, and the reader's name alone before that."""
    files, _ = mutant(base, mode, seed, number)
    _write(place, files)
    os.environ["FASTSHARD_CACHE"] = str(place / "default")
    try:
        say("open")
        try:
            ds = fs.open(place / "ds")
        except BaseException as error:  # noqa: BLE001 - judged
            say(f"open | {_outcome(error)} | {judge.describe(error)}")
            return
        at = Place(ds, BASES[base.name], place, place / "cache")
        judged = Judged(base, files, at, compares=mode == "accident")
        for reader in chosen(seed, number):
            say(reader.name)
            for outcome in judged.outcomes(reader):
                say(f"{reader.name} | {outcome}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _outcome(error: BaseException) -> str:
    return "FOREIGN" if judge.foreign(error) else "error"


class Judged:
    """A mutant's values against those of the sound dataset."""

    def __init__(self, base: Pristine, files: dict[str, bytes], at: Place, compares: bool) -> None:
        self.base, self.files, self.at, self.compares = base, files, at, compares

    def outcomes(self, reader: Reader) -> list[str]:
        """``same``, ``error | ...``, ``changed``, ``unchecked`` or a fault: one at least."""
        expected = self.base.expected[reader.name]
        count, found = 0, []
        for count, value in enumerate(values(reader, self.at), 1):
            wanted = expected[count - 1] if count <= len(expected) else "nothing more"
            if isinstance(value, BaseException):
                if type(value).__name__ != wanted or judge.foreign(value):
                    found.append(f"{_outcome(value)} | {judge.describe(value)}")
            elif reader.compared and digest(value) != wanted:
                found.append(self._difference(reader, count, digest(value)))
        stopped = bool(found) and found[-1].startswith(("error", "FOREIGN"))
        if reader.compared and count < len(expected) and not stopped:
            found.append(f"WRONG | {count} values of {len(expected)}, and no error" if self.compares else "changed")
        if reader.name == "verify" and self.compares and self._altered() and not found:
            found.append("WRONG | it finds nothing")
        return found or ["same"]

    def _altered(self) -> bool:
        return any(self.files.get(name) != self.base.files[name] for name in self.base.shards())

    def _difference(self, reader: Reader, count: int, found: str) -> str:
        """What it means that a value differs."""
        if not self.compares:
            return "changed"
        if found in self._with_unchecked(reader)[count - 1 : count]:
            return "unchecked"
        return f"WRONG | value {count} of {len(self.base.expected[reader.name])}"

    def _with_unchecked(self, reader: Reader) -> list[str]:
        """What a reader gives if nothing is damaged but what it may trust."""
        version = json.loads(self.base.files["manifest.json"])["version"]
        trusted = reader.trusted(self.at.ds)
        files = dict(self.base.files)
        for name in self.base.shards():
            old, new = (np.frombuffer(one.get(name, b""), np.uint8) for one in (files, self.files))
            if len(old) == len(new):
                unchecked = self.base.layouts[name].unchecked(len(old), version, trusted)
                files[name] = np.where(unchecked, new, old).astype(np.uint8).tobytes()
        if files == self.base.files:
            return []
        place = _write(self.at.scratch / "unchecked", files)
        at = Place(fs.open(place / "ds"), self.at.base, place, place / "cache")
        digests = [_told(value) for value in values(reader, at)]
        shutil.rmtree(place)
        return digests


def faults_of(ending: judge.Ending) -> list[str]:
    """What is wrong with a mutant, each with its reader."""
    parts = [line.split(" | ") for line in ending.said]
    found = [f"{part[1]} {part[0]}: {part[-1]}" for part in parts if len(part) > 1 and part[1] in ("FOREIGN", "WRONG")]
    if ending.fault:
        found.append(f"{ending.fault.upper()} {parts[-1][0] if parts else 'start'}")
    return list(dict.fromkeys(found))


def campaign(options: argparse.Namespace, subjects: Subjects) -> int:
    started, table, errors, kinds = time.monotonic(), Counter(), Counter(), Counter()
    panics, largest, faulty = Counter(), 0, 0
    numbers = range(options.first, options.first + options.count)
    work = (((number, *subjects.which(number)), subjects.task(options.seed, number)) for number in numbers)
    for ending in judge.forked(work, options.jobs, judge.Limits(options.limit)):
        number, name, mode = ending.key
        shutil.rmtree(subjects.folder / f"m{number}", ignore_errors=True)
        faults, parts = faults_of(ending), [line.split(" | ") for line in ending.said]
        outcomes = {part[1] for part in parts if len(part) > 1}
        table[mode, name, "mutants"] += 1
        for column in ("same", "error", "changed", "unchecked"):
            table[mode, name, column] += column in outcomes
        table[mode, name, "faults"] += bool(faults)
        errors.update({part[2].split(":")[0] for part in parts if len(part) > 2 and part[1] == "error"})
        panics.update(
            {line.partition("panicked at")[2] for line in ending.errors.splitlines() if "panicked at" in line}
        )
        largest, faulty = max(largest, ending.resident), faulty + bool(faults)
        for fault in faults:
            kinds[_kind(fault)] += 1
            if kinds[_kind(fault)] <= 3:
                print(f"--mode {options.mode} --replay {options.seed}:{number}  {name}, {mode}: {fault}", flush=True)
    seconds = time.monotonic() - started
    _print(options, table, errors, kinds, panics)
    rate = options.count / seconds * 60
    print(f"{options.count} mutants, {faulty} with faults; {seconds:.0f} s, {rate:,.0f} a minute; at most {largest} MB")
    if options.json:
        counts = {" ".join(key): value for key, value in table.items()}
        options.json.write_text(
            json.dumps(
                {
                    "mutants": options.count,
                    "faulty": faulty,
                    "seconds": seconds,
                    "resident_mb": largest,
                    "faults": dict(kinds),
                    "table": counts,
                },
                indent=1,
            )
        )
    return 1 if faulty else 0


def _kind(fault: str) -> str:
    """Faults that are probably one: without numbers."""
    return "".join("#" if char.isdigit() else char for char in fault)[:100]


def _print(options: argparse.Namespace, table: Counter, errors: Counter, kinds: Counter, panics: Counter) -> None:
    columns = ("mutants", "same", "error", "changed", "unchecked", "faults")
    print(f"\n{'mode':10}{'dataset':22}" + "".join(f"{column:>11}" for column in columns))
    for mode, name in sorted({key[:2] for key in table}):
        print(f"{mode:10}{name:22}" + "".join(f"{table[mode, name, column]:>11,}" for column in columns))
    for title, counts in (("Errors", errors), ("Panics that became errors", panics), ("Faults", kinds)):
        if counts:
            print(f"\n{title}, in so many mutants:")
            for what, count in counts.most_common(40):
                print(f"{count:>8,}  {what}")


def replay(options: argparse.Namespace, subjects: Subjects) -> int:
    seed, number = map(int, options.replay.split(":"))
    files, said = subjects.damaged(seed, number)
    print(*subjects.which(number), said, sep="; ")
    if options.keep:
        _write(options.keep, files)
    (ending,) = judge.forked([(number, subjects.task(seed, number))], 1, judge.Limits(options.limit))
    print("\n".join([*ending.said, ending.errors, f"{ending.fault or 'ended'}; {ending.resident} MB"]))
    faults = faults_of(ending)
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


def prove(base: Pristine, folder: Path) -> int:
    """Plants faults, each of which must be noticed as what it is."""

    def reading(read: Callable[[Place], Iterator[object]], name: str = "rows") -> Callable:
        def task(say: Callable[[str], None]) -> None:
            read.__name__ = name
            place = _write(folder / "planted", base.files)
            at = Place(fs.open(place / "ds"), BASES["lists"], place, place / "cache")
            say(name)
            for outcome in Judged(base, dict.fromkeys(base.files, b"other"), at, compares=True).outcomes(Reader(read)):
                say(f"{name} | {outcome}")

        return task

    def fails(error: BaseException) -> Callable[[Place], Iterator[object]]:
        def read(_: Place) -> Iterator[object]:
            raise error
            yield

        return read

    huge = []
    planted = {
        "SIGNAL: SIGSEGV": reading(lambda _: os.kill(os.getpid(), signal.SIGSEGV)),
        "SIGNAL: SIGABRT": reading(lambda _: os.abort()),
        "HANG": reading(lambda _: time.sleep(60)),
        "MEMORY": lambda _: huge.append(b"x" * (1200 << 20)),
        "WRONG rows: value 1": reading(lambda _: iter("wrong")),
        "WRONG rows: 0 values": reading(lambda _: iter(())),
        "WRONG verify: it finds nothing": reading(lambda _: iter(["sound"]), "verify"),
        "FOREIGN rows: IndexError": reading(fails(IndexError("a slip"))),
        "FOREIGN rows: PanicException": reading(fails(type("PanicException", (BaseException,), {})("a panic"))),
    }
    missed = 0
    for ending in judge.forked(planted.items(), 2, judge.Limits(3)):
        noticed = any(fault.startswith(ending.key) for fault in faults_of(ending))
        missed += not noticed
        print(f"{ending.key}: {'noticed' if noticed else f'MISSED {ending}'}")
    return 1 if missed else 0
