"""What happens when processes die and iterators are left: by hand, as it takes minutes.

python tests/stress.py kills --count 300
python tests/stress.py iterators --count 2000
python tests/stress.py workers --count 100
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
from skimage import data
from torch.utils.data import DataLoader

import fastshard as fs

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only looked at
STEPS = {"image": [fs.Resize(64), fs.RandomCrop(48)]}
FILL = """
    import sys
    import fastshard as fs
    print("up", flush=True)
    while True:
        for number in range(60, 64):
            steps = {"image": [fs.Resize(number), fs.RandomCrop(48)]}
            list(fs.Loader(sys.argv[1], 8, shuffle=True, transforms=steps, cache=fs.Cache(sys.argv[2], "2MB")))
        fs.Cache(sys.argv[2]).clear()
"""
PACK = """
    import sys
    import fastshard as fs
    print("up", flush=True)
    while True:
        fs.pack(sys.argv[1], sys.argv[2], overwrite=True, shard_size="200KB", progress=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "iterators", "workers"))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder, "photos"))
        fs.pack(photos, Path(folder, "ds"), progress=False)
        started = time.perf_counter()
        globals()[options.what](Path(folder), options.count, np.random.default_rng(options.seed))
        print(f"{options.count} {options.what}: all as it should be, {time.perf_counter() - started:.0f} s")


def make_photos(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    (folder / "cat").mkdir()
    for number in range(40):
        crop = data.chelsea()[number : number + 200, 2 * number : 2 * number + 240]
        Image.fromarray(np.ascontiguousarray(crop)).save(folder / "cat" / f"{number}.jpg")
    return folder


def pixels(dataset: Path, **options: object) -> list[bytes]:
    loader = fs.Loader(dataset, 8, shuffle=True, transforms=STEPS, **options)
    return [batch["image"].tobytes() for batch in loader]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kills(folder: Path, count: int, random: np.random.Generator) -> None:
    """Half of them while a cache is filled, evicted and cleared, half while a dataset is packed and replaced."""
    wanted = pixels(folder / "ds")
    memory = names(SHARED_MEMORY)
    for number in range(count):
        cache = number % 2 == 0
        code, paths = (FILL, ("ds", "cache")) if cache else (PACK, ("photos", "again"))
        command = [sys.executable, "-c", textwrap.dedent(code), *(str(folder / path) for path in paths)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        if cache:
            assert pixels(folder / "ds", cache=fs.Cache(folder / "cache", "2MB")) == wanted
            left = [name for name in names(folder / "cache") if not name.endswith(".pixels")]
            assert not left, left
        elif (folder / "again").exists():
            assert not fs.open(folder / "again").verify()
            assert pixels(folder / "again") == wanted
    # A pack that comes through takes up or clears away what the killed ones left.
    fs.pack(folder / "photos", folder / "again", overwrite=True, shard_size="200KB", progress=False)
    assert names(folder) == ["again", "cache", "ds", "photos"]
    assert names(SHARED_MEMORY) == memory


def held() -> tuple[int, int, int]:
    """Threads, open files and mappings of shards or the cache."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return (
        len(names(Path("/proc/self/task"))),
        len(names(Path("/proc/self/fd"))),
        sum(line.endswith((".arrow", ".pixels")) for line in maps),
    )


def iterators(folder: Path, count: int, random: np.random.Generator) -> None:
    before = held()
    for number in range(count):
        options = {"cache": folder / "cache"} if number % 3 == 0 else {}
        threads, prefetch = int(random.integers(1, 4)), int(random.integers(1, 5))
        loader = fs.Loader(
            folder / "ds", 4, shuffle=True, transforms=STEPS, num_threads=threads, prefetch=prefetch, **options
        )
        batches = iter(loader)
        kept = [next(batches) for _ in range(int(random.integers(0, 10)))]
        del batches, loader, kept
    # A thread in the middle of an image ends after it.
    time.sleep(0.2)
    assert held() == before, (held(), before)


def workers(folder: Path, count: int, random: np.random.Generator) -> None:
    del random
    wanted = [batch["image"].tobytes() for batch in fs.Loader(folder / "ds", 8, shuffle=True, transforms=STEPS)]
    for method in ("fork", "forkserver", "spawn"):
        for number in range(-(-count // 2)):
            options = {"cache": folder / "cache"} if number % 2 else {}
            loader = fs.Loader(folder / "ds", 8, shuffle=True, transforms=STEPS, **options)
            next(iter(loader))  # with threads of its own before the fork
            dataset = fs.torch.ShardDataset(loader)
            batches = DataLoader(dataset, None, num_workers=2, multiprocessing_context=method, timeout=60)
            assert [batch["image"].numpy().tobytes() for batch in batches] == wanted


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
