"""JPEG files that decode along every path there is, and what can be said of a file without decoding it."""

import io
import struct

import numpy as np
from PIL import Image

import fastshard as fs

# Height, width: no multiples of any block, but of as many blocks as units of four have, which `resample` needs.
SIZE = (219, 189)
EXACT = fs.Decode(scaled=False)
SAME = fs.RandomHorizontalFlip(0)  # keeps Decode's place in a list for raw pixels, so that draws are the same


def save(pixels, **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def decode(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def resample(encoded, factors):
    """Other sampling factors with as many blocks a unit: what PIL can't write. The picture is scrambled, but valid."""
    at = next(encoded.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in encoded)
    frame = bytearray(encoded)
    frame[at + 5 : at + 9] = struct.pack(">HH", *SIZE)
    frame[at + 11] = factors
    return bytes(frame)


def variants(photo):
    """Name to file, all of one size; every combination that decodes along a path of its own."""
    assert photo.shape[0] >= 28 * 16 <= photo.shape[1]
    part = photo[: SIZE[0], : SIZE[1]]
    storage = {"sequential": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 4}}
    files = {}
    for name, options in storage.items():
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            files[f"{subsampling} {name}"] = save(part, subsampling=subsampling, **options)
        files[f"gray {name}"] = save(part[..., 0], **options)
        # 28 x 6 units of 32 x 8 pixels, from as many of 16 x 16, and so on.
        files[f"4:1:1 {name}"] = resample(save(photo[:, :96][: 28 * 16], subsampling="4:2:0", **options), 0x41)
        files[f"4:4:1 {name}"] = resample(save(photo[: 7 * 16, : 24 * 16], subsampling="4:2:0", **options), 0x14)
        files[f"4:4:0 {name}"] = resample(save(photo[: 14 * 8, : 24 * 16], subsampling="4:2:2", **options), 0x12)
    files["restart rows"] = save(part, restart_marker_rows=1)
    files["optimised"] = save(part, optimize=True)
    files["stored as RGB"] = save(part, keep_rgb=True)
    files["CMYK"] = save(Image.fromarray(part).convert("CMYK"))
    ycck = bytearray(files["CMYK"])
    ycck[ycck.index(b"Adobe") + 11] = 2
    files["YCCK"] = bytes(ycck)
    files["trailing zeros"] = files["4:2:0 sequential"] + bytes(5)
    files["trailing film"] = files["4:2:0 sequential"] + b"ftypmp42" * 100
    files["fill bytes"] = files["4:2:0 sequential"].replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)
    return files


def segments(encoded):
    """(marker, where it lies, body) of each segment up to the first scan."""
    at, found = 2, []
    while not found or found[-1][0] != 0xDA:
        assert encoded[at] == 0xFF
        if encoded[at + 1] == 0xFF:  # fill
            at += 1
            continue
        length = int.from_bytes(encoded[at + 2 : at + 4])
        found.append((encoded[at + 1], at, encoded[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def markers(encoded):
    return [marker for marker, _, _ in segments(encoded)]


def scan_start(encoded):
    """The first byte of entropy-coded data."""
    _, at, body = segments(encoded)[-1]
    return at + 4 + len(body)


def tiles(dataset, field="image"):
    """The index of each image, as pyarrow reads it."""
    return fs.open(dataset).to_arrow().column(f"_{field}_tiles").to_pylist()


def largest(path, other, steps, epochs, first=(EXACT, SAME), names=None):
    """The largest difference a row between two datasets over some epochs, each with a step of its own first.

    By default the first holds files and the second raw pixels.
    """
    steps = steps if isinstance(steps, list) else [steps]
    ours = fs.Loader(path, 100, transforms={"image": [first[0], *steps]})
    theirs = fs.Loader(other, 100, transforms={"image": [first[1], *steps]})
    worst = np.zeros(len(fs.open(path)), int)
    for _ in range(epochs):
        (a,), (b,) = ours, theirs
        differences = np.abs(a["image"].astype(int) - b["image"])
        worst = np.maximum(worst, differences.reshape(len(worst), -1).max(axis=1))
    return dict(zip(names or range(len(worst)), worst.tolist(), strict=True))
