"""The comparison with every peer. `make bench-peers` calls it in the environment that install.py makes.

PYTHONPATH=benches .venv-peers/bin/python -m peers            # all; an hour and a half on two cores (estimated)
PYTHONPATH=benches .venv-peers/bin/python -m peers --short    # fewer pictures, two repeats
... --tracks train eval --only fs-original tf ffcv --repeats 1
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

import machine
import report
from compare import tell, warm
from job import TRACKS, Job
from loaders import PEERS
from measure import Result, run
from peers import claims, formats, pictures, plot, tables
from peers.gate import STANDS_FOR, Gate
from photos import available_cores, generate

ROOT = Path(__file__).resolve().parent.parent.parent
GATE = 16


@dataclass(frozen=True)
class DataSet:
    """Pictures of one kind, how many of them, and how many go into a batch."""

    name: str
    count: int
    short: int
    batch: int


PHOTOS = DataSet("photos", 1024, 512, 64)
LARGE = DataSet("large", 96, 32, 8)
XRAY = DataSet("xray", 200, 64, 16)
MAKERS = {"photos": generate, "large": pictures.large, "xray": pictures.xray}
SETS = {"large": LARGE, "large-eval": LARGE, "xray": XRAY}
# Stored pixels are gone through in a tenth of the time.
EPOCHS = {"raw-train": 10}
PEER_TRACKS = [track for track in TRACKS if any(track in peer.tracks for peer in PEERS.values())]


def main() -> None:
    started, options = time.perf_counter(), parse()
    pairs = [(track, name) for track in options.tracks for name in options.only if track in PEERS[name].tracks]
    missing = not_installed(pairs) | cannot(options)
    pairs = [pair for pair in pairs if pair not in missing]
    kinds = dict.fromkeys(SETS.get(track, PHOTOS) for track, _ in pairs)
    made = [one for kind in kinds for one in prepare(kind, pairs, options)]
    missing |= not_made(pairs, made)
    pairs = [pair for pair in pairs if pair not in missing]
    pixels = check_pixels(pairs, options)
    results = list(measure(pairs, options))
    missing |= failed(results)
    show(results, pixels, missing, made, options)
    print(f"took {time.perf_counter() - started:,.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare fastshard with every peer.")
    parser.add_argument("--short", action="store_true", help="fewer pictures and repeats; not written to results/")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="LOADER", help="these only")
    parser.add_argument("--tracks", nargs="+", choices=PEER_TRACKS, default=PEER_TRACKS, metavar="TRACK")
    parser.add_argument("--repeats", type=int, help="processes per loader and track (5; short: 2)")
    parser.add_argument("--minutes", type=float, default=inf, help="begin no repeat that would take longer in all")
    parser.add_argument("--count", type=int, help="photos (1,024; short: 512); the other kinds in proportion")
    parser.add_argument("--workers", type=int, default=available_cores(), help="threads or worker processes each")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers", help="pictures and shards, kept")
    parser.add_argument("--out", type=Path, help="where peers.json and peers.svg go")
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.short else 5)
    options.count = options.count or (PHOTOS.short if options.short else PHOTOS.count)
    options.out = options.out or (ROOT / "build" / "results" if options.short else ROOT / "benches" / "results")
    return options


def not_installed(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What install.py wrote down."""
    outcomes = installed()
    return {
        (track, name): f"not installed: {error}"
        for track, name in pairs
        if (error := outcomes.get(PEERS[name].package, {}).get("error"))
    }


def installed() -> dict[str, Any]:
    file = Path(sys.prefix, "packages.json")
    return json.loads(file.read_text()) if file.exists() else {}


def not_made(pairs: Sequence[tuple[str, str]], made: Sequence[formats.Made]) -> dict[tuple[str, str], str]:
    """Loaders whose shards or files could not be written."""
    errors = {(one.dataset, one.kind): one.error for one in made if one.error}
    kinds = {(track, name): (SETS.get(track, PHOTOS).name, formats.needed(PEERS[name], track)) for track, name in pairs}
    return {pair: errors[kind] for pair, kind in kinds.items() if kind in errors}


def cannot(options: argparse.Namespace) -> dict[tuple[str, str], str]:
    return {
        (track, name): PEERS[name].cannot[track]
        for track in options.tracks
        for name in options.only
        if track in PEERS[name].cannot
    }


def prepare(kind: DataSet, pairs: Sequence[tuple[str, str]], options: argparse.Namespace) -> list[formats.Made]:
    """The pictures, what the loaders read of them, and the same for the few pictures of the gate."""
    folder = folder_of(kind, options)
    folder.mkdir(parents=True, exist_ok=True)
    photos = MAKERS[kind.name](folder / "photos", count_of(kind, options))
    mine = [(track, name) for track, name in pairs if SETS.get(track, PHOTOS) is kind]
    needed = {formats.needed(PEERS[name], track) for track, name in mine}
    needed |= {"raw"} if "pixels" in needed else set()
    made = [formats.make(one, photos, folder) for one in formats.TARGETS if one in needed]
    small = gate_folder(kind, options)
    pictures.sample(photos, small / "photos", min(GATE, kind.batch))
    for one in needed & {"original", "seekable", "ffcv-jpeg", "tar"}:
        formats.make(one, small / "photos", small)
    warm(folder)
    return [replace(one, dataset=kind.name) for one in made]


def folder_of(kind: DataSet, options: argparse.Namespace) -> Path:
    path: Path = options.work / f"{kind.name}-{count_of(kind, options)}"
    return path


def gate_folder(kind: DataSet, options: argparse.Namespace) -> Path:
    folder = folder_of(kind, options)
    return folder.with_name(f"{folder.name}-gate")


def count_of(kind: DataSet, options: argparse.Namespace) -> int:
    most = kind.short if options.short else kind.count
    return max(2 * kind.batch, round(most * options.count / (PHOTOS.short if options.short else PHOTOS.count)))


def job_of(track: str, folder: Path, batch: int, options: argparse.Namespace) -> Job:
    return Job(
        track,
        photos=str(folder / "photos"),
        packed=str(folder / "packed"),
        raw=str(folder / "raw"),
        formats=str(folder),
        batch=batch,
        workers=options.workers,
    )


def check_pixels(pairs: Sequence[tuple[str, str]], options: argparse.Namespace) -> dict[tuple[str, str], Any]:
    gate = Gate()
    wanted = dict.fromkeys((name, STANDS_FOR[track]) for track, name in pairs if track in STANDS_FOR)
    checked = {}
    for name, track in wanted:
        if track in PEERS[name].tracks:
            kind = SETS.get(track, PHOTOS)
            folder = gate_folder(kind, options)
            checked[name, track] = gate.check(name, job_of(track, folder, min(GATE, kind.batch), options))
            print(f"pixels of {track}, {PEERS[name].title}: {checked[name, track]}", file=sys.stderr, flush=True)
    return checked


def measure(pairs: Sequence[tuple[str, str]], options: argparse.Namespace) -> Iterator[Result]:
    """Every pair once, then once more in the opposite order, and so on; a pair that failed is not tried again.

    Ends before a repeat for which `--minutes` leaves no time, and says in `options` how many there were.
    """
    broken: set[tuple[str, str]] = set()
    begun = time.perf_counter()
    for repeat in range(options.repeats):
        passed = time.perf_counter() - begun
        if repeat and passed * (repeat + 1) / repeat > 60 * options.minutes:
            options.repeats = repeat
            return
        for number, (track, name) in enumerate(pairs if repeat % 2 == 0 else pairs[::-1], 1):
            if (track, name) in broken:
                continue
            kind = SETS.get(track, PHOTOS)
            images = EPOCHS.get(track, 1) * count_of(kind, options)
            result = run(name, job_of(track, folder_of(kind, options), kind.batch, options), images)
            tell(result, repeat * len(pairs) + number, options.repeats * len(pairs))
            if result.error:
                broken.add((track, name))
            yield result


def failed(results: Sequence[Result]) -> dict[tuple[str, str], str]:
    """The last line of what each process said."""
    return {(result.track, result.loader): f"failed: {result.error}" for result in results if result.error}


def show(
    results: Sequence[Result],
    pixels: dict[tuple[str, str], Any],
    missing: dict[tuple[str, str], str],
    made: Sequence[formats.Made],
    options: argparse.Namespace,
) -> None:
    """Print the tables; write them as JSON and as a plot."""
    measured = {(result.track, result.loader) for result in results if not result.error}
    rows = report.summarise(results, lambda track: ours(track, measured))
    about = machine.describe()
    subtitle = f"{about['cores']} cores ({about['cpu']}), {options.count:,} JPEG photos, median of {options.repeats}"
    print(f"\n{tables.text(rows, pixels, missing, made, subtitle)}")
    stored = {
        "machine": about,
        "installed": installed(),
        "photos": options.count,
        "repeats": options.repeats,
        "workers": options.workers,
        "formats": [asdict(one) for one in made],
        "pixels": [
            {"loader": name, "track": track, "quality": found if isinstance(found, str) else finite(asdict(found))}
            for (name, track), found in pixels.items()
        ],
        "missing": [{"track": track, "loader": name, "reason": why} for (track, name), why in missing.items()],
        "summary": [asdict(row) for row in rows],
        "claims": [{**asdict(verdict), "verdict": verdict.word} for verdict in claims.judge(rows)],
        "runs": [{**asdict(result), "rate": result.rate} for result in results],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "peers.json").write_text(json.dumps(stored, indent=2) + "\n")
    plot.draw(rows, subtitle, options.out / "peers.svg")
    print(f"\nwrote {options.out / 'peers.json'} and peers.svg")


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Equal pixels have an infinite PSNR, which JSON cannot say."""
    return {name: value if isfinite(value) else None for name, value in values.items()}


def ours(track: str, measured: set[tuple[str, str]]) -> str:
    """The entry that the last column speaks of: exact pixels, from seekable shards where there are any."""
    candidates = ("fs-raw",) if track == "raw-train" else ("fs-seekable", "fs-original")
    return next((name for name in candidates if (track, name) in measured), candidates[-1])


if __name__ == "__main__":
    main()
