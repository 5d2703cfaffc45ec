"""Every reader notices damage: loaders, columns, views, exports. No file that changes ends the process."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fastshard as fs

VERSION_3 = Path(__file__).parent / "data/version-3"


def place(shard, column, buffer):
    """Where a buffer of a column's first block starts in the file, as pyarrow's addresses tell."""
    with pa.memory_map(str(shard)) as source:
        whole = source.read_buffer(source.size())
        chunk = pa.ipc.open_file(source).read_all().column(column).chunk(0)
        return chunk.buffers()[buffer].address - whole.address


def alter(dataset, column, buffer, at, data):
    """Overwrites bytes of the first shard: ``at`` counts from the start of the buffer."""
    shard = dataset / "shard-00000.arrow"
    start = place(shard, column, buffer) + at
    with shard.open("r+b") as file:
        file.seek(start)
        file.write(data)


def flip(dataset, column, buffer, at, bit=1):
    shard = dataset / "shard-00000.arrow"
    value = shard.read_bytes()[place(shard, column, buffer) + at]
    alter(dataset, column, buffer, at, bytes([value ^ bit]))


@pytest.fixture(scope="module")
def boxed(photo_folder, tmp_path_factory):
    """Images with boxes, texts, lists, numbers and labels."""
    path = tmp_path_factory.mktemp("integrity") / "boxed"
    names = sorted(photo_folder.rglob("*.jpg"))[:12]
    rows = [
        {
            "image": name.read_bytes(),
            "boxes": np.array([[4, 5, 20 + i, 30]], np.float32),
            "label": i % 3,
            "caption": f"photo {i}",
            "blob": bytes([i, 0]),
            "x": float(i),
            "ids": np.arange(i % 4, dtype=np.int64),
        }
        for i, name in enumerate(names)
    ]
    types = {"ids": "list[int64]", "boxes": "boxes[xyxy]"}
    fs.pack(rows, path, class_names={"label": ["a", "b", "c"]}, types=types)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of 1,000 bytes, 65 to a chunk, and labels."""
    path = tmp_path_factory.mktemp("integrity") / "table"
    rows = ({"x": np.full(250, i, np.float32), "label": i % 5} for i in range(2000))
    fs.pack(rows, path, class_names={"label": list("abcde")})
    return path


@pytest.fixture
def copy(tmp_path):
    def make(path):
        shutil.copytree(path, tmp_path / "copy")
        return tmp_path / "copy"

    return make


@pytest.mark.parametrize("own", ["_image_width", "_image_height", "_image_orientation"])
def test_sizes_and_orientations_are_covered(boxed, copy, own):
    path = copy(boxed)
    flip(path, own, 1, 0, 16 if "orientation" not in own else 2)
    dataset = fs.open(path)
    reads = [
        lambda: next(iter(fs.Loader(dataset, 4, transforms={"image": fs.Resize((32, 32))}))),
        lambda: dataset[5],
        lambda: dataset.column("label"),
        lambda: dataset.to_arrow(),
        lambda: dataset.split([0.5, 0.5], stratify="label"),
    ]
    for read in reads:
        with pytest.raises(fs.CorruptionError, match=r"shard-00000\.arrow: block 0: its index"):
            read()


@pytest.mark.parametrize(("column", "buffer"), [("image", 2), ("caption", 1), ("blob", 1), ("ids", 1), ("boxes", 1)])
def test_offsets_are_covered(boxed, copy, column, buffer):
    path = copy(boxed)
    flip(path, column, buffer, 4 * 3)
    with pytest.raises(fs.CorruptionError, match=r"shard-00000\.arrow"):
        fs.open(path).column("label")
    assert fs.open(path).verify()


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_damaged_row_of_a_table_is_named_and_no_other(table, copy, shuffle):
    path = copy(table)
    flip(path, "x", 2, 1000 * 777 + 5)
    dataset = fs.open(path)
    with pytest.raises(fs.CorruptionError, match=r"row 777 "):
        for _ in fs.Loader(dataset, 100, shuffle=shuffle):
            pass
    with pytest.raises(fs.CorruptionError, match=r"row 777 "):
        dataset.column("x")
    with pytest.raises(fs.CorruptionError, match=r"row 777 "):
        dataset.to_arrow()
    assert len(dataset.column("label")) == 2000, "other fields are sound"
    loader = fs.Loader(dataset, 100, shuffle=shuffle, on_error="skip")
    seen = np.concatenate([batch["x"][:, 0].astype(int) for batch in loader])
    assert sorted(seen) == [row for row in range(2000) if row != 777]
    assert loader.num_skipped == 1


def test_a_damaged_list_of_checksums_costs_nothing_but_time(table, copy):
    path = copy(table)
    chunks = fs.open(path).manifest["shards"][0]["chunks"]
    with (path / "shard-00000.arrow").open("r+b") as file:
        file.seek(chunks["offset"])
        file.write(b"zzzz")
    whole = np.concatenate([batch["x"].copy() for batch in fs.Loader(path, 64)])
    assert np.array_equal(whole[:, 0], np.arange(2000))
    assert np.array_equal(fs.open(path).column("x")[:, 3], np.arange(2000))
    assert [problem.row for problem in fs.open(path).verify()] == [None]


def test_unchecked_when_asked(table, copy):
    path = copy(table)
    flip(path, "x", 2, 1000 * 777 + 3, 0x40)
    rows = np.concatenate([batch["x"].copy() for batch in fs.Loader(path, 100, verify=False)])
    assert np.flatnonzero(rows[:, 0] != np.arange(2000)).tolist() == [777]


def test_labels_beside_cached_pixels(boxed, copy, tmp_path):
    path = copy(boxed)

    def labels(**options):
        steps = {"image": fs.Resize((24, 24))}
        loader = fs.Loader(path, 4, transforms=steps, fields=["image", "label"], cache=tmp_path / "cache", **options)
        return [int(label) for batch in loader for label in batch["label"]]

    right = labels()
    assert labels() == right
    flip(path, "label", 1, 8 * 2)
    with pytest.raises(fs.CorruptionError, match=r"row 2 "):
        labels()
    assert labels(on_error="skip") == right[:2] + right[3:]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("fields", [["caption"], ["caption", "x"], ["data"], ["ids"]])
def test_fields_that_vary_are_compared(tmp_path, fields, shuffle):
    """Text and bytes alone, which no worker copies, and lists; of an image dataset without reading its images."""
    rows = [
        {"caption": f"caption {n}", "data": b"data %d" % n, "ids": [n + 2**40], "x": np.full(3, n, np.float32)}
        for n in range(12)
    ]
    fs.pack(rows, tmp_path / "ds", types={"data": "bytes", "ids": "list[int64]"}, progress=False)
    needle = {"caption": b"caption 7", "data": b"data 7", "ids": (7 + 2**40).to_bytes(8, "little")}[fields[0]]
    for shard in sorted((tmp_path / "ds").glob("*.arrow")):
        if needle in (sound := shard.read_bytes()):
            shard.write_bytes(sound.replace(needle, bytes([needle[0] ^ 1]) + needle[1:]))
    with pytest.raises(fs.CorruptionError, match="checksum mismatch") as caught:
        list(fs.Loader(tmp_path / "ds", 4, fields=fields, shuffle=shuffle))
    assert caught.value.row == 7
    loader = fs.Loader(tmp_path / "ds", 4, fields=fields, shuffle=shuffle, on_error="skip")
    assert sum(len(batch[fields[0]] if fields != ["ids"] else batch["ids_offsets"][1:]) for batch in loader) == 11
    assert loader.num_skipped == 1
    list(fs.Loader(tmp_path / "ds", 4, fields=fields, shuffle=shuffle, verify=False))


def test_the_provenance_is_covered(packed, tmp_path):
    """It holds the categories that an export to COCO writes."""
    path = Path(shutil.copytree(packed, tmp_path / "ds")) / "manifest.json"
    text = path.read_text()
    manifest = json.loads(text)
    for damaged in (
        text.replace('"kind": "folder"', '"kind": "folden"'),
        json.dumps(manifest | {"provenance": {}}),
        json.dumps({key: value for key, value in manifest.items() if key != "provenance_crc32c"}),
    ):
        assert damaged != text
        path.write_text(damaged)
        with pytest.raises(fs.CorruptionError, match=r"manifest.json: altered: its provenance_crc32c is"):
            fs.open(path.parent)
    path.write_text(json.dumps(manifest, indent=None))
    assert fs.open(path.parent).manifest["provenance"] == manifest["provenance"]


def test_footers_are_for_others(tmp_path):
    """Two blocks change places in the footer: everything goes by the manifest."""
    rows = 2 * 65_536
    path = tmp_path / "ds"
    fs.pack(({"t": "cat" if i < 65_536 else "dog", "n": i} for i in range(rows)), path)
    blocks = fs.open(path).manifest["shards"][0]["blocks"]
    shard = path / "shard-00000.arrow"
    data = bytearray(shard.read_bytes())
    one, two = (data.rfind(struct.pack("<q", block["offset"])) for block in blocks)
    data[one : one + 24], data[two : two + 24] = data[two : two + 24], data[one : one + 24]
    shard.write_bytes(data)
    assert pa.ipc.open_file(str(shard)).read_all()["n"][0].as_py() == 65_536, "pyarrow sees them changed"

    dataset = fs.open(path)
    assert np.array_equal(dataset.column("n"), np.arange(rows))
    assert dataset.filter(pc.field("n") == 7).column("t").tolist() == ["cat"]
    assert dataset.to_arrow()["n"][0].as_py() == 0
    fs.export(dataset, tmp_path / "out", to="parquet")
    exported = pa.concat_tables(pa.parquet.read_table(file) for file in sorted((tmp_path / "out").glob("*.parquet")))
    assert np.array_equal(exported["n"].to_numpy(), np.arange(rows))


def test_bytes_keep_their_zeros(boxed):
    assert fs.open(boxed).column("blob").tolist() == [bytes([i, 0]) for i in range(12)]


def test_an_older_version_reads(tmp_path):
    dataset = fs.open(VERSION_3)
    assert dataset.manifest["version"] == 3
    assert dataset.verify() == []
    assert dataset.column("label").tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.column("blob").tolist() == [bytes([i, 0]) * (i % 3) for i in range(6)]
    batches = list(fs.Loader(dataset, 3, fields=["x", "t", "label"], shuffle=True))
    assert sorted(np.concatenate([batch["x"] for batch in batches])) == [
        np.float32(i) / np.float32(7) for i in range(6)
    ]
    images = next(iter(fs.Loader(dataset, 6, transforms={"image": fs.Resize((16, 16))}, fields=["image", "ids"])))
    assert images["image"].shape == (6, 16, 16, 3)
    fs.pack(dataset, tmp_path / "new")
    both = fs.concat([dataset, fs.open(tmp_path / "new")])
    assert both.column("x").tolist() == dataset.column("x").tolist() * 2
    assert fs.open(tmp_path / "new").manifest["version"] == 4
    assert both[7]["caption"] == dataset[1]["caption"]


def run(code, *args):
    """Code in a process of its own, since it might end by a signal."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


TRUNCATED = """
    import os, sys, fastshard as fs
    path, fields, verify = sys.argv[1], sys.argv[2].split(","), sys.argv[3] == "True"
    steps = {"image": [fs.Resize((32, 32))]} if "image" in fields else {}
    loader = fs.Loader(path, 4, num_threads=2, prefetch=1, transforms=steps, fields=fields, verify=verify)
    batches = iter(loader)
    next(batches)
    os.truncate(path + "/shard-00000.arrow", 4096)
    try:
        for _ in batches: pass
    except fs.CorruptionError as error:
        print(error)
    try:
        list(fs.Loader(loader.dataset, 4, fields=fields, transforms=steps))
    except fs.CorruptionError as error:
        print("again")
    try:
        loader.dataset.to_arrow().to_pylist()
    except fs.CorruptionError as error:
        print("arrow")
"""


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("fields", ["image,label", "x", "caption,ids"])
def test_a_shard_that_shrinks_is_an_error(boxed, copy, fields, verify):
    done = run(TRUNCATED, copy(boxed), fields, verify)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert "shard-00000.arrow: truncated to 4096 of" in first
    assert rest == ["again", "arrow"]


def test_a_table_that_shrinks_is_an_error(table, copy):
    done = run(TRUNCATED, copy(table), "x,label", True)
    assert done.returncode == 0, done.stderr
    assert "truncated to 4096 of" in done.stdout


RESET = """
    import os, signal, sys, fastshard as fs
    loader = fs.Loader(sys.argv[1], 4, prefetch=1, transforms={{"image": fs.Resize((32, 32))}})
    list(loader)
    # As Lightning's Trainer does after each fit; Python knows no handlers but its own.
    signal.signal(signal.SIGBUS, signal.getsignal(signal.SIGBUS))
    os.truncate(sys.argv[1] + "/shard-00000.arrow", 4096)
    try:
        {read}
    except fs.CorruptionError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "read", ["list(loader)", "loader.dataset[1]", "loader.dataset.to_arrow().to_pylist(), list(loader)"]
)
def test_the_guard_survives_handlers_that_are_put_back(boxed, copy, read):
    done = run(RESET.format(read=read), copy(boxed))
    assert done.returncode == 0, done.stderr
    assert "shard-00000.arrow: truncated to 4096 of" in done.stdout


ALTERED = """
    import struct, sys, fastshard as fs
    path, start, value, what = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
    dataset = fs.open(path)
    right = dataset[0]["caption"]
    with open(path + "/shard-00000.arrow", "r+b") as file:
        file.seek(start)
        file.write(struct.pack("<i", value) * 8)
    if what == "rows":
        print([dataset[row]["caption"] for row in range(len(dataset))] == ["photo %d" % i for i in range(12)])
    elif what == "arrow":
        print(dataset.to_arrow()["caption"].to_pylist() == ["photo %d" % i for i in range(12)])
    else:
        print(len(dataset.verify()) > 0)
"""


@pytest.mark.parametrize("value", [2**31 - 1, -5])
@pytest.mark.parametrize("what", ["rows", "arrow", "verify"])
@pytest.mark.parametrize(("column", "buffer"), [("image", 2), ("caption", 1), ("ids", 1)])
def test_offsets_that_change_while_open_lead_nowhere(boxed, copy, column, buffer, value, what):
    path = copy(boxed)
    start = place(path / "shard-00000.arrow", column, buffer) + 4
    done = run(ALTERED, path, start, value, what)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


HOSTILE = """
    import sys, fastshard as fs
    import pyarrow.compute as pc
    dataset = fs.open(sys.argv[1])
    reads = {
        "row": lambda: dataset[3],
        "loader": lambda: list(fs.Loader(dataset, 4, fields=["caption", "ids"])),
        "arrow": lambda: dataset.to_arrow().to_pylist(),
        "column": lambda: dataset.column("caption"),
        "lists": lambda: [len(one) for one in dataset.column("ids")],
        "stratify": lambda: dataset.split([0.5, 0.5], stratify="caption"),
        "group": lambda: dataset.split([0.5, 0.5], group="caption"),
        "where": lambda: dataset.where(caption="x"),
        "filter": lambda: dataset.filter(pc.field("caption") == "x"),
        "export": lambda: fs.export(dataset, sys.argv[1] + ".out", to="parquet"),
        "pack": lambda: fs.pack(dataset, sys.argv[1] + ".again"),
    }
    for name, read in reads.items():
        try:
            read()
        except fs.CorruptionError as error:
            assert "shard-00000.arrow" in str(error), error
        else:
            print(name, "passed")
"""


@pytest.mark.parametrize(("column", "buffer"), [("caption", 1), ("ids", 1)])
def test_offsets_out_of_their_buffer_reach_nobody(boxed, copy, column, buffer):
    path = copy(boxed)
    alter(path, column, buffer, 4 * 3, struct.pack("<ii", 2**31 - 1, 2**30))
    done = run(HOSTILE, path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("reset", [False, True])
def test_the_guard_leaves_other_faults_alone(boxed, reset):
    """A SIGBUS outside of a mapped shard still ends the process by SIGBUS."""
    code = """
        import mmap, os, signal, sys, tempfile, fastshard as fs
        for _ in range(2):
            list(fs.Loader(sys.argv[1], 4, fields=["x"]))
            if sys.argv[2] == "True":
                signal.signal(signal.SIGBUS, signal.SIG_DFL)
        with tempfile.TemporaryFile() as file:
            file.truncate(1 << 16)
            view = mmap.mmap(file.fileno(), 1 << 16)
            file.truncate(0)
            print(view[5000])
    """
    assert run(code, boxed, reset).returncode == -7


def test_mappings_come_and_go(boxed):
    open_files = Path("/proc/self/fd")
    before = len(list(open_files.iterdir()))
    for _ in range(50):
        assert len(fs.open(boxed).column("x")) == 12
    assert len(list(open_files.iterdir())) <= before + 1


def test_errors_say_where_in_attributes(packed, tmp_path):
    """For programs, which should not take messages apart."""
    path = Path(shutil.copytree(packed, tmp_path / "ds"))
    shard = path / "shard-00000.arrow"
    sound = shard.read_bytes()
    dataset = fs.open(path)
    bytes_of_row, source = dataset.encoded(5)
    at = sound.index(bytes_of_row)
    shard.write_bytes(sound[: at + 30] + bytes([sound[at + 30] ^ 1]) + sound[at + 31 :])
    with pytest.raises(fs.CorruptionError) as caught:
        list(fs.Loader(path, 8, transforms={"image": fs.Resize((8, 8))}))
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.path, error.shard, error.row, error.source) == (str(shard), shard.name, 5, source)
    assert error.reason.startswith("checksum mismatch")
    assert error.field is None

    shard.write_bytes(sound[:-1])
    with pytest.raises(fs.CorruptionError) as caught:
        fs.open(path)
    assert (caught.value.path, caught.value.row) == (str(shard), None)

    shard.write_bytes(sound)
    palette = [fs.Decode("P"), fs.Resize((8, 8))]
    with pytest.raises(fs.DecodeError) as caught:
        list(fs.Loader(fs.open(path)[5:6], 1, transforms={"image": palette}))
    assert (caught.value.shard, caught.value.row, caught.value.source) == (shard.name, 5, source)
    assert caught.value.reason in str(caught.value)
