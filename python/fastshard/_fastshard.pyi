"""The native core. Private: everything a user needs is re-exported by ``fastshard``.

Options cross as JSON so that a loader or a pack is described by plain data; table data crosses as one Arrow IPC stream.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

__all__ = [
    "BatchIterator",
    "Block",
    "CorruptionError",
    "Dataset",
    "DecodeError",
    "FastshardError",
    "FormatError",
    "Loader",
    "PackJob",
    "Schema",
    "SourceError",
    "VerifyJob",
    "__version__",
    "audio_format",
    "available_threads",
    "build_info",
    "clear_cache",
    "crc32c",
    "finish_replacing",
    "image_format",
    "list_cache",
    "permutation",
    "read_coco",
    "replace_folder",
    "sync_file_system",
    "usual_features",
    "usual_member",
]

__version__: str

class FastshardError(Exception):
    """Base of every error that is fastshard's own.

    Attributes say what a program may want to know, and are None where an error doesn't say: ``path`` of the file,
    ``shard`` (its name, if it is one), ``row`` of the dataset, ``field``, ``source`` (the path that the sample had when
    it was packed), ``reason``.
    """

    path: str | None
    shard: str | None
    row: int | None
    field: str | None
    source: str | None
    reason: str | None

class FormatError(FastshardError):
    """A dataset that is not one, or that a newer fastshard wrote. Names the file."""

class CorruptionError(FormatError):
    """A file that is not what its manifest says: truncated, swapped or altered. Names file, shard and row."""

class DecodeError(FastshardError):
    """An image, or audio, that cannot be decoded. Names dataset or file, shard, row and source path."""

class SourceError(FastshardError, ValueError):
    """A source that cannot be packed as asked: missing or duplicate files, labels of the wrong type.

    Names file, row and value.
    """

@final
class Block:
    """A block of a dataset, for ``pyarrow.record_batch``."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...

@final
class Schema:
    """The schema of a dataset's blocks, for ``pyarrow.schema``."""

    def __arrow_c_schema__(self) -> object: ...

@final
class Dataset:
    """A packed dataset, mapped."""

    def __new__(cls, path: str, copy_on_write: bool = False) -> Dataset:
        """With ``copy_on_write``, arrays that show the mapped files are writable; the files stay as they are."""
    @staticmethod
    def in_memory(fields: str, rows: int, arrays: list[NDArray[Any]]) -> Dataset:
        """Arrays in C order as a dataset, not copied; ``fields``: a JSON list as in a manifest."""
    @staticmethod
    def concat(parts: list[Dataset]) -> Dataset:
        """Datasets of the same fields behind each other."""
    def sources(self) -> list[tuple[Path, str]]:
        """Folder and fingerprint of each part."""
    @property
    def num_rows(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def schema(self) -> Schema:
        """The columns of the blocks, fastshard's own among them."""
    def block(self, at: int, fields: list[str]) -> Block:
        """A block, not copied, whose offsets were checked.

        The values of ``fields`` are compared with their checksums, but for files (images and audio).
        """
    def manifest(self) -> str:
        """The manifest as JSON text.

        ``fields``, ``shards`` (``file``, ``rows``, ``bytes`` ...), ``fingerprint``, ``provenance``.
        """
    def row(
        self, row: int, fields: list[str], ops: Mapping[str, str]
    ) -> dict[str, NDArray[Any] | int | float | bool | str | bytes]:
        """One sample; image fields are decoded after ``ops[field]`` (a JSON list of operations).

        Audio comes as ``[channels, frames]``, with ``<field>_sample_rate`` unless that is a field, too.
        """
    def check(self, rows: bytes) -> None:
        """Holds rows (little-endian uint64) against their checksums; CorruptionError for the first that differs."""
    def encoded(self, row: int, field: str) -> tuple[bytes, str]:
        """The stored bytes of an image or audio field and its source path."""

@final
class Loader:
    """A sample order and a pipeline over a dataset."""

    def __new__(
        cls, dataset: Dataset, rows: tuple[int, int, int] | bytes | None, weights: tuple[bytes, int] | None, spec: str
    ) -> Loader:
        """``rows``: all (None), ``(start, step, count)``, or little-endian int64 row numbers.

        ``weights``: none, or a little-endian float64 for each row and the samples an epoch.
        """
    @property
    def num_samples(self) -> int:
        """Samples an epoch, of all ranks together."""
    def batches(self, start: int) -> int:
        """Batches of this rank, of an epoch of which ``start`` samples were taken before by all ranks together."""
    def outputs(self) -> list[tuple[str, str, str, tuple[int | None, ...]]]:
        """``(name, dtype, what the first dimension counts, the others)`` of each array in a batch.

        The dtype of text and bytes fields is ``"str"`` and ``"bytes"``; what is counted ``"samples"``, ``"elements"``
        of their lists, or ``"bounds"`` between these; None stands for dimensions that differ between batches.
        """
    def iterate(self, epoch: int, start: int, first: int, step: int, views: bool) -> BatchIterator:
        """Batches ``first, first + step, ...`` of what follows the first ``start`` samples of an epoch.

        Without ``views`` every array is writable and the batch's own.
        """
    def keeping(self) -> str:
        """JSON, with a cache: for each image field ``field``, ``prefix``, ``path``, ``bytes`` and ``reason``."""
    def stats(self) -> str:
        """JSON: counts and seconds since the loader was made."""
    def cache_filled(self) -> list[int]:
        """Rows that are in the cache, for each image field that is kept."""
    def cache_counts(self) -> tuple[int, int]:
        """Rows that were found in the cache, and that were not."""
    def take_cache_problems(self) -> list[str]:
        """Why fields are not cached that were meant to be, and why rows are no longer stored; each reason once."""
    def skipped(self) -> list[str]:
        """What ``on_error="skip"`` left out so far, one message a sample (the first 1,000)."""
    def num_skipped(self) -> int: ...

@final
class BatchIterator:
    """Native threads that fill batches ahead of the consumer."""

    @property
    def handed_over(self) -> int:
        """Batches gone through, those included of which every sample was skipped."""
    def next(self) -> dict[str, Any] | None:
        """The next batch, or None at the end. Waits without the interpreter lock; Ctrl-C interrupts."""
    def close(self) -> None:
        """Stops and joins the threads."""

@final
class PackJob:
    """A pack in progress on native threads."""

    def __new__(cls, dst: str, spec: str) -> PackJob: ...
    def start_files(self, root: str, table: bytes) -> None:
        """Packs a table (Arrow IPC stream) whose columns of images and audio hold paths below ``root``."""
    def start_stream(self) -> None:
        """Packs what ``push`` brings."""
    def push(self, table: bytes, timeout: float) -> bool:
        """Hands over one record batch whose columns hold values (columns of images and audio: encoded bytes).

        A file may be a struct of ``bytes`` and ``path``, and of ``file``, ``offset`` and ``length``: where ``file``
        is not empty, its bytes are read there. False: no room yet, try again.
        """
    def end_stream(self, statistics: str | None = None) -> None:
        """``statistics``: a JSON object for the manifest."""
    def wait(self, timeout: float) -> bool:
        """True when the dataset is published. Raises what went wrong."""
    def progress(self) -> tuple[int, int, int, int]:
        """Rows done, rows in all (0: not known), bytes read, rows skipped."""
    def cancel(self) -> None:
        """Stops the threads and waits for them; Ctrl-C ends the wait. Finished shards stay for the next try."""
    def report(self) -> str:
        """JSON: ``rows``, ``shards``, ``bytes``, ``resumed_shards``, ``skipped`` (``row``, ``path``, ``error``)."""

@final
class VerifyJob:
    """A check of every byte of a dataset on native threads, or with ``decode`` of every image and sound."""

    def __new__(cls, dataset: Dataset, num_threads: int, decode: bool = False) -> VerifyJob: ...
    def wait(self, timeout: float) -> bool: ...
    def progress(self) -> tuple[int, int]:
        """Bytes checked (or rows decoded), and how many there are in all."""
    def cancel(self) -> None: ...
    def problems(self) -> list[tuple[str, int | None, str]]:
        """``(shard file, row of the dataset or None, what is wrong)``."""

def read_coco(path: str) -> tuple[bytes, str]:
    """A file of COCO's instances, keypoints or captions: one row an image (an Arrow IPC stream), and categories (JSON).

    Columns are ``image`` (``file_name``) and ``image_id``; the lists ``boxes`` (x1, y1, x2, y2; float32), ``labels``
    (places in the categories, which are sorted by id), ``iscrowd`` (0 if not given), ``area`` and ``keypoints`` (if
    there are any), and ``segmentation`` (JSON, if there is any); or ``caption`` and ``captions`` (JSON); and
    ``annotation_id``.

    Raises SourceError for what isn't such a file: entries with a field missing or of the wrong type, ids twice or of
    nothing, boxes of negative size or not finite, and names of files that may leave a folder. It names the file, the
    entry's number (from 1) and id, the field and the value.
    """

def image_format(data: bytes) -> str | None:
    """``"jpeg"``, ``"png"``, ``"webp"``, ``"bmp"``, ``"gif"`` or ``"tiff"`` by the first bytes; else None."""

def audio_format(data: bytes) -> str | None:
    """``"wav"``, ``"flac"``, ``"ogg"`` or ``"mp3"`` by the first bytes, ID3 tags passed over; else None."""

def usual_features(data: bytes, start: int, end: int) -> list[tuple[str, str, int, int]] | None:
    """Name, kind (``"bytes"``, ``"float"`` or ``"int64"``), and where the values start and end, of each feature of a
    ``tf.train.Example``; None if it isn't written as all writers do (one value, or packed ones, each) or is damaged."""

def usual_member(data: bytes) -> tuple[str, int, int] | None:
    """Name, bytes, and bytes of the headers before them, of the plain file that a part of a tar archive begins with;
    None if it isn't written as all writers do, or the headers aren't all there."""

def finish_replacing(folder: str) -> None:
    """Undoes or finishes a ``replace_folder`` of ``folder`` that was killed between two renames."""

def replace_folder(new: str, old: str) -> Path:
    """Puts a folder in the place of another, in one step where the file system can.

    Returns where the replaced folder is then, for the caller to remove after a sync.
    """

def sync_file_system(folder: str) -> None:
    """Brings all that was written to a folder's file system to disk."""

def list_cache(folder: str) -> list[tuple[str, str, int, int, float, bool]]:
    """``(file, description, bytes, bytes when full, seconds since 1970 when last used, whether in use)``."""

def clear_cache(folder: str) -> tuple[int, int]:
    """Entries removed, and their bytes."""

def crc32c(data: bytes, start: int = 0, end: int | None = None) -> int:
    """The CRC32C (Castagnoli) of some bytes. Raises ValueError for a part that there isn't."""

def available_threads() -> int:
    """The cores this process may use: affinity and cgroup limits respected."""

def permutation(count: int, seed: int, epoch: int, start: int, length: int) -> bytes:
    """Positions ``start .. start + length`` of the shuffled order of ``count`` rows, as int64."""

def build_info() -> dict[str, str]:
    """``version``, ``profile`` (release or debug), ``libjpeg_turbo``, ``simd``."""
