"""Opened datasets: the whole folder, or a view on some of its rows, which shares the mapping and costs nothing."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ._rows.opened import Field, Opened
from ._rows.view import Problem, View

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from numpy.typing import ArrayLike, NDArray

    from ._export.report import ExportReport

    Rows = range | NDArray[np.int64]

__all__ = ["Dataset", "Field", "Problem", "concat", "from_arrays", "mix", "open"]


class Dataset(View):
    """A packed dataset, memory-mapped; made by ``fastshard.open``.

    ``ds[i]`` is one sample, ``ds[a:b]`` and ``ds[[1, 5, 7]]`` are views on the same data, without copies. So are
    ``split``, ``kfold``, ``subset``, ``filter``, ``where``, ``balanced``, ``weighted``, and ``fastshard.concat`` and
    ``mix``: views of views, all of which a ``Loader`` takes.
    """

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the shards, fastshard's own columns (with a leading underscore) included."""
        from ._rows import arrow

        return arrow.read_schema(self)

    @overload
    def split(
        self, parts: Sequence[float], stratify: str | None = None, seed: int = 0, group: str | None = None
    ) -> tuple[Dataset, ...]: ...
    @overload
    def split(
        self, parts: Mapping[str, float], stratify: str | None = None, seed: int = 0, group: str | None = None
    ) -> dict[str, Dataset]: ...
    def split(
        self,
        parts: Sequence[float] | Mapping[str, float],
        stratify: str | None = None,
        seed: int = 0,
        group: str | None = None,
    ) -> tuple[Dataset, ...] | dict[str, Dataset]:
        """Cuts the rows into random parts that share none: ``train, val = ds.split([0.9, 0.1], stratify="label")``.

        ``parts``: fractions that add up to 1, or numbers of rows that add up to all; as a list, which gives a tuple, or
        by name, which gives a dict. ``stratify`` names a field whose values come in every part as often as in the whole
        (as scikit-learn's ``train_test_split`` does it). The same for the same rows and seed. Rows keep their order.

        ``group`` names a field of which no value may be in two parts: ``ds.split([0.8, 0.2], group="Patient ID")``.
        Parts are then as large as the groups allow, and with ``stratify`` about as rich in each value; the groups that
        are hardest to place come first, each to where the parts are then filled most evenly (the method of
        scikit-learn's ``StratifiedGroupKFold``). ``stratify`` may then be a multi-hot field as well. Every part gets a
        group; ValueError if there are fewer groups than parts.
        """
        from ._rows import views

        return views.split(self, parts, stratify, seed, group)

    def kfold(
        self, k: int, stratify: str | None = None, seed: int = 0, group: str | None = None
    ) -> list[tuple[Dataset, Dataset]]:
        """``k`` pairs (train, validation) for cross-validation; each row is in one validation part.

        With ``stratify``, parts get as many of each value as scikit-learn's ``StratifiedKFold`` gives them; with
        ``group``, no value of that field is on both sides, see ``split``.
        """
        from ._rows import views

        return views.kfold(self, k, stratify, seed, group)

    def subset(self, size: float, stratify: str | None = None, seed: int = 0) -> Dataset:
        """A random part: a fraction (a float up to 1.0) or a number of rows (an int). Rows keep their order.

        Nested: with the same seed and ``stratify``, a smaller subset lies inside every larger one.
        """
        from ._rows import views

        return views.subset(self, size, stratify, seed)

    def filter(self, condition: pc.Expression | ArrayLike) -> Dataset:
        """The rows for which a pyarrow expression (``pc.field("label") == 3``) or a mask is true.

        Only the columns that the expression names are read.
        """
        from ._rows import views

        return views.keep(self, condition)

    def where(self, **values: Any) -> Dataset:
        """The rows that hold these values: ``ds.where(label="cat")``, ``ds.where(label=["cat", "dog"], source=3)``.

        Classes go by name or number. ValueError for a class that does not exist.
        """
        from ._rows import views

        return views.where(self, values)

    def without(self, problems: Iterable[Problem | int]) -> Dataset:
        """All rows but those that ``verify`` complains of: ``ds = ds.without(ds.verify(decode=True))``.

        ``problems``: what ``verify`` returned, or numbers of rows. A number counts the rows of the whole dataset, as in
        a ``Problem`` and in errors, also where this is a view: rows that the view doesn't have are ignored. Weights are
        kept.

        Raises ValueError for a problem that names no row, such as a damaged block, and says which rows its shard has;
        IndexError for a row that the dataset doesn't have.
        """
        from ._rows import views

        return views.without(self, problems)

    def weighted(self, weights: ArrayLike, num_samples: int | None = None) -> Dataset:
        """A view whose rows a ``Loader`` draws in proportion to ``weights``, one for each row, anew every epoch.

        An epoch has ``num_samples`` samples, by default as many as there are rows. They are stratified draws: a row
        comes as often as its weight says, give or take one, and its augmentation differs each time. With shuffle=False
        they come in the order of the rows. Views of this view keep the weights.
        """
        from ._rows import views

        return views.weighted(self, weights, num_samples)

    def balanced(self, field: str | None = None, num_samples: int | None = None) -> Dataset:
        """A view of which a ``Loader`` draws every class equally often: see ``weighted``. Its rows are sorted by class.

        ``field``: by default the one with classes.
        """
        from ._rows import views

        return views.balanced(self, field, num_samples)

    def concat(self, *others: Dataset) -> Dataset:
        """This dataset or view, and others of the same fields behind it; see ``fastshard.concat``."""
        from ._rows import views

        return views.concat([self, *others])

    def column(self, name: str) -> NDArray[Any]:
        """All values of a column that holds no files, as an array of shape ``[rows, ...]``: to count classes, say."""
        from ._rows import arrow

        return arrow.read_column(self, name)

    def to_arrow(self) -> pa.Table:
        """A table over the memory-mapped shards. Nothing is copied for whole datasets and plain slices."""
        from ._rows import arrow

        return arrow.read_table(self)

    def to_hf(self) -> datasets.Dataset:
        """A ``datasets.Dataset`` over the same memory.

        Images become Image, audio Audio, classes ClassLabel, tensors List or ArrayND. Leaves out fastshard's own
        columns. Needs the package ``datasets``.
        """
        from ._rows import hf

        return hf.to_hf(self)

    def export(self, out: str | os.PathLike[str], *, to: str, **options: Any) -> ExportReport:
        """Writes the rows as files that other programs read: ``"folder"``, ``"webdataset"``, ``"parquet"`` ...

        ``options`` are those of ``fastshard.export``, which says what each format holds.
        """
        from ._export.run import export

        return export(self, out, to=to, **options)

    def verify(
        self, num_threads: int | None = None, progress: bool | None = None, decode: bool = False
    ) -> list[Problem]:
        """Reads every byte of every shard and compares it with its checksums; an empty list means that all is well.

        Checks the whole dataset, also when called on a view; of a concatenation all folders, and then a problem names
        the shard with its folder. ``progress`` shows a bar; by default if stderr is a terminal.

        ``decode`` also decodes every image and every audio file in full, as ``ds[i]`` does, which finds files that
        were damaged before they were packed: a problem names shard, row, field, source path and reason. ``without``
        leaves these rows out.
        """
        from ._base import check
        from ._rows import verify as _verify

        self._opened.need_files("verify")
        return _verify.verify(self, num_threads, progress, check.boolean("decode", decode))

    def __reduce__(self) -> tuple[Any, ...]:
        self._opened.need_files("pickle")
        rows = None if self._is_whole() else self._rows
        return _reopen, (self._opened.sources, rows, self._weights, self._num_samples)

    def __repr__(self) -> str:
        fields = "".join(f"\n  {field}" for field in self.fields)
        whole = "" if self._is_whole() else f" of {self._opened.native.num_rows:,}"
        drawn = "" if self._weights is None else f", {self.num_samples:,} weighted samples an epoch"
        return f"<fastshard.Dataset {self._opened.name!r}, {len(self):,}{whole} rows{drawn}{fields}>"


def _reopen(
    sources: list[tuple[str, str]],
    rows: Rows | None,
    weights: NDArray[np.float64] | None,
    num_samples: int | None,
) -> Dataset:
    parts = [Opened.folder(path) for path, _ in sources]
    for part, source in zip(parts, sources, strict=True):
        part.expect([source])
    opened = Opened.join(parts)
    return Dataset._of(opened, rows, weights, num_samples)


def open(path: str | os.PathLike[str]) -> Dataset:
    """Opens a packed dataset in milliseconds, whatever its size.

    Raises FileNotFoundError if there is none, FormatError if the folder is something else or was written by a newer
    version, and CorruptionError if a shard is missing or has another size than its manifest says.
    """
    return Dataset(path)


def from_arrays(arrays: Mapping[str, ArrayLike]) -> Dataset:
    """A dataset over arrays that are in memory already: NumPy arrays or memmaps, torch tensors on the CPU.

        ds = fs.from_arrays({"features": features, "label": label})
        train, test = ds.split([0.9, 0.1], stratify="label")
        for batch in fs.Loader(train, 1024, shuffle=True):
            ...

    Each array has a row for each sample and becomes a field of its name. Nothing is copied as long as arrays are
    C-contiguous and little-endian; do not write to them while batches are made of them. Views, loaders and adapters
    work as with a packed dataset, except in processes that are spawned. The fingerprint covers types and shapes, no
    values.

    Raises ValueError for arrays of different lengths or of types that cannot be stored, with the name.
    """
    from ._rows import memory

    return Dataset._of(memory.open_arrays(arrays))


def concat(datasets: Iterable[Dataset]) -> Dataset:
    """Datasets or views of the same fields behind each other, as one; nothing is copied.

    Parts of one dataset become one view of it. Raises ValueError if the fields, or the names of their classes, differ:
    ``fastshard.pack([a, b], dst)`` makes a dataset of both, with the classes of each.
    """
    from ._rows import views

    return views.concat(datasets)


def mix(datasets: Sequence[Dataset], weights: Sequence[float], num_samples: int | None = None) -> Dataset:
    """Datasets of the same fields, of which a ``Loader`` draws in these proportions: see ``Dataset.weighted``.

    ``mix([photos, renderings], [0.8, 0.2])``: of an epoch's ``num_samples`` (by default as many as there are rows in
    all), 80 % are photos. Within a dataset, rows are drawn equally often, or as its own weights say.
    """
    from ._rows import views

    return views.mix(datasets, weights, num_samples)
