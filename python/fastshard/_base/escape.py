"""Texts that strangers chose (file names, class names, errors), made safe for where they are shown.

Names are data until they reach a terminal, a page or a spreadsheet, each of which takes some characters for commands.
Every place that shows such a text passes it through one of these functions, and the text stays readable.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["cell", "csv_value", "html", "printable", "printable_lines"]

# Controls, formats (among them those that turn the direction of writing round), lone surrogates, separators of lines.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# The joiners that emoji, Persian and the scripts of India need.
_JOINERS = frozenset("\u200c\u200d")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# What begins a formula in a spreadsheet, at the start of a cell; some programs split cells at semicolons and tabs, too.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")


def printable(value: object) -> str:
    r"""``value`` as one line that a terminal only shows: control characters become ``\x1b``, ``\n``, ``\u202e``.

    Bytes of a file name that are no UTF-8 become ``\xff``.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # as Python decodes a file name's byte that is no UTF-8
        code -= 0xDC00
    if character in _NAMED:
        return _NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_lines(value: object) -> str:
    """The same for text of several lines, which stay lines."""
    return "\n".join(map(printable, str(value).split("\n")))


def cell(value: object) -> Text:
    """``value`` for a table of Rich, which takes ``[red]`` and ``:smile:`` in a plain string for markup."""
    from rich.text import Text

    return Text(printable(value))


def html(value: object) -> str:
    """``value`` as text of a page, or as the value of a quoted attribute."""
    return _html.escape(printable_lines(value), quote=True)


def csv_value(value: Any) -> Any:
    """``value`` for a CSV file that people open in a spreadsheet: text that would be a formula gets an apostrophe."""
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
