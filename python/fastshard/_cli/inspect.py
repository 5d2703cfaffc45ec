"""What ``fastshard inspect`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Column, Table

from fastshard._base.escape import cell
from fastshard._base.names import counted
from fastshard._dataset import Dataset, Field
from fastshard._rows.arrow import read_table

__all__ = ["show", "summarize"]

_BAR = 30
_MOST_CLASSES = 50


def summarize(dataset: Dataset) -> dict[str, Any]:
    """All that is shown, as plain data."""
    return {
        "path": str(dataset.path),
        "rows": len(dataset),
        "shards": len(dataset.manifest["shards"]),
        "bytes": sum(shard["bytes"] for shard in dataset.manifest["shards"]),
        "fingerprint": dataset.fingerprint,
        "source": dataset.manifest.get("provenance"),
        "fields": [_describe(field) for field in dataset.fields],
        "image_sizes": {field.name: _sizes(dataset, field) for field in dataset.fields if field.type == "image"},
        "audio": {field.name: _audio(dataset, field) for field in dataset.fields if field.type == "audio"},
        "lengths": {field.name: _lengths(dataset, field) for field in dataset.fields if field.is_list},
        "seekable": {field.name: _seekable(dataset, field) for field in dataset.fields if field.type == "image"},
        "statistics": dataset.statistics,
        "classes": {field.name: _balance(dataset, field) for field in dataset.fields if field.class_names is not None},
    }


def _describe(field: Field) -> dict[str, Any]:
    shape: list[int | None] | None = None if field.shape is None else list(field.shape)
    if field.is_list:
        shape = [None, *(field.shape or ())]
    return {"name": field.name, "type": field.type, "dtype": field.dtype, "shape": shape}


def _sizes(dataset: Dataset, field: Field) -> dict[str, dict[str, int]]:
    sizes = {}
    for side in ("width", "height"):
        values = dataset.column(f"_{field.name}_{side}")
        sizes[side] = {name: int(measure(values)) for name, measure in _MEASURES.items()} if len(values) else {}
    return sizes


def _audio(dataset: Dataset, field: Field) -> dict[str, Any]:
    """Seconds of the samples and in all, and how many samples have each sample rate and number of channels."""
    rates, channels, frames = (dataset.column(f"_{field.name}_{what}") for what in _AUDIO)
    seconds = frames / rates
    measured = {name: float(measure(seconds)) for name, measure in _MEASURES.items()} if len(seconds) else {}
    counts = [
        {int(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}
        for values in (rates, channels)
    ]
    total = {"total": float(seconds.sum())}
    return {"seconds": measured | total, "sample_rates": counts[0], "channels": counts[1]}


def _lengths(dataset: Dataset, field: Field) -> dict[str, int]:
    lengths = pc.list_value_length(read_table(dataset, [field.name]).column(0)).to_numpy()
    return {name: int(measure(lengths)) for name, measure in _MEASURES.items()} if len(lengths) else {}


def _seekable(dataset: Dataset, field: Field) -> int:
    name = f"_{field.name}_tiles"
    if name not in dataset.schema.names:
        return 0  # version 1 of the format
    return int(np.count_nonzero(pc.list_value_length(read_table(dataset, [name]).column(0)).to_numpy()))


_AUDIO = ("sample_rate", "channels", "frames")
_MEASURES: dict[str, Any] = {"min": np.min, "median": np.median, "max": np.max}


def _balance(dataset: Dataset, field: Field) -> dict[str, int]:
    """How often each class comes: in rows, or of lists in elements."""
    names = field.class_names or ()
    values = dataset.column(field.name)
    if field.is_list:
        values = np.concatenate([np.empty(0, np.int64), *values])
    counts = values.sum(axis=0, dtype=np.int64) if values.ndim > 1 else np.bincount(values, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints a summary as tables."""
    rows, shards = counted(summary["rows"], "row"), counted(summary["shards"], "shard")
    size = f"{rows}, {shards}, {summary['bytes'] / 2**20:,.1f} MiB"
    console.print(cell(f"{summary['path']}: {size}"), soft_wrap=True)
    fields = Table("field", "type", "dtype", "shape")
    for field in summary["fields"]:
        shape = "varies" if field["shape"] is None else str(field["shape"]).replace("None", "any")
        fields.add_row(*map(cell, (field["name"], field["type"], field["dtype"], shape)))
    console.print(fields)
    for name, sizes in summary["image_sizes"].items():
        for side, values in sizes.items():
            listed = ", ".join(f"{measure} {value:,}" for measure, value in values.items())
            console.print(cell(f"{name} {side}: {listed}"))
    for name, audio in summary["audio"].items():
        _show_audio(name, audio, console)
    for name, values in summary["lengths"].items():
        listed = ", ".join(f"{measure} {value:,}" for measure, value in values.items())
        console.print(cell(f"{name} elements: {listed}"))
    for name, count in summary["seekable"].items():
        share = count / max(1, summary["rows"])
        console.print(cell(f"{name} seekable JPEG: {count:,} ({share:.0%})"))
    _show_values(summary, console)


def _show_audio(name: str, audio: dict[str, Any], console: Console) -> None:
    listed = ", ".join(f"{measure} {value:,.2f}" for measure, value in audio["seconds"].items())
    console.print(cell(f"{name} seconds: {listed}"))
    for what, unit in (("sample_rates", "Hz"), ("channels", "channels")):
        listed = ", ".join(f"{value:,} {unit} in {count:,} files" for value, count in audio[what].items())
        console.print(cell(f"{name}: {listed}"))


def _show_values(summary: dict[str, Any], console: Console) -> None:
    for name, known in summary["statistics"].items():
        if "mean" in known:
            console.print(_statistics(name, known))
    for name, counts in summary["classes"].items():
        is_list = name in summary["lengths"]
        of, total = ("elements", sum(counts.values())) if is_list else ("rows", summary["rows"])
        console.print(_bars(name, of, counts, total))


def _statistics(name: str, known: dict[str, Any]) -> Table:
    """A line for each column, or each element, of a field."""
    measures = ("mean", "std", "min", "max")
    table = Table(Column(cell(name)), *measures)
    for column in table.columns[1:]:
        column.justify = "right"
    values = [np.atleast_1d(known[measure]).reshape(-1) for measure in measures]
    columns = known.get("columns", [name if len(values[0]) == 1 else str(at) for at in range(len(values[0]))])
    for column_name, *numbers in list(zip(columns, *values, strict=True))[:_MOST_CLASSES]:
        texts = known.get("categories", {}).get(column_name)
        kinds = f" ({len(texts):,} texts)" if texts else ""
        table.add_row(cell(f"{column_name}{kinds}"), *(f"{number:.6g}" for number in numbers))
    if len(values[0]) > _MOST_CLASSES:
        table.add_row(f"and {len(values[0]) - _MOST_CLASSES:,} more", "", "", "", "")
    return table


def _bars(name: str, of: str, counts: dict[str, int], total: int) -> Table:
    table = Table(Column(cell(name)), of, "share", "")
    table.columns[1].justify = table.columns[2].justify = "right"
    most = max(1, max(counts.values(), default=1))
    for label, count in list(counts.items())[:_MOST_CLASSES]:
        bar = "█" * max(round(_BAR * count / most), int(count > 0))
        table.add_row(cell(label), f"{count:,}", f"{count / max(1, total):.1%}", bar)
    if len(counts) > _MOST_CLASSES:
        table.add_row(f"and {len(counts) - _MOST_CLASSES:,} more classes", "", "", "")
    return table
