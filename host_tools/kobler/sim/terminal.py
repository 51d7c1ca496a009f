"""The guest's serial line: a pseudo-terminal, made for one interpreter and closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pty
import termios
from collections.abc import Callable

_INPUT, _OUTPUT, _CONTROL, _LOCAL, _KEYS = 0, 1, 2, 3, 6
_MOST_WAITING = 1 << 16  # bytes for a program that does not read; more are lost, the chip loses them far earlier


class Terminal:
    """Bytes both ways. The terminal itself acts on none: the guest switches only how a line feed goes out."""

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._master, self.slave = pty.openpty()
        attributes = termios.tcgetattr(self.slave)
        attributes[_INPUT] = 0
        attributes[_OUTPUT] = termios.OPOST | termios.ONLCR
        attributes[_CONTROL] = termios.CS8 | termios.CREAD | termios.CLOCAL
        attributes[_LOCAL] = 0  # no echo, no lines, no signals
        attributes[_KEYS][termios.VMIN] = 1
        attributes[_KEYS][termios.VTIME] = 0
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        os.set_blocking(self._master, False)
        self._waiting = bytearray()
        self._loop.add_reader(self._master, self._readable)

    def started(self) -> None:
        """The guest has its end: give up ours, so that its end is seen and a lost board hangs it up."""
        os.close(self.slave)
        self.slave = -1

    def write(self, data: bytes) -> None:
        """Bytes from the host; what the terminal cannot take yet is kept."""
        self._waiting += data
        del self._waiting[_MOST_WAITING:]
        self._flush()

    def _flush(self) -> None:
        if self._master < 0:
            return
        try:
            while self._waiting:
                del self._waiting[: os.write(self._master, self._waiting)]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)
            return
        except OSError:
            self._waiting.clear()  # the guest has ended
        self._loop.remove_writer(self._master)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._output(data)
        else:
            self._loop.remove_reader(self._master)

    def close(self) -> None:
        """Hand on what the guest still said, then close."""
        if self._master < 0:
            return
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 1 << 16):
                self._output(data)
        os.close(self._master)
        self._master = -1
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
