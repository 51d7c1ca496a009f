"""What the broker's gate keeps out: clients that break MQTT are dropped, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.cloud.gate import Gate
from kobler.cloud.identity import Identity
from kobler.cloud.packets import PacketError, Splitter, read_connect
from kobler.pki import Authority
from mqtt_peer import Holder, Peer, connect_packet, observer, packet, publish_packet, text, unit

UNIT = "0242ac110002"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("gate") / "pki")


@pytest.fixture(scope="module")
def holders(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Holder]:
    folder = tmp_path_factory.mktemp("holders")
    return {UNIT: unit(authority, UNIT, folder), "viewer": observer(authority, "viewer")}


@pytest.fixture(scope="module")
def broker(authority: Authority) -> Iterator[Broker]:
    found = Broker(authority)
    with Background(found):
        yield found


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (connect_packet("x", level=3), b"\x20\x02\0\x01"),
        (connect_packet("", clean=False), b"\x20\x02\0\x02"),
    ],
)
def test_a_connect_that_cannot_be_served_gets_its_code(
    broker: Broker, holders: dict[str, Holder], sent: bytes, answer: bytes
) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.send(sent)
        assert coupler.next() == answer
        assert coupler.ended() is not None


HOSTILE = {
    "no CONNECT": publish_packet(f"kobler/{UNIT}/telemetry", b"[]"),
    "reserved type 0": b"\x00\0",
    "reserved type 15": b"\xf0\0",
    "a server's packet": b"\x20\x02\0\0",
    "an endless length": b"\x30\xff\xff\xff\xff\x7f",
    "256 MB announced": b"\x30\xff\xff\xff\x7f",
    "QoS 3": packet(0x36, text("kobler/x/telemetry") + b"\0\x01"),
    "packet identifier 0": publish_packet(f"kobler/{UNIT}/telemetry", b"", pid=0),
    "a wildcard in PUBLISH": publish_packet(f"kobler/{UNIT}/#", b""),
    "a topic that is not UTF-8": packet(0x30, text(b"kobler/\xff/telemetry")),
    "a null character": publish_packet(f"kobler/{UNIT}/a\0b", b""),
    "a topic longer than its packet": packet(0x30, b"\xff\xffabc"),
    "flags on SUBSCRIBE": packet(0x80, b"\0\x01" + text("a") + b"\0"),
    "a subscription to nothing": packet(0x82, b"\0\x01"),
    "a subscription with QoS 3": packet(0x82, b"\0\x01" + text(f"kobler/{UNIT}/a") + b"\x03"),
    "a second CONNECT": connect_packet("again"),
    "a long PUBACK": b"\x40\x03\0\x01\0",
    "DISCONNECT with a body": b"\xe0\x01\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_client_that_breaks_mqtt_is_dropped_and_only_that_one(
    broker: Broker, holders: dict[str, Holder], name: str
) -> None:
    with Peer(broker.url, holders["viewer"]) as viewer, Peer(broker.url, holders[UNIT]) as hostile:
        viewer.join()
        viewer.subscribe("kobler/#")
        if name != "no CONNECT":
            hostile.join(UNIT)
        hostile.send(HOSTILE[name])
        ended = hostile.ended()
        assert ended is not None and ended[0] == 1002, ended
        with Peer(broker.url, holders[UNIT]) as again:
            again.join(UNIT)
            again.publish(f"kobler/{UNIT}/telemetry", b"[]")
        assert viewer.settle(0.1) == [(f"kobler/{UNIT}/telemetry", b"[]", False)]


@given(st.binary(max_size=80), st.lists(st.integers(1, 80), max_size=4))
def test_any_bytes_in_any_pieces_end_in_packets_or_one_error(data: bytes, cuts: list[int]) -> None:
    splitter = Splitter(limit=64)
    try:
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            splitter.feed(data[start:end])
            while (found := splitter.take()) is not None:
                assert found.encode() in data or len(found.body) < 128  # overlong lengths come out shortest
                read_connect(found)
    except PacketError as error:
        assert str(error)


class Slow:
    """A client that takes its time to end, until all of them are ending."""

    def __init__(self, together: asyncio.Barrier) -> None:
        self.identity, self.certificate, self._together = Identity("viewer", unit=False), b"revoked", together

    async def end(self, code: int, reason: str, patience: float) -> None:
        assert code == 1008 and "revoked" in reason and patience < 1
        await self._together.wait()


def test_one_revoked_client_does_not_hold_up_the_end_of_the_next() -> None:
    async def run() -> None:
        gate = Gate(lambda _: asyncio.sleep(0), lambda der: der == b"revoked")
        together = asyncio.Barrier(5)
        gate._clients.update(Slow(together) for _ in range(5))  # type: ignore[misc]
        async with asyncio.timeout(5):
            await gate.expel()

    asyncio.run(run())


class Socket:
    """A connection as it comes from the handshake, of a client whose certificate was revoked since."""

    def __init__(self) -> None:
        self.transport, self.closed = self, 0

    def get_extra_info(self, _: str) -> Any:
        return self

    def getpeercert(self, binary: bool = False) -> Any:
        names = {"subject": ((("commonName", "viewer"),),), "subjectAltName": (("URI", "urn:kobler:client:viewer"),)}
        return b"revoked" if binary else names

    async def recv(self, decode: bool) -> bytes:
        raise AssertionError("its packets are read")

    async def close(self, code: int, _reason: str) -> None:
        self.closed = code


def test_a_client_that_was_revoked_during_its_handshake_is_not_served() -> None:
    socket = Socket()
    gate = Gate(lambda _: asyncio.sleep(0), lambda der: "revoked" if der == b"revoked" else None)
    asyncio.run(gate.serve(socket))  # type: ignore[arg-type]
    assert socket.closed == 1008 and not gate._clients
