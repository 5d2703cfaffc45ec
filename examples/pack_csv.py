"""Pack a flat folder of gray images with a CSV of several labels a row: the layout of the NIH chest X-rays.

A small folder of that layout is made first, from pictures that scikit-image ships. With the real one, this is all:

    fastshard pack images/ packed/ --csv Data_Entry_2017.csv --file-column "Image Index" --label "Finding Labels" \
        --label-sep "|" --no-label "No Finding" --resize-pad 512 --gray --encode raw

Run as:  python examples/pack_csv.py
"""

import csv
import tempfile
from importlib.resources import files
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image

import fastshard as fs

COLUMNS = ["Image Index", "Finding Labels", "Patient Age", "Patient Gender"]
FINDINGS = ["No Finding", "Cardiomegaly", "Cardiomegaly|Effusion", "Effusion|Mass", "Mass"]
PICTURES = ["camera.png", "coins.png", "moon.png", "page.png", "text.png"]


def make_source(folder: Path, count: int) -> None:
    """Writes `count` random crops as PNG files, and `labels.csv` beside them."""
    rng = np.random.default_rng(0)
    pictures = [Image.open(str(files("skimage") / "data" / name)).convert("L") for name in PICTURES]
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for number, picture, finding in zip(range(count), cycle(pictures), cycle(FINDINGS), strict=False):
            width, height = (int(rng.integers(side // 2, side + 1)) for side in picture.size)
            name = f"{number:08d}_000.png"
            picture.crop((0, 0, width, height)).save(folder / "images" / name)
            rows.writerow([name, finding, int(rng.integers(1, 95)), "FM"[number % 2]])


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        make_source(folder, count=40)

        fs.pack(
            folder / "images",
            folder / "packed",
            csv=folder / "labels.csv",
            file_column="Image Index",
            label="Finding Labels",
            label_sep="|",
            no_label="No Finding",
            resize_pad=512,
            gray=True,
            encode="raw",
        )
        dataset = fs.open(folder / "packed")
        print(f"{len(dataset)} rows, findings {dataset.class_names}")

        with fs.Loader(dataset, batch_size=16, shuffle=True) as loader:
            batch = next(iter(loader))
            for name, values in batch.items():
                print(f"{name}: {getattr(values, 'dtype', 'list')} {np.shape(values)}")


if __name__ == "__main__":
    main()
