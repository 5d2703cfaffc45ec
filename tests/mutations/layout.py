"""Where the parts of a shard are, and every checksum of the format computed anew: the twin of FORMAT.md.

A new version of the format changes this file, and no other file of the harness.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastshard._fastshard import crc32c

from .blake3 import blake3

__all__ = ["Layout", "Region", "read_layout", "refit", "refit_manifest"]

CRC = "_crc32c"
# From this version on, checksums cover offsets, fastshard's own columns and, by the chunk, values.
COVERS_ALL = 4
CHUNK = 1 << 16


@dataclass(frozen=True)
class Region:
    """A buffer, or another part, of a shard."""

    column: str  # "" outside of the record batches' buffers
    block: int
    role: str  # "offsets", "values", "validity", "message", "footer" or "schema"
    start: int
    length: int
    width: int = 1  # bytes of one item


@dataclass(frozen=True)
class Layout:
    """A shard's regions, and of each block the Arrow type and the buffers of each column."""

    regions: list[Region]
    blocks: list[dict[str, tuple[pa.DataType, list[Region]]]]

    def unchecked(self, size: int, version: int, trusted: str) -> np.ndarray:
        """Which bytes of the shard may be wrong without an error, where a reader trusts ``values``, ``files`` or "".

        Since version 4 nobody trusts values; ``to_arrow`` alone does not read the files of images and audio.
        """
        found = np.zeros(size, bool)
        files = {name for block in self.blocks for name, (kind, _) in block.items() if pa.types.is_struct(kind)}
        for region in self.regions:
            internal = region.column.startswith("_") and region.column != CRC
            of_fields = region.column and not region.column.startswith("_")
            if version >= COVERS_ALL:
                may = trusted == "files" and region.column in files and region.role == "values"
            else:
                may = internal or (of_fields and trusted)
            if may:
                found[region.start : region.start + region.length] = True
        return found


def read_layout(shard: Path, entry: dict) -> Layout:
    """The layout of a sound shard; ``entry`` is what the manifest says of it."""
    source = pa.memory_map(str(shard))
    first = source.read_buffer(source.size()).address
    reader = pa.ipc.open_file(source)
    blocks, regions = [], []
    for number, block in enumerate(entry["blocks"]):
        batch, columns = reader.get_batch(number), {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            buffers = zip(column.buffers(), _roles(column.type), strict=True)
            columns[name] = (
                column.type,
                [
                    Region(name, number, role, buffer.address - first if buffer else 0, buffer.size if buffer else 0, w)
                    for buffer, (role, w) in buffers
                ],
            )
            regions += [region for region in columns[name][1] if region.length]
        regions.append(Region("", number, "message", block["offset"], block["metadata_bytes"], 4))
        blocks.append(columns)
    end = max((block["offset"] + block["metadata_bytes"] + block["body_bytes"] for block in entry["blocks"]), default=8)
    begin = min((block["offset"] for block in entry["blocks"]), default=8)
    regions.append(Region("", -1, "footer", end, source.size() - end, 4))
    regions.append(Region("", -1, "schema", 0, begin, 4))
    return Layout(regions, blocks)


def _roles(kind: pa.DataType) -> list[tuple[str, int]]:
    """The buffers of a column, in pyarrow's order, each with the bytes of one item."""
    if isinstance(kind, pa.BaseExtensionType):
        return _roles(kind.storage_type)
    if pa.types.is_struct(kind):
        return [("validity", 1), *(role for child in kind for role in _roles(child.type))]
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return [("validity", 1), ("offsets", 4), ("values", 1)]
    if pa.types.is_fixed_size_list(kind):
        return [("validity", 1), *_roles(kind.value_type)]
    if pa.types.is_list(kind):
        return [("validity", 1), ("offsets", 4), *_roles(kind.value_type)]
    return [("validity", 1), ("values", kind.bit_width // 8)]


def refit(
    files: dict[str, bytes], layouts: dict[str, Layout], rows: bool = True, sound: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """The dataset with all checksums made to fit the bytes that are there; with ``rows`` those of the rows, too.

    Files that are still as in ``sound`` keep theirs. So do rows that can't be read, as offsets lead out of their
    buffers.
    """
    files = dict(files)
    manifest = json.loads(files["manifest.json"])
    for entry in manifest["shards"]:
        if sound is not None and files[entry["file"]] == sound[entry["file"]]:
            continue
        data = bytearray(files[entry["file"]])
        layout = layouts[entry["file"]]
        for block, columns in zip(entry["blocks"], layout.blocks, strict=False):
            if rows:
                _refit_rows(data, columns)
            block.update(_block_checksums(data, block, columns, manifest["version"]))
        if "chunks" in entry:
            _refit_chunks(data, entry["chunks"])
        files[entry["file"]] = bytes(data)
        entry["bytes"], entry["blake3"] = len(data), blake3(bytes(data))
    files["manifest.json"] = refit_manifest(manifest)
    return files


def refit_manifest(manifest: dict) -> bytes:
    """The text of a manifest whose fingerprint and checksum of the provenance fit its content."""
    keys = ("version", "rows", "fields", "source_paths", "image_sizes", "shards")
    content = [manifest.get(key) for key in keys]
    content += [manifest[key] for key in ("audio_ranges", "statistics") if manifest.get(key)]
    fitting = {"fingerprint": blake3(_compact(content))}
    if "provenance_crc32c" in manifest:
        fitting["provenance_crc32c"] = crc32c(_compact(manifest.get("provenance")))
    return json.dumps(manifest | fitting, ensure_ascii=False).encode(errors="surrogatepass")


def _compact(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def _block_checksums(data: bytearray, block: dict, columns: dict, version: int) -> dict[str, int]:
    """The checksums that the manifest holds of a block."""
    rows = block["rows"]
    covered = data[block["offset"] : block["offset"] + block["metadata_bytes"]]
    (_, crcs) = columns[CRC][1]
    covered += data[crcs.start : crcs.start + 4 * rows]
    if version >= COVERS_ALL:
        index = b"".join(part for name, column in columns.items() for part in _index_buffers(data, name, column, rows))
        covered += crc32c(index).to_bytes(4, "little")
    return {"index_crc32c": crc32c(bytes(covered))}


def _index_buffers(data: bytearray, name: str, column: tuple[pa.DataType, list[Region]], rows: int) -> list[bytes]:
    """Offsets of a column, and values of fastshard's own, each without padding."""
    found, items = [], rows
    for region in column[1]:
        if region.role == "offsets":
            found.append(bytes(data[region.start : region.start + 4 * (rows + 1)]))
            # A list may have elements that are in no row, and they count; bytes behind a text's last row don't.
            last = int.from_bytes(found[-1][-4:], "little", signed=True)
            items = column[1][-1].length // column[1][-1].width if pa.types.is_list(column[0]) else last
        elif region.role == "values" and name.startswith("_") and name != CRC:
            length = max(0, min(items * region.width, region.length))
            found.append(bytes(data[region.start : region.start + length]))
    return found


def _refit_chunks(data: bytearray, chunks: dict) -> None:
    """Lists the checksum of each chunk of the file anew, where the list is."""
    starts = range(0, chunks["covered"], CHUNK)
    listed = [crc32c(bytes(data[start : min(start + CHUNK, chunks["covered"])])) for start in starts]
    text = "".join(f"{one:08x}" for one in listed).encode()
    if chunks["offset"] + len(text) <= len(data) and len(text) == chunks["bytes"]:
        data[chunks["offset"] : chunks["offset"] + len(text)] = text
    chunks["crc32c"] = crc32c(text)


def _refit_rows(data: bytearray, columns: dict) -> None:
    """Computes the checksum of each row of a block from its fields, in order."""
    (_, crcs) = columns[CRC][1]
    fields = [column for name, column in columns.items() if not name.startswith("_")]
    for row in range(crcs.length // 4):
        values = [_value(data, kind, iter(regions), row) for kind, regions in fields]
        if all(value is not None for value in values) and crcs.start + 4 * row + 4 <= len(data):
            struct.pack_into("<I", data, crcs.start + 4 * row, crc32c(b"".join(values)))


def _value(data: bytearray, kind: pa.DataType, regions, row: int) -> bytes | None:
    """What a row's checksum covers of one column; None where offsets lead out of the values."""
    next(regions)  # validity
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind):
        parts = [_value(data, child.type, regions, row) for child in kind]
        return None if None in parts else b"".join(parts)
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return _between(data, next(regions), next(regions), 1, row)
    if pa.types.is_list(kind):
        offsets, items = next(regions), kind.value_type
        if pa.types.is_fixed_size_list(items):
            next(regions)
        return _between(data, offsets, list(regions)[-1], _width(items), row)
    if pa.types.is_fixed_size_list(kind):
        next(regions)
    values, width = next(regions), _width(kind)
    return bytes(data[values.start + row * width : values.start + (row + 1) * width])


def _width(kind: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * _width(kind.value_type)
    return kind.bit_width // 8


def _between(data: bytearray, offsets: Region, values: Region, width: int, row: int) -> bytes | None:
    place = offsets.start + 4 * row
    if place + 8 > len(data):
        return None
    start, end = struct.unpack_from("<ii", data, place)
    if not 0 <= start <= end or end * width > values.length:
        return None
    found = bytes(data[values.start + start * width : values.start + end * width])
    return len(found).to_bytes(8, "little") + found
