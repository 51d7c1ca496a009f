"""The virtual board: power, reset lines, boot ROM, USB port, flash, and the firmware's interpreter."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal

from kobler.sim import bootloader, identity
from kobler.sim.autoreset import AutoReset
from kobler.sim.flash import Flash, PowerCut
from kobler.sim.guest import Cause, GuestOptions
from kobler.sim.interpreter import micropython
from kobler.sim.partitions import Partition
from kobler.sim.processor import Processor
from kobler.sim.rom import Loader
from kobler.sim.rom_chips import chip_named
from kobler.sim.rs485 import Bus
from kobler.sim.steps import Steps
from kobler.sim.usb import UsbPort

log = logging.getLogger(__name__)

CONSOLE_BAUD = 115200
# Receivers sample in the middle of a bit; further apart than this the last bits of a byte are read wrongly.
_BAUD_TOLERANCE = 0.04
# The chip tries to boot an unusable flash for ever; this often.
_RETRY_S = 0.5
# esptool sets some 15 ms; over the network, from a busy computer, its last words may take longer than that.
_WATCHDOG_S = 0.1

# What the ROM prints for a reset, and machine.reset_cause() after it.
_CAUSES = {
    Cause.POWER_ON: "power",
    Cause.HARD: "software",
    Cause.WATCHDOG: "software",
    Cause.DEEP_SLEEP: "deep-sleep",
}


@dataclass(frozen=True)
class Rs485:
    """The board's transceiver on `bus`; `de_pin` None for one that finds its direction by itself."""

    bus: Bus
    uart: int = 1
    de_pin: int | None = None
    echo: bool = False
    enable: tuple[int, ...] = ()


class State(Enum):
    OFF = "off"
    HELD = "held in reset"
    DOWNLOAD = "download"
    STUCK = "nothing to boot"
    RUNNING = "running"
    ASLEEP = "deep sleep"


class Board:
    """A dev kit with `chip`. `heap`: bytes free for the program, None for plenty; `usb_port` 0: any free one.

    `chip_time`: the chip's 10 ms ticks. Nothing runs before `start`; `stop` leaves neither process nor lock.
    """

    def __init__(
        self,
        flash_path: Path,
        chip: str = "esp32",
        flash_size: int = 4 << 20,
        mac: bytes | None = None,
        *,
        rs485: Rs485 | None = None,
        heap: int | None = None,
        runtime: Literal["micropython", "cpython"] = "micropython",
        chip_time: bool = True,
        usb_port: int = 0,
    ) -> None:
        self.chip = chip_named(chip)
        self.flash = Flash(flash_path, flash_size)
        try:
            self.identity = identity.open_or_create(flash_path, chip, flash_size, mac)
            self.usb = UsbPort(self._from_host, self._lines, self._host_rate, usb_port)
        except BaseException:
            self.flash.close()
            raise
        self.mac = self.identity.mac_bytes
        self.state = State.OFF
        self.resets = 0
        options = GuestOptions(
            mac=self.mac,
            chip="esp32s3" if chip == "esp32s3" else "esp32",
            runtime=runtime,
            heap=heap,
            chip_time=chip_time,
        )
        self.processor = Processor(self, self.flash, options, rs485)
        self._options = options
        self._loader = Loader(self.chip, self.mac, self.flash, self)
        self._autoreset = AutoReset(self._hold, self._release)
        self._host_baud = self._chip_baud = CONSOLE_BAUD
        self._steps: Steps | None = None
        self._life = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usb_url(self) -> str:
        return self.usb.url

    # - power

    async def start(self) -> None:
        """Power the board for the first time. KoblerError when there is no interpreter for it."""
        if self._options.runtime == "micropython":
            micropython()
        self._steps = Steps()
        await self.power_on()

    async def stop(self) -> None:
        """Power off and let go of port and image."""
        if self._steps is not None:
            await self.power_off()
            await self._steps.close()
            self._steps = None
        self.processor.close()
        await self.usb.close()
        self.flash.close()

    async def power_on(self) -> None:
        steps = self._running_steps()
        await steps.wait_for(self._power_up)
        await steps.wait_for(_nothing)  # by then the interpreter has started

    async def power_off(self) -> None:
        await self._running_steps().wait_for(self._power_down)

    def cut_power_after(self, operations: int, within: int = 0) -> None:
        """Lose power before the flash operation that follows `operations` more, or `within` bytes into it."""
        self.flash.cut_after(operations, within)

    def network(self, interface: Literal["ethernet", "wifi"], there: bool) -> None:
        """Pull the network cable, or put it back; switch the Wi-Fi's access point off, or on."""
        self.processor.carrier({"wifi": 0, "ethernet": 3}[interface], there)

    async def _power_up(self) -> None:
        if self.state is State.OFF:
            self.flash.power(True)
            await self.usb.plug()
            self._reset(Cause.POWER_ON, download=False)

    async def _power_down(self) -> None:
        self._go(State.OFF)
        self.flash.power(False)
        self._autoreset.off()
        await self.processor.stop()
        await self.usb.unplug()

    def power_lost(self, cut: PowerCut | None = None) -> None:
        """The armed cut happened: dark at once, the rest as soon as the loop comes to it."""
        log.info("%s", cut or "power failed")
        self._go(State.OFF)
        self._running_steps().then(self._power_down)

    def _running_steps(self) -> Steps:
        if self._steps is None:
            raise RuntimeError("the virtual board was not started")
        return self._steps

    # - reset and boot

    def _hold(self) -> None:
        if self.state is not State.OFF:
            self._go(State.HELD)
            self._running_steps().then(self.processor.stop)

    def _release(self, download: bool) -> None:
        if self.state is State.HELD:
            self._reset(Cause.POWER_ON, download)

    def restart(self, cause: str) -> None:
        """The boot ROM's loader or its host asks for it; see `rom.Wire`."""
        if cause == "run":
            self._start_program(Cause.POWER_ON)
        elif cause == "rtc-watchdog":
            # It runs out later: the host still has to lock its registers, and wants that answered.
            self._later(_WATCHDOG_S, partial(self._watchdog_bites))
        else:
            self._reset(Cause.HARD, True, cause)

    def _watchdog_bites(self) -> None:
        self._reset(Cause.HARD, self._autoreset.gpio0_low, "rtc-watchdog")

    def chip_reset(self, cause: Cause, asleep_s: float = 0.0) -> None:
        """The processor resets itself, or its watchdog does, or it sleeps first."""
        if self.state is not State.RUNNING:
            return
        if asleep_s:
            self._go(State.ASLEEP)
            self._running_steps().then(self.processor.stop)
            self._later(asleep_s, partial(self._reset, cause, download=False))
        else:
            self._reset(cause, download=False)

    def crashed(self, status: int) -> None:
        """The interpreter ended though nobody asked it to: the chip's panic handler would restart it too."""
        if self.state is State.RUNNING:
            self._print(f"\r\nThe interpreter ended with status {status}. Rebooting...\r\n")
            self._go(State.STUCK)
            self._later(_RETRY_S, partial(self._reset, Cause.HARD, download=False))

    def _reset(self, cause: Cause, download: bool, printed: str = "") -> None:
        """The chip comes out of reset: the ROM says why, and where it goes."""
        self.resets += 1
        self._chip_baud = CONSOLE_BAUD
        mode = self.chip.download if download else self.chip.fast_boot
        self._print(f"{self.chip.banner}{self.chip.causes[printed or _CAUSES[cause]]},{mode}\r\n")
        if download:
            self._go(State.DOWNLOAD)
            self._loader.reset()
            self._print("waiting for download\r\n")
        else:
            self._start_program(cause)

    def _start_program(self, cause: Cause) -> None:
        self._chip_baud = CONSOLE_BAUD
        boot = bootloader.boot(self.flash, self.chip)
        self._print(boot.text)
        if boot.table is None:
            self._go(State.STUCK)
            self._later(_RETRY_S, partial(self._reset, Cause.HARD, download=False, printed="rtc-watchdog"))
        else:
            self._go(State.RUNNING)
            self._running_steps().then(partial(self._run, cause, boot.table, self._life))

    async def _run(self, cause: Cause, table: list[Partition], life: int) -> None:
        if life == self._life:
            await self.processor.start(cause, table)

    def _go(self, state: State) -> None:
        """Enter a state; whatever was still to happen in the former one no longer does."""
        self.state = state
        self._life += 1
        self.processor.mute()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, delay: float, fn: partial[None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, fn)

    # - the serial port

    def send(self, data: bytes) -> None:
        """From the chip's UART to the host."""
        if not self._same_rate():
            # A receiver at another rate finds start bits where there are none: noise, and no framing.
            data = bytes(byte & 0x55 | 0x82 for byte in data)
        self.usb.write(data)

    def set_baud(self, baud: int) -> None:
        self._chip_baud = baud

    def _print(self, text: str) -> None:
        self.send(text.encode())

    def _same_rate(self) -> bool:
        return abs(self._host_baud - self._chip_baud) <= _BAUD_TOLERANCE * self._chip_baud

    def _from_host(self, data: bytes) -> None:
        if self.state is State.DOWNLOAD:
            if not self._loader.synced:
                self._chip_baud = self._host_baud
                self._loader.set_baud(self._host_baud)
            if self._same_rate():
                try:
                    self._loader.feed(data)
                except PowerCut as cut:
                    self.power_lost(cut)
        elif self.state is State.RUNNING and self._same_rate():
            self.processor.write(data)

    def _lines(self, dtr: bool, rts: bool) -> None:
        if self.state is not State.OFF:
            self._autoreset.lines(dtr, rts)

    def _host_rate(self, baud: int) -> None:
        self._host_baud = baud


async def _nothing() -> None:
    pass
