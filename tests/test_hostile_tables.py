"""Arrow and Parquet files of strangers: damage is an error that names the file, in little memory, and no signal."""

import json
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastshard as fs
from fastshard._sources.tables.arrow_file import arrow_batches, arrow_schema
from fastshard._sources.tables.table_rows import plain, rows_within

TABLE = pa.table(
    {
        "t": ["aaaa", "bbbb", "cccc"],
        "b": pa.array([b"xxxx", b"yyyy", b"zzzz"]),
        "l": pa.array([[1, 2], [3], [4, 5, 6]], pa.list_(pa.int64())),
        "d": pa.array(["red", "blue", "red"]).dictionary_encode(),
        "n": [1, 2, 3],
    }
)
WRITERS = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}


def write(path, table, form="file", compression=None):
    with WRITERS[form](str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as sink:
        sink.write_table(table)
    return path


PACK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import fastshard as fs
for path in sys.argv[2:]:
    try:
        fs.pack(path, sys.argv[1], overwrite=True, progress=False)
    except fs.SourceError as error:
        print(str(error)[:300].replace(chr(10), " "))
    else:
        print("packed")
# Other than getrusage, this counts nothing of the process that started this one.
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def pack_elsewhere(target, *paths):
    """What packing each of some files says in a process of its own, and its peak in MB."""
    arguments = [sys.executable, "-c", PACK, str(target), *map(str, paths)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.splitlines()
    return said, int(peak)


def test_offsets_that_lead_out_of_a_buffer(tmp_path):
    paths = []
    for column in ("t", "b", "l"):
        for values in ((4, 2**31 - 1), (4, 300_004), (2**31 - 1, 8), (-100, 8)):
            path = write(tmp_path / f"{len(paths)}.arrow", TABLE.select([column, "n"]))
            data = bytearray(path.read_bytes())
            start = data.index(TABLE.column(column).chunk(0).buffers()[1].to_pybytes()[:16])
            data[start + 4 : start + 12] = struct.pack("<ii", *values)
            path.write_bytes(data)
            paths.append(path)
    said, _ = pack_elsewhere(tmp_path / "ds", *paths)
    for path, text in zip(paths, said, strict=True):
        assert text.startswith(f"{path}: rows from 1 on: damaged: "), text


def test_indices_that_lead_out_of_a_dictionary(tmp_path):
    path = write(tmp_path / "x.arrow", TABLE.select(["d"]))
    data = bytearray(path.read_bytes())
    at = data.rindex(struct.pack("<iii", 0, 1, 0))
    data[at : at + 4] = struct.pack("<i", 1_000_000)
    path.write_bytes(data)
    said, _ = pack_elsewhere(tmp_path / "ds", path)
    assert said[0].startswith(f"{path}: rows from 1 on: damaged: ")


def test_tables_in_memory(tmp_path):
    offsets = pa.py_buffer(struct.pack("<iii", 0, 1_000_000, 8))
    broken = pa.Array.from_buffers(pa.binary(), 2, [None, offsets, pa.py_buffer(b"abcdefgh")])
    for table in (pa.table({"b": broken}), pa.record_batch({"b": broken})):
        with pytest.raises(fs.SourceError, match="the pyarrow table: rows from 1 on: damaged"):
            fs.pack(table, tmp_path / "ds")


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_both_formats(form, compression, tmp_path):
    path = write(tmp_path / "x.arrow", TABLE, form, compression)
    assert arrow_schema(str(path)) == TABLE.schema
    assert pa.Table.from_batches(arrow_batches(str(path))).equals(TABLE)


@pytest.mark.parametrize("form", WRITERS)
def test_buffers_that_declare_to_be_large(form, tmp_path):
    paths = []
    for declared in (2**30 + 1, 2**40, 2**62):
        path = write(tmp_path / f"{declared}.arrow", pa.table({"x": np.zeros(100_000)}), form, "zstd")
        data = bytearray(path.read_bytes())
        at = data.rindex(struct.pack("<q", 800_000))
        data[at : at + 8] = struct.pack("<q", declared)
        path.write_bytes(data)
        paths.append(path)
    said, peak = pack_elsewhere(tmp_path / "ds", *paths)
    assert all("declare to hold" in text and text.startswith(str(path)) for path, text in zip(paths, said, strict=True))
    assert peak < 500


def mutations(data, count, seed):
    """Copies with a few bytes, lengths or offsets changed, or the end cut off."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(random.integers(1, 5)):
            at = int(random.integers(0, len(copy) - 8))
            number = int(random.choice([0, 1, -1, 100, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63)]))
            match random.integers(4):
                case 0:
                    copy[at] ^= 1 << random.integers(8)
                case 1:
                    copy[at & ~3 : (at & ~3) + 4] = struct.pack("<q", number)[:4]
                case 2:
                    copy[at & ~7 : (at & ~7) + 8] = struct.pack("<q", number)
                case 3 if random.random() < 0.2:
                    copy = copy[: max(at, 16)]
        yield bytes(copy)


@pytest.mark.parametrize("form", [*WRITERS, "parquet"])
def test_damage_is_never_a_signal(form, tmp_path):
    path = tmp_path / "whole.arrow"
    if form == "parquet":
        pq.write_table(TABLE, path)
    else:
        write(path, TABLE, form, "lz4")
    paths = []
    for at, data in enumerate(mutations(path.read_bytes(), 60, 7)):
        paths.append(tmp_path / f"{at}.{'parquet' if form == 'parquet' else 'arrow'}")
        paths[-1].write_bytes(data)
    said, peak = pack_elsewhere(tmp_path / "ds", *paths)
    assert len(said) == len(paths)
    assert said.count("packed") < len(said)
    assert peak < 1000


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path):
    table = pa.table({"x": np.arange(1_000_000)})
    path = tmp_path / "x.arrow"
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=100_000)
    batches = arrow_batches(str(path))
    first = next(batches)
    path.write_bytes(path.read_bytes()[:1_000_000])
    assert first.column("x")[-1].as_py() == 99_999
    with pytest.raises((pa.ArrowInvalid, OSError)):
        list(batches)


CHUNKS = """
import sys
import pyarrow as pa
from fastshard._sources.tables.table_files import file_parts
from fastshard._sources.tables.table import Columns, TableSource
source = TableSource(file_parts([sys.argv[1]], True), Columns(), 256 << 20, "table")
print(max(map(len, source.chunks())), pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_dictionary_of_long_texts_takes_little_memory(form, tmp_path):
    """Of 300 MB as plain text, in a file of 1 MB."""
    texts = pa.array([f"{at} " + "lorem ipsum " * 8333 for at in range(8)])
    table = pa.table({"prompt": pa.DictionaryArray.from_arrays(pa.array(np.arange(3000) % 8, pa.int32()), texts)})
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        pq.write_table(table, path, store_schema=False)
    else:
        write(path, table)
    done = subprocess.run([sys.executable, "-c", CHUNKS, str(path)], capture_output=True, text=True, check=True)
    largest, peak = map(int, done.stdout.split())
    assert largest < 40 << 20
    assert peak < 160 << 20
    fs.pack(table.slice(0, 20), tmp_path / "ds")
    assert [fs.open(tmp_path / "ds")[row]["prompt"] for row in (0, 19)] == [texts[0].as_py(), texts[3].as_py()]


def test_images_in_a_dictionary(photo_folder, tmp_path):
    files = [path.read_bytes() for path in sorted(photo_folder.rglob("*.jpg"))[:2]]
    column = pa.StructArray.from_arrays([pa.array(files * 500), pa.array(["a.jpg", "b.jpg"] * 500)], ["bytes", "path"])
    info = {"info": {"features": {"image": {"_type": "Image"}}}}
    table = pa.table({"image": column}).replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, tmp_path / "t.parquet")
    fs.pack(tmp_path / "t.parquet", tmp_path / "ds", seekable=False)
    ds = fs.open(tmp_path / "ds")
    assert ds.field("image").type == "image"
    assert [ds.encoded(row) for row in (0, 1, 999)] == [(files[0], "a.jpg"), (files[1], "b.jpg"), (files[1], "b.jpg")]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.large_string()])
def test_rows_are_cut_by_what_they_decode_to(kind):
    texts = ["a" * 1000, None, "b" * 50]
    column = pa.array([texts[at % 3] for at in range(30)], kind)
    columns = [column, column.slice(0, 30)]
    if kind == pa.string():
        columns = [column.dictionary_encode(), pa.StructArray.from_arrays([column.dictionary_encode()], ["bytes"])]
    ranges = rows_within(pa.record_batch(columns, ["x", "y"]), 10_000)
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == 30
    assert 2 <= len(ranges) <= 5
    if kind == pa.string():
        assert plain(columns[0]).to_pylist() == column.to_pylist()


def test_wide_tables_take_no_time_of_their_own(tmp_path):
    names = [f"gene{at}" for at in range(20_000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    fs.pack(tmp_path / "t.csv", tmp_path / "ds", features=names)
    assert fs.open(tmp_path / "ds").column("features").shape == (1, 20_000)
    (tmp_path / "t.csv").write_text(",".join([*names, "gene5"]) + "\n")
    with pytest.raises(fs.SourceError, match="several columns are named 'gene5'"):
        fs.pack(tmp_path / "t.csv", tmp_path / "ds", overwrite=True)
