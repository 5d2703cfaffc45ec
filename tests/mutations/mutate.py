"""Damage: what disks and copies do by accident, the same with checksums that fit again, and manifests that lie."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .layout import Layout, Region, refit, refit_manifest

__all__ = ["MODES", "Pristine", "mutant"]

MODES = ("accident", "refit", "manifest")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Pristine:
    """A sound dataset: the files of its folder and, under ``cache/``, of its cache; and the layout of its shards."""

    name: str
    files: dict[str, bytes]
    layouts: dict[str, Layout]
    expected: dict[str, list[str]] = field(default_factory=dict)  # reader to digests of what it gives

    def shards(self) -> list[str]:
        return sorted(self.layouts)


def mutant(base: Pristine, mode: str, seed: int, number: int) -> tuple[dict[str, bytes], str]:
    """The files of a damaged dataset, and what was done. The same for the same arguments."""
    rng = random.Random(f"{base.name} {mode} {seed} {number}")
    if mode == "manifest":
        return _manifest(rng, base)
    files, said = dict(base.files), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if mode == "refit":
            said.append(_hit(rng, base, files, rng.choice(base.shards())))
        else:
            accident = rng.choice(ACCIDENTS)
            said.append(accident(rng, base, files))
            if accident is lose:
                break
    if mode == "refit":
        with_rows = base.name != "blocks" and rng.random() < 0.8
        files = refit(files, base.layouts, with_rows, base.files)
        said.append("refit with rows" if with_rows else "refit")
    return files, "; ".join(said)


# Accidents -----------------------------------------------------------------------------------------------------------


def _file(rng: random.Random, base: Pristine) -> str:
    """Mostly a shard."""
    others = [name for name in base.files if name not in base.layouts]
    return rng.choice(others) if rng.random() < 0.2 else rng.choice(base.shards())


def _place(rng: random.Random, base: Pristine, name: str, size: int) -> int:
    """Half of the time anywhere in the file, else in a part of it where most of the parts are small."""
    if name in base.layouts and rng.random() < 0.6:
        region = rng.choice(base.layouts[name].regions)
        return min(region.start + rng.randrange(region.length), max(0, size - 1))
    return rng.randrange(max(1, size))


def _length(rng: random.Random) -> int:
    return rng.choice((1, 2, 4, 8, 64, 512, 4096))


def flip_bits(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name = _file(rng, base)
    data = bytearray(files[name])
    if not data:
        return "nothing"
    places = [_place(rng, base, name, len(data)) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    files[name] = bytes(data)
    return f"{name}: bits flipped at {places}"


def overwrite(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    """A lost sector, or one with something else in it."""
    name = _file(rng, base)
    data = bytearray(files[name])
    place, length = _place(rng, base, name, len(data)), _length(rng)
    if length >= 512:
        place = place // 512 * 512
    length = min(length, len(data) - place)
    what = rng.choice(("zeros", "ones", "noise", "elsewhere"))
    source = rng.randrange(max(1, len(data) - length))
    fills = {"zeros": bytes(length), "ones": b"\xff" * length, "noise": rng.randbytes(length)}
    data[place : place + length] = fills.get(what, bytes(data[source : source + length]))
    files[name] = bytes(data)
    return f"{name}: {length} bytes at {place} are {what}"


def cut_out(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name, length = _file(rng, base), _length(rng)
    place = _place(rng, base, name, len(files[name]))
    files[name] = files[name][:place] + files[name][place + length :]
    return f"{name}: {length} bytes at {place} cut out"


def double(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name, length = _file(rng, base), _length(rng)
    place = _place(rng, base, name, len(files[name]))
    data, length = files[name], min(length, len(files[name]) - place)
    keeps_size = rng.random() < 0.7
    files[name] = (data[: place + length] + data[place:])[: len(data) if keeps_size else None]
    return f"{name}: {length} bytes at {place} doubled{', size kept' * keeps_size}"


def swap_runs(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name, length = _file(rng, base), _length(rng)
    data = bytearray(files[name])
    if len(data) < 2 * length:
        return "nothing"
    one, other = sorted(_place(rng, base, name, len(data) - length) // 4 * 4 for _ in range(2))
    if other < one + length or other + length > len(data):
        return "nothing"
    data[one : one + length], data[other : other + length] = data[other : other + length], data[one : one + length]
    files[name] = bytes(data)
    return f"{name}: {length} bytes at {one} and {other} swapped"


def truncate(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name = _file(rng, base)
    end = rng.choice((0, rng.randrange(1 + len(files[name])), max(0, len(files[name]) - _length(rng))))
    files[name] = files[name][:end]
    return f"{name}: cut off at {end}"


def extend(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name = _file(rng, base)
    files[name] += rng.choice((b"\0", bytes(4096), b"\n", rng.randbytes(64), files[name]))
    return f"{name}: now {len(files[name])} bytes"


def zero_tail(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    """What is left of a file whose length came to disk, and not its end."""
    name = _file(rng, base)
    at = rng.randrange(1 + len(files[name]))
    files[name] = files[name][:at].ljust(len(files[name]), b"\0")
    return f"{name}: zeros from {at}"


def shuffle_files(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    one, other = rng.choice(sorted(files)), rng.choice(sorted(files))
    if rng.random() < 0.5:
        files[one], files[other] = files[other], files[one]
        return f"{one} and {other} swapped"
    files[one] = files[other]
    return f"{one} replaced by {other}"


def lose(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    name = rng.choice(sorted(files))
    del files[name]
    return f"{name}: removed"


def swap_blocks(rng: random.Random, base: Pristine, files: dict[str, bytes]) -> str:
    """Whole buffers of a column in two blocks, or of two columns, change places as far as they are as long."""
    name = rng.choice(base.shards())
    data, regions = bytearray(files[name]), [region for region in base.layouts[name].regions if region.column]
    one = rng.choice(regions)
    other = rng.choice([region for region in regions if region.role == one.role])
    length = min(one.length, other.length)
    if one == other or max(one.start, other.start) + length > len(data):
        return "nothing"
    first, second = data[one.start : one.start + length], data[other.start : other.start + length]
    data[one.start : one.start + length], data[other.start : other.start + length] = second, first
    files[name] = bytes(data)
    return f"{name}: {one.role} of {one.column!r} {one.block} and {other.column!r} {other.block} swapped"


Accident = Callable[[random.Random, Pristine, dict[str, bytes]], str]
ACCIDENTS: tuple[Accident, ...] = (
    *(flip_bits,) * 6,
    *(overwrite,) * 5,
    *(swap_runs,) * 2,
    *(swap_blocks,) * 2,
    double,
    cut_out,
    truncate,
    extend,
    zero_tail,
    shuffle_files,
    lose,
)

# Attacks on shards ---------------------------------------------------------------------------------------------------


def _hit(rng: random.Random, base: Pristine, files: dict[str, bytes], name: str) -> str:
    """Changes items of one part of a shard, most of the time of offsets, internal columns or messages."""
    data, regions = bytearray(files[name]), base.layouts[name].regions
    telling = [region for region in regions if region.role != "values" or region.column.startswith("_")]
    region = rng.choice(telling if rng.random() < 0.7 else regions)
    what = f"{name}: {region.role} of {region.column!r}, block {region.block}"
    if rng.random() < 0.03:
        end = rng.randrange(len(data))
        files[name] = bytes(data[:end])
        return f"{name}: cut off at {end}"
    if region.role in ("values", "schema", "footer", "validity") and region.width == 1:
        places = [region.start + rng.randrange(region.length) for _ in range(rng.choice((1, 2, 8)))]
        for place in filter(lambda place: place < len(data), places):
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[place] ^ 1 << rng.randrange(8)))
        files[name] = bytes(data)
        return f"{what}: bytes at {places}"
    return f"{what}: {_items(rng, files, name, data, region)}"


def _items(rng: random.Random, files: dict[str, bytes], name: str, data: bytearray, region: Region) -> str:
    width = region.width
    count = region.length // width
    said = []
    for _ in range(rng.choice((1, 1, 2, 4)) if count else 0):
        item = rng.randrange(count)
        place = region.start + item * width
        if place + width > len(data):
            continue
        old = int.from_bytes(data[place : place + width], "little")
        new = rng.choice((*_edges(8 * width), old + 1, old - 1, old * 2, old ^ 1 << rng.randrange(8 * width)))
        if rng.random() < 0.2:
            other = region.start + rng.randrange(count) * width
            new = int.from_bytes(data[other : other + width], "little")
        run = count - item if rng.random() < 0.1 else 1
        for at in range(place, min(place + run * width, len(data) - width + 1), width):
            data[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
        said.append(f"item {item} of {width} bytes {old} -> {new}" + f", {run} times" * (run > 1))
    files[name] = bytes(data)
    return ", ".join(said) or "nothing"


def _edges(bits: int) -> list[int]:
    top = 1 << bits
    return [0, 1, 2, 7, 64, 1000, 60_000, top - 1, top // 2, top // 2 - 1, top // 4, top - 64, 1 << 20]


# Attacks on manifests ------------------------------------------------------------------------------------------------

NUMBERS = (
    0,
    1,
    2,
    -1,
    7,
    255,
    65_535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**53 + 1,
    2**60,
    2**62,
    2**63,
    2**64,
)
ODD = (*NUMBERS, 2**64 + 1, 0.5, -0.0, 1e308, float("nan"), float("inf"), True, None, "", "1", [], {}, [[]], [None])
TEXTS = (
    "",
    "x",
    "image",
    "boxes",
    "..",
    "../x",
    "/etc/hostname",
    "a\0b",
    "\x1b[31m",
    "\ud800",
    "a" * 70_000,
    "_crc32c",
)
TYPES = ("image", "audio", "class", "tensor", "scalar", "list", "boxes", "text", "bytes", "map")
DTYPES = ("bool", "uint8", "int64", "float16", "float64", "bfloat16", "complex64", "uint16", "float32")


def _manifest(rng: random.Random, base: Pristine) -> tuple[dict[str, bytes], str]:
    manifest = json.loads(base.files[MANIFEST])
    said = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        lie = rng.choice(LIES)
        try:
            said.append(lie(rng, manifest))
        except (TypeError, KeyError, AttributeError, IndexError):
            said.append(f"{lie.__name__}: too late, an earlier lie took its place")
    if rng.random() < 0.05:
        text = json.dumps(manifest).encode(errors="surrogatepass")
        said.append("fingerprint left")
    else:
        text = refit_manifest(manifest)
    if rng.random() < 0.1:
        text, how = _raw_json(rng, text)
        said.append(how)
    return base.files | {MANIFEST: text}, "manifest: " + "; ".join(said)


def _nodes(value: object, path: tuple = ()) -> list[tuple]:
    """The path of every value in a tree but its root."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in children:
        found += [(*path, key), *_nodes(child, (*path, key))]
    return found


def _at(tree: object, path: tuple) -> object:
    for key in path:
        tree = tree[key]
    return tree


def _pick(rng: random.Random, manifest: dict) -> tuple:
    """A place, of which the top of the tree has as many chances as all below, and names of what matters more."""
    paths = _nodes(manifest)
    if rng.random() < 0.4:
        paths = [path for path in paths if len(path) <= 2]
    elif rng.random() < 0.7:
        paths = [path for path in paths if path[0] in ("fields", "shards", "image_sizes", "audio_ranges")]
    return rng.choice(paths or _nodes(manifest) or [("rows",)])


def replace(rng: random.Random, manifest: dict) -> str:
    path = _pick(rng, manifest)
    parent = _at(manifest, path[:-1])
    old = parent[path[-1]]
    likely = {
        int: NUMBERS,
        float: NUMBERS,
        str: (*TEXTS, *TYPES, *DTYPES),
        bool: (True, False, 0, None),
        list: ([], [[]], [1] * 100, [2**32] * 4, [0], old * 3 if isinstance(old, list) else []),
    }.get(type(old), ODD)
    new = rng.choice(likely if rng.random() < 0.75 else ODD)
    if isinstance(old, int) and rng.random() < 0.3:
        new = old + rng.choice((1, -1, 64, -64, old))
    parent[path[-1]] = copy.deepcopy(new)
    return f"{'/'.join(map(str, path))}: {str(old)[:40]!r} -> {str(new)[:40]!r}"


def remove(rng: random.Random, manifest: dict) -> str:
    path = _pick(rng, manifest)
    del _at(manifest, path[:-1])[path[-1]]
    return f"{'/'.join(map(str, path))} removed"


def repeat(rng: random.Random, manifest: dict) -> str:
    """An entry of a list once more, or two of them the other way round."""
    lists = [path for path in _nodes(manifest) if isinstance(_at(manifest, path), list) and _at(manifest, path)]
    if not lists:
        return "nothing"
    path = rng.choice(lists)
    entries = _at(manifest, path)
    one, other = rng.randrange(len(entries)), rng.randrange(len(entries))
    if rng.random() < 0.5:
        entries[one], entries[other] = entries[other], entries[one]
        return f"{'/'.join(map(str, path))}: {one} and {other} swapped"
    entries.insert(other, copy.deepcopy(entries[one]))
    return f"{'/'.join(map(str, path))}: {one} once more at {other}"


def transplant(rng: random.Random, manifest: dict) -> str:
    paths = _nodes(manifest)
    source, target = rng.choice(paths), rng.choice(paths)
    _at(manifest, target[:-1])[target[-1]] = copy.deepcopy(_at(manifest, source))
    return f"{'/'.join(map(str, source))} put at {'/'.join(map(str, target))}"


def more_rows(rng: random.Random, manifest: dict) -> str:
    """Another number of rows, which block, shard and dataset agree on."""
    shards = [shard for shard in manifest.get("shards") or [] if isinstance(shard, dict) and shard.get("blocks")]
    if not shards:
        return "nothing"
    rows = rng.choice((0, 1, 3, 2**16, 2**31 - 1, 2**32, 2**40, 2**60, 2**62))
    rng.choice(rng.choice(shards)["blocks"])["rows"] = rows
    for shard in shards:
        shard["rows"] = sum(block.get("rows", 0) for block in shard["blocks"])
    manifest["rows"] = sum(shard["rows"] for shard in shards)
    return f"a block of {rows} rows"


def another_field(rng: random.Random, manifest: dict) -> str:
    """A field with another type, dtype, shape, classes or relation, as a manifest may say it."""
    fields = [one for one in manifest.get("fields") or [] if isinstance(one, dict)]
    if not fields:
        return "nothing"
    one = rng.choice(fields)
    change = rng.choice(
        (
            {"type": rng.choice(TYPES)},
            {"type": "tensor", "dtype": rng.choice(DTYPES), "shape": [rng.choice(NUMBERS)]},
            {"shape": [rng.choice((0, 1, 2, 3, 6, 2**16, 2**29, 2**31, 2**32)) for _ in range(rng.randrange(5))]},
            {"dtype": rng.choice(DTYPES)},
            {
                "class_names": rng.choice(
                    ([], ["a"] * 3, ["a", "b"], [""], ["\x1b[31m", "<b>"], [f"{n}" for n in range(5000)])
                )
            },
            {"along": rng.choice(TEXTS[:4])},
            {"points": True, "shape": [2], "dtype": "float32"},
            {"normalized": True},
            {"format": rng.choice(("xyxy", "xywh", "cxcywh", "yxyx"))},
            {"name": rng.choice(TEXTS)},
            {"type": "list", "dtype": rng.choice(DTYPES)},
        )
    )
    one |= change
    return f"field {one.get('name')!r:.40}: {str(change)[:80]}"


def sizes(rng: random.Random, manifest: dict) -> str:
    """Ranges of sizes that images, or audio, do not have."""
    ranges = [one for key in ("image_sizes", "audio_ranges") for one in (manifest.get(key) or {}).values()]
    if not ranges:
        return "nothing"
    one, value = rng.choice(ranges), rng.choice((0, 1, 24, 60_000, 65_535, 2**31, 2**32 - 1))
    keys = rng.choice((list(one), [rng.choice(list(one) or ["max_width"])]))
    one.update(dict.fromkeys(keys, value))
    return f"{keys} are {value}"


def statistics(rng: random.Random, manifest: dict) -> str:
    names = [one["name"] for one in manifest.get("fields") or [] if isinstance(one, dict) and "name" in one]
    odd = rng.choice(
        (
            "x",
            [],
            None,
            {"mean": "x"},
            {"mean": [1] * 7, "std": [0] * 7},
            {"mean": [1e400], "std": [1]},
            {"mean": 1, "std": -1, "min": [], "max": {}},
            {"mean": [[[]]], "std": [[[]]]},
            {"columns": 3, "categories": ["a"]},
            {"mean": 0.5, "std": 0.5, "columns": ["a"], "categories": {"b": 1}},
        )
    )
    manifest["statistics"] = rng.choice((odd, {rng.choice(names or ["x"]): odd}))
    return f"statistics {str(manifest['statistics'])[:60]}"


Lie = Callable[[random.Random, dict], str]
LIES: tuple[Lie, ...] = (
    *(replace,) * 6,
    *(another_field,) * 3,
    *(more_rows,) * 2,
    *(sizes,) * 2,
    remove,
    repeat,
    transplant,
    statistics,
)


def _raw_json(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """What only a text can say."""
    inner = text.strip()[1:-1]
    deep = rng.choice((100, 1000, 100_000))
    added = {
        f"{deep} deep": b'"provenance": ' + b"[" * deep + b"]" * deep,
        "a key twice": b'"rows": 1',
        "NaN": b'"statistics": {"x": {"mean": NaN}}',
        "1e999": b'"rows": 1e999',
        "not UTF-8": b'"provenance": "\xff\xfe"',
        "a long number": b'"provenance": ' + b"9" * 5000,
    }
    what = rng.choice(sorted(added))
    new = b"{" + added[what] + b", " + inner + b"}" if rng.random() < 0.5 else b"{" + inner + b", " + added[what] + b"}"
    if rng.random() < 0.2:
        return struct.pack("<H", 0xFEFF) + text.decode(errors="replace").encode("utf-16-le"), "UTF-16"
    return new, what
