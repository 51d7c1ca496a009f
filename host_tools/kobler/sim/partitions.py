"""The ESP-IDF partition table as it lies in flash: 32-byte rows, an MD5 row behind them, then 0xFF."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

TABLE_OFFSET = 0x8000
TABLE_SIZE = 0xC00
APP, DATA = 0, 1

_ROW = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_END = b"\xff" * 32
_ALIGN = {APP: 0x10000, DATA: 0x1000}


class PartitionError(ValueError):
    """The table cannot be used; the text names the row and what is wrong with it."""


@dataclass(frozen=True)
class Partition:
    name: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size


def parse(table: bytes, flash_size: int) -> list[Partition]:
    """The partitions of a table read from TABLE_OFFSET, checked as the bootloader does, and a little more."""
    rows: list[Partition] = []
    for start in range(0, min(len(table), TABLE_SIZE), 32):
        row = table[start : start + 32]
        if row == _END:
            break
        if row.startswith(_MD5_MAGIC):
            if hashlib.md5(table[:start], usedforsecurity=False).digest() != row[16:]:
                raise PartitionError("the partition table's MD5 does not match its rows")
            break
        rows.append(_row(row, start // 32))
    if not rows:
        raise PartitionError("the partition table is empty")
    _check(rows, flash_size)
    return rows


def find(rows: list[Partition], name: str) -> Partition:
    for row in rows:
        if row.name == name:
            return row
    raise PartitionError(f"no partition {name!r}; there are {', '.join(row.name for row in rows)}")


def apps(rows: list[Partition]) -> list[Partition]:
    """The app partitions, factory (subtype 0) first, then ota_0 and on."""
    return sorted((row for row in rows if row.type == APP), key=lambda row: row.subtype)


def _row(row: bytes, number: int) -> Partition:
    if len(row) < 32:
        raise PartitionError(f"partition row {number} is cut short")
    magic, kind, subtype, offset, size, name, flags = _ROW.unpack(row)
    if magic != _MAGIC:
        raise PartitionError(f"partition {number} invalid magic number 0x{int.from_bytes(magic, 'little'):x}")
    try:
        label = name.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise PartitionError(f"partition {number}: its name is not text") from error
    return Partition(label, kind, subtype, offset, size, flags)


def _check(rows: list[Partition], flash_size: int) -> None:
    seen: dict[str, Partition] = {}
    for row in sorted(rows, key=lambda row: row.offset):
        where = f"partition {row.name!r}"
        if row.name in seen:
            raise PartitionError(f"{where} is there twice")
        if row.offset % _ALIGN.get(row.type, 0x1000):
            raise PartitionError(f"{where} starts at 0x{row.offset:x}, which is not aligned")
        if row.size == 0 or row.end > flash_size:
            raise PartitionError(f"{where} ends at 0x{row.end:x}, the flash at 0x{flash_size:x}")
        if seen and row.offset < (last := list(seen.values())[-1]).end:
            raise PartitionError(f"{where} overlaps partition {last.name!r}")
        if row.offset < TABLE_OFFSET + 0x1000:
            raise PartitionError(f"{where} overlaps the partition table")
        seen[row.name] = row
