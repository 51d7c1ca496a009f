"""The place of a production line where the boards are plugged in, one after the other, and the keyboard beside it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .. import flash
from ..build import Build
from ..errors import KoblerError
from ..serial_ports import ports
from .console import Console, Locked
from .steps import Progress
from .unit import Unit

_POLL_SECONDS = 0.5


class BenchError(KoblerError):
    """No board comes any more."""


class Keyboard:
    """Lines that are typed, or come from a scanner that behaves like a keyboard."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.over = False
        threading.Thread(target=self._read, name="keyboard", daemon=True).start()

    def _read(self) -> None:
        # Past sys.stdin, whose lock a thread that waits here would still hold when the program ends.
        rest = b""
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(sys.stdin.fileno(), 1024):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._lines.put(line.decode("utf-8", "replace").strip())
        if rest:
            self._lines.put(rest.decode("utf-8", "replace").strip())
        self._lines.put(None)

    def line(self, seconds: float | None) -> str | None:
        """The next line; None if there is none in time, or none any more (`over`)."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.over:
            try:
                # Never for ever in one piece: on Windows nothing interrupts that.
                line = self._lines.get(timeout=_POLL_SECONDS if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                if until is None:
                    continue
                return None
            self.over = line is None
            return line
        return None


class Bench:
    """One port. `patience`: seconds to wait for a board, None for as long as it takes."""

    def __init__(self, port: str, build: Build | None, patience: float | None, say: Progress) -> None:
        self._port, self._build, self._patience, self._say = port, build, patience, say
        self._console: Console | None = None
        self._unit: Unit | None = None

    def unit(self, fresh: Callable[[str], bool]) -> Unit:
        """Wait for a board and ask who it is. With a build it is flashed before, unless it is one that is not fresh:
        a key that waits for its certificate must not be lost.
        """
        self._wait()
        if self._build is not None and not self._is_known(fresh):
            self._say(f"flashing the board at {self._port}")
            flash.flash(self._build, self._port)
        return self._open()

    def release(self) -> None:
        """Restart the unit and let go of the port."""
        if self._unit is not None:
            self._unit.restart()
        if self._console is not None:
            self._console.close()
        self._unit = self._console = None

    def change(self, keyboard: Keyboard) -> None:
        """Wait until the board was changed: its port went away, or Enter was pressed."""
        self._say("take the next board, then press Enter if it does not begin by itself")
        until = None if self._patience is None else time.monotonic() + self._patience
        while _is_there(self._port):
            if keyboard.line(_POLL_SECONDS) is not None:
                return
            if keyboard.over:
                if "://" in self._port:
                    raise BenchError(f"nobody says when the next board is at {self._port}: press Enter, or use a port")
                time.sleep(_POLL_SECONDS)
            if until is not None and time.monotonic() > until:
                raise BenchError(f"the board at {self._port} was not changed in {self._patience:.0f} s")

    def _is_known(self, fresh: Callable[[str], bool]) -> bool:
        try:
            return not fresh(self._open().id)
        except Locked:
            raise  # it was provisioned
        except KoblerError:
            return False  # empty, or something else than Kobler
        finally:
            self.release()

    def _open(self) -> Unit:
        self._console = Console(self._port)
        try:
            self._console.__enter__()
            self._unit = Unit(self._console)
        except BaseException:
            self.release()
            raise
        return self._unit

    def _wait(self) -> None:
        until = None if self._patience is None else time.monotonic() + self._patience
        if not _is_there(self._port):
            self._say(f"waiting for a board at {self._port}")
        while not _is_there(self._port):
            if until is not None and time.monotonic() > until:
                raise BenchError(f"no board came to {self._port} in {self._patience:.0f} s")
            time.sleep(_POLL_SECONDS)


def _is_there(port: str) -> bool:
    return "://" in port or Path(port).exists() or port in ports()
