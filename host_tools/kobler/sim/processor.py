"""The chip's processor on its board: the interpreter with watchdog, resets and RS-485 transceiver."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Protocol

from kobler.sim import link
from kobler.sim.flash import Flash
from kobler.sim.guest import Cause, Guest, GuestOptions
from kobler.sim.partitions import Partition

if TYPE_CHECKING:
    from kobler.sim.board import Rs485
    from kobler.sim.rs485_uart import UartNode

_WATCHDOG = (
    b"\r\nE task_wdt: Task watchdog got triggered. "
    b"The following tasks/users did not reset the watchdog in time:\r\n"
    b"E task_wdt:  - mp_task (CPU 1)\r\nE task_wdt: Aborting.\r\nRebooting...\r\n"
)


class Kit(Protocol):
    """What the processor needs of the board around it."""

    def send(self, data: bytes) -> None: ...
    def chip_reset(self, cause: Cause, asleep_s: float = 0.0) -> None: ...
    def crashed(self, status: int) -> None: ...
    def power_lost(self) -> None: ...


class Processor:
    def __init__(self, kit: Kit, flash: Flash, options: GuestOptions, rs485: Rs485 | None) -> None:
        self._kit = kit
        self._flash = flash
        self._options = options
        self._rs485 = rs485
        self._guest: Guest | None = None
        self._table: list[Partition] = []
        self._uart: UartNode | None = None
        self._unplugged: set[int] = set()
        self._heard = False
        self._watchdog: asyncio.TimerHandle | None = None
        self._watchdog_s = 0.0

    @property
    def pid(self) -> int | None:
        """The interpreter's process id, while there is one."""
        return self._guest.pid if self._guest else None

    async def start(self, cause: Cause, table: list[Partition]) -> None:
        """Out of reset: the interpreter starts with the partitions that are in flash now."""
        self._unwatch()
        if self._guest is None or table != self._table:
            await self._replace(table)
        assert self._guest is not None
        if self._uart is not None:
            self._uart.reset()
        await self._guest.stop()  # what it still says belongs before the reset
        self._heard = True
        await self._guest.start(cause)

    async def stop(self) -> None:
        """The reset line is low, or the power is gone."""
        self.mute()
        self._unwatch()
        if self._guest is not None:
            await self._guest.stop()
        if self._uart is not None:
            self._uart.reset()

    def close(self) -> None:
        self._unwire()

    def mute(self) -> None:
        """From now on nothing that the old program still says is heard."""
        self._heard = False

    def write(self, data: bytes) -> None:
        if self._guest is not None:
            self._guest.write(data)

    def set_pin(self, pin: int, level: int) -> None:
        """Something outside pulls a pin of the chip."""
        if self._guest is not None:
            self._guest.link.send(link.GPIO_IN, bytes((pin, level)))

    def carrier(self, interface: int, there: bool) -> None:
        """Pull a network interface's plug, or put it back; see link.CARRIER."""
        (self._unplugged.discard if there else self._unplugged.add)(interface)
        if self._guest is not None:
            self._guest.carrier(self._unplugged)

    async def _replace(self, table: list[Partition]) -> None:
        if self._guest is not None:
            await self._guest.stop()
        self._unwire()
        self._table = table
        guest = self._guest = Guest(self._flash, table, self._options)
        guest.carrier(self._unplugged)
        guest.on_output(self._said)
        guest.on_exit(self._kit.crashed)
        guest.on_power_cut(self._kit.power_lost)
        guest.link.on(link.RESET, self._reset)
        guest.link.on(link.WDT, self._feed)
        if self._rs485 is not None:
            at = self._rs485
            self._uart = at.bus.attach_uart(guest.link, at.uart, at.de_pin, echo=at.echo, enable=at.enable)

    def _unwire(self) -> None:
        if self._rs485 is not None and self._uart is not None:
            self._rs485.bus.remove(self._uart)
        self._uart = None

    def _said(self, data: bytes) -> None:
        if self._heard:
            self._kit.send(data)

    def _reset(self, payload: bytes) -> None:
        ms = struct.unpack_from("<I", payload, 1)[0] if len(payload) >= 5 else 0
        self._kit.chip_reset(Cause(payload[0]), ms / 1000)

    # - the task watchdog: once started it cannot be stopped, a soft reset does not stop it either

    def _feed(self, payload: bytes) -> None:
        (ms,) = struct.unpack("<I", payload)
        if ms:
            self._watchdog_s = ms / 1000
        if self._watchdog_s:
            self._cancel()
            self._watchdog = asyncio.get_running_loop().call_later(self._watchdog_s, self._bark)

    def _bark(self) -> None:
        self._watchdog = None
        if self._heard:
            self._kit.send(_WATCHDOG)
        self._kit.chip_reset(Cause.WATCHDOG)

    def _unwatch(self) -> None:
        self._cancel()
        self._watchdog_s = 0.0

    def _cancel(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
