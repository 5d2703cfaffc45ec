"""Messages of the Python functions in the words of the command line: ``overwrite=True`` becomes ``--overwrite``."""

from __future__ import annotations

import re
import shlex
import typing
from collections.abc import Callable
from typing import Any

from typer.models import ArgumentInfo, OptionInfo

__all__ = ["spoken"]

# Where the command line has another name than the function.
_OTHER_NAMES = {"num_threads": "threads"}
_YES_NO = {"True": "yes", "False": "no"}
_VALUE = r"True\b|False\b|None\b|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d[\d.]*\b|[\[({][^\])}]*[\])}]"


def spoken(message: str, command: Callable[..., None]) -> str:
    """``message`` with the options of ``command`` as one types them."""
    given = _parameters(command)
    for name, option in _OTHER_NAMES.items():
        if option in given:
            given[name] = given[option]
    names = "|".join(sorted(given, key=len, reverse=True))
    # Not inside of a path or another word.
    pattern = re.compile(rf"(?<![\w./\\-])({names})=({_VALUE})?")
    return pattern.sub(lambda found: _typed(*given[found[1]], found[2]), message)


def _parameters(command: Callable[..., None]) -> dict[str, tuple[str, str | None]]:
    """How each parameter is typed, and how its opposite is, of a flag."""
    found: dict[str, tuple[str, str | None]] = {}
    for name, hint in typing.get_type_hints(command, include_extras=True).items():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, OptionInfo):
                # In annotations, Typer keeps the first name of an option as its default.
                names = (info.default, *(info.param_decls or ()))
                long = [text for text in names if isinstance(text, str) and text.startswith("--")]
                option = long[0] if long else f"--{name.replace('_', '-')}"
                # Typer makes an opposite unless the option has a name of its own.
                opposite = f"no {option}" if long else f"--no-{option[2:]}"
                found[name] = option, opposite if _is_flag(hint.__origin__) else None
            elif isinstance(info, ArgumentInfo):
                found[name] = str(info.metavar or name.upper()), None
    return found


def _is_flag(kind: Any) -> bool:
    return kind is bool or bool in typing.get_args(kind)


def _typed(option: str, opposite: str | None, value: str | None) -> str:
    if value is None:
        return option
    if value == "None":
        return f"no {option}"
    if opposite is not None:
        return opposite if value == "False" else option
    if value[0] == "[":
        return " ".join(_typed(option, None, item) for item in re.findall(_VALUE, value[1:-1])) or option
    value = _YES_NO.get(value, value)
    if value[0] in "'\"":
        # It is the repr of a text, in which a shell needs quotes in other places.
        value = shlex.quote(value[1:-1])
    return f"{option} {value}"
