"""How to read a source, and where it may lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastshard._fastshard import SourceError

__all__ = ["SourceOptions", "check_apart", "check_inside", "check_root"]


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
