"""The dev kit's auto-reset circuit: two transistors between DTR, RTS and the chip's EN and GPIO0.

RTS alone pulls EN low, DTR alone pulls GPIO0 low, both together or neither pull nothing. That is why a
program that asserts both when it opens the port does not reset the chip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# EN rises slowly, by the capacitor on it, and the chip reads GPIO0 when EN is high. Host tools count on it:
# on their way from "EN low" to "GPIO0 low" they pass "both asserted". An RFC 2217 client takes 50 ms and more
# for a step, so over the network this capacitor has to be larger than the real one.
RISE_S = 0.005
SLOW_RISE_S = 0.5


class AutoReset:
    """`hold` when EN goes low; `release(download)` when it is high again: was GPIO0 low at that moment?"""

    def __init__(self, hold: Callable[[], None], release: Callable[[bool], None]) -> None:
        self._hold = hold
        self._release = release
        self._timer: asyncio.TimerHandle | None = None
        self.held = False
        self.gpio0_low = False

    def lines(self, dtr: bool, rts: bool) -> None:
        self.gpio0_low = dtr and not rts
        if rts and not dtr:
            self._cancel()
            if not self.held:
                self.held = True
                self._hold()
        elif self.held:
            self._cancel()
            delay = SLOW_RISE_S if dtr and rts else RISE_S
            self._timer = asyncio.get_running_loop().call_later(delay, self._risen)

    def off(self) -> None:
        """No power: nothing is held and nothing pending."""
        self._cancel()
        self.held = False

    def _risen(self) -> None:
        self.held = False
        self._timer = None
        self._release(self.gpio0_low)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
