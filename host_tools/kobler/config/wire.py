"""What a read costs on a bus: the model by which reads are planned. Times in whole nanoseconds.

A serial bus: the request (8 characters), the answer (5 and its data), the silence of 3.5 characters before each of the
two (Modbus over Serial Line V1.02, section 2.5.1.1), and what the device takes in between. A write, a retry or an
answer that never comes is not in the model; room for them is what the plan leaves.

Modbus TCP: a round trip, and a little for each byte, since behind many servers is a slow loop or a serial line.
"""

from __future__ import annotations

from dataclasses import dataclass

from .models import Bus

DEVICE_NS = 5_000_000  # what a device takes until it answers
ROUND_TRIP_NS = 10_000_000
TCP_BYTE_NS = 100_000
_FAST = 19200  # above, the silence between frames is fixed
_FAST_SILENCE_NS = 1_750_000
_REQUEST = 8
_ANSWER = 5  # unit, function, byte count and CRC


@dataclass(frozen=True)
class Wire:
    """A read costs `base` and `byte` for each byte of data; `lanes` reads can be under way at once."""

    base: int
    byte: int
    lanes: int = 1

    def read_ns(self, fc: int, count: int) -> int:
        """What one read of `count` registers or bits costs."""
        return self.base + self.byte * data_bytes(fc, count)


def data_bytes(fc: int, count: int) -> int:
    """Bytes of data in the answer to a read."""
    return (count + 7) // 8 if fc <= 2 else 2 * count


def wire_of(bus: Bus) -> Wire:
    """The model of a bus."""
    if bus.kind == "tcp":
        return Wire(ROUND_TRIP_NS, TCP_BYTE_NS, bus.in_flight)
    bits = 9 + (bus.parity != "none") + bus.stop_bits
    character = -(-bits * 1_000_000_000 // bus.baudrate)
    silence = _FAST_SILENCE_NS if bus.baudrate > _FAST else -(-7 * character // 2)
    return Wire((_REQUEST + _ANSWER) * character + 2 * silence + DEVICE_NS, character)
