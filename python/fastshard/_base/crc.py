"""The checksum of TFRecord files."""

from __future__ import annotations

from fastshard._fastshard import crc32c

__all__ = ["masked_crc"]


def masked_crc(data: bytes, start: int = 0, end: int | None = None) -> int:
    """The CRC32C of a part of some bytes, rotated by 15 bits and shifted.

    TFRecord does so since a checksum of data that holds checksums is a weak one.
    """
    crc = crc32c(data, start, len(data) if end is None else end)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
