"""Native arrays as NumPy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bfloat16", "to_numpy"]


def bfloat16(what: str = "an array") -> np.dtype[Any]:
    """The type that NumPy itself lacks."""
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"{what} is bfloat16, which NumPy doesn't have: install ml_dtypes, or use fastshard.torch.ShardDataset"
        ) from None
    import numpy as np

    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def to_numpy(values: Any, bits: bool = False) -> NDArray[Any]:
    """A field of a batch: texts and bytes as objects; with ``bits``, bfloat16 as the uint16 that it lies in."""
    import numpy as np

    if isinstance(values, list):
        return np.array(values, dtype=object)
    array = np.asarray(values)
    return array.view(bfloat16()) if values.dtype == "bfloat16" and not bits else array
