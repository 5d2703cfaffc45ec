"""Random two-second windows of MP3s: fastshard against torch's DataLoader with soundfile (libsndfile and mpg123).

    python benches/audio.py

Makes 200 clips of 30 seconds, stereo at 44.1 kHz, half like music and half like speech, as MP3. Both get two cores:
threads there, workers here. Every figure is the median over fresh processes that alternate; each warms up before it is
timed, on a warm page cache. soundfile comes twice: seeking to the window, which is its best, and decoding whole files,
which is what loading a file and slicing it does. Where something is computed of the window, torchaudio's transforms do
it there, in the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

import fastshard as fs
import machine

ROOT = Path(__file__).resolve().parent.parent
RATE, SECONDS, LENGTH = 44_100, 30, 2
BATCH, WORKERS = 32, 2
WINDOW = RATE * LENGTH
TRACKS = {
    "wave": "2 s, mono, 44.1 kHz",
    "16 kHz": "the same, resampled to 16 kHz",
    "log-mel": "the same, and 80 log-mel bands",
}
LOADERS = {
    "fastshard": "fastshard, 2 threads",
    "seek": "DataLoader, 2 workers, soundfile seeks",
    "whole": "DataLoader, 2 workers, soundfile decodes all",
}
Wave = npt.NDArray[np.float32]


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(options)))
        return
    prepare(options.work, options.clips)
    rates: dict[str, dict[str, list[float]]] = {track: {name: [] for name in LOADERS} for track in TRACKS}
    for repeat in range(options.repeats):
        for track in TRACKS:
            for name in LOADERS if repeat % 2 else reversed(LOADERS):
                print(f"{track}: {LOADERS[name]}, {repeat + 1} of {options.repeats}", file=sys.stderr)
                rates[track][name].append(run(track, name, options))
    about = machine.describe()
    about["packages"] |= {"soundfile": soundfile.__version__, "libsndfile": soundfile.__libsndfile_version__}
    print(f"{about['cpu']}, {about['cores']} cores; {options.clips} MP3s of {SECONDS} s, batch {BATCH}")
    print(table(rates))
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": about, "clips": options.clips, "batch": BATCH, "windows_per_second": rates}
    (options.out / "audio.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare loaders of MP3.")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where clips are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where audio.json goes")
    parser.add_argument("--one", nargs=2, metavar=("TRACK", "LOADER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def folder(work: Path, clips: int) -> Path:
    return work / f"audio-{clips}"


def prepare(work: Path, clips: int) -> None:
    """The files, and the dataset, made once."""
    made = folder(work, clips)
    if (made / "packed").exists():
        return
    (made / "files").mkdir(parents=True, exist_ok=True)
    paths = [made / "files" / f"{number:04}.mp3" for number in range(clips)]
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(write, paths, range(clips)))
    fs.pack(made / "files", made / "packed")


def write(path: Path, number: int) -> None:
    if not path.exists():
        soundfile.write(path, clip(number), RATE, format="MP3")


def clip(number: int) -> Wave:
    """Notes with overtones, or syllables of a voice with pauses; the channels differ a little."""
    random = np.random.default_rng(number)
    frames = RATE * SECONDS
    time_of = np.arange(frames) / RATE
    music = number % 2 == 0
    beat = random.uniform(0.2, 0.5) if music else random.uniform(0.12, 0.25)
    syllable = (time_of / beat).astype(int)
    count = syllable[-1] + 1
    if music:
        pitches = 110 * 2 ** (random.integers(0, 36, count) / 12)
        envelope = np.exp(-3 * (time_of % beat) / beat)
        breath = np.full(count, 0.02)
    else:
        pitches = random.uniform(90, 220) * random.uniform(0.8, 1.25, count)
        envelope = np.sin(np.pi * (time_of % beat) / beat) ** 2
        breath = 0.1 * (random.random(count) < 0.3)
    phase = 2 * np.pi * np.cumsum(pitches[syllable]) / RATE
    tone = sum(np.sin(order * phase) / order ** random.uniform(0.6, 1.6) for order in range(1, 7))
    noise = random.standard_normal(frames) * breath[syllable]
    mono = 0.2 * envelope * tone + 0.5 * noise * envelope
    echo = np.roll(mono, random.integers(200, 900))
    return np.clip(np.stack([mono + 0.3 * echo, mono - 0.2 * echo], axis=1), -1, 1).astype(np.float32)


def run(track: str, name: str, options: argparse.Namespace) -> float:
    """Windows a second in a process of its own."""
    command = [sys.executable, __file__, "--one", track, name, "--clips", str(options.clips), "--seconds"]
    command += [str(options.seconds), "--work", str(options.work)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def measure(options: argparse.Namespace) -> float:
    track, name = options.one
    made = folder(options.work, options.clips)
    # Of the consumer, which but looks at each batch: its threads would wait in a loop for the next one.
    torch.set_num_threads(1)
    batches = ours(made, track) if name == "fastshard" else theirs(made, track, whole=name == "whole")
    until = time.perf_counter() + options.seconds / 2
    while time.perf_counter() < until:
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < options.seconds:
        batch = next(batches)
        assert float(batch[0].std()) > 0
        count += len(batch)
    return count / (time.perf_counter() - start)


def ours(made: Path, track: str) -> Iterator[torch.Tensor]:
    steps: list[Any] = [fs.Mono(), fs.RandomWindow(seconds=LENGTH)]
    if track != "wave":
        steps.insert(1, fs.Resample(16_000))
    if track == "log-mel":
        steps.append(fs.LogMel())
    dataset = fs.open(made / "packed")
    dataset = dataset.select(np.tile(np.arange(len(dataset)), 32))  # as long an epoch as the others have
    loader = fs.Loader(dataset, BATCH, shuffle=True, drop_last=True, transforms={"audio": steps}, num_threads=WORKERS)
    batches = fs.torch.ShardDataset(loader)
    while True:
        for batch in batches:
            yield batch["audio"]


class Files(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, paths: list[str], track: str, whole: bool) -> None:
        self.paths, self.whole = paths, whole
        self.compute = transforms(track)

    def __len__(self) -> int:
        return len(self.paths) * 32

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.paths[index % len(self.paths)]
        with soundfile.SoundFile(path) as file:
            start = int(torch.randint(file.frames - WINDOW + 1, ()))
            if self.whole:
                samples = file.read(dtype="float32")[start : start + WINDOW]
            else:
                file.seek(start)
                samples = file.read(WINDOW, dtype="float32")
        return self.compute(torch.from_numpy(samples.mean(axis=1)))


def transforms(track: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """torchaudio's transforms, each made once."""
    if track == "wave":
        return lambda wave: wave
    # Its binary parts, which are not used here, may have been built for another version of CUDA than torch's.
    cuda, torch.version.cuda = torch.version.cuda, None
    import torchaudio

    torch.version.cuda = cuda
    resample = torchaudio.transforms.Resample(RATE, 16_000)
    if track == "16 kHz":
        return lambda wave: resample(wave)
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=400, hop_length=160, n_mels=80)
    return lambda wave: mel(resample(wave)).clamp(min=1e-10).log()


def theirs(made: Path, track: str, whole: bool) -> Iterator[torch.Tensor]:
    paths = sorted(os.fspath(path) for path in (made / "files").iterdir())
    loader = torch.utils.data.DataLoader(
        Files(paths, track, whole),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
    )
    while True:
        yield from loader


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| windows a second | " + " | ".join(LOADERS.values()) + " |", "|---" * (len(LOADERS) + 1) + "|"]
    for track, found in rates.items():
        best = median(found["fastshard"])
        cells = [
            f"{median(runs):,.0f} ({min(runs):,.0f}-{max(runs):,.0f})"
            + ("" if name == "fastshard" else f", {best / median(runs):.1f}x slower")
            for name, runs in found.items()
        ]
        lines.append(f"| {TRACKS[track]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
