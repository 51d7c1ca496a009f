"""Names and times over real UDP, on the real MicroPython and on CPython."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from uplink_peers import CONNACK, Server, settings, then, ws
from uplink_world import INTERPRETERS, Ca, Loop, unit


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


class Ntp:
    """A time server on loopback; answer(request) -> the datagrams it sends."""

    def __init__(self, loop: Loop, answer: Callable[[bytes], list[bytes]]) -> None:
        self._loop = loop

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast(asyncio.DatagramTransport, transport)

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                for packet in answer(data):
                    self.transport.sendto(packet, addr)

        async def start() -> asyncio.BaseTransport:
            return (await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("127.0.0.1", 0)))[0]

        self._transport = loop.call(start())
        self.name = f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    def close(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._transport.close)


def time_now(request: bytes, ahead: float = 0, first: int = 0x24, stratum: int = 2) -> bytes:
    now = time.time() + 2208988800 + ahead
    stamp = struct.pack(">II", int(now), int(now % 1 * 4294967296))
    return bytes((first, stratum)) + bytes(10) + b"DENY" + bytes(8) + request[40:48] + stamp + stamp


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_the_time_comes_from_the_first_server_that_is_to_be_believed(loop: Loop, files: Path, interpreter: str) -> None:
    def forged_then_true(request: bytes) -> list[bytes]:
        forged = time_now(bytes(48), ahead=1e8)
        return [b"", forged, time_now(request, ahead=3600)]

    servers = [
        Ntp(loop, lambda request: [time_now(request, stratum=0)]),
        Ntp(loop, lambda request: [time_now(request, first=0xE4)]),
        Ntp(loop, forged_then_true),
    ]
    try:
        names = ["127.0.0.1:bad", *(server.name for server in servers)]
        with unit(interpreter, files, {"port": 1}, ntp=names) as one:
            report = one.until(lambda r: "now" in r)
        assert report["server"] == names[3]
        assert abs(report["now"] / 1000 - time.time() - 3600) < 2
        assert 0 <= report["round_trip"] < 1000
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_time_before_the_last_one_needs_two_servers(loop: Loop, files: Path, interpreter: str) -> None:
    servers = [
        Ntp(loop, lambda request: []),
        Ntp(loop, lambda request: [time_now(request, ahead=1e7)]),
        Ntp(loop, lambda request: [time_now(request)]),
        Ntp(loop, lambda request: [time_now(request, ahead=3)]),
    ]
    names = [server.name for server in servers]
    poisoned = int((time.time() + 1e8) * 1000)
    try:
        with unit(interpreter, files, {"port": 1}, ntp=names, floor_ms=poisoned) as one:
            report = one.until(lambda r: "now" in r)
            assert report["server"] == names[3] and abs(report["now"] / 1000 - time.time() - 3) < 2
        with unit(interpreter, files, {"port": 1}, ntp=names[:3], floor_ms=poisoned) as one:
            why = one.until(lambda r: "no_time" in r)["no_time"]
            assert why.startswith(names[2]) and "needs a second time server that agrees" in why
        with unit(interpreter, files, {"port": 1}, ntp=names, floor_ms=int(time.time() * 1000)) as one:
            assert one.until(lambda r: "now" in r)["server"] == names[1], "the first good one is enough"
    finally:
        for server in servers:
            server.close()


def test_when_no_server_is_good_it_says_why(loop: Loop, files: Path) -> None:
    server = Ntp(loop, lambda request: [time_now(request, stratum=0)])
    try:
        with unit("micropython", files, {"port": 1}, ntp=[server.name]) as one:
            assert "refused: DENY" in one.until(lambda r: "no_time" in r)["no_time"]
        with unit("micropython", files, {"port": 1}, ntp=["time.example.com"]) as one:
            assert "no DNS server" in one.until(lambda r: "no_time" in r)["no_time"]
    finally:
        server.close()
