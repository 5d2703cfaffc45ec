"""Datasets, options and sizes from somebody who means harm: errors that name the value, never an end of the process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

TENSOR = {"name": "t", "type": "tensor", "dtype": "float32", "shape": [2, 3]}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Images, classes, texts, numbers, lists. Not to be changed."""
    root = tmp_path_factory.mktemp("hostile")
    rows = []
    for at in range(12):
        Image.fromarray(np.full((20 + at, 24, 3), 20 * at, np.uint8)).save(root / "a.png")
        rows.append(
            {
                "image": (root / "a.png").read_bytes(),
                "label": at % 3,
                "caption": "a" * at,
                "x": np.float32(at),
                "t": np.full((2, 3), at, np.float32),
                "ids": np.arange(at % 4),
            }
        )
    fs.pack(rows, root / "ds", class_names={"label": ["a", "b", "c"]}, types={"ids": "list[int64]"})
    return root / "ds"


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "ds"))


def refusal(dataset):
    try:
        fs.open(dataset)
    except (fs.CorruptionError, fs.FormatError) as error:
        return str(error)
    return ""


def changed(dataset, change):
    """The manifest with a change; its checksums fit if nothing else is wrong with it."""
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    for key, pattern in {
        "fingerprint": r"its content gives (\w+)",
        "provenance_crc32c": r"its provenance gives (\d+)",
    }.items():
        if found := re.search(pattern, refusal(dataset)):
            manifest[key] = type(manifest[key])(found[1])
            path.write_text(json.dumps(manifest))
    return dataset


def in_a_process(code, *args, gigabytes=None, seconds=60):
    """Runs code that may end its process; what it printed. An error is printed as its type and text."""
    program = f"""
import resource, sys
import numpy as np
import fastshard as fs
limit = {gigabytes}
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (int(limit * 2**30),) * 2)
try:
    exec(sys.argv[1])
except BaseException as error:
    print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", program, code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout.strip()


def field(manifest, name):
    return next(one for one in manifest["fields"] if one["name"] == name)


def with_field(**described):
    return lambda m: m["fields"].append(described)


def with_rows(rows):
    def change(manifest):
        manifest["rows"] = manifest["shards"][0]["rows"] = manifest["shards"][0]["blocks"][0]["rows"] = rows

    return change


def known(**statistics):
    return lambda m: m.update(statistics=statistics)


SIX = [[0, 0, 0], [0, 0, 0]]


class TestManifests:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            *((with_rows(2**bits), r"rows in \d+ bytes") for bits in (20, 40, 62)),
            (with_rows(2**63), "rows"),
            (with_rows(2**64), "not a manifest"),
            (with_rows(-1), "not a manifest"),
            (lambda m: (m.update(rows=0), m["shards"][0].update(rows=0, blocks=[], bytes=0)), "no rows"),
            *((lambda m, f=f: m["shards"][0].update(file=f), "plain file name") for f in ("a\0b", "a\n\x1b[31m", "..")),
            (lambda m: field(m, "label").update(class_names=["a"] * 3), "class .*a.* twice"),
            (lambda m: field(m, "label").update(class_names=[1]), "not a manifest"),
            (lambda m: field(m, "ids").update(class_names=["a"], dtype="float64"), "expected integers"),
            (lambda m: field(m, "x").update(name="a\0b"), "zero characters"),
            (lambda m: field(m, "x").update(name="t"), "two fields"),
            (lambda m: field(m, "t").update(shape=[1] * 65), "65 dimensions"),
            (lambda m: field(m, "t").update(shape=[2**32, 2**32]), "larger than 1 GiB"),
            (lambda m: field(m, "t").update(shape=[0]), "is empty"),
            (with_field(name="b", type="boxes", image="x", format="xyxy"), "no image"),
            (with_field(name="b", type="list", dtype="int64", along="image"), "no boxes"),
            (with_field(name="b", type="list", dtype="float32", shape=[2], points=True), "no boxes"),
            (lambda m: m["image_sizes"].clear(), "image_sizes lacks field"),
            (lambda m: m["image_sizes"].update(x=m["image_sizes"]["image"]), "image_sizes of"),
            (lambda m: m["image_sizes"]["image"].update(min_width=0), "from 0 to 24"),
            (lambda m: m["image_sizes"]["image"].update(min_height=99), "from 99 to 31"),
            (lambda m: m.update(audio_ranges={"x": dict.fromkeys(AUDIO, 1)}), "audio_ranges of"),
            (lambda m: m.update(statistics=[]), "statistics: expected an object"),
            (known(gone={}), "no field of numbers"),
            (known(image={}), "no field of numbers"),
            *((known(t=t), "statistics of") for t in (1e308, "x", [], None, {"mean": "x"}, {"mean": [1] * 6})),
            (known(t={"mean": SIX, "std": SIX, "min": SIX, "max": [0] * 6}), "max: expected numbers of shape"),
            (known(t={"mean": SIX, "std": [[0, 0, -1], [0, 0, 0]], "min": SIX, "max": SIX}), "at least 0"),
            (known(t={"columns": ["a"]}), "expected 6 texts"),
            (known(t={"categories": {"a": 3}}), "lists of texts"),
        ],
    )
    def test_what_makes_no_sense_is_refused_when_opened(self, copy, change, expected):
        changed(copy, change)
        with pytest.raises(fs.FormatError, match=expected) as error:
            fs.open(copy)
        assert "manifest.json" in str(error.value)
        assert not isinstance(error.value, fs.CorruptionError)

    @pytest.mark.parametrize("part", ["provenance", "x", "statistics"])
    @pytest.mark.parametrize("value", ["[" + "[]," * 5_000_000 + "[]]", "[" * 200_000 + "]" * 200_000])
    def test_huge_parts_are_refused_before_they_are_parsed(self, copy, part, value):
        path = copy / "manifest.json"
        text = json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != part})
        path.write_text(f'{text[:-1]}, "{part}": {value}}}')
        found = in_a_process("fs.open(sys.argv[2])", copy, gigabytes=2)
        assert found.startswith("FormatError"), found
        assert "manifest.json: " in found

    def test_what_packing_finds_out_is_read(self, tmp_path):
        table = {"a": np.arange(4, dtype=np.float32), "b": np.arange(4) % 2, "label": np.arange(4) % 2}
        fs.pack(table, tmp_path / "ds")
        ds = fs.open(tmp_path / "ds")
        assert ds.statistics["a"]["max"] == 3
        batch = next(iter(fs.Loader(ds, 4, transforms={"a": fs.Standardize()})))
        np.testing.assert_allclose(batch["a"].mean(), 0, atol=1e-6)

    def test_provenance_that_no_reader_takes_is_not_packed(self, tmp_path, monkeypatch):
        from fastshard._sources import rows as _rows

        made = _rows.RowSource.__init__

        def long(self, *args, **options):
            made(self, *args, **options)
            self.provenance = {"source": [0] * 2_000_000}

        monkeypatch.setattr(_rows.RowSource, "__init__", long)
        with pytest.raises(ValueError, match="provenance"):
            fs.pack([{"x": 1}], tmp_path / "ds")
        assert not (tmp_path / "ds").exists()


AUDIO = [f"{end}_{what}" for end in ("min", "max") for what in ("sample_rate", "channels", "frames")]


class TestEmpty:
    @pytest.fixture
    def empty(self, copy):
        return fs.open(changed(copy, lambda m: m.update(rows=0, shards=[])))

    def test_everything_is_there_and_empty(self, empty):
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.verify() == []
        assert empty.schema.names[:2] == ["image", "label"]
        assert empty.column("label").dtype == np.int64
        assert empty.column("t").shape == (0, 2, 3)
        assert empty.column("caption").shape == empty.column("ids").shape == (0,)
        assert empty.column("_image_width").shape == (0,)
        assert empty.to_arrow().num_rows == 0
        assert len(empty[:3]) == len(empty.where(label="a")) == len(empty.subset(0)) == 0
        assert [len(part) for part in empty.split([0.5, 0.5])] == [0, 0]
        with pytest.raises(IndexError):
            empty[0]

    @pytest.mark.parametrize("shuffle", [False, True, "block"])
    def test_loaders_have_no_batches(self, empty, shuffle):
        loader = fs.Loader(empty, 4, shuffle=shuffle, transforms={"image": fs.Resize((8, 8))})
        assert len(loader) == 0
        assert list(loader) == []

    def test_views_without_rows_are_alike(self, packed):
        view = fs.open(packed)[:0]
        assert list(fs.Loader(view, 4, transforms={"image": fs.Resize((8, 8))})) == []
        assert view.column("t").shape == (0, 2, 3)

    def test_exports_and_packs_say_so(self, empty, tmp_path):
        with pytest.raises(ValueError, match=r"no rows|no samples|nothing"):
            fs.pack(empty, tmp_path / "again")


class TestMemory:
    """Sizes that can't be had are MemoryError or ValueError, with the size; what fits is loaded."""

    BATCH = "print(len(next(iter(fs.Loader(fs.open(sys.argv[2]), {options})))['{field}']))"
    SIZED = "fields=['image'], transforms={'image': [fs.Resize((224, 224)), fs.ToDtype()]}"

    PADDED = "transforms={'image': [fs.Pad(32000), fs.RandomRotation(30), fs.RandomCrop(8)]}"

    def loaded(self, packed, options, field="image", gigabytes=3):
        code = self.BATCH.format(options=options, field=field)
        return in_a_process(code, packed, gigabytes=gigabytes)

    @pytest.mark.parametrize("size", [100_000, 2**30])
    def test_batches_are_as_large_as_their_samples(self, packed, size):
        assert self.loaded(packed, f"{size}, {self.SIZED}") == "12"

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ("1, prefetch=1, fields=['image'], transforms={'image': fs.Resize((32768, 32768))}", "MemoryError"),
            (f"1, prefetch=1, fields=['image'], {PADDED}", "MemoryError"),
            ("4, fields=['ids'], transforms={'ids': fs.PadSequence(length=10**9)}", "MemoryError"),
            ("4, fields=['ids'], transforms={'ids': fs.PadSequence(length=2**60)}", "MemoryError"),
            ("4, fields=['ids'], transforms={'ids': fs.PadSequence(multiple_of=2**62)}", "MemoryError"),
            ("4, fields=['image'], transforms={'image': fs.Resize((60000, 60000))}", "ValueError"),
        ],
    )
    def test_impossible_sizes_are_errors(self, packed, options, expected):
        found = self.loaded(packed, options)
        assert found.startswith(expected), found
        if expected == "MemoryError":
            assert re.search(r"needs [\d.]+ [KMGTPE]iB of memory, .* \(this process may use 3.0 GiB\); ", found), found

    def test_skipping_errors_skips_none_for_want_of_memory(self, packed):
        options = "4, on_error='skip', fields=['ids'], transforms={'ids': fs.PadSequence(length=10**9)}"
        assert self.loaded(packed, options).startswith("MemoryError")

    def test_prefetched_batches_must_fit_together(self, packed):
        code = """
ds = fs.open(sys.argv[2])
ds = ds.weighted(np.ones(len(ds)), num_samples=1_000_000)
iter(fs.Loader(ds, 256, fields=['image'], prefetch=1000, transforms={'image': fs.Resize((512, 512))}))
"""
        found = in_a_process(code, packed, gigabytes=3)
        assert re.match(r"MemoryError prefetching 1000 batches of 256 needs 187.5 GiB .*smaller prefetch", found), found

    def test_batches_of_more_rows_than_memory(self, packed):
        code = """
ds = fs.open(sys.argv[2])
ds = ds.weighted(np.ones(len(ds)), num_samples=2**40)
next(iter(fs.Loader(ds, 2**30, fields=[sys.argv[3]])))
"""
        for name in ("x", "caption", "ids"):
            found = in_a_process(code, packed, name, gigabytes=3)
            assert found.startswith("MemoryError a batch of 1073741824 samples"), found

    @pytest.mark.parametrize("side", [60_000, 2**32 - 1])
    def test_sizes_that_a_manifest_declares(self, copy, side):
        def change(manifest):
            sizes = manifest["image_sizes"]["image"]
            sizes.update(min_width=side, max_width=side, min_height=side, max_height=side)

        changed(copy, change)
        found = self.loaded(copy, "4, fields=['image']")
        assert found.startswith(("MemoryError a batch of 4 samples", "ValueError field")), found
        plan = """
loader = fs.Loader(fs.open(sys.argv[2]), 4, fields=['image'], cache=fs.Cache(sys.argv[3]),
                   transforms={'image': [fs.Decode(), fs.RandomCrop(8)]})
print(loader.plan())
"""
        found = in_a_process(plan, copy, copy.parent / "cache", gigabytes=3)
        assert found.startswith(("OSError", "ValueError", "12 samples")), found

    def test_permutations_of_more_rows_than_memory(self):
        code = "from fastshard import _fastshard; _fastshard.permutation(2**40, 0, 0, 0, 2**40)"
        found = in_a_process(code)
        assert found.startswith("MemoryError a permutation of 1099511627776 rows needs 8.0 TiB"), found


@pytest.mark.parametrize("what", ["transforms", "loaders", "views"])
def test_no_number_does_harm(tmp_path, what):
    """See ``sweep.py``."""
    program = Path(__file__).with_name("sweep.py")
    command = [sys.executable, "-W", "error", str(program), str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []
