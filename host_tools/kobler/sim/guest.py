"""The chip's processor: the real MicroPython (or CPython) in a process of its own, with the board's flash."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal, Protocol

from kobler.resources import firmware_dir

from . import link as messages
from .flash import FlashError, PowerCut
from .interpreter import micropython
from .keyboard import Keyboard
from .link import Link
from .terminal import Terminal

_OVERLAY = Path(__file__).parent / "overlay"
_EINVAL = 22
# What the overlay takes of the interpreter's heap, so that a limited heap is the program's alone.
OVERLAY_HEAP = 122_000
GENEROUS_HEAP = 8_000_000


class Cause(IntEnum):
    """machine.reset_cause()"""

    POWER_ON = 1
    HARD = 2
    WATCHDOG = 3
    DEEP_SLEEP = 4
    SOFT = 5


class FlashMemory(Protocol):
    """What the guest needs of the board's flash."""

    path: Path

    def read(self, offset: int, length: int) -> bytes: ...
    def program(self, offset: int, data: bytes) -> None: ...
    def erase(self, offset: int, length: int) -> None: ...


class Row(Protocol):
    """A row of the partition table."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> int: ...
    @property
    def subtype(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class GuestOptions:
    """heap: bytes free for the program, None for plenty. chip_time: 10 ms ticks as on the chip.

    firmware: the sources that the runtime `cpython` runs, None for Kobler's; MicroPython runs what is in the flash.
    """

    mac: bytes = bytes.fromhex("02000000c0b1")
    chip: Literal["esp32", "esp32s3"] = "esp32"
    runtime: Literal["micropython", "cpython"] = "micropython"
    heap: int | None = None
    chip_time: bool = True
    firmware: Path | None = None


class Guest:
    """One interpreter after another on the same flash: a soft reset starts it afresh by itself.

    `link` keeps its handlers over all of them. Callbacks: on_output(data), on_exit(status) when the interpreter
    ended though nobody asked it to, on_soft_reset() between two, on_power_cut() when the flash lost its supply.
    """

    def __init__(self, flash: FlashMemory, partitions: Sequence[Row], options: GuestOptions) -> None:
        self.link = Link()
        self._flash = flash
        self._partitions = partitions
        self._options = options
        self._kept = b""
        self._unplugged: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._terminal: Terminal | None = None
        self._watch: asyncio.Task[None] | None = None
        self._keyboard: Keyboard | None = None
        self._restart: bool | None = None  # a soft reset was asked for; true: into the raw REPL
        self._outputs: list[Callable[[bytes], None]] = []
        self._exits: list[Callable[[int], None]] = []
        self._soft_resets: list[Callable[[], None]] = []
        self._power_cuts: list[Callable[[], None]] = []
        self.link.on(messages.FLASH_PROGRAM, self._program)
        self.link.on(messages.FLASH_ERASE, self._erase)
        self.link.on(messages.INTERRUPT, self._interrupt_taken)
        self.link.on(messages.CTRL_C, self._ctrl_c)
        self.link.on(messages.RESTART, self._restarts)
        self.link.on(messages.KEEP, self._keep)

    def on_output(self, cb: Callable[[bytes], None]) -> None:
        self._outputs.append(cb)

    def on_exit(self, cb: Callable[[int], None]) -> None:
        self._exits.append(cb)

    def on_soft_reset(self, cb: Callable[[], None]) -> None:
        self._soft_resets.append(cb)

    def on_power_cut(self, cb: Callable[[], None]) -> None:
        self._power_cuts.append(cb)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the interpreter that runs now."""
        return self._process.pid if self._process else None

    async def start(self, cause: int = Cause.POWER_ON) -> None:
        """Start the interpreter; a guest that still runs is stopped first."""
        await self.stop()
        if cause == Cause.POWER_ON:
            self._kept = b""
        await self._spawn(cause, raw=False)

    async def stop(self) -> None:
        """End the interpreter at once, as a reset line does; it writes nothing any more."""
        watch, self._watch = self._watch, None
        if watch is not None and watch is not asyncio.current_task():
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        await self._end()
        self._keyboard = None

    def carrier(self, unplugged: set[int]) -> None:
        """Which network interfaces have no network from now on; see messages.CARRIER."""
        for number in self._unplugged ^ unplugged:
            self.link.send(messages.CARRIER, bytes((number, number not in unplugged)))
        self._unplugged = set(unplugged)

    def write(self, data: bytes) -> None:
        """Bytes from the host's end of the serial line; lost while the board has no power, as there."""
        if self._keyboard is not None:
            self._keyboard.typed(data)

    async def _spawn(self, cause: int, raw: bool) -> None:
        command, environment = self._command(cause, raw)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        environment["KOBLER_LINK"] = str(theirs.fileno())
        terminal = Terminal(self._said)
        early = self._keyboard.held() if self._keyboard else b""
        self._keyboard = Keyboard(terminal.write, self._interrupt, self._signal)
        self._keyboard.typed(early)
        self._restart = None
        try:
            self.link.attach(ours)
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=terminal.slave,
                stdout=terminal.slave,
                stderr=terminal.slave,
                env=environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
        except BaseException:
            self.link.detach()
            terminal.close()
            raise
        finally:
            theirs.close()
        terminal.started()
        self._terminal = terminal
        self._watch = asyncio.create_task(self._wait(self._process))

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        self.link.drain()
        restart = self._restart
        if restart is None:
            self._watch = None
        await self._end()
        if restart is None:
            for exited in self._exits:
                exited(status)
            return
        for soft_reset in self._soft_resets:
            soft_reset()
        await self._spawn(Cause.SOFT, raw=restart)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._keyboard is not None:
            self._keyboard.taken()
        self.link.detach()
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.close()

    def _command(self, cause: int, raw: bool) -> tuple[list[str], dict[str, str]]:
        options = self._options
        inherited = ("HOME", "PATH", "LD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in inherited if name in os.environ}
        environment |= {
            "TZ": "UTC",
            "KOBLER_FLASH": str(self._flash.path.resolve()),
            "KOBLER_PARTITIONS": ";".join(
                f"{row.name},{row.type},{row.subtype},{row.offset},{row.size}" for row in self._partitions
            ),
            "KOBLER_MAC": options.mac.hex(),
            "KOBLER_CHIP": options.chip,
            "KOBLER_CAUSE": str(int(cause)),
            "KOBLER_RAW": "1" if raw else "0",
            "KOBLER_KEEP": self._kept.hex(),
            "KOBLER_CHIP_TIME": "1" if options.chip_time else "0",
            "KOBLER_DNS": ",".join(_name_servers()),
            "KOBLER_UNPLUGGED": " ".join(map(str, self._unplugged)),
        }
        if options.runtime == "cpython":
            environment |= {
                "KOBLER_FIRMWARE": str(options.firmware or firmware_dir()),
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            for name in ("COVERAGE_PROCESS_START", "PYTHONPATH"):
                if name in os.environ:
                    environment[name] = os.environ[name]
            return [sys.executable, str(_OVERLAY / "_boot_cpython.py")], environment
        environment["MICROPYPATH"] = ".frozen"  # the script's folder, the overlay, comes first by itself
        heap = (options.heap + OVERLAY_HEAP) * 81 // 80 if options.heap is not None else GENEROUS_HEAP
        return [str(micropython()), "-X", f"heapsize={heap}", str(_OVERLAY / "_boot.py")], environment

    def _said(self, data: bytes) -> None:
        for cb in self._outputs:
            cb(data)

    def _program(self, payload: bytes) -> bytes | None:
        (offset,) = struct.unpack_from("<I", payload)
        return self._change(lambda: self._flash.program(offset, payload[4:]))

    def _erase(self, payload: bytes) -> bytes | None:
        offset, length = struct.unpack("<II", payload)
        return self._change(lambda: self._flash.erase(offset, length))

    def _change(self, operation: Callable[[], None]) -> bytes | None:
        if self._keyboard is not None:
            self._keyboard.flash_used()
        try:
            operation()
        except FlashError:
            return bytes([_EINVAL])
        except PowerCut:
            for cut in self._power_cuts:
                cut()
            return None  # a chip without power answers nothing
        return b"\0"

    def _interrupt(self) -> None:
        self.link.send(messages.INTERRUPT)

    def _interrupt_taken(self, payload: bytes) -> None:
        if self._keyboard is not None:
            self._keyboard.taken()

    def _ctrl_c(self, payload: bytes) -> bytes | None:
        if self._keyboard is not None:
            self._keyboard.mode(bool(payload[0]))
        return b"" if len(payload) > 1 else None

    def _signal(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def _restarts(self, payload: bytes) -> None:
        self._restart = bool(payload[0])
        if self._keyboard is not None:
            self._keyboard.hold()

    def _keep(self, payload: bytes) -> None:
        self._kept = payload


def _take_terminal() -> None:
    """In the child: the terminal becomes its own, so that the guest is hung up when the board is gone."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a shell's `nohup` or `&` may have them ignored
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _name_servers() -> list[str]:
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return ["127.0.0.1"]
    found = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    return [server for server in found if ":" not in server] or ["127.0.0.1"]
