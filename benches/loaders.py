"""The loaders under comparison. Each is named by module and function, and imported only in the process that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from job import Job, Stream


@dataclass(frozen=True)
class Loader:
    """`opener` is "module:function" and turns a Job into a Stream; `short` puts it into the short comparison."""

    title: str
    opener: str
    tracks: tuple[str, ...]
    short: tuple[str, ...] = ()


LOADERS = {
    "fastshard": Loader(
        "fastshard", "own:bare", ("train", "eval", "resize", "float", "raw"), ("train", "eval", "resize", "raw")
    ),
    "fastshard-torch": Loader("fastshard, torch adapter", "own:torch_adapter", ("train", "raw"), ("train",)),
    "fastshard-tf": Loader("fastshard, tf.data adapter", "own:tf_adapter", ("train", "raw"), ("train",)),
    "torch-pil": Loader("torch ImageFolder + PIL", "peers_torch:pil", ("train", "eval", "resize"), ("train", "eval")),
    "torch-v2": Loader("torchvision v2", "peers_torch:v2_tensors", ("train", "eval", "resize", "float")),
    "keras": Loader("Keras ImageDataGenerator, bilinear", "peers_tf:keras_bilinear", ("resize",), ("resize",)),
    "keras-threads": Loader("Keras, bilinear, a thread a core", "peers_tf:keras_threads", ("resize",)),
    "keras-nearest": Loader("Keras, nearest (its default)", "peers_tf:keras_nearest", ("resize",), ("resize",)),
    "tf-fused": Loader("tf.data, decode_and_crop", "peers_tf:fused", ("train", "eval"), ("train", "eval")),
    "tf-fused-aliased": Loader(
        "tf.data, decode_and_crop, no antialias", "peers_tf:fused_aliased", ("train", "eval"), ("train", "eval")
    ),
    "tf-plain": Loader("tf.data, full decode", "peers_tf:plain", ("train", "eval", "resize")),
}
ADAPTERS = ("fastshard-torch", "fastshard-tf")


def open_loader(name: str, job: Job) -> Stream:
    """Import and build the loader called `name`; nothing is read before the stream is called."""
    loader = LOADERS[name]
    if job.track not in loader.tracks:
        raise ValueError(f"{name} has no track {job.track!r}, only {', '.join(loader.tracks)}")
    module, _, function = loader.opener.partition(":")
    opener = cast("Callable[[Job], Stream]", getattr(import_module(module), function))
    return opener(job)
