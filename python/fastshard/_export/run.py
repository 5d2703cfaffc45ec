"""Exports: the rows of a dataset or view as files that other programs read; all of them, or nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastshard import _fastshard
from fastshard._base import check
from fastshard._base.progress import progress_bar
from fastshard._rows.view import View

from .report import ExportReport

if TYPE_CHECKING:
    from .plan import Plan, Writer

__all__ = ["export"]

_FORMATS = ("folder", "webdataset", "parquet", "tfrecord", "coco")


def export(
    src: str | os.PathLike[str] | View,
    out: str | os.PathLike[str],
    *,
    to: str,
    fields: Sequence[str] | None = None,
    label: str | None = None,
    name: str | None = None,
    shard_size: int | str | None = None,
    categories: Sequence[Mapping[str, Any]] | None = None,
    num_threads: int | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> ExportReport:
    """Writes a dataset, or a view of one, into the folder ``out`` as files that other programs read.

    ``out`` appears when all is done, never in part. Every row is held against its checksum first. Images and audio
    come out byte for byte as the dataset stores them; what packing re-coded (``seekable``, ``resize``) stays so.

    ``fields`` chooses some, by name. ``name`` begins the names of files (``"data"``), and ``shard_size`` (256 MiB) is
    about what one of them holds, of webdataset, parquet and tfrecord. ``num_threads`` write files of folder and coco.
    Of a weighted view each row is written once.

    **folder**: images or, where there are none, audio, in a folder for each class of ``label`` (by default the one
    field of classes, or the one called label), named after the files that were packed. Other fields, if there are some,
    are columns of ``metadata.csv`` beside ``file_name`` and the label, as ``datasets`` and
    ``fastshard.pack(out, csv="metadata.csv")`` read them: multi-hot labels as names with ``|`` between them, tensors
    and lists as JSON. Texts are written as they are, for programs: a spreadsheet may take one for a formula. Names that
    could not be those of files are changed. Raw pixels are written as PNG.

    **webdataset**: ``data-000000.tar`` and so on, the same bytes for the same rows. Keys are the rows' numbers, or the
    field ``key`` if there is one. Images and audio by their format (``.jpg``, ``.wav``), classes ``.cls``, text
    ``.txt``, numbers together ``.json`` (NaN as Python writes it), tensors and lists ``.npy``, bytes ``.bin``; where a
    kind has several fields, the field's name stands before it (``.mask.png``).

    **parquet**: ``data-00000-of-00003.parquet`` and so on, in the layout of Hugging Face's ``datasets``, whose Image,
    Audio and ClassLabel come back; in row groups of 16 MiB at most, unless one row is larger.

    **tfrecord**: ``data-00000-of-00003.tfrecord`` and so on of ``tf.train.Example``, without TensorFlow. Integers are
    an ``int64_list`` (``uint64`` by its bits), ``float16`` and ``float32`` a ``float_list``, both flat; text, bytes,
    images and audio a ``bytes_list``, and so are, little-endian for ``tf.io.decode_raw``, ``float64`` and tensors and
    lists of ``uint8``, of which the other kinds would lose digits or waste space. The path of images and audio is
    ``<field>/path``. ``features.json`` says what each is.

    **coco**: ``images/`` and ``annotations.json`` of a dataset with the field ``boxes`` (boxes, or lists of left, top,
    right and bottom in pixels of the stored image) and ``labels``, a list of classes, or of ids of categories. Optional
    are the lists ``area``, ``iscrowd``, ``annotation_id`` and ``keypoints`` (``[points, 3]``), the integer
    ``image_id``, and the ``segmentation`` that came from COCO. ``categories`` are dicts with ``id`` and ``name``; by
    default those of the dataset's provenance, or the classes, counted from 1.

    Raises FileExistsError without ``overwrite``, which replaces exports and empty folders only; CorruptionError for a
    row that is not what was packed; SourceError for values that the format can't hold, with their row; ValueError for
    fields or options that don't fit it.
    """
    from .files import Staging
    from .plan import Plan

    started = time.monotonic()
    check.one_of("to", to, _FORMATS)
    _refuse(to in ("folder", "coco"), "webdataset, parquet or tfrecord", name=name, shard_size=shard_size)
    _refuse(to not in ("folder", "coco"), "folder or coco", num_threads=num_threads)
    _refuse(to != "folder", "folder", label=label)
    _refuse(to != "coco", "coco", categories=categories)
    dataset = src if isinstance(src, View) else View(src)
    staging = Staging(os.fspath(out), check.boolean("overwrite", overwrite), dataset.paths)
    plan = Plan.of(
        dataset,
        fields,
        label=label,
        name=_name(name),
        shard_size=check.byte_size("shard_size", "256MiB" if shard_size is None else shard_size),
        categories=categories,
        num_threads=_threads(num_threads),
    )
    with staging:
        writer = _writer(to, plan, staging.folder)
        try:
            _write(writer, plan, progress)
        finally:
            writer.close()
        staging.publish({"to": to, "rows": len(dataset), "source": dataset._opened.name})
    unweighted = [] if dataset._weights is None else ["the view is weighted: each of its rows was written once"]
    notes = (*writer.notes, *unweighted)
    seconds = time.monotonic() - started
    return ExportReport(Path(out), to, len(dataset), writer.files, writer.bytes, seconds, notes)


def _refuse(refused: bool, needed: str, **options: Any) -> None:
    for name, value in options.items():
        if refused and value is not None:
            raise ValueError(f"{name}={value!r} is for {needed}")


def _name(name: object) -> str:
    from fastshard._base.names import safe_name

    if name is None:
        return "data"
    if not isinstance(name, str) or safe_name(name) != name:
        raise ValueError(f"name={name!r}: expected the beginning of a file name, such as 'train'")
    return name


def _threads(num_threads: int | None) -> int:
    return _fastshard.available_threads() if num_threads is None else check.integer("num_threads", num_threads, 1)


def _writer(to: str, plan: Plan, folder: Path) -> Writer:
    if to == "folder":
        from .folder import FolderWriter

        return FolderWriter(plan, folder)
    if to == "webdataset":
        from .webdataset import WebDatasetWriter

        return WebDatasetWriter(plan, folder)
    if to == "parquet":
        from .parquet import ParquetWriter

        return ParquetWriter(plan, folder)
    if to == "tfrecord":
        from .tfrecord import TFRecordWriter

        return TFRecordWriter(plan, folder)
    from .coco import CocoWriter

    return CocoWriter(plan, folder)


def _write(writer: Writer, plan: Plan, progress: bool | None) -> None:
    from .rows import blocks

    total = len(plan.dataset)
    limit = min(plan.shard_size, 16 << 20)
    with progress_bar("exporting", progress) as update:
        for block in blocks(plan.dataset, plan.fields, writer.columns, limit):
            writer.write(block)
            update(block.start + len(block), total)
        writer.finish()
