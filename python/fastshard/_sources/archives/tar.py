"""Tar archives read from front to back: ustar, pax and GNU headers, and nothing that isn't a plain file.

A reader of its own, since Python's takes 60 microseconds a member, which is as long as a photograph takes to be
copied. It refuses what an archive of samples has no use for and an attacker has: links, devices, sparse files, absolute
names and names with ``..``, and archives without an end.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastshard._fastshard import SourceError, usual_member
from fastshard._sources.base import MAX_ITEM, Encoded
from fastshard._sources.stream import FileInput, Input

__all__ = ["check_name", "tar_members"]

_BLOCK = 512
_MAX_HEADER = 1 << 20
_MAX_FOLDERS = 255
# A header, a short one that says more, and what that says.
_USUAL = 3 * _BLOCK
_FILES = (b"0", b"\0", b"7")
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"M": "a part of a file of several volumes",
}


class _Header(NamedTuple):
    kind: bytes
    name: str
    size: int


def tar_members(source: Input, as_place: Callable[[str], bool]) -> Iterator[tuple[str, bytes | Encoded]]:
    """The plain files of an archive in order: name and bytes, or the place of those that ``as_place`` asks for.

    Raises SourceError that names archive and member.
    """
    reader = _Reader(source)
    while (header := reader.next()) is not None:
        if source.places and as_place(header.name):
            place = Encoded("", b"", source.path, source.position, header.size)
            reader.skip(header, header.size)
            yield header.name, place
        else:
            yield header.name, reader.body(header)
        reader.skip(header, -header.size % _BLOCK)


def check_name(archive: str, name: str) -> None:
    """Refuses names of members that lead out of where they would be unpacked."""
    if not name:
        raise SourceError(f"{archive}: a member without a name")
    # The dots are looked for twice because nearly no name has them, and taking names apart takes time.
    climbs = ".." in name and ".." in name.replace("\\", "/").split("/")
    if climbs or name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\"):
        raise SourceError(f"{archive}: member {name!r}: may lead elsewhere; expected a relative name without '..'")
    if "\0" in name:
        raise SourceError(f"{archive}: member {name!r}: a name with a zero byte")
    if name.count("/") > _MAX_FOLDERS:
        where = f"{archive}: member {name[:100]!r}..."
        raise SourceError(f"{where}: {name.count('/'):,} folders deep; expected at most {_MAX_FOLDERS}")


class _Reader:
    """Headers, with what pax and GNU headers before them say."""

    def __init__(self, source: Input) -> None:
        self._source = source

    def next(self) -> _Header | None:
        """The next plain file; the source then stands at its bytes."""
        # Nearly all are as usual, and found at once.
        found = usual_member(self._source.peek(_USUAL)) if isinstance(self._source, FileInput) else None
        if found is not None and found[1] <= MAX_ITEM:
            self._source.skip(found[2])
            return _Header(_FILES[0], found[0], found[1])
        return self._unusual()

    def _unusual(self) -> _Header | None:
        longer: dict[str, str] = {}
        while (block := self._block()) is not None:
            header = self._parse(block, longer)
            if header.kind in _FILES and not header.name.endswith("/"):
                check_name(self._source.path, header.name)
                return header
            if header.kind == b"x":
                longer |= self._pax(header)
            elif header.kind == b"L":
                longer["path"] = self._long_name(header)
            elif header.kind == b"g":
                self._pax(header)
            elif header.kind == b"K":
                self._more(header)
            elif header.kind in (b"5", b"V", *_FILES):
                check_name(self._source.path, header.name)
                self.skip(header, header.size)
                longer = {}
            else:
                what = _REFUSED.get(header.kind, f"of the unknown type {header.kind!r}")
                raise SourceError(f"{self._place(header)} is {what}; expected plain files")
            self.skip(header, -header.size % _BLOCK)
        return None

    def body(self, header: _Header) -> bytes:
        """The bytes of a member."""
        data = self._source.take(header.size)
        if len(data) != header.size:
            raise self._truncated(header, len(data), header.size)
        return data

    def skip(self, header: _Header, size: int) -> None:
        """Passes over a member, or over what fills its last block."""
        passed = self._source.skip(size)
        if passed != size:
            raise self._truncated(header, passed, size)

    def _truncated(self, header: _Header, found: int, wanted: int) -> SourceError:
        return SourceError(f"{self._place(header)}: truncated: {found:,} of {wanted:,} bytes")

    def _place(self, header: _Header) -> str:
        return f"{self._source.path}: member {header.name!r}"

    def _block(self) -> bytes | None:
        """The next header, or None where the archive ends as it should."""
        start = self._source.position
        block = self._source.take(_BLOCK)
        if len(block) < _BLOCK:
            where = f"{self._source.path}: at byte {start:,}"
            raise SourceError(f"{where}: truncated: {len(block)} bytes, expected a header or the end marker")
        if block[0] or any(block):
            return block
        self._check_end()
        return None

    def _check_end(self) -> None:
        """Behind the end there is nothing, or else that would be lost: a second archive, say."""
        for _ in range(64):
            start = self._source.position
            rest = self._source.take(1 << 16)
            if rest.count(0) != len(rest):
                raise SourceError(f"{self._source.path}: at byte {start:,}: more data behind the end of the archive")
            if not rest:
                return

    def _parse(self, block: bytes, longer: dict[str, str]) -> _Header:
        if not _has_checksum(block):
            raise SourceError(f"{self._where()}: not a tar header: its checksum is wrong")
        kind = block[156:157]
        try:
            name = longer.get("path") or ("(a pax header)" if kind == b"x" else _name(block))
            size = int(longer["size"]) if "size" in longer else _number(block[124:136])
        except (UnicodeDecodeError, ValueError) as error:
            raise SourceError(f"{self._where()}: not a tar header: {error}") from None
        if not name or not 0 <= size <= MAX_ITEM:
            wanted = "expected a name, and at most 2 GiB"
            raise SourceError(f"{self._where()}: member {name!r} of {size:,} bytes; {wanted}")
        return _Header(kind, name, size)

    def _where(self) -> str:
        return f"{self._source.path}: at byte {self._source.position - _BLOCK:,}"

    def _more(self, header: _Header) -> bytes:
        """What a header holds that speaks of the member behind it."""
        if header.size > _MAX_HEADER:
            place = f"{self._place(header)}: a header of type {header.kind.decode('latin-1')!r}"
            raise SourceError(f"{place} has {header.size:,} bytes; expected at most {_MAX_HEADER:,}")
        return self.body(header)

    def _long_name(self, header: _Header) -> str:
        try:
            return self._more(header).rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise SourceError(f"{self._place(header)}: a long name that is not UTF-8") from None

    def _pax(self, header: _Header) -> dict[str, str]:
        """What a pax header says of name and size."""
        data = self._more(header)
        # Mostly it says when the file was changed, of which nobody here makes anything.
        if not any(word in data for word in (b"path=", b"size=", b"GNU.sparse")):
            return {}
        try:
            records = dict(_records(data))
        except (UnicodeDecodeError, ValueError):
            raise SourceError(f"{self._place(header)}: a damaged pax header") from None
        if any(name.startswith("GNU.sparse") for name in records):
            raise SourceError(f"{self._place(header)} is of a sparse file; expected plain files")
        return {name: value for name, value in records.items() if name in ("path", "size")}


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """``<length> <name>=<value>`` and a line feed, where the length counts all of that."""
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits)
        end = at + length
        record = data[at + len(digits) + 1 : max(at, end - 1)]
        if not space or length <= 4 or end > len(data) or data[end - 1] != 10 or b"=" not in record:
            raise ValueError
        name, _, value = record.partition(b"=")
        at = end
        # Of other names than these, nobody needs the values, which may be in any encoding.
        yield name.decode(), value.decode() if name in (b"path", b"size") else ""


def _has_checksum(block: bytes) -> bool:
    try:
        declared = int(block[148:156].rstrip(b" \0") or b"0", 8)
    except ValueError:
        return False
    # The lower half of an Adler-32 is one more than the sum of the bytes, modulo 65,521, and computed at once.
    filled = block[:148] + b"        " + block[156:]
    return zlib.adler32(filled) & 0xFFFF == (declared + 1) % 65521


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0].decode()
    if block[257:263] == b"ustar\0" and block[345]:
        return block[345:500].split(b"\0", 1)[0].decode() + "/" + name
    return name


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        # GNU's form for what octal digits can't hold; negative numbers begin with 255.
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] != 0xFF else -1
    return int(field.rstrip(b" \0") or b"0", 8)
