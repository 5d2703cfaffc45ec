"""What a source is taken for, by its first bytes and its names, and how somebody else decides."""

import bz2
import gzip
import io
import os
import tarfile
import zipfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import fastshard as fs
from fastshard._base.crc import masked_crc
from fastshard._cli import app as _cli
from fastshard._fastshard import crc32c
from fastshard._sources.kinds import KINDS, recognise
from fastshard._sources.sniff import is_tar_header


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"hi"))
    return file.getvalue()


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return file.getvalue()


def parquet():
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), sink)
    return sink.getvalue()


def tfrecord():
    length = (3).to_bytes(8, "little")
    return (
        length
        + masked_crc(length, 0, 8).to_bytes(4, "little")
        + b"abc"
        + masked_crc(b"abc", 0, 3).to_bytes(4, "little")
    )


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def kind(source, **options):
    return recognise(source, **options)[1].name


class TestFiles:
    @pytest.mark.parametrize("name", ["data", "data.bin", "data.jpg", "data.csv", "data.tar"])
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (tar(), "webdataset"),
            (gzip.compress(tar()), "webdataset"),
            (pa.compress(tar(), "zstd", asbytes=True), "webdataset"),
            (bz2.compress(tar()), "webdataset"),
            (parquet(), "table"),
            (tfrecord(), "tfrecord"),
            (gzip.compress(tfrecord()), "tfrecord"),
            (archive("a.jpg"), "zip"),
            (npy(), "arrays"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_by_content_whatever_the_name(self, tmp_path, name, data, expected):
        (tmp_path / name).write_bytes(data)
        assert kind(tmp_path / name) == expected

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a.tar", "webdataset"),
            ("a.TAR.GZ", "webdataset"),
            ("a.tgz", "webdataset"),
            ("a.tar.zst", "webdataset"),
            ("a.tfrecord", "tfrecord"),
            ("a.tfrecords.gz", "tfrecord"),
            ("train.tfrecord-00000-of-00010", "tfrecord"),
            ("train-00000-of-01024", "tfrecord"),
            ("a.csv", "table"),
            ("a.tsv.gz", "table"),
            ("train-00000-of-00005.parquet", "table"),
            ("a.npz", "arrays"),
            ("a.zip", "zip"),
            ("a.jpg", "folder"),
            ("a", "folder"),
        ],
    )
    def test_by_name_where_there_is_nothing(self, tmp_path, name, expected):
        assert kind(tmp_path / name) == expected
        (tmp_path / name).write_bytes(b"")
        assert kind(tmp_path / name) == expected

    def test_an_archive_of_arrays(self, tmp_path):
        (tmp_path / "a.npz").write_bytes(archive("x.npy"))
        assert kind(tmp_path / "a.npz") == "arrays"

    def test_lists_and_patterns(self, tmp_path):
        for number in range(12):
            (tmp_path / f"train-{number:03d}.tar").write_bytes(tar())
        (tmp_path / "a.parquet").write_bytes(parquet())
        for pattern, count in (("train-{000..011}.tar", 12), ("train-00*.tar", 10), ("train-{000,003}.tar", 2)):
            look, found = recognise(str(tmp_path / pattern))
            assert (found.name, len(look.paths)) == ("webdataset", count)
            assert look.paths == sorted(look.paths)
        assert str(look) == f"{tmp_path}/train-000.tar and 1 more"
        assert kind([tmp_path / "train-000.tar", str(tmp_path / "train-001.tar")]) == "webdataset"
        assert kind([tmp_path / "train-000.tar", tmp_path / "a.parquet"]) == "iterable"
        with pytest.raises(FileNotFoundError, match=r"val-\*.tar: no such files"):
            recognise(str(tmp_path / "val-*.tar"))
        for pattern in ("a-{3..1}.tar", "a-{0..99999999}.tar", "a-{x}.tar"):
            with pytest.raises(ValueError, match=r"a-\{"):
                recognise(pattern)
        with pytest.raises(FileNotFoundError, match=r"train-012.tar: no such file"):
            fs.pack(str(tmp_path / "train-{010..013}.tar"), tmp_path / "ds")

    def test_a_path_that_looks_like_a_pattern(self, tmp_path):
        (tmp_path / "a[1].tar").write_bytes(tar())
        assert kind(tmp_path / "a[1].tar") == "webdataset"


class TestFolders:
    def test_of_files(self, tmp_path):
        for name, data, expected in (
            ("a.tar", tar(), "webdataset"),
            ("a.tfrecord", tfrecord(), "tfrecord"),
            ("a.parquet", parquet(), "table"),
        ):
            folder = tmp_path / name
            folder.mkdir()
            (folder / name).write_bytes(data)
            (folder / f"b{name}").write_bytes(data)
            (folder / "README.md").write_text("x")
            assert kind(folder) == expected
            (folder / "photo.jpg").write_bytes(b"x")
            assert kind(folder) == "folder"

    def test_of_images(self, tmp_path):
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat/a.jpg").write_bytes(b"x")
        (tmp_path / "labels.csv").write_text("file,label\n")
        assert kind(tmp_path) == "folder"
        assert kind(tmp_path, has_csv=True) == "csv"
        (tmp_path / "cat/labels.csv").write_text("x")
        assert kind(tmp_path / "cat") == "folder"

    def test_links_and_pipes(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a.tar").write_bytes(tar())
        (tmp_path / "in").mkdir()
        (tmp_path / "in/b.tar").symlink_to(tmp_path / "out/a.tar")
        with pytest.raises(fs.SourceError, match=r"in/b.tar: leads out of the source, to .*out/a.tar"):
            fs.pack(tmp_path / "in", tmp_path / "ds")
        (tmp_path / "out/c.tar").symlink_to("a.tar")
        os.mkfifo(tmp_path / "out/b.tar")  # to open it would never end
        assert fs.pack(tmp_path / "out", tmp_path / "ds").rows == 2
        assert kind(tmp_path / "out/b.tar") == "webdataset"

    def test_of_shards(self, packed, tmp_path):
        assert kind(packed) == "dataset"
        (tmp_path / "index.json").write_text('{"shards": [{"format": "mds"}]}')
        assert kind(tmp_path) == "mds"
        for other in ("{", "[]", '{"shards": []}', '{"shards": [{"format": "csv"}]}'):
            (tmp_path / "index.json").write_text(other)
            assert kind(tmp_path) == "folder"


class TestObjects:
    def test_by_what_they_do(self, packed):
        assert kind(fs.open(packed)) == kind([fs.open(packed)]) == "dataset"
        assert kind({"x": np.zeros(3)}) == "arrays"
        assert kind(pa.table({"x": [1]})) == "table"
        assert kind([{"x": 1}]) == kind(iter([])) == kind({} for _ in ()) == "iterable"
        assert kind(np.zeros(3)) == "indexed"

        class Endless(torch.utils.data.IterableDataset):
            def __len__(self):
                return 3

            def __iter__(self):
                return iter([{"x": 1}] * 3)

        assert kind(Endless()) == "iterable"

    def test_several_splits(self, tmp_path):
        splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": [1]})})
        with pytest.raises(ValueError, match="a DatasetDict of 'train': expected one of its datasets"):
            fs.pack(splits, tmp_path / "ds")

    def test_every_kind_has_a_name_of_its_own(self):
        assert len({one.name for one in KINDS}) == len({one.title for one in KINDS}) == len(KINDS)
        for one in KINDS:
            assert f'``"{one.name}"``' in fs.pack.__doc__


class TestOverride:
    def test_it_decides(self, tmp_path):
        (tmp_path / "a.tar").write_bytes(tar())
        with pytest.raises(fs.SourceError, match=r"a.tar: record 0 at byte 0: the checksum of its length is wrong"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds", source="tfrecord")
        with pytest.raises(fs.SourceError, match=r"a.tar: .*zip"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds", source="zip")
        with pytest.raises(NotADirectoryError, match=r"a.tar: expected a folder"):
            fs.pack(tmp_path / "a.tar", tmp_path / "ds", source="folder")
        report = fs.pack(tmp_path / "a.tar", tmp_path / "ds", source="webdataset")
        assert report.source == f"{tmp_path}/a.tar: WebDataset tar"

    @pytest.mark.parametrize("name", [one.name for one in KINDS])
    def test_what_it_can_not_be(self, tmp_path, name):
        with pytest.raises((ValueError, TypeError, OSError, fs.FastshardError)):
            fs.pack(tmp_path / "gone", tmp_path / "ds", source=name, shuffle=None)
        if name not in ("iterable", "arrays", "indexed"):
            with pytest.raises((ValueError, TypeError), match=rf"source='{name}'|expected a folder|src holds"):
                fs.pack(iter([{"x": 1}]), tmp_path / "ds", source=name)
        assert not (tmp_path / "ds").exists()

    def test_a_name_that_there_is_not(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"source='tar': expected one of 'dataset', 'csv', .*'webdataset'.*'iterable'"
        ):
            fs.pack(tmp_path, tmp_path / "ds", source="tar")

    def test_options_of_other_kinds(self, tmp_path):
        (tmp_path / "a.tar").write_bytes(tar())
        for options, named in [
            ({"label": "x"}, "label='x' needs csv= or a table"),
            ({"features": "all"}, "needs a table"),
            ({"follow_symlinks": True}, "needs src that is a folder"),
            ({"pickles": "load"}, "pickles='load': expected one of 'refuse', 'bytes'"),
            ({"shuffle": True}, "shuffle=True"),
        ]:
            with pytest.raises(ValueError, match=named):
                fs.pack(tmp_path / "a.tar", tmp_path / "ds", **options)
        with pytest.raises(ValueError, match="pickles='bytes' needs an archive of samples"):
            fs.pack([{"x": 1}], tmp_path / "ds", pickles="bytes")

    def test_places(self, tmp_path):
        (tmp_path / "tars").mkdir()
        (tmp_path / "tars/a.tar").write_bytes(tar())
        with pytest.raises(ValueError, match="lies in the source"):
            fs.pack(tmp_path / "tars", tmp_path / "tars/ds")
        with pytest.raises(ValueError, match=r"the source .* lies in it"):
            fs.pack(tmp_path / "tars/a.tar", tmp_path / "tars", overwrite=True)


def test_the_command_says_what_it_found(tmp_path):
    def run(*args):
        return CliRunner().invoke(_cli.app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})

    (tmp_path / "a.bin").write_bytes(tar())
    result = run("pack", tmp_path / "a.bin", tmp_path / "ds")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"{tmp_path}/a.bin: WebDataset tar"
    assert run("pack", tmp_path / "a.bin", tmp_path / "ds", "--overwrite", "-q").output == ""
    result = run("pack", tmp_path / "a.bin", tmp_path / "other", "--source", "tfrecord")
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}/a.bin: TFRecord of tf.train.Example\n"
    assert "record 0 at byte 0" in result.stderr
    assert run("pack", tmp_path / "a.bin", tmp_path / "other", "--source", "x").stderr.startswith(
        "fastshard: --source x: expected one of"
    )


def test_headers_of_tar_files():
    assert is_tar_header(tar()[:512])
    for block in (bytes(512), b"x" * 512, tar()[:511], b"\1" + tar()[1:512]):
        assert not is_tar_header(block)


def test_masked_checksums():
    crc = crc32c(b"abc")
    assert masked_crc(b"xabcx", 1, 4) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
