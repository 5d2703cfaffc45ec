"""Packing what is in containers already: a WebDataset tar against copying it, TFRecords against TensorFlow and pyarrow.

    python benches/containers.py                   # 3,000 photographs, 240 MB
    python benches/containers.py --short

All ways take turns, each run in a process of its own that has imported and warmed up what it needs, with a warm page
cache; what is written is brought to disk before the clock stops, and into a place where nothing was. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import machine
from photos import generate

ROOT = Path(__file__).resolve().parent.parent
# (what, over what, how many times as fast at least)
CLAIMS = [("tar: fastshard", "tar: cp", 0.7), ("tfrecord: fastshard", "tfrecord: tensorflow + pyarrow", 3.0)]


def main() -> None:
    options = parse()
    if options.run:
        print(json.dumps(WAYS[options.run](options.work, options.work / "out")))
        return
    sources = prepare(options.work, options.count)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for turn in range(options.repeats):
        names = list(WAYS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(measure(name, options.work))
    seconds = {name: [one for one, _ in runs] for name, runs in found.items()}
    cores = {name: [used for _, used in runs] for name, runs in found.items()}
    about = machine.describe()
    result = {"machine": about, "photos": options.count, "bytes": sources, "seconds": seconds, "core_seconds": cores}
    print(f"\n{about['cpu']}, {about['cores']} cores; {options.count:,} photos")
    print(f"\n{table(seconds, cores, sources)}\n\n{claims(seconds)}")
    target = ROOT / ("build/results" if options.short else "benches/results") / "containers.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pack containers, against copying or converting them.")
    parser.add_argument("--count", type=int, default=3000, help="photographs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="1,000 photographs, 3 repeats")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--run", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        options.count, options.repeats = 1000, 3
    if not options.run:
        options.work = options.work / f"containers-{options.count}"
    return options


def measure(name: str, work: Path) -> tuple[float, float]:
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    os.sync()  # of what was there before
    command = [sys.executable, __file__, "--run", name, "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    seconds, used = json.loads(done.stdout.splitlines()[-1])
    return seconds, used


def prepare(work: Path, count: int) -> dict[str, int]:
    """A tar and a TFRecord file of the same photographs, and their bytes."""
    tar, record = work / "photos.tar", work / "photos.tfrecord"
    if not record.exists():
        folder = generate(work / "photos", count)
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        files = [(path, classes.index(path.parent.name)) for path in sorted(folder.rglob("*.jpg"))]
        write_tar(tar, files)
        write_records(record, files)
    return {"tar": tar.stat().st_size, "tfrecord": record.stat().st_size}


def write_tar(target: Path, files: list[tuple[Path, int]]) -> None:
    """As WebDataset's writer does: a pax header each."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, (path, label) in enumerate(files):
            for suffix, data in (("jpg", path.read_bytes()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size, member.mtime = len(data), 1700000000.5
                tar.addfile(member, BytesIO(data))


def write_records(target: Path, files: list[tuple[Path, int]]) -> None:
    """As TFDS and the object detection tools do, give or take some features."""
    import tensorflow as tf

    def feature(value: bytes | int | list[float]) -> Any:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))

    with tf.io.TFRecordWriter(str(target)) as sink:
        for number, (path, label) in enumerate(files):
            features = {
                "image/encoded": feature(path.read_bytes()),
                "image/filename": feature(path.name.encode()),
                "image/class/label": feature(label),
                "image/object/bbox": feature([0.1, 0.2, 0.3, number / len(files)]),
            }
            sink.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of all cores together."""
    started, used = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - started, sum(os.times()[:4]) - used


def copy(work: Path, out: Path) -> tuple[float, float]:
    """``cp``, and ``fsync``."""

    def run() -> None:
        subprocess.run(["/bin/cp", str(work / "photos.tar"), str(out / "copy.tar")], check=True)
        sync(out / "copy.tar")

    return timed(run)


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    os.fsync(file)
    os.close(file)


def warm_up(source: Path, out: Path) -> None:
    """Imports all there is to import, by packing the first sample of an archive."""
    import fastshard as fs

    first = out / f"warm{source.suffix}"
    if source.suffix == ".tar":
        with tarfile.open(source, "r|") as tar, tarfile.open(first, "w", format=tarfile.PAX_FORMAT) as target:
            for member, _ in zip(tar, range(2), strict=False):
                target.addfile(member, tar.extractfile(member))
    else:
        with source.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            first.write_bytes(file.read(8 + 4 + length + 4))
    fs.pack(first, out / "warm", progress=False)


def packing(name: str, **options: Any) -> Callable[[Path, Path], tuple[float, float]]:
    def run(work: Path, out: Path) -> float:
        import fastshard as fs

        warm_up(work / name, out)
        return timed(lambda: fs.pack(work / name, out / "packed", progress=False, **options))

    return run


def by_tarfile(work: Path, out: Path) -> tuple[float, float]:
    """What one would write: Python's tarfile, and an iterable of dicts."""
    import fastshard as fs

    def samples() -> Iterator[dict[str, Any]]:
        with tarfile.open(work / "photos.tar", "r|") as tar:
            sample: dict[str, Any] = {}
            for member in tar:
                stream = tar.extractfile(member)
                data = stream.read() if stream is not None else b""
                sample |= {"image": data} if member.name.endswith("jpg") else {"label": int(data)}
                if len(sample) == 2:
                    yield sample
                    sample = {}

    warm_up(work / "photos.tar", out)
    return timed(lambda: fs.pack(samples(), out / "packed", seekable=False, progress=False))


def by_tensorflow(work: Path, out: Path) -> tuple[float, float]:
    """tf.data reads, parses (on all cores) and gives NumPy; pyarrow writes what datasets would."""
    import pyarrow as pa
    import tensorflow as tf

    parse = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/object/bbox": tf.io.FixedLenFeature([4], tf.float32),
    }
    kinds = [pa.binary(), pa.binary(), pa.int64(), pa.list_(pa.float32(), 4)]
    schema = pa.schema(list(zip(parse, kinds, strict=True)))

    def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
        columns = [pa.array([row[name] for row in rows], kind) for name, kind in zip(parse, kinds, strict=True)]
        return pa.record_batch(columns, schema=schema)

    def run() -> None:
        records = tf.data.TFRecordDataset(str(work / "photos.tfrecord"))
        parsed = records.map(lambda one: tf.io.parse_single_example(one, parse), num_parallel_calls=tf.data.AUTOTUNE)
        rows: list[dict[str, Any]] = []
        with pa.OSFile(str(out / "tf.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for row in parsed.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
                rows.append(row)
                if len(rows) == 200:
                    writer.write_batch(batch(rows))
                    rows = []
            if rows:
                writer.write_batch(batch(rows))
        sync(out / "tf.arrow")

    # What TensorFlow sets up once isn't counted.
    list(tf.data.Dataset.range(3).map(lambda n: n + 1).as_numpy_iterator())
    return timed(run)


WAYS: dict[str, Callable[[Path, Path], tuple[float, float]]] = {
    "tar: cp": copy,
    "tar: fastshard": packing("photos.tar", seekable=False),
    "tar: tarfile and an iterable": by_tarfile,
    "tfrecord: fastshard": packing("photos.tfrecord", seekable=False),
    "tfrecord: tensorflow + pyarrow": by_tensorflow,
}


def table(seconds: dict[str, list[float]], cores: dict[str, list[float]], sources: dict[str, int]) -> str:
    lines = ["| way | MB/s | seconds | spread | core seconds |", "|---|---|---|---|---|"]
    for name, times in seconds.items():
        rate = sources[name.partition(":")[0]] / 1e6 / median(times)
        spread = f"{min(times):.2f}-{max(times):.2f}"
        lines.append(f"| {name} | {rate:,.0f} | {median(times):.2f} | {spread} | {median(cores[name]):.2f} |")
    return "\n".join(lines)


def claims(seconds: dict[str, list[float]]) -> str:
    lines = []
    for what, over, least in CLAIMS:
        ratio = median(seconds[over]) / median(seconds[what])
        verdict = "holds" if ratio >= least else "FAILS"
        lines.append(f"{verdict}: {what} is {ratio:.2f} times as fast as {over.partition(': ')[2]} (at least {least})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
