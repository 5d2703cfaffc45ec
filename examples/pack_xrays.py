"""Pack chest X-rays in the layout of the NIH's, and split them so that no patient is on both sides.

The NIH set is a folder of gray 1024-pixel PNG files and `Data_Entry_2017.csv`, one row an image, with several findings
in one cell and several images a patient. Random rows would put the same person into training and test, and a network
may well recognise the person. So the split goes by patient, with all findings in about the same proportion.

Run as:  python examples/pack_xrays.py                   (makes a small set of that layout, of photographs)
         python examples/pack_xrays.py /data/nih packed/  (the folder that holds Data_Entry_2017.csv and the images)
"""

import argparse
import csv
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import fastshard as fs

TABLE = "Data_Entry_2017.csv"
COLUMNS = [
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
]
FINDINGS = {"Infiltration": 0.25, "Effusion": 0.15, "Atelectasis": 0.12, "Nodule": 0.06, "Cardiomegaly": 0.03}
PICTURES = ["camera.png", "moon.png", "brick.png", "grass.png", "gravel.png"]


def make_source(folder: Path, patients: int) -> None:
    """Writes PNG files of several sizes, a few for each patient, and the table."""
    rng = np.random.default_rng(0)
    pictures = [Image.open(str(files("skimage") / "data" / name)).convert("L") for name in PICTURES]
    (folder / "images").mkdir()
    with (folder / TABLE).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for patient in range(1, patients + 1):
            age, gender = int(rng.integers(18, 90)), "FM"[patient % 2]
            for visit in range(int(rng.geometric(0.4))):
                name = f"{patient:08d}_{visit:03d}.png"
                picture = pictures[int(rng.integers(len(pictures)))]
                width, height = (int(rng.integers(side // 2, side + 1)) for side in picture.size)
                picture.crop((0, 0, width, height)).save(folder / "images" / name)
                found = [finding for finding, share in FINDINGS.items() if rng.random() < share]
                labels = "|".join(found) or "No Finding"
                rows.writerow([name, labels, visit, patient, age + visit, gender, ("PA", "AP")[visit % 2]])


def pack(source: Path, packed: Path) -> fs.Dataset:
    """Packs images resized to 512 pixels, with a border where they aren't square, as gray pixels."""
    report = fs.pack(
        source,
        packed,
        csv=source / TABLE,
        file_column="Image Index",
        label="Finding Labels",
        label_sep="|",
        no_label="No Finding",
        resize_pad=512,
        gray=True,
        encode="raw",
    )
    print(report)
    return fs.open(packed)


def show_split(train: fs.Dataset, test: fs.Dataset) -> None:
    """Prints what each side holds, and stops if a patient is on both."""
    sides = {"train": train, "test": test}
    patients = {name: set(side.column("Patient ID").tolist()) for name, side in sides.items()}
    both = patients["train"] & patients["test"]
    for name, side in sides.items():
        shares = side.column("Finding Labels").mean(axis=0)
        names = side.field("Finding Labels").class_names or ()
        listed = ", ".join(f"{finding} {share:.0%}" for finding, share in zip(names, shares, strict=True))
        print(f"{name}: {len(side):,} images of {len(patients[name]):,} patients; {listed}")
    print(f"patients on both sides: {len(both)}")
    if both:
        raise SystemExit("the split is not one by patient")


def run(source: Path, packed: Path) -> None:
    dataset = pack(source, packed)
    train, test = dataset.split([0.8, 0.2], group="Patient ID", stratify="Finding Labels", seed=0)
    show_split(train, test)
    random = dataset.split([0.8, 0.2], seed=0)
    shared = set(random[0].column("Patient ID").tolist()) & set(random[1].column("Patient ID").tolist())
    print(f"for comparison, patients on both sides of a split by row: {len(shared):,}")

    transforms = {"image": [fs.ToDtype(), fs.Normalize([0.5], [0.25])]}
    with fs.Loader(train, batch_size=16, shuffle=True, transforms=transforms, layout="NCHW") as loader:
        batch = next(iter(loader))
    print({name: (values.dtype, values.shape) for name, values in batch.items() if isinstance(values, np.ndarray)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help=f"folder with {TABLE} and images")
    parser.add_argument("packed", type=Path, nargs="?", help="folder of the dataset to make")
    given = parser.parse_args()
    if given.source is not None and given.packed is None:
        parser.error("expected the folder of the dataset to make behind that of the source")
    if given.source is not None:
        run(given.source, given.packed)
        return
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "nih")
        source.mkdir()
        make_source(source, patients=60)
        run(source, Path(temporary, "packed"))


if __name__ == "__main__":
    main()
