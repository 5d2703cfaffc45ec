"""What can be packed: a table of kinds of sources, asked in turn, each of which knows its own and can open it.

Another kind is another line in ``KINDS``: a name, what it is called, how it is known at first sight (``Look``), which
options of ``fastshard.pack`` it takes, and how it is opened.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastshard._base import check as _check
from fastshard._base.records import SkippedRow
from fastshard._rows.view import View

from .options import SourceOptions, check_apart, check_inside, check_root
from .sniff import MAX_INDEX, Look
from .table_names import is_frame, table_kind

if TYPE_CHECKING:
    from .base import FileSource, StreamSource

__all__ = ["KINDS", "Kind", "recognise"]

_NEEDS = {
    "csv": "src that is a folder",
    "follow_symlinks": "src that is a folder",
    "file_column": "csv=",
    "label_sep": "csv=",
    "no_label": "csv=",
    "label": "csv= or a table",
    "types": "csv=, a table, an iterable or an archive of samples",
    "features": "a table",
    "class_names": "src that is an iterable, arrays or an archive of samples",
    "pickles": "an archive of samples",
    "window": "src that is a folder or a list of DICOM files",
    "annotations": "a folder of COCO's",
    "masks": "a folder of Pascal VOC's",
    "zero_based": "a folder of Pascal VOC's or MOT's",
    "drop_unlabeled": "a folder of COCO's, YOLO's, Pascal VOC's or MOT's",
    "annotated": "a folder of images with boxes, or samples with types=",
}


@dataclass(frozen=True)
class Kind:
    """A kind of source: its ``name`` (for ``source=``), its ``title`` (for people), and how it is known and opened."""

    name: str
    title: str
    matches: Callable[[Look], bool]
    open: Callable[[Look, SourceOptions, str], FileSource | StreamSource]
    takes: frozenset[str] = frozenset()
    # Whether all of it is known beforehand, so that it is stored in random order.
    shuffles: bool = False
    # Which way round its images lay for their annotations, unless something says it.
    annotated: str = "auto"

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuses options that say nothing to this kind."""
        for name, needed in _NEEDS.items():
            value = options[name]
            if name not in self.takes and value is not None and value is not False:
                raise ValueError(f"{name}={value!r} needs {needed}")


def recognise(
    src: Any, *, has_csv: bool = False, has_annotations: bool = False, source: str | None = None
) -> tuple[Look, Kind]:
    """A source at first sight, and the kind that it is; ``source`` names one, whatever it looks like."""
    look = Look(src, has_csv)
    if has_annotations and not has_csv and source is None:
        source = "coco"  # nothing else has them
    if source is not None:
        names = {kind.name: kind for kind in KINDS}
        return look, names[_check.one_of("source", source, tuple(names))]
    return look, next(kind for kind in KINDS if kind.matches(look))


def _is_datasets(look: Look) -> bool:
    if look.is_path:
        from .dataset import is_dataset

        return look.folder is not None and is_dataset(Path(look.folder))
    several = look.value if isinstance(look.value, (list, tuple)) else [look.value]
    return bool(several) and isinstance(several[0], View)


def _is_hugging_face(look: Look) -> bool:
    kind = type(look.value)
    if kind.__module__.partition(".")[0] != "datasets":
        return False
    # What streams without saying of what is an iterable like any other.
    streams = kind.__name__ == "IterableDataset" and look.value.features is not None
    return streams or kind.__name__ in ("Dataset", "DatasetDict")


def _is_table(look: Look) -> bool:
    if is_frame(look.value):
        return True
    if look.folder is not None:
        # Text beside images is no table of its own.
        return look.kind == "table" and not any(table_kind(path) == "csv" for path in look.files)
    return look.kind == "table"


def _is_arrays(look: Look) -> bool:
    return isinstance(look.value, Mapping) or (look.kind == "arrays" and look.folder is None and len(look.paths) == 1)


def _is_mds(look: Look) -> bool:
    if look.folder is None or "index.json" not in look.names:
        return False
    index = Path(look.folder, "index.json")
    if index.stat().st_size > MAX_INDEX:
        return False
    try:
        shards = json.loads(index.read_bytes())["shards"]
        return any(shard["format"] == "mds" for shard in shards)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_indexed(look: Look) -> bool:
    value = look.value
    torch = sys.modules.get("torch.utils.data")
    # Torch's iterable datasets have a [] that only says that they have none.
    is_iterable = torch is not None and isinstance(value, torch.IterableDataset)
    if look.paths or is_iterable or isinstance(value, (list, tuple, str, bytes)):
        return False
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _open_datasets(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .dataset import DatasetSource

    value = View(look.value) if look.is_path else look.value
    datasets = list(value) if isinstance(value, (list, tuple)) else [value]
    for part in datasets:
        if not isinstance(part, View):
            raise TypeError(f"src holds {type(part).__name__}: expected a fastshard.Dataset, as the first of them")
    for path in {path for dataset in datasets for path in dataset.paths}:
        check_root(str(path), target)
    return DatasetSource(datasets, options.shard_size, options.progress)


def _open_csv(look: Look, options: SourceOptions, target: str) -> FileSource:
    from .folders.csv_folder import TableOptions, table_source

    root = _root(look, target)
    names = [options.label] if isinstance(options.label, (str, int)) else list(options.label or ())
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"label={options.label!r}: expected names of columns")
    if options.csv is None:
        raise ValueError("source='csv' needs csv=, the file of labels")
    table = TableOptions(
        os.fspath(options.csv),
        options.file_column,
        cast("list[str]", names) if options.label is not None else None,
        options.label_sep,
        options.no_label,
        options.types,
    )
    return table_source(root, table, follow_symlinks=options.follow_symlinks, on_error=options.on_error)


def _layout(name: str, title: str, *takes: str, annotated: str = "auto") -> Kind:
    """A folder that images lie in with their boxes."""

    def matches(look: Look) -> bool:
        from .folders.layouts import detect

        return look.folder is not None and not look.has_csv and detect(look.folder) == name

    def open_layout(look: Look, options: SourceOptions, target: str) -> FileSource:
        from .folders.layouts import layout_source

        return layout_source(name, _root(look, target), options)

    takes = ("follow_symlinks", "drop_unlabeled", "annotated", *takes)
    return Kind(name, title, matches, open_layout, frozenset(takes), shuffles=True, annotated=annotated)


def _open_folder(look: Look, options: SourceOptions, target: str) -> FileSource:
    from .folders.folder import folder_source

    root = _root(look, target)
    return folder_source(root, follow_symlinks=options.follow_symlinks, on_error=options.on_error)


def _open_table(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .tables.table import Columns, TableSource
    from .tables.table_files import file_parts, frame_part

    if look.paths:
        parts, kind = file_parts(_files(look, "table", target), options.header, options.types), "table files"
    elif is_frame(look.value):
        parts, kind = [frame_part(look.value)], "table"
    else:
        raise ValueError(f"source='table': {look} is none; expected files, or a table of pandas, polars or pyarrow")
    columns = Columns(
        options.label, options.features, options.dtype, options.missing, options.types, options.class_names
    )
    return TableSource(parts, columns, options.shard_size, kind)


def _open_hugging_face(look: Look, options: SourceOptions, _target: str) -> StreamSource:
    from .tables.table import Columns, TableSource
    from .tables.table_files import hugging_face_part

    if not _is_hugging_face(look):
        raise ValueError(f"source='huggingface': {look} is none; expected a datasets.Dataset")
    if isinstance(look.value, Mapping):
        raise ValueError(f"src is a DatasetDict of {', '.join(map(repr, look.value))}: expected one of its datasets")
    columns = Columns(
        options.label, options.features, options.dtype, options.missing, options.types, options.class_names
    )
    return TableSource([hugging_face_part(look.value)], columns, options.shard_size, "huggingface")


def _open_arrays(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .tables.arrays import ArraySource, array_files, array_readers

    if isinstance(look.value, Mapping):
        found = array_readers(look.value)
    else:
        found = array_files(_files(look, "arrays", target)[0])
    if not found:
        raise ValueError("src={}: expected at least one array by name")
    return ArraySource(found, options.class_names, options.shard_size)


def _open_webdataset(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .archives.webdataset import webdataset_source

    return webdataset_source(_files(look, "webdataset", target), options)


def _open_tfrecord(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .archives.tfrecord import tfrecord_source

    return tfrecord_source(_files(look, "tfrecord", target), options)


def _open_mds(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .archives.mds import mds_source

    return mds_source(_root(look, target), options)


def _open_zip(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .archives.zip import zip_source

    return zip_source(_files(look, "zip", target), options)


def _is_dicom(look: Look) -> bool:
    from .archives.dicom import holds_dicom, is_dicom_name

    if look.folder is not None:
        return holds_dicom(Path(look.folder))
    return bool(look.files) and all(map(is_dicom_name, look.files))


def _open_dicom(look: Look, options: SourceOptions, target: str) -> StreamSource:
    from .archives.dicom import DicomFiles
    from .rows import RowSource

    files = [look.folder] if look.folder is not None else _files(look, "dicom", target)
    if look.folder is not None:
        check_root(look.folder, target)
    window = "file" if options.window is None else options.window
    samples = DicomFiles(look.folder or files, window=window)
    if options.on_error != "skip":
        return RowSource(samples, {}, options.shard_size)
    skipped: list[SkippedRow] = []
    provenance = {"source": "DicomFiles", "kind": "iterable"}
    return RowSource(samples.readable(skipped), {}, options.shard_size, provenance=provenance, skipped=skipped)


def _open_indexed(look: Look, options: SourceOptions, _target: str) -> StreamSource:
    from .indexed import indexed_source

    if not _is_indexed(look):
        raise ValueError(f"source='indexed': {look} has no length and no []")
    return indexed_source(look.value, options)


def _open_iterable(look: Look, options: SourceOptions, _target: str) -> StreamSource:
    from .rows import RowSource

    if isinstance(look.value, (str, os.PathLike)) or not isinstance(look.value, Iterable):
        raise TypeError(f"src={look.value!r}: expected a path, or an iterable of dicts")
    return RowSource(look.value, options.class_names, options.shard_size, options.types)


def _root(look: Look, target: str) -> str:
    if not look.is_path:
        raise TypeError(f"src is {type(look.value).__name__}: expected a folder")
    root = str(os.fspath(look.value))
    check_root(root, target)
    return root


def _files(look: Look, name: str, target: str) -> Sequence[str]:
    """The files of a source that consists of such, all of which there are."""
    if not look.files:
        raise ValueError(f"source={name!r}: {look} names no files")
    for path in [look.folder] if look.folder is not None else look.files:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such file")
        check_apart(path, target)
    if look.folder is not None:
        for path in look.files:
            check_inside(path, look.folder)
    return look.files


_FOLDER = frozenset({"csv", "follow_symlinks"})
_SAMPLES = frozenset({"types", "class_names", "annotated"})

# Asked in this order; the last takes all.
KINDS = (
    Kind("dataset", "fastshard dataset", _is_datasets, _open_datasets),
    Kind(
        "csv",
        "folder with a CSV file of labels",
        lambda look: look.has_csv and look.is_path,
        _open_csv,
        _FOLDER | {"file_column", "label", "label_sep", "no_label", "types"},
        shuffles=True,
    ),
    _layout("coco", "folder of COCO's", "annotations"),
    _layout("yolo", "folder of YOLO's", annotated="upright"),
    _layout("voc", "folder of Pascal VOC's", "masks", "zero_based"),
    _layout("mot", "folder of MOT's", "zero_based"),
    Kind(
        "huggingface",
        "Hugging Face dataset",
        _is_hugging_face,
        _open_hugging_face,
        _SAMPLES | {"label", "features"},
    ),
    Kind("table", "table", _is_table, _open_table, _SAMPLES | {"label", "features"}),
    Kind("arrays", "arrays", _is_arrays, _open_arrays, frozenset({"class_names"})),
    Kind(
        "webdataset",
        "WebDataset tar",
        lambda look: look.kind == "webdataset",
        _open_webdataset,
        _SAMPLES | {"pickles"},
    ),
    Kind(
        "tfrecord",
        "TFRecord of tf.train.Example",
        lambda look: look.kind == "tfrecord",
        _open_tfrecord,
        _SAMPLES,
    ),
    Kind("mds", "MosaicML MDS", _is_mds, _open_mds, _SAMPLES | {"pickles"}),
    Kind(
        "zip",
        "ZIP of images or audio",
        lambda look: look.kind == "zip" and look.folder is None,
        _open_zip,
        shuffles=True,
    ),
    Kind("dicom", "DICOM files", _is_dicom, _open_dicom, frozenset({"window"})),
    Kind(
        "folder",
        "folder of images or audio",
        lambda look: look.is_path,
        _open_folder,
        frozenset({"follow_symlinks"}),
        shuffles=True,
    ),
    Kind("indexed", "indexed dataset", _is_indexed, _open_indexed, _SAMPLES),
    Kind("iterable", "iterable of dicts", lambda _: True, _open_iterable, _SAMPLES),
)
