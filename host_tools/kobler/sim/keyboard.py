"""Ctrl-C on its way to the guest.

The unix port raises KeyboardInterrupt out of its signal handler, wherever the interpreter is: inside littlefs, inside
the garbage collector. So a Ctrl-C goes over the link, and the guest raises it where it next looks at the world. Only a
program that does not look, such as `while True: pass`, gets the signal, and not while it works on the flash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_CTRL_C = b"\x03"
_PATIENCE = 0.25  # s for a program to look; long arithmetic on the chip has its pauses too
_FLASH_QUIET = 0.02  # s since the last flash operation
_AT_LAST = 2.0  # s: a program that writes to flash all the time is interrupted there


class Keyboard:
    """Sorts what the host types into bytes for the terminal and interrupts. Until the guest says which, it waits."""

    def __init__(
        self, write: Callable[[bytes], None], interrupt: Callable[[], None], signal: Callable[[], None]
    ) -> None:
        self._write = write
        self._interrupt = interrupt
        self._signal = signal
        self._early = bytearray()
        self._running: bool | None = None  # a program runs: Ctrl-C is an interrupt, not a byte
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0.0
        self._flash = 0.0

    def typed(self, data: bytes) -> None:
        if self._running is None:
            self._early += data
        elif self._running and _CTRL_C in data:
            self._write(data.replace(_CTRL_C, b""))
            if self._timer is None:
                self._asked = self._now()
                self._interrupt()
                self._again(_PATIENCE)
        else:
            self._write(data)

    def mode(self, running: bool) -> None:
        """The guest says whether a Ctrl-C is an interrupt from now on."""
        self._running = running
        if not running:
            self.taken()
        if self._early:
            data, self._early = bytes(self._early), bytearray()
            self.typed(data)

    def hold(self) -> None:
        """The interpreter ends for a soft reset: what is typed from now on is for the next one."""
        self._running = None
        self.taken()

    def held(self) -> bytes:
        return bytes(self._early)

    def flash_used(self) -> None:
        self._flash = self._now()

    def taken(self) -> None:
        """The guest has taken the interrupt, or needs none any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._overdue)

    def _overdue(self) -> None:
        now = self._now()
        if now - self._flash < _FLASH_QUIET and now - self._asked < _AT_LAST:
            self._again(_FLASH_QUIET)
            return
        self._timer = None
        self._signal()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
