"""Prove that an installed fastshard works: pack, load and compare a few images, and see that the codec has SIMD.

Needs nothing but fastshard and what it depends on; `make wheel` runs it in an empty environment.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import fastshard as fs


def main() -> None:
    info = fs.build_info()
    print(", ".join(f"{key} {value}" for key, value in info.items()))
    assert info["profile"] == "release", f"not a release build: {info}"
    assert info["simd"].lower() not in {"", "none", "no", "off", "false", "0"}, f"libjpeg-turbo has no SIMD: {info}"

    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for row, image in enumerate(pixels):
            path = Path(folder, "photos", "ab"[row % 2], f"{row}.{('png', 'jpg')[row % 2]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        fs.pack(f"{folder}/photos", f"{folder}/packed")
        dataset = fs.open(f"{folder}/packed")
        assert dataset.class_names == ("a", "b"), dataset.class_names
        with fs.Loader(dataset, batch_size=3, transforms={"image": [fs.Resize((32, 32))]}) as loader:
            batches = list(loader)
        assert [batch["image"].shape for batch in batches] == [(3, 32, 32, 3)] * 2
        assert sorted(label for batch in batches for label in batch["label"].tolist()) == [0] * 3 + [1] * 3
    print("packed 6 images and loaded them in 2 batches")


if __name__ == "__main__":
    main()
