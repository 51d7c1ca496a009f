"""Peers that are silent, broken or malicious: the real MicroPython names what was wrong, backs off, and needs no more memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from uplink_world import Ca, Loop, Unit, unit

# Of the 64-bit interpreter: code, data and garbage; the flood and the huge frames must fit beside them.
HEAP = "256k"

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONNACK = b"\x20\x02\0\0"


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(ca: Ca, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ca.unit(tmp_path_factory.mktemp("unit"))


class Server:
    """Runs `peer` for every connection, behind TLS unless told otherwise; what went wrong in it is raised at the end."""

    def __init__(self, loop: Loop, peer: Peer, ca: Ca | None, name: str = "localhost") -> None:
        self._loop, self._peer = loop, peer
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

        async def start() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ca.context(ca.server(name)) if ca else None)

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

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.call(end())


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
    head = bytes((0x80 | opcode, len(payload))) if len(payload) < 126 else struct.pack(">BBH", 0x80 | opcode, 126, len(payload))
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


TLS_CASES: list[tuple[str, Peer, str, str]] = [
    ("silent after TLS", silence, "timeout", "WebSocket request"),
    ("dribbles its header", dribbles, "timeout", "WebSocket request"),
    ("garbage", says(bytes(range(256)) * 8), "http", "not HTTP"),
    ("HTTP 200", says(b"HTTP/1.1 200 OK\r\n\r\n<html>"), "http", "HTTP 200 OK"),
    ("a proxy's 407", says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "http", "407 Proxy"),
    ("endless header", says(b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 200000), "http", "over 4096"),
    ("wrong accept", says(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"), "http", "Accept"),
    ("no CONNACK", then(b""), "mqtt", "not answered"),
    ("another packet first", then(ws(b"\xd0\0")), "mqtt", "instead of CONNACK"),
    ("refuses the client", then(ws(b"\x20\x02\0\x05")), "mqtt-refused", "not authorised"),
    ("masked frame", then(b"\x82\x84\1\2\3\4" + CONNACK), "websocket", "masked"),
    ("frame of 8 exabytes", then(ws(CONNACK) + b"\x82\x7f\x7f" + b"\xff" * 7), "websocket", "over 1048576"),
    ("reserved bits", then(b"\xc2\x04" + CONNACK), "websocket", "reserved"),
    ("text", then(ws(CONNACK, 1)), "websocket", "text"),
    ("speaks first", speaks_first, "websocket", "spoke first"),
    ("packet of 256 MB", then(ws(CONNACK + b"\x30\xff\xff\xff\x7f")), "mqtt", "limit"),
    ("malformed length", then(ws(CONNACK + b"\x30\xff\xff\xff\xff\x7f")), "mqtt", "length"),
    ("QoS 2", then(ws(CONNACK + b"\x34\x05\0\x01a\0\x01")), "mqtt", "PUBLISH"),
    ("closes", then(ws(CONNACK) + ws(b"\x03\xf5come later", 8)), "closed", "1013 come later"),
    ("resets in a frame", resets_in_a_frame, "closed", "127.0.0.1"),
    ("never acknowledges", then(ws(CONNACK)), "mqtt", "not answered"),
    ("pings for ever", pings_for_ever, "mqtt", "not answered"),
]


@pytest.mark.parametrize(("peer", "kind", "words"), [c[1:] for c in TLS_CASES], ids=[c[0] for c in TLS_CASES])
def test_behind_tls(loop: Loop, ca: Ca, files: Path, peer: Peer, kind: str, words: str) -> None:
    server = Server(loop, peer, ca)
    try:
        with unit("micropython", files, {"port": server.port}, **settings()) as one:
            judge(one, server, kind, words)
    finally:
        server.close()


TCP_CASES: list[tuple[str, Peer, str, str]] = [
    ("silent", silence, "timeout", "TLS"),
    ("garbage", says(b"SSH-2.0-OpenSSH_9.2\r\n" * 200), "tls", "localhost"),
    ("plain HTTP", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "tls", "localhost"),
    ("closes at once", closes_at_once, "closed", "during the TLS handshake"),
    ("a TLS alert", says(b"\x15\x03\x03\0\x02\x02\x28"), "tls-refused", "refused"),
    ("record of 64 KB", says(b"\x16\x03\x03\xff\xff" + bytes(70000)), "tls", "localhost"),
]


@pytest.mark.parametrize(("peer", "kind", "words"), [c[1:] for c in TCP_CASES], ids=[c[0] for c in TCP_CASES])
def test_before_tls(loop: Loop, files: Path, peer: Peer, kind: str, words: str) -> None:
    server = Server(loop, peer, None)
    try:
        with unit("micropython", files, {"port": server.port}, **settings()) as one:
            judge(one, server, kind, words)
    finally:
        server.close()


def settings() -> dict[str, object]:
    return {"patience_ms": 400, "base_ms": 20, "cap_ms": 50, "period_ms": 20, "heap": HEAP}


def judge(one: Unit, server: Server, kind: str, words: str) -> None:
    text = one.fails_with(kind)
    assert words in text, text
    last = one.until(lambda r: r["status"]["count"]["failures"] >= 2)
    assert server.connections >= 2, "it goes on trying"
    assert last["longest_ms"] < 500, "the loop never stood still"


def test_the_broker_is_told_why(loop: Loop, ca: Ca, files: Path) -> None:
    seen: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await frame(reader)
        writer.write(ws(CONNACK) + (b"\x82\x81" if len(seen) == 0 else b"\x82\x7f\x7f" + b"\xff" * 7))
        while True:
            opcode, payload = await frame(reader)
            if opcode == 8:
                seen.append(payload)
                return

    server = Server(loop, peer, ca)
    try:
        with unit("micropython", files, {"port": server.port}, **settings()) as one:
            one.until(lambda _: len(seen) >= 2)
    finally:
        server.close()
    assert seen[:2] == [b"\x03\xea", b"\x03\xf1"], "1002 protocol error, 1009 too big"


def test_what_was_not_acknowledged_comes_again_marked_as_a_duplicate(loop: Loop, ca: Ca, files: Path) -> None:
    rounds: list[list[bytes]] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        _, packet = await frame(reader)
        assert not packet[9] & 2, "a persistent session"
        packs: list[bytes] = []
        rounds.append(packs)
        writer.write(ws(b"\x20\x02\x01\0" if len(rounds) > 1 else CONNACK))
        while len(packs) < 2:
            data = (await frame(reader))[1]
            if data[0] & 0xF6 == 0x32 and b"/telemetry" in data:
                packs.append(data)

    server = Server(loop, peer, ca)
    try:
        with unit("micropython", files, {"port": server.port}, **{**settings(), "period_ms": 1}) as one:
            one.until(lambda _: len(rounds) >= 2 and len(rounds[1]) >= 2)
            assert one.until(lambda r: r["status"]["count"]["repeated"] > 0)["acked"] == 0
    finally:
        server.close()
    first, again = rounds[0][0], rounds[1][0]
    assert not first[0] & 8 and again[0] & 8
    assert first[1:] == again[1:], "the same packet id and payload"


def test_a_message_too_large_is_taken_off_the_broker_and_the_link_holds(loop: Loop, ca: Ca, files: Path) -> None:
    acks: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await frame(reader)
        topic = b"kobler/246f28aabbcc/desired"
        body = struct.pack(">H", len(topic)) + topic + b"\0\x07" + bytes(60000)
        length = bytes((len(body) & 127 | 128, len(body) >> 7 & 127 | 128, len(body) >> 14))
        writer.write(ws(CONNACK) + ws(b"\x32" + length + body))
        while True:
            data = (await frame(reader))[1]
            if data[0] == 0x40:
                acks.append(data)
            elif data[0] & 0xF6 == 0x32:
                at = 4 + data[2] * 256 + data[3] if data[1] < 128 else 5 + data[3] * 256 + data[4]
                writer.write(ws(b"\x40\x02" + data[at : at + 2]))

    server = Server(loop, peer, ca)
    try:
        with unit("micropython", files, {"port": server.port}, **settings()) as one:
            report = one.acked(20)
            assert report["status"]["count"]["oversize"] == 1 and report["status"]["count"]["attempts"] == 1
    finally:
        server.close()
    assert acks == [b"\x40\x02\0\x07"]


def test_every_address_of_the_name_is_tried(loop: Loop, ca: Ca, files: Path) -> None:
    # The name has three addresses; nobody listens at the first two.
    server = Server(loop, then(ws(CONNACK)), ca, "broker.example.com")
    asked: list[bytes] = []

    class Dns(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            asked.append(data)
            forged = bytes((data[0] ^ 1,)) + data[1:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + data[12:]
            self.transport.sendto(forged + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\x09", addr)
            answer = data[:2] + b"\x81\x80\0\x01\0\x03\0\0\0\0" + data[12:]
            for last in (2, 3, 1):
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0" + bytes((last,))
            self.transport.sendto(answer, addr)

    async def dns() -> asyncio.BaseTransport:
        return (await asyncio.get_running_loop().create_datagram_endpoint(Dns, ("127.0.0.1", 0)))[0]

    transport = loop.call(dns())
    port = transport.get_extra_info("sockname")[1]
    try:
        cloud = {"port": server.port, "host": "broker.example.com"}
        for interpreter in ("micropython", "cpython"):
            given = {**settings(), "dns": [f"127.0.0.1:{port}"]}
            if interpreter == "cpython":
                del given["heap"]
            with unit(interpreter, files, cloud, **given) as one:
                status = one.online()["status"]
                assert status["address"] == "127.0.0.1"
                assert status["count"]["attempts"] == 1 and status["count"]["failures"] == 2
    finally:
        loop.loop.call_soon_threadsafe(transport.close)
        server.close()
    assert asked and asked[0][2:] == b"\1\0\0\1\0\0\0\0\0\0\6broker\7example\3com\0\0\1\0\1"


def test_a_silent_dns_server_is_named_and_stops_nothing(loop: Loop, files: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        given = {**settings(), "dns": [f"127.0.0.1:{mute.getsockname()[1]}"]}
        with unit("micropython", files, {"port": 1, "host": "broker.example.com"}, **given) as one:
            assert "no answer" in one.fails_with("dns")
            assert one.until(lambda r: r["longest_ms"] < 100)
