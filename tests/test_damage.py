"""Archives with random damage: they are read as something, or refused with an error of ours, and nothing else."""

import gzip
import io
import json
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastshard as fs
from fastshard._base.crc import masked_crc
from fastshard._sources.archives import protobuf as _protobuf
from fastshard._sources.archives.protobuf import read_example
from fastshard._sources.kinds import recognise
from fastshard._sources.options import SourceOptions

DATA = Path(__file__).parent / "data"


def read(path, source):
    """All chunks of a source, as packing would take them; False if it was refused."""
    try:
        look, kind = recognise(path, source=source)
        for _ in kind.open(look, SourceOptions(), str(path.parent / "ds")).chunks():
            pass
    except (fs.SourceError, FileNotFoundError):
        return False
    return True


def damaged(data, seed):
    """The bytes with a few of them changed, cut out, doubled or cut off, mostly near the start, where headers are."""
    generator = random.Random(seed)
    data = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5))):
        if len(data) < 2:
            break
        at = generator.randrange(generator.choice((len(data), min(len(data), 1024))))
        what = generator.randrange(4)
        if what == 0:
            data[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        elif what == 1:
            del data[at : at + generator.choice((1, 4, 512))]
        elif what == 2:
            data[at:at] = data[at : at + generator.choice((1, 4, 512))]
        else:
            del data[max(1, at) :]
    return bytes(data)


def sound_checksums(data):
    """A tar whose headers have the right sums, whatever else is wrong, so that the damage gets further."""
    data = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b"        "
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


@pytest.fixture(scope="module")
def tar():
    array = io.BytesIO()
    np.save(array, np.arange(6.0).reshape(2, 3))
    parts = {
        "cls": b"3",
        "txt": b"text",
        "json": b'{"a": 1, "b": "x"}',
        "npy": array.getvalue(),
        "jpg": b"\xff\xd8\xff\xe0",
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(3):
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"{'long/' * 25}{number}.{suffix}" if number == 2 else f"{number}.{suffix}")
                member.size, member.mtime = len(data), 1.5
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_tar(tar, tmp_path, packed):
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(tar) if packed else tar)
    assert read(path, "webdataset")
    refused = 0
    for seed in range(200):
        data = sound_checksums(damaged(tar, seed)) if seed % 2 else damaged(tar, seed)
        path.write_bytes(
            damaged(gzip.compress(tar), seed) if packed and seed % 4 == 0 else gzip.compress(data) if packed else data
        )
        refused += not read(path, "webdataset")
    assert 100 < refused < 200


def test_zip(photo_folder, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("0.jpg", "1.jpg"):
            archive.writestr(f"cat/{name}", (photo_folder / "cat" / name).read_bytes()[:2000])
    whole = path.read_bytes()
    assert read(path, "zip")
    refused = 0
    for seed in range(200):
        generator = random.Random(seed)
        data = bytearray(damaged(whole, seed))
        directory = whole.index(b"PK\1\2")
        if seed % 2:  # the directory decides what is believed
            data = bytearray(whole)
            data[generator.randrange(directory, len(data))] = generator.choice((0, 1, 0x80, 0xFF))
        path.write_bytes(data)
        refused += not read(path, "zip")
    assert 100 < refused < 200


def test_mds(tmp_path):
    folder = tmp_path / "mds"
    shutil.copytree(DATA / "mds", folder)
    shard = folder / "shard.00000.mds"
    whole, index = shard.read_bytes(), (folder / "index.json").read_text()
    assert read(folder, "mds")
    refused = 0
    for seed in range(200):
        shard.write_bytes(whole if seed % 4 == 0 else damaged(whole, seed))
        if seed % 4 == 0:
            parsed = json.loads(index)
            generator = random.Random(seed)
            place = generator.choice(parsed["shards"])
            place[generator.choice(list(place))] = generator.choice(
                (None, -1, 2**40, "x", [], {}, [1], [None] * 16, True)
            )
            (folder / "index.json").write_text(json.dumps(parsed))
        else:
            (folder / "index.json").write_text(index)
        refused += not read(folder, "mds")
    assert 60 < refused < 200


def parsed(data):
    try:
        found = read_example(data, 0, len(data))
    except fs.SourceError:
        return None
    return {name: (kind, None if values is None else list(values)) for name, (kind, values) in found.items()}


def test_examples(monkeypatch):
    inner = b"".join(
        bytes([0x0A, len(entry)]) + entry
        for entry in (
            b"\x0a\x01a\x12\x06\x0a\x04\x0a\x02xy",
            b"\x0a\x01b\x12\x08\x12\x06\x0a\x04\0\0\x80\x3f",
            b"\x0a\x01c\x12\x07\x1a\x05\x0a\x03\x05\x96\x01",
            b"\x0a\x01d\x12\x06\x1a\x04\x08\x05\x08\x06",
        )
    )
    record = bytes([0x0A, len(inner)]) + inner
    assert sorted(read_example(record, 0, len(record))) == ["a", "b", "c", "d"]
    refused = 0
    for seed in range(2000):
        data = damaged(record, seed)
        found = parsed(data)
        refused += found is None
        with monkeypatch.context() as patch:  # without its shortcut
            patch.setattr(_protobuf, "usual_features", lambda *_: None)
            assert parsed(data) == found
    assert 500 < refused < 2000


def test_tfrecord(tmp_path):
    record = b"\x0a\x0d\x0a\x0b\x0a\x01a\x12\x06\x1a\x04\x0a\x02\x96\x01"
    length = len(record).to_bytes(8, "little")

    def crc(data):
        return masked_crc(data, 0, len(data)).to_bytes(4, "little")

    whole = (length + crc(length) + record + crc(record)) * 5
    path = tmp_path / "a.tfrecord"
    path.write_bytes(whole)
    assert read(path, "tfrecord")
    for seed in range(200):
        data = damaged(whole, seed)
        path.write_bytes(data)
        size = len(whole) // 5
        assert read(path, "tfrecord") is (len(data) > 0 and data in (whole, *(whole[:size] * n for n in range(1, 9))))
