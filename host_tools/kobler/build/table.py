"""The partition table in flash (ESP-IDF's format), with the MD5 row that the bootloader checks."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from ..boards import Partition

SIZE = 0xC00  # 95 rows and the end mark
_ROW = struct.Struct("<HBBII16sI")
_MAGIC = 0x50AA
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14


def encode(partitions: Iterable[Partition]) -> bytes:
    """The table, padded to its full size."""
    rows = b"".join(
        _ROW.pack(_MAGIC, p.type, p.subtype, p.offset, p.size, p.name.encode(), 0)
        for p in sorted(partitions, key=lambda p: p.offset)
    )
    return (rows + _MD5_MAGIC + hashlib.md5(rows, usedforsecurity=False).digest()).ljust(SIZE, b"\xff")
