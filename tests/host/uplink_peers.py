"""Raw peers for the cloud link: a server that runs any behaviour, and the behaviours themselves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from collections.abc import Awaitable, Callable

from uplink_world import Ca, Loop

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Of the 64-bit interpreter: code, data and garbage; the flood and the huge frames must fit beside them.
HEAP = "256k"

CONNACK = b"\x20\x02\0\0"


class Server:
    """Runs `peer` for every connection, behind TLS if there is an authority."""

    def __init__(
        self, loop: Loop, peer: Peer, ca: Ca | None, name: str = "localhost", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._loop, self._peer = loop, peer
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

        async def start() -> asyncio.Server:
            return await asyncio.start_server(self._serve, host, port, ssl=ca.context(ca.server(name)) if ca else None)

        self._server = loop.call(start())
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the unit closed first: what it thought of the peer is in its status
        finally:
            self._tasks.discard(task)
            writer.close()

    def drop(self) -> None:
        """End the connections there are."""

        async def end() -> None:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.call(end())

    def close(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._server.close)
        self.drop()


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extra: bytes = b"") -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    assert request.startswith(b"GET /mqtt HTTP/1.1\r\n")
    key = next(line for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))[19:]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n" + extra
    )
    await writer.drain()


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of the client's next frame, which must be masked."""
    first, second = await reader.readexactly(2)
    assert second & 0x80, "not masked"
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    mask = await reader.readexactly(4)
    data = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))


def ws(payload: bytes, opcode: int = 2) -> bytes:
    head = (
        bytes((0x80 | opcode, len(payload)))
        if len(payload) < 126
        else struct.pack(">BBH", 0x80 | opcode, 126, len(payload))
    )
    return head + payload


async def closes_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


def says(data: bytes) -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await silence(reader, writer)

    return peer


def then(after_upgrade: bytes) -> Peer:
    """Upgrades, takes the CONNECT and says this."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        opcode, packet = await frame(reader)
        assert opcode == 2 and packet[0] == 0x10
        writer.write(after_upgrade)
        await silence(reader, writer)

    return peer


async def resets_in_a_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer)
    writer.write(ws(CONNACK) + b"\x82\x7e\x01\x00half")
    await writer.drain()
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def speaks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, ws(CONNACK))
    await silence(reader, writer)


async def dribbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Fine\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def pings_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer)
    await frame(reader)
    writer.write(ws(CONNACK))
    for _ in range(400):  # and reads nothing of the answers
        writer.write(ws(b"0123456789" * 12, 9) * 100)
        await writer.drain()
    await asyncio.sleep(1)


def settings() -> dict[str, object]:
    return {"patience_ms": 400, "base_ms": 20, "cap_ms": 50, "period_ms": 20, "heap": HEAP}
