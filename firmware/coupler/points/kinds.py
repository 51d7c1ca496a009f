# What the types of points are: how long on the wire, which raw values they can hold.

import struct

from coupler.const import const
from coupler.points.codec import FORMATS

_LONGEST = const(250)  # characters: the 125 registers that one request reads


def size(kind, length=0):
    """Bytes that a value takes on the wire; ValueError for an unknown type. length: characters of a string."""
    if kind in FORMATS:
        return struct.calcsize(FORMATS[kind])
    if kind in ("bool", "bits"):
        return 2
    if kind == "string" and isinstance(length, int) and 1 <= length <= _LONGEST:
        return (length + 1) // 2 * 2
    raise ValueError("type %r with length %r is not known" % (kind, length))


def width(point):
    """Registers or, in a table of bits, bits that a point takes from its offset on."""
    kind, order, extra = point.form[:3]
    return 1 if order is None else size(kind, extra) // 2


def span(kind, count=0):
    """(least, most) raw value of a type of whole numbers, else None. count: of bits."""
    if kind == "bits":
        return 0, (1 << count) - 1
    if kind not in FORMATS or kind[0] == "f":
        return None
    half = 1 << 8 * size(kind) - 1
    return (-half, half - 1) if kind[0] == "i" else (0, 2 * half - 1)
