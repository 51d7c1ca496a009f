# What the hal takes from MicroPython's ESP32 modules: machine and esp32. The virtual board has them on CPython too.

import asyncio

import esp32
import machine

from coupler.const import const
from coupler.hal.base import Base

_RELAXED_MS = const(600000)
_BLINKS = const(20)
_BLINK_MS = const(250)
_UART_BUFFER = const(520)  # twice the longest frame, and more than the FIFO
_CAUSES = {1: "power", 2: "reset", 3: "watchdog", 4: "deepsleep", 5: "soft"}
_JOURNAL = "journal"  # the partition's label
_GREEN = (0, 24, 0)
_DARK = (0, 0, 0)


class Watchdog:
    """Resets the chip when it is not fed for `ms`; it cannot be stopped."""

    def __init__(self, ms):
        self._wdt = machine.WDT(timeout=ms)

    def feed(self):
        self._wdt.feed()

    def relax(self):
        """Ten minutes from now on: someone is at the REPL. Constructing again re-times the one there is."""
        self._wdt = machine.WDT(timeout=_RELAXED_MS)


class Flash:
    """A partition as raw NOR flash of `sectors` sectors, 4096 bytes each. Addresses count bytes from its start."""

    def __init__(self, partition):
        self._partition = partition
        self.sectors = partition.ioctl(4, 0)

    # Blocks and offsets are added up, so that block 0 and any offset is any address.

    def read(self, at, buf):
        self._partition.readblocks(0, buf, at)

    def program(self, at, buf):
        """Clears bits and never sets one; any address and length."""
        self._partition.writeblocks(0, buf, at)  # with two arguments it would erase first

    def erase(self, sector):
        self._partition.ioctl(6, sector)


class Chip(Base):
    """The part of the hal that any runtime with these modules shares; Hal adds ticks, files and flags."""

    def __init__(self):
        super().__init__()
        self._nvs = esp32.NVS("kobler")
        self._timers = 0  # number 0 belongs to the UARTs' receive-idle interrupt
        self._light = None
        self._blinking = None
        self._interface = None

    def unique_id(self):
        return machine.unique_id()

    def get_number(self, name):
        """A whole number kept in NVS, None if there is none. Names have at most 15 characters."""
        blob = bytearray(8)
        try:
            self._nvs.get_blob(name, blob)
        except OSError:
            return None
        return int.from_bytes(blob, "little")

    def put_number(self, name, value):
        self._nvs.set_blob(name, value.to_bytes(8, "little"))
        self._nvs.commit()

    def flash(self):
        """The raw flash for the journal and what lies beside it (store/layout.py), None where there is none."""
        found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=_JOURNAL)
        return Flash(found[0]) if found else None

    def uart(self, wiring, baud, parity, stop):
        """The port of an RS-485 transceiver; wiring: board.json's rs485, parity: even, odd or none."""
        from coupler.hal.port import PARITIES, Port

        for pin in wiring.get("enable") or ():
            machine.Pin(pin, machine.Pin.OUT, value=1)
        de = wiring.get("de")
        if de is not None:
            de = machine.Pin(de, machine.Pin.OUT, value=0)
        uart = machine.UART(
            wiring["uart"],
            baud,
            bits=8,
            parity=PARITIES[parity],
            stop=stop,
            tx=machine.Pin(wiring["tx"]),
            rx=machine.Pin(wiring["rx"]),
            rxbuf=_UART_BUFFER,
            txbuf=_UART_BUFFER,
            timeout=0,
        )
        return Port(self, uart, de, self.alarm(), (baud, parity, stop), wiring.get("echo"))

    def alarm(self):
        # Exact where a hardware timer is left.
        from coupler.hal.port import Alarm

        self._timers += 1
        try:
            timer = machine.Timer(self._timers)
        except (AttributeError, ValueError):
            timer = None
        return Alarm(self, timer)

    def watchdog(self, ms):
        return Watchdog(ms)

    def led(self, on):
        """The board's indicator, if it has one."""
        if self._light is None:
            self._light = self._make_light()
        self._light(on)

    def _make_light(self):
        number = self.board.get("led")
        if number is None:
            return lambda on: None
        pin = machine.Pin(number, machine.Pin.OUT)
        if self.board.get("led_kind") != "ws2812":
            return pin.value
        from neopixel import NeoPixel

        pixel = NeoPixel(pin, 1)

        def light(on):
            pixel[0] = _GREEN if on else _DARK
            pixel.write()

        return light

    def console(self):
        """What is typed at the serial port, and the board's button."""
        from coupler.hal.console import Console

        return Console(self.board.get("button"))

    def identify(self):
        """Blink for some seconds, in the background."""
        if self._blinking is None or self._blinking.done():
            self._blinking = asyncio.create_task(self._blink())

    async def _blink(self):
        for i in range(_BLINKS):
            self.led(not i & 1)
            await self.sleep_ms(_BLINK_MS)
        self.led(False)

    def reset(self):
        machine.reset()

    def reset_cause(self):
        return _CAUSES.get(machine.reset_cause(), "unknown")

    def _set_clock(self, calendar, ms):
        year, month, day, hour, minute, second, weekday = calendar[:7]
        machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 1000 * ms))
        return True

    async def network_up(self, net, board):
        """Bring the configured interface up: True when it has an address, False if it got none in time; ask again.

        With fallbacks: whichever is to be used at this moment, so ask also while it is up."""
        if self._interface is None:
            if net.get("fallback"):
                from coupler.hal.interfaces import Interfaces as Interface
            else:
                from coupler.hal.interface import Interface
            self._interface = Interface(net, board)
        return await self._interface.up(self)

    def network_info(self):
        """{"kind", "ip", "mask", "gateway", "dns": [...], "mac"}, of the interface in use, with "ip6" if it has an
        address that is not for neighbours only; None before network_up()."""
        return self._interface.info() if self._interface else None
