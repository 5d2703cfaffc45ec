"""Bad input gets a clear error of the right type that names what is wrong, and nothing is lost."""

import errno
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fastshard as fs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, or mount")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def encoded(pixels, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def png_header(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pack_in_a_process(code, *args):
    """Runs code, then packs and prints what it raised, in a process of its own, which may give up its rights."""
    program = f"""
import os, resource, shutil, signal, sys, tempfile
import fastshard as fs
src, dst = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:  # imports all there is to import
    fs.pack(src, folder + "/ds")
{code}
try:
    fs.pack(src, dst)
except Exception as error:
    print(type(error).__name__, getattr(error, "errno", None), error)
else:
    print("packed")
"""
    done = subprocess.run([sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def src(photos, tmp_path):
    root = tmp_path / "src"
    for name in ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(photos["cat"][: 60 + ord(name[4]), :80]))
    return root


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "ds"


@pytest.fixture
def world(photos):
    """A folder that everybody may enter, with a source that everybody may read; pytest's own folders are private."""
    root = Path(tempfile.mkdtemp(prefix="fastshard-"))
    (root / "src/cat").mkdir(parents=True)
    (root / "open").mkdir()
    (root / "src/cat/a.jpg").write_bytes(encoded(photos["cat"]))
    for path, mode in ((root, 0o755), (root / "open", 0o777)):
        path.chmod(mode)
    yield root
    shutil.rmtree(root)


class TestFolders:
    def test_missing(self, tmp_path, dst):
        with pytest.raises(FileNotFoundError, match="gone"):
            fs.pack(tmp_path / "gone", dst)

    def test_empty(self, tmp_path, dst):
        (tmp_path / "empty").mkdir()
        with pytest.raises(fs.SourceError, match="empty: no images found"):
            fs.pack(tmp_path / "empty", dst)
        assert names(tmp_path) == ["empty"]

    def test_a_folder_called_like_an_image(self, src, dst):
        (src / "cat/folder.jpg").mkdir()
        assert fs.pack(src, dst).rows == 3

    def test_a_broken_link(self, src, dst):
        (src / "cat/z.jpg").symlink_to("gone.jpg")
        with pytest.raises(FileNotFoundError, match=r"cat/z.jpg"):
            fs.pack(src, dst)
        report = fs.pack(src, dst, on_error="skip")
        assert [row.path for row in report.skipped] == ["cat/z.jpg"]

    def test_a_link_that_leaves(self, src, dst, tmp_path):
        (tmp_path / "secret.jpg").write_bytes((src / "cat/a.jpg").read_bytes())
        (src / "cat/z.jpg").symlink_to(tmp_path / "secret.jpg")
        with pytest.raises(fs.SourceError, match=r"cat/z.jpg: leads out of the source, to .*secret.jpg"):
            fs.pack(src, dst)
        assert fs.pack(src, dst, follow_symlinks=True).rows == 4

    @needs_root
    @pytest.mark.parametrize("name", ["cat/a.jpg", "cat"])
    def test_unreadable(self, world, name):
        (world / "src" / name).chmod(0)
        said = pack_in_a_process("os.setuid(65534)", world / "src", world / "open/ds")
        assert said.startswith(f"PermissionError {errno.EACCES} ")
        assert name in said
        assert not (world / "open/ds").exists()

    def test_a_file_that_goes_away_meanwhile(self, src, dst, monkeypatch):
        from fastshard._sources.folders import folder as _folder

        walk = _folder.walk

        def walk_and_remove(*args):
            found = walk(*args)
            (src / "cat/b.jpg").unlink()
            return found

        monkeypatch.setattr(_folder, "walk", walk_and_remove)
        with pytest.raises(FileNotFoundError, match=r"cat/b.jpg"):
            fs.pack(src, dst)
        assert not dst.exists()


class TestImages:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
    @pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
    def test_truncated(self, photos, src, dst, kind, keep):
        data = encoded(photos["coffee"][:200, :200], kind)
        (src / "cat/bad.img.jpg").write_bytes(data[: int(keep * len(data))])
        with pytest.raises(fs.DecodeError, match=r"^cat/bad\.img\.jpg: "):
            fs.pack(src, dst)
        assert not dst.exists()

    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (b"", "0 bytes"),
            (b"<html>404 Not Found</html>", "not an image in a known format"),
            (b"\xff\xd8\xff", "JPEG"),
            (bytes(1000), "not an image"),
            (b"RIFF\0\0\0\0WEBP", "webp"),
        ],
        ids=["empty", "html", "a start alone", "zeros", "RIFF"],
    )
    def test_no_image(self, src, dst, data, named):
        (src / "cat/bad.jpg").write_bytes(data)
        with pytest.raises(fs.DecodeError, match=rf"^cat/bad\.jpg: .*{named}"):
            fs.pack(src, dst)

    def test_bytes_of_an_iterable(self, photos, dst):
        good = encoded(photos["cat"][:20, :20])
        with pytest.raises(fs.DecodeError, match="row 1: not an image"):
            fs.pack([{"image": good}, {"image": b"no image at all"}], dst)

    @pytest.mark.parametrize(
        "options", [{}, {"encode": "raw", "resize": (8, 8)}, {"resize": 8}, {"check": "decode"}], ids=str
    )
    def test_a_bomb_is_refused_by_its_header(self, src, dst, options):
        (src / "cat/bomb.png").write_bytes(png_header(50_000, 50_000))
        start = time.perf_counter()
        with pytest.raises(fs.DecodeError, match=r"50000 x 50000 pixels: .*at most 89478485 \(max_pixels\)") as caught:
            fs.pack(src / "cat", dst, **options, on_error="raise", shuffle=False)
        assert time.perf_counter() - start < 1
        assert "bomb.png" in str(caught.value)

    def test_an_option_raises_the_limit(self, photos, src, dst):
        pixels = photos["coffee"].shape[0] * photos["coffee"].shape[1]
        (src / "cat/large.jpg").write_bytes(encoded(photos["coffee"]))
        with pytest.raises(fs.DecodeError, match="max_pixels"):
            fs.pack(src, dst, max_pixels=pixels - 1)
        assert fs.pack(src, dst, max_pixels=pixels).rows == 4

    def test_a_large_header_passes_with_the_option_and_is_refused_when_read(self, tmp_path, dst):
        (tmp_path / "src").mkdir()
        (tmp_path / "src/bomb.png").write_bytes(png_header(12_000, 10_000))
        assert fs.pack(tmp_path / "src", dst, max_pixels=200_000_000).rows == 1
        with pytest.raises(fs.DecodeError, match=r"row 0 .*bomb\.png.* 12000 x 10000 pixels"):
            _ = fs.open(dst)[0]


class TestCsv:
    def pack(self, src, dst, text, **options):
        (src / "labels.csv").write_text(text)
        return fs.pack(src, dst, csv="labels.csv", **options)

    def test_rows_without_a_file(self, src, dst):
        text = "file,label\na.jpg,x\ngone.jpg,y\nc.jpg,z\n,z\n"
        with pytest.raises(fs.SourceError, match=r"labels.csv: 2 rows without a file .*'gone.jpg' \(row 2\)"):
            self.pack(src, dst, text)
        report = self.pack(src, dst, text, on_error="skip")
        assert report.missing_files == ((2, "gone.jpg"), (4, ""))
        assert "row 2: gone.jpg" in str(report)
        assert report.rows == 2

    def test_skipped_rows_have_the_numbers_of_the_file(self, src, dst):
        (src / "cat/b.jpg").write_bytes(b"no image")
        report = self.pack(src, dst, "file\ngone.jpg\na.jpg\nb.jpg\n", on_error="skip")
        assert report.missing_files == ((1, "gone.jpg"),)
        assert [(row.row, row.path) for row in report.skipped] == [(3, "cat/b.jpg")]

    def test_files_without_a_row(self, src, dst):
        report = self.pack(src, dst, "file,label\na.jpg,x\n")
        assert report.unused_files == ("cat/b.jpg", "dog/c.jpg")
        assert report.rows == 1
        assert "files without a row: 2" in str(report)

    @pytest.mark.parametrize("second", ["a.jpg", "cat/a.jpg", "./cat/a.jpg", "cat//a.jpg"])
    def test_duplicate_keys(self, src, dst, second):
        with pytest.raises(fs.SourceError, match=r"rows 1 and 3 both name the file 'cat/a.jpg'"):
            self.pack(src, dst, f"file\na.jpg\nb.jpg\n{second}\n")

    def test_a_name_of_two_files(self, src, dst):
        shutil.copy(src / "cat/a.jpg", src / "dog/a.jpg")
        with pytest.raises(fs.SourceError, match=r"row 1: 'a.jpg' is the name of several files: cat/a.jpg, dog/a.jpg"):
            self.pack(src, dst, "file\na.jpg\n")

    def test_a_label_of_the_wrong_type(self, src, dst):
        text = "file,label\na.jpg,1\nb.jpg,two\n"
        with pytest.raises(fs.SourceError, match=r"row 2, column 'label': value 'two' is not int64"):
            self.pack(src, dst, text, types={"label": "int64"})

    def test_a_missing_label(self, src, dst):
        with pytest.raises(fs.SourceError, match=r"column 'label': 1 rows have no label: rows 2"):
            self.pack(src, dst, "file,label\na.jpg,x\nb.jpg,\n")

    @pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "cat/../../secret.jpg", "cat/.."])
    def test_a_path_that_leaves(self, src, dst, tmp_path, name):
        (tmp_path / "secret.jpg").write_bytes((src / "cat/a.jpg").read_bytes())
        with pytest.raises(fs.SourceError, match=rf"row 2: '{name}' may leave the source folder"):
            self.pack(src, dst, f"file\na.jpg\n{name}\n")

    def test_a_path_through_a_link_that_leaves(self, src, dst, tmp_path):
        (tmp_path / "outside").mkdir()
        shutil.copy(src / "cat/a.jpg", tmp_path / "outside/s.jpg")
        (src / "link").symlink_to(tmp_path / "outside")
        with pytest.raises(fs.SourceError, match=r"row 1: 'link/s.jpg' leads out of the source"):
            self.pack(src, dst, "file\nlink/s.jpg\n")

    def test_a_pipe_is_no_file(self, src, dst):
        os.mkfifo(src / "cat/pipe.jpg")
        with pytest.raises(fs.SourceError, match=r"'pipe\.jpg' \(row 1\)"):
            self.pack(src, dst, "file\npipe.jpg\n")
        assert fs.pack(src, dst).rows == 3

    def test_the_file_itself_is_missing(self, src, dst):
        with pytest.raises(FileNotFoundError, match=r"labels.csv: no such CSV file"):
            fs.pack(src, dst, csv="labels.csv")

    def test_an_unknown_column(self, src, dst):
        with pytest.raises(fs.SourceError, match=r"label='species': .* has the columns 'file', 'label'"):
            self.pack(src, dst, "file,label\na.jpg,1\n", label="species")


class TestDestination:
    @pytest.mark.parametrize("option", [False, True])
    def test_a_folder_that_is_no_dataset_is_left_alone(self, src, tmp_path, option):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/chapter1.tex").write_text("x")
        with pytest.raises((FileExistsError, ValueError), match="thesis"):
            fs.pack(src, tmp_path / "thesis", overwrite=option)
        assert names(tmp_path / "thesis") == ["chapter1.tex"]

    def test_a_folder_with_a_manifest_of_something_else_is_left_alone(self, src, tmp_path):
        (tmp_path / "site").mkdir()
        (tmp_path / "site/manifest.json").write_text('{"name": "my site", "start_url": "/"}')
        (tmp_path / "site/app.js").write_text("x")
        with pytest.raises((FileExistsError, ValueError, fs.FormatError), match="site"):
            fs.pack(src, tmp_path / "site", overwrite=True)
        assert names(tmp_path / "site") == ["app.js", "manifest.json"]

    def test_somebody_elses_partial_folder_is_left_alone(self, src, dst, tmp_path):
        (tmp_path / "ds.partial").mkdir()
        (tmp_path / "ds.partial/thesis.tex").write_text("x")
        with pytest.raises((OSError, ValueError), match=r"ds\.partial"):
            fs.pack(src, dst)
        assert (tmp_path / "ds.partial/thesis.tex").exists()

    def test_a_file(self, src, dst):
        dst.write_text("x")
        with pytest.raises(FileExistsError, match="ds"):
            fs.pack(src, dst)
        with pytest.raises(ValueError, match="neither a fastshard dataset nor an empty folder"):
            fs.pack(src, dst, overwrite=True)
        assert dst.read_text() == "x"

    def test_folders_above_are_made(self, src, tmp_path):
        fs.pack(src, tmp_path / "new/newer/ds")
        assert len(fs.open(tmp_path / "new/newer/ds")) == 3

    def test_below_a_file(self, src, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises((NotADirectoryError, FileExistsError), match="file"):
            fs.pack(src, tmp_path / "file/ds")

    def test_a_source_in_the_dataset_that_it_would_replace(self, src, dst):
        fs.pack(src, dst)
        shutil.copytree(src, dst / "photos")
        with pytest.raises(ValueError, match=r"ds': the source .*ds/photos lies in it"):
            fs.pack(dst / "photos", dst, overwrite=True)
        assert names(dst / "photos") == ["cat", "dog"]

    def test_an_existing_dataset(self, src, dst):
        fs.pack(src, dst)
        with pytest.raises(FileExistsError, match=r"ds.*overwrite"):
            fs.pack([{"x": 1}], dst)
        assert len(fs.open(dst)) == 3

    def test_a_failed_pack_of_an_iterable_leaves_nothing_behind(self, dst):
        with pytest.raises(fs.SourceError):
            fs.pack([{"x": 1}, {"x": "a"}], dst)
        assert names(dst.parent) == []

    def test_a_failed_overwrite_leaves_the_old_dataset(self, src, dst):
        fs.pack(src, dst)
        (src / "cat/bad.jpg").write_bytes(b"")
        with pytest.raises(fs.DecodeError):
            fs.pack(src, dst, overwrite=True)
        assert len(fs.open(dst)) == 3
        assert fs.open(dst).verify() == []

    @needs_root
    def test_permission_denied(self, world):
        said = pack_in_a_process("os.setuid(65534)", world / "src", world / "ds")
        assert said.startswith(f"PermissionError {errno.EACCES} ")
        assert f"{world}/ds" in said
        assert names(world) == ["open", "src"]

    def test_a_limit_on_the_size_of_files(self, src, dst):
        limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
        said = pack_in_a_process(limit, src, dst)
        assert said.startswith(f"OSError {errno.EFBIG} ")
        assert f"{dst}.partial/shard-00000.arrow" in said
        assert not dst.exists()
        assert fs.pack(src, dst).rows == 3

    @needs_root
    def test_a_full_disk(self, photos, src, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("this machine mounts nothing")
        try:
            for i in range(40):
                (src / f"cat/{i}.png").write_bytes(encoded(photos["cat"][i : i + 100, :100], "PNG"))
            with pytest.raises(OSError, match=r"ds\.partial/") as caught:
                fs.pack(src, disk / "ds")
            assert caught.value.errno == errno.ENOSPC
            assert not (disk / "ds").exists()
            assert fs.pack(src / "dog", disk / "ds").rows == 1  # the disk can be used again
        finally:
            subprocess.run(["/bin/umount", str(disk)], check=True)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"shard_size": 1000}, "1000"),
            ({"shard_size": "0.5KiB"}, "512"),
            ({"num_threads": 5000}, "5000"),
            ({"num_threads": -1}, "-1"),
            ({"quality": 0}, "0"),
            ({"max_pixels": -5}, "-5"),
            ({"resize": (0, 5)}, "=0"),
            ({"resize": 10**9}, "10{9}"),
            ({"seed": 2**64}, "18446744073709551616"),
            ({"check": "none"}, "none"),
        ],
        ids=str,
    )
    def test_impossible(self, src, dst, options, named):
        (name,) = options
        with pytest.raises((ValueError, TypeError), match=rf"{name}|size.*{named}"):
            fs.pack(src, dst, **options)
        assert names(dst.parent) == ["src"]


class TestDatasets:
    """Each fault by the type of its error; the error names the file."""

    @pytest.fixture
    def shard(self, packed, tmp_path):
        shutil.copytree(packed, tmp_path / "ds")
        (path,) = (tmp_path / "ds").glob("*.arrow")
        return path

    @staticmethod
    def manifest(dst, change):
        path = dst / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    @staticmethod
    def flip(shard, at):
        data = bytearray(shard.read_bytes())
        data[at] ^= 1
        shard.write_bytes(data)

    @staticmethod
    def read_all(dst):
        dataset = fs.open(dst)
        return [dataset[i] for i in range(len(dataset))]

    def test_missing_and_no_dataset(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone"):
            fs.open(tmp_path / "gone")
        with pytest.raises(fs.FormatError, match=r"no manifest\.json"):
            fs.open(tmp_path)

    def test_a_file_is_no_dataset(self, shard):
        with pytest.raises((NotADirectoryError, fs.FormatError), match=r"shard-00000\.arrow"):
            fs.open(shard)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0\0", '{"format": 1}', '{"version": 1}', "{}"])
    def test_a_manifest_that_is_none(self, shard, text):
        (shard.parent / "manifest.json").write_text(text)
        with pytest.raises(fs.FormatError, match=r"ds/manifest\.json: "):
            fs.open(shard.parent)

    @pytest.mark.parametrize("version", [5, 1000])
    def test_a_newer_version(self, shard, version):
        self.manifest(shard.parent, lambda manifest: manifest.update(version=version, news={"a": 1}))
        with pytest.raises(fs.FormatError, match=rf"manifest\.json: .*format version {version}.*upgrade"):
            fs.open(shard.parent)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.update(rows=39),
            lambda m: m["shards"][0].update(file="../../shard-00000.arrow"),
            lambda m: m["shards"][0].update(blake3="0" * 64),
            lambda m: m["shards"][0]["blocks"][0].update(offset=2**63),
            lambda m: m["shards"][0]["blocks"][0].update(rows=2**63),
            lambda m: m["fields"][1]["class_names"].reverse(),
            lambda m: m["fields"].append(m["fields"][0]),
            lambda m: m.pop("shards"),
            lambda m: m.update(fingerprint="x"),
        ],
    )
    def test_a_manifest_that_was_altered(self, shard, change):
        self.manifest(shard.parent, change)
        with pytest.raises(fs.FormatError, match=r"ds/manifest\.json: "):
            fs.open(shard.parent)

    @pytest.mark.parametrize("keep", [0, 1, 100, -1, -64])
    def test_a_truncated_shard(self, shard, keep):
        data = shard.read_bytes()
        shard.write_bytes(data[:keep])
        with pytest.raises(
            fs.CorruptionError, match=rf"ds/{shard.name}: truncated: {len(data[:keep])} bytes, expected"
        ):
            fs.open(shard.parent)

    def test_a_longer_shard(self, shard):
        shard.write_bytes(shard.read_bytes() + b"\0")
        with pytest.raises(fs.CorruptionError, match=f"ds/{shard.name}: too long"):
            fs.open(shard.parent)

    def test_a_missing_shard(self, shard):
        shard.unlink()
        with pytest.raises(fs.CorruptionError, match=f"ds/{shard.name}"):
            fs.open(shard.parent)

    def test_a_shard_that_is_a_folder(self, shard):
        shard.unlink()
        shard.mkdir()
        with pytest.raises(fs.FormatError, match=f"ds/{shard.name}: not a regular file"):
            fs.open(shard.parent)

    def test_a_flipped_bit_of_an_image(self, shard):
        dataset = fs.open(shard.parent)
        data, source = dataset.encoded(17)
        self.flip(shard, shard.read_bytes().index(data) + len(data) // 2)
        with pytest.raises(fs.CorruptionError, match=rf'ds/{shard.name}: row 17 \(source "{source}"\)'):
            self.read_all(shard.parent)
        with pytest.raises(fs.CorruptionError, match=f"{shard.name}: row 17"):
            list(fs.Loader(shard.parent, batch_size=8, transforms={"image": fs.Resize((8, 8))}))
        (problem,) = fs.open(shard.parent).verify()
        assert (problem.shard, problem.row) == (shard.name, 17)
        assert source in problem.error

    @pytest.mark.parametrize("column", ["_crc32c", "label", "_image_width"])
    def test_a_flipped_bit_of_a_column(self, shard, column):
        with pa.memory_map(str(shard)) as source:
            whole = source.read_buffer(source.size())
            chunk = pa.ipc.open_file(source).read_all().column(column).chunk(0)
            at = chunk.buffers()[1].address - whole.address
            del chunk, whole
        self.flip(shard, at)
        problems = fs.open(shard.parent).verify()
        assert [problem.shard for problem in problems] == [shard.name]
        if column != "_image_width":  # not part of a row; verify alone sees it
            with pytest.raises(fs.CorruptionError, match=f"ds/{shard.name}: "):
                self.read_all(shard.parent)

    @pytest.mark.parametrize("part", ["magic", "message", "footer"])
    def test_a_flipped_bit_outside_of_the_rows(self, shard, part):
        block = fs.open(shard.parent).manifest["shards"][0]["blocks"][0]
        self.flip(shard, {"magic": 0, "message": block["offset"] + 40, "footer": -40}[part])
        (problem,) = fs.open(shard.parent).verify()
        assert (problem.shard, problem.row) == (shard.name, None)
        if part == "message":
            with pytest.raises(fs.CorruptionError, match=f"ds/{shard.name}: "):
                self.read_all(shard.parent)

    def test_every_flipped_bit_is_found(self, shard):
        data = shard.read_bytes()
        for at in np.random.default_rng(0).integers(0, len(data), 25):
            shard.write_bytes(data)
            self.flip(shard, at)
            assert fs.open(shard.parent).verify(), at

    def test_swapped_shards_of_the_same_length(self, tmp_path):
        for name, offset in (("one", 0), ("two", 1000)):
            fs.pack(({"n": n + offset} for n in range(100)), tmp_path / name)
        shard = "shard-00000.arrow"
        assert (tmp_path / "one" / shard).stat().st_size == (tmp_path / "two" / shard).stat().st_size
        shutil.copy(tmp_path / "two" / shard, tmp_path / "one" / shard)
        with pytest.raises(fs.CorruptionError, match=rf"one/{shard}: .*swapped"):
            _ = fs.open(tmp_path / "one")[0]
        with pytest.raises(fs.CorruptionError, match=f"one/{shard}: "):
            next(iter(fs.Loader(tmp_path / "one", batch_size=10)))
        assert [problem.shard for problem in fs.open(tmp_path / "one").verify()] == [shard]

    def test_shards_swapped_within_a_dataset(self, tmp_path):
        random = np.random.default_rng(0)
        rows = ({"x": random.integers(0, 255, 1 << 20, dtype=np.uint8)} for _ in range(96))
        fs.pack(rows, tmp_path / "ds", shard_size="32MiB")
        first, second = sorted((tmp_path / "ds").glob("*.arrow"))[:2]
        first.rename(tmp_path / "x")
        second.rename(first)
        (tmp_path / "x").rename(second)
        for row, shard in ((0, first), (32, second)):
            with pytest.raises(fs.CorruptionError, match=f"ds/{shard.name}: .*swapped"):
                _ = fs.open(tmp_path / "ds")[row]
        assert {problem.shard for problem in fs.open(tmp_path / "ds").verify()} == {first.name, second.name}

    def test_a_shard_that_is_changed_while_open(self, shard):
        dataset = fs.open(shard.parent)
        shard.write_bytes(shard.read_bytes()[:-64])
        with pytest.raises(fs.CorruptionError, match=f"{shard.name}: truncated"):
            _ = dataset[0]
