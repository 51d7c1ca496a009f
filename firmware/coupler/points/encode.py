# Values to registers: the inverse of Point.read(). What cannot be written is refused by a ValueError that names what
# can be.

import struct

from coupler.const import const
from coupler.points.codec import FORMATS, ORDERS, straighten
from coupler.points.kinds import size, span

_BYTES = const(2)  # of an order's index: bytes swapped
_SHOWN = const(40)  # characters of a wrong value


def encode(point, value):
    """The registers (bytes) that hold `value`: of bits with the other bits 0; of a coil ff00 or 0000.

    A number is rounded to the nearest the point can hold; one that means "not available" is refused."""
    kind, order, extra = point.form[:3]
    swap = ORDERS.index(order or "ABCD")
    if kind == "bool":
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError("%s is neither true nor false" % shown(value))
        if order is None:
            return b"\xff\x00" if value else b"\0\0"
        data = b"\0\1" if value else b"\0\0"
    elif kind == "string":
        data = _text(value, extra)
        swap &= _BYTES
    else:
        data = _number(point, value)
    return bytes(straighten(data, 0, len(data), swap)[: len(data)])


def mask(point):
    """The bits of a register on the wire that are the point's."""
    kind, order, extra, count = point.form[:4]
    if kind != "bits":
        return 0xFFFF
    bits = (1 << count) - 1 << extra
    return (bits << 8 | bits >> 8) & 0xFFFF if ORDERS.index(order) & _BYTES else bits


def limits(point):
    """(least, most) value that may be written, each None if there is no limit; (None, None) if it is no number."""
    low = high = None
    kind, _, _, count, _, texts, divisor, scale, offset = point.form
    if texts:
        return low, high
    raws = span(kind, count)
    if raws:
        low, high = sorted([_scaled(raw, divisor, scale, offset) for raw in raws])
    least = point.wr and point.wr.get("min")
    most = point.wr and point.wr.get("max")
    if least is not None and (low is None or low < least):
        low = least
    if most is not None and (high is None or most < high):
        high = most
    return low, high


def outside(point, value):
    """The ValueError for a number that is not within the limits."""
    low, high = limits(point)
    unit = " " + point.unit if point.unit else ""
    if low is None and high is None:
        return ValueError("%s%s is more than a %s can hold" % (value, unit, point.form[0]))
    if low is None:
        return ValueError("%s%s is not allowed: at most %s%s" % (value, unit, high, unit))
    if high is None:
        return ValueError("%s%s is not allowed: at least %s%s" % (value, unit, low, unit))
    return ValueError("%s%s is not allowed: from %s to %s%s" % (value, unit, low, high, unit))


def shown(value):
    """A wrong value of any kind, in an error's text."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _scaled(value, divisor, scale, offset):
    if divisor:
        value = value / divisor
    elif scale != 1:
        value = value * scale
    return value + offset if offset else value


def _number(point, value):
    # In the order ABCD.
    kind, _, extra, count, na, texts, divisor, scale, offset = point.form
    raws = span(kind, count)
    if texts:
        raw = _enumerated(texts, value)
    else:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
            raise ValueError("%s is not a number" % shown(value))
        try:
            raw = value - offset if offset else value
            if divisor:
                raw = raw * divisor
            elif scale != 1:
                # Whole numbers exactly: a float holds 53 bits at most, on the unit 24.
                whole = isinstance(raw, int) and isinstance(scale, int) and not raw % scale
                raw = raw // scale if whole else raw / scale
            raw = round(raw) if raws else float(raw)
        except OverflowError:
            raise outside(point, shown(value))
        if raws and not raws[0] <= raw <= raws[1]:
            raise outside(point, shown(value))
    if kind == "bits":
        data = struct.pack(">H", raw << extra)
    elif raws:
        data = struct.pack(FORMATS[kind], raw)
    else:
        data = _float(FORMATS[kind], raw)
        if data is None:
            raise outside(point, shown(value))
        raw = int.from_bytes(data, "big")
    if na and raw in na:
        raise ValueError("%s is not allowed: to the device it means not available" % shown(value))
    return data


def _float(form, value):
    # None if it is more than the format holds: an error in one interpreter, infinite in another.
    try:
        data = struct.pack(form, value)
    except OverflowError:
        return None
    back = struct.unpack(form, data)[0]
    return data if back - back == 0 else None


def _enumerated(texts, value):
    # Or the raw value itself, if it is one of those that are named.
    raws = ()
    if isinstance(value, str):
        raws = sorted([raw for raw in texts if texts[raw] == value])
    elif isinstance(value, int) and not isinstance(value, bool) and value in texts:
        raws = (value,)
    if len(raws) == 1:
        return raws[0]
    if raws:
        raise ValueError("%r is not clear: it stands for each of %s" % (value, ", ".join([str(raw) for raw in raws])))
    raise ValueError("%s is not one of %s" % (shown(value), ", ".join([texts[raw] for raw in sorted(texts)])))


def _text(value, length):
    # Latin-1, padded with NULs to whole registers.
    if not isinstance(value, str):
        raise ValueError("%s is not a text" % shown(value))
    if len(value) > length:
        raise ValueError("%s is longer than %d characters" % (shown(value), length))
    for c in value:
        if not 32 <= ord(c) < 127 and not 160 <= ord(c) < 256:
            raise ValueError("%s: only printable characters of Latin-1 are allowed" % shown(value))
    return bytes([ord(c) for c in value]) + bytes(size("string", length) - len(value))
