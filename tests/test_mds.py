"""MDS folders as `mosaicml-streaming` 0.13 writes them, and damaged ones.

That package can't be installed beside what else is tested here, so `data/mds` and `data/mds-zstd` hold five samples as
its writer wrote them, and `data/mds.json` what its reader read of them.
"""

import base64
import io
import json
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "mds.json").read_text())


def matches(dataset, row, name, value):
    found = dataset[row][name]
    if isinstance(value, dict) and "pixels" in value:
        encoded = Image.open(io.BytesIO(dataset.encoded(row, name)[0]))
        return encoded.mode == value["mode"] and np.array_equal(np.asarray(encoded), value["pixels"])
    if isinstance(value, dict) and "bytes" in value:
        return found == base64.b64decode(value["bytes"])
    if isinstance(value, dict) and "dtype" in value:
        return found.dtype == value["dtype"] and np.array_equal(found, value["values"])
    return json.loads(found) == value if name == "meta" else found == value


@pytest.mark.parametrize("name", ["mds", "mds-zstd"])
def test_the_same_as_its_own_reader_gives(tmp_path, name):
    report = fs.pack(DATA / name, tmp_path / "ds", seekable=False)
    assert report.source == f"{DATA / name}: MosaicML MDS"
    dataset = fs.open(tmp_path / "ds")
    assert len(dataset) == len(EXPECTED)
    for row, sample in enumerate(EXPECTED):
        assert set(dataset[row]) == set(sample)
        for field, value in sample.items():
            assert matches(dataset, row, field, value), (row, field)
    types = {field.name: (field.type, field.dtype) for field in dataset.fields}
    assert types["small"] == ("scalar", "int8")
    assert types["half"] == ("scalar", "float16")
    assert types["image"][0] == types["icon"][0] == types["raw"][0] == "image"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DATA / "mds", tmp_path / "mds")
    return tmp_path / "mds"


def change(folder, **values):
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shards"]:
        shard.update(values)
    (folder / "index.json").write_text(json.dumps(index))


def encoding_of(folder, column, encoding):
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shards"]:
        shard["column_encodings"][shard["column_names"].index(column)] = encoding
    (folder / "index.json").write_text(json.dumps(index))


class TestHostile:
    def test_pickles(self, folder, tmp_path):
        encoding_of(folder, "data", "pkl")
        with pytest.raises(fs.SourceError, match=r"index.json: column 'data' is a pickle"):
            fs.pack(folder, tmp_path / "ds")
        fs.pack(folder, tmp_path / "ds", pickles="bytes")
        assert fs.open(tmp_path / "ds")[1]["data"] == base64.b64decode(EXPECTED[1]["data"]["bytes"])

    @pytest.mark.parametrize("encoding", ["list[jpeg]", "nothing", "bytes:x", "ndarray:object", "ndarray:int8:a"])
    def test_encodings(self, folder, tmp_path, encoding):
        encoding_of(folder, "data", encoding)
        with pytest.raises(fs.SourceError, match=r"encoding"):
            fs.pack(folder, tmp_path / "ds")

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({"version": 3}, "version 3; expected 'mds', version 2"),
            ({"format": "csv"}, "MDS|format 'csv'"),
            ({"raw_data": {"basename": "../shard.00000.mds"}}, "expected the plain name of a file"),
            ({"raw_data": {"basename": "/etc/passwd"}}, "expected the plain name of a file"),
            ({"raw_data": {}}, "not the index of an MDS folder: KeyError"),
            ({"samples": 4}, "3 samples; expected 4|samples; expected"),
            ({"samples": -1}, "-1 samples"),
            ({"samples": "many"}, "'many' samples"),
            ({"column_sizes": [None]}, "not the index"),
            ({"column_names": [], "column_sizes": [], "column_encodings": []}, "of 0 columns"),
            ({"column_sizes": [None] * 16}, "bytes of|expected 2"),
            ({"column_sizes": [-1] * 16}, "not the index"),
        ],
        ids=str,
    )
    def test_the_index(self, folder, tmp_path, values, named):
        change(folder, **values)
        with pytest.raises(fs.SourceError, match=named):
            fs.pack(folder, tmp_path / "ds", source="mds")

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"shards": []}', '{"shards": [1]}', '{"shards": 1}'])
    def test_no_index(self, folder, tmp_path, text):
        (folder / "index.json").write_text(text)
        with pytest.raises(fs.SourceError, match=r"index.json: "):
            fs.pack(folder, tmp_path / "ds", source="mds")
        (folder / "index.json").unlink()
        with pytest.raises(fs.SourceError, match=r"index.json: no such file"):
            fs.pack(folder, tmp_path / "ds", source="mds")

    def test_a_missing_shard(self, folder, tmp_path):
        (folder / "shard.00001.mds").unlink()
        with pytest.raises(FileNotFoundError, match=r"shard.00001.mds: no such file, though the index lists it"):
            fs.pack(folder, tmp_path / "ds")

    @pytest.mark.parametrize("keep", [0, 3, 10, 0.3, 0.9, -1])
    def test_truncated(self, folder, tmp_path, keep):
        shard = folder / "shard.00000.mds"
        data = shard.read_bytes()
        shard.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else keep])
        with pytest.raises(fs.SourceError, match=r"shard.00000.mds: .*(truncated|samples; expected)"):
            fs.pack(folder, tmp_path / "ds")
        shard.write_bytes(data + b"x")
        with pytest.raises(fs.SourceError, match=r"shard.00000.mds: more data"):
            fs.pack(folder, tmp_path / "ds")

    @pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 2**32 - 1), (8, 1), (8, 2**32 - 1)])
    def test_places_that_lie(self, folder, tmp_path, at, value):
        shard = folder / "shard.00000.mds"
        data = bytearray(shard.read_bytes())
        data[at : at + 4] = struct.pack("<I", value)
        shard.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(fs.SourceError, match=r"shard.00000.mds: "):
            fs.pack(folder, tmp_path / "ds")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
        tracemalloc.stop()

    def test_sizes_of_values_that_lie(self, folder, tmp_path):
        shard = folder / "shard.00000.mds"
        data = bytearray(shard.read_bytes())
        start = int.from_bytes(data[8:12], "little")  # of the second sample
        for value in (0, 2**32 - 1, 70):
            damaged = bytearray(data)
            damaged[start : start + 4] = struct.pack("<I", value)
            shard.write_bytes(damaged)
            with pytest.raises(fs.SourceError, match=r"shard.00000.mds: sample 1: "):
                fs.pack(folder, tmp_path / "ds")
        report = fs.pack(folder, tmp_path / "ds", on_error="skip")
        assert [row.row for row in report.skipped] == [1]
        assert fs.open(tmp_path / "ds").column("n").tolist() == [0, -2, -3, -4]

    def test_arrays_and_pictures_that_lie(self, folder, tmp_path):
        shard = folder / "shard.00000.mds"
        whole = shard.read_bytes()
        start = int.from_bytes(whole[4:8], "little")
        varying = 10  # columns without a fixed size, of which the array comes first
        at = start + 4 * varying
        assert whole[at] == 16  # uint16
        for value in (0, 34, 64):
            data = bytearray(whole)
            data[at] = value
            shard.write_bytes(data)
            with pytest.raises(fs.SourceError, match=r"sample 0: column 'arr': .* bytes of an array of shape"):
                fs.pack(folder, tmp_path / "ds")
        picture = whole.index(struct.pack("<3I", 4, 3, 3) + b"RGB")
        for place, value in ((picture, 2**31), (picture + 8, 2**31), (picture + 4, 0)):
            data = bytearray(whole)
            data[place : place + 4] = struct.pack("<I", value)
            shard.write_bytes(data)
            with pytest.raises(fs.SourceError, match=r"sample 0: column 'raw': .* pixels of mode"):
                fs.pack(folder, tmp_path / "ds")
