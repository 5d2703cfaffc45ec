"""Packing: options are checked and the source is opened here, all else is done by native threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastshard._base import check as _check
from fastshard._base.records import SkippedRow
from fastshard._dataset import Dataset
from fastshard._sources.options import SourceOptions
from fastshard._transforms.image import MAX_PIXELS

from .options import Size, check_target, image_spec, seekable_spec
from .report import PackReport

__all__ = ["PackReport", "SkippedRow", "pack"]

Source = (
    str
    | os.PathLike[str]
    | Sequence[str | os.PathLike[str]]
    | Dataset
    | Sequence[Dataset]
    | Iterable[Mapping[str, Any]]
    | Mapping[str, Any]
)


def pack(
    src: Source,
    dst: str | os.PathLike[str],
    *,
    source: str | None = None,
    annotations: str | os.PathLike[str] | None = None,
    masks: bool = False,
    zero_based: bool = False,
    drop_unlabeled: bool = False,
    annotated: str = "auto",
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
    pickles: str = "refuse",
    overwrite: bool = False,
    progress: bool | None = None,
    window: str | tuple[float, float] | None = None,
) -> PackReport:
    """Packs a source into a dataset in the folder ``dst``, which appears when all is done, never in part.

    A pack that was stopped, even by force, goes on where it was when it is started again with the same arguments.

    **Sources.** What ``src`` is shows in its names and its first bytes; ``source`` says it by name: ``"dataset"``,
    ``"csv"``, ``"coco"``, ``"yolo"``, ``"voc"``, ``"mot"``, ``"huggingface"``, ``"table"``, ``"arrays"``,
    ``"webdataset"``, ``"tfrecord"``, ``"mds"``, ``"zip"``, ``"dicom"``, ``"folder"``, ``"indexed"`` or ``"iterable"``.
    Files may be several: a list, a pattern such as ``"train-{000000..000009}.tar"`` or ``"*.tar"``, or a folder with
    nothing else in it.

    A folder: its subfolders are the classes (names sorted, field ``label``, int64), images have the field
    ``image``; a folder without subfolders gives images alone. The same of audio files (wav, flac, mp3, ogg vorbis),
    with the field ``audio``; a folder with both kinds is an error, or with ``on_error="skip"`` one of the kind that it
    has more of, and the others are ``ignored_files``. A ZIP file of such a folder. A folder with ``csv`` (a path, from
    here or from the folder; .tsv for tabs): one file a row, found by its path below the folder or by its name anywhere
    in it; all other columns are kept under their names. A dataset, a view of one, or the folder of one: the same rows,
    stored as the options say; its checksums are compared first. A list of datasets or views of the same fields: one
    behind the other, with every class that one of them has (by name; their numbers may change).
    A table: see below. Arrays: a .npy or .npz file, or a dict of arrays, memory maps, tensors or names of .npy files; a
    field each, read piece by piece.

    An iterable of dicts of bytes (encoded images become an image field, audio files an audio field), images of PIL's,
    text, numbers, NumPy arrays (fixed shape) and lists of numbers, all samples like the first. An indexed dataset, such
    as torchvision's: dicts, or pairs (fields ``image`` and ``label``, with the names in its ``classes``); pictures are
    kept as the files that they come from, or become PNG.

    **Archives of samples**, streamed and never unpacked. WebDataset .tar files (also .tar.gz, .tgz, .tar.zst): members
    of one name up to the first dot are a sample; one image is the field ``image``, one audio file ``audio``, ``.cls``
    is ``label``, ``.txt`` and ``.json`` text (JSON objects of plain values, alike in the first samples, become fields
    of their own), ``.npy`` tensors, the rest bytes, the name ``key``. TFRecord files of tf.train.Example (also .gz):
    features keep their names; bytes are images, audio, text or bytes, as the first records show, numbers scalars,
    tensors or lists. MosaicML MDS folders; the images of a list, as many in every sample, are a field each
    (``views_0``, ``views_1``), or stay bytes with ``types={"views": "bytes"}``. ``types`` and ``class_names`` are as
    for iterables (``{"ogg": "bytes"}`` keeps audio of WebDataset's unread). Pickles are refused, or kept unread with
    ``pickles="bytes"``.

    **Tables.** A .csv or .tsv file (also .gz), .parquet, .arrow or .feather, a list of such files of the same columns,
    or a table of pandas, polars or pyarrow; never read whole. ``pack("HIGGS.csv.gz", "higgs", header=False, label=0,
    features="all")``: ``features``, a list of columns (names or numbers) or all but ``label``, become one tensor field
    ``features`` of ``dtype``, and only they and the labels are packed. Without it each column is a field. Texts among
    features and labels become numbers, in sorted order; the texts are kept. ``missing`` values (empty cells, NaN) are
    an error, become a number or the column's ``"mean"``, or stay NaN with ``"keep"``, as infinities do then.
    ``types={"label": "int64"}`` forces the type of a field. Mean, deviation and range of float fields are stored, for
    ``Standardize``. Rows count from 1 in each file, without the header.

    **Layouts.** Folders in the layouts of COCO, YOLO, Pascal VOC and the MOT challenges are known by their names, or
    by ``source`` (``"coco"``, ``"yolo"``, ``"voc"``, ``"mot"``; ``"folder"`` for none of them). Each image has the
    lists ``boxes`` and ``labels`` (numbers from 0) and those that the layout has beside them; the ids and names of the
    classes are kept with the dataset. COCO: ``annotations`` is the file (from here or from the folder) of instances,
    keypoints or captions; images are found as with ``csv``; boxes are x1, y1, x2, y2 in pixels, of no size too, and
    ``segmentation`` is the JSON of the list of an image's segmentations (with ``resize`` or ``resize_pad``, which move
    boxes and keypoints, it is left out). YOLO: names are those of ``data.yaml`` or ``classes.txt``, boxes stay shares
    of the image, ``split`` is the folder's. VOC and MOT count pixels from 1, boxes from 0 to behind the last pixel: 1
    is taken from the left and upper edge; with ``zero_based`` nothing is. ``masks`` adds VOC's ``SegmentationClass`` as
    the image ``mask`` (stored as it is; ``Decode("P")`` loads its classes), and leaves out images without one.
    Images without a box stay, with empty lists, unless ``drop_unlabeled``. Labels that are wrong are always an error;
    ``on_error="skip"`` leaves out labels without an image, and images whose size isn't the one that COCO or VOC says.

    **Images that EXIF data turns.** Boxes of a dataset lie in the image as it is stored, and go with it when
    ``Decode(exif_orientation=True)`` turns it. Some sets were annotated on what programs show upright (CVAT, labelme,
    browsers, OpenCV), others on what is stored (PIL, torchvision). Where the size that COCO or VOC says tells which,
    that decides for each image, and what was annotated upright is turned back: boxes, keypoints, ``segmentation``; or
    the pixels are turned, if images are encoded anew. Where no size tells (half turns and mirrorings, squares, sources
    without sizes), ``annotated`` says it: ``"upright"`` or ``"stored"``. By default it is ``"upright"`` for YOLO, as
    Ultralytics reads it, and else ``"stored"``; that is an error if sizes say that others of the set are upright.

    **CSV.** ``file_column`` names the files; by default file, filename, path, image, audio, Image Index or
    file_name.
    ``label`` names one or several columns (by default one called label): text becomes a class, numbers stay numbers.
    With ``label_sep="|"`` cells such as ``Cardiomegaly|Effusion`` become a multi-hot float32 vector, ``no_label`` (such
    as ``"No Finding"``) all zeros; ``"auto"`` splits where a cell has a ``|``. ``types={"age": "int32"}`` forces types.
    A missing number becomes NaN (float64), missing text ``""``. Rows count from 1, without the header.

    Columns of lists of numbers become list fields, those of arrays of one shape tensors.

    **Iterables and arrays.** ``class_names={"label": ["cat", "dog"]}`` makes a field of names or numbers a class field.
    In iterables, ``types={"tokens": "list[int32]", "grid": "list[float32, 4]"}`` makes fields of lists, of numbers or
    of arrays of one shape; a Python list in the first sample is one by itself.

    **Boxes.** In iterables, ``types={"boxes": "boxes[xyxy]"}`` (or ``xywh``, ``cxcywh``, followed by ``, normalized``
    for shares of width and height, and by the image's field unless that is ``image``) are lists of boxes that go where
    loading takes the image; ``"list[int64] along boxes"`` says one thing of each box, ``"points[17, 3] along boxes"``
    are its places (x, y and more, in pixels). ``class_names={"labels": [...]}`` names the numbers of such a list.

    **DICOM.** A folder of .dcm files, or a list of them: gray values through the ``window`` that a file names
    (``"file"``, the default), that of its values (``"auto"``) or ``(center, width)``, as 8-bit PNG; ids, modality and
    so on as fields. ``fastshard.DicomFiles`` has more options.

    **Images.** ``encode``: ``"original"`` keeps the files' bytes (default), ``"jpeg"`` (with ``quality``; default if
    anything changes the image), ``"png"`` or ``"raw"`` (a uint8 tensor, all of one size). ``resize`` and ``resize_pad``
    take what ``Resize`` and ``ResizePad`` take; ``gray`` makes one channel. Headers that declare more than
    ``max_pixels`` are refused.

    **Check.** ``check="header"`` (default) reads an image's header and looks for the file's end; a file that doesn't
    show its end is decoded. Damage in between shows when the image is loaded. ``check="decode"`` decodes every image,
    and refuses those that can't be loaded. Packing and loading share one rule, which is PIL's: damage inside a JPEG
    that ends with its end marker (wrong codes, surplus bytes, missing restart markers) is passed over, and the pixels
    are those that PIL gives. A JPEG without an end marker is refused if a pixel depends on missing data. In all other
    formats damaged data is an error, and so are wrong checksums in PNG files.

    **Seekable JPEG.** ``seekable`` re-codes JPEGs that are kept: a restart marker every 64 pixels or less, and an index
    of them, so that a crop is decoded without what lies beside it; progressive files become sequential. Coefficients
    stay bit for bit what they were, and the files are JPEGs for everybody else. ``"auto"`` (default) does it where
    decoding gets faster for it, True wherever it can, False nowhere: then files are stored byte for byte.
    ``metadata="drop"`` leaves ICC, EXIF and comments of re-coded files out, but for EXIF data that turns the image.
    Arithmetic-coded, CMYK and damaged files stay as they are, and so do those that hold several images (MPO), unless
    metadata are dropped.

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
    from fastshard._sources.kinds import recognise

    asked: dict[str, Any] = {
        "csv": csv,
        "file_column": file_column,
        "label": label,
        "features": features,
        "label_sep": label_sep,
        "no_label": no_label,
        "types": types,
        "class_names": class_names,
        "follow_symlinks": follow_symlinks,
        "window": window,
        "annotations": annotations,
        "masks": _check.boolean("masks", masks),
        "zero_based": _check.boolean("zero_based", zero_based),
        "drop_unlabeled": _check.boolean("drop_unlabeled", drop_unlabeled),
        "annotated": _annotated(annotated),
    }
    look, kind = recognise(src, has_csv=csv is not None, has_annotations=annotations is not None, source=source)
    kind.check({**asked, "pickles": None if pickles == "refuse" else pickles})
    spec = {
        **image_spec(resize, resize_pad, gray, encode, quality, max_pixels),
        "seekable": seekable_spec(seekable),
        "metadata": _check.one_of("metadata", metadata, ("keep", "drop")),
        "annotated": asked["annotated"] or kind.annotated,
        "check": _check.one_of("check", check, ("header", "decode")),
        "shard_size": _check.byte_size("shard_size", shard_size),
        "num_threads": 0 if num_threads is None else _check.integer("num_threads", num_threads, 1),
        "on_error": _check.one_of("on_error", on_error, ("raise", "skip")),
        "overwrite": _check.boolean("overwrite", overwrite),
        "shuffle_seed": _shuffle_seed(kind.shuffles, shuffle, seed),
    }
    if masks and spec["encode"] != "original":
        raise ValueError("masks=True: masks are stored as they are; expected no resize, resize_pad, gray or encode")
    options = SourceOptions(
        **{**asked, "types": types or {}, "class_names": class_names or {}, "annotated": spec["annotated"]},
        dtype=dtype,
        missing=missing,
        header=_check.boolean("header", header),
        pickles=_check.one_of("pickles", pickles, ("refuse", "bytes")),
        resized=resize is not None or resize_pad is not None,
        on_error=on_error,
        shard_size=spec["shard_size"],
        shuffle_seed=spec["shuffle_seed"],
        progress=progress,
    )
    target = os.fspath(dst)
    check_target(target, overwrite)
    opened = kind.open(look, options, target)
    return _run(opened, f"{look}: {kind.title}", target, spec, progress, started)


def _run(
    opened: Any, said: str, target: str, spec: dict[str, Any], progress: bool | None, started: float
) -> PackReport:
    from fastshard._sources.base import FileSource

    from .job import pack_files, pack_stream

    if isinstance(opened, FileSource):
        return pack_files(opened, said, target, spec, progress, started)
    # The order of a stream is its own.
    return pack_stream(opened, said, target, {**spec, "shuffle_seed": None}, progress, started)


def _annotated(value: str) -> str | None:
    """None for what the source decides."""
    return None if _check.one_of("annotated", value, ("auto", "stored", "upright")) == "auto" else value


def _shuffle_seed(can_shuffle: bool, shuffle: bool | None, seed: int) -> int | None:
    _check.integer("seed", seed, 0, 2**64 - 1)
    if shuffle is not None and _check.boolean("shuffle", shuffle) and not can_shuffle:
        raise ValueError(
            "shuffle=True: the samples of an iterable are packed as they come; shuffle them, or the Loader"
        )
    return seed if can_shuffle and shuffle is not False else None
