"""The guest's UART on the bus: link messages on one side (stamps in microseconds), wires on the other."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .link import GPIO_OUT, UART_CONFIG, UART_RX, UART_TX, Link
from .rs485_format import BREAK, Format, Received
from .rs485_line import Tap

if TYPE_CHECKING:
    from .rs485 import Bus

UART_LINE = 0x24  # board: uart u8, what u8, t_us u64
FORGET = 0  # UART_LINE: characters told before whose time is t or later did not happen
BROKEN = 1  # UART_LINE: a break ended at t
UART_BREAK = 0x25  # guest: uart u8, t_us u64, bit times u8

_MESSAGE = 4096  # characters at most: the guest's buffer holds two
_PARITY = {0: "even", 1: "odd", 255: "none"}


class UartNode:
    """One UART of the guest with the board's transceiver. A reset of the chip must be told by `reset`."""

    def __init__(
        self, bus: Bus, link: Link, uart: int, de_pin: int | None, echo: bool, enable: tuple[int, ...]
    ) -> None:
        self.bus = bus
        self.link = link
        self.uart = uart
        self.de_pin = de_pin
        self.pins = dict.fromkeys(enable, 0)
        self.tap = Tap(f"uart{uart}", bus.fmt, auto=de_pin is None, echo=echo, enabled=not enable)
        self._plugged = True
        self._told: list[Received] = []
        link.on(UART_CONFIG, self.on_config)
        link.on(UART_TX, self.on_tx)
        link.on(UART_BREAK, self.on_break)
        link.on(GPIO_OUT, self.on_gpio)

    # From the guest

    def on_config(self, payload: bytes) -> None:
        uart, baud, bits, parity, stop = struct.unpack_from("<BIBBB", payload)
        if self._plugged and uart == self.uart:
            self.tap.fmt = Format(baud, _PARITY[parity], stop, bits)  # type: ignore[arg-type]
            self.bus.configured(self.tap.fmt)

    def on_tx(self, payload: bytes) -> None:
        uart, t_us = struct.unpack_from("<BQ", payload)
        if self._plugged and uart == self.uart:
            self.bus.transmit(self, t_us * 1000, payload[9:])

    def on_break(self, payload: bytes) -> None:
        uart, t_us, bit_times = struct.unpack_from("<BQB", payload)
        if self._plugged and uart == self.uart:
            self.bus.transmit(self, t_us * 1000, b"", bit_times)

    def on_gpio(self, payload: bytes) -> None:
        """A pin of the chip changed: also to be called by whoever takes the link's GPIO_OUT messages over."""
        pin, level, t_us = struct.unpack_from("<BBQ", payload)
        if not self._plugged:
            return
        if pin in self.pins:
            self.pins[pin] = level
            self.tap.enabled = all(self.pins.values())
            if not self.tap.enabled:
                self.bus.drive(self, t_us * 1000, False)
        if pin == self.de_pin and self.tap.enabled:
            self.bus.drive(self, t_us * 1000, bool(level))

    def reset(self) -> None:
        """The chip was reset: its pins float, and the pull-downs switch driver and transceiver off."""
        now = self.bus.clock.now()
        self.bus.line.cut(self.tap, now)
        self.bus.drive(self, now, False)
        self.bus.changed(now)
        self.pins = dict.fromkeys(self.pins, 0)
        self.tap.enabled = not self.pins
        self._told.clear()

    # To the guest

    def heard(self, since: int, characters: list[Received]) -> None:
        old = [c for c in self._told if c.t > since]
        same = 0
        while same < min(len(old), len(characters)) and _alike(old[same], characters[same]):
            same += 1
        if same < len(old):
            self.link.send(UART_LINE, struct.pack("<BBQ", self.uart, FORGET, old[same].t // 1000))
        self._tell(characters[same:])
        self._told = [c for c in self._told if c.t <= since][-1000:] + characters

    def _tell(self, characters: list[Received]) -> None:
        """Send evenly spaced characters together."""
        char = self.tap.fmt.char_ns
        first = 0
        for i, c in enumerate(characters):
            last = i + 1 == len(characters)
            full = i + 1 - first == _MESSAGE
            if last or full or abs(characters[i + 1].t - c.t - char) > 2 or c.error & BREAK:
                group = characters[first : i + 1]
                head = struct.pack("<BQI", self.uart, -(-group[0].t // 1000), char)
                self.link.send(UART_RX, head + bytes(g.value for g in group))
                first = i + 1
            if c.error & BREAK:
                self.link.send(UART_LINE, struct.pack("<BBQ", self.uart, BROKEN, -(-c.t // 1000)))

    def due(self, now: int) -> int | None:
        return None

    def close(self) -> None:
        """What the link still brings from a guest that was unplugged goes nowhere."""
        self._plugged = False


def _alike(a: Received, b: Received) -> bool:
    """The same character: found bit by bit its time may differ by the rounding of an edge."""
    return a.value == b.value and abs(a.t - b.t) <= 2000
