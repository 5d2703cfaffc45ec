"""Tables as sources, a piece at a time: columns become fields, or one tensor of many columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ._fastshard import SourceError
from ._source import StreamSource, class_field, first_five, ipc_stream, is_list, list_field
from ._statistics import Statistics
from ._table_blobs import blob_array, blob_field, is_blob, labels_of

__all__ = ["Columns", "Part", "TableSource", "is_number"]

_BLOCK_BYTES = 16 << 20
_MAX_BLOCK_ROWS = 1 << 20
_MAX_CATEGORIES = 1 << 16
_FEATURES = "features"
_VARYING = ("text", "list", "image", "audio", "bytes")
_DTYPES = ("float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


@dataclass(frozen=True)
class Columns:
    """Which columns become what; see ``fastshard.pack``. Columns go by name or by number."""

    label: str | int | Sequence[str | int] | None = None
    features: str | Sequence[str | int] | None = None
    dtype: str = "float32"
    missing: str | float = "error"
    types: Mapping[Any, str] = field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One file or frame: its name for errors, its columns, and its rows as often as they are asked for.

    ``batches`` takes the types of columns for formats that have none themselves.
    """

    name: str
    columns: pa.Schema
    batches: Callable[[Mapping[str, pa.DataType]], Iterator[pa.RecordBatch]]


class TableSource(StreamSource):
    """The rows of tables of the same columns, as record batches of up to 16 MiB.

    Rows count from 1 in each file, without its header. Raises SourceError that names file, row, column and value.
    """

    def __init__(self, parts: Sequence[Part], options: Columns, shard_size: int, kind: str) -> None:
        self._parts = parts
        self._options = options
        self._names = _check_columns(parts)
        if options.dtype not in _DTYPES:
            raise ValueError(f"dtype={options.dtype!r}: expected one of {', '.join(_DTYPES)}")
        self._labels = _picked("label", options.label, self._names)
        self._features = self._pick_features()
        self._own = [name for name in self._names if name not in self._features] if not self._features else self._labels
        self._types = {_picked("types", name, self._names)[0]: dtype for name, dtype in options.types.items()}
        self._read_as = self._feature_types()
        self._class_names = self._find_class_names()
        self._categories = self._find_categories()
        self._blobs = self._find_blobs()
        self._fill = self._find_fill()
        self.fields = self._fields()
        self.statistics = Statistics()
        self._varies = any(one["type"] in _VARYING for one in self.fields)
        row_bytes = sum(_row_bytes(one) for one in self.fields)
        rows = max(1, min(_BLOCK_BYTES, shard_size) // max(1, row_bytes))
        self._block_rows = min(_MAX_BLOCK_ROWS, 1 << (rows.bit_length() - 1))
        names = [part.name for part in parts]
        self.provenance = {"kind": kind, "source": names if len(names) > 1 else names[0]}

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every block."""
        waiting: list[dict[str, pa.Array]] = []
        rows = 0
        for part, row, batch in self._short_batches():
            waiting.append(self._converted(part, row, batch))
            rows += len(batch)
            while rows >= self._block_rows:
                block, waiting = _cut(waiting, self._block_rows)
                rows -= self._block_rows
                yield ipc_stream(block)
            if self._varies and _bytes(waiting) >= _BLOCK_BYTES:
                yield ipc_stream(_cut(waiting, rows)[0])
                waiting, rows = [], 0
        if rows:
            yield ipc_stream(_cut(waiting, rows)[0])

    def _short_batches(self) -> Iterator[tuple[Part, int, pa.RecordBatch]]:
        """The batches, none of which is much larger than a block."""
        for part, row, batch in self._batches():
            rows = max(1, batch.num_rows * _BLOCK_BYTES // max(1, batch.nbytes)) if self._varies else batch.num_rows
            for start in range(0, batch.num_rows, rows):
                yield part, row + start, batch.slice(start, rows)

    def described(self) -> dict[str, Any]:
        """What the manifest keeps of the fields beside their types; complete after the last chunk."""
        described = self.statistics.described()
        if self._features:
            described.setdefault(_FEATURES, {})["columns"] = list(self._features)
        for name, categories in self._categories.items():
            if name in self._features:
                described[_FEATURES].setdefault("categories", {})[name] = categories
        return described

    def _batches(self) -> Iterator[tuple[Part, int, pa.RecordBatch]]:
        """The batches with their part and the row of it that each begins with."""
        found = False
        for part in self._parts:
            row = 1
            for batch in part.batches(self._read_as):
                if batch.num_rows:
                    found = True
                    yield part, row, batch
                    row += batch.num_rows
        if not found:
            raise SourceError(f"{first_five(part.name for part in self._parts)}: no rows")

    def _pick_features(self) -> list[str]:
        features = self._options.features
        if features is None:
            return []
        if isinstance(features, str):
            if features != "all":
                raise ValueError(f'features={features!r}: expected "all", or a list of columns')
            return [name for name in self._names if name not in self._labels]
        picked = [name for feature in features for name in _picked("features", feature, self._names)]
        both = [name for name in picked if name in self._labels]
        if not picked or both or len(set(picked)) != len(picked):
            raise ValueError(f"features={features!r}: expected columns that differ, none of them the label")
        return picked

    def _feature_types(self) -> dict[str, pa.DataType]:
        """Features are read as what they become: one that looks whole may have fractions further on."""
        schema = self._parts[0].columns
        kind = "float64" if self._options.dtype == "float16" else self._options.dtype
        numbers = [name for name in self._features if _is_number(schema.field(name).type)]
        return dict.fromkeys(numbers, pa.type_for_alias(kind))

    def _find_categories(self) -> dict[str, list[str]]:
        """The values of columns of text that must become numbers, sorted; read beforehand where there are some."""
        schema = self._parts[0].columns
        wanted = [*self._labels, *self._features]
        texts = [name for name in wanted if _is_text(schema.field(name).type) and name not in self._class_names]
        found: dict[str, Counter[str]] = {name: Counter() for name in texts}
        if texts:
            for part, row, batch in self._batches():
                for name in texts:
                    column = _text(batch.column(name))
                    if column.null_count and (name in self._labels or self._options.missing in ("error", "mean")):
                        raise _problem(part, row + _first(pc.is_null(column)), name, None, "a value")
                    for one in pc.value_counts(column.drop_null()).to_pylist():
                        found[name][one["values"]] += one["counts"]
                    if len(found[name]) > _MAX_CATEGORIES:
                        raise SourceError(f"{part.name}: column {name!r} holds more than {_MAX_CATEGORIES:,} texts")
        for name in texts:
            self._check_categories(name, found[name])
        given = {name: names for name, names in self._class_names.items() if _is_text(schema.field(name).type)}
        return {**{name: sorted(values) for name, values in found.items()}, **given}

    def _find_class_names(self) -> dict[str, list[str]]:
        """The names of classes that were given or that the table knows; not of columns whose type is given."""
        own = [name for name in self._own if name not in self._types]
        known = {name: names for name, names in labels_of(self._parts[0].columns).items() if name in own}
        for name, names in self._options.class_names.items():
            if name not in self._own:
                raise SourceError(f"class_names for {name!r}: the columns are {first_five(map(repr, self._own))}")
            known[name] = list(names)
        return known

    def _find_blobs(self) -> dict[str, dict[str, Any]]:
        """Columns of bytes, and whether they are images, for which the first batch is read."""
        schema = self._parts[0].columns
        blobs = [name for name in self._own if is_blob(schema.field(name).type)]
        if not blobs:
            return {}
        _, _, batch = next(self._batches())
        return {name: blob_field(name, batch.column(name)) for name in blobs}

    def _check_categories(self, name: str, values: Counter[str]) -> None:
        """Tells names from numbers with a slip among them."""
        words = {value: count for value, count in values.items() if not is_number(value)}
        if sum(words.values()) * 2 >= values.total():
            return
        for part, row, batch in self._batches():
            wrong = pc.is_in(_text(batch.column(name)), pa.array(sorted(words), pa.string()))
            if pc.any(wrong).as_py():
                at = _first(wrong)
                hint = "; is this line a header? header=True" if row + at == 1 else ""
                raise _problem(part, row + at, name, batch.column(name)[at].as_py(), f"a number, as most are{hint}")

    def _find_fill(self) -> dict[str, float]:
        """What stands for missing values; means are read beforehand."""
        missing = self._options.missing
        if not isinstance(missing, str):
            return dict.fromkeys(self._names, float(missing))
        if missing not in ("error", "keep", "mean"):
            raise ValueError(f'missing={missing!r}: expected "error", "mean", "keep" or a number')
        if missing != "mean":
            return {}
        sums = dict.fromkeys(self._numeric(), 0.0)
        counts = dict.fromkeys(self._numeric(), 0)
        for _, _, batch in self._batches():
            for name in sums:
                values = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
                known = values[np.isfinite(values)]
                sums[name] += float(known.sum())
                counts[name] += len(known)
        return {name: sums[name] / counts[name] for name in sums if counts[name]}

    def _numeric(self) -> list[str]:
        schema = self._parts[0].columns
        return [name for name in [*self._features, *self._own] if _is_number(schema.field(name).type)]

    def _fields(self) -> list[dict[str, Any]]:
        fields: list[dict[str, Any]] = []
        if self._features:
            shape = [len(self._features)]
            fields.append({"name": _FEATURES, "type": "tensor", "dtype": self._options.dtype, "shape": shape})
        fields += [self._field(name) for name in self._own]
        names = [one["name"] for one in fields]
        if len(set(names)) != len(names):
            raise SourceError(
                f"{self._parts[0].name}: column {_FEATURES!r} has the name of the fused columns; rename it"
            )
        return fields

    def _field(self, name: str) -> dict[str, Any]:
        kind = self._parts[0].columns.field(name).type
        field_name = self._field_name(name)
        if name in self._categories:
            return class_field(field_name, self._categories[name])
        if name in self._class_names:
            return class_field(field_name, self._class_names[name])
        if name in self._blobs:
            return self._blobs[name]
        if _is_text(kind):
            return {"name": field_name, "type": "text"}
        if is_list(kind):
            return list_field(field_name, kind, self._types.get(name), f"{self._parts[0].name}: column {name!r}")
        return {"name": field_name, "type": "scalar", "dtype": self._dtype(name)}

    def _field_name(self, name: str) -> str:
        # The names of columns that have none are ours, too.
        unnamed = self._labels == [name] and name == f"f{self._names.index(name)}"
        return "label" if unnamed else name

    def _dtype(self, name: str) -> str:
        """The type of a column that is a field by itself."""
        if name in self._types:
            return self._types[name]
        kind = self._parts[0].columns.field(name).type
        if pa.types.is_boolean(kind):
            return "bool"
        if not _is_number(kind):
            wanted = "expected numbers, text, images, audio, bytes or lists of numbers"
            raise SourceError(f"{self._parts[0].name}: column {name!r} is {kind}; {wanted}")
        return str(np.dtype(kind.to_pandas_dtype()).name)

    def _converted(self, part: Part, row: int, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        arrays: dict[str, pa.Array] = {}
        if self._features:
            fused = np.empty((len(batch), len(self._features)), self._options.dtype)
            for at, name in enumerate(self._features):
                fused[:, at] = self._numbers(part, row, name, batch.column(name), self._options.dtype)
            self.statistics.add(_FEATURES, fused)
            arrays[_FEATURES] = pa.FixedSizeListArray.from_arrays(pa.array(fused.reshape(-1)), len(self._features))
        for name in self._own:
            arrays[self._field_name(name)] = self._own_column(part, row, name, batch.column(name))
        return arrays

    def _own_column(self, part: Part, row: int, name: str, column: pa.Array) -> pa.Array:
        if is_list(column.type):
            return self._lists(part, row, name, column)
        if name not in self._categories and _is_text(column.type):
            filled: pa.Array = pc.fill_null(_text(column), "")
            return filled
        if name in self._blobs:
            where = f"{part.name}: row {{row}}, column {name!r}"
            return blob_array(where, row, column, self._blobs[name]["type"] != "bytes")
        is_class = name in self._categories or name in self._class_names
        values = self._numbers(part, row, name, column, "int64" if is_class else self._dtype(name))
        if name in self._class_names:
            _check_classes(part, row, name, values, len(self._class_names[name]))
        if not is_class and values.dtype.kind == "f":
            self.statistics.add(self._field_name(name), values)
        return pa.array(values.view(np.uint8) if values.dtype == np.bool_ else values)

    def _lists(self, part: Part, row: int, name: str, column: pa.Array) -> pa.Array:
        """A column of lists, or of arrays of one shape, in the type of its field."""
        field = next(one for one in self.fields if one["name"] == self._field_name(name))
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if column.null_count:
            raise _problem(part, row + _first(pc.is_null(column)), name, None, "a list")
        numbers, owners = column, np.arange(len(column))
        while is_list(numbers.type):
            if not pa.types.is_fixed_size_list(numbers.type) and numbers is not column:
                raise _problem(part, row, name, None, "lists of numbers, or of arrays of one shape")
            owners = owners[pc.list_parent_indices(numbers).to_numpy()]
            numbers = numbers.flatten()
        try:
            values = self._numbers(part, 0, name, numbers, field["dtype"])
        except SourceError:
            # Again, to name the row.
            for at, owner in enumerate(owners):
                self._numbers(part, row + int(owner), name, numbers.slice(at, 1), field["dtype"])
            raise
        flat = pa.array(values.view(np.uint8) if values.dtype == np.bool_ else values)
        size = int(np.prod(field.get("shape", [])))
        if field.get("shape"):
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
        if field["type"] == "tensor":
            if values.dtype.kind == "f":
                self.statistics.add(field["name"], values.reshape(len(column), *field["shape"]))
            return flat
        lengths = pc.list_value_length(column).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), flat)

    def _numbers(self, part: Part, row: int, name: str, column: pa.Array, dtype: str) -> NDArray[Any]:
        """The values of a column in this type, with nothing missing that mustn't."""
        if name in self._categories:
            column = pc.index_in(_text(column), pa.array(self._categories[name], pa.string()))
        elif not _is_number(column.type):
            value = next((value.as_py() for value in column if value.is_valid), None)
            raise _problem(part, row, name, value, f"a number; the column is {column.type}")
        whole = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        if column.null_count == 0 and whole:
            return _narrowed(part, row, name, column.to_numpy(zero_copy_only=False), dtype)
        floats = column.cast(pa.float64(), safe=False) if whole else column
        values: NDArray[Any] = floats.to_numpy(zero_copy_only=False)
        if self._options.missing == "keep" and np.dtype(dtype).kind == "f":
            return values.astype(dtype)
        finite = np.isfinite(values)
        if not finite.all():
            values = self._filled(part, row, name, values, finite)
        return _narrowed(part, row, name, values, dtype)

    def _filled(self, part: Part, row: int, name: str, values: NDArray[Any], finite: NDArray[np.bool_]) -> NDArray[Any]:
        infinite = np.isinf(values)
        if infinite.any():
            at = int(infinite.argmax())
            raise _problem(part, row + at, name, values[at], 'a finite number (missing="keep" keeps it)')
        if name not in self._fill:
            at = int((~finite).argmax())
            wanted = 'a value (missing="mean" or a number fills the gaps, "keep" leaves NaN)'
            raise _problem(part, row + at, name, None, wanted)
        filled: NDArray[Any] = np.where(finite, values, self._fill[name])
        return filled


def is_number(text: str) -> bool:
    """Whether a text says one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_columns(parts: Sequence[Part]) -> list[str]:
    first, *others = parts
    names = list(first.columns.names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"{first.name}: several columns are named {repeated[0]!r}")
    for part in others:
        absent = [name for name in names if name not in part.columns.names]
        surplus = [name for name in part.columns.names if name not in names]
        if absent or surplus:
            what = f"lacks the columns {first_five(map(repr, absent))}" if absent else ""
            more = f"has the columns {first_five(map(repr, surplus))} besides" if surplus else ""
            raise SourceError(f"{part.name} {' and '.join(filter(None, (what, more)))}; expected those of {first.name}")
    return names


def _picked(option: str, wanted: Any, names: Sequence[str]) -> list[str]:
    """Names of columns that were given by name or number, one or several."""
    if wanted is None:
        return []
    if isinstance(wanted, (str, int)):
        wanted = [wanted]
    picked = []
    for one in wanted:
        known = -len(names) <= one < len(names) if isinstance(one, int) else one in names
        if isinstance(one, bool) or not known:
            raise SourceError(f"{option}={one!r}: the {len(names)} columns are {first_five(map(repr, names))}")
        picked.append(names[one] if isinstance(one, int) else one)
    return picked


def _problem(part: Part, row: int, name: str, value: object, expected: str) -> SourceError:
    found = "nothing" if value is None else repr(value.item() if isinstance(value, np.generic) else value)
    return SourceError(f"{part.name}: row {row}, column {name!r}: {found}; expected {expected}")


def _narrowed(part: Part, row: int, name: str, values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """In another type, if every value fits."""
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(target)
        if target.kind == "f":
            lost = np.isinf(cast) if values.dtype.kind == "f" else np.zeros(len(cast), np.bool_)
        else:
            lost = cast.astype(np.float64) != values.astype(np.float64)
            if values.dtype.kind == "u" or target.kind == "u":
                lost |= (cast < 0) != (values < 0)
    if lost.any():
        at = int(lost.argmax())
        raise _problem(part, row + at, name, values[at], f"a value that fits in {dtype}")
    return cast


def _check_classes(part: Part, row: int, name: str, values: NDArray[Any], classes: int) -> None:
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        at = int(wrong.argmax())
        wanted = f'a class from 0 to {classes - 1}; types={{{name!r}: "int64"}} keeps numbers'
        raise _problem(part, row + at, name, values[at], wanted)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def _text(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _first(mask: pa.Array) -> int:
    return int(mask.to_numpy(zero_copy_only=False).argmax())


def _row_bytes(described: Mapping[str, Any]) -> int:
    if described["type"] in (*_VARYING, "class"):
        return 8
    return int(np.dtype(described["dtype"]).itemsize * np.prod(described.get("shape", [])))


def _bytes(waiting: list[dict[str, pa.Array]]) -> int:
    return sum(array.nbytes for arrays in waiting for array in arrays.values())


def _cut(waiting: list[dict[str, pa.Array]], rows: int) -> tuple[pa.RecordBatch, list[dict[str, pa.Array]]]:
    """The first rows of what waits as one batch, and the rest."""
    whole = {name: pa.concat_arrays([arrays[name] for arrays in waiting]) for name in waiting[0]}
    rest = {name: array.slice(rows) for name, array in whole.items()}
    block = pa.record_batch({name: array.slice(0, rows) for name, array in whole.items()})
    return block, [rest] if len(next(iter(rest.values()))) else []
