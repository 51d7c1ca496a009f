"""Silent, broken and malicious peers: the real MicroPython names what was wrong, backs off, and stays in its heap."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from uplink_peers import (
    CONNACK,
    Peer,
    Server,
    closes_at_once,
    dribbles,
    frame,
    pings_for_ever,
    resets_in_a_frame,
    says,
    settings,
    silence,
    speaks_first,
    then,
    upgrade,
    ws,
)
from uplink_world import Ca, Loop, Unit, unit

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
    ("frame of 8 exabytes", then(ws(CONNACK) + b"\x82\x7f\x7f" + b"\xff" * 7), "websocket", "over 268435472"),
    ("reserved bits", then(b"\xc2\x04" + CONNACK), "websocket", "reserved"),
    ("text", then(ws(CONNACK, 1)), "websocket", "text"),
    ("speaks first", speaks_first, "websocket", "spoke first"),
    ("packet of 256 MB", then(ws(CONNACK + b"\x30\xff\xff\xff\x7f")), "mqtt", "has not answered"),
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


def test_a_ping_that_comes_with_the_upgrade_is_answered(loop: Loop, ca: Ca, files: Path) -> None:
    got: list[tuple[int, bytes]] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer, ws(b"early", 9))
        got.extend([await frame(reader), await frame(reader)])
        writer.write(ws(CONNACK))
        await reader.read()

    server = Server(loop, peer, ca)
    try:
        with unit("micropython", files, {"port": server.port}, **settings()) as one:
            one.until(lambda report: report.get("status", {}).get("state") == "online")
    finally:
        server.close()
    assert got[0] == (10, b"early") and got[1][0] == 2


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
