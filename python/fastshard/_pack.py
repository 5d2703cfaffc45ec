"""Packing: options are checked and the source is read here, all else is done by native threads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from . import _check, _fastshard
from ._dataset import Dataset
from ._progress import Update, progress_bar
from ._transforms import MAX_PIXELS, Decode, Resize, ResizePad, Transform

if TYPE_CHECKING:
    from types import TracebackType

    from ._array_source import ArraySource, Reader
    from ._repack import DatasetSource
    from ._rows import RowSource
    from ._source import FileSource
    from ._table_source import Part, TableSource

__all__ = ["PackReport", "SkippedRow", "pack"]

Source = str | os.PathLike[str] | Dataset | Sequence[Dataset] | Iterable[Mapping[str, Any]] | Mapping[str, Any]
Size = int | tuple[int, int]

_FOLDER = "src that is a folder"
_CSV = "csv="


class SkippedRow(NamedTuple):
    """A row that ``on_error="skip"`` left out: its number in the source (from 0), its path, and why."""

    row: int
    path: str
    error: str


@dataclass(frozen=True)
class PackReport:
    """What a pack did. ``bytes`` are those of all shards; ``missing_files`` are (row of the CSV file from 1, name)."""

    path: Path
    rows: int
    shards: int
    bytes: int
    resumed_shards: int
    seconds: float
    skipped: tuple[SkippedRow, ...] = ()
    unused_files: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    missing_files: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        shards = f"{self.shards:,} shard{'s' * (self.shards != 1)}"
        size = f"{self.rows:,} rows in {shards}, {self.bytes / 2**20:,.1f} MiB"
        lines = [f"{self.path}: {size}, {self.seconds:.1f} s ({rate:,.0f} rows/s)"]
        if self.resumed_shards:
            lines.append(
                f"  shards that were there already, from a pack that had been stopped: {self.resumed_shards:,}"
            )
        lines += _listing("rows skipped", [f"row {row} {path}: {error}" for row, path, error in self.skipped])
        lines += _listing(
            "rows of the CSV file without a file", [f"row {row}: {name}" for row, name in self.missing_files]
        )
        lines += _listing("files without a row in the CSV file", self.unused_files)
        lines += _listing("files ignored", self.ignored_files)
        return "\n".join(lines)


def _listing(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"    ... and {len(items) - 5:,} more"] if len(items) > 5 else []
    return [f"  {title}: {len(items):,}", *(f"    {item}" for item in items[:5]), *more]


def pack(
    src: Source,
    dst: str | os.PathLike[str],
    *,
    csv: str | os.PathLike[str] | None = None,
    file_column: str | None = None,
    label: str | int | Sequence[str | int] | None = None,
    features: str | Sequence[str | int] | None = None,
    dtype: str = "float32",
    missing: str | float = "error",
    header: bool = True,
    label_sep: str | None = None,
    no_label: str | None = None,
    types: Mapping[Any, str] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    resize: Size | None = None,
    resize_pad: Size | None = None,
    gray: bool = False,
    encode: str | None = None,
    quality: int = 90,
    seekable: bool | str = "auto",
    metadata: str = "keep",
    shard_size: int | str = "256MiB",
    num_threads: int | None = None,
    shuffle: bool | None = None,
    seed: int = 0,
    on_error: str = "raise",
    check: str = "header",
    max_pixels: int = MAX_PIXELS,
    follow_symlinks: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
) -> PackReport:
    """Packs a source into a dataset in the folder ``dst``, which appears when all is done, never in part.

    A pack that was stopped, even by force, goes on where it was when it is started again with the same arguments.

    **Sources.** A folder: its subfolders are the classes (names sorted, field ``label``, int64), images have the field
    ``image``; a folder without subfolders gives images alone. The same of audio files (wav, flac, mp3, ogg
    vorbis), with the field ``audio``; a folder with both kinds is an error, or with ``on_error="skip"`` one of the kind
    that it has more of, and the others are ``ignored_files``. A folder with ``csv`` (a path, from here or from the
    folder; .tsv for tabs): one file a row, found by its path below the folder or by its name anywhere in it; all other
    columns are kept under their names. An iterable of dicts of bytes (encoded images become an image field, audio files
    an audio field), text, numbers, NumPy arrays (fixed shape) and lists of numbers, all samples like the first.
    A dataset, a view of one, or the folder of one: the same rows, stored as the options say; its checksums are compared
    first. A list of datasets or views of the same fields: one behind the other, with every class that one of them has
    (by name; their numbers may change).
    A table: see below. Arrays: a .npy or .npz file, or a dict of arrays, memory maps, tensors or names of .npy files; a
    field each, read piece by piece.

    **Tables.** A .csv or .tsv file (also .gz), .parquet, .arrow or .feather, a list of such files of the same columns,
    or a table of pandas, polars or pyarrow; never read whole. ``pack("HIGGS.csv.gz", "higgs", header=False, label=0,
    features="all")``: ``features``, a list of columns (names or numbers) or all but ``label``, become one tensor field
    ``features`` of ``dtype``, and only they and the labels are packed. Without it each column is a field. Texts among
    features and labels become numbers, in sorted order; the texts are kept. ``missing`` values (empty cells, NaN) are
    an error, become a number or the column's ``"mean"``, or stay NaN with ``"keep"``, as infinities do then.
    ``types={"label": "int64"}`` forces the type of a field. Mean, deviation and range of float fields are stored, for
    ``Standardize``. Rows count from 1 in each file, without the header.

    **CSV.** ``file_column`` names the files; by default file, filename, path, image, Image Index or file_name.
    ``label`` names one or several columns (by default one called label): text becomes a class, numbers stay numbers.
    With ``label_sep="|"`` cells such as ``Cardiomegaly|Effusion`` become a multi-hot float32 vector, ``no_label`` (such
    as ``"No Finding"``) all zeros; ``"auto"`` splits where a cell has a ``|``. ``types={"age": "int32"}`` forces types.
    A missing number becomes NaN (float64), missing text ``""``. Rows count from 1, without the header.

    Columns of lists of numbers become list fields, those of arrays of one shape tensors.

    **Iterables and arrays.** ``class_names={"label": ["cat", "dog"]}`` makes a field of names or numbers a class field.
    In iterables, ``types={"tokens": "list[int32]", "boxes": "list[float32, 4]"}`` makes fields of lists, of numbers or
    of arrays of one shape; a Python list in the first sample is one by itself.

    **Images.** ``encode``: ``"original"`` keeps the files' bytes (default), ``"jpeg"`` (with ``quality``; default if
    anything changes the image), ``"png"`` or ``"raw"`` (a uint8 tensor, all of one size). ``resize`` and ``resize_pad``
    take what ``Resize`` and ``ResizePad`` take; ``gray`` makes one channel. ``check="decode"`` decodes every image to
    see whether it can be, ``"header"`` reads the header only. Headers that declare more than ``max_pixels`` are
    refused.

    **Seekable JPEG.** ``seekable`` re-codes JPEGs that are kept: a restart marker every 64 pixels or less, and an index
    of them, so that a crop is decoded without what lies beside it; progressive files become sequential. Coefficients
    stay bit for bit what they were, and the files are JPEGs for everybody else. ``"auto"`` (default) does it where
    decoding gets faster for it, True wherever it can, False nowhere: then files are stored byte for byte.
    ``metadata="drop"`` leaves ICC, EXIF and comments of re-coded files out, but for EXIF data that turns the image.
    Arithmetic-coded, CMYK, 12-bit and faulty files stay as they are.

    **Audio** is kept byte for byte. ``check="header"`` reads the header and decodes the first and the last frame,
    ``"decode"`` all of it.

    **Order and errors.** ``shuffle`` with ``seed`` (default for folders and CSV files; impossible for iterables) stores
    the samples in a random order. ``on_error="skip"`` leaves out what can't be packed and reports it. ``num_threads``
    is by default the cores that this process may use; ``shard_size`` is in bytes. ``progress`` shows a bar; by default
    if stderr is a terminal.

    Raises FileNotFoundError, FileExistsError (without ``overwrite``), SourceError for a source that can't be packed as
    asked, DecodeError for an image, or audio, that isn't one, TypeError and ValueError for impossible options.
    """
    started = time.monotonic()
    datasets = _as_datasets(src)
    is_folder = isinstance(src, (str, os.PathLike)) and not datasets
    tables = _as_tables(src)
    arrays = _as_arrays(src)
    is_folder = is_folder and not tables and not arrays
    _refuse(not is_folder, _FOLDER, csv=csv, follow_symlinks=follow_symlinks)
    _refuse(csv is None, _CSV, file_column=file_column, label_sep=label_sep, no_label=no_label)
    iterable = not is_folder and not datasets and not arrays
    _refuse(csv is None and not tables, f"{_CSV} or a table", label=label)
    _refuse(csv is None and not iterable, f"{_CSV}, a table or an iterable", types=types)
    _refuse(not tables, "a table", features=features)
    _refuse(is_folder or bool(datasets), "src that is an iterable", class_names=class_names)
    spec = {
        **_image_spec(resize, resize_pad, gray, encode, quality, max_pixels),
        "seekable": _seekable(seekable),
        "metadata": _check.one_of("metadata", metadata, ("keep", "drop")),
        "check": _check.one_of("check", check, ("header", "decode")),
        "shard_size": _check.byte_size("shard_size", shard_size),
        "num_threads": 0 if num_threads is None else _check.integer("num_threads", num_threads, 1),
        "on_error": _check.one_of("on_error", on_error, ("raise", "skip")),
        "overwrite": _check.boolean("overwrite", overwrite),
        "shuffle_seed": _shuffle_seed(is_folder, shuffle, seed),
    }
    target = os.fspath(dst)
    _check_target(target, overwrite)
    if datasets:
        for path in {path for dataset in datasets for path in dataset.paths}:
            _check_root(str(path), target)
        return _pack_datasets(datasets, target, spec, progress, started)
    if tables:
        from ._table_source import Columns, TableSource

        columns = Columns(label, features, dtype, missing, types or {})
        parts, kind = _table_parts(tables, _check.boolean("header", header))
        return _pack_tables(TableSource(parts, columns, spec["shard_size"], kind), target, spec, progress, started)
    if arrays:
        from ._array_source import ArraySource

        return _pack_tables(ArraySource(arrays, class_names or {}, spec["shard_size"]), target, spec, progress, started)
    if not isinstance(src, (str, os.PathLike)):
        samples = cast("Iterable[Mapping[str, Any]]", src)
        return _pack_rows(samples, class_names or {}, types or {}, target, spec, progress, started)
    root = os.fspath(src)
    _check_root(root, target)
    if csv is None:
        from ._folder import folder_source

        source = folder_source(root, follow_symlinks=follow_symlinks, on_error=on_error)
    else:
        from ._table import TableOptions, table_source

        names = [label] if isinstance(label, (str, int)) else list(label or ())
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"label={label!r}: expected names of columns")
        options = TableOptions(
            os.fspath(csv),
            file_column,
            cast("list[str]", names) if label is not None else None,
            label_sep,
            no_label,
            types,
        )
        source = table_source(root, options, follow_symlinks=follow_symlinks, on_error=on_error)
    return _pack_files(source, target, spec, progress, started)


def _as_tables(src: Any) -> list[Any]:
    """The files or frames that a source is, if it is some."""
    from ._table_names import is_frame, table_kind

    if is_frame(src):
        return [src]
    several = list(src) if isinstance(src, (list, tuple)) else [src]
    paths = [os.fspath(one) for one in several if isinstance(one, (str, os.PathLike))]
    named = paths and len(paths) == len(several) and all(table_kind(path) for path in paths)
    return paths if named and not all(Path(path).is_dir() for path in paths) else []


def _as_arrays(src: Any) -> dict[str, Reader]:
    """The arrays that a source is, if it is some."""
    is_file = isinstance(src, (str, os.PathLike)) and os.fspath(src).lower().endswith((".npy", ".npz"))
    if not isinstance(src, Mapping) and not (is_file and not Path(src).is_dir()):
        return {}
    from ._array_source import array_files, array_readers

    found = array_readers(src) if isinstance(src, Mapping) else array_files(os.fspath(src))
    if not found:
        raise ValueError("src={}: expected at least one array by name")
    return found


def _table_parts(tables: Sequence[Any], header: bool) -> tuple[list[Part], str]:
    from ._table_files import file_parts, frame_part

    if isinstance(tables[0], str):
        return file_parts(tables, header), "table files"
    return [frame_part(tables[0])], "table"


def _refuse(refused: bool, needed: str, **options: Any) -> None:
    for name, value in options.items():
        if refused and value is not None and value is not False:
            raise ValueError(f"{name}={value!r} needs {needed}")


def _image_spec(
    resize: Size | None, resize_pad: Size | None, gray: bool, encode: str | None, quality: int, max_pixels: int
) -> dict[str, Any]:
    ops: list[Transform] = [Decode("L", max_pixels=max_pixels)] if _check.boolean("gray", gray) else []
    if resize is not None and resize_pad is not None:
        raise ValueError(f"resize={resize!r}, resize_pad={resize_pad!r}: expected one of them")
    if resize is not None:
        ops.append(Resize(resize))
    if resize_pad is not None:
        ops.append(ResizePad(resize_pad))
    encode = encode or ("jpeg" if ops else "original")
    _check.one_of("encode", encode, ("original", "jpeg", "png", "raw"))
    if ops and encode == "original":
        raise ValueError(
            "encode='original' keeps the files' bytes; with resize, resize_pad or gray choose jpeg, png or raw"
        )
    return {
        "ops": [op._spec() for op in ops],
        "encode": encode,
        "quality": _check.integer("quality", quality, 1, 100),
        "max_pixels": _check.integer("max_pixels", max_pixels, 1),
    }


def _seekable(value: bool | str) -> str:
    if isinstance(value, str):
        return _check.one_of("seekable", value, ("auto",))
    return "yes" if _check.boolean("seekable", value) else "no"


def _as_datasets(src: Source) -> list[Dataset]:
    """The datasets that a source is, if it is some."""
    from ._repack import is_dataset

    if isinstance(src, Dataset):
        return [src]
    if isinstance(src, (str, os.PathLike)):
        return [Dataset(src)] if is_dataset(Path(src)) else []
    if not isinstance(src, (list, tuple)) or not src or not isinstance(src[0], Dataset):
        return []
    for part in src:
        if not isinstance(part, Dataset):
            raise TypeError(f"src holds {type(part).__name__}: expected a fastshard.Dataset, as the first of them")
    return list(src)


def _shuffle_seed(is_folder: bool, shuffle: bool | None, seed: int) -> int | None:
    _check.integer("seed", seed, 0, 2**64 - 1)
    if shuffle is not None and _check.boolean("shuffle", shuffle) and not is_folder:
        raise ValueError(
            "shuffle=True: the samples of an iterable are packed as they come; shuffle them, or the Loader"
        )
    return seed if is_folder and shuffle is not False else None


def _check_target(target: str, overwrite: bool) -> None:
    # The native core has the last word; this spares the reading of a large source.
    if not overwrite and Path(target, "manifest.json").exists():
        raise FileExistsError(
            f"{target}: there is a dataset already; pack elsewhere, or replace it with overwrite=True"
        )


def _check_root(root: str, target: str) -> None:
    if not Path(root).exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not Path(root).is_dir():
        raise NotADirectoryError(
            f"{root}: expected a folder; a CSV file is given with csv=, beside the folder of its images"
        )
    real_root, real_target = os.path.realpath(root), os.path.realpath(target)
    if os.path.commonpath([real_root, real_target]) == real_root:
        raise ValueError(f"dst={target!r}: lies in the source {root}; expected another place")
    if os.path.commonpath([real_root, real_target]) == real_target:
        # To overwrite it would delete the source.
        raise ValueError(f"dst={target!r}: the source {root} lies in it; expected another place")


def _pack_files(
    source: FileSource, target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    job = _fastshard.PackJob(target, json.dumps({**spec, "fields": source.fields, "provenance": source.provenance}))
    with _Session(job, progress) as session:
        job.start_files(source.root, _ipc(source.table))
        session.wait()
    return _report(
        job,
        target,
        started,
        row_numbers=source.row_numbers,
        unused_files=source.unused_files,
        ignored_files=source.ignored_files,
        missing_files=source.missing_files,
    )


def _pack_rows(
    samples: Iterable[Mapping[str, Any]],
    class_names: Mapping[str, Sequence[str]],
    types: Mapping[str, str],
    target: str,
    spec: dict[str, Any],
    progress: bool | None,
    started: float,
) -> PackReport:
    from ._rows import RowSource

    source = RowSource(samples, class_names, spec["shard_size"], types)
    provenance = {"source": type(samples).__name__, "kind": "iterable"}
    job = _fastshard.PackJob(target, json.dumps({**spec, "fields": source.fields, "provenance": provenance}))
    total = len(samples) if isinstance(samples, Sized) else 0
    with _Session(job, progress, total) as session:
        job.start_stream()
        session.push(source)
        job.end_stream()
        session.wait()
    return _report(job, target, started)


def _pack_datasets(
    datasets: Sequence[Dataset], target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    from ._repack import DatasetSource

    source = DatasetSource(datasets, spec["shard_size"], progress)
    job = _fastshard.PackJob(target, json.dumps({**spec, "fields": source.fields, "provenance": source.provenance}))
    with _Session(job, progress, len(source)) as session:
        job.start_stream()
        session.push(source)
        job.end_stream(json.dumps(source.statistics) if source.statistics else None)
        session.wait()
    return _report(job, target, started)


def _pack_tables(
    source: TableSource | ArraySource, target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    job = _fastshard.PackJob(target, json.dumps({**spec, "fields": source.fields, "provenance": source.provenance}))
    with _Session(job, progress, len(source) if isinstance(source, Sized) else 0) as session:
        job.start_stream()
        session.push(source)
        known = source.described()
        job.end_stream(json.dumps(known) if known else None)
        session.wait()
    return _report(job, target, started)


class _Session:
    """A job while it runs: shows its progress, and cancels it when anything goes wrong, Ctrl-C included."""

    def __init__(self, job: _fastshard.PackJob, progress: bool | None, total: int = 0) -> None:
        self._job = job
        self._total = total
        self._bar = progress_bar("packing", progress)
        self._update: Update

    def __enter__(self) -> _Session:
        self._update = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._job.cancel()
        self._bar.__exit__(kind, error, trace)

    def push(self, source: RowSource | DatasetSource | TableSource | ArraySource) -> None:
        for chunk in source.chunks():
            while not self._job.push(chunk, 0.05):
                self._show()
            self._show()

    def wait(self) -> None:
        while not self._job.wait(0.05):
            self._show()
        self._show()

    def _show(self) -> None:
        done, total, _, skipped = self._job.progress()
        self._update(done, total or self._total, skipped)


def _ipc(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _report(
    job: _fastshard.PackJob, target: str, started: float, row_numbers: Sequence[int] = (), **files: Any
) -> PackReport:
    report = json.loads(job.report())
    if row_numbers:
        report["skipped"] = [{**item, "row": row_numbers[item["row"]]} for item in report["skipped"]]
    return PackReport(
        path=Path(target),
        rows=report["rows"],
        shards=report["shards"],
        bytes=report["bytes"],
        resumed_shards=report["resumed_shards"],
        seconds=time.monotonic() - started,
        skipped=tuple(SkippedRow(item["row"], item["path"], item["error"]) for item in report["skipped"]),
        **files,
    )
