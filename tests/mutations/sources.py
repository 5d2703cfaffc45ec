"""Sources with random damage: packing gives a sound dataset of what is there, or an error, and nothing else."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

import fastshard as fs
from fastshard._base.crc import masked_crc

from . import judge
from .bases import DATA, make_audio, make_lists, make_photos, picture

__all__ = ["SOURCES", "Source", "make_source", "read_source"]


@dataclass(frozen=True)
class Source:
    """Files below a folder, what of them is packed ("" for all), how, and what makes damaged files fit again."""

    files: dict[str, bytes]
    packed: str = ""
    options: dict[str, object] = field(default_factory=dict)
    fit: str = ""


def webdataset(_: Path) -> Source:
    stream, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(6.0).reshape(2, 3))
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(4):
            members = {
                "jpg": picture(40, 30, number),
                "cls": str(number % 2).encode(),
                "json": json.dumps({"a": number, "b": "x"}).encode(),
                "npy": array.getvalue(),
                "txt": b"text",
            }
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{'long/' * 25 * (number == 3)}{number}.{suffix}")
                member.size, member.mtime = len(data), 1.5
                archive.addfile(member, io.BytesIO(data))
    return Source({"a.tar": stream.getvalue()}, "a.tar", fit="tar")


def webdataset_gz(folder: Path) -> Source:
    return Source({"a.tar.gz": gzip.compress(webdataset(folder).files["a.tar"])}, "a.tar.gz", fit="gzip")


def _exported(folder: Path, make: Callable[[Path], None], to: str) -> dict[str, bytes]:
    make(folder / "ds")
    fs.export(folder / "ds", folder / to, to=to, progress=False)
    return {path.name: path.read_bytes() for path in (folder / to).iterdir() if not path.name.startswith(".")}


def tfrecord(folder: Path) -> Source:
    files = _exported(folder, make_photos, "tfrecord")
    name = next(name for name in files if name.endswith("tfrecord"))
    return Source({name: files[name]}, name, fit="tfrecord")


def parquet(folder: Path) -> Source:
    files = _exported(folder, make_lists, "parquet")
    return Source(files, next(iter(files)))


def parquet_images(folder: Path) -> Source:
    files = _exported(folder, make_photos, "parquet")
    return Source(files, next(iter(files)))


def parquet_audio(folder: Path) -> Source:
    files = _exported(folder, make_audio, "parquet")
    return Source(files, next(iter(files)))


def mds(_: Path) -> Source:
    return Source({path.name: path.read_bytes() for path in (DATA / "mds").iterdir()})


def mds_zstd(_: Path) -> Source:
    return Source({path.name: path.read_bytes() for path in (DATA / "mds-zstd").iterdir()})


def zipped(_: Path) -> Source:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(4):
            kind = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(f"{'ab'[number % 2]}/{number}.jpg", picture(40, 30, number), kind)
    return Source({"a.zip": stream.getvalue()}, "a.zip")


def csv(_: Path) -> Source:
    lines = ["x,y,name,list,label"] + [f'{n},{n / 3:.3f},"a, ""{n}""","[1, {n}]",c{n % 3}' for n in range(40)]
    return Source({"a.csv": "\n".join(lines).encode()}, "a.csv", {"label": "label"})


def csv_of_files(_: Path) -> Source:
    lines = ["file,label,age"] + [f"{n}.jpg,a|b,{n}" for n in range(4)]
    files = {f"{number}.jpg": picture(40, 30, number) for number in range(4)}
    return Source({"a.csv": "\n".join(lines).encode(), **files}, "", {"csv": "a.csv", "label_sep": "|"})


def arrow(_: Path) -> Source:
    return Source({"a.arrow": _ipc()}, "a.arrow")


def feather(_: Path) -> Source:
    return Source({"a.feather": _ipc()}, "a.feather")


def _ipc() -> bytes:
    columns = {
        "t": ["aaaa", "bbb", "", "cc"],
        "b": pa.array([b"x", b"", b"yy", b"zzz"]),
        "l": pa.array([[1, 2], [3], [], [4, 5, 6]], pa.list_(pa.int64())),
        "d": pa.array(["u", "v", "u", "u"]).dictionary_encode(),
        "f": pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float32(), 2)),
        "n": [1, 2, 3, 4],
    }
    stream, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table, 2)
    return stream.getvalue()


def npy(_: Path) -> Source:
    stream = io.BytesIO()
    np.save(stream, np.arange(60, dtype=np.float32).reshape(10, 6))
    return Source({"a.npy": stream.getvalue()}, "a.npy")


def npz(_: Path) -> Source:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(60, dtype=np.float32).reshape(10, 6), y=np.arange(10))
    return Source({"a.npz": stream.getvalue()}, "a.npz")


def dicom(_: Path) -> Source:
    from pydicom.data import get_testdata_file

    names = ("CT_small.dcm", "MR_small.dcm")
    return Source(
        {name: Path(get_testdata_file(name, download=False)).read_bytes() for name in names}, options={"window": "auto"}
    )


def coco(_: Path) -> Source:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 30} for n in range(3)]
    shape = {"segmentation": [[1, 2, 9, 4, 5, 6]], "bbox": [1, 2, 8, 4], "area": 9, "iscrowd": 0, "category_id": 1}
    objects = [{"id": n, "image_id": n % 3} | shape for n in range(5)]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    files = {f"images/{n}.jpg": picture(40, 30, n) for n in range(3)}
    return Source({"a.json": json.dumps(content).encode()} | files, "images", {"annotations": "a.json"})


def yolo(_: Path) -> Source:
    files = {"data.yaml": b"names: [cat, dog]\ntrain: images/train\nnc: 2\n"}
    for number in range(3):
        files[f"images/train/{number}.jpg"] = picture(40, 30, number)
        files[f"labels/train/{number}.txt"] = b"0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.2\n"
    return Source(files, "", {"source": "yolo"})


def voc(_: Path) -> Source:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    files = {}
    for number in range(3):
        text = f"""<annotation><filename>{number}.jpg</filename>
            <size><width>40</width><height>30</height><depth>3</depth></size>
            <object><name>cat</name><difficult>0</difficult>{box}</object></annotation>"""
        files[f"Annotations/{number}.xml"] = text.encode()
        files[f"JPEGImages/{number}.jpg"] = picture(40, 30, number)
    return Source(files, "", {"source": "voc"})


def images(_: Path) -> Source:
    from .bases import FILES

    made = {
        f"{'ab'[n % 2]}/{n}.{options.get('kind', 'jpeg').lower()}": picture(
            seed=n, **({"width": 40, "height": 30} | options)
        )
        for n, options in enumerate(FILES)
    }
    return Source(made, "", {"seekable": True, "check": "decode"})


def audio(_: Path) -> Source:
    import soundfile

    files = {}
    for kind in ("wav", "flac", "ogg", "mp3"):
        stream = io.BytesIO()
        soundfile.write(stream, np.sin(np.arange(3000) / 7).astype(np.float32), 8000, format=kind.upper())
        files[f"a/{kind}.{kind}"] = stream.getvalue()
    return Source(files)


SOURCES: dict[str, Callable[[Path], Source]] = {
    f"from-{made.__name__}": made  # so that no dataset has its name
    for made in (
        *(webdataset, webdataset_gz, tfrecord, parquet, parquet_images, parquet_audio, mds, mds_zstd, zipped, csv),
        *(csv_of_files, arrow, feather, npy, npz, dicom, coco, yolo, voc, images, audio),
    )
}


def make_source(folder: Path, name: str) -> Source:
    """A source that can be packed."""
    source = SOURCES[name](folder)
    _write(folder / "src", source.files)
    _pack(folder / "src", source, folder / "packed")
    return source


def damaged_source(source: Source, name: str, seed: int, number: int) -> tuple[dict[str, bytes], str]:
    """Its files, some of them damaged, and what was done."""
    rng = random.Random(f"{name} {seed} {number}")
    files, said = dict(source.files), []
    for _ in range(rng.choice((1, 1, 2))):
        chosen = rng.choice(sorted(files))
        whole = files[chosen] == source.files[chosen]
        inner = gzip.decompress(files[chosen]) if source.fit == "gzip" and whole and rng.random() < 0.7 else None
        data = bytearray(files[chosen] if inner is None else inner)
        said.append(f"{chosen}: " + ", ".join(_damage(rng, data) for _ in range(rng.choice((1, 1, 2, 5)))))
        if rng.random() < 0.6:
            fit = {"tar": _fit_tar, "gzip": _fit_tar, "tfrecord": _fit_tfrecord}.get(source.fit)
            if fit is not None and (source.fit != "gzip" or inner is not None):
                fit(data)
                said.append("checksums fit")
        files[chosen] = bytes(data) if inner is None else gzip.compress(bytes(data), mtime=0)
    return files, "; ".join(said)


def _damage(rng: random.Random, data: bytearray) -> str:
    if not data:
        return "nothing"
    # Headers and directories are at the ends.
    near = min(len(data), rng.choice((64, 1024, len(data))))
    at = rng.randrange(near) if rng.random() < 0.6 else len(data) - 1 - rng.randrange(near)
    length = rng.choice((1, 1, 2, 4, 8, 512))
    what = rng.choice(("bit", "byte", "byte", "number", "digit", "cut out", "doubled", "zeros", "cut off"))
    if what == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "byte":
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
    elif what == "number":
        number = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
        data[at : at + 8] = struct.pack("<Q", number)[: min(rng.choice((4, 8)), len(data) - at)]
    elif what == "digit":
        digits = [place for place in range(at, min(len(data), at + 200)) if chr(data[place]).isdigit()]
        if digits:
            data[digits[0] : digits[0] + 1] = rng.choice((b"-1", b"9" * 20, b"1e9", b"0", b"NaN", b"\xff"))
    elif what == "cut out":
        del data[at : at + length]
    elif what == "doubled":
        data[at:at] = data[at : at + length]
    elif what == "zeros":
        data[at : at + length] = bytes(min(length, len(data) - at))
    else:
        del data[at:]
    return f"{what} at {at}"


def _fit_tar(data: bytearray) -> None:
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b"        "
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])


def _fit_tfrecord(data: bytearray) -> None:
    at = 0
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        data[at + 8 : at + 12] = masked_crc(bytes(data), at, at + 8).to_bytes(4, "little")
        end = at + 12 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = masked_crc(bytes(data), at + 12, end).to_bytes(4, "little")
        at = end + 4


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _pack(folder: Path, source: Source, out: Path) -> fs.Dataset:
    options = dict(source.options)
    for key in ("annotations", "csv"):
        if key in options:
            options[key] = folder / str(options[key])
    fs.pack(folder / source.packed, out, progress=False, num_threads=2, **options)
    return fs.open(out)


def read_source(source: Source, name: str, seed: int, number: int, place: Path, say: Callable[[str], None]) -> None:
    """What a child does: packs a damaged source and reads what comes of it; says outcomes as readers of datasets do."""
    files, _ = damaged_source(source, name, seed, number)
    try:
        _write(place / "src", files)
        say("pack")
        try:
            ds = _pack(place / "src", source, place / "ds")
        except BaseException as error:  # noqa: BLE001 - judged
            outcome = "FOREIGN" if judge.foreign(error) else "error"
            say(f"pack | {outcome} | {judge.describe(error)}")
            if (place / "ds").exists():
                say("pack | WRONG | a dataset in spite of the error")
            return
        say("pack | same")
        say("read")
        for outcome in _read(ds):
            say(f"read | {outcome}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _read(ds: fs.Dataset) -> Iterator[str]:
    """Everything that was packed can be read, but for images and audio that no decoder takes."""
    for problem in ds.verify(progress=False)[:1]:
        yield f"WRONG | verify: {problem}"
    yield from {_row(ds, row) for row in range(min(len(ds), 50))} or {"same"}


def _row(ds: fs.Dataset, row: int) -> str:
    try:
        ds[row]
    except fs.DecodeError as error:
        return f"error | {judge.describe(error)}"
    except BaseException as error:  # noqa: BLE001 - judged
        return f"{'FOREIGN' if judge.foreign(error) else 'WRONG'} | {judge.describe(error)}"
    return "same"
