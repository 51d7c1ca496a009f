"""What lies between a coupler and its broker, and can fail: a wire, a name server, a time server, and strange peers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import cast

from kobler.cloud.ntp import answer

_APPLICATION = 23  # TLS record type
_A = 1  # DNS record type
_WORK_S = 0.15  # the arithmetic on one flight of the server's, with room for a busy computer


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Wire:
    """A TCP relay to `port`, at `addresses`, one port for all of them; its attributes are what is wrong with it.

    rate: bytes a second each way. stops: bytes of the peer that get through, nothing after them. cuts: the same, and
    then RST; counted from the end of the TLS handshake. frozen: nothing gets through, nothing ends.
    `handshakes` are the times (CLOCK_MONOTONIC) in which the unit was busy with a TLS handshake: from the peer's first
    word until the unit sent its first own record, or had nothing to answer any more."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.here = 0
        self.addresses = ["127.0.0.1"]
        self.rate: float | None = None
        self.stops: int | None = None
        self.cuts: list[int] = []
        self.frozen = False
        self.handshakes: list[tuple[float, float]] = []
        self._servers: list[asyncio.Server] = []
        self._hole: list[socket.socket] = []
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for address in self.addresses:
            server = await asyncio.start_server(self._serve, address, self.here)
            self.here = int(server.sockets[0].getsockname()[1])
            self._servers.append(server)

    async def stop(self) -> None:
        """Nobody listens any more, and every connection is closed."""
        for server in self._servers:
            server.close()
        self._servers = []
        for sock in self._hole:
            sock.close()
        self._hole = []
        await self.drop()

    async def drop(self) -> None:
        """Close every connection."""
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def move(self, *addresses: str) -> None:
        await self.stop()
        self.addresses = list(addresses)
        await self.start()

    async def vanish(self) -> None:
        """The peer is gone without a word: connections freeze, and who connects hears nothing."""
        self.frozen = True
        for server in self._servers:
            server.close()
        self._servers = []
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.addresses[0], self.here))
        listener.listen(0)
        self._hole = [listener]
        for _ in range(2):  # the queue is full: SYN packets get no answer
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((self.addresses[0], self.here))
            self._hole.append(sock)

    async def heal(self) -> None:
        self.frozen, self.rate, self.stops, self.cuts = False, None, None, []
        if self._hole:
            await self.move(*self.addresses)  # what was frozen is not known there any more

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._pipes.add(task)
        try:
            await _Pipe(self, reader, writer).run()
        except (OSError, asyncio.CancelledError):
            pass  # one end is gone, or drop() ends it: so does the other
        finally:
            self._pipes.discard(task)
            writer.close()


class _Pipe:
    """One connection through the wire."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire, self._reader, self._writer = wire, reader, writer
        self._heard: list[float] = []  # when the peer's words of the handshake went to the unit
        self._shaken = False
        self._left = wire.cuts.pop(0) if wire.cuts else None

    async def run(self) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._wire.port)
        ways = [asyncio.create_task(self._up(far_writer)), asyncio.create_task(self._down(far_reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._handshake_over()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.close()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(16384):
            if not self._shaken and data[0] == _APPLICATION:
                self._handshake_over()
            await self._pass(data, writer)
        await self._melted()

    async def _down(self, reader: asyncio.StreamReader) -> None:
        passed = 0
        while data := await reader.read(16384):
            stops = self._wire.stops
            if stops is not None:
                data = data[: max(0, stops - passed)]
                passed += len(data)
            if self._shaken and self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
            if not self._shaken and data:
                self._heard.append(time.monotonic())
            await self._pass(data, self._writer)
            if self._left == 0:
                reset(self._writer)
                return
        await self._melted()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        rate = self._wire.rate
        step = 100 if rate else 16384
        for at in range(0, len(data), step):
            await self._melted()
            if rate:
                await asyncio.sleep(step / rate)
            writer.write(data[at : at + step])
            await writer.drain()

    async def _melted(self) -> None:
        while self._wire.frozen:
            await asyncio.sleep(0.05)

    def _handshake_over(self) -> None:
        if not self._shaken and self._heard:
            self._wire.handshakes.append((self._heard[0], min(time.monotonic(), self._heard[-1] + _WORK_S)))
        self._shaken = True


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, replies: Callable[[bytes], list[bytes]]) -> None:
        self._replies = replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for reply in self._replies(data):
            self._transport.sendto(reply, addr)


class _DatagramServer:
    """`address` is what a unit's configuration takes, HOST:PORT."""

    address = ""

    async def start(self) -> None:
        made = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self.replies), ("127.0.0.1", 0)
        )
        self._transport = made[0]
        self.address = f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    async def stop(self) -> None:
        self._transport.close()

    def replies(self, request: bytes) -> list[bytes]:
        raise NotImplementedError


class NameServer(_DatagramServer):
    """Every name has these addresses; None: no answer at all."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] | None = addresses

    def replies(self, request: bytes) -> list[bytes]:
        if self.addresses is None:
            return []
        addresses = self.addresses if request[-3] == _A else ()
        found = request[:2] + b"\x81\x80\0\x01\0" + bytes((len(addresses),)) + b"\0\0\0\0" + request[12:]
        for address in addresses:
            found += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
        return [found]


class TimeServer(_DatagramServer):
    """Shows this computer's time and `ahead` seconds; `on_answer` is called once it has said so."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.on_answer: Callable[[], None] = lambda: None

    def replies(self, request: bytes) -> list[bytes]:
        self.on_answer()
        reply = answer(request, time.time() + self.ahead)
        return [reply] if reply else []


class Peer:
    """A server at `port` that takes a connection, perhaps speaks TLS, says `words` and waits."""

    def __init__(self, context: ssl.SSLContext | None, words: bytes = b"") -> None:
        self._context, self._words = context, words
        self._waiting: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._waiting.add(task)
        try:
            if self._words:
                await reader.read(4096)
                writer.write(self._words)
            while await reader.read(4096):
                pass
        except (OSError, asyncio.CancelledError):
            pass  # the unit went first, or stop() ends it
        finally:
            self._waiting.discard(task)
            writer.close()
