"""Datasets for training: packed once into Arrow shards, read as NumPy, torch or TensorFlow batches from native threads.

    import fastshard as fs

    fs.pack("photos/", "pets/")                      # a folder per class; also CSV files and iterables of dicts
    ds = fs.open("pets/")
    loader = fs.Loader(ds, batch_size=256, shuffle=True, drop_last=True,
                       transforms={"image": [fs.RandomResizedCrop(224), fs.RandomHorizontalFlip()]})
    for batch in loader:                             # batch["image"]: uint8 [256, 224, 224, 3]
        ...

``fs.torch.ShardDataset(loader)``, ``fs.tensorflow.dataset(loader)`` and ``fs.keras.PyDataset(loader)`` load their
framework when they are first used.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from . import callbacks as callbacks
from . import presets as presets
from ._dataset import Dataset, Field, Problem, concat, from_arrays, mix, open
from ._export.report import ExportReport
from ._export.run import export
from ._fastshard import CorruptionError, DecodeError, FastshardError, FormatError, SourceError, __version__, build_info
from ._load.cache import Cache, CacheEntry
from ._load.loader import Batches, BatchField, Loader
from ._pack.pack import PackReport, SkippedRow, pack
from ._sources.archives.dicom import DicomFiles
from ._transforms.audio import AudioDecode, AudioTransform, CenterWindow, LogMel, Mono, RandomWindow, Resample, Window
from ._transforms.augment import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    RandAugment,
    RandomAdjustSharpness,
    RandomApply,
    RandomAutocontrast,
    RandomChoice,
    RandomEqualize,
    RandomErasing,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
    TrivialAugmentWide,
)
from ._transforms.base import Transform
from ._transforms.batch import BatchTransform, CutMix, Lambda, MixUp
from ._transforms.boxes import ConvertBoundingBoxFormat, InstanceMasks, SanitizeBoundingBoxes, unmap_boxes
from ._transforms.image import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CenterCrop,
    Decode,
    Follow,
    Grayscale,
    Normalize,
    Pad,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    ResizePad,
    ToDtype,
)
from ._transforms.lists import Buckets, PadSequence, Truncate
from ._transforms.table import Standardize
from ._transforms.warp import Mosaic, RandomAffine, RandomPerspective, RandomRotation

if TYPE_CHECKING:
    from . import keras as keras
    from . import lightning as lightning
    from . import tensorflow as tensorflow
    from . import torch as torch
    from . import tune as tune

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AudioDecode",
    "AudioTransform",
    "AutoAugment",
    "BatchField",
    "BatchTransform",
    "Batches",
    "Buckets",
    "Cache",
    "CacheEntry",
    "CenterCrop",
    "CenterWindow",
    "ColorJitter",
    "ConvertBoundingBoxFormat",
    "CorruptionError",
    "CutMix",
    "Dataset",
    "Decode",
    "DecodeError",
    "DicomFiles",
    "ExportReport",
    "FastshardError",
    "Field",
    "Follow",
    "FormatError",
    "GaussianBlur",
    "Grayscale",
    "InstanceMasks",
    "Lambda",
    "Loader",
    "LogMel",
    "MixUp",
    "Mono",
    "Mosaic",
    "Normalize",
    "PackReport",
    "Pad",
    "PadSequence",
    "Problem",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSolarize",
    "RandomVerticalFlip",
    "RandomWindow",
    "Resample",
    "Resize",
    "ResizePad",
    "SanitizeBoundingBoxes",
    "SkippedRow",
    "SourceError",
    "Standardize",
    "ToDtype",
    "Transform",
    "TrivialAugmentWide",
    "Truncate",
    "Window",
    "__version__",
    "build_info",
    "concat",
    "export",
    "from_arrays",
    "mix",
    "open",
    "pack",
    "unmap_boxes",
]

# Not in __all__: a star import must load no framework.
_ADAPTERS = ("keras", "lightning", "tensorflow", "torch", "tune")

if build_info()["profile"] == "debug":
    warnings.warn("this fastshard is a debug build and many times slower than a release build", stacklevel=2)


def __getattr__(name: str) -> Any:
    if name in _ADAPTERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
