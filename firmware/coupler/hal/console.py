# The chip's console and the board's button, for who reads them in the REPL's place (trust/lock.py).
import select
import sys

import machine

from coupler.const import const

_MOST = const(256)  # bytes at once: what the chip keeps


class Console:
    """pin: of a button that pulls it low, or None."""

    def __init__(self, pin):
        stdin = sys.stdin.buffer
        self._stdin = getattr(stdin, "raw", stdin)  # CPython's would take more than it is asked for
        self._poll = select.poll()
        self._poll.register(self._stdin, select.POLLIN)
        self._pin = None if pin is None else machine.Pin(pin, machine.Pin.IN)

    def read(self):
        """What was typed since; does not wait."""
        typed = b""
        while len(typed) < _MOST and self._poll.poll(0):
            byte = self._stdin.read(1)
            if not byte:
                break
            typed += byte
        return typed

    def pressed(self):
        """Whether somebody holds the button."""
        return self._pin is not None and not self._pin.value()
