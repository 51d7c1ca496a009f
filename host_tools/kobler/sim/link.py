"""The board's end of the link to the guest interpreter: messages on a socket pair.

A message is `kind u8, length u16 little endian, payload`. A request of the guest is answered with kind | 0x80.
All times are CLOCK_MONOTONIC in microseconds, the clock that the guest reads too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable

FLASH_PROGRAM = 0x01  # offset u32, data -> status u8 (0 done, else an errno)
FLASH_ERASE = 0x02  # offset u32, length u32 -> status u8
INTERRUPT = 0x0F  # board: Ctrl-C was typed; guest: it has been taken
RESET = 0x10  # guest: cause u8 [, ms u32: stay off that long (deep sleep)]
WDT = 0x11  # guest: ms u32, start or re-time; 0 feeds
GPIO_IN = 0x12  # board: pin u8, level u8
RESTART = 0x13  # guest: raw u8, a soft reset; raw: come back in the raw REPL
KEEP = 0x14  # guest: what outlives a reset but not a loss of power
CTRL_C = 0x15  # guest: u8, 1 a program runs and Ctrl-C interrupts it, 0 Ctrl-C is a byte like others [, 1: answer]
UART_CONFIG = 0x20  # guest: uart u8, baud u32, bits u8, parity u8, stop u8, tx u8, rx u8
UART_TX = 0x21  # guest: uart u8, t_us u64, data
UART_RX = 0x22  # board: uart u8, t_us u64, char_ns u32, data
GPIO_OUT = 0x23  # guest: pin u8, level u8, t_us u64
CARRIER = 0x30  # board: network interface u8 (0 Wi-Fi, 3 Ethernet), there u8

ANSWER = 0x80
_HEADER = struct.Struct("<BH")

Handler = Callable[[bytes], bytes | None]


def now_us() -> int:
    """The clock of both sides of the link, in microseconds."""
    return time.monotonic_ns() // 1000


class Link:
    """Messages to and from one guest after another: handlers stay when the interpreter is started afresh."""

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._input = bytearray()
        self._output = bytearray()

    def on(self, kind: int, fn: Handler) -> None:
        """Call fn(payload) for each message of this kind; bytes it returns are sent back as the answer."""
        self._handlers[kind] = fn

    def attach(self, sock: socket.socket) -> None:
        """Take over the socket of a new guest; what was under way with the former one is dropped."""
        self.detach()
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def detach(self) -> None:
        """Close the guest's socket, if there is one."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
        self._socket = None
        self._input.clear()
        self._output.clear()

    def drain(self) -> None:
        """Handle what the guest sent before it ended."""
        self._readable()

    @property
    def attached(self) -> bool:
        return self._socket is not None

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a message; without a guest it is lost, as a signal into an unpowered chip is."""
        if self._socket is None:
            return
        self._output += _HEADER.pack(kind, len(payload)) + payload
        self._flush()

    def _flush(self) -> None:
        if self._socket is None or self._loop is None:
            return
        with contextlib.suppress(BlockingIOError):
            try:
                while self._output:
                    del self._output[: self._socket.send(self._output)]
            except (BrokenPipeError, ConnectionResetError):
                self._output.clear()  # the guest has ended: its exit is reported elsewhere
        if self._output:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        sock = self._socket
        if sock is None or self._loop is None:
            return
        try:
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._loop.remove_reader(sock.fileno())
            return
        self._input += data
        while len(self._input) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._input)
            end = _HEADER.size + size
            if len(self._input) < end:
                break
            payload = bytes(self._input[_HEADER.size : end])
            del self._input[:end]
            handler = self._handlers.get(kind)
            answer = handler(payload) if handler else None
            if self._socket is not sock:
                return  # the handler ended this guest
            if answer is not None:
                self.send(kind | ANSWER, answer)
