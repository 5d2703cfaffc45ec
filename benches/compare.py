"""The comparison: fastshard against the folder loaders people use, on the same photographs, in one run.

    python benches/compare.py            # about 20 minutes on two cores
    python benches/compare.py --short    # under 4 minutes

Makes the photographs if they are missing, packs them, measures every loader on every track in fresh processes in
alternating order, prints the tables and writes compare.json and compare.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
import report
from job import SIDE, TRACKS, Job
from loaders import LOADERS, PEERS
from measure import Result, run
from photos import available_cores, generate
from quality import Quality

ROOT = Path(__file__).resolve().parent.parent
# A raw epoch takes milliseconds: time many of them.
RAW_EPOCHS = 20


@dataclass(frozen=True)
class Plan:
    """What is measured: (loader, track) pairs, how often, and over how many photographs."""

    pairs: list[tuple[str, str]]
    count: int
    repeats: int


@dataclass(frozen=True)
class Pack:
    """One packing: wall time and bytes on disk."""

    kind: str
    seconds: float
    bytes: int
    source_bytes: int


def main() -> None:
    started, options = time.perf_counter(), parse()
    folder, count = photographs(options)
    work = options.work / str(count)
    plan = make_plan(options, count)
    packs = [
        pack(folder, work / "packed", "original", seekable=False),
        pack(folder, work / "seekable", "original", seekable=True),
        pack(folder, work / "raw", "raw", resize=(SIDE, SIDE)),
    ]
    quality = check_quality(folder)
    warm(folder, work / "packed", work / "seekable", work / "raw")
    data: dict[str, Any] = {
        "photos": str(folder),
        "packed": str(work / "packed"),
        "raw": str(work / "raw"),
        "formats": str(work),
    }
    results = measure_all(plan, data, options.workers)
    show(plan, results, packs, quality, options)
    print(f"took {time.perf_counter() - started:,.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare fastshard with folder loaders.")
    parser.add_argument("--short", action="store_true", help="main peers only, fewer photos and repeats")
    parser.add_argument("--photos", type=Path, help="folder per class to use; made if missing")
    parser.add_argument("--out", type=Path, help="where compare.json and compare.png go")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="photographs and shards, kept")
    parser.add_argument("--count", type=int, help="number of photos to make (3000; short: 1000)")
    parser.add_argument("--repeats", type=int, help="processes per loader and track (5; short: 2)")
    parser.add_argument("--workers", type=int, default=available_cores(), help="threads or worker processes each")
    parser.add_argument("--only", nargs="+", choices=LOADERS, help="these loaders only")
    return parser.parse_args()


def photographs(options: argparse.Namespace) -> tuple[Path, int]:
    """The folder and the number of files in it: generated ones, or whatever folder per class the user names."""
    if options.photos and options.photos.is_dir():
        return options.photos, sum(1 for _ in options.photos.glob("*/*"))
    count = options.count or (1000 if options.short else 3000)
    return generate(options.photos or options.work / str(count) / "photos", count), count


def make_plan(options: argparse.Namespace, count: int) -> Plan:
    names = options.only or LOADERS
    pairs = [
        (name, track)
        for track in TRACKS
        for name in names
        if track in (LOADERS[name].short if options.short else LOADERS[name].tracks)
    ]
    return Plan(pairs, count, options.repeats or (2 if options.short else 5))


def pack(folder: Path, target: Path, encode: str, **more: Any) -> Pack:
    """Pack in this process, as a user would, and time it."""
    import fastshard as fs

    started = time.perf_counter()
    fs.pack(folder, target, overwrite=True, progress=False, encode=encode, **more)
    seconds = time.perf_counter() - started
    kind = "seekable" if more.get("seekable") else encode
    return Pack(kind, seconds, size_of(target), size_of(folder))


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def warm(*folders: Path) -> None:
    """Bring everything into the page cache, so that no loader pays for being first."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    while stream.read(1 << 22):
                        pass


def check_quality(folder: Path) -> Quality | None:
    """None if torchvision is not installed or fails; the reason is printed."""
    command = [sys.executable, str(Path(__file__).with_name("quality.py")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Quality(**json.loads(done.stdout.splitlines()[-1]))
    print(f"no quality check: {(done.stderr.strip().splitlines() or ['no output'])[-1]}", file=sys.stderr)
    return None


def measure_all(plan: Plan, data: dict[str, Any], workers: int) -> list[Result]:
    """Every pair once, then once more in the opposite order, and so on, so that a slow minute hits all alike."""
    results: list[Result] = []
    for repeat in range(plan.repeats):
        for name, track in plan.pairs if repeat % 2 == 0 else plan.pairs[::-1]:
            images = plan.count * (RAW_EPOCHS if track == "raw" else 1)
            results.append(run(name, Job(track, workers=workers, **data), images))
            tell(results[-1], len(results), len(plan.pairs) * plan.repeats)
    return results


def tell(result: Result, done: int, total: int) -> None:
    outcome = result.error or f"{result.rate:,.0f} img/s"
    title = (LOADERS | PEERS)[result.loader].title
    print(f"[{done}/{total}] {result.track:6} {title}: {outcome}", file=sys.stderr, flush=True)


def show(
    plan: Plan, results: Sequence[Result], packs: list[Pack], quality: Quality | None, options: argparse.Namespace
) -> None:
    """Print the tables; write them as JSON and as a plot."""
    out = options.out or (ROOT / "build" / "results" if options.short else ROOT / "benches" / "results")
    out.mkdir(parents=True, exist_ok=True)
    rows = report.summarise(results)
    about = machine.describe()
    print(report.text(rows, packs, quality, about, plan.count, options.workers))
    stored = {
        "machine": about,
        "photos": plan.count,
        "repeats": plan.repeats,
        "workers": options.workers,
        "packs": [asdict(pack) for pack in packs],
        "quality": asdict(quality) if quality else None,
        "summary": [asdict(row) for row in rows],
        "goals": [asdict(goal) for goal in report.goals(rows)],
        "runs": [{**asdict(result), "rate": result.rate} for result in results],
    }
    (out / "compare.json").write_text(json.dumps(stored, indent=2) + "\n")
    report.plot(rows, about, plan.count, out / "compare.png")
    print(f"\nwrote {out / 'compare.json'} and compare.png")


if __name__ == "__main__":
    main()
