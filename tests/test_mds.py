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


def test_the_quality_of_jpegs_changes_nothing(folder, tmp_path):
    fs.pack(folder, tmp_path / "plain")
    encoding_of(folder, "image", "jpeg:90")
    fs.pack(folder, tmp_path / "ds")
    plain, dataset = fs.open(tmp_path / "plain"), fs.open(tmp_path / "ds")
    assert [dataset.encoded(row, "image") for row in range(3)] == [plain.encoded(row, "image") for row in range(3)]


class TestHostile:
    def test_pickles(self, folder, tmp_path):
        encoding_of(folder, "data", "pkl")
        with pytest.raises(fs.SourceError, match=r"index.json: column 'data' is a pickle"):
            fs.pack(folder, tmp_path / "ds")
        fs.pack(folder, tmp_path / "ds", pickles="bytes")
        assert fs.open(tmp_path / "ds")[1]["data"] == base64.b64decode(EXPECTED[1]["data"]["bytes"])

    @pytest.mark.parametrize(
        "encoding", ["list[int]", "list[jpeg]:2", "jpeg:x", "nothing", "bytes:x", "ndarray:object", "ndarray:int8:a"]
    )
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


def mds(folder, columns, samples):
    """A shard of values that are encoded already, all without a fixed size, as the format says: columns go by name."""
    names = sorted(columns)
    bodies = []
    for sample in samples:
        sizes = struct.pack(f"<{len(names)}I", *(len(sample[name]) for name in names))
        bodies.append(sizes + b"".join(sample[name] for name in names))
    about = {"column_names": names, "column_encodings": [columns[name] for name in names]}
    about |= {"column_sizes": [None] * len(names), "format": "mds", "version": 2, "compression": None, "hashes": []}
    config = json.dumps(about).encode()
    first = 4 + 4 * (len(bodies) + 1) + len(config)
    places = np.cumsum([first, *map(len, bodies)]).astype("<u4")
    data = struct.pack("<I", len(bodies)) + places.tobytes() + config + b"".join(bodies)
    folder.mkdir()
    (folder / "shard.00000.mds").write_bytes(data)
    raw = {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}}
    shard = {**about, "raw_data": raw, "zip_data": None, "samples": len(bodies), "size_limit": None}
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))
    return folder


def list_of(elements, encoding):
    """A list: a number without a meaning (but for arrays of JPEG), how many, the size of each, and they."""
    sizes = [len(elements), *map(len, elements)]
    return (
        struct.pack(f"<{len(sizes)}I", *sizes)
        if encoding.startswith("jpeg")
        else struct.pack(f"<I{len(sizes)}I", 0, *sizes)
    )


def element_of(picture, kind):
    if kind == "pil":
        mode = picture.mode.encode()
        return struct.pack("<3I", *picture.size, len(mode)) + mode + picture.tobytes()
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


class TestLists:
    """Of images: there are no others."""

    @pytest.fixture
    def pictures(self, photos):
        cut = [photos[name][at : at + 40, at : at + 50 + at] for at, name in enumerate(("cat", "coffee", "temple"))]
        return [Image.fromarray(one) for one in cut]

    def folder(self, path, pictures, encoding, **columns):
        kind = "pil" if "pil" in encoding else "png" if "png" in encoding else "jpeg"
        encoded = [element_of(picture, kind) for picture in pictures]
        rows = [encoded, encoded[::-1]]
        samples = [{"views": list_of(row, encoding) + b"".join(row), "name": b"%d" % at} for at, row in enumerate(rows)]
        more = [sample | columns for sample in samples]
        known = {"views": encoding, "name": "str"} | dict.fromkeys(columns, "str")
        return mds(path, known, more), encoded

    @pytest.mark.parametrize("encoding", ["list[jpeg]", "list[png]", "list[pil]", "jpeg_array", "jpegarray"])
    def test_of_as_many(self, pictures, encoding, tmp_path):
        folder, encoded = self.folder(tmp_path / "mds", pictures, encoding)
        fs.pack(folder, tmp_path / "ds", seekable=False)
        dataset = fs.open(tmp_path / "ds")
        assert {field.name: field.type for field in dataset.fields} == {
            "name": "text", "views_0": "image", "views_1": "image", "views_2": "image",
        }  # fmt: skip
        for at, picture in enumerate(pictures):
            for row, place in ((0, at), (1, 2 - at)):
                found = dataset.encoded(row, f"views_{place}")[0]
                if encoding == "list[pil]":
                    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found))), np.asarray(picture))
                else:
                    assert found == encoded[at]

    def test_of_one_keeps_its_name(self, pictures, tmp_path):
        folder, encoded = self.folder(tmp_path / "mds", pictures[:1], "list[png]")
        fs.pack(folder, tmp_path / "ds", seekable=False)
        assert fs.open(tmp_path / "ds").encoded(1, "views")[0] == encoded[0]

    def test_of_different_numbers(self, pictures, tmp_path):
        encoded = [element_of(picture, "jpeg") for picture in pictures]
        rows = [encoded, encoded[:2], [], encoded]
        values = [list_of(row, "list[jpeg]") + b"".join(row) for row in rows]
        folder = mds(tmp_path / "mds", {"views": "list[jpeg]"}, [{"views": value} for value in values])
        message = r"shard.00000.mds: sample 1: column 'views': 2 images; expected 3, .* types={'views': \"bytes\"}"
        with pytest.raises(fs.SourceError, match=message):
            fs.pack(folder, tmp_path / "ds")
        report = fs.pack(folder, tmp_path / "ds", on_error="skip")
        assert [row.row for row in report.skipped] == [1, 2]
        fs.pack(folder, tmp_path / "bytes", types={"views": "bytes"})
        assert [row["views"] for row in fs.open(tmp_path / "bytes")] == values

    def test_names_that_are_taken(self, pictures, tmp_path):
        folder, _ = self.folder(tmp_path / "mds", pictures, "list[png]", views_1=b"taken")
        with pytest.raises(
            fs.SourceError, match=r"column 'views': its images need the name 'views_1', which is another"
        ):
            fs.pack(folder, tmp_path / "ds")

    def test_of_too_many(self, tmp_path):
        value = list_of([b""] * 10_001, "list[png]")
        folder = mds(tmp_path / "mds", {"views": "list[png]"}, [{"views": value}])
        with pytest.raises(fs.SourceError, match=r"column 'views': lists of 10,001 images; expected at most 10,000"):
            fs.pack(folder, tmp_path / "ds")

    @pytest.mark.parametrize("encoding", ["list[png]", "jpeg_array"])
    def test_that_lie(self, pictures, encoding, tmp_path):
        kind = "jpeg" if encoding.startswith("jpeg") else "png"
        row = [element_of(picture, kind) for picture in pictures]
        good = list_of(row, encoding) + b"".join(row)
        at = 0 if encoding.startswith("jpeg") else 4
        bad = [b"", good[:at], good[: at + 4], good[:-1], good + b"x", good[: at + 9]]
        for place, value in ((at, 0), (at, 2), (at, 2**32 - 1), (at + 4, 2**32 - 1), (at + 4, 0)):
            bad.append(good[:place] + struct.pack("<I", value) + good[place + 4 :])
        for number, value in enumerate(bad):
            folder = mds(tmp_path / f"{number}", {"views": encoding}, [{"views": good}, {"views": value}])
            tracemalloc.start()
            with pytest.raises(
                fs.SourceError, match=r"shard.00000.mds: sample 1: column 'views': (a list of )?[\d,]* ?images"
            ):
                fs.pack(folder, tmp_path / "ds")
            assert tracemalloc.get_traced_memory()[1] < 50 << 20
            tracemalloc.stop()
