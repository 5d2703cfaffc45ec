"""Packing: what of the source is in the dataset, and what the options do to it."""

import hashlib
import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fastshard as fs
from fastshard._base.records import SkippedRow
from fastshard._pack.job import _numbering

NIH = """Image Index,Finding Labels,Follow-up #,Patient Age,Patient Gender,View Position
a.png,Cardiomegaly,0,57,M,PA
b.png,Cardiomegaly|Effusion,1,,F,AP
c.png,No Finding,2,80,,PA
d.png,Effusion| Nodule,3,81,M,
"""


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def paths(dataset):
    return [dataset.encoded(i)[1] for i in range(len(dataset))]


def shard_hashes(path):
    return [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in sorted(path.glob("*.arrow"))]


def open_image(source):
    return Image.open(io.BytesIO(source if isinstance(source, bytes) else source.read_bytes()))


def encoded(pixels, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def psnr(a, b):
    return -10 * np.log10(np.mean((a.astype(float) - b) ** 2) / 255**2)


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "ds"


@pytest.fixture
def xrays(photos, tmp_path):
    root = tmp_path / "nih"
    (root / "images_001").mkdir(parents=True)
    for i, name in enumerate("abcd"):
        gray = photos["temple"][20 * i : 20 * i + 64, :80, 1]
        (root / "images_001" / f"{name}.png").write_bytes(encoded(np.ascontiguousarray(gray), "PNG"))
    (root / "labels.csv").write_text(NIH)
    return root


class TestFolders:
    def test_every_file_is_there_once_and_untouched(self, kept, photo_folder):
        dataset = fs.open(kept)
        stored = dict(dataset.encoded(i)[::-1] for i in range(len(dataset)))
        assert len(dataset) == len(stored) == 40
        assert stored == files(photo_folder)

    def test_labels_are_the_sorted_folders(self, packed, photo_folder):
        dataset = fs.open(packed)
        folders = sorted(path.name for path in photo_folder.iterdir())
        assert dataset.class_names == tuple(folders)
        assert [folders[label] for label in dataset.column("label")] == [path.split("/")[0] for path in paths(dataset)]

    def test_the_report_says_what_was_done(self, photo_folder, dst):
        report = fs.pack(photo_folder, dst)
        (shard,) = dst.glob("*.arrow")
        assert (report.rows, report.shards, report.resumed_shards, report.path) == (40, 1, 0, dst)
        assert report.bytes == shard.stat().st_size
        assert report.skipped == report.unused_files == report.ignored_files == report.missing_files == ()
        assert str(report).startswith(f"{dst}: 40 rows in 1 shard")

    def test_shuffle_is_the_default_and_seeded(self, packed, photo_folder, tmp_path):
        fs.pack(photo_folder, tmp_path / "again", seed=0)
        fs.pack(photo_folder, tmp_path / "other", seed=1)
        default, again, other = (paths(fs.open(path)) for path in (packed, tmp_path / "again", tmp_path / "other"))
        assert default == again
        assert sorted(default) == sorted(other)
        assert default != other
        assert default != sorted(default)

    @pytest.mark.parametrize("options", [{}, {"encode": "jpeg", "resize": 64}, {"encode": "raw", "resize": (32, 48)}])
    def test_threads_do_not_change_a_byte(self, photo_folder, tmp_path, options):
        fs.pack(photo_folder, tmp_path / "one", num_threads=1, **options)
        fs.pack(photo_folder, tmp_path / "four", num_threads=4, **options)
        assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "four")
        assert fs.open(tmp_path / "one").fingerprint == fs.open(tmp_path / "four").fingerprint

    def test_without_shuffle_the_order_is_sorted(self, photo_folder, dst):
        fs.pack(photo_folder, dst, shuffle=False)
        assert paths(fs.open(dst)) == sorted(files(photo_folder))

    def test_nested_hidden_and_other_files(self, photos, tmp_path, dst):
        image = encoded(photos["cat"][:40, :50])
        for name in ("b/x/y/1.jpg", "a/2.JPEG", "a/.hidden.jpg", ".git/3.jpg", "a/notes.txt", "b/Thumbs.db"):
            (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "src" / name).write_bytes(image)
        report = fs.pack(tmp_path / "src", dst, shuffle=False)
        assert report.ignored_files == ("a/notes.txt", "b/Thumbs.db")
        dataset = fs.open(dst)
        assert dataset.class_names == ("a", "b")
        assert paths(dataset) == ["a/2.JPEG", "b/x/y/1.jpg"]

    def test_names_beyond_ascii(self, photos, tmp_path, dst):
        name = "größe 7/été 猫'\".jpg"
        (tmp_path / "src/größe 7").mkdir(parents=True)
        (tmp_path / "src" / name).write_bytes(encoded(photos["cat"][:40, :50]))
        fs.pack(tmp_path / "src", dst)
        assert paths(fs.open(dst)) == [name]
        assert fs.open(dst).class_names == ("größe 7",)

    def test_images_alone_have_no_label(self, photo_folder, dst):
        fs.pack(photo_folder / "cat", dst)
        assert [field.name for field in fs.open(dst).fields] == ["image"]
        with pytest.raises(ValueError, match="has none"):
            _ = fs.open(dst).class_names


class TestCsv:
    def test_the_layout_of_the_nih(self, xrays, dst):
        fs.pack(
            xrays, dst, csv="labels.csv", label="Finding Labels", label_sep="|", no_label="No Finding", shuffle=False
        )
        dataset = fs.open(dst)
        assert paths(dataset) == [f"images_001/{name}.png" for name in "abcd"]
        field = dataset.field("Finding Labels")
        assert field.class_names == dataset.class_names == ("Cardiomegaly", "Effusion", "Nodule")
        assert (field.dtype, field.shape) == ("float32", (3,))
        hot = dataset.column("Finding Labels")
        assert hot.dtype == np.float32
        assert hot.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]]

    def test_other_columns_are_kept(self, xrays, dst):
        fs.pack(xrays, dst, csv="labels.csv", label="Finding Labels", label_sep="|", shuffle=False)
        dataset = fs.open(dst)
        assert dataset.column("Follow-up #").tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(dataset.column("Patient Age"), [57, np.nan, 80, 81])
        assert dataset.column("Patient Gender").tolist() == ["M", "F", "", "M"]
        assert dataset[3]["View Position"] == ""
        assert dataset[1]["Follow-up #"] == np.int64(1)
        assert dataset.field("Finding Labels").class_names == ("Cardiomegaly", "Effusion", "No Finding", "Nodule")

    def test_rows_stay_together_when_shuffled(self, xrays, dst):
        fs.pack(xrays, dst, csv=xrays / "labels.csv", label="Finding Labels", types={"Follow-up #": "int16"}, seed=3)
        dataset = fs.open(dst)
        number = {"a": 0, "b": 1, "c": 2, "d": 3}
        assert dataset.column("Follow-up #").dtype == np.int16
        assert [number[path[-5]] for path in paths(dataset)] == dataset.column("Follow-up #").tolist()

    def test_text_labels_are_classes_and_numbers_stay(self, xrays, dst):
        fs.pack(xrays, dst, csv="labels.csv", label=["Finding Labels", "Follow-up #"], shuffle=False)
        dataset = fs.open(dst)
        assert dataset.class_names == ("Cardiomegaly", "Cardiomegaly|Effusion", "Effusion| Nodule", "No Finding")
        assert dataset.column("Finding Labels").tolist() == [0, 1, 3, 2]
        assert dataset.field("Follow-up #").type == "scalar"

    def test_the_provenance_names_the_source(self, xrays, dst):
        fs.pack(xrays, dst, csv="labels.csv")
        provenance = json.loads((dst / "manifest.json").read_text())["provenance"]
        assert provenance["source"] == str(xrays)
        assert provenance["file_column"] == "Image Index"


class TestIterables:
    def test_values_come_back(self, photos, dst):
        random = np.random.default_rng(0)
        samples = [
            {
                "image": encoded(photos["coffee"][10 * i : 10 * i + 50, :70]),
                "blob": bytes([i]) * i,
                "caption": "große 猫" * i,
                "flag": i % 2 == 0,
                "count": 2**62 + i,
                "score": i / 3,
                "half": np.float16(i / 3),
                "embedding": random.normal(size=(2, 3)).astype(np.float16),
                "mask": random.random((4, 5)) > 0.5,
                "boxes": random.integers(0, 2**16, (3, 4), dtype=np.uint16),
                "label": ("dog", "cat")[i % 2],
            }
            for i in range(7)
        ]
        fs.pack(iter(samples), dst, class_names={"label": ["cat", "dog"]})
        dataset = fs.open(dst)
        assert len(dataset) == 7
        for i, (got, given) in enumerate(zip(dataset, samples, strict=True)):
            assert dataset.encoded(i)[0] == given["image"]
            np.testing.assert_array_equal(got["image"], np.asarray(open_image(given["image"])))
            assert got["label"] == ["cat", "dog"].index(given["label"])
            for name in ("blob", "caption", "flag", "count", "score", "half"):
                assert got[name] == given[name]
            for name in ("embedding", "mask", "boxes"):
                assert got[name].dtype == given[name].dtype
                np.testing.assert_array_equal(got[name], given[name])
        assert dataset.column("flag").dtype == np.bool_
        assert dataset.column("half").dtype == np.float16

    def test_pixels_as_arrays_are_images(self, photos, dst):
        crops = [np.ascontiguousarray(photos["dahlia"][i : i + 32, i : i + 32]) for i in range(5)]
        fs.pack(({"image": crop} for crop in crops), dst)
        dataset = fs.open(dst)
        assert dataset.field("image").is_image
        np.testing.assert_array_equal(np.stack([sample["image"] for sample in dataset]), crops)

    def test_an_error_of_the_iterable_is_passed_on(self, dst):
        def samples():
            yield {"x": 1}
            raise RuntimeError("the disk is on fire")

        with pytest.raises(RuntimeError, match="on fire"):
            fs.pack(samples(), dst)
        assert not dst.exists()

    def test_a_second_try_starts_again(self, dst):
        with pytest.raises(fs.SourceError, match="row 1, field 'x'"):
            fs.pack([{"x": 1}, {"x": "a"}], dst)
        fs.pack([{"x": 1}, {"x": 2}], dst)
        assert fs.open(dst).column("x").tolist() == [1, 2]
        assert [path.name for path in dst.parent.iterdir()] == ["ds"]


class TestOptions:
    def test_resize_as_pil_does(self, photo_folder, dst):
        fs.pack(photo_folder, dst, resize=(60, 90), encode="png")
        dataset = fs.open(dst)
        for i in range(0, 40, 5):
            data, path = dataset.encoded(i)
            stored = open_image(data)
            expected = open_image(photo_folder / path).resize((90, 60), Image.Resampling.BILINEAR)
            assert stored.format == "PNG"
            assert np.abs(np.asarray(stored, int) - np.asarray(expected)).max() <= 2

    def test_resize_to_the_shorter_side(self, photo_folder, dst):
        fs.pack(photo_folder, dst, resize=64)
        for data, path in map(fs.open(dst).encoded, range(40)):
            width, height = open_image(photo_folder / path).size
            stored = open_image(data)
            assert stored.format == "JPEG"
            assert min(stored.size) == 64
            assert max(stored.size) == pytest.approx(64 * max(width, height) / min(width, height), abs=1)

    def test_resize_and_pad(self, photo_folder, dst):
        fs.pack(photo_folder, dst, resize_pad=96, encode="png")
        for data, path in map(fs.open(dst).encoded, range(40)):
            width, height = open_image(photo_folder / path).size
            stored = np.asarray(open_image(data))
            assert stored.shape == (96, 96, 3)
            narrow = stored if width < height else stored.transpose(1, 0, 2)
            empty = (96 - round(96 * min(width, height) / max(width, height))) // 2
            assert not narrow[:, : empty - 1].any()
            assert not narrow[:, 96 - empty + 1 :].any()
            assert narrow[:, 48].any()

    def test_gray(self, photo_folder, dst):
        fs.pack(photo_folder, dst, gray=True, encode="png")
        dataset = fs.open(dst)
        data, path = dataset.encoded(0)
        stored = open_image(data)
        luma = open_image(photo_folder / path)
        luma.draft("L", luma.size)  # takes the luma that is in the file, as it lies
        assert stored.mode == luma.mode == "L"
        np.testing.assert_array_equal(stored, luma)
        np.testing.assert_array_equal(dataset[0]["image"], np.stack([stored] * 3, axis=-1))

    def test_gray_stays_gray_when_encoded_again(self, xrays, dst):
        fs.pack(xrays / "images_001", dst, resize=32)
        assert {open_image(fs.open(dst).encoded(i)[0]).mode for i in range(4)} == {"L"}

    def test_raw_pixels(self, photo_folder, dst):
        fs.pack(photo_folder, dst, resize=(40, 30), encode="raw", shuffle=False)
        dataset = fs.open(dst)
        field = dataset.field("image")
        assert (field.type, field.dtype, field.shape) == ("tensor", "uint8", (40, 30, 3))
        for i, path in zip(range(40), sorted(files(photo_folder)), strict=True):
            expected = np.asarray(open_image(photo_folder / path).resize((30, 40), Image.Resampling.BILINEAR), int)
            assert np.abs(dataset[i]["image"] - expected).max() <= 2
        assert dataset.to_arrow().column("_path").to_pylist() == sorted(files(photo_folder))

    def test_raw_pixels_need_one_size(self, photo_folder, dst):
        with pytest.raises(fs.DecodeError, match=r"\.jpg: \d+ x \d+ .*raw pixels must all have one size"):
            fs.pack(photo_folder, dst, encode="raw")

    def test_quality_is_that_of_libjpeg(self, photo_folder, tmp_path):
        quality = {10: [], 95: []}
        for value, sizes in quality.items():
            fs.pack(photo_folder, tmp_path / str(value), encode="jpeg", quality=value)
            data, path = fs.open(tmp_path / str(value)).encoded(0)
            tables = open_image(data).quantization
            pixels = np.asarray(open_image(photo_folder / path))
            assert tables == open_image(encoded(pixels, quality=value)).quantization
            sizes += [len(data), psnr(np.asarray(open_image(data)), pixels)]
        assert quality[10][0] < quality[95][0] / 3
        assert quality[95][1] > 35

    def test_png_is_without_loss(self, photo_folder, dst):
        fs.pack(photo_folder, dst, encode="png")
        for data, path in map(fs.open(dst).encoded, range(40)):
            np.testing.assert_array_equal(open_image(data), open_image(photo_folder / path))

    @pytest.mark.parametrize(
        "options",
        [{}, {"encode": "png"}, {"encode": "raw", "resize": (64, 64)}],
        ids=["original", "png", "raw"],
    )
    def test_shard_size(self, photo_folder, tmp_path, options):
        report = fs.pack(photo_folder, tmp_path / "ds", shard_size="100KB", shuffle=False, **options)
        sizes = [shard.stat().st_size for shard in sorted((tmp_path / "ds").glob("*.arrow"))]
        assert report.shards == len(sizes) > 2
        assert report.bytes == sum(sizes)
        assert [row["path"] for row in rows_of(tmp_path / "ds")] == sorted(files(photo_folder))

    def test_check_decode_finds_what_the_header_hides(self, photos, tmp_path):
        data = bytearray(encoded(photos["cat"], "PNG"))
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
        (tmp_path / "src").mkdir()
        (tmp_path / "src/bad.png").write_bytes(data)
        assert fs.pack(tmp_path / "src", tmp_path / "header").rows == 1
        with pytest.raises(fs.DecodeError, match=r"^bad\.png: "):
            fs.pack(tmp_path / "src", tmp_path / "decode", check="decode")
        with pytest.raises(fs.DecodeError, match=r"row 0 .*bad\.png"):
            _ = fs.open(tmp_path / "header")[0]

    def test_overwrite_replaces_all(self, photo_folder, dst):
        fs.pack(photo_folder, dst)
        before = fs.open(dst)
        last = before.encoded(39)
        with pytest.raises(FileExistsError, match=r"ds.*overwrite"):
            fs.pack(photo_folder / "cat", dst)
        fs.pack(photo_folder / "cat", dst, overwrite=True)
        assert len(fs.open(dst)) == 8
        assert [path.name for path in dst.parent.iterdir()] == ["ds"]
        assert before.encoded(39) == last  # what was mapped before stays

    @pytest.mark.parametrize("progress", [True, False])
    def test_progress_bar(self, photo_folder, dst, capfd, progress):
        fs.pack(photo_folder, dst, progress=progress)
        shown = capfd.readouterr()
        assert shown.out == ""
        assert ("packing" in shown.err and "40" in shown.err) == progress


class TestSkipping:
    @pytest.fixture
    def spoilt(self, photos, tmp_path):
        root = tmp_path / "src"
        root.mkdir()
        for i in range(9):
            (root / f"{i}.jpg").write_bytes(encoded(photos["cat"][i : i + 60, :80]))
        (root / "2.jpg").write_bytes(b"")
        (root / "5.jpg").write_bytes(b"<html>404</html>")
        (root / "8.jpg").write_bytes((root / "0.jpg").read_bytes()[:700])
        return root

    def test_raise_names_the_file_and_publishes_nothing(self, spoilt, dst):
        with pytest.raises(fs.DecodeError, match=r"^[258]\.jpg: "):
            fs.pack(spoilt, dst)
        assert not dst.exists()

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_skip_reports_each(self, spoilt, dst, shuffle):
        report = fs.pack(spoilt, dst, on_error="skip", shuffle=shuffle)
        assert sorted(paths(fs.open(dst))) == [f"{i}.jpg" for i in (0, 1, 3, 4, 6, 7)]
        assert report.rows == 6
        assert sorted((row.row, row.path) for row in report.skipped) == [(2, "2.jpg"), (5, "5.jpg"), (8, "8.jpg")]
        errors = {row.path: row.error for row in report.skipped}
        assert "0 bytes" in errors["2.jpg"]
        assert "not an image" in errors["5.jpg"]
        assert "rows skipped: 3" in str(report)
        assert "2.jpg" in str(report)

    def test_skip_keeps_the_columns_in_step(self, spoilt, dst):
        rows = "\n".join(f"{i}.jpg,{10 * i}" for i in range(9))
        (spoilt / "labels.csv").write_text(f"file,number\n{rows}\n")
        fs.pack(spoilt, dst, csv="labels.csv", on_error="skip")
        dataset = fs.open(dst)
        assert [10 * int(path[0]) for path in paths(dataset)] == dataset.column("number").tolist()

    def test_skip_of_an_iterable(self, photos, dst):
        good = encoded(photos["cat"][:30, :30])
        report = fs.pack([{"image": data, "n": n} for n, data in enumerate((good, b"", good))], dst, on_error="skip")
        assert [(row.row, row.path) for row in report.skipped] == [(1, "")]
        assert fs.open(dst).column("n").tolist() == [0, 2]

    def test_skip_of_the_first_row_of_raw_pixels(self, photos, dst):
        """Their size is that of the first image that can be read."""
        good = encoded(photos["cat"][:30, :20])
        rows = [{"image": b"no"}, {"image": good}]
        report = fs.pack(rows, dst, types={"image": "image"}, encode="raw", on_error="skip")
        assert [row.row for row in report.skipped] == [0]
        assert fs.open(dst)[0]["image"].shape == (30, 20, 3)

    def test_numbers_of_rows_behind_skipped_ones(self):
        """Every set of gaps among a few rows, against counting them off."""
        for count in range(7):
            for gaps in itertools.chain.from_iterable(itertools.combinations(range(count), n) for n in range(count)):
                number = _numbering([SkippedRow(row, "", "") for row in reversed(gaps)])
                pushed = [row for row in range(count) if row not in gaps]
                assert [number(row) for row in range(len(pushed))] == pushed

    def test_nothing_left(self, tmp_path, dst):
        (tmp_path / "src").mkdir()
        (tmp_path / "src/a.jpg").write_bytes(b"no")
        with pytest.raises(fs.SourceError, match="all of them were skipped"):
            fs.pack(tmp_path / "src", dst, on_error="skip")


def rows_of(path):
    """Rows of all shards as pyarrow reads them, images and raw pixels alike with their path."""
    tables = [pa.ipc.open_file(pa.memory_map(str(shard))).read_all() for shard in sorted(path.glob("*.arrow"))]
    rows = itertools.chain.from_iterable(table.to_pylist() for table in tables)
    return [{**row, "path": row.get("_path") or row["image"]["path"]} for row in rows]
