"""The loaders under comparison. Each is named by module and function, and imported only in the process that runs it.

`LOADERS` are what compare.py measures with the project's own environment, `PEERS` what `make bench-peers` does with one
that holds every peer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from job import Job, Stream


@dataclass(frozen=True)
class Loader:
    """`opener` is "module:function" and turns a Job into a Stream; `short` puts it into the short comparison.

    `format` names what peers/formats.py makes for it, `package` what it needs of peers/packages.toml, and `cannot` says
    why it leaves tracks out; variants of another entry need not say that.
    """

    title: str
    opener: str
    tracks: tuple[str, ...]
    short: tuple[str, ...] = ()
    format: str = ""
    package: str = ""
    cannot: dict[str, str] = field(default_factory=dict)


LOADERS = {
    "fastshard": Loader(
        "fastshard", "own:bare", ("train", "eval", "resize", "float", "raw"), ("train", "eval", "resize", "raw")
    ),
    "fastshard-seekable": Loader("fastshard, seekable", "own:seekable", ("train", "eval", "float"), ("train", "eval")),
    "fastshard-torch": Loader("fastshard, torch adapter", "own:torch_adapter", ("train", "raw"), ("train",)),
    "fastshard-tf": Loader("fastshard, tf.data adapter", "own:tf_adapter", ("train", "raw"), ("train",)),
    "torch-pil": Loader("torch ImageFolder + PIL", "peers.pytorch:pil", ("train", "eval", "resize"), ("train", "eval")),
    "torch-v2": Loader("torchvision v2", "peers.pytorch:v2_tensors", ("train", "eval", "resize", "float")),
    "keras": Loader("Keras ImageDataGenerator, bilinear", "peers.keras_images:bilinear", ("resize",), ("resize",)),
    "keras-threads": Loader("Keras, bilinear, a thread a core", "peers.keras_images:threads", ("resize",)),
    "keras-nearest": Loader("Keras, nearest (its default)", "peers.keras_images:nearest", ("resize",), ("resize",)),
    "tf-fused": Loader("tf.data, decode_and_crop", "peers.tf_data:fused", ("train", "eval"), ("train", "eval")),
    "tf-fused-aliased": Loader(
        "tf.data, decode_and_crop, no antialias", "peers.tf_data:fused_aliased", ("train", "eval"), ("train", "eval")
    ),
    "tf-plain": Loader("tf.data, full decode", "peers.tf_data:plain", ("train", "eval", "resize")),
}
ADAPTERS = ("fastshard-torch", "fastshard-tf")

# What trials.py measures besides some of those.
TRIALS = {
    "fastshard-cached": Loader("fastshard, cached", "own:cached", ("eval", "cached-train")),
    "take": Loader("np.take from np.memmap", "own:take", ("eval",)),
}

_JPEG = ("decode", "train", "eval", "float", "large", "large-eval")
_OURS = ("train", "eval", "float", "large", "large-eval", "augment", "randaugment")
_SCALED = ("train", "eval", "large", "large-eval")
PEERS = {
    "fs-original": Loader(
        "fastshard, bytes as they came", "own:original", (*_OURS, "decode", "xray"), format="original"
    ),
    "fs-seekable": Loader("fastshard, seekable", "own:seekable", (*_OURS, "decode"), format="seekable"),
    "fs-original-scaled": Loader(
        "fastshard, bytes as they came, scaled decoding",
        "own:original_scaled",
        _SCALED,
        format="original",
    ),
    "fs-seekable-scaled": Loader(
        "fastshard, seekable, scaled decoding", "own:seekable_scaled", _SCALED, format="seekable"
    ),
    "fs-raw": Loader("fastshard, pixels", "own:raw", ("raw-train", "augment"), format="raw"),
    "tf": Loader(
        "tf.data fused",
        "peers.tf_data:fused",
        (*_JPEG, "xray"),
        cannot={
            "augment": "Keras' layers stand for it",
            "randaugment": "Keras' layer stands for it",
            "raw-train": "its crops are at home in decode_and_crop_jpeg",
        },
        package="keras",
    ),
    "tf-aliased": Loader(
        "tf.data fused, no antialias",
        "peers.tf_data:fused_aliased",
        ("train", "eval", "large", "large-eval"),
        package="keras",
    ),
    "v2": Loader(
        "torchvision v2, DataLoader",
        "peers.pytorch:v2_tensors",
        (*_JPEG, "xray", "raw-train", "augment", "randaugment"),
        package="torch",
    ),
    "pil": Loader(
        "torch ImageFolder + PIL",
        "peers.pytorch:pil",
        ("decode", "train", "eval", "large", "large-eval", "xray", "randaugment"),
        cannot=dict.fromkeys(("float", "augment", "raw-train"), "torchvision v2 stands for it"),
        package="torch",
    ),
    "pil-draft": Loader("torch ImageFolder + PIL draft", "peers.pytorch:pil_draft", ("large-eval",), package="torch"),
    "torchcodec": Loader(
        "torchcodec decode_jpeg + torchvision v2",
        "peers.pytorch:torchcodec",
        ("decode", "train", "eval", "large-eval"),
        package="torchcodec",
        cannot=dict.fromkeys(
            ("float", "large", "xray", "raw-train", "augment", "randaugment"),
            "only the decoder is its own; see torchvision v2",
        ),
    ),
    "keras-generator": Loader(
        "Keras ImageDataGenerator (no contrast)", "peers.keras_images:bilinear", ("augment",), package="keras"
    ),
    "keras-layers": Loader(
        "Keras layers on cached pixels (no shear)",
        "peers.keras_images:layers",
        ("augment",),
        format="pixels",
        package="keras",
    ),
    "keras-randaugment": Loader(
        "Keras RandAugment on cached pixels (no crop)",
        "peers.keras_images:layers",
        ("randaugment",),
        format="pixels",
        package="keras",
    ),
    "ffcv": Loader(
        "FFCV, JPEG",
        "peers.ffcv_files:jpeg",
        ("train", "eval", "float", "large", "large-eval"),
        format="ffcv-jpeg",
        package="ffcv",
        cannot={
            "decode": "decodes without a resize only pictures that are all of one size",
            "xray": "has no gray and no letterbox",
            "augment": "has no rotation, zoom or shear",
            "randaugment": "has none",
        },
    ),
    "ffcv-raw": Loader("FFCV, pixels", "peers.ffcv_files:raw", ("raw-train",), format="ffcv-raw", package="ffcv"),
    "dali": Loader(
        "DALI on CPU",
        "peers.dali:stream",
        (*_JPEG, "xray", "augment", "randaugment"),
        package="dali",
        cannot={"raw-train": "has no reader of stored pixels that crops"},
    ),
    "spdl": Loader(
        "SPDL (FFmpeg)",
        "peers.spdl_pipeline:stream",
        ("decode", "train", "eval", "large", "large-eval", "xray"),
        package="spdl",
        cannot={
            "float": "hands out uint8; normalising is the trainer's",
            "raw-train": "reads encoded media",
            "augment": "FFmpeg's filters have no such set",
            "randaugment": "has none",
        },
    ),
    "datago": Loader(
        "datago (middle square to 224)",
        "peers.datago_folder:stream",
        ("decode", "eval", "large-eval"),
        package="datago",
        cannot=dict.fromkeys(
            ("train", "float", "large", "raw-train", "augment", "randaugment"), "has no random crop and no augmentation"
        )
        | {"xray": "has no letterbox"},
    ),
    "webdataset": Loader(
        "webdataset + PIL",
        "peers.wds:stream",
        ("decode", "train", "eval"),
        format="tar",
        package="webdataset",
        cannot=dict.fromkeys(
            ("float", "large", "large-eval", "xray", "raw-train", "augment", "randaugment"),
            "the same PIL and torchvision as ImageFolder's, from a tar",
        ),
    ),
    "opencv": Loader(
        "simplejpeg + OpenCV, threads",
        "peers.opencv_threads:exact",
        (*_JPEG, "xray", "raw-train"),
        package="simplejpeg",
        cannot=dict.fromkeys(("augment", "randaugment"), "has no augmentation"),
    ),
    "opencv-scaled": Loader(
        "simplejpeg scaled + OpenCV, threads",
        "peers.opencv_threads:scaled",
        ("large", "large-eval"),
        package="simplejpeg",
    ),
}


def open_loader(name: str, job: Job) -> Stream:
    """Import and build the loader called `name`; nothing is read before the stream is called."""
    loader = (LOADERS | PEERS | TRIALS)[name]
    if job.track not in loader.tracks:
        raise ValueError(f"{name} has no track {job.track!r}, only {', '.join(loader.tracks)}")
    module, _, function = loader.opener.partition(":")
    opener = cast("Callable[[Job], Stream]", getattr(import_module(module), function))
    return opener(job)
