"""What a loader will do, in words and numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastshard._base.escape import printable

if TYPE_CHECKING:
    from .loader import Loader

__all__ = ["describe"]


def describe(loader: Loader) -> str:
    """See ``Loader.plan``."""
    spec, native = loader._spec, loader._native
    order = {"none": "in order", "uniform": "shuffled", "block": "shuffled by blocks"}[spec["shuffle"]]
    rank = f" on rank {spec['rank']} of {spec['world_size']}" if spec["world_size"] > 1 else ""
    lines = [
        f"{native.num_samples:,} samples an epoch, {order}, in {len(loader):,} batches of {loader.batch_size}{rank}",
    ]
    keeping = {entry["field"]: entry for entry in json.loads(native.keeping())}
    filled = iter(native.cache_filled())
    rows = loader.dataset._opened.native.num_rows
    for name, dtype, _, shape in native.outputs():
        if name not in loader._spec["fields"]:
            continue  # comes with a list field
        field = loader.dataset.field(name)
        lines.append(f"{printable(name)}: {field.type} -> {dtype} {list(shape)}")
        if "masks" in spec["lists"].get(name, {}):
            lines.append("  each epoch: painted where the image's transforms take them; not cached")
            continue
        if field.type == "audio":
            lines.append(f"  each epoch: {', '.join(_audio(spec['audio'].get(name, {})))}; not cached")
            continue
        steps = [_name(step) for step in spec["transforms"].get(name, ())]
        if not field.is_image or not (field.type == "image" or steps):
            lines.append("  copied as stored" if dtype not in ("str", "bytes") else "  handed over as a list")
            continue
        lines += _image(field.type == "image", steps, keeping.get(name), filled, rows)
    return "\n".join(lines)


def _audio(spec: dict[str, Any]) -> list[str]:
    """What is done to audio, of which a window leaves out most."""
    done = ["decode what the window shows" if "window" in spec else "decode", *(["mono"] if spec.get("mono") else [])]
    if "resample" in spec:
        done.append(f"resample to {spec['resample']['sample_rate']:,} Hz")
    return [*done, *(["log_mel"] if "log_mel" in spec else [])]


def _image(encoded: bool, steps: list[str], entry: dict[str, Any] | None, filled: Any, rows: int) -> list[str]:
    if entry is None or entry["path"] is None:
        done = ["decode", *steps] if encoded and steps[:1] != ["decode"] else steps
        lines = [f"  each epoch: {', '.join(done)}"]
        if entry is not None:
            lines.append(f"  not cached: {entry['reason']}")
        elif encoded:
            lines.append("  not cached: cache='off'")
        return lines
    first, later = steps[: entry["prefix"]], steps[entry["prefix"] :]
    if first[:1] != ["decode"]:
        first = ["decode", *first]
    found = next(filled)
    size = entry["bytes"] / 2**20
    return [
        f"  once: {', '.join(first)}",
        f"  cached: {found:,} of {rows:,} rows; {size:,.1f} MiB when all are there, in {entry['path']}",
        f"  each epoch: {', '.join(later) if later else 'copied'}",
    ]


def _name(step: dict[str, Any]) -> str:
    size = step.get("size")
    return step["op"] if size is None else f"{step['op']}({'x'.join(map(str, size))})"
