"""First file of a guest on CPython: the firmware's sources over the same overlay, for debugging and coverage."""

import os
import selectors
import sys

import _chip

_chip.attach(int(_chip.getenv("KOBLER_LINK")))

import _program  # noqa: E402
import _shims  # noqa: E402

_FIRMWARE = _chip.getenv("KOBLER_FIRMWARE")


class ChipSelector(selectors.DefaultSelector):
    """asyncio in the chip's time: streams are looked at once a tick, or when a soft interrupt has run."""

    def select(self, timeout=None):
        end = None if timeout is None else _chip.now() + int(timeout * 1000000)
        _chip.poll()
        while True:
            ready = super().select(0)
            now = _chip.now()
            if ready or (end is not None and now >= end):
                return ready
            if _chip.wait((now // _chip.tick_us + 1) * _chip.tick_us):
                return super().select(0)


selectors.DefaultSelector = ChipSelector
_shims.install()
sys.path.append(_FIRMWARE)
_program.run(_FIRMWARE + "/")
os._exit(0)
