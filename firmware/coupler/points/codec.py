# Registers to values. Modbus sends each register big endian; devices differ in the order of the words and bytes of what
# spans several. The order is named by where the bytes A (most significant) to D of a 32-bit value stand on the wire:
# ABCD, CDAB (words swapped), BADC (bytes swapped in each word), DCBA (both). With 64 bits and four words alike.

import struct

from coupler.const import const

FORMATS = {
    "u16": ">H",
    "i16": ">h",
    "u32": ">I",
    "i32": ">i",
    "u64": ">Q",
    "i64": ">q",
    "float32": ">f",
    "float64": ">d",
}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
_WORDS = const(1)  # bits of an order's index: words swapped, bytes swapped
_BYTES = const(2)
_LONGEST = const(250)

_straight = bytearray(_LONGEST)


def straighten(data, at, n, swap):
    # The n bytes from `at` in a buffer of our own, put from an order (`swap` is its index) to ABCD or from ABCD to it:
    # each of them undoes itself.
    byte = 1 if swap & _BYTES else 0
    for i in range(0, n, 2):
        source = at + (n - 2 - i if swap & _WORDS else i)
        _straight[i] = data[source + byte]
        _straight[i + 1] = data[source + 1 - byte]
    return _straight


def decode(kind, order, data, offset, extra=0, count=0):
    """The value of type `kind` at register `offset` of a block's data; None if it is no number (NaN, infinite).

    extra: characters of a string, or the first of the `count` bits, where bit 0 is the least significant."""
    at = 2 * offset
    swap = ORDERS.index(order)
    form = FORMATS.get(kind)
    if form:
        if swap:
            data = straighten(data, at, struct.calcsize(form), swap)
            at = 0
        value = struct.unpack_from(form, data, at)[0]
        # What is neither NaN nor infinite differs from itself by nothing.
        return value if value - value == 0 else None
    if kind == "string":
        # The words of a string are always in reading order, their two characters may be swapped.
        return _text(straighten(data, at, (extra + 1) // 2 * 2, swap & _BYTES), extra)
    byte = 1 if swap & _BYTES else 0
    word = data[at + byte] << 8 | data[at + 1 - byte]
    if kind == "bool":
        return word != 0
    return word >> extra & (1 << count) - 1


def decode_bit(data, offset):
    """The coil or discrete input at `offset` of a block's data."""
    return bool(data[offset >> 3] >> (offset & 7) & 1)


def _text(data, n):
    # Latin-1 up to the first NUL, without padding; a control character shows as "?".
    end = 0
    while end < n and data[end]:
        end += 1
    return "".join([chr(c) if 32 <= c < 127 or c >= 160 else "?" for c in data[:end]]).rstrip()
