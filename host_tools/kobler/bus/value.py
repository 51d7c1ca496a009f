"""One value in registers: decoded, and encoded, as the configuration's types and orders have it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import raw
from ..config.values import PointType, point_type
from ..errors import UsageError
from .decode import FORMATS, ORDERS, straight, text_of

Value = bool | int | float | str
_TRUTHS = {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}


@dataclass(frozen=True)
class Coding:
    """What registers mean: value = raw * scale + offset."""

    type: PointType
    order: str = "ABCD"
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, kind: str, order: str, scale: float, offset: float) -> Coding:
        """From the command line. UsageError."""
        try:
            found = point_type(kind)
        except ValueError as error:
            raise UsageError(f"--type: {error}") from None
        if order not in ORDERS:
            raise UsageError(f"--order {order}: allowed: {' '.join(ORDERS)}")
        if not (math.isfinite(scale) and scale and math.isfinite(offset)):
            raise UsageError("--scale and --offset: finite numbers, and scale not 0")
        if not found.numeric and (scale != 1 or offset):
            raise UsageError(f"--scale and --offset do not go with the type {found.kind!r}")
        return cls(found, order, scale, offset)

    def decode(self, words: Sequence[int]) -> Value:
        """The value in as many registers as the type takes."""
        kind = self.type.kind
        if kind == "string":
            # Words of a text are always in reading order, their two characters may be swapped.
            return text_of(list(words), "BADC" if self._swaps_bytes else "ABCD")[: self.type.length].rstrip()
        if kind in FORMATS:
            return self._scaled(struct.unpack(FORMATS[kind], straight(list(words), self.order))[0])
        word = self._word(words[0])
        if kind == "bool":
            return word != 0
        return self._scaled(word >> self.type.first & (1 << self.type.count) - 1)

    def encode(self, text: str) -> list[int]:
        """The registers that hold the value (of bits: with the others 0). UsageError with what is allowed."""
        kind = self.type.kind
        if kind == "string":
            return self._characters(text)
        if kind == "bool":
            return [self._word(int(truth(text)))]
        number = self._number(text)
        if kind == "bits":
            return [self._word(int(number) << self.type.first)]
        try:
            data = struct.pack(FORMATS[kind], number)
        except OverflowError:
            raise UsageError(f"{text} is more than a {kind} can hold") from None
        # Each order undoes itself.
        return list(struct.unpack(f">{len(data) // 2}H", straight(_words(data), self.order)))

    @property
    def mask(self) -> int:
        """The bits of a register that are the value's, on the wire."""
        return self._word((1 << self.type.count) - 1 << self.type.first) if self.type.kind == "bits" else 0xFFFF

    @property
    def _swaps_bytes(self) -> bool:
        return self.order in {"BADC", "DCBA"}

    def _word(self, word: int) -> int:
        return word >> 8 | word << 8 & 0xFF00 if self._swaps_bytes else word

    def _scaled(self, number: int | float) -> int | float:
        if self.scale == 1 and not self.offset:
            return number
        return float(f"{number * self.scale + self.offset:.12g}")  # without the noise of 0.1

    def _number(self, text: str) -> int | float:
        try:
            number: int | float = int(text, 0)
        except ValueError:
            try:
                number = float(text)
            except ValueError:
                raise UsageError(f"{text!r} is not a number") from None
        span = raw.span(self.type)
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"{text} cannot be written")
        if self.scale != 1 or self.offset:
            number = (number - self.offset) / self.scale
        if span is None:
            return float(number)
        if self.scale == 1 and number != int(number):
            raise UsageError(f"{text} is no whole number: give --scale, or another --type")
        number = round(number)
        if not span[0] <= number <= span[1]:
            low, high = sorted(self._scaled(limit) for limit in span)
            raise UsageError(f"{text} does not fit into the type: {low} to {high}")
        return number

    def _characters(self, text: str) -> list[int]:
        try:
            data = text.encode("latin-1")
        except UnicodeEncodeError:
            raise UsageError(f"{text!r}: only characters of Latin-1 can be written") from None
        if len(data) > self.type.length or not text.isprintable():
            raise UsageError(f"{text!r}: at most {self.type.length} printable characters")
        return [self._word(word) for word in _words(data.ljust(2 * self.type.registers, b"\0"))]


def truth(text: str) -> bool:
    """On or off. UsageError."""
    try:
        return _TRUTHS[text.lower()]
    except KeyError:
        raise UsageError(f"{text!r} is neither on nor off") from None


def word(text: str) -> int:
    """A register from a whole number, signed or not, decimal or 0x. UsageError."""
    try:
        number = int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no register: a whole number, or say what it is with --type") from None
    if not -32768 <= number <= 65535:
        raise UsageError(f"{text} is no register: -32768 to 65535, or say what it is with --type")
    return number & 0xFFFF


def _words(data: bytes) -> list[int]:
    return list(struct.unpack(f">{len(data) // 2}H", data))
