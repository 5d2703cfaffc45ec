"""What ``fastshard.pack`` is told: checked, and put together for sources and for the native job."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _check
from ._fastshard import SourceError
from ._transforms import Decode, Resize, ResizePad, Transform

__all__ = [
    "Size",
    "SourceOptions",
    "check_apart",
    "check_inside",
    "check_root",
    "check_target",
    "image_spec",
    "seekable_spec",
]

Size = int | tuple[int, int]


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source; see ``fastshard.pack``."""

    csv: str | os.PathLike[str] | None = None
    file_column: str | None = None
    label: str | int | Sequence[str | int] | None = None
    features: str | Sequence[str | int] | None = None
    dtype: str = "float32"
    missing: str | float = "error"
    header: bool = True
    label_sep: str | None = None
    no_label: str | None = None
    types: Mapping[Any, str] = field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pickles: str = "refuse"
    window: str | tuple[float, float] | None = None
    annotations: str | os.PathLike[str] | None = None
    masks: bool = False
    zero_based: bool = False
    drop_unlabeled: bool = False
    annotated: str = "auto"
    resized: bool = False
    follow_symlinks: bool = False
    on_error: str = "raise"
    shard_size: int = 256 << 20
    shuffle_seed: int | None = None
    progress: bool | None = None


def image_spec(
    resize: Size | None, resize_pad: Size | None, gray: bool, encode: str | None, quality: int, max_pixels: int
) -> dict[str, Any]:
    """What becomes of images, for the native job."""
    ops: list[Transform] = [Decode("L", max_pixels=max_pixels)] if _check.boolean("gray", gray) else []
    if resize is not None and resize_pad is not None:
        raise ValueError(f"resize={resize!r}, resize_pad={resize_pad!r}: expected one of them")
    if resize is not None:
        ops.append(Resize(resize))
    if resize_pad is not None:
        ops.append(ResizePad(resize_pad))
    encode = encode or ("jpeg" if ops else "original")
    _check.one_of("encode", encode, ("original", "jpeg", "png", "raw"))
    if ops and encode == "original":
        raise ValueError(
            "encode='original' keeps the files' bytes; with resize, resize_pad or gray choose jpeg, png or raw"
        )
    return {
        "ops": [op._spec() for op in ops],
        "encode": encode,
        "quality": _check.integer("quality", quality, 1, 100),
        "max_pixels": _check.integer("max_pixels", max_pixels, 1),
    }


def seekable_spec(value: object) -> str:
    """For the native job."""
    if value == "auto":
        return "auto"
    if not isinstance(value, bool):
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"seekable={value!r}: expected 'auto', True or False")
    return "yes" if value else "no"


def check_target(target: str, overwrite: bool) -> None:
    """Refuses to replace a dataset unasked."""
    # The native core has the last word; this spares the reading of a large source. A lock says that a pack was killed
    # while it published, which the core finishes before it refuses.
    if not overwrite and Path(target, "manifest.json").exists() and not Path(target, "lock").exists():
        raise FileExistsError(
            f"{target}: there is a dataset already; pack elsewhere, or replace it with overwrite=True"
        )


def check_root(root: str, target: str) -> None:
    """Whether a source is a folder, and apart from the destination."""
    if not Path(root).exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not Path(root).is_dir():
        raise NotADirectoryError(
            f"{root}: expected a folder, or a file of a kind that is known; a CSV file of labels is given with csv=, "
            "beside the folder of its images"
        )
    check_apart(root, target)


def check_apart(source: str, target: str) -> None:
    """Whether source and destination don't lie in each other."""
    real_source, real_target = os.path.realpath(source), os.path.realpath(target)
    common = os.path.commonpath([real_source, real_target])
    if common == real_source:
        raise ValueError(f"dst={target!r}: lies in the source {source}; expected another place")
    if common == real_target:
        # To overwrite it would delete the source.
        raise ValueError(f"dst={target!r}: the source {source} lies in it; expected another place")


def check_inside(path: str, folder: str) -> None:
    """Refuses a link out of a source folder, which may come from a stranger."""
    target = os.path.realpath(path)
    if Path(path).is_symlink() and os.path.commonpath([target, os.path.realpath(folder)]) != os.path.realpath(folder):
        raise SourceError(f"{path}: leads out of the source, to {target}; copy it")
