"""The flash: read from the image file, changed by the board, which keeps NOR's rules."""

import errno
import struct

import _chip

SECTOR = 4096
_CHUNK = 4096  # of one link message

_image = open(_chip.getenv("KOBLER_FLASH"), "rb", 0)


def _table(text):
    rows = []
    for row in (text or "").split(";"):
        if row:
            label, kind, subtype, offset, size = row.split(",")
            rows.append((int(kind), int(subtype), int(offset), int(size), label))
    return rows


partitions = _table(_chip.getenv("KOBLER_PARTITIONS"))  # (type, subtype, offset, size, label)


def read(offset, buf):
    _image.seek(offset)
    _image.readinto(buf)


def _request(kind, payload):
    status = _chip.call(kind, payload)[0]
    if status:
        raise OSError(status)


def program(offset, data):
    """Clear bits. OSError where one would have to be set."""
    view = memoryview(data)
    for i in range(0, len(view), _CHUNK):
        _request(_chip.FLASH_PROGRAM, struct.pack("<I", offset + i) + bytes(view[i : i + _CHUNK]))


def erase(offset, size):
    _request(_chip.FLASH_ERASE, struct.pack("<II", offset, size))


def get(offset, size):
    buf = bytearray(size)
    read(offset, buf)
    return buf


def find(label):
    """(type, subtype, offset, size, label) of a partition, or OSError(ENOENT)."""
    for row in partitions:
        if row[4] == label:
            return row
    raise OSError(errno.ENOENT)
