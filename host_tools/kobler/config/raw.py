"""Raw values of a point's type: which ones it can hold, and which bits a value stands for on the wire."""

from __future__ import annotations

import struct

from .models import Point
from .values import PointType

_FLOATS = {"float32": (">f", 32, 23), "float64": (">d", 64, 52)}


def span(kind: PointType) -> tuple[int, int] | None:
    """The least and the most of a type of whole numbers; None of others."""
    if kind.kind == "bits":
        return 0, (1 << kind.count) - 1
    if kind.kind[0] not in "ui":
        return None
    bits = int(kind.kind[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.kind[0] == "i" else (0, (1 << bits) - 1)


def limits(point: Point) -> tuple[float, float] | None:
    """What a point of whole numbers can be, scale and offset applied; None of others."""
    found = span(point.type)
    if found is None:
        return None
    low, high = sorted(raw * point.scale + point.offset for raw in found)
    return low, high


def patterns(kind: PointType, item: int | float | str) -> list[int]:
    """The bits, as unsigned whole numbers, of one value that means "not available"; ValueError with what is allowed."""
    if kind.kind in _FLOATS:
        return _float_patterns(kind, item)
    found = span(kind)
    if found is None:
        raise ValueError(f"does not go with the type {kind.kind!r}")
    low, high = found
    width = (high - low).bit_length()
    if isinstance(item, str) and item != "nan":
        raw = int(item, 16)
        if raw < 1 << width:
            return [raw]
    elif isinstance(item, int) and low <= item <= high:
        return [item & (1 << width) - 1]
    allowed = f'{low} to {high}, or bits as "0x0" to "{(1 << width) - 1:#x}"'
    raise ValueError(f"{item!r} is not a raw value of the type {kind.kind!r}; allowed: {allowed}")


def _float_patterns(kind: PointType, item: int | float | str) -> list[int]:
    form, width, mantissa = _FLOATS[kind.kind]
    if item == "nan":
        # Devices use the quiet NaN, with either sign, or set all bits of it.
        ones = (1 << width - 1) - 1
        quiet = ones >> mantissa - 1 << mantissa - 1
        return [quiet | sign | rest for sign in (0, 1 << width - 1) for rest in (0, ones)]
    if isinstance(item, str):
        raw = int(item, 16)
        if raw < 1 << width:
            return [raw]
        raise ValueError(f"{item!r} has more than the {width} bits of the type {kind.kind!r}")
    try:
        return [int.from_bytes(struct.pack(form, item))]
    except OverflowError:
        raise ValueError(f"{item!r} is more than the type {kind.kind!r} can hold") from None
