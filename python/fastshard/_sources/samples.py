"""From the raw samples of a container to rows: the first ones show what is what, bad ones are refused or skipped."""

from __future__ import annotations

import functools
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fastshard import _fastshard
from fastshard._base.parallel import in_order
from fastshard._base.records import SkippedRow
from fastshard._fastshard import SourceError

from .base import Encoded, Sample
from .options import SourceOptions
from .rows import RowSource
from .stream import is_compressed

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T", contravariant=True)

__all__ = [
    "PICKLES",
    "Plan",
    "Raw",
    "chained",
    "file_kind",
    "in_archive",
    "npy_header",
    "parse_npy",
    "rows_of",
    "text_of",
]

PICKLES = ("pkl", "pickle", "pyd", "pth", "pt")
_PLAN_ROWS = 64
_PLAN_BYTES = 32 << 20
_MAX_NPY_HEADER = 10_000
_MAX_AHEAD = 4
_AHEAD_BYTES = 32 << 20


class Raw(Protocol):
    """A sample as its container holds it: where it lies, and how many bytes it has."""

    @property
    def place(self) -> str:
        """For errors: the container, and what in it."""

    @property
    def size(self) -> int:
        """Bytes."""


R = TypeVar("R", bound=Raw)


class Plan(Protocol[T]):
    """What the fields of raw samples become."""

    @property
    def types(self) -> Mapping[str, str]:
        """Of fields whose first value doesn't show it."""

    def decode(self, raw: T) -> dict[str, Any]:
        """The values of a sample. Raises SourceError for what isn't as planned."""


class _Decoded(Generic[R]):
    def __init__(self, raws: Iterator[R], plan: Plan[R], skipped: list[SkippedRow] | None) -> None:
        self._raws, self._plan, self._skipped = raws, plan, skipped

    def __iter__(self) -> Iterator[Sample]:
        for row, raw in enumerate(self._raws):
            sample = self._decode(row, raw)
            if sample is not None:
                yield sample

    def _decode(self, row: int, raw: R) -> Sample | None:
        try:
            return Sample(raw.place, row, self._plan.decode(raw))
        except SourceError as error:
            if self._skipped is None:
                raise SourceError(f"{raw.place}: {error}") from None
            self._skipped.append(SkippedRow(row, raw.place, str(error)))
            return None


def rows_of(
    raws: Iterable[R],
    make_plan: Callable[[list[R]], Plan[R]],
    options: SourceOptions,
    provenance: dict[str, Any],
) -> RowSource:
    """The samples of a container; the first 64 of them (32 MiB at most) decide what the fields are."""
    iterator = iter(raws)
    first: list[R] = []
    filled = 0
    for raw in iterator:
        first.append(raw)
        filled += raw.size
        if len(first) == _PLAN_ROWS or filled >= _PLAN_BYTES:
            break
    if not first:
        raise SourceError(f"{provenance['source']}: no samples")
    plan = make_plan(first)
    skipped: list[SkippedRow] | None = [] if options.on_error == "skip" else None
    samples = _Decoded(itertools.chain(first, iterator), plan, skipped)
    return RowSource(
        samples,
        options.class_names,
        options.shard_size,
        options.types,
        hints=plan.types,
        provenance=provenance,
        skipped=skipped,
    )


def chained(paths: Sequence[str], read: Callable[[str], Iterator[R]]) -> Iterator[R]:
    """The samples of files, one file behind the other; the next files are decompressed ahead."""
    # What lies in plain files is mostly read by the native threads; only decompressing gains by threads here.
    if not any(map(is_compressed, paths)):
        return itertools.chain.from_iterable(map(read, paths))
    threads = min(len(paths), _fastshard.available_threads(), _MAX_AHEAD)
    return in_order([functools.partial(read, path) for path in paths], lambda raw: raw.size, threads, _AHEAD_BYTES)


def in_archive(archive: str, name: str, value: bytes | Encoded) -> Encoded:
    """An image, or audio, in an archive, with its path: the archive's name and its own."""
    path = f"{archive.rpartition('/')[2]}/{name}"
    return value._replace(path=path) if isinstance(value, Encoded) else Encoded(path, value)


def text_of(what: str, data: bytes) -> str:
    """UTF-8 as text."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{what}: not UTF-8: {error}") from None


def file_kind(samples: Sequence[bytes]) -> str | None:
    """``"image"`` or ``"audio"`` if all of some samples begin as such do; else, and for none, None."""
    if samples and all(_fastshard.image_format(data[:64]) is not None for data in samples):
        return "image"
    return "audio" if samples and all(_fastshard.audio_format(data) is not None for data in samples) else None


def npy_header(what: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of the array in an ``.npy`` file. SourceError if it is none."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(stream, max_header_size=_MAX_NPY_HEADER)
    except zipfile.BadZipFile as error:
        raise SourceError(f"{what}: {error}") from None
    except Exception as error:  # noqa: BLE001 - NumPy parses a header as Python: ValueError, TokenError, TypeError ...
        raise SourceError(f"{what}: not an .npy file: {error}") from None
    return shape, bool(columns_first), dtype


def parse_npy(what: str, data: bytes) -> Any:
    """The array of an ``.npy`` file. Its header is held against its size before anything is made of it; no pickles."""
    import io

    import numpy as np

    stream = io.BytesIO(data)
    shape, columns_first, dtype = npy_header(what, stream)
    if dtype.hasobject or dtype.names or dtype.itemsize == 0:
        raise SourceError(f"{what}: an array of {dtype}; expected numbers")
    count = 1
    for length in shape:
        count *= length
    rest = len(data) - stream.tell()
    if min(shape, default=1) < 0 or count * dtype.itemsize != rest:
        raise SourceError(f"{what}: an array of shape {shape} and type {dtype} in {rest:,} bytes")
    array = np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if columns_first else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
