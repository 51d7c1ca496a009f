"""Names and times over real UDP, on the real MicroPython and on CPython."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from time_server import Ntp, time_now
from uplink_peers import CONNACK, Server, settings, silence, then, ws
from uplink_world import INTERPRETERS, Ca, Loop, free_port, unit

both = pytest.mark.parametrize("interpreter", INTERPRETERS)

NAME = "broker.example.com"
LOOPBACK_6 = "0:0:0:0:0:0:0:1"


class Dns:
    """A name server on loopback. addresses: of every name, of both families; each answer follows a forged one."""

    def __init__(self, loop: Loop, *addresses: str) -> None:
        self._loop = loop
        self.asked: list[bytes] = []
        of = [ipaddress.ip_address(address).packed for address in addresses]
        asked = self.asked

        def answer(query: bytes, rows: list[bytes]) -> bytes:
            return query[:2] + b"\x81\x80\0\x01" + struct.pack(">HI", len(rows), 0) + query[12:] + b"".join(rows)

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast(asyncio.DatagramTransport, transport)

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                asked.append(data)
                size = {1: 4, 28: 16}[data[-3]]
                head = b"\xc0\x0c" + data[-4:] + struct.pack(">IH", 60, size)
                forged = answer(data, [head + b"\x7f\0\0\x09" * (size // 4)])
                self.transport.sendto(bytes((forged[0] ^ 1,)) + forged[1:], addr)
                self.transport.sendto(answer(data, [head + one for one in of if len(one) == size]), addr)

        async def start() -> asyncio.BaseTransport:
            return (await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("127.0.0.1", 0)))[0]

        self._transport = loop.call(start())
        self.place = f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    def close(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._transport.close)


@contextlib.contextmanager
def names(loop: Loop, *addresses: str) -> Iterator[Dns]:
    dns = Dns(loop, *addresses)
    try:
        yield dns
    finally:
        dns.close()


@contextlib.contextmanager
def server(loop: Loop, *arguments: Any) -> Iterator[Server]:
    one = Server(loop, *arguments)
    try:
        yield one
    finally:
        one.close()


@contextlib.contextmanager
def deaf(family: socket.AddressFamily, host: str, port: int) -> Iterator[None]:
    """A port whose queue of connections is full: further ones get no answer."""
    with socket.socket(family) as listener, contextlib.ExitStack() as stack:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket(family))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((host, port))
        time.sleep(0.1)
        yield


def quick(**more: Any) -> dict[str, Any]:
    return {"base_ms": 20, "cap_ms": 50, "period_ms": 20, **more}


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not _has_v6(), reason="this machine has no IPv6, not even on loopback")


@both
def test_every_address_of_the_name_is_tried(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    # Nobody listens at the first two.
    with (
        server(loop, then(ws(CONNACK)), ca, NAME) as broker,
        names(loop, "127.0.0.2", "127.0.0.3", "127.0.0.1") as dns,
        unit(interpreter, files, {"port": broker.port, "host": NAME}, **quick(dns=[dns.place])) as one,
    ):
        status = one.online()["status"]
        assert status["address"] == "127.0.0.1" and status["broker"] == NAME
        assert status["count"]["attempts"] == 1 and status["count"]["failures"] == 2
        question = b"\1\0\0\1\0\0\0\0\0\0\6broker\7example\3com\0\0\1\0\1"
        assert [query[2:] for query in dns.asked] == [question], "no IPv6 here, so nothing is asked about it"


@both
def test_behind_an_address_whose_certificate_is_wrong_the_next_one_is_tried(
    loop: Loop, ca: Ca, files: Path, interpreter: str
) -> None:
    with (
        server(loop, then(ws(CONNACK)), ca, "example.org", "127.0.0.2") as other,
        server(loop, then(ws(CONNACK)), ca, NAME, "127.0.0.1", other.port) as broker,
        names(loop, "127.0.0.2", "127.0.0.1") as dns,
        unit(interpreter, files, {"port": broker.port, "host": NAME}, **quick(dns=[dns.place])) as one,
    ):
        one.until(lambda r: r["status"]["error"] == "tls-name")
        status = one.online()["status"]
        assert status["address"] == "127.0.0.1" and status["count"]["attempts"] == 1


@needs_v6
@both
def test_an_ipv6_address_is_taken_where_there_is_one(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    with (
        server(loop, then(ws(CONNACK)), ca, NAME, "::1") as broker,
        names(loop, "127.0.0.1", "::1") as dns,
        unit(interpreter, files, {"port": broker.port, "host": NAME}, **quick(dns=[dns.place], ip6="::1")) as one,
    ):
        status = one.online()["status"]
        assert status["address"] == LOOPBACK_6 and status["count"]["failures"] == 0
        assert [query[-3] for query in dns.asked] == [28, 1]


@needs_v6
@both
def test_an_address_that_does_not_answer_holds_up_no_other(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    with (
        server(loop, then(ws(CONNACK)), ca, NAME) as broker,
        deaf(socket.AF_INET6, "::1", broker.port),
        names(loop, "127.0.0.1", "::1") as dns,
        unit(interpreter, files, {"port": broker.port, "host": NAME}, **quick(dns=[dns.place], ip6="::1")) as one,
    ):
        status = one.online()["status"]
        assert status["address"] == "127.0.0.1"
        assert status["count"]["failures"] == 0, "nobody waited for the first one's timeout"
        assert [query[-3] for query in dns.asked] == [28, 1]


@both
def test_however_attempts_end_no_socket_stays_open(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    with (
        server(loop, silence, ca, NAME) as broker,  # TLS is well, and then nothing
        server(loop, silence, None, "", "127.0.0.2", broker.port),
        deaf(socket.AF_INET, "127.0.0.3", broker.port),
        names(loop, "127.0.0.4", "127.0.0.3", "127.0.0.2", "127.0.0.1") as dns,
        unit(
            interpreter,
            files,
            {"port": broker.port, "host": NAME},
            **quick(dns=[dns.place], patience_ms=200, count_files=True),
        ) as one,
    ):
        counts = {
            attempts: one.until(lambda r, n=attempts: at(r, n))["files"]  # type: ignore[misc]
            for attempts in (1, 4)
        }
        assert counts[4] == counts[1]


def at(report: dict[str, Any], attempts: int) -> bool:
    status = report["status"]
    return bool(status["state"] == "waiting" and status["count"]["attempts"] >= attempts)


@both
def test_the_second_url_is_for_when_the_first_is_down_and_for_no_longer(
    loop: Loop, ca: Ca, files: Path, interpreter: str
) -> None:
    first, second, port = "one.localhost", "two.localhost", free_port()
    with server(loop, then(ws(CONNACK)), ca, second) as fallback:
        more = [
            {"scheme": "wss", "host": "unknown.example.com", "port": 443, "path": "/mqtt"},
            {"scheme": "wss", "host": second, "port": fallback.port, "path": "/mqtt"},
        ]
        with unit(interpreter, files, {"port": port, "host": first, "more": more}, **quick(), seconds=60) as one:
            status = one.online()["status"]
            assert status["broker"] == second and status["count"]["attempts"] == 1
            assert status["count"]["failures"] == 2, "the first refuses, the other's name is not known"
            with server(loop, then(ws(CONNACK)), ca, first, "127.0.0.1", port) as preferred:
                fallback.drop()
                assert one.until(lambda r: r["status"]["broker"] == first and at_broker(r))
                assert preferred.connections == 1 and fallback.connections == 1


def at_broker(report: dict[str, Any]) -> bool:
    return bool(report["status"]["state"] == "online")


def test_a_silent_dns_server_is_named_and_stops_nothing(loop: Loop, files: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        given = {**settings(), "dns": [f"127.0.0.1:{mute.getsockname()[1]}"]}
        with unit("micropython", files, {"port": 1, "host": "broker.example.com"}, **given) as one:
            assert "no answer" in one.fails_with("dns")
            assert one.until(lambda r: r["longest_ms"] < 100)


@both
def test_the_time_comes_from_the_first_server_that_is_to_be_believed(files: Path, interpreter: str) -> None:
    def forged_then_true(request: bytes) -> list[bytes]:
        forged = time_now(bytes(48), ahead=1e8)
        return [b"", forged, time_now(request, ahead=3600)]

    servers = [
        Ntp(lambda request: [time_now(request, stratum=0)]),
        Ntp(lambda request: [time_now(request, first=0xE4)]),
        Ntp(forged_then_true),
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


@both
def test_a_time_before_the_last_one_needs_two_servers(files: Path, interpreter: str) -> None:
    servers = [
        Ntp(lambda request: []),
        Ntp(lambda request: [time_now(request, ahead=1e7)]),
        Ntp(lambda request: [time_now(request)]),
        Ntp(lambda request: [time_now(request, ahead=3)]),
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


def test_when_no_server_is_good_it_says_why(files: Path) -> None:
    server = Ntp(lambda request: [time_now(request, stratum=0)])
    try:
        with unit("micropython", files, {"port": 1}, ntp=[server.name]) as one:
            assert "refused: DENY" in one.until(lambda r: "no_time" in r)["no_time"]
        with unit("micropython", files, {"port": 1}, ntp=["time.example.com"]) as one:
            assert "no DNS server" in one.until(lambda r: "no_time" in r)["no_time"]
    finally:
        server.close()
