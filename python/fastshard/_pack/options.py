"""What ``fastshard.pack`` is told of images and of the destination: checked, and put together for the native job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastshard._base import check
from fastshard._transforms.image import Decode, ImageTransform, Resize, ResizePad

__all__ = ["Size", "check_target", "image_spec", "seekable_spec"]

Size = int | tuple[int, int]


def image_spec(
    resize: Size | None, resize_pad: Size | None, gray: bool, encode: str | None, quality: int, max_pixels: int
) -> dict[str, Any]:
    """What becomes of images, for the native job."""
    ops: list[ImageTransform] = [Decode("L", max_pixels=max_pixels)] if check.boolean("gray", gray) else []
    if resize is not None and resize_pad is not None:
        raise ValueError(f"resize={resize!r}, resize_pad={resize_pad!r}: expected one of them")
    if resize is not None:
        ops.append(Resize(resize))
    if resize_pad is not None:
        ops.append(ResizePad(resize_pad))
    encode = encode or ("jpeg" if ops else "original")
    check.one_of("encode", encode, ("original", "jpeg", "png", "raw"))
    if ops and encode == "original":
        raise ValueError(
            "encode='original' keeps the files' bytes; with resize, resize_pad or gray choose jpeg, png or raw"
        )
    return {
        "ops": [op._spec() for op in ops],
        "encode": encode,
        "quality": check.integer("quality", quality, 1, 100),
        "max_pixels": check.integer("max_pixels", max_pixels, 1),
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
