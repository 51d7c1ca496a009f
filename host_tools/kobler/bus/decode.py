"""What a block of registers may mean: every type in every order, with a mark at what looks like a measured value."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UsageError

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
FORMATS = {
    "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "float32": ">f", "u64": ">Q", "i64": ">q", "float64": ">d",
}  # fmt: skip
_SMALLEST, _LARGEST = 1e-3, 1e8  # what meters and controllers measure, in the units they use
_MOST = 125  # registers of one read


@dataclass(frozen=True)
class Reading:
    """One way to read the registers from `at` on; `orders` are those that give this value."""

    at: int
    type: str
    orders: tuple[str, ...]
    value: int | float | str
    plausible: bool


def words(text: str) -> list[int]:
    """Registers from hex: words, bytes, or all in one, with or without 0x; UsageError with what is allowed."""
    tokens = [token.lower().removeprefix("0x") for token in re.split(r"[\s,;:-]+", text.strip()) if token]
    joined = "".join(tokens)
    whole = all(len(token) % 4 == 0 for token in tokens) or all(len(token) == 2 for token in tokens)
    if not tokens or not re.fullmatch(r"[0-9a-f]+", joined) or len(joined) % 4 or not whole:
        raise UsageError(f'{text.strip()[:60]!r} are no registers; allowed: hex words such as "0011 41c8", or bytes')
    return _checked([int(joined[i : i + 4], 16) for i in range(0, len(joined), 4)])


def values(text: str) -> list[int]:
    """Registers from decimal numbers (or 0x…), signed ones too."""
    found = []
    for token in re.split(r"[\s,;]+", text.strip()):
        try:
            word = int(token, 0)
        except ValueError:
            raise UsageError(f'{token!r} is no register; allowed: whole numbers such as "17,16840"') from None
        if not -32768 <= word <= 65535:
            raise UsageError(f"{token} is no register; allowed: -32768 to 65535")
        found.append(word & 0xFFFF)
    return _checked(found)


def _checked(found: list[int]) -> list[int]:
    if len(found) > _MOST:
        raise UsageError(f"{len(found)} registers; one read has at most {_MOST}")
    return found


def readings(registers: list[int]) -> Iterator[Reading]:
    """Every number at every place, by place and length; then the whole block as a text."""
    for at in range(len(registers)):
        for kind, form in FORMATS.items():
            length = struct.calcsize(form) // 2
            if at + length <= len(registers):
                yield from _numbers(at, kind, form, registers[at : at + length])
    for order in ("ABCD", "BADC"):
        text = text_of(registers, order)
        if text:
            yield Reading(0, f"string({2 * len(registers)})", (order,), text, _is_text(registers, order))


def _numbers(at: int, kind: str, form: str, registers: list[int]) -> Iterator[Reading]:
    found: dict[str, tuple[list[str], int | float]] = {}
    for order in ORDERS:
        value = struct.unpack(form, straight(registers, order))[0]
        found.setdefault(repr(value), ([], value))[0].append(order)
    for orders, value in found.values():
        yield Reading(at, kind, tuple(orders), value, _is_measured(kind, value))


def straight(registers: list[int], order: str) -> bytes:
    """The bytes in the order ABCD. C first: the words are swapped; B first: the bytes of each word are."""
    swapped = registers[::-1] if order[0] in "CD" else registers
    return struct.pack(("<" if order in {"BADC", "DCBA"} else ">") + f"{len(swapped)}H", *swapped)


def _is_measured(kind: str, value: int | float) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and _SMALLEST <= abs(value) <= _LARGEST
    if kind == "u16":
        return 0 < value < 0x7FFF
    if kind == "i16":
        return -0x7FFF < value < 0
    # In the wrong order a small number has its zeros behind it. A signed type says more only where it is negative.
    return 0 < abs(value) <= _LARGEST and bool(value & 0xFFFF) and (kind[0] == "u") == (value > 0)


def text_of(registers: list[int], order: str) -> str:
    """The text in the registers, in the order ABCD or BADC: up to its end, without padding."""
    raw = _characters(registers, order)
    return "".join(chr(c) if 32 <= c < 127 or c >= 160 else "?" for c in raw).rstrip()


def _characters(registers: list[int], order: str) -> bytes:
    data = struct.pack((">" if order == "ABCD" else "<") + f"{len(registers)}H", *registers)
    return data.split(b"\0", 1)[0]


def _is_text(registers: list[int], order: str) -> bool:
    raw = _characters(registers, order).rstrip()
    return len(raw) >= 3 and all(32 <= c < 127 for c in raw)
