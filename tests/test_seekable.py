"""Seekable JPEG: the same coefficients behind restart markers, and an index that may lie without changing a pixel.

Crops of seekable files are held against PIL in test_jpeg_regions.py. That each coefficient survives is shown by the
Rust tests, which bring source and result into one canonical coding; here PIL decodes both, at four scales.
"""

import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageCms
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli
from jpegs import EXACT, SIZE, decode, largest, markers, save, scan_start, segments, tiles, variants
from mutations.layout import read_layout, refit

VERSION_1 = Path(__file__).parent / "data/version-1"
BASELINE, PROGRESSIVE, ARITHMETIC = 0xC0, 0xC2, 0xC9
NEVER = ("CMYK", "YCCK")


def run(*args):
    return CliRunner().invoke(_cli.app, [str(arg) for arg in args], env={"COLUMNS": "200", "NO_COLOR": "1"})


def pack(files, dst, **options):
    fs.pack([{"image": encoded} for encoded in files], dst, **options)
    return fs.open(dst)


def stored(files, dst, **options):
    """What is stored of each file."""
    dataset = pack(files, dst, **options)
    return [dataset.encoded(i)[0] for i in range(len(dataset))]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def patched(encoded, marker, offset, value):
    """A file with one byte changed, so far behind the first marker of a kind."""
    at = next(at for found, at, _ in segments(encoded) if found == marker)
    changed = bytearray(encoded)
    changed[at + offset] = value
    return bytes(changed)


@pytest.fixture
def dst(tmp_path):
    return tmp_path / "ds"


@pytest.fixture(scope="module")
def files(photos):
    return variants(photos["astronaut"])


@pytest.fixture(scope="module")
def seekable(files, tmp_path_factory):
    """The variants, each as it is stored when it is to be seekable, and its index."""
    path = tmp_path_factory.mktemp("seekable") / "ds"
    encoded = stored(files.values(), path, seekable=True)
    return dict(zip(files, zip(encoded, tiles(path), strict=True), strict=True))


class TestFiles:
    def test_all_but_four_colours_become_seekable(self, files, seekable):
        for name, (encoded, starts) in seekable.items():
            assert bool(starts) == (name not in NEVER), name
            assert (encoded == files[name]) == (name in NEVER), name

    def test_they_are_sequential(self, seekable):
        for name, (encoded, _) in seekable.items():
            frames = {marker for marker in markers(encoded) if 0xC0 <= marker <= 0xCF and marker != 0xC4}
            assert frames <= {0xC0, 0xC1}, name
            assert encoded.count(b"\xff\xda") == 1, name

    def test_the_index_is_that_of_the_markers(self, seekable):
        for name, (encoded, starts) in seekable.items():
            if name in NEVER:
                continue
            data = scan_start(encoded)
            found = [at for at in range(data, len(encoded) - 2) if encoded[at] == 0xFF and encoded[at + 1] != 0]
            assert starts == [data] + [at + 2 for at in found], name
            assert [encoded[at + 1] for at in found] == [0xD0 + i % 8 for i in range(len(found))], name
            assert encoded.endswith(b"\xff\xd9"), name

    def test_a_tile_is_at_most_96_pixels_wide_and_lies_in_one_row(self, seekable):
        for name, (encoded, starts) in seekable.items():
            if name in NEVER:
                continue
            (interval,) = (int.from_bytes(body) for marker, _, body in segments(encoded) if marker == 0xDD)
            unit = {"4:1:1": 32, "4:2:2": 16, "4:2:0": 16, "4:4:0": 8, "4:4:1": 8, "4:4:4": 8, "gray": 8}
            width = unit.get(name.split()[0], 8 if name == "stored as RGB" else 16)
            columns = -(-SIZE[1] // width)
            assert interval * width <= 96, name
            assert columns % interval == 0 == len(starts) % (columns // interval), name

    def test_pil_decodes_the_same(self, files, seekable):
        for name, (encoded, _) in seekable.items():
            for scale in (1, 2, 4, 8):
                before, after = (Image.open(io.BytesIO(file)) for file in (files[name], encoded))
                for image in (before, after):
                    image.draft(image.mode, (SIZE[1] // scale, SIZE[0] // scale))
                np.testing.assert_array_equal(before, after, err_msg=f"{name}, 1/{scale}")
            assert before.quantization == after.quantization

    def test_packing_again_changes_nothing(self, seekable, dst):
        encoded = [file for file, _ in seekable.values()]
        assert stored(encoded, dst, seekable=True) == encoded

    @pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 7), (1, 3000), (3000, 1), (16, 97), (640, 1000)])
    def test_sizes(self, size, dst):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        plain = [save(pixels, subsampling=kind) for kind in ("4:4:4", "4:2:0")] + [save(pixels[..., 0])]
        for before, after in zip(plain, stored(plain, dst, seekable=True), strict=True):
            np.testing.assert_array_equal(decode(before), decode(after))
        assert all(tiles(dst))

    @pytest.mark.parametrize("size", [(90, 368), (77, 700), (41, 1301), (301, 85)])
    def test_crops_of_tiles_of_every_width(self, photos, tmp_path, size):
        # 23 units of 16 pixels are as many tiles, 88 of 8 make tiles of 11.
        photo = np.resize(photos["coffee"], (*size, 3))
        encoded = [save(photo, subsampling=kind) for kind in ("4:4:4", "4:2:2", "4:2:0")] + [save(photo[..., 0])]
        pack(encoded, tmp_path / "files", seekable=True)
        assert all(tiles(tmp_path / "files"))
        fs.pack([{"image": decode(file)} for file in encoded], tmp_path / "raw")
        for step in (fs.RandomCrop((20, 30)), fs.RandomCrop((1, 1)), fs.RandomResizedCrop(25, scale=(0.01, 0.3))):
            assert set(largest(tmp_path / "files", tmp_path / "raw", step, 25).values()) == {0}

    def test_off_keeps_every_byte(self, files, dst):
        assert stored(files.values(), dst, seekable=False) == list(files.values())
        assert not any(tiles(dst))

    def test_images_that_are_encoded_anew_are_plain(self, files, dst):
        pack(list(files.values())[:3], dst, encode="jpeg", seekable=True)
        assert tiles(dst) == [[]] * 3


class TestMetadata:
    @pytest.fixture
    def photo(self, photos):
        return Image.fromarray(photos["cat"])

    @pytest.fixture
    def rich(self, photo):
        """A photograph with a profile of several segments, EXIF data, a comment and XMP."""
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(100_000)
        return lambda **tags: save(
            photo,
            icc_profile=profile,
            exif=exif.tobytes() if not tags else self.turned(exif, tags["orientation"]),
            comment=b"no comment",
            xmp=b"<x:xmpmeta/>",
            dpi=(300, 300),
        )

    @staticmethod
    def turned(exif, orientation):
        exif[0x0112] = orientation
        return exif.tobytes()

    def test_kept(self, rich, dst):
        (after,) = stored([rich()], dst, seekable=True)
        before, after = Image.open(io.BytesIO(rich())), Image.open(io.BytesIO(after))
        for what in ("icc_profile", "exif", "comment", "xmp", "dpi"):
            assert before.info[what] == after.info[what]
        assert len(after.info["icc_profile"]) > 100_000

    def test_dropped(self, rich, dst):
        (after,) = stored([rich()], dst, seekable=True, metadata="drop")
        assert not {marker for marker in markers(after) if 0xE1 <= marker <= 0xEF or marker == 0xFE}
        np.testing.assert_array_equal(decode(after), decode(rich()))
        (kept,) = stored([rich()], dst.with_name("kept"), seekable=True)
        assert len(after) < len(kept) - 100_000

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_an_orientation_survives_alone(self, rich, dst, orientation):
        before = rich(orientation=orientation)
        (after,) = stored([before], dst, seekable=True, metadata="drop")
        assert [marker for marker in markers(after) if 0xE1 <= marker <= 0xEF or marker == 0xFE] == [0xE1]
        assert dict(Image.open(io.BytesIO(after)).getexif()) == {0x0112: orientation}
        assert fs.open(dst).column("_image_orientation").tolist() == [orientation]
        fs.pack([{"image": before}], dst.with_name("plain"), seekable=False)
        steps = [fs.Decode(exif_orientation=True), fs.RandomCrop((90, 100))]
        (a,), (b,) = (fs.Loader(path, 1, transforms={"image": steps}) for path in (dst, dst.with_name("plain")))
        np.testing.assert_array_equal(a["image"], b["image"])

    def test_files_that_stay_as_they_are_keep_theirs(self, photo, dst):
        file = save(photo.convert("CMYK"), comment=b"x")
        assert stored([file], dst, seekable=True, metadata="drop") == [file]

    @pytest.mark.parametrize("options", [{"seekable": "yes"}, {"metadata": "strip"}, {"seekable": 1}], ids=str)
    def test_impossible_options(self, dst, options):
        ((name, value),) = options.items()
        with pytest.raises((TypeError, ValueError), match=rf"{name}={value!r}"):
            fs.pack([{"x": 1}], dst, **options)


class TestFilesThatStayAsTheyAre:
    """Whatever becomes of them without ``seekable`` becomes of them with it."""

    @pytest.fixture
    def odd(self, photos):
        file = save(photos["cat"][:200, :260])
        half = len(file) // 2
        return {
            # The bytes make no sense to an arithmetic decoder, but nothing decodes them here.
            "arithmetic": patched(file, BASELINE, 1, ARITHMETIC),
            "12 bits": patched(patched(file, BASELINE, 1, 0xC1), 0xC1, 4, 12),
            "lossless": patched(file, BASELINE, 1, 0xC3),
            "two components": patched(file, BASELINE, 9, 2),
            "truncated": file[:half],
            "truncated and ended": file[:half] + b"\xff\xd9",
            "broken data": file[:half] + bytes(200) + file[half + 200 :],
            "broken table": patched(file, 0xC4, 6, 255),
            "no end": file[:-2],
            "header alone": file[: scan_start(file)],
            "start alone": b"\xff\xd8\xff",
            "empty": b"",
        }

    @staticmethod
    def outcome(file, good, dst, **options):
        """What is stored of a file, with its index, or the error."""
        try:
            return stored([good, file], dst, **options)[1], tiles(dst)[1]
        except fs.FastshardError as error:
            return str(error)
        finally:
            shutil.rmtree(dst, ignore_errors=True)

    def test_same_as_without(self, odd, photos, dst):
        good, kept = save(photos["cat"]), set()
        for name, file in odd.items():
            plain = self.outcome(file, good, dst, seekable=False)
            assert self.outcome(file, good, dst, seekable=True) == plain, name
            assert self.outcome(file, good, dst) == plain, name
            if not isinstance(plain, str):
                assert plain == (file, []), name
                kept.add(name)
        assert {"arithmetic", "broken data"} <= kept
        assert "12 bits" not in kept

    def test_skipping(self, odd, photos, dst):
        good = save(photos["cat"])
        rows = [{"image": file} for file in [good, *odd.values(), good]]
        reports = [
            fs.pack(rows, dst.with_name(str(option)), seekable=option, on_error="skip") for option in (False, True)
        ]
        assert reports[0].skipped == reports[1].skipped
        assert 0 < reports[0].rows == reports[1].rows < len(rows)

    def test_other_formats(self, photos, dst):
        others = []
        for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF"):
            stream = io.BytesIO()
            Image.fromarray(photos["cat"]).save(stream, kind)
            others.append(stream.getvalue())
        assert stored(others, dst, seekable=True, metadata="drop") == others
        assert tiles(dst) == [[]] * 5

    def test_a_progressive_file_with_scans_missing(self, photos, dst):
        # Decoders guess what the missing scans would say, from the blocks around: that isn't in the coefficients.
        whole = save(photos["cat"][:200, :248], progressive=True)
        ends = [at for at in range(len(whole) - 1) if whole[at] == 0xFF and whole[at + 1] in (0xC4, 0xDA)]
        cuts = [whole[:end] + b"\xff\xd9" for end in ends if end > scan_start(whole)]
        assert len(cuts) > 8
        after = stored(cuts, dst, seekable=True)
        assert after == cuts
        for steps in ([], [fs.CenterCrop((64, 64))], [fs.CenterCrop((5, 100))]):
            (batch,) = fs.Loader(dst, len(cuts), transforms={"image": steps})
            for cut, found in zip(cuts, batch["image"], strict=True):
                height, width = found.shape[:2]
                top, left = round((200 - height) / 2), round((248 - width) / 2)
                np.testing.assert_array_equal(found, decode(cut)[top : top + height, left : left + width])


def test_auto_takes_what_pays(photos, dst):
    cat = photos["cat"]
    cases = {
        "small": (save(cat[:112, :112]), False),  # 7 x 7 units of 16 pixels
        "narrow": (save(cat[:300, :112]), False),
        "low": (save(cat[:112, :300]), False),
        "just enough": (save(cat[:113, :113]), True),
        "small, fine units": (save(cat[:64, :64], subsampling="4:4:4"), True),
        "large": (save(cat), True),
        "small and progressive": (save(cat[:40, :40], progressive=True), True),
    }
    encoded = [file for file, _ in cases.values()]
    after = stored(encoded, dst)
    for name, file, found, starts in zip(cases, encoded, after, tiles(dst), strict=True):
        taken = cases[name][1]
        assert (bool(starts), found != file) == (taken, taken), name
    assert BASELINE in markers(after[-1])
    assert PROGRESSIVE not in markers(after[-1])


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    """Thirty rows with fields of several kinds, from before there were seekable files."""
    root = tmp_path_factory.mktemp("mixed")
    numbers = np.random.default_rng(0)

    def image(i):
        stream = io.BytesIO()
        pixels = np.ascontiguousarray(photos["dahlia"][5 * i : 5 * i + 150, i : i + 170])
        Image.fromarray(pixels).save(stream, ("JPEG", "JPEG", "PNG")[i % 3], **({"progressive": True} if i % 2 else {}))
        return stream.getvalue()

    rows = [
        {
            "image": image(i),
            "label": i % 2,
            "hot": numbers.random(3).astype(np.float32),
            "text": "é猫" * (i % 4),
            "blob": bytes(range(i)),
            "n": i,
        }
        for i in range(30)
    ]
    fs.pack(rows, root / "ds", class_names={"label": ["cat", "dog"]}, seekable=False)
    return root / "ds"


class TestDatasets:
    OTHERS = ("label", "hot", "text", "blob", "n")

    def same(self, dst, source):
        """The rows are those of a dataset or a view, and JPEGs are seekable."""
        again = fs.open(dst)
        assert again.fields == source.fields
        assert len(again) == len(source)
        assert again.verify() == []
        assert again.to_arrow().select(self.OTHERS).equals(source.to_arrow().select(self.OTHERS))
        for i, starts in enumerate(tiles(dst)):
            (before, path), (after, kept) = source.encoded(i), again.encoded(i)
            assert path == kept
            assert bool(starts) == before.startswith(b"\xff\xd8")
            assert (before == after) == (not starts)
            np.testing.assert_array_equal(source[i]["image"], again[i]["image"])

    def test_by_its_path(self, mixed, dst):
        report = fs.pack(mixed, dst, seekable=True)
        assert report.rows == 30
        self.same(dst, fs.open(mixed))

    @pytest.mark.parametrize(
        "rows", [slice(None), slice(10, 20), slice(None, None, 3), [7, 2, 2, 29], slice(None, None, -1)], ids=str
    )
    def test_as_an_object(self, mixed, dst, rows):
        view = fs.open(mixed)[rows]
        fs.pack(view, dst, seekable=True)
        self.same(dst, view)

    def test_source_paths_and_classes(self, kept, dst):
        fs.pack(kept, dst, seekable=True)
        before, after = fs.open(kept), fs.open(dst)
        assert after.class_names == before.class_names
        assert [after.encoded(i)[1] for i in range(40)] == [before.encoded(i)[1] for i in range(40)]
        assert after.column("label").tolist() == before.column("label").tolist()
        assert all(tiles(dst))

    def test_straight_from_the_folder_or_in_two_steps(self, kept, photo_folder, tmp_path):
        fs.pack(photo_folder, tmp_path / "one", seekable=True)
        fs.pack(kept, tmp_path / "two", seekable=True)
        one, two = (fs.open(tmp_path / name).to_arrow() for name in ("one", "two"))
        assert one.equals(two)

    def test_threads_do_not_change_a_byte(self, mixed, tmp_path):
        prints = set()
        for threads in (1, 2, 5):
            fs.pack(mixed, tmp_path / str(threads), seekable=True, num_threads=threads)
            prints.add(fs.open(tmp_path / str(threads)).fingerprint)
        assert len(prints) == 1

    def test_other_options_apply(self, mixed, dst):
        report = fs.pack(mixed, dst, resize=(60, 70), encode="raw", shard_size="64KiB")
        assert report.shards > 1
        assert fs.open(dst)[3]["image"].shape == (60, 70, 3)
        assert fs.open(dst).column("n").tolist() == list(range(30))

    def test_the_provenance_goes_back_to_the_start(self, kept, photo_folder, dst):
        fs.pack(kept, dst)
        provenance = fs.open(dst).manifest["provenance"]
        assert provenance["fingerprint"] == fs.open(kept).fingerprint
        assert provenance["source"]["source"] == str(photo_folder)

    def test_without_images(self, tmp_path):
        fs.pack([{"x": i} for i in range(5)], tmp_path / "a")
        fs.pack(tmp_path / "a", tmp_path / "b", seekable=True)
        assert fs.open(tmp_path / "b").fingerprint == fs.open(tmp_path / "a").fingerprint

    def test_nothing_of_a_view(self, mixed, dst):
        with pytest.raises(fs.SourceError):
            fs.pack(fs.open(mixed)[5:5], dst)
        assert not dst.exists()

    def test_a_corrupt_source(self, mixed, tmp_path):
        source = tmp_path / "ds"
        shutil.copytree(mixed, source)
        (shard,) = source.glob("*.arrow")
        data = bytearray(shard.read_bytes())
        data[data.index(fs.open(mixed).encoded(17)[0]) + 500] ^= 1
        shard.write_bytes(data)
        with pytest.raises(fs.CorruptionError, match=r"shard-00000\.arrow, row 17.*nothing is packed"):
            fs.pack(source, tmp_path / "new", seekable=True)
        assert names(tmp_path) == ["ds"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_place_that_is_the_source(self, mixed, tmp_path, overwrite):
        source = tmp_path / "outer/ds"
        shutil.copytree(mixed, source)
        for target in (source, source / "new", source.parent):
            with pytest.raises(
                (ValueError, FileExistsError), match=r"expected another place|there is a dataset already"
            ):
                fs.pack(source, target, overwrite=overwrite)
            with pytest.raises(
                (ValueError, FileExistsError), match=r"expected another place|there is a dataset already"
            ):
                fs.pack(fs.open(source)[3:5], target, overwrite=overwrite)
        assert names(source) == ["manifest.json", "shard-00000.arrow"]
        assert fs.open(source).verify() == []

    def test_options_of_folders_are_refused(self, mixed, dst):
        for options in ({"csv": "x.csv"}, {"class_names": {"label": ["a"]}}, {"shuffle": True}):
            with pytest.raises(ValueError, match="|".join(options)):
                fs.pack(mixed, dst, **options)

    def test_the_command_line(self, mixed, dst):
        done = run("pack", mixed, dst, "--seekable", "yes", "--metadata", "drop", "--quiet")
        assert done.exit_code == 0, done.output
        self.same(dst, fs.open(mixed))
        assert json.loads(run("inspect", dst, "--json").stdout)["seekable"] == {"image": 20}
        assert "image seekable JPEG: 20 (67%)" in run("inspect", dst).stdout
        assert json.loads(run("inspect", mixed, "--json").stdout)["seekable"] == {"image": 0}

    def test_the_command_line_refuses(self, mixed, dst):
        for option, code in ((("--seekable", "maybe"), 2), (("--metadata", "burn"), 1)):
            done = run("pack", mixed, dst, *option)
            assert done.exit_code == code
            assert option[1] in done.stderr


class TestHostileIndex:
    """Whoever can write a shard can write anything into its index, with checksums that fit."""

    FILES = 6

    @pytest.fixture(scope="class")
    @classmethod
    def honest(cls, photos, tmp_path_factory):
        path = tmp_path_factory.mktemp("honest") / "ds"
        photos = [photos["coffee"][10 * i : 10 * i + 250, 7 * i : 7 * i + 330] for i in range(cls.FILES)]
        pack([save(photo, quality=60 + 5 * i) for i, photo in enumerate(photos)], path, seekable=True)
        return path

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, honest):
        return cls.load(honest)

    @staticmethod
    def load(path):
        steps = [[EXACT, fs.RandomCrop((100, 90))], [fs.RandomResizedCrop(40)], [EXACT]]
        found = []
        for transforms in steps[:2]:
            found += [batch["image"] for batch in fs.Loader(path, 6, transforms={"image": transforms})]
        return [*found, *(sample["image"] for sample in fs.open(path))]

    @pytest.fixture
    def forged(self, honest, tmp_path):
        """Writes lists (as many starts in all as there were) over the index, in place, and makes all checksums fit."""
        path = tmp_path / "ds"
        shutil.copytree(honest, path)
        (shard,) = path.glob("*.arrow")
        manifest = path / "manifest.json"
        layout = read_layout(shard, json.loads(manifest.read_text())["shards"][0])

        def forge(starts, lengths=None, fit=True):
            with pa.memory_map(str(shard)) as source:
                whole = source.read_buffer(source.size())
                column = pa.ipc.open_file(source).read_all().column("_image_tiles").chunk(0)
                _, offsets, _, values = column.buffers()
                at, offsets_at = values.address - whole.address, offsets.address - whole.address
                del column, offsets, values, whole
            data = bytearray(shard.read_bytes())
            new = np.asarray(starts, np.uint32).tobytes()
            data[at : at + len(new)] = new
            if lengths is not None:
                new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32).tobytes()
                data[offsets_at : offsets_at + len(new)] = new
            files = {shard.name: bytes(data), manifest.name: manifest.read_bytes()}
            for name, content in (refit(files, {shard.name: layout}) if fit else files).items():
                (path / name).write_bytes(content)
            return path

        return forge

    def same(self, path, expected):
        for found, wanted in zip(self.load(path), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)

    @pytest.mark.parametrize(
        "change",
        {
            "zeros": lambda starts: starts * 0,
            "largest": lambda starts: starts * 0 + 0xFFFFFFFF,
            "one off": lambda starts: starts + 1,
            "two off": lambda starts: starts - 2,
            "reversed": lambda starts: starts[::-1],
            "eight on": lambda starts: np.roll(starts, 8),  # behind markers of the same numbers
            "one on": lambda starts: np.roll(starts, 1),
            "all the first": lambda starts: starts * 0 + starts[0],
            "beyond the end": lambda starts: starts + 10**6,
            "random": lambda starts: np.random.default_rng(0).integers(0, 2**32, len(starts)),
            "near": lambda starts: starts + np.random.default_rng(0).integers(-2, 3, len(starts)),
        }.items(),
        ids=lambda item: item[0],
    )
    def test_wrong_starts(self, honest, forged, expected, change):
        starts = [change[1](np.asarray(one, np.int64)) for one in tiles(honest)]
        self.same(forged(np.concatenate(starts).clip(0, 2**32 - 1)), expected)

    @pytest.mark.parametrize("lengths", [(-1, 1), (1, -1), (-8, 8), (8, -8), "all", "none"], ids=str)
    def test_wrong_lengths(self, honest, forged, expected, lengths):
        index = tiles(honest)
        counts = np.array([len(starts) for starts in index])
        if lengths == "all":
            counts = np.array([counts.sum(), *[0] * (self.FILES - 1)])
        elif lengths == "none":
            counts = np.array([0] * self.FILES)
        else:
            counts[:2] += lengths
        self.same(forged(np.concatenate(index), counts), expected)

    def test_another_images_index(self, honest, forged, expected):
        index = tiles(honest)
        assert len({len(starts) for starts in index}) == 1
        self.same(forged(np.concatenate(index[1:] + index[:1])), expected)

    def test_one_start_at_a_time(self, honest, forged, expected):
        index = tiles(honest)
        draw = random.Random(0)
        for _ in range(20):
            wrong = [list(starts) for starts in index]
            for starts in wrong:
                at = draw.randrange(len(starts))
                starts[at] = draw.choice([0, starts[at] + 1, starts[(at + 8) % len(starts)], 2**32 - 1])
            self.same(forged(np.concatenate(wrong)), expected)

    @pytest.mark.parametrize("lengths", [[10**6], [-5], [5, -3], [2**31 - 1]], ids=str)
    def test_lists_that_leave_the_column(self, honest, forged, lengths):
        index = tiles(honest)
        path = forged(np.concatenate(index), [*lengths, *[0] * (self.FILES - len(lengths))])
        with pytest.raises(fs.CorruptionError, match=r"shard-00000\.arrow: block 0"):
            self.load(path)

    def test_verify_sees_it(self, honest, forged):
        index = tiles(honest)
        path = forged(np.concatenate(index) + 1, fit=False)
        assert [problem.shard for problem in fs.open(path).verify()] == ["shard-00000.arrow"]
        with pytest.raises(fs.CorruptionError, match="nothing is packed"):
            fs.pack(path, path.with_name("new"))


class TestVersion1:
    """A dataset that the last fastshard of format version 1 wrote: four rows of 32 x 24 pixels, JPEG and PNG."""

    def test_it_is_what_it_says(self):
        dataset = fs.open(VERSION_1)
        assert dataset.manifest["version"] == 1
        assert "_image_tiles" not in dataset.schema.names
        assert dataset.verify() == []

    def test_values(self):
        dataset = fs.open(VERSION_1)
        assert dataset.class_names == ("cat", "dog")
        assert dataset.column("label").tolist() == [0, 1, 0, 1]
        for i, sample in enumerate(dataset):
            np.testing.assert_array_equal(sample["image"], decode(dataset.encoded(i)[0]))
            assert sample["text"] == f"row {i}"
            assert sample["x"].tolist() == [0, i, 2 * i]

    def test_loading(self):
        whole, crops = (
            next(iter(fs.Loader(VERSION_1, 4, transforms={"image": steps})))["image"]
            for steps in ([], [fs.CenterCrop((10, 12))])
        )
        np.testing.assert_array_equal(crops, whole[:, 7:17, 10:22])

    def test_inspect(self):
        assert json.loads(run("inspect", VERSION_1, "--json").stdout)["seekable"] == {"image": 0}

    def test_packed_again_it_is_of_this_version(self, dst):
        fs.pack(VERSION_1, dst, seekable=True)
        before, after = fs.open(VERSION_1), fs.open(dst)
        assert after.manifest["version"] == 4
        assert [bool(starts) for starts in tiles(dst)] == [True, False, True, False]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old["image"], new["image"])
            assert old["text"] == new["text"]
