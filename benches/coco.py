"""Reading COCO's annotations: fastshard's streaming reader against `json.load` and pycocotools.

    python benches/coco.py

The file is made: images and annotations in the proportions of COCO's instances, polygons of about 25 corners, a few
crowds as run lengths. Every figure is the median over fresh processes, on a warm page cache; memory is what a process
held at its peak, its imports included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import machine

ROOT = Path(__file__).resolve().parent.parent

READERS = {
    "fastshard": """
import pyarrow as pa
from fastshard._fastshard import read_coco
def read(path):
    return pa.ipc.open_stream(read_coco(path)[0]).read_all()["boxes"].combine_chunks().flatten()
""",
    "json.load": """
import json
def read(path):
    with open(path) as file:
        return json.load(file)["annotations"]
""",
    "pycocotools": """
from pycocotools.coco import COCO
def read(path):
    return COCO(path).anns
""",
}
RUN = """
import json, resource, sys, time
started = time.perf_counter()
found = read(sys.argv[1])
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print()
print(json.dumps({"annotations": len(found), "seconds": seconds, "peak_mib": peak}))
"""


def main() -> None:
    options = parse()
    path = prepare(options.work, options.annotations)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in READERS}
    for _ in range(options.repeats):
        for name, code in READERS.items():
            run = measure(code, path)
            assert run["annotations"] == options.annotations, (name, run)
            runs[name].append(run)
    figures = {name: {key: median(run[key] for run in each) for key in each[0]} for name, each in runs.items()}
    about = machine.describe()
    size = path.stat().st_size
    print(f"{about['cpu']}, {about['cores']} cores; {options.annotations:,} annotations, {size / 1e6:.0f} MB")
    for name, found in figures.items():
        print(f"{name:12} {found['seconds']:6.2f} s  {found['peak_mib']:6.0f} MiB")
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": about, "bytes": size, "figures": figures}
    (options.out / "coco.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare readers of COCO's annotations.")
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where the file is kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    return parser.parse_args()


def prepare(folder: Path, count: int) -> Path:
    path = folder / f"instances-{count}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(generate(count)))
    return path


def generate(count: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    images = [
        {
            "license": 3,
            "file_name": f"{at:012}.jpg",
            "height": 480,
            "width": 640,
            "date_captured": "2013-11-14",
            "id": at,
        }
        for at in range(1, count // 7 + 2)
    ]
    annotations = []
    for at in range(count):
        x, y, width, height = random.uniform(0, 200, 4).round(2).tolist()
        shape: Any = [(x + random.random(2 * random.integers(3, 48)) * width).round(2).tolist()]
        if at % 100 == 0:
            shape = {"counts": random.integers(1, 4000, 400).tolist(), "size": [480, 640]}
        annotations.append(
            {
                "segmentation": shape,
                "area": width * height / 2,
                "iscrowd": int(at % 100 == 0),
                "image_id": int(random.integers(1, len(images) + 1)),
                "bbox": [x, y, width, height],
                "category_id": int(random.integers(1, 81)),
                "id": at + 1,
            }
        )
    categories = [{"supercategory": "thing", "id": at, "name": f"class {at}"} for at in range(1, 81)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def measure(code: str, path: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code + RUN, path], check=True, capture_output=True, text=True)
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return run


if __name__ == "__main__":
    main()
