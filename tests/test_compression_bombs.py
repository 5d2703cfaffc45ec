"""Compressed sources whose items would fill memory are refused by what they declare, before anything is allocated."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pytest

import fastshard as fs
from fastshard._base.crc import masked_crc

SIZE = 300 << 20
ZEROS = bytes(1 << 20)
PIECES = SIZE // len(ZEROS)


def tfrecord(path):
    length = struct.pack("<Q", SIZE)
    crc = struct.pack("<I", masked_crc(length, 0, 8))
    with gzip.open(path / "a.tfrecord.gz", "wb", 1) as file:
        file.write(length + crc)
        for _ in range(PIECES):
            file.write(ZEROS)
    return path / "a.tfrecord.gz"


def tar(path):
    header = tarfile.TarInfo("0.x.bin")
    header.size = SIZE
    with gzip.open(path / "a.tar.gz", "wb", 1) as file:
        file.write(header.tobuf())
        for _ in range(PIECES):
            file.write(ZEROS)
    return path / "a.tar.gz"


def mds(path):
    samples = SIZE // 4
    shard = {
        "format": "mds",
        "version": 2,
        "column_names": ["x"],
        "column_encodings": ["int"],
        "column_sizes": [8],
        "samples": samples,
        "raw_data": {"basename": "s.mds"},
        "zip_data": {"basename": "s.mds.zstd"},
    }
    (path / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))
    with pa.CompressedOutputStream(pa.OSFile(str(path / "s.mds.zstd"), "wb"), "zstd") as file:
        file.write(struct.pack("<I", samples))
        for _ in range(PIECES + 1):
            file.write(ZEROS)
    return path


def npz(path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (1, SIZE)})
    with (
        zipfile.ZipFile(path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(buffer.getvalue())
        for _ in range(PIECES):
            file.write(ZEROS)
    return path / "a.npz"


@pytest.mark.parametrize("make", [tfrecord, tar, mds, npz])
def test_an_item_that_is_large_only_when_decompressed(make, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    with pytest.raises(fs.SourceError, match=r"an item of 31\d,\d+,\d+ bytes in .* compressed bytes; expected at most"):
        fs.pack(make(folder), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_what_compresses_well_but_is_small(tmp_path):
    """Masks and padded arrays are mostly zeros."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((3, 16 << 20), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size * 200 < 48 << 20
    fs.pack(tmp_path / "a.npz", tmp_path / "out", progress=False)
    assert [row["x"].sum() for row in fs.open(tmp_path / "out")] == [0, 0, 0]
