"""A serial format: how long its characters take, and which levels they are made of. Times are nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

Parity = Literal["even", "odd", "none"]

PARITY_ERROR = 1
FRAMING_ERROR = 2
BREAK = 4


class Edge(NamedTuple):
    """The line has `level` (0 or 1) from `t` on."""

    t: int
    level: int


class Received(NamedTuple):
    """One character as a receiver took it: `t` is its stop bit's end, `error` a mask of the constants above."""

    t: int
    value: int
    error: int = 0


@dataclass(frozen=True)
class Format:
    """Baud rate, data bits, parity and stop bits of one node."""

    baud: int = 9600
    parity: Parity = "even"
    stop: int = 1
    bits: int = 8

    def __post_init__(self) -> None:
        if self.baud <= 0 or self.stop not in (1, 2) or not 5 <= self.bits <= 8:
            raise ValueError(f"no such character format: {self}")

    @property
    def width(self) -> int:
        """Bit times a character takes, start and stop bits included."""
        return 1 + self.bits + (self.parity != "none") + self.stop

    @property
    def char_ns(self) -> int:
        return self.span_ns(self.width)

    def span_ns(self, bit_times: int) -> int:
        """Duration of so many bit times, rounded once, so that long runs do not drift."""
        return (bit_times * 2_000_000_000 + self.baud) // (2 * self.baud)

    @property
    def silence_ns(self) -> int:
        """t3.5 of Modbus over Serial Line V1.02, 2.5.1.1: fixed above 19200 baud."""
        return 1_750_000 if self.baud > 19200 else self.char_ns * 7 // 2

    def levels(self, data: bytes) -> bytes:
        """The levels of these characters on the wire, one byte (0 or 1) a bit time."""
        table = _character_levels(self)
        return b"".join([table[value] for value in data])

    def parity_of(self, value: int) -> int:
        return (value.bit_count() & 1) ^ (self.parity == "odd")

    def decode(self, wave: list[Edge]) -> list[Received]:
        """What a UART of this format makes of a wave. Before the first edge the line is idle (1).

        The receiver waits for a falling edge, then samples the middle of each bit; of the stop bits it checks
        the first.
        """
        out: list[Received] = []
        bit = 1e9 / self.baud
        tail = 1 + self.bits + (self.parity != "none")
        free = 0.0
        position = 0
        previous = 1
        while position < len(wave):
            edge = wave[position]
            falling = edge.level == 0 and previous == 1 and edge.t >= free
            previous = edge.level
            position += 1
            if not falling:
                continue
            start = edge.t
            samples = _sample(wave, position - 1, [start + (k + 0.5) * bit for k in range(tail + 1)])
            if samples[0]:  # shorter than half a bit: the receiver takes it for a glitch
                continue
            value = sum(level << k for k, level in enumerate(samples[1 : 1 + self.bits]))
            error = 0
            if self.parity != "none" and samples[tail - 1] != self.parity_of(value):
                error |= PARITY_ERROR
            if not samples[tail]:
                error |= FRAMING_ERROR
                if not any(samples):
                    error |= BREAK
            out.append(Received(start + self.char_ns, value, error))
            free = start + (tail + 0.5) * bit
        return out


def _sample(wave: list[Edge], position: int, times: list[float]) -> list[int]:
    """The level at each of these rising times, looking from edge `position` on."""
    levels = []
    for t in times:
        while position + 1 < len(wave) and wave[position + 1].t <= t:
            position += 1
        levels.append(wave[position].level)
    return levels


@lru_cache(maxsize=16)
def _character_levels(fmt: Format) -> list[bytes]:
    table = []
    for value in range(256):
        levels = [0] + [value >> k & 1 for k in range(fmt.bits)]
        if fmt.parity != "none":
            levels.append(fmt.parity_of(value & ((1 << fmt.bits) - 1)))
        table.append(bytes(levels + [1] * fmt.stop))
    return table
