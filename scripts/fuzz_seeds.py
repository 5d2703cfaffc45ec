"""What the fuzz targets start from: small files of every kind, manifests and transforms that are sound.

scripts/fuzz_seeds.py FOLDER
"""

import io
import itertools
import json
import struct
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import soundfile
from PIL import Image

import fastshard as fs
from fastshard._transforms.image import to_json

CHAINS = (
    [
        fs.RandomResizedCrop(224),
        fs.RandomHorizontalFlip(),
        fs.ToDtype(),
        fs.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD),
    ],
    [fs.Decode("L", "uint16"), fs.ResizePad(64), fs.RandomCrop(32)],
    [fs.RandomHorizontalFlip(), fs.Mosaic(64), fs.CenterCrop(48)],
    [
        fs.RandomRotation(30, expand=True),
        fs.RandomAffine(10, (0.1, 0.2), (0.5, 2), 15),
        fs.Resize(40),
        fs.CenterCrop(32),
    ],
    [fs.RandomRotation(30, expand=True)],
    [fs.RandomPerspective(), fs.ColorJitter(0.4, 0.4, 0.4, 0.1), fs.RandomGrayscale(), fs.GaussianBlur(5)],
    [fs.RandAugment(), fs.RandomApply([fs.TrivialAugmentWide()], 0.5), fs.AutoAugment(), fs.RandomErasing()],
    fs.presets.keras_augment(rotation=0.45, contrast=0.2, zoom=0.1, shear=0.1),
)


def encode(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def jpegs(picture: Image.Image) -> list[bytes]:
    sampled = [
        encode(picture, subsampling=subsampling, **options)
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3})
    ]
    others = [encode(picture.convert(mode), optimize=True) for mode in ("L", "CMYK")]
    return [*sampled, *others]


def with_index(file: bytes, tiles: list[int], flags: int) -> bytes:
    """The input of the target `jpeg`: a part that is asked for, flags, the index, the file."""
    return struct.pack(f"<6H{len(tiles)}I", 21, 13, 30, 40, flags, len(tiles), *tiles) + file


def annotations() -> list[bytes]:
    """COCO's instances with polygons, run lengths and keypoints, and captions."""
    images = [{"id": 4, "file_name": "a/b.jpg"}, {"id": 2, "file_name": "c.jpg"}]
    categories = [{"id": 9, "name": "cat", "keypoints": ["ear"], "skeleton": [[1, 1]]}, {"id": 3, "name": "dog"}]
    boxes = [
        {"segmentation": [[1, 2, 3.5, 4, 5, 6]], "category_id": 9, "keypoints": [1, 2, 2]},
        {"segmentation": {"counts": [3, 4], "size": [7, 1]}, "category_id": 3, "iscrowd": 1},
        {"segmentation": {"counts": "a1\\u0041", "size": [7, 1]}, "category_id": 3, "iscrowd": 0},
    ]
    every = {"image_id": 4, "bbox": [0.25, 1, 2e1, 3], "area": 1.5}
    boxes = [{"id": number, **every, **box} for number, box in enumerate(boxes)]
    captions = [{"id": number, "image_id": 2, "caption": text} for number, text in enumerate(("", 'a "b"\n'))]
    files = [
        {"info": {"a": [None, True]}, "images": images, "annotations": boxes, "categories": categories},
        {"annotations": captions, "images": images},
    ]
    return [json.dumps(file).encode() for file in files]


def segmentations() -> list[bytes]:
    """Of an image's objects: polygons, one of them far outside, run lengths of both kinds, and none."""
    polygons = [[[1, 2, 30.5, 4, 5, 26]], [[-1e9, 3, 1e9, 3, 5, 39.5], [0, 0, 40, 40, 40, 0]]]
    runs = [{"size": [7, 9], "counts": counts} for counts in ([10, 3, 20, 5, 25], ":3d025", "032k0OK1")]
    return [json.dumps(found).encode() for found in ([*polygons, None], runs, [*runs, *polygons])]


def sounds() -> list[bytes]:
    """The inputs of the target `audio`: where a part starts, and a file."""
    random = np.random.default_rng(0)
    files = []
    for rate, channels in itertools.product((8000, 22050, 44100), (1, 2)):
        time = np.arange(rate // 4) / rate
        tones = [np.sin(2 * np.pi * pitch * time) * np.exp(-9 * (time % 0.1)) for pitch in (330, 470)[:channels]]
        samples = np.stack(tones, axis=1) * 0.4 + random.normal(0, 0.02, (len(time), channels))
        for kind in ("WAV", "FLAC", "OGG", "MP3"):
            stream = io.BytesIO()
            soundfile.write(stream, samples, rate, format=kind)
            files.append(struct.pack(">H", 20000 + 900 * len(files)) + stream.getvalue())
    return files


def shards(folder: Path) -> list[bytes]:
    """The inputs of the target `shard`: fields, where the block is, and the file; of every type of field."""
    picture = Image.fromarray(skimage.data.astronaut()).resize((40, 32))
    kinds = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
    numbers = range(5)
    texts = [
        {
            "x": np.ones((2, 3), np.float32),
            "ids": np.arange(number),
            "points": np.ones((number, 2), np.float32),
            "text": "t" * number,
            "blob": b"b" * number,
            "number": np.uint16(number),
        }
        for number in numbers
    ]
    boxes = [
        {
            "image": encode(picture),
            "boxes": np.array([[1, 2, 20, 20]] * number, np.float32).reshape(-1, 4),
            "labels": np.arange(number),
        }
        for number in numbers
    ]
    packs = [
        ([{"image": encode(picture, kind), "label": 1} for kind in kinds], {"seekable": True}),
        ([{"image": encode(picture.resize((150, 20)))}] * 2, {"seekable": True}),
        (texts, {"types": {"ids": "list[int64]", "points": "list[float32, 2]"}}),
        (boxes, {"types": {"boxes": "boxes[xyxy]", "labels": "list[int64] along boxes"}}),
        ([{"audio": file[2:]} for file in sounds()[:4]], {"types": {"audio": "audio"}}),
    ]
    found = []
    for number, (rows, options) in enumerate(packs):
        fs.pack(rows, folder / f"{number}", progress=False, **options)
        manifest = fs.open(folder / f"{number}").manifest
        (shard,) = manifest["shards"]
        block = shard["blocks"][0]
        place = struct.pack("<4I", *(block[key] for key in ("offset", "metadata_bytes", "body_bytes", "rows")))
        fields = json.dumps(manifest["fields"], separators=(",", ":")).encode()
        found.append(fields + b"\n" + place + (folder / f"{number}" / shard["file"]).read_bytes())
    return found


def offsets() -> list[bytes]:
    """The inputs of the target `offsets`: words of its shard, and what is written there."""
    values = (0, 1, 2, 2**31 - 1, 2**32 - 1, 64)
    return [struct.pack("<HI", word, value) for word, value in zip(range(100, 700, 100), values, strict=True)]


def containers() -> list[bytes]:
    """The inputs of the target `containers`: tar archives behind a 0, Examples behind a 1."""
    archives = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            for name in ("a/0.jpg", "a/0.cls"):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = 5, 1.5 if form == tarfile.PAX_FORMAT else 1
                archive.addfile(member, io.BytesIO(b"12345"))
        archives.append(b"\0" + stream.getvalue()[:4096])
    entries = (
        b"\x0a\x01a\x12\x06\x0a\x04\x0a\x02xy",
        b"\x0a\x01b\x12\x08\x12\x06\x0a\x04\0\0\x80\x3f",
        b"\x0a\x01c\x12\x07\x1a\x05\x0a\x03\x05\x96\x01",
    )
    inner = b"".join(bytes([0x0A, len(entry)]) + entry for entry in entries)
    return [*archives, b"\1" + bytes([0x0A, len(inner)]) + inner]


def main(folder: Path) -> None:
    picture = Image.fromarray(skimage.data.astronaut()).resize((100, 76))
    files = jpegs(picture)
    turned = Image.Exif()
    turned[0x0112] = 6
    files.append(encode(picture, exif=turned, comment=b"a comment"))
    with tempfile.TemporaryDirectory() as made:
        fs.pack([{"image": file} for file in files], Path(made) / "ds", seekable=True, progress=False)
        dataset = fs.open(Path(made) / "ds")
        index = dataset.to_arrow().column("_image_tiles").to_pylist()
        stored = [dataset.encoded(row)[0] for row in range(len(dataset))]
        manifest = (Path(made) / "ds/manifest.json").read_bytes()
        whole = shards(Path(made))
    seeds = {
        "jpeg": [with_index(*one, flags) for flags, one in enumerate(zip(stored, index, strict=True))],
        "image": [
            *files,
            *(encode(picture, kind) for kind in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")),
            *(encode(picture.convert(mode), "PNG") for mode in ("L", "LA", "P", "1", "RGBA")),
        ],
        "audio": sounds(),
        "manifest": [manifest],
        "coco": annotations(),
        "masks": segmentations(),
        "shard": whole,
        "offsets": offsets(),
        "containers": containers(),
        "transforms": [json.dumps(json.loads(to_json(chain))).encode() for chain in CHAINS],
    }
    seeds["jpeg"] += [with_index(file, [], flags) for flags, file in zip(itertools.count(), files)]
    for target, inputs in seeds.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / target / f"{number:02}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
