"""Tables as sources, a piece at a time: columns become fields, or one tensor of many columns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fastshard._fastshard import SourceError
from fastshard._sources.base import StreamSource, class_field, first_five, ipc_stream, is_list, list_field, repeated
from fastshard._sources.number_text import CATEGORY, Texts, floats_of, numbers_of, odd_text
from fastshard._sources.statistics import Statistics

from .table_blobs import blob_array, blob_field, is_blob
from .table_classes import Categories, united_labels
from .table_rows import is_text, plain, rows_within, text_of

__all__ = ["Columns", "Part", "TableSource"]

_BLOCK_BYTES = 16 << 20
_MAX_BLOCK_ROWS = 1 << 20
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

    ``batches`` takes the types of columns for formats that have none themselves, which are not ``typed``.
    """

    name: str
    columns: pa.Schema
    batches: Callable[[Mapping[str, pa.DataType]], Iterator[pa.RecordBatch]]
    typed: bool = True


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
        self._own = self._labels if self._features else self._names
        self._types = {_picked("types", name, self._names)[0]: dtype for name, dtype in options.types.items()}
        self._read_as = self._asked_types()
        self._kinds = {one.name: one.type for one in parts[0].columns}
        if not parts[0].typed:
            self._kinds |= self._read_as
        self._class_names, self._renumber = self._find_class_names()
        # Columns of text whose texts say numbers.
        self._spelled = {name for name, kind in self._types.items() if kind in _DTYPES and is_text(self._kinds[name])}
        with self._named():
            self._categories = self._find_categories()
            self._blobs = self._find_blobs()
            self._fill = self._find_fill()
            self.fields = self._fields()
        self._by_name = {one["name"]: one for one in self.fields}
        self.statistics = Statistics()
        self._varies = any(one["type"] in _VARYING for one in self.fields)
        row_bytes = sum(_row_bytes(one) for one in self.fields)
        rows = max(1, min(_BLOCK_BYTES, shard_size) // max(1, row_bytes))
        self._block_rows = min(_MAX_BLOCK_ROWS, 1 << (rows.bit_length() - 1))
        names = [part.name for part in parts]
        self.provenance = {"kind": kind, "source": names if len(names) > 1 else names[0]}

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every block."""
        with self._named():
            yield from self._blocks()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Says of what pyarrow's errors are, such as texts of a batch that come to more than 2 GiB."""
        try:
            yield
        except pa.ArrowException as error:
            raise SourceError(f"{first_five(part.name for part in self._parts)}: {error}") from None

    def _blocks(self) -> Iterator[bytes]:
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
        """The batches, none of which is much larger than a block once its dictionaries are decoded."""
        for part, row, batch in self._batches():
            if not self._varies:
                yield part, row, batch
                continue
            for start, end in rows_within(batch, _BLOCK_BYTES):
                yield part, row + start, batch.slice(start, end - start)

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
        """The batches with their part and the row of it that each begins with.

        Whatever made a batch, it is validated before pyarrow follows its offsets.
        """
        found = False
        for part in self._parts:
            row = 1
            for batch in part.batches(self._read_as):
                if batch.num_rows:
                    found = True
                    _validate(part, row, batch)
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
        picked = _picked("features", list(features), self._names)
        both = [name for name in picked if name in self._labels]
        if not picked or both or len(set(picked)) != len(picked):
            raise ValueError(f"features={features!r}: expected columns that differ, none of them the label")
        return picked

    def _asked_types(self) -> dict[str, pa.DataType]:
        """What formats without types read columns as: one that looks whole may have fractions further on."""
        schema = self._parts[0].columns
        kind = _readable(self._options.dtype)
        asked = {name: kind for name in self._features if _is_number(schema.field(name).type)}
        for name, dtype in self._types.items():
            if dtype == "text" and name in self._features:
                raise ValueError(f"types[{name!r}]='text': expected a type of numbers, or {CATEGORY!r}, for a feature")
            own = schema.field(name).type
            if dtype in ("text", CATEGORY):
                asked[name] = pa.string()
            elif dtype in _DTYPES and (dtype.startswith("float") or pa.types.is_integer(own)) and _is_number(own):
                asked[name] = _readable(dtype)
        return asked

    def _find_categories(self) -> dict[str, list[str]]:
        """The texts of columns that must become numbers, in the order of their codes; read beforehand."""
        asked = [name for name, kind in self._types.items() if kind == CATEGORY]
        wanted = dict.fromkeys([*self._labels, *self._features, *asked])
        known = self._class_names.keys() | self._spelled
        texts = [name for name in wanted if is_text(self._kinds[name]) and name not in known]
        texts = [name for name in texts if self._types.get(name) != "text" or name in self._features]
        found = {name: Texts() for name in texts}
        orders = {name: Categories(name) for name in texts}
        missing: dict[str, SourceError] = {}
        for part, row, batch in self._batches() if texts else ():
            for name in texts:
                column = batch.column(name)
                orders[name].add(part.name, part.columns.field(name).type, column)
                if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
                    column = text_of(column)
                absent = pc.is_null(column)
                if pc.any(absent).as_py() and name not in missing:
                    missing[name] = _problem(part, row + _first(absent), name, None, "a value")
                found[name].add(column.drop_null())
        for name in texts:
            if self._says_numbers(name, found[name], orders[name]):
                self._spelled.add(name)
            elif name in missing and (name in self._labels or self._options.missing in ("error", "mean")):
                raise missing[name]
            elif found[name].too_many:
                raise SourceError(f"{self._parts[0].name}: column {name!r} holds more than 65,536 texts")
        given = {name: names for name, names in self._class_names.items() if is_text(self._kinds[name])}
        own = {name: orders[name].names(found[name].counts) for name in texts if name not in self._spelled}
        return {**own, **given}

    def _says_numbers(self, name: str, texts: Texts, order: Categories) -> bool:
        """Whether a column's texts are numbers, and not names. Raises SourceError for what may be either."""
        if self._types.get(name) == CATEGORY or order.ordered or texts.are_names(name in self._labels):
            return False
        if name in self._labels:
            if texts.words:
                self._refuse(name, words_only=True)
            return False
        if not texts.are_numbers or order.known:
            self._refuse(name)
        return True

    def _find_class_names(self) -> tuple[dict[str, list[str]], dict[str, dict[str, NDArray[np.int64]]]]:
        """The names of classes that were given or that the table knows; not of columns whose type is given.

        Also, of columns whose classes parts number in different ways, the new numbers by the name of the part.
        """
        own = {name for name in self._own if name not in self._types}
        given = {name: list(names) for name, names in self._options.class_names.items()}
        for name in given:
            if name not in self._own:
                raise SourceError(f"class_names for {name!r}: the columns are {first_five(map(repr, self._own))}")
        schemas = [(part.name, part.columns) for part in self._parts]
        return united_labels(schemas, own | given.keys(), given)

    def _find_blobs(self) -> dict[str, dict[str, Any]]:
        """Columns of bytes, and whether they are images, for which the first batch is read."""
        blobs = [name for name in self._own if is_blob(self._kinds[name])]
        if not blobs:
            return {}
        _, _, batch = next(self._batches())
        return {name: blob_field(name, batch.column(name)) for name in blobs}

    def _refuse(self, name: str, *, words_only: bool = False) -> NoReturn:
        """Raises SourceError for the first text that is no plain number, or that looks like none at all."""
        types = f"types={{{name!r}: {CATEGORY!r}}} makes codes of the texts"
        for part, row, batch in self._batches():
            column = batch.column(name)
            wrong = odd_text(column, words_only=words_only)
            if pc.any(wrong).as_py():
                at = _first(wrong)
                is_word = odd_text(column.slice(at, 1), words_only=True)[0].as_py()
                hint = "; is this line a header? header=True" if row + at == 1 and is_word else ""
                wanted = f"a number such as 1234.5, or words that can't be taken for a number or a date; {types}{hint}"
                raise _problem(part, row + at, name, column[at].as_py(), wanted)
        part, row, batch = next(self._batches())
        wanted = f'types= for categories that are all numbers: {{{name!r}: "float64"}} makes numbers, {types}'
        raise _problem(part, row, name, batch.column(name)[0].as_py(), wanted)

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
        for part, row, batch in self._batches():
            for name in sums:
                column = batch.column(name)
                column = self._spelt(part, row, name, column, "float64") if name in self._spelled else column
                values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
                known = values[np.isfinite(values)]
                sums[name] += float(known.sum())
                counts[name] += len(known)
        return {name: sums[name] / counts[name] for name in sums if counts[name]}

    def _numeric(self) -> list[str]:
        names = [*self._features, *self._own]
        return [name for name in names if _is_number(self._kinds[name]) or name in self._spelled]

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
        kind = self._kinds[name]
        field_name = self._field_name(name)
        if name in self._categories:
            return class_field(field_name, self._categories[name])
        if name in self._class_names:
            return class_field(field_name, self._class_names[name])
        if name in self._blobs:
            return self._blobs[name]
        if is_text(kind) and name not in self._spelled:
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
        kind = self._kinds[name]
        if name in self._types:
            if self._types[name] not in (*_DTYPES, "bool"):
                wanted = "expected a type of numbers such as 'int32' or 'float32'"
                raise ValueError(f"types[{name!r}]={self._types[name]!r}: column {name!r} is {kind}; {wanted}")
            return self._types[name]
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
        if name not in self._categories and name not in self._spelled and is_text(column.type):
            filled: pa.Array = pc.fill_null(text_of(column), "")
            return filled
        if name in self._blobs:
            where = f"{part.name}: row {{row}}, column {name!r}"
            return blob_array(where, row, plain(column), self._blobs[name]["type"] != "bytes")
        is_class = name in self._categories or name in self._class_names
        values = self._numbers(part, row, name, column, "int64" if is_class else self._dtype(name))
        if name in self._renumber and name not in self._categories:
            numbers = self._renumber[name][part.name]
            _check_classes(part, row, name, values, len(numbers))
            values = numbers[values]
        if name in self._class_names:
            _check_classes(part, row, name, values, len(self._class_names[name]))
        if not is_class and values.dtype.kind == "f":
            self.statistics.add(self._field_name(name), values)
        return pa.array(values.view(np.uint8) if values.dtype == np.bool_ else values)

    def _lists(self, part: Part, row: int, name: str, column: pa.Array) -> pa.Array:
        """A column of lists, or of arrays of one shape, in the type of its field."""
        field = self._by_name[self._field_name(name)]
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
            column = _codes(column, pa.array(self._categories[name], pa.string()))
        elif name in self._spelled:
            column = self._spelt(part, row, name, column, dtype)
        elif not _is_number(column.type):
            value = next((value.as_py() for value in column if value.is_valid), None)
            raise _problem(part, row, name, value, f"a number; the column is {column.type}")
        whole = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        if column.null_count == 0 and whole:
            return _narrowed(part, row, name, column.to_numpy(zero_copy_only=False), dtype)
        if whole and name in self._fill and np.dtype(dtype).kind in "iu":
            return _filled_whole(part, row, name, column, dtype, self._fill[name])
        floats = column.cast(pa.float64(), safe=False) if whole else column
        values: NDArray[Any] = floats.to_numpy(zero_copy_only=False)
        if self._options.missing == "keep" and np.dtype(dtype).kind == "f":
            return values.astype(dtype)
        finite = np.isfinite(values)
        if not finite.all():
            values = self._filled(part, row, name, values, finite)
        return _narrowed(part, row, name, values, dtype)

    def _spelt(self, part: Part, row: int, name: str, column: pa.Array, dtype: str) -> pa.Array:
        """The numbers that texts say, exact ones if they are to be whole."""
        wrong = odd_text(column)
        if pc.any(wrong).as_py():
            at = _first(wrong)
            raise _problem(part, row + at, name, column[at].as_py(), "a number, written such as 1234.5")
        if np.dtype(dtype).kind == "f":
            return floats_of(column)
        try:
            return numbers_of(column)
        except OverflowError as error:
            at = error.args[0]
            wanted = "numbers that all fit in int64, or in uint64"
            raise _problem(part, row + at, name, column[at].as_py(), wanted) from None

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


def _check_columns(parts: Sequence[Part]) -> list[str]:
    first, *others = parts
    names = list(first.columns.names)
    if twice := repeated(names):
        raise SourceError(f"{first.name}: several columns are named {twice[0]!r}")
    known = set(names)
    for part in others:
        own = set(part.columns.names)
        absent = [name for name in names if name not in own]
        surplus = [name for name in part.columns.names if name not in known]
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
    all_names = set(names)
    for one in wanted:
        known = -len(names) <= one < len(names) if isinstance(one, int) else one in all_names
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


def _filled_whole(part: Part, row: int, name: str, column: pa.Array, dtype: str, fill: float) -> NDArray[Any]:
    """Whole numbers with ``fill`` for missing ones; not by way of float64, which rounds those above 2^53."""
    missing = pc.is_null(column).to_numpy(zero_copy_only=False)
    known = pc.fill_null(column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column, 0)
    values = _narrowed(part, row, name, known.to_numpy(), dtype).copy()
    at = int(missing.argmax())
    values[missing] = _narrowed(part, row + at, name, np.array([fill]), dtype)[0]
    return values


def _check_classes(part: Part, row: int, name: str, values: NDArray[Any], classes: int) -> None:
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        at = int(wrong.argmax())
        wanted = f'a class from 0 to {classes - 1}; types={{{name!r}: "int64"}} keeps numbers'
        raise _problem(part, row + at, name, values[at], wanted)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def _readable(dtype: str) -> pa.DataType:
    """The type that pyarrow reads text as; it reads no float16."""
    return pa.type_for_alias("float64" if dtype == "float16" else dtype)


def _validate(part: Part, row: int, batch: pa.RecordBatch) -> None:
    try:
        batch.validate(full=True)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SourceError(f"{part.name}: rows from {row:,} on: damaged: {error}") from None


def _codes(column: pa.Array, names: pa.Array) -> pa.Array:
    """The places of texts in ``names``; each text of a dictionary is looked up once."""
    if pa.types.is_dictionary(column.type):
        return pc.index_in(text_of(column.dictionary), names).take(column.indices)
    return pc.index_in(text_of(column), names)


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
