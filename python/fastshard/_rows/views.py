"""What views are made by: random parts, chosen rows, weights and concatenations. Only row numbers are computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from fastshard import _fastshard
from fastshard._base import check as _check

from .arrow import read_column, read_schema
from .groups import parts_of_groups
from .opened import Opened
from .view import Problem, View

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Integers = NDArray[np.int64]

__all__ = [
    "balanced",
    "concat",
    "keep",
    "kfold",
    "mix",
    "split",
    "subset",
    "weighted",
    "where",
    "without",
]

V = TypeVar("V", bound=View)
# Permutations of the same rows and seed for different ends must differ, and from those of epochs, which count from 0.
_SPLIT, _KFOLD, _SUBSET = (2**64 - 1 - number for number in range(3))
_MAX_SEED = 2**64 - 1
_NUMBER = "_fastshard_row"


def split(
    dataset: V,
    parts: Sequence[float] | Mapping[str, float],
    stratify: str | None,
    seed: int,
    group: str | None = None,
) -> tuple[V, ...] | dict[str, V]:
    """See ``Dataset.split``."""
    if isinstance(parts, Mapping):
        return dict(zip(parts, _split(dataset, tuple(parts.values()), stratify, seed, group), strict=True))
    return _split(dataset, tuple(parts), stratify, seed, group)


def _split(dataset: V, parts: Sequence[float], stratify: str | None, seed: int, group: str | None) -> tuple[V, ...]:
    sizes = _sizes(parts, len(dataset))
    order = _permutation(len(dataset), seed, _SPLIT)
    if group is not None:
        part = _grouped(dataset, group, stratify, sizes, order)
        return tuple(dataset._take(np.flatnonzero(part == at)) for at in range(len(sizes)))
    if stratify is not None:
        order = _stratified(_codes(dataset, stratify), sizes, order)
    ends = np.cumsum(sizes)
    return tuple(
        dataset._take(np.sort(order[end - size : end])) for end, size in zip(ends.tolist(), sizes, strict=True)
    )


def _sizes(parts: Sequence[Any], rows: int) -> list[int]:
    """Rows of each part."""
    if not parts:
        raise ValueError(f"parts={parts!r}: expected at least one fraction or number of rows")
    if all(isinstance(part, (int, np.integer)) for part in parts):
        sizes = [_check.integer("parts", part) for part in parts]
        if sum(sizes) != rows:
            raise ValueError(f"parts={parts!r}: add up to {sum(sizes):,} rows, expected all {rows:,}")
        return sizes
    fractions = _check.numbers("parts", parts)
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-9):
        raise ValueError(f"parts={parts!r}: expected fractions that add up to 1; name one for the rest")
    # What is next to a whole number is meant to be it: 0.29 of 100 rows are 29.
    ends = [math.floor(math.fsum(fractions[: at + 1]) * rows + 1e-6) for at in range(len(fractions))]
    ends[-1] = rows
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _permutation(count: int, seed: int, purpose: int) -> Integers:
    _check.integer("seed", seed, 0, _MAX_SEED)
    return np.frombuffer(_fastshard.permutation(count, seed, purpose, 0, count), "<i8").astype(np.int64, copy=False)


def _codes(dataset: View, field: str) -> Integers:
    """The values of a field as numbers from 0, in the order in which the values first appear."""
    values = read_column(dataset, dataset.field(field).name)
    if values.ndim != 1:
        raise ValueError(f"field {field!r}: expected one value a row, these have shape {values.shape[1:]}")
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _grouped(dataset: View, group: str, stratify: str | None, shares: Sequence[float], order: Integers) -> Integers:
    """The part of each row, where parts share no value of the field ``group``."""
    groups = _codes(dataset, group)
    counts = _counts(dataset, stratify, groups)
    try:
        return parts_of_groups(groups, counts, shares, order)
    except ValueError as error:
        raise ValueError(f"group={group!r}: {error}") from None


def _counts(dataset: View, field: str | None, groups: Integers) -> NDArray[np.float64]:
    """How much of each class each group holds, ``[groups, classes]``; of a multi-hot field also how many rows."""
    rows = np.bincount(groups).astype(np.float64)
    if field is None:
        return rows[:, None]
    values = read_column(dataset, dataset.field(field).name)
    if dataset.field(field).type == "tensor" and values.ndim == 2:
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"stratify={field!r}: expected how much a row is of each class, numbers of at least 0")
        shares = np.zeros((len(rows), values.shape[1]))
        np.add.at(shares, groups, values)
        return np.column_stack([shares, rows])
    codes = _codes(dataset, field)
    counts = np.zeros((len(rows), int(codes.max(initial=0)) + 1))
    np.add.at(counts, (groups, codes), 1)
    return counts


def _stratified(codes: Integers, sizes: Sequence[int], order: Integers) -> Integers:
    """``order`` rearranged so that each part of it holds every value in proportion.

    Part after part takes its share of what is left of each value: quotas rounded down, and one more where the most was
    cut off, as scikit-learn's ``StratifiedShuffleSplit`` does it; equal remainders go by the order.
    """
    ranked = order[np.argsort(codes[order], kind="stable")]
    left = np.bincount(codes)
    starts = np.cumsum(left) - left
    chance = np.argsort(np.unique(codes[order], return_index=True)[1])
    parts = []
    for size in sizes:
        taken = _apportion(left, size, chance)
        pieces = [ranked[start : start + count] for start, count in zip(starts, taken, strict=True)]
        parts.append(np.concatenate(pieces) if pieces else ranked[:0])
        left, starts = left - taken, starts + taken
    return np.concatenate(parts)


def _apportion(counts: Integers, size: int, chance: Integers) -> Integers:
    """``size`` shared out in proportion to ``counts``; ties in the order of ``chance``."""
    total = int(counts.sum())
    if total == 0:
        return counts
    shares, rest = np.divmod(counts * size, total)
    places = np.empty_like(chance)
    places[chance] = np.arange(len(chance))
    more = np.lexsort((places, -rest))[: size - int(shares.sum())]
    shares[more] += 1
    return shares


def kfold(dataset: V, k: int, stratify: str | None, seed: int, group: str | None = None) -> list[tuple[V, V]]:
    """See ``Dataset.kfold``."""
    _check.integer("k", k, 2, max(2, len(dataset)))
    order = _permutation(len(dataset), seed, _KFOLD)
    if group is not None:
        return _folds(dataset, _grouped(dataset, group, stratify, [1 / k] * k, order), k)
    if stratify is not None:
        order = order[np.argsort(_codes(dataset, stratify)[order], kind="stable")]
    # Dealt out like cards, so that every value is shared out evenly.
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % k
    return _folds(dataset, fold, k)


def _folds(dataset: V, fold: Integers, k: int) -> list[tuple[V, V]]:
    pairs = ((np.flatnonzero(fold != at), np.flatnonzero(fold == at)) for at in range(k))
    return [(dataset._take(train), dataset._take(validation)) for train, validation in pairs]


def subset(dataset: V, size: float, stratify: str | None, seed: int) -> V:
    """See ``Dataset.subset``."""
    count = _count(size, len(dataset))
    order = _permutation(len(dataset), seed, _SUBSET)
    if stratify is not None:
        order = _spread(_codes(dataset, stratify), order)
    return dataset._take(np.sort(order[:count]))


def _count(size: float, rows: int) -> int:
    if isinstance(size, (int, np.integer)) and not isinstance(size, bool):
        return _check.integer("size", size, 0, rows)
    return round(_check.number("size", size, 0, 1) * rows)


def _spread(codes: Integers, order: Integers) -> Integers:
    """``order`` rearranged so that every beginning of it holds every value in proportion.

    The n-th of a value's N rows goes to the place (n - 1/2) / N of the way: the seats of Webster's and Sainte-Lague's
    method, which never takes one back as their number grows. That is what makes subsets lie inside each other.
    """
    counts = np.bincount(codes)
    ranked = order[np.argsort(codes[order], kind="stable")]
    of = codes[ranked]
    nth = np.arange(len(ranked)) - (np.cumsum(counts) - counts)[of]
    chance = np.empty_like(order)
    chance[order] = np.arange(len(order))
    return ranked[np.lexsort((chance[ranked], (nth + 0.5) / counts[of]))]


def keep(dataset: V, condition: pc.Expression | ArrayLike) -> V:
    """See ``Dataset.filter``."""
    if isinstance(condition, pc.Expression):
        matching = _matching(dataset, condition)
        return dataset._take(np.flatnonzero(matching[dataset._row_numbers()]))
    mask = np.asarray(condition)
    if mask.dtype != np.bool_ or mask.shape != (len(dataset),):
        wanted = f"a pyarrow expression or a mask of {len(dataset):,} booleans"
        raise TypeError(
            f"condition of type {type(condition).__name__}, dtype {mask.dtype}, shape {mask.shape}: {wanted}"
        )
    return dataset._take(np.flatnonzero(mask))


def _matching(dataset: View, condition: pc.Expression) -> NDArray[np.bool_]:
    """A mask of all rows of the dataset, read shard by shard."""
    masks, schema = [np.empty(0, np.bool_)], read_schema(dataset)
    # One column of fastshard's own at least, since a table without columns has no rows.
    for table in dataset._opened.tables([*_named(schema, condition), schema.names[-1]]):
        mask = np.zeros(len(table), np.bool_)
        numbered = table.append_column(_NUMBER, pa.array(np.arange(len(table))))
        # The scanner reads the columns that the expression names, and no image.
        scanner = pyarrow.dataset.dataset(numbered).scanner(columns=[_NUMBER], filter=condition)
        mask[scanner.to_table().column(_NUMBER).to_numpy()] = True
        masks.append(mask)
    return np.concatenate(masks)


def _named(schema: pa.Schema, condition: pc.Expression) -> list[str]:
    """The columns that an expression names: those without which pyarrow can't evaluate it."""

    def check(names: Sequence[str]) -> None:
        empty = pa.schema([schema.field(name) for name in names]).empty_table()
        pyarrow.dataset.dataset(empty).scanner(filter=condition)

    def is_named(name: str) -> bool:
        try:
            check([other for other in schema.names if other != name])
        except pa.ArrowInvalid:
            return True
        return False

    check(schema.names)  # an expression that pyarrow can't evaluate is its error to tell
    return [name for name in schema.names[:-1] if is_named(name)]


def where(dataset: V, values: Mapping[str, Any]) -> V:
    """See ``Dataset.where``."""
    mask = np.ones(len(dataset), np.bool_)
    for name, wanted in values.items():
        listed = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset, np.ndarray)) else [wanted]
        mask &= np.isin(read_column(dataset, dataset.field(name).name), _numbers(dataset, name, listed))
    return dataset._take(np.flatnonzero(mask))


def _numbers(dataset: View, field: str, values: Sequence[Any]) -> Sequence[Any]:
    """Class names as their numbers; other values as they are."""
    names = dataset.field(field).class_names
    if names is None:
        return values
    for value in values:
        number = isinstance(value, (int, np.integer)) and 0 <= value < len(names)
        if value not in names and not number:
            raise ValueError(
                f"{field}={value!r}: expected one of {', '.join(names[:20])}, or a number below {len(names)}"
            )
    return [names.index(value) if isinstance(value, str) else value for value in values]


def without(dataset: V, problems: Any) -> V:
    """See ``Dataset.without``."""
    if isinstance(problems, (Problem, str)):
        raise TypeError(f"problems={problems!r}: expected a list, such as what verify returns")
    bad = np.array([_bad_row(dataset, problem) for problem in problems], np.int64)
    kept = np.flatnonzero(~np.isin(dataset._row_numbers(), bad))
    view = dataset._take(kept)
    if dataset._weights is not None and dataset.num_samples != len(dataset):
        view._num_samples = dataset.num_samples
    return view


def _bad_row(dataset: View, problem: Any) -> int:
    row = problem.row if isinstance(problem, Problem) else problem
    if row is None:
        raise ValueError(
            f"problems: {problem}. That names no row. Restore the shard from a copy, or leave out all of its rows: "
            f"without({_rows_of_shard(dataset, problem.shard)})"
        )
    if not isinstance(row, (int, np.integer)) or isinstance(row, bool):
        raise TypeError(f"problems: {row!r}: expected a Problem or the number of a row")
    rows = dataset._opened.native.num_rows
    if not 0 <= row < rows:
        raise IndexError(f"problems: row {row}: the dataset has {rows:,} rows")
    return int(row)


def _rows_of_shard(dataset: View, name: str) -> range:
    """Numbers of the rows in a shard, which ``verify`` names with its folder where there are several."""
    parts, first = dataset._opened.parts, 0
    for part in parts:
        for shard in part.manifest["shards"]:
            file = shard["file"] if len(parts) == 1 else str(Path(part.paths[0], shard["file"]))
            if file == name:
                return range(first, first + shard["rows"])
            first += shard["rows"]
    raise ValueError(f"problems: {name!r} is no shard of {dataset._opened.name}")


def weighted(dataset: V, weights: ArrayLike, num_samples: int | None) -> V:
    """See ``Dataset.weighted``."""
    try:
        values = np.array(weights, np.float64)
    except OverflowError:
        raise ValueError("weights: a number too large for float64, expected finite numbers of at least 0") from None
    if values.shape != (len(dataset),):
        raise ValueError(f"weights of shape {values.shape}: expected one for each of {len(dataset):,} rows")
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"weights: {values[row]} for row {row}, expected finite numbers of at least 0")
    if len(values) and not values.any():
        raise ValueError("weights: all are 0, expected at least one that is more")
    samples = len(dataset) if num_samples is None else _check.integer("num_samples", num_samples)
    if samples and not len(dataset):
        raise ValueError(f"num_samples={samples}: the dataset has no rows to draw from")
    return dataset._view(dataset._rows, values, samples)


def balanced(dataset: V, field: str | None, num_samples: int | None) -> V:
    """See ``Dataset.balanced``."""
    codes = _codes(dataset, _class_field(dataset) if field is None else field)
    order = np.argsort(codes, kind="stable")
    weights = 1 / np.bincount(codes)[codes[order]]
    return weighted(dataset._take(order), weights, num_samples)


def _class_field(dataset: View) -> str:
    named = [field.name for field in dataset.fields if field.type == "class"]
    if len(named) != 1:
        raise ValueError(f"field=None: expected one field with classes, there are {', '.join(named) or 'none'}")
    return named[0]


def concat(datasets: Iterable[V]) -> V:
    """See ``fastshard.concat``."""
    views = list(datasets)
    if not views or not all(isinstance(view, View) for view in views):
        raise TypeError(f"datasets={views!r}: expected at least one fastshard.Dataset")
    leaves: dict[tuple[str, str], Opened] = {}
    for view in views:
        for leaf in view._opened.parts:
            leaves.setdefault(leaf.key, leaf)
    _check_classes(list(leaves.values()))
    first = views[0]._opened
    opened = first if len(leaves) == len(first.parts) else Opened.join(list(leaves.values()))
    ends = np.cumsum([leaf.native.num_rows for leaf in leaves.values()])
    starts = dict(zip(leaves, [0, *ends.tolist()], strict=False))
    rows = _as_range(np.concatenate([_moved(view, starts) for view in views]))
    if all(view._weights is None for view in views):
        return views[0]._of(opened, rows)
    weights = np.concatenate([_weights(view) for view in views])
    return views[0]._of(opened, rows, weights)


def _check_classes(leaves: Sequence[Opened]) -> None:
    """The core refuses other fields; here is what can be done about other classes."""
    first = leaves[0]
    for leaf in leaves[1:]:
        for name, field in leaf.fields.items():
            own = first.fields.get(name)
            if own is None or own.class_names is None or field.class_names in (None, own.class_names):
                continue
            differing = sorted(set(field.class_names or ()).symmetric_difference(own.class_names))
            listed = f"not in both: {', '.join(differing[:10])}" if differing else "the same in another order"
            raise ValueError(
                f"{leaf.name} can't be put behind {first.name}: field {name!r} has other classes ({listed}); "
                "fastshard.pack([a, b], dst) makes one dataset of both, with the classes of each"
            )


def _moved(view: View, starts: Mapping[tuple[str, str], int]) -> Integers:
    """The rows of a view when its folders start elsewhere."""
    parts = view._opened.parts
    sizes = np.array([leaf.native.num_rows for leaf in parts])
    ends = np.cumsum(sizes)
    moved_by = np.array([starts[leaf.key] for leaf in parts]) - (ends - sizes)
    rows = view._row_numbers()
    moved: Integers = rows + moved_by[np.searchsorted(ends, rows, side="right")]
    return moved


def _as_range(rows: Integers) -> range | Integers:
    if len(rows) == 0:
        return range(0)
    plain = range(int(rows[0]), int(rows[0]) + len(rows))
    return plain if np.array_equal(rows, np.arange(plain.start, plain.stop)) else rows


def _weights(view: View) -> NDArray[np.float64]:
    return np.ones(len(view)) if view._weights is None else view._weights


def mix(datasets: Sequence[V], weights: Sequence[float], num_samples: int | None) -> V:
    """See ``fastshard.mix``."""
    shares = _check.numbers("weights", weights)
    if len(shares) != len(datasets) or min(shares) < 0 or sum(shares) == 0:
        raise ValueError(f"weights={weights!r}: expected {len(datasets)} numbers of at least 0, not all of them 0")
    whole = concat(datasets)
    parts = []
    for share, view in zip(shares, datasets, strict=True):
        own = _weights(view)
        if share and not own.sum():
            raise ValueError(f"weights={weights!r}: {share} for {view._opened.name}, which has no rows to draw from")
        parts.append(own * (share / own.sum()) if share else own * 0)
    return weighted(whole._view(whole._rows), np.concatenate(parts), num_samples)
