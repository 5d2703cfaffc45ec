"""The shards as others see them: what FORMAT.md promises, checked with pyarrow, polars, DuckDB and datasets."""

import io
import json
import struct

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

import fastshard as fs


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C bit by bit, as RFC 3720 defines it: polynomial 0x1EDC6F41, reflected. The twin of the fast one."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def variable(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def fixed(value, dtype) -> bytes:
    return np.asarray(value, np.dtype(dtype).newbyteorder("<")).tobytes()


def row_bytes(row, fields) -> bytes:
    """What the checksum of a row covers, by FORMAT.md."""
    parts = []
    for field in fields:
        value, kind = row[field["name"]], field["type"]
        if kind == "image":
            parts += [variable(value["bytes"]), variable(value["path"].encode())]
        elif kind == "text":
            parts.append(variable(value.encode()))
        elif kind == "bytes":
            parts.append(variable(value))
        else:
            parts.append(fixed(value, "int64" if kind == "class" else field["dtype"]))
    return b"".join(parts)


def reader(shard):
    return pa.ipc.open_file(pa.memory_map(str(shard)))


def tables(path):
    return pa.concat_tables(reader(shard).read_all() for shard in sorted(path.glob("*.arrow")))


def pil(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    """A small dataset with a field of every kind."""
    path = tmp_path_factory.mktemp("format") / "mixed"
    random = np.random.default_rng(0)

    def image(kind, i):
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photos["coffee"][i : i + 12, i : i + 9])).save(file, kind)
        return file.getvalue()

    samples = (
        {
            "image": image(("JPEG", "PNG", "WEBP")[i % 3], i),
            "label": i % 2,
            "hot": random.random(3).astype(np.float32),
            "grid": random.integers(-99, 99, (2, 2), dtype=np.int16),
            "flags": random.random(5) > 0.5,
            "half": np.float16(i),
            "flag": i % 3 == 0,
            "count": i - 5,
            "small": np.uint8(i),
            "text": "é猫" * (i % 4),
            "blob": bytes(range(i)),
        }
        for i in range(13)
    )
    fs.pack(samples, path, class_names={"label": ["cat", "dog"]})
    return path


@pytest.fixture(scope="module")
def raw(photo_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("format") / "raw"
    fs.pack(photo_folder, path, resize=(16, 24), encode="raw")
    return path


def test_the_slow_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("name", ["mixed", "raw", "packed"])
def test_row_checksums(name, request):
    path = request.getfixturevalue(name)
    fields = json.loads((path / "manifest.json").read_text())["fields"]
    rows = tables(path).to_pylist()[: 40 if name != "packed" else 2]
    assert len(rows) > 1
    for row in rows:
        assert row["_crc32c"] == crc32c(row_bytes(row, fields))


@pytest.mark.parametrize("name", ["mixed", "raw", "packed"])
def test_blocks_lie_where_the_manifest_says(name, request):
    path = request.getfixturevalue(name)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("fastshard", 4)
    assert manifest["rows"] == sum(shard["rows"] for shard in manifest["shards"])
    for shard in manifest["shards"]:
        data = (path / shard["file"]).read_bytes()
        assert shard["bytes"] == len(data)
        assert shard["rows"] == sum(block["rows"] for block in shard["blocks"])
        opened = reader(path / shard["file"])
        assert len(shard["blocks"]) == opened.num_record_batches
        for i, block in enumerate(shard["blocks"]):
            message = data[block["offset"] :][: block["metadata_bytes"] + block["body_bytes"]]
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), opened.schema)
            assert batch.equals(opened.get_batch(i))
            assert batch.num_rows == block["rows"]
            index = message[: block["metadata_bytes"]] + fixed(batch["_crc32c"].to_pylist(), "uint32")
            index += struct.pack("<I", crc32c(index_buffers(batch)))
            assert block["index_crc32c"] == crc32c(index)


def index_buffers(batch) -> bytes:
    """All offsets, and all values of fastshard's own columns except the rows' checksums."""
    return b"".join(
        part
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        for part in own_parts(plain(column), name.startswith("_") and name != "_crc32c")
    )


def own_parts(array, own):
    kind = array.type
    if pa.types.is_struct(kind):
        return [part for child in array.flatten() for part in own_parts(child, own)]
    if pa.types.is_fixed_size_list(kind):
        return own_parts(array.flatten(), own)
    if not (pa.types.is_list(kind) or pa.types.is_binary(kind) or pa.types.is_string(kind)):
        return [fixed(array.to_numpy(zero_copy_only=False), array.type.to_pandas_dtype())] if own else []
    offsets = bytes(array.buffers()[1])[: 4 * (len(array) + 1)]
    if pa.types.is_list(kind):
        return [offsets, *own_parts(array.values, own)]
    values = array.buffers()[2]
    return [offsets, bytes(values)[: struct.unpack("<i", offsets[-4:])[0]]] if own and values else [offsets]


@pytest.mark.parametrize("name", ["mixed", "raw", "packed"])
def test_checksums_by_the_chunk(name, request):
    path = request.getfixturevalue(name)
    for shard in json.loads((path / "manifest.json").read_text())["shards"]:
        data, chunks = (path / shard["file"]).read_bytes(), shard["chunks"]
        last = shard["blocks"][-1]
        assert chunks["covered"] >= last["offset"] + last["metadata_bytes"] + last["body_bytes"]
        text = data[chunks["offset"] :][: chunks["bytes"]]
        assert chunks["crc32c"] == crc32c(text)
        footer = reader(path / shard["file"])
        assert len(text) == 8 * -(-chunks["covered"] // 65536)
        assert footer.num_record_batches == len(shard["blocks"])
        for number, at in enumerate(range(0, chunks["covered"], 65536)):
            chunk = data[at : min(at + 65536, chunks["covered"])]
            assert int(text[8 * number : 8 * number + 8], 16) == fs._fastshard.crc32c(chunk)


@pytest.mark.parametrize("name", ["mixed", "raw", "packed"])
def test_pyarrow_maps_without_a_copy_and_aligned(name, request):
    path = request.getfixturevalue(name)
    for shard in path.glob("*.arrow"):
        with pa.memory_map(str(shard)) as source:
            whole = source.read_buffer(source.size())
            before = pa.total_allocated_bytes()
            table = pa.ipc.open_file(source).read_all()
            buffers = [
                buffer
                for column in table.columns
                for chunk in column.chunks
                for buffer in plain(chunk).buffers()
                if buffer is not None and buffer.size
            ]
            assert pa.total_allocated_bytes() - before < whole.size / 20
            assert len(buffers) > 4
            for buffer in buffers:
                assert whole.address <= buffer.address
                assert buffer.address + buffer.size <= whole.address + whole.size
                assert (buffer.address - whole.address) % 64 == 0


def plain(chunk):
    return chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk


def test_types_of_columns(mixed):
    schema = reader(next(mixed.glob("*.arrow"))).schema
    binary, image = pa.binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {name: plain_type(schema.field(name).type) for name in schema.names}
    assert types["image"] == image
    assert types["label"] == pa.int64()
    assert types["flag"] == pa.uint8()
    assert (types["half"], types["count"], types["small"]) == (pa.float16(), pa.int64(), pa.uint8())
    assert (types["text"], types["blob"]) == (pa.string(), binary)
    for name, (item, size) in {"hot": ("float32", 3), "grid": ("int16", 4), "flags": ("uint8", 5)}.items():
        assert (types[name].list_size, types[name].value_type) == (size, pa.type_for_alias(item))
    own = ["_image_width", "_image_height", "_image_orientation", "_image_tiles", "_crc32c"]
    assert schema.names[-5:] == own
    sizes = [pa.uint32(), pa.uint32(), pa.uint8(), pa.list_(pa.uint32()), pa.uint32()]
    assert [types[name] for name in own] == sizes
    assert json.loads(schema.metadata[b"fastshard"]) == {"version": 4}


def plain_type(kind):
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def test_tensors_are_arrows_own(mixed):
    table = tables(mixed)
    assert isinstance(table.schema.field("grid").type, pa.FixedShapeTensorType)
    grids = table["grid"].combine_chunks().to_numpy_ndarray()
    assert grids.shape == (13, 2, 2)
    np.testing.assert_array_equal(grids, fs.open(mixed).column("grid"))


def test_sizes_of_images(packed):
    for row in tables(packed).to_pylist():
        height, width, _ = pil(row["image"]["bytes"]).shape
        assert (row["_image_width"], row["_image_height"], row["_image_orientation"]) == (width, height, 1)


def test_equal_content_has_an_equal_fingerprint(packed, photo_folder, tmp_path):
    fs.pack(photo_folder, tmp_path / "again")
    fs.pack(photo_folder, tmp_path / "other", seed=1)
    assert fs.open(tmp_path / "again").fingerprint == fs.open(packed).fingerprint
    assert fs.open(tmp_path / "other").fingerprint != fs.open(packed).fingerprint


def test_pyarrow_gives_the_files(kept, photo_folder):
    rows = tables(kept).to_pylist()
    assert len(rows) == 40
    for row in rows:
        assert row["image"]["bytes"] == (photo_folder / row["image"]["path"]).read_bytes()
    dataset = fs.open(kept)
    np.testing.assert_array_equal(dataset[7]["image"], pil(rows[7]["image"]["bytes"]))


def test_polars(kept, photo_folder):
    frame = pl.read_ipc(kept / "*.arrow")
    assert frame.height == 40
    counts = frame.group_by("label").len().sort("label")["len"].to_list()
    assert counts == [8] * 5
    image = frame["image"][3]
    assert image["bytes"] == (photo_folder / image["path"]).read_bytes()
    np.testing.assert_array_equal(pil(image["bytes"]), fs.open(kept)[3]["image"])


def test_polars_scans(packed):
    wide = pl.scan_ipc(packed / "*.arrow").filter(pl.col("_image_width") > 200).select(pl.len()).collect().item()
    assert wide == sum(sample["image"].shape[1] > 200 for sample in fs.open(packed))


def test_duckdb(packed):
    shards = tables(packed)  # DuckDB finds it by its name
    assert shards.num_rows == 40
    found = duckdb.sql(
        "SELECT image.bytes, image.path, label FROM shards WHERE label = 3 ORDER BY image.path"
    ).fetchall()
    assert [path for _, path, _ in found] == [f"dahlia/{i}.jpg" for i in range(8)]
    dataset = fs.open(packed)
    pixels = {dataset.encoded(i)[1]: dataset[i]["image"] for i in range(40)}
    for data, path, label in found:
        assert dataset.class_names[label] == "dahlia"
        np.testing.assert_array_equal(pil(data), pixels[path])


def test_duckdb_and_fields_of_every_kind(mixed):
    shards = tables(mixed).drop_columns(["half"])  # DuckDB has no 16-bit floats
    rows = duckdb.sql("SELECT text, count, hot[1] FROM shards WHERE flag = 1").fetchall()
    dataset = fs.open(mixed)
    assert rows == [(s["text"], s["count"], pytest.approx(float(s["hot"][0]))) for s in dataset if s["flag"]]
    assert shards.num_rows == 13


@pytest.fixture
def hf(tmp_path, monkeypatch):
    """The package ``datasets``, which is offline and caches in a folder of the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return datasets


@pytest.mark.parametrize("open_", ["load_dataset", "to_hf"])
def test_hugging_face(packed, photo_folder, hf, tmp_path, open_):
    if open_ == "to_hf":
        dataset = fs.open(packed).to_hf()
        assert dataset.column_names == ["image", "label"]
    else:
        shards = sorted(map(str, packed.glob("*.arrow")))
        dataset = hf.load_dataset("arrow", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(dataset) == 40
    assert isinstance(dataset.features["image"], hf.Image)
    assert dataset.features["label"].names == sorted(path.name for path in photo_folder.iterdir())
    ours = fs.open(packed)
    for i in (0, 17, 39):
        row = dataset[i]
        np.testing.assert_array_equal(np.asarray(row["image"]), ours[i]["image"])
        assert row["label"] == ours[i]["label"]
        assert dataset.features["label"].int2str(row["label"]) == ours.encoded(i)[1].split("/")[0]


def test_hugging_face_and_fields_of_every_kind(mixed, hf):
    dataset = fs.open(mixed).to_hf()
    for row, sample in zip(dataset, fs.open(mixed), strict=True):
        np.testing.assert_array_equal(row["image"], sample["image"])
        np.testing.assert_array_equal(row["grid"], sample["grid"])
        np.testing.assert_array_equal(row["hot"], sample["hot"])
        assert (row["text"], row["blob"], row["count"]) == (sample["text"], sample["blob"], sample["count"])


def test_to_hf_of_a_view(packed, hf):
    dataset = fs.open(packed)
    assert dataset[30:35].to_hf()["label"] == dataset.column("label")[30:35].tolist()
    assert dataset[[3, 1]].to_hf()["label"] == dataset.column("label")[[3, 1]].tolist()


def test_a_shard_that_another_program_wrote_again_keeps_its_checksums(packed, tmp_path):
    table = tables(packed)
    with pa.ipc.new_stream(tmp_path / "again.arrows", table.schema) as writer:
        writer.write_table(table)
    again = pa.ipc.open_stream(tmp_path / "again.arrows").read_all()
    fields = json.loads((packed / "manifest.json").read_text())["fields"]
    row = again.to_pylist()[5]
    assert row["_crc32c"] == crc32c(row_bytes(row, fields))
