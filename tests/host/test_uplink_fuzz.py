"""Whatever arrives, in whatever pieces: the codecs give the right events or a ProtocolError, and always an end.

The oracles are others' work: the frames of `websockets`, the packets of amqtt, CPython's UTF-8 decoder and JSON parser.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from coupler.uplink import mqtt
from coupler.uplink import websocket as w
from coupler.uplink.errors import ProtocolError
from coupler.uplink.mqtt import Mqtt
from coupler.uplink.utf8 import Utf8, valid
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

quick = settings(max_examples=150, deadline=None)

LIMIT = 3000
cuts = st.lists(st.integers(1, 40), max_size=60)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    for size in sizes:
        out.append(data[:size])
        data = data[size:]
    return [*out, data]


# --- WebSocket


def open_socket() -> w.WebSocket:
    ws = w.WebSocket("host", "/", None, os.urandom, LIMIT)
    ws.state = w.OPEN
    return ws


def read_all(ws: w.WebSocket, parts: list[bytes]) -> list[tuple[int, bytes]]:
    """Events with the chunks of messages joined; replies as what they answer (their mask is random)."""
    out, body = [], b""
    for part in parts:
        for kind, piece, last in ws.receive(part):
            if kind in (w.TEXT, w.BINARY):
                body += piece
                if last:
                    out.append((kind, body))
                    body = b""
            elif kind == w.REPLY:
                out.append((kind, unmask(bytes(piece))[1]))
            else:
                out.append((kind, bytes(piece)))
    return out


def unmask(data: bytes) -> tuple[int, bytes]:
    stream = StreamReader()
    stream.feed_data(data)
    parser = Frame.parse(stream.read_exact, mask=True, max_size=None)
    try:
        next(parser)
    except StopIteration as end:
        assert stream.at_eof is not None and not stream.buffer, "one frame and nothing else"
        return int(end.value.opcode), bytes(end.value.data)
    raise AssertionError("not a whole frame")


def frame(opcode: int, data: bytes, fin: bool = True) -> bytes:
    return bytes(Frame(Opcode(opcode), data, fin).serialize(mask=False))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    wire, events = b"", []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([w.TEXT, w.BINARY]))
        body = draw(st.text(max_size=60)).encode() if kind == w.TEXT else draw(st.binary(max_size=300))
        if draw(st.booleans()) and kind == w.BINARY:
            body = body * 10 if len(body) * 10 <= LIMIT else body
        at = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        bounds = [0, *at, len(body)]
        for i in range(len(bounds) - 1):
            last = i == len(bounds) - 2
            wire += frame(kind if i == 0 else 0, body[bounds[i] : bounds[i + 1]], last)
            if not last and draw(st.booleans()):
                payload = draw(st.binary(max_size=125))
                wire += frame(w.PING, payload)
                events += [(w.REPLY, payload), (w.PING, payload)]
        events.append((kind, body))
    return wire, events


@quick
@given(conversations(), cuts)
def test_any_conversation_in_any_pieces(conversation: tuple[bytes, list[tuple[int, bytes]]], sizes: list[int]) -> None:
    wire, events = conversation
    assert read_all(open_socket(), pieces(wire, sizes)) == events


@quick
@given(conversations(), cuts, st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_corrupted_conversation_gives_events_or_a_protocol_error(
    conversation: tuple[bytes, list[tuple[int, bytes]]], sizes: list[int], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(conversation[0] or b"\x82\0")
    for at, bits in flips:
        data[at % len(data)] ^= bits
    outcomes = []
    for parts in ([bytes(data)], pieces(bytes(data), sizes)):
        ws = open_socket()
        try:
            outcomes.append(("events", read_all(ws, parts)))
        except ProtocolError as error:
            assert error.code in (1002, 1007, 1009)
            outcomes.append(("error", error.code))
            assert unmask(bytes(ws.close(error.code)))[1] == struct.pack(">H", error.code)
    assert outcomes[0][0] == outcomes[1][0] and (outcomes[0] == outcomes[1] or outcomes[0][0] == "events")


@quick
@given(st.binary(max_size=600), cuts)
def test_any_answer_to_the_request(data: bytes, sizes: list[int]) -> None:
    for start in (b"", b"HTTP/1.1 101 x\r\n"):
        ws = w.WebSocket("host", "/", "mqtt", os.urandom)
        with contextlib.suppress(ProtocolError):
            for part in pieces(start + data, sizes):
                assert list(ws.receive(part)) == []


@quick
@given(st.binary(max_size=2000))
def test_what_we_send_another_implementation_reads(data: bytes) -> None:
    assert unmask(bytes(open_socket().send(data))) == (2, data)


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.binary(max_size=12), st.text(max_size=6).map(lambda t: t.encode("utf-8", "surrogatepass"))), cuts)
def test_utf8_agrees_with_cpython(data: bytes, sizes: list[int]) -> None:
    try:
        data.decode("utf-8")
        good = True
    except UnicodeDecodeError:
        good = False
    assert valid(data) == good
    check = Utf8()
    assert (all([check.feed(part) for part in pieces(data, sizes)]) and check.whole()) == good


# --- MQTT


def client() -> Mqtt:
    c = Mqtt("unit", max_packet=400)
    c.connect()
    list(c.receive(b"\x20\x02\0\0"))
    return c


topics = st.text(st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
long_topics = st.integers(380, 500).map(lambda n: "x" * n)


@st.composite
def broker_says(draw: st.DrawFn) -> tuple[bytes, list[tuple[Any, ...]]]:
    wire, events = b"", []
    for _ in range(draw(st.integers(0, 6))):
        topic, data, qos = draw(topics | long_topics), draw(st.binary(max_size=700)), draw(st.integers(0, 1))
        ident = draw(st.integers(1, 65535))
        again = bool(qos) and draw(st.booleans())
        packet = PublishPacket.build(topic, data, ident if qos else None, again, qos, draw(st.booleans()))
        wire += packet.to_bytes()
        size = 2 + len(topic.encode()) + 2 * qos + len(data)
        if size <= 400:
            events.append((mqtt.REPEATED if again else mqtt.MESSAGE, topic, data))
        else:
            events.append((mqtt.OVERSIZE, topic if len(topic.encode()) <= 398 else None, size))
        if qos:
            events.append((mqtt.REPLY, PubackPacket.build(ident).to_bytes(), None))
    return wire, events


@quick
@given(broker_says(), cuts)
def test_any_publishes_in_any_pieces(says: tuple[bytes, list[tuple[Any, ...]]], sizes: list[int]) -> None:
    c = client()
    assert [event for part in pieces(says[0], sizes) for event in c.receive(part)] == says[1]


@quick
@given(broker_says(), cuts, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), min_size=1, max_size=4))
def test_corrupted_packets_give_events_or_a_protocol_error(
    says: tuple[bytes, list[tuple[Any, ...]]], sizes: list[int], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(says[0] + SubackPacket.build(1, [1]).to_bytes() + b"\xd0\0")
    for at, bits in flips:
        data[at % len(data)] ^= bits
    outcomes = []
    for parts in ([bytes(data)], pieces(bytes(data), sizes)):
        c = client()
        c.subscribe(["a"])
        found: list[Any] = []
        try:
            for part in parts:
                for event in c.receive(part):
                    found.append(event)
        except ProtocolError as error:
            found.append(str(error))
        assert c._have <= 400
        outcomes.append(found)
    assert outcomes[0] == outcomes[1]


@quick
@given(st.binary(max_size=300))
def test_any_bytes_of_a_broker(data: bytes) -> None:
    for c in (client(), Mqtt("unit", max_packet=100)):
        with contextlib.suppress(ProtocolError):
            list(c.receive(data))


@quick
@given(topics, st.binary(max_size=400), st.integers(0, 1), st.booleans())
def test_another_implementation_reads_our_publishes(topic: str, data: bytes, qos: int, retain: bool) -> None:
    out = client().publish(topic, data, qos, retain)
    packet = asyncio.run(PublishPacket.from_stream(BufferReader(bytes(out))))
    assert (packet.topic_name, bytes(packet.data or b""), packet.qos, packet.retain_flag) == (topic, data, qos, retain)
    assert not qos or packet.packet_id == 1
