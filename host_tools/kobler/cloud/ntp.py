"""A small SNTP server (RFC 4330, section 6) on this computer's clock, so that a virtual board needs no
internet.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import cast

_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
_FRACTION = 1 << 32


class NtpServer:
    """Answers client requests (mode 3) of 48 bytes or more; everything else is dropped without an answer."""

    def __init__(self, listen: str = "127.0.0.1", port: int = 0) -> None:
        self._listen, self._port = listen, port
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT` as a unit's configuration takes it."""
        return f"{self._listen}:{self._port}"

    async def start(self) -> None:
        """Open the port."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(_Responder, (self._listen, self._port))
        self._port = self._transport.get_extra_info("sockname")[1]

    async def stop(self) -> None:
        """Close the port."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class _Responder(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # In CPython's selector loop it has the methods without being a subclass.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data, time.time())
        if reply is not None:
            self._transport.sendto(reply, addr)

    def error_received(self, _error: Exception) -> None:
        # A client that closed its socket before the answer came; nobody is waiting.
        return


def answer(request: bytes, now: float) -> bytes | None:
    """The reply to one datagram at `now` (Unix seconds), None when it deserves none."""
    if len(request) < 48:
        return None
    version, mode = request[0] >> 3 & 0x07, request[0] & 0x07
    if mode != 3 or not 1 <= version <= 4:
        return None
    stamp = _stamp(now)
    # Leap 0, the client's version, mode 4; stratum 1: as far as the unit is concerned, this clock is the
    # reference.
    head = struct.pack(">BBbb", version << 3 | 4, 1, request[2] if request[2] < 128 else 0, -20)
    return head + struct.pack(">II4s", 0, 0, b"LOCL") + stamp + request[40:48] + stamp + stamp


def _stamp(now: float) -> bytes:
    seconds = int(now)
    fraction = min(int((now - seconds) * _FRACTION), _FRACTION - 1)
    return struct.pack(">II", (seconds + _NTP_EPOCH) % _FRACTION, fraction)
