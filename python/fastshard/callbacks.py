"""Callbacks for trainers: what the loader did, in their logs, and where it stands, in their checkpoints.

    model.fit(..., callbacks=[fs.callbacks.KerasLoaderStats(loader)])
    lightning.Trainer(callbacks=[fs.callbacks.LightningLoaderStats(loader)])

They are ``LoaderStats`` and ``LoaderState`` of ``fastshard.keras`` and ``fastshard.lightning``, side by side; a
framework is loaded when its callback is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keras import LoaderState as KerasLoaderState
    from .keras import LoaderStats as KerasLoaderStats
    from .lightning import LoaderState as LightningLoaderState
    from .lightning import LoaderStats as LightningLoaderStats

__all__ = ["KerasLoaderState", "KerasLoaderStats", "LightningLoaderState", "LightningLoaderStats"]

_HOMES = {"Keras": "fastshard.keras", "Lightning": "fastshard.lightning"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    framework, callback = name[: -len("LoaderStats")], name[-len("LoaderStats") :]
    return getattr(importlib.import_module(_HOMES[framework]), callback)


def __dir__() -> list[str]:
    return __all__
