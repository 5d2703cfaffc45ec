"""Transforms written as text, for the command line: only known names with literal arguments, never evaluated."""

from __future__ import annotations

import ast
from typing import Any

from . import audio, augment, image, warp
from .audio import AudioTransform
from .image import ImageTransform

__all__ = ["parse_transform"]

_CONSTANTS = ("IMAGENET_MEAN", "IMAGENET_STD")
_NAMES = {
    name: cls
    for module in (image, augment, warp, audio)
    for name in module.__all__
    if isinstance(cls := getattr(module, name), type) and cls not in (ImageTransform, AudioTransform)
}


def parse_transform(text: str) -> ImageTransform | AudioTransform:
    """The transform that ``text`` such as ``"Resize(256, antialias=False)"`` describes.

    Raises ValueError for anything but a known transform with literal arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"transform {text!r}: expected something like 'Resize(256)'") from None
    cls = _transform_class(text, call.func if isinstance(call, ast.Call) else call)
    positional, named = _arguments(text, call) if isinstance(call, ast.Call) else ([], {})
    try:
        transform = cls(*positional, **named)
    except (TypeError, ValueError) as error:
        raise ValueError(f"transform {text!r}: {error}") from None
    assert isinstance(transform, (ImageTransform, AudioTransform))
    return transform


def _transform_class(text: str, func: ast.expr) -> type[Any]:
    if isinstance(func, ast.Name) and func.id in _NAMES:
        return _NAMES[func.id]
    raise ValueError(f"transform {text!r}: expected one of {', '.join(sorted(_NAMES))}")


def _arguments(text: str, call: ast.Call) -> tuple[list[Any], dict[str, Any]]:
    named = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError(f"transform {text!r}: expected plain arguments")
        named[keyword.arg] = _literal(text, keyword.value)
    return [_literal(text, argument) for argument in call.args], named


def _literal(text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return getattr(image, node.id)
    if isinstance(node, ast.List):
        return [_literal(text, item) for item in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NAMES:
        return parse_transform(ast.unparse(node))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(f"transform {text!r}: {ast.unparse(node)!r} is not a number, text or tuple") from None
