"""The names of classes of a YOLO dataset: ``names`` in its YAML file, or a line a class in ``classes.txt``.

With PyYAML, its safe loader reads the file; without, a reader of the few forms that ``names`` is written in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastshard._fastshard import SourceError
from fastshard._sources.base import first_five, repeated

from .box_lists import small_text

__all__ = ["YoloNames", "read_names", "read_plain_yaml"]

_MAX_BYTES = 1 << 20
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_TEXT = ("classes.txt", "labels/classes.txt", "obj.names")
# Not 010, which is 8 to YAML.
_WHOLE = "0|[1-9][0-9]{0,8}"
_KEYS = ("names", "nc", "kpt_shape")


class YoloNames:
    """The names in the order of their numbers, the file that has them, and the (points, numbers) of keypoints."""

    def __init__(self, path: str, names: list[str], keypoints: tuple[int, int] | None) -> None:
        self.path = path
        self.names = names
        self.keypoints = keypoints


def read_names(root: str) -> YoloNames:
    """From the folder ``root``. SourceError if there is no file of names, or one that can't be read."""
    path = _yaml_file(Path(root))
    if path is not None:
        return _from_yaml(path)
    for name in _TEXT:
        path = Path(root, name)
        if path.is_file():
            return YoloNames(str(path), _check_names(path, _lines(path)), None)
    raise SourceError(
        f"{root}: no names of classes; expected data.yaml with names:, or classes.txt "
        "(source='folder' takes folders for classes)"
    )


def _yaml_file(root: Path) -> Path | None:
    for name in _YAML:
        if Path(root, name).is_file():
            return root / name
    others = sorted(path for pattern in ("*.yaml", "*.yml") for path in root.glob(pattern) if path.is_file())
    if len(others) > 1:
        raise SourceError(f"{root}: several YAML files, and none is data.yaml: {first_five(others)}")
    return others[0] if others else None


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in small_text(path, _MAX_BYTES).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _from_yaml(path: Path) -> YoloNames:
    found = _load(path)
    if not isinstance(found, dict) or "names" not in found:
        raise SourceError(f"{path}: no names:; expected a list of the classes")
    names = found["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise SourceError(f"{path}: names has the numbers {first_five(names)}; expected each from 0 on")
        names = [names[number] for number in range(len(names))]
    names = _check_names(path, names)
    if "nc" in found and found["nc"] != len(names):
        raise SourceError(f"{path}: nc is {_shown(found['nc'])}, but there are {len(names):,} names")
    return YoloNames(str(path), names, _keypoints(path, found.get("kpt_shape")))


def _check_names(path: Path, names: Any) -> list[str]:
    if not isinstance(names, list) or not names:
        raise SourceError(f"{path}: names is {_shown(names)}; expected a list of the classes")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise SourceError(
                f"{path}: the name of class {number} is {_shown(name)}; expected text, in quotes if need be"
            )
    if twice := repeated(names):
        raise SourceError(f"{path}: several classes are named {twice[0]!r}")
    return names


def _shown(value: Any) -> str:
    """Never what is in a list: a few aliases are enough to make one that fills the memory when it is written out."""
    return repr(value)[:40] if isinstance(value, (str, int, float)) or value is None else f"a {type(value).__name__}"


def _keypoints(path: Path, shape: Any) -> tuple[int, int] | None:
    if shape is None:
        return None
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not is_shape or not 1 <= shape[0] <= 256 or shape[1] not in (2, 3):
        raise SourceError(f"{path}: kpt_shape is {_shown(shape)}; expected [points, 2 or 3], with at most 256 points")
    return shape[0], shape[1]


def _load(path: Path) -> Any:
    text = small_text(path, _MAX_BYTES)
    try:
        import yaml
    except ImportError:
        return read_plain_yaml(str(path), text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: {error}") from None


def read_plain_yaml(path: str, text: str) -> dict[str, Any]:
    """``names``, ``nc`` and ``kpt_shape`` of a simple YAML file: lists, and maps from numbers, of plain texts.

    Raises SourceError for anything else there, with the advice to install PyYAML; other keys are passed over.
    """
    lines = [_without_comment(line) for line in text.splitlines()]
    found: dict[str, Any] = {}
    at = 0
    while at < len(lines):
        match = re.match(r"(\w+)\s*:(?:\s+(.*))?$", lines[at])
        at += 1
        if match is None or match[1] not in _KEYS:
            continue
        if match[1] in found:
            raise SourceError(f"{path}: line {at}: {match[1]} stands there twice")
        value = (match[2] or "").strip()
        start = at
        while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t-" or value.startswith("[")):
            if value.startswith("[") and value.rstrip().endswith("]"):
                break
            value += "\n" + lines[at]
            at += 1
        found[match[1]] = _value(f"{path}: line {start}: {match[1]}", value.strip("\n"))
    return found


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).rstrip() if "'" not in line and '"' not in line else line.rstrip()


def _value(where: str, value: str) -> Any:
    if value.startswith("["):
        if not value.endswith("]"):
            raise _too_hard(where, value)
        inside = value[1:-1].strip().removesuffix(",")
        return [_scalar(where, item) for item in inside.split(",")] if inside else []
    lines = [line.strip() for line in value.split("\n") if line.strip()]
    if lines and all(line.startswith("- ") for line in lines):
        return [_scalar(where, line[2:]) for line in lines]
    pairs = [re.match(rf"({_WHOLE})\s*:\s+(.*)$", line) for line in lines]
    if len(lines) == 1 and not pairs[0]:
        return _scalar(where, lines[0])
    if not lines or not all(pairs):
        raise _too_hard(where, value)
    return {int(pair[1]): _scalar(where, pair[2]) for pair in pairs if pair}


def _scalar(where: str, text: str) -> Any:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and not set(text[1:-1]) & set("'\"\\"):
        return text[1:-1]
    if re.fullmatch(_WHOLE, text):
        return int(text)
    # Whatever YAML might take for something else than a text.
    if not re.fullmatch(r"[^\W\d_][\w .()/+-]*", text) or text.lower() in _SPECIAL:
        raise _too_hard(where, text)
    return text


_SPECIAL = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _too_hard(where: str, value: str) -> SourceError:
    return SourceError(f"{where}: can't read {value[:40]!r}; install PyYAML for it, or list the names in classes.txt")
