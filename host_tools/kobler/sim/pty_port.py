"""The far end of the simulated bus as a pseudo-terminal, for any program that speaks Modbus RTU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import termios
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from kobler.errors import KoblerError

from .rs485_format import Format, Received
from .rs485_line import Tap

if TYPE_CHECKING:
    from .rs485 import Bus

# A byte is handed over this long after its stop bit: a driver's release just before has been reported by then.
_SLACK_NS = 500_000
# Bytes are handed over in steps of this, not one by one.
_STEP_NS = 1_000_000
_LOOK_S = 0.02


class PtyNode:
    """A foreign program's serial adapter: it drives while it sends and does not hear itself.

    What the program writes goes onto the wires at the baud rate, beginning when it arrives here.
    """

    def __init__(self, bus: Bus, path: Path, fmt: Format | None) -> None:
        self.bus = bus
        self.path = path
        self.tap = Tap("pty", fmt or bus.guest_fmt, follows=fmt is None)
        self.dropped = 0  # bytes the program did not read in time
        self._input: list[Received] = []
        self._given = 0  # what ended up to then has been handed over
        self._next = 0
        self._free = 0
        self._master, slave = pty.openpty()
        self._name = os.ttyname(slave)
        try:
            os.set_blocking(self._master, False)
            self._link()
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLHUP)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._await_program()

    @property
    def is_open(self) -> bool:
        """Whether a program holds the terminal open."""
        return not self._poll.poll(0)

    def _await_program(self) -> None:
        """A terminal that nobody has open cannot be waited for: look for a program now and then."""
        if self.is_open:
            self._timer = None
            self._loop.add_reader(self._master, self._readable)
        else:
            self._fresh_settings()
            self._timer = self._loop.call_later(_LOOK_S, self._await_program)

    def _fresh_settings(self) -> None:
        """Raw, at a rate that no program wants.

        A pseudo-terminal cannot have parity, and glibc reports that as an error unless the same call changed
        something else: so the first call of each program must find its rate not yet set. One that sets parity twice
        (pyserial does) has to be told "none"; it is the guest's format that holds on the wires either way.
        """
        settings = termios.tcgetattr(self._master)
        if settings[4] == termios.B134:
            return
        tty.setraw(self._master, termios.TCSANOW)
        settings = termios.tcgetattr(self._master)
        settings[4] = settings[5] = termios.B134
        termios.tcsetattr(self._master, termios.TCSANOW, settings)

    def _link(self) -> None:
        """Make `path` point at the terminal; a symlink left by a run that was killed is replaced.

        Such a one leads nowhere, or to this very terminal, which got the number again.
        """
        if self.path.is_symlink() and (not self.path.exists() or str(self.path.readlink()) == self._name):
            self.path.unlink(missing_ok=True)
        try:
            self.path.symlink_to(self._name)
        except FileExistsError:
            raise KoblerError(
                f"cannot offer the RS-485 bus at {self.path}: something is there already;"
                " remove it or choose another path"
            ) from None
        except OSError as e:
            raise KoblerError(
                f"cannot offer the RS-485 bus at {self.path}: {e.strerror}; choose a path that can be written"
            ) from None

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._master)
            self._await_program()
            return
        now = self.bus.clock.now()
        self._free = self.bus.transmit(self, max(now, self._free), data).end

    def heard(self, since: int, characters: list[Received]) -> None:
        after = max(since, self._given)
        self._input = [c for c in self._input if c.t <= since] + [c for c in characters if c.t > after]

    def due(self, now: int) -> int | None:
        if not self._input:
            return None
        first = self._input[0].t + _SLACK_NS
        if now < max(first, self._next):
            return max(first, self._next)
        ready = [c for c in self._input if c.t + _SLACK_NS <= now]
        del self._input[: len(ready)]
        self._given = ready[-1].t
        self._next = now + _STEP_NS
        written = 0
        if self.is_open:  # a serial port that nobody has open keeps nothing for later
            with contextlib.suppress(BlockingIOError):  # nobody reads it: its buffer overflows
                written = os.write(self._master, bytes(c.value for c in ready))
        self.dropped += len(ready) - written
        return max(self._input[0].t + _SLACK_NS, self._next) if self._input else None

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        if self._timer is not None:
            self._timer.cancel()
        if self.path.is_symlink() and str(self.path.readlink()) == self._name:
            self.path.unlink()
        os.close(self._master)
