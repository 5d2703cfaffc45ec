"""WebDataset archives as its own writer makes them, and archives that nobody should trust."""

import gzip
import io
import json
import random
import tarfile
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image

import fastshard as fs
from fastshard._sources.archives.tar import tar_members
from fastshard._sources.rows import RowSource
from fastshard._sources.stream import open_input


@pytest.fixture(scope="module")
def samples(photo_folder):
    """What `webdataset` writes: a photograph, its class, a caption, plain facts and an array."""
    files = sorted(photo_folder.rglob("*.jpg"))
    names = sorted(path.name for path in photo_folder.iterdir())
    return [
        {
            "__key__": f"deep/{number:04d}",
            "jpg": path.read_bytes(),
            "cls": names.index(path.parent.name),
            "txt": f"a picture of größe {number}",
            "json": {"width": number, "score": number / 2 if number % 2 else number, "ok": number > 3, "who": "me"},
            "npy": np.arange(6, dtype=np.float32).reshape(2, 3) + number,
            "bin": bytes([number, 0, 255]),
        }
        for number, path in enumerate(files)
    ]


@pytest.fixture(scope="module")
def archive(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "photos.tar"
    write(path, samples)
    return path


def write(path, samples):
    with webdataset.TarWriter(str(path)) as sink:
        for sample in samples:
            sink.write(sample)


def check(dataset, samples):
    assert len(dataset) == len(samples)
    for row, sample in enumerate(samples):
        found = dataset[row]
        assert dataset.encoded(row, "image")[0] == sample["jpg"]
        assert found["key"] == sample["__key__"]
        assert found["label"] == sample["cls"]
        assert found["txt"] == sample["txt"]
        assert found["bin"] == sample["bin"]
        assert {name: found[name] for name in sample["json"]} == sample["json"]
        np.testing.assert_array_equal(found["npy"], sample["npy"])


def compressed(codec, data):
    if codec == "gzip":
        return gzip.compress(data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


class TestWhatComesOut:
    def test_the_same_as_went_in(self, archive, samples, tmp_path):
        report = fs.pack(archive, tmp_path / "ds", seekable=False)
        assert report.source == f"{archive}: WebDataset tar"
        dataset = fs.open(tmp_path / "ds")
        check(dataset, samples)
        kinds = {field.name: (field.type, field.dtype, field.shape) for field in dataset.fields}
        assert kinds["label"] == ("scalar", "int64", ())
        assert kinds["score"] == ("scalar", "float64", ())
        assert kinds["npy"] == ("tensor", "float32", (2, 3))
        assert dataset.encoded(3)[1] == "photos.tar/deep/0003.jpg"
        assert dataset.verify() == []

    @pytest.mark.parametrize(
        ("end", "codec"), [("tar.gz", "gzip"), ("tgz", "gzip"), ("tar.zst", "zstd"), ("odd", "bz2")]
    )
    def test_compressed(self, archive, samples, tmp_path, end, codec):
        (tmp_path / f"a.{end}").write_bytes(compressed(codec, archive.read_bytes()))
        fs.pack(tmp_path / f"a.{end}", tmp_path / "ds", seekable=False)
        check(fs.open(tmp_path / "ds"), samples)

    def test_several(self, samples, tmp_path):
        with webdataset.ShardWriter(str(tmp_path / "train-%03d.tar"), maxcount=9, verbose=0) as sink:
            for sample in samples:
                sink.write(sample)
        plain = (tmp_path / "train-002.tar").read_bytes()
        (tmp_path / "train-002.tar").write_bytes(compressed("zstd", plain))  # the name doesn't matter
        shards = sorted(tmp_path.glob("*.tar"))
        assert len(shards) == 5
        sources = [shards, str(tmp_path / "train-{000..004}.tar"), str(tmp_path / "*.tar"), tmp_path]
        for number, source in enumerate(sources):
            report = fs.pack(
                source, tmp_path.parent / f"{tmp_path.name}-{number}", seekable=False, num_threads=1 + number
            )
            check(fs.open(report.path), samples)
        assert report.source == f"{tmp_path}: WebDataset tar"

    def test_classes_by_name(self, archive, samples, tmp_path):
        names = ["a", "b", "c", "d", "e"]
        fs.pack(archive, tmp_path / "ds", class_names={"label": names}, types={"json": "text"})
        dataset = fs.open(tmp_path / "ds")
        assert dataset.class_names == tuple(names)
        assert json.loads(dataset[7]["json"]) == samples[7]["json"]
        with pytest.raises(fs.SourceError, match=r"photos.tar: deep/0032: row 32, field 'label': 4 .*from 0 to 3"):
            fs.pack(archive, tmp_path / "none", class_names={"label": names[:4]})

    def test_several_images_and_other_suffixes(self, photos, tmp_path):
        file = io.BytesIO()
        Image.fromarray(photos["cat"][:40, :50]).save(file, "PNG")
        png, jpg = file.getvalue(), io.BytesIO()
        Image.fromarray(photos["cat"][:40, :50]).save(jpg, "JPEG")
        write(tmp_path / "one.tar", [{"__key__": "a", "jpg": jpg.getvalue()}, {"__key__": "b", "png": png}])
        fs.pack(tmp_path / "one.tar", tmp_path / "one", seekable=False)
        assert [fs.open(tmp_path / "one").encoded(row)[0] for row in (0, 1)] == [jpg.getvalue(), png]
        write(tmp_path / "two.tar", [{"__key__": "a", "jpg": jpg.getvalue(), "seg.png": png}])
        fs.pack(tmp_path / "two.tar", tmp_path / "two", seekable=False)
        dataset = fs.open(tmp_path / "two")
        assert [field.name for field in dataset.fields if field.type == "image"] == ["jpg", "seg.png"]
        assert dataset.encoded(0, "seg.png")[0] == png

    @pytest.mark.parametrize("second", [{"a": [1]}, {"b": 1}, {"a": None}, {"a": "text"}, [1]])
    def test_json_that_is_not_alike_stays_text(self, tmp_path, second):
        objects = [{"a": 1}, second]
        write(tmp_path / "a.tar", [{"__key__": str(n), "json": one} for n, one in enumerate(objects)])
        fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        assert [json.loads(text) for text in fs.open(tmp_path / "ds").column("json")] == objects

    def test_names_that_are_taken(self, tmp_path):
        data = b'{"label": 2, "_x": 3}'
        first, second = ("a.cls", FILE, {"data": b"1"}), ("a.json", FILE, {"data": data})
        for number, members in enumerate([(first, second), (second, first)]):
            hostile(tmp_path / "a.tar", *[(name, kind, dict(more)) for name, kind, more in members])
            fs.pack(tmp_path / "a.tar", tmp_path / str(number))
            assert fs.open(tmp_path / str(number))[0] == {"key": "a", "label": 1, "json.label": 2, "json._x": 3}

    def test_hidden_files_and_folders_are_left_out(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for name in ("d", "d/a.txt", "d/._a.txt", "d/README", "__meta__.json"):
                member = tarfile.TarInfo(name)
                member.type, member.size = (tarfile.DIRTYPE, 0) if name == "d" else (tarfile.REGTYPE, 2)
                tar.addfile(member, io.BytesIO(b"hi"))
        report = fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        assert fs.open(tmp_path / "ds")[0] == {"key": "d/a", "txt": "hi"}
        assert report.ignored_files == ("a.tar/d/._a.txt", "a.tar/d/README", "a.tar/__meta__.json")

    def test_encoded_anew(self, archive, tmp_path):
        fs.pack(archive, tmp_path / "ds", resize=(24, 32), encode="raw")
        dataset = fs.open(tmp_path / "ds")
        assert dataset.field("image").shape == (24, 32, 3)
        assert len(next(iter(fs.Loader(dataset, 8)))["image"]) == 8


class TestReader:
    """The reader of headers against Python's own."""

    @pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_the_same_as_tarfile(self, tmp_path, form):
        sizes = {
            "a.txt": 0,
            "d/é.jpg": 511,
            f"{'long/' * 20}{'x' * 50}.bin": 512,
            f"{'b' * 98}.x": 513,
            "./y.json": 9999,
        }
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
            for name, size in sizes.items():
                member = tarfile.TarInfo(name)
                member.size, member.uname, member.mtime = size, "ü", 1.5 if form == tarfile.PAX_FORMAT else 1
                tar.addfile(member, io.BytesIO(random.Random(size).randbytes(size)))
        with tarfile.open(tmp_path / "a.tar") as tar:
            expected = [(member.name, tar.extractfile(member).read()) for member in tar]
        assert list(tar_members(open_input(str(tmp_path / "a.tar")), lambda _: False)) == expected
        places = dict(tar_members(open_input(str(tmp_path / "a.tar")), lambda name: name.endswith("json")))
        place = places["./y.json"]
        data = (tmp_path / "a.tar").read_bytes()
        assert data[place.offset : place.offset + place.length] == dict(expected)["./y.json"]

    def test_sizes_in_base_256(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            member = tarfile.TarInfo("a.txt")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        data = bytearray((tmp_path / "a.tar").read_bytes())
        data[124:136] = b"\x80" + bytes(10) + b"\3"
        data[148:156] = b"        "
        data[148:156] = b"%06o\0 " % sum(data[:512])
        (tmp_path / "a.tar").write_bytes(data)
        assert list(tar_members(open_input(str(tmp_path / "a.tar")), lambda _: False)) == [("a.txt", b"abc")]


def hostile(path, *members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, kind, more in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            data = more.pop("data", b"x" if kind == tarfile.REGTYPE else b"")
            member.size = len(data)
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))


FILE = tarfile.REGTYPE


class TestHostile:
    @pytest.mark.parametrize(
        ("members", "named"),
        [
            ([("a.txt", tarfile.SYMTYPE, {"linkname": "/etc/passwd"})], r"'a.txt' is a symbolic link"),
            ([("a.txt", tarfile.LNKTYPE, {"linkname": "b.txt"})], r"'a.txt' is a hard link"),
            ([("a.txt", tarfile.CHRTYPE, {})], r"'a.txt' is a device"),
            ([("a.txt", tarfile.BLKTYPE, {})], r"'a.txt' is a device"),
            ([("a.txt", tarfile.FIFOTYPE, {})], r"'a.txt' is a pipe"),
            ([("a.txt", tarfile.GNUTYPE_SPARSE, {})], r"'a.txt' is a sparse file"),
            ([("a.txt", b"Z", {})], r"'a.txt' is of the unknown type b'Z'"),
            ([("a.txt", FILE, {"pax_headers": {"GNU.sparse.major": "1"}})], "sparse file"),
            ([("/etc/a.txt", FILE, {})], r"'/etc/a.txt': may lead elsewhere"),
            ([("../a.txt", FILE, {})], r"'../a.txt': may lead elsewhere"),
            ([("x/../../a.txt", FILE, {})], r"'x/../../a.txt': may lead elsewhere"),
            ([("x\\..\\a.txt", FILE, {})], "may lead elsewhere"),
            ([("C:/a.txt", FILE, {})], "may lead elsewhere"),
            ([("x/..", tarfile.DIRTYPE, {})], "may lead elsewhere"),
            ([("a.txt", FILE, {"pax_headers": {"path": "/abs.txt"}})], r"'/abs.txt': may lead elsewhere"),
            ([("a.txt", FILE, {}), ("a.txt", FILE, {})], r"'a.txt': there are two of the name 'a.txt'"),
            ([("a.txt", FILE, {}), ("a.TXT", FILE, {})], r"'a.TXT': there are two of the name 'a.txt'"),
            (
                [("a.txt", FILE, {}), ("b.txt", FILE, {}), ("a.cls", FILE, {})],
                r"'a.cls': belongs to a sample that has ended before",
            ),
        ],
    )
    def test_members(self, tmp_path, members, named):
        hostile(
            tmp_path / "a.tar", *[(name, kind, dict(more)) for name, kind, more in members], format=tarfile.PAX_FORMAT
        )
        for option in ("raise", "skip"):
            with pytest.raises(fs.SourceError, match=rf"a.tar: member .*{named}"):
                fs.pack(tmp_path / "a.tar", tmp_path / "ds", on_error=option)
        assert not (tmp_path / "ds").exists()

    @pytest.mark.parametrize("suffix", ["pkl", "pickle", "pyd", "pth", "pt", "model.PTH"])
    def test_pickles(self, tmp_path, suffix):
        hostile(tmp_path / "a.tar", (f"a.{suffix}", FILE, {"data": b"cos\nsystem\n"}), ("b.txt", FILE, {}))
        with pytest.raises(fs.SourceError, match=rf"a.tar: a: member 'a.{suffix}': a pickle"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        report = fs.pack(tmp_path / "a.tar", tmp_path / "ds", on_error="skip")
        assert [(row.row, row.path) for row in report.skipped] == [(0, f"{tmp_path}/a.tar: a")]
        fs.pack(tmp_path / "a.tar", tmp_path / "kept", pickles="bytes", on_error="skip")
        assert fs.open(tmp_path / "kept")[0] == {"key": "a", suffix.lower(): b"cos\nsystem\n"}

    @pytest.mark.parametrize("keep", [1, 511, 700, 1024, 1500, 0.3, 0.6, 0.9, -1024])
    @pytest.mark.parametrize("codec", ["plain", "gzip", "zstd"])
    def test_truncated(self, archive, tmp_path, keep, codec):
        data = archive.read_bytes().rstrip(b"\0")
        data += bytes(-len(data) % 512)  # no end marker left, so that every cut hurts
        data = data if codec == "plain" else compressed(codec, data)
        (tmp_path / "a.tar").write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else keep])
        with pytest.raises(fs.SourceError, match=r"a\.tar: "):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds", source="webdataset")
        assert not (tmp_path / "ds").exists()

    def test_no_end_marker(self, tmp_path):
        hostile(tmp_path / "a.tar", ("a.txt", FILE, {}))
        data = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(data[:1024])
        with pytest.raises(
            fs.SourceError, match=r"a.tar: at byte 1,024: truncated: 0 bytes, expected a header or the end"
        ):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        (tmp_path / "b.tar").write_bytes(data * 2)
        with pytest.raises(fs.SourceError, match="more data behind the end"):
            fs.pack(tmp_path / "b.tar", tmp_path / "ds")

    @pytest.mark.parametrize("size", [2**31, 2**62])
    @pytest.mark.parametrize("packed", [False, True])
    def test_a_size_that_lies(self, tmp_path, size, packed):
        header = tarfile.TarInfo("a.bin")
        header.size = size
        data = header.tobuf(tarfile.GNU_FORMAT)
        (tmp_path / "a.tar").write_bytes(gzip.compress(data) if packed else data)
        tracemalloc.start()
        with pytest.raises(fs.SourceError, match=r"member 'a.bin' of .* bytes; expected .* at most 2 GiB"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        header.size = 2**31 - 1
        data = header.tobuf(tarfile.GNU_FORMAT)
        (tmp_path / "a.tar").write_bytes(gzip.compress(data) if packed else data)
        with pytest.raises(fs.SourceError, match=r"a.tar"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
        tracemalloc.stop()

    def test_flipped_bits_of_headers(self, archive, tmp_path):
        data = archive.read_bytes()
        for at in (0, 50, 124, 130, 150, 156, 257):
            damaged = bytearray(data)
            damaged[at] ^= 0x41
            (tmp_path / "a.tar").write_bytes(damaged)
            with pytest.raises(fs.SourceError, match=r"a.tar: at byte 0: not a tar header"):
                fs.pack(tmp_path / "a.tar", tmp_path / "ds")

    @pytest.mark.parametrize(
        ("name", "data", "named"),
        [
            ("cls", b"cat", "'cat'; expected a whole number"),
            ("cls", b"\xff", "not UTF-8"),
            ("txt", b"\xff\xfe", "not UTF-8"),
            ("npy", b"no array", "not an .npy file"),
            ("npy", b"\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }", "npy"),
            ("npy", b"\x93NUMPY\1\0\x10\0{'descr': '|O',}", "not an .npy file"),
            ("jpg", b"no image", "not an image"),
        ],
    )
    def test_bad_samples(self, photos, tmp_path, name, data, named):
        good = {"cls": b"1", "txt": b"x", "jpg": b""}
        file = io.BytesIO()
        Image.fromarray(photos["cat"][:20, :30]).save(file, "JPEG")
        good["jpg"] = file.getvalue()
        array = io.BytesIO()
        np.save(array, np.zeros(3))
        good["npy"] = array.getvalue()
        hostile(
            tmp_path / "a.tar",
            *[
                (f"{key}.{name}", FILE, {"data": one})
                for key, one in (("a", good[name]), ("b", data), ("c", good[name]))
            ],
        )
        with pytest.raises((fs.SourceError, fs.DecodeError), match=rf"a\.tar.*\bb\b.*{named}"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")
        report = fs.pack(tmp_path / "a.tar", tmp_path / "ds", on_error="skip")
        assert list(fs.open(tmp_path / "ds").column("key")) == ["a", "c"]
        assert [row.row for row in report.skipped] == [1]

    def test_rows_keep_their_numbers_when_some_are_skipped(self, photos, tmp_path):
        file = io.BytesIO()
        Image.fromarray(photos["cat"][:20, :30]).save(file, "JPEG")
        rows = [(b"1", file.getvalue()), (b"x", file.getvalue()), (b"2", b"no image"), (b"3", file.getvalue())]
        members = []
        for number, (label, image) in enumerate(rows):
            members += [(f"{number}.cls", FILE, {"data": label}), (f"{number}.jpg", FILE, {"data": image})]
        hostile(tmp_path / "a.tar", *members)
        report = fs.pack(tmp_path / "a.tar", tmp_path / "ds", on_error="skip")
        assert [row.row for row in report.skipped] == [1, 2]
        assert fs.open(tmp_path / "ds").column("label").tolist() == [1, 3]

    def test_another_field_in_a_later_sample(self, tmp_path):
        hostile(tmp_path / "a.tar", ("a.txt", FILE, {}), ("b.txt", FILE, {}), ("b.cls", FILE, {"data": b"1"}))
        with pytest.raises(fs.SourceError, match=r"a.tar: b: row 1: fields 'key', 'txt', 'label'; expected"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds")

    def test_a_file_that_shrinks_meanwhile(self, archive, tmp_path, monkeypatch):
        path = tmp_path / "a.tar"
        path.write_bytes(archive.read_bytes())
        chunks = RowSource.chunks

        def all_and_then_shrink(source):
            made = list(chunks(source))
            path.write_bytes(archive.read_bytes()[:5000])
            return iter(made)

        monkeypatch.setattr(RowSource, "chunks", all_and_then_shrink)
        with pytest.raises(fs.SourceError, match=r"a.tar: .* truncated while it was being packed"):
            fs.pack(path, tmp_path / "ds")
        assert not (tmp_path / "ds").exists()
