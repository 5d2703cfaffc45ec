"""A dataset as Hugging Face's ``datasets`` sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import InMemoryTable

from . import arrow

if TYPE_CHECKING:
    from .opened import Field
    from .view import View

__all__ = ["to_hf"]


def to_hf(dataset: View) -> datasets.Dataset:
    """The rows of a dataset or view; see ``Dataset.to_hf``."""
    table = arrow.read_table(dataset._whole(), [field.name for field in dataset.fields])
    features = {field.name: _feature(field) for field in dataset.fields}
    columns = [_column(table.column(name), feature) for name, feature in features.items()]
    plain = pa.Table.from_arrays(columns, names=list(features))
    info = datasets.DatasetInfo(features=datasets.Features(features))
    # Without a fingerprint, datasets would hash all data to make one; it takes letters and digits only.
    fingerprint = re.sub(r"\W", "", dataset.manifest["fingerprint"])[:64]
    result = datasets.Dataset(InMemoryTable(plain), info=info, fingerprint=fingerprint)
    return result if dataset._is_whole() else result.select(dataset._row_numbers())


def _feature(field: Field) -> Any:
    if field.type == "image":
        return datasets.Image()
    if field.type == "audio":
        return datasets.Audio()
    if field.type == "class":
        return datasets.ClassLabel(names=list(field.class_names or ()))
    dtype = {"str": "string", "bytes": "binary"}.get(field.dtype, field.dtype)
    shape = field.shape or ()
    if field.is_list:
        element = datasets.Value(dtype)
        for size in reversed(shape):
            element = datasets.List(element, length=size)
        return datasets.List(element)
    return _tensor(field, shape, dtype) if field.type == "tensor" else datasets.Value(dtype)


def _tensor(field: Field, shape: tuple[int, ...], dtype: str) -> Any:
    if len(shape) == 1:
        return datasets.List(datasets.Value(dtype), length=shape[0])
    classes = {2: datasets.Array2D, 3: datasets.Array3D, 4: datasets.Array4D, 5: datasets.Array5D}
    if len(shape) not in classes:
        raise ValueError(f"field {field.name!r} of shape {shape}: datasets knows 1 to 5 dimensions")
    return classes[len(shape)](shape, dtype)


def _column(column: pa.ChunkedArray, feature: Any) -> pa.ChunkedArray:
    """The column in the Arrow type that ``feature`` stands for; numbers stay where they are."""
    wanted = datasets.Features({"column": feature}).arrow_schema.field(0).type
    chunks = [_chunk(chunk, wanted, feature) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=wanted)


def _chunk(chunk: pa.Array, wanted: pa.DataType, feature: Any) -> pa.Array:
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if isinstance(wanted, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(wanted, _nested(chunk.flatten(), feature.shape))
    if isinstance(feature, datasets.List) and pa.types.is_list(chunk.type):
        return pa.ListArray.from_arrays(chunk.offsets, _elements(chunk.values, wanted.value_type), wanted)
    return chunk if chunk.type == wanted else chunk.cast(wanted)


def _elements(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Elements of lists, which are stored flat, as nested lists of fixed sizes."""
    if not pa.types.is_fixed_size_list(wanted):
        return values if values.type == wanted else values.cast(wanted)
    if pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    return pa.FixedSizeListArray.from_arrays(_elements(values, wanted.value_type), type=wanted)


def _nested(values: pa.Array, shape: tuple[int, ...]) -> pa.Array:
    """Lists of lists over flat ``values``, as the ArrayND features store them."""
    for size in reversed(shape):
        offsets = np.arange(0, len(values) + 1, size, dtype=np.int32)
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values
