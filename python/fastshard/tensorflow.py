"""The TensorFlow adapter: a loader as a ``tf.data.Dataset`` of whole batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from ._load import piles as _piles
from ._load.loader import BatchField, Loader
from ._transforms.batch import check_batch

__all__ = ["dataset"]


def dataset(
    loader: Loader,
    as_tuple: Sequence[str] | None = None,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """The batches of ``loader`` as a ``tf.data.Dataset`` of dicts, with static shapes and dtypes.

    ``as_tuple=("image", "label")`` gives tuples instead, as ``model.fit`` wants them. Text and bytes become
    ``tf.string``. Do not batch or shuffle it again; ``.repeat()``, ``.map()`` and ``.prefetch()`` work as always. Every
    new iteration takes the loader's epoch, which goes up by one at the end of each. The batch dimension is static
    unless the last batch is smaller or samples may be skipped. A ``Lambda`` must leave shapes and dtypes as they are;
    change those with ``.map()``.

    ``input_context``: what ``strategy.distribute_datasets_from_function`` hands to its function; each input pipeline
    then gets its part of every epoch, as with the loader's ``rank``. The batch size is that of one pipeline.
    """
    if input_context is not None:
        loader = loader.for_rank(input_context.input_pipeline_id, input_context.num_input_pipelines)
    spec = loader.batch_spec
    names = tuple(spec) if as_tuple is None else tuple(as_tuple)
    if as_tuple is not None and (not names or not set(names) <= set(spec)):
        raise ValueError(f"as_tuple={as_tuple!r}: expected names out of {', '.join(spec)}")

    def pick(batch: dict[str, Any]) -> Any:
        return {name: batch[name] for name in names} if as_tuple is None else tuple(batch[name] for name in names)

    def batches() -> Iterator[Any]:
        # Without views: TensorFlow takes over aligned NumPy memory as it is, and its kernels may write into it.
        with loader.iterate(views=False) as source:
            for batch in source:
                if loader._functions:
                    check_batch(batch, {name: spec[name] for name in names})
                yield pick(batch)

    together = _piles.together(loader)
    outer: tuple[None, ...] = () if together == 1 else (None,)
    signature: Any = {name: _signature(spec[name], outer) for name in names}
    if as_tuple is not None:
        signature = tuple(signature.values())
    if together == 1:
        result = tf.data.Dataset.from_generator(batches, output_signature=signature)
    else:
        # Half a millisecond goes by each time that TensorFlow asks Python: as long as it takes to gather ten batches.
        piles = tf.data.Dataset.from_generator(
            lambda: map(pick, _piles.piles(loader, together)), output_signature=signature
        )
        # Slices of a pile share its memory; `unbatch` would copy each.
        result = piles.flat_map(lambda *pile: tf.data.Dataset.from_tensor_slices(pile if len(pile) > 1 else pile[0]))
    # Neither with skipped samples nor in a resumed epoch are there as many batches as in others.
    varies = loader.skips or loader._next.samples > 0
    return result if varies else result.apply(tf.data.experimental.assert_cardinality(len(loader)))


def _signature(field: BatchField, outer: tuple[None, ...]) -> tf.TensorSpec:
    dtype = tf.string if field.dtype in ("str", "bytes") else tf.as_dtype(field.dtype)
    return tf.TensorSpec((*outer, *field.shape), dtype)
