"""The quality gate: fastshard's Resize(256) + CenterCrop(224) against torchvision v2's, on the same photographs.

Run as a program it prints one line of JSON, so that the comparison itself never imports torch.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from job import EVAL_SIDE, SIDE, Images

SAMPLES = 16


@dataclass(frozen=True)
class Quality:
    """Differences in levels of 0-255; PSNR in dB over all the pictures, and of the worst one."""

    images: int
    max_difference: int
    mean_difference: float
    psnr: float
    worst_psnr: float

    def __str__(self) -> str:
        return (
            f"quality on {self.images} photos against torchvision v2 (antialiased): largest difference "
            f"{self.max_difference} levels, mean {self.mean_difference:.3f}, "
            f"PSNR {self.psnr:.1f} dB (worst {self.worst_psnr:.1f})"
        )


def compare(photos: Path) -> Quality:
    """Take photographs evenly from the folder and compare what both make of them."""
    files = sorted(photos.glob("*/*.jpg"))
    files = files[:: max(1, len(files) // SAMPLES)][:SAMPLES]
    return difference(_with_fastshard(files), _with_torchvision(files))


def difference(ours: Images, theirs: Images) -> Quality:
    gap = np.abs(ours.astype(np.int16) - theirs.astype(np.int16))
    errors = (gap.astype(np.float64) ** 2).mean(axis=(1, 2, 3))
    return Quality(len(ours), int(gap.max()), float(gap.mean()), _psnr(errors.mean()), _psnr(errors.max()))


def _psnr(error: float) -> float:
    return 10 * math.log10(255**2 / error) if error else math.inf


def _with_fastshard(files: list[Path]) -> Images:
    import fastshard as fs

    with tempfile.TemporaryDirectory() as folder:
        # A class per photograph: the label then tells which one a row is, in whatever order they were packed.
        for index, file in enumerate(files):
            target = Path(folder, "photos", f"{index:02d}")
            target.mkdir(parents=True)
            shutil.copy(file, target)
        fs.pack(Path(folder, "photos"), Path(folder, "packed"), progress=False)
        steps = {"image": [fs.Resize(EVAL_SIDE), fs.CenterCrop(SIDE)]}
        loader = fs.Loader(fs.open(Path(folder, "packed")), batch_size=len(files), shuffle=False, transforms=steps)
        batch = next(iter(loader))
        return np.array(batch["image"][np.argsort(batch["label"])])


def _with_torchvision(files: list[Path]) -> Images:
    from PIL import Image
    from torchvision.transforms import v2

    steps = v2.Compose([v2.PILToTensor(), v2.Resize(EVAL_SIDE, antialias=True), v2.CenterCrop(SIDE)])
    return np.stack([steps(Image.open(file).convert("RGB")).permute(1, 2, 0).numpy() for file in files])


if __name__ == "__main__":
    print(json.dumps(asdict(compare(Path(sys.argv[1])))))
