"""Sequences of the MOT challenges (MOT16, 17, 20) as a source: ``seqinfo.ini``, ``img1/`` and ``gt/gt.txt`` each."""

from __future__ import annotations

import configparser
import math
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from fastshard._fastshard import SourceError
from fastshard._sources.base import FileSource, first_five, repeated
from fastshard._sources.walk import walk

from .box_lists import along_boxes, boxes_field, image_size, labels_field, list_column, small_text

__all__ = ["mot_source"]

_INFO = "seqinfo.ini"
_TRUTH = "gt/gt.txt"
_COLUMNS = ("frame", "id", "left", "top", "width", "height", "conf", "class", "visibility")
_WHOLE = ("frame", "id", "conf", "class")
_CLASSES = (
    "pedestrian",
    "person on vehicle",
    "car",
    "bicycle",
    "motorbike",
    "non-motorized vehicle",
    "static person",
    "distractor",
    "occluder",
    "occluder on the ground",
    "occluder full",
    "reflection",
    "crowd",
)
_MAX_FRAMES = 10_000_000


@dataclass(frozen=True)
class _Sequence:
    """What ``seqinfo.ini`` says; ``folder`` is relative to the source."""

    folder: str
    name: str
    images: str
    suffix: str
    length: int
    width: int
    height: int
    frame_rate: float

    def frame(self, number: int) -> str:
        return posixpath.join(self.folder, self.images, f"{number:06d}{self.suffix}")


def mot_source(
    root: str, *, zero_based: bool, drop_unlabeled: bool, follow_symlinks: bool, on_error: str
) -> FileSource:
    """Every frame of every sequence below ``root``, in order, with the boxes of its ground truth.

    MOT counts pixels from 1, so 1 is taken from ``left`` and ``top``; with ``zero_based`` they stay what they are.
    Raises SourceError for a ``seqinfo.ini`` or a row that can't be, for frames without an image and sequences without
    ground truth (both left out with ``on_error="skip"``), and for images that don't have the sequence's size.
    """
    found = walk(root, follow_symlinks)
    found.check_links(root)
    sequences, missing = _sequences(root, set(found.others) - found.special, on_error)
    known = set(found.images)
    parts = [_read_sequence(root, one, known, drop_unlabeled, zero_based) for one in sequences]
    absent = [(number, path) for part in parts for number, path in part.absent]
    if absent and on_error == "raise":
        listed = first_five(path for _, path in absent)
        raise SourceError(f"{root}: {len(absent):,} frames without an image: {listed}")
    images = [path for part in parts for path in part.images]
    if not images:
        raise SourceError(f"{root}: no frames to pack")
    return FileSource(
        root=root,
        fields=_fields(),
        table=pa.concat_tables(part.table for part in parts).combine_chunks(),
        provenance={
            "source": root,
            "kind": "mot",
            "zero_based": zero_based,
            "sequences": [_described(sequence) for sequence in sequences],
            "categories": [{"id": code + 1, "name": name} for code, name in enumerate(_CLASSES)],
        },
        unused_files=tuple(sorted(known.difference(images))),
        ignored_files=tuple(path for path in found.no_images if not path.endswith((_INFO, _TRUTH))),
        missing_files=tuple(missing + absent),
    )


def _sequences(root: str, files: set[str], on_error: str) -> tuple[list[_Sequence], list[tuple[int, str]]]:
    """The sequences with ground truth, and where that of the others should be."""
    folders = sorted(posixpath.dirname(path) for path in files if posixpath.basename(path) == _INFO)
    if not folders:
        raise SourceError(f"{root}: no {_INFO} in it, or in a folder below it")
    truths = [posixpath.join(folder, _TRUTH) for folder in folders]
    missing = [(number, path) for number, path in enumerate(truths, start=1) if path not in files]
    if missing and on_error == "raise":
        raise SourceError(f"{root}: sequences without ground truth: {first_five(path for _, path in missing)}")
    sequences = [_read_info(root, folder) for folder, path in zip(folders, truths, strict=True) if path in files]
    if twice := repeated(sequence.name for sequence in sequences):
        raise SourceError(f"{root}: several sequences are named {twice[0]!r}")
    for sequence in sequences:
        # Rows are made for all frames before their images are looked for.
        there = sum(path.startswith(f"{sequence.folder}/") for path in files) if sequence.folder else len(files)
        if sequence.length > 1000 + 10 * there:
            where = posixpath.join(root, sequence.folder, _INFO)
            raise SourceError(f"{where}: seqLength={sequence.length:,}, but its folder holds {there:,} files")
    return sequences, missing


def _fields() -> list[dict[str, Any]]:
    return [
        {"name": "image", "type": "image"},
        {"name": "sequence", "type": "text"},
        {"name": "frame", "type": "scalar", "dtype": "int64"},
        boxes_field(),
        labels_field(_CLASSES),
        along_boxes("track_ids", "int64"),
        along_boxes("visibility", "float32"),
        along_boxes("ignored", "uint8"),
    ]


def _described(sequence: _Sequence) -> dict[str, Any]:
    return {
        "name": sequence.name,
        "frame_rate": sequence.frame_rate,
        "length": sequence.length,
        "width": sequence.width,
        "height": sequence.height,
    }


def _read_info(root: str, folder: str) -> _Sequence:
    path = Path(root, folder, _INFO)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(small_text(path, 1 << 20), str(path))
    except configparser.Error as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())}") from None
    if not parser.has_section("Sequence"):
        raise SourceError(f"{path}: no section [Sequence]")
    section = parser["Sequence"]

    def given(key: str) -> str:
        if not section.get(key):
            raise SourceError(f"{path}: no {key}")
        return section[key]

    def whole(key: str, most: int) -> int:
        text = given(key)
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or not 1 <= int(text) <= most:
            raise SourceError(f"{path}: {key} is {text[:40]!r}; expected a number from 1 to {most:,}")
        return int(text)

    images, suffix = given("imDir"), given("imExt")
    if "/" in images or images in (".", ".."):
        raise SourceError(f"{path}: imDir is {images!r}; expected the name of a folder")
    if "/" in suffix or not suffix.startswith("."):
        raise SourceError(f"{path}: imExt is {suffix!r}; expected a suffix such as '.jpg'")
    rate = section.get("frameRate", "0")
    try:
        frame_rate = float(rate)
    except ValueError:
        raise SourceError(f"{path}: frameRate is {rate[:40]!r}; expected a number") from None
    return _Sequence(
        folder,
        given("name"),
        images,
        suffix,
        whole("seqLength", _MAX_FRAMES),
        whole("imWidth", 1 << 20),
        whole("imHeight", 1 << 20),
        frame_rate if np.isfinite(frame_rate) else 0.0,
    )


@dataclass(frozen=True)
class _Part:
    """The frames of a sequence that have an image, as a table; and those that have none."""

    images: list[str]
    table: pa.Table
    absent: list[tuple[int, str]]


def _read_sequence(root: str, sequence: _Sequence, known: set[str], drop_unlabeled: bool, zero_based: bool) -> _Part:
    rows = _read_truth(f"{root}/{posixpath.join(sequence.folder, _TRUTH)}", sequence.length)
    counts = np.bincount(rows["frame"], minlength=sequence.length + 1)[1:]
    wanted = np.flatnonzero(counts > 0) + 1 if drop_unlabeled else np.arange(1, sequence.length + 1)
    present = np.array([number for number in wanted.tolist() if sequence.frame(number) in known], np.int64)
    images = [sequence.frame(number) for number in present.tolist()]
    for path in images:
        _check_size(root, path, sequence)
    absent = [(int(number), sequence.frame(int(number))) for number in np.setdiff1d(wanted, present)]
    order = np.argsort(rows["frame"], kind="stable")
    order = order[np.isin(rows["frame"][order], present)]
    first = 0 if zero_based else 1
    x, y = rows["left"][order] - first, rows["top"][order] - first
    lists = {
        "boxes": np.stack([x, y, x + rows["width"][order], y + rows["height"][order]], axis=1).astype(np.float32),
        "labels": rows["class"][order] - 1,
        "track_ids": rows["id"][order],
        "visibility": rows["visibility"][order].astype(np.float32),
        "ignored": (rows["conf"][order] == 0).astype(np.uint8),
    }
    columns = {name: list_column(counts[present - 1], values) for name, values in lists.items()}
    fixed = {
        "image": pa.array(images, pa.string()),
        "sequence": pa.array([sequence.name] * len(images), pa.string()),
        "frame": pa.array(present),
    }
    return _Part(images, pa.table({**fixed, **columns}), absent)


def _check_size(root: str, path: str, sequence: _Sequence) -> None:
    width, height = image_size(Path(root, path))
    if not math.isnan(width) and (width, height) != (sequence.width, sequence.height):
        raise SourceError(
            f"{root}/{path}: {width} x {height} pixels; {_INFO} says {sequence.width} x {sequence.height}"
        )


def _read_truth(path: str, length: int) -> dict[str, npt.NDArray[Any]]:
    """The columns; numbers that count are whole. Errors count rows from 1."""
    if Path(path).stat().st_size == 0:
        return {name: np.empty(0, np.int64 if name in _WHOLE else np.float64) for name in _COLUMNS}
    read = csv.ReadOptions(column_names=_COLUMNS, use_threads=False)  # only the reader with one thread counts rows
    types = csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.float64()), null_values=[])
    try:
        table = csv.read_csv(path, read, convert_options=types)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())}; expected {', '.join(_COLUMNS)}") from None
    rows = {name: table.column(name).to_numpy() for name in _COLUMNS}
    limits: dict[str, tuple[float, float]] = {
        "frame": (1, length),
        "id": (-(2**53), 2**53),
        "width": (0, 1e9),
        "height": (0, 1e9),
        "conf": (0, 1),
        "class": (1, len(_CLASSES)),
    }
    for name, values in rows.items():
        least, most = limits.get(name, (-1e9, 1e9))
        whole = values == np.floor(values) if name in _WHOLE else True
        fine = (values >= least) & (values <= most) & whole  # not so for NaN
        if not fine.all():
            row = int(np.argmin(fine))
            kind = "a whole number" if name in _WHOLE else "a number"
            raise SourceError(
                f"{path}: row {row + 1}: {name} is {values[row]:g}; expected {kind} from {least:g} to {most:g}"
            )
    rows |= {name: rows[name].astype(np.int64) for name in _WHOLE}
    _check_unique(path, rows["frame"], rows["id"])
    return rows


def _check_unique(path: str, frames: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> None:
    order = np.lexsort((ids, frames))
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    if same.any():
        first, second = sorted(order[np.argmax(same) :][:2].tolist())
        raise SourceError(
            f"{path}: rows {first + 1} and {second + 1} both have id {ids[first]} in frame {frames[first]}"
        )
