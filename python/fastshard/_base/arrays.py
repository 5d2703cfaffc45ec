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


def to_numpy(values: NDArray[Any] | list[Any]) -> NDArray[Any]:
    """What comes as a list, texts and bytes, as an array of objects; of the others, bfloat16 out of its bits."""
    import numpy as np

    return np.array(values, dtype=object) if isinstance(values, list) else values.view(bfloat16())
