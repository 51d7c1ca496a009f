"""The cursor of the samples, whatever the order of acknowledgements and the state of the link."""

from __future__ import annotations

import json
import struct
from typing import Any

from coupler.uplink import mqtt
from coupler.uplink.mqtt import Mqtt
from coupler.uplink.outbox import Outbox
from coupler.uplink.plain import Plain
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=150, deadline=None)


class Point:
    name = "n"
    unit = None
    history = False


class Waiting:
    """Samples numbered from 1, as a reader of the journal gives them."""

    more = False

    def __init__(self) -> None:
        self.last = 0
        self.cursor = 0
        self._at = 0

    def put(self, n: int) -> None:
        self.last += n

    def peek(self, n: int) -> list[tuple[Any, ...]]:
        end = min(self.last, self._at + n)
        return [(seq, Point, 1, None, 1000 * seq) for seq in range(self._at + 1, end + 1)]

    def skip(self, n: int) -> None:
        self._at += n

    def ack(self, seq: int) -> None:
        assert seq > self.cursor
        self.cursor = seq


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(1, 60), st.sampled_from(["write", "first", "last", "reconnect", "fresh"])), max_size=60
    )
)
def test_no_sample_is_forgotten_before_the_broker_has_it(steps: list[int | str]) -> None:
    source, connection = Waiting(), Mqtt("unit", window=8)
    connection.connect()
    list(connection.receive(b"\x20\x02\0\0"))
    outbox = Outbox(
        None, Plain("id"), connection, source, {"ack": "broker"}, {"packs": 0, "samples": 0, "acked": 0, "repeated": 0}
    )
    stored: set[int] = set()
    unanswered: list[bytes] = []

    def write() -> bool:
        packet = outbox.next()
        if packet:
            parsed = publish_parts(bytes(packet))
            stored.update(record["seq"] for record in json.loads(parsed[1]))
            unanswered.append(parsed[0])
        return packet is not None

    def answer(which: int) -> None:
        for kind, token, _ in connection.receive(b"\x40\x02" + unanswered.pop(which)):
            assert kind == mqtt.ACKED
            outbox.acked(token)

    def reconnect(present: int) -> None:
        unanswered.clear()
        connection.connect()
        for _ in connection.receive(bytes((0x20, 2, present, 0))):
            outbox.connected(bool(present))

    for step in steps:
        if isinstance(step, int):
            source.put(step)
        elif step == "write":
            write()
        elif step in ("first", "last"):
            if unanswered:
                answer(0 if step == "first" else -1)
        else:
            reconnect(1 if step == "reconnect" else 0)
        assert set(range(1, source.cursor + 1)) <= stored
    reconnect(1)
    for _ in range(2000):
        if not write():
            if not unanswered:
                break
            answer(0)
    assert source.cursor == source.last and stored == set(range(1, source.last + 1))


def publish_parts(packet: bytes) -> tuple[bytes, bytes]:
    """Packet id and payload of a QoS 1 publish."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    at += 1
    size = struct.unpack(">H", packet[at : at + 2])[0]
    return packet[at + 2 + size : at + 4 + size], packet[at + 4 + size :]
