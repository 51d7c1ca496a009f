"""RFC 6455 as a client must keep it: the handshake, frames in any pieces, and a peer that breaks the rules."""

import binascii
import hashlib

from check import raises
from coupler.uplink import upgrade
from coupler.uplink.errors import ProtocolError
from coupler.uplink.sha1 import sha1
from coupler.uplink.utf8 import valid
from coupler.uplink.websocket import (
    BINARY,
    CLOSE,
    CLOSED,
    CLOSING,
    OPEN,
    OPENED,
    PING,
    PONG,
    REPLY,
    TEXT,
    WebSocket,
)

# The example of RFC 6455, sections 1.2 and 5.7.
NONCE = b"the sample nonce"
KEY = bytes((0x37, 0xFA, 0x21, 0x3D))
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def urandom(n):
    return NONCE if n == 16 else KEY


def fresh(limit=65536, subprotocol="mqtt"):
    return WebSocket("server.example.com", "/mqtt", subprotocol, urandom, limit)


def opened(limit=65536):
    ws = fresh(limit)
    assert list(ws.receive(ANSWER)) == [(OPENED, b"", True)]
    return ws


def events(ws, data, step=0):
    out = []
    for i in range(0, len(data), step or len(data) or 1):
        for kind, piece, last in ws.receive(data[i : i + step] if step else data):
            out.append((kind, bytes(piece), last))
    return out


def messages(ws, data, step=0):
    """Events with the chunks of a message joined."""
    out = []
    body = b""
    for kind, piece, last in events(ws, data, step):
        if kind in (TEXT, BINARY):
            body += piece
            if not last:
                continue
            piece, body = body, b""
        out.append((kind, piece))
    return out


def frame(opcode, payload, fin=True):
    n = len(payload)
    if n < 126:
        head = bytes(((0x80 if fin else 0) | opcode, n))
    elif n < 65536:
        head = bytes(((0x80 if fin else 0) | opcode, 126)) + n.to_bytes(2, "big")
    else:
        head = bytes(((0x80 if fin else 0) | opcode, 127)) + n.to_bytes(8, "big")
    return head + payload


def fails(data, code=1002, kind="websocket"):
    error = raises(ProtocolError, events, opened(1000), data)
    assert (error.kind, error.code) == (kind, code), (error.kind, error.code, str(error))
    return error


def test_the_request_asks_for_an_upgrade_with_the_key():
    lines = bytes(fresh().request()).split(b"\r\n")
    assert lines[0] == b"GET /mqtt HTTP/1.1"
    for line in (
        b"Host: server.example.com",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Protocol: mqtt",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ):
        assert line in lines, line
    assert lines[-2:] == [b"", b""]


def test_the_answer_opens_it_in_whatever_pieces_it_comes():
    for step in (1, 2, 7, 50, len(ANSWER)):
        ws = fresh()
        assert events(ws, ANSWER + frame(BINARY, b"x"), step)[0] == (OPENED, b"", True)
        assert ws.state == OPEN


def test_header_names_and_tokens_are_compared_as_http_says():
    mixed = ANSWER.replace(b"Upgrade: websocket", b"UPGRADE:WebSocket").replace(
        b"Connection: Upgrade", b"connection: keep-alive,  upgrade"
    )
    ws = fresh()
    assert events(ws, mixed) == [(OPENED, b"", True)]


def test_answers_that_are_no_upgrade_are_refused():
    for old, new in (
        (b"101 Switching Protocols", b"200 OK"),
        (b"101 Switching Protocols", b"407 Proxy Authentication Required"),
        (b"101 Switching Protocols", b"10 x"),
        (b"HTTP/1.1 101", b"HTTP/1.0 101"),
        (b"HTTP/1.1 101", b"SSH-2.0-OpenSSH"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: Upgrade", b"Connection: close"),
        (b"s3pPLM", b"S3pPLM"),
        (b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", b""),
        (b"Protocol: mqtt", b"Protocol: soap"),
        (b"Sec-WebSocket-Protocol: mqtt\r\n", b""),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nno colon\r\n\r\n"),
    ):
        assert old in ANSWER
        error = raises(ProtocolError, events, fresh(), ANSWER.replace(old, new))
        assert error.kind == "http", new


def test_a_refusal_names_the_status():
    error = raises(ProtocolError, events, fresh(), b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    assert "407 Proxy Authentication Required" in str(error)


def test_a_subprotocol_that_was_not_asked_for_is_refused():
    raises(ProtocolError, events, fresh(subprotocol=None), ANSWER)
    ws = fresh(subprotocol=None)
    events(ws, ANSWER.replace(b"Sec-WebSocket-Protocol: mqtt\r\n", b""))
    assert ws.state == OPEN


def test_the_key_is_checked_whatever_hashes_the_interpreter_has():
    class Named:
        def new(self, name, data):
            assert name == "sha1"
            return hashlib.sha1(data) if hasattr(hashlib, "sha1") else Digest(data)

    class Digest:
        def __init__(self, data):
            self.digest = lambda: sha1(data)

    real = upgrade.hashlib
    for found in (Named(), object(), real):
        upgrade.hashlib = found
        try:
            assert opened().state == OPEN
            raises(ProtocolError, events, fresh(), ANSWER.replace(b"s3pPLM", b"s3pPLN"))
        finally:
            upgrade.hashlib = real


def test_sha1_of_the_standard():
    for text, want in (
        (b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (b"a" * 55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"),
        (b"a" * 56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"),
        (b"a" * 1000, "291e9a6c66994949b57ba5e650361e98fc36b1ba"),
    ):
        assert binascii.hexlify(sha1(text)).decode() == want, text


def test_an_endless_answer_is_refused():
    error = raises(ProtocolError, events, fresh(), b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 10000, 1000)
    assert "4096" in str(error)


def test_the_frames_of_the_standard():
    ws = opened()
    assert ws.send(b"Hello", TEXT) == bytes((0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58))
    assert messages(ws, b"\x81\x05Hello") == [(TEXT, b"Hello")]
    assert messages(ws, b"\x01\x03Hel\x80\x02lo") == [(TEXT, b"Hello")]


def test_every_length_goes_out_in_its_shortest_form_and_masked():
    ws = opened()
    for n in (0, 1, 3, 125, 126, 127, 511, 512, 513, 1024, 65535, 65536, 65537):
        payload = bytes((i * 7 & 0xFF) for i in range(n))
        out = ws.send(payload)
        length = out[1] & 0x7F
        assert out[0] == 0x82 and out[1] & 0x80
        start = 2
        if n > 125:
            start = 4 if n < 65536 else 10
            assert length == (126 if n < 65536 else 127)
            length = int.from_bytes(bytes(out[2:start]), "big")
        assert length == n and out[start : start + 4] == KEY and len(out) == start + 4 + n
        body = out[start + 4 :]
        for i in list(range(0, n, 97)) + list(range(max(0, n - 9), n)):
            assert body[i] ^ KEY[i & 3] == payload[i], (n, i)


def test_a_message_goes_out_in_as_many_frames_as_one_likes():
    ws = opened()
    first, second, third = ws.send(b"a", TEXT, False), ws.send(b"", 0, False), ws.send(b"b", 0)
    assert (first[0], second[0], third[0]) == (0x01, 0x00, 0x80)
    assert third[6] ^ KEY[0] == ord("b")


def test_the_mask_is_asked_for_again_for_every_frame():
    asked = []

    def source(n):
        asked.append(n)
        return bytes((len(asked),)) * n

    ws = WebSocket("h", "/", None, source)
    ws.state = OPEN
    assert ws.send(b"a")[2:6] != ws.send(b"a")[2:6]
    assert asked == [16, 4, 4]


def test_messages_arrive_whole_in_whatever_pieces_they_come():
    data = (
        frame(BINARY, b"a" * 300)
        + frame(BINARY, b"", True)
        + frame(BINARY, b"one", False)
        + frame(PING, b"?")
        + frame(0, b"", False)
        + frame(PONG, b"!")
        + frame(0, b"two")
        + frame(TEXT, "grün".encode())
    )
    want = [
        (BINARY, b"a" * 300),
        (BINARY, b""),
        (REPLY, bytes(opened().send(b"?", PONG))),
        (PING, b"?"),
        (PONG, b"!"),
        (BINARY, b"onetwo"),
        (TEXT, "grün".encode()),
    ]
    for step in (0, 1, 2, 3, 5, 64):
        assert messages(opened(), data, step) == want, step


def test_what_breaks_the_rules_ends_the_connection_with_the_right_code():
    for data in (
        b"\x82\x81\0\0\0\0x",  # masked
        b"\xc2\x01x",  # reserved bits
        b"\xa2\x01x",
        b"\x92\x01x",
        b"\x83\x01x",  # unknown opcodes
        b"\x87\0",
        b"\x8b\0",
        b"\x8f\0",
        b"\x09\0",  # control frames: fragmented, too long
        b"\x08\0",
        b"\x89\x7e\0\x7e" + bytes(126),
        b"\x80\x01x",  # continuation of nothing
        b"\x02\x01x\x82\x01y",  # a message inside another
        b"\x82\x7e\0\x05hello",  # not the shortest form
        b"\x82\x7f\0\0\0\0\0\0\x01\0",
        b"\x82\x7f\x80\0\0\0\0\0\0\0",  # negative length
        b"\x88\x01x",  # half a close code
        b"\x88\x02\x03\xec",  # 1004
        b"\x88\x02\x03\xed",  # 1005
        b"\x88\x02\x03\xee",  # 1006
        b"\x88\x02\x03\xf7",  # 1015
        b"\x88\x02\x0b\xb7",  # 2999
        b"\x88\x02\x13\x88",  # 5000
        b"\x88\x02\0\0",
    ):
        fails(data)


def test_too_large_a_message_is_refused_before_any_of_it_is_taken():
    fails(b"\x82\x7e\x03\xe9", 1009)
    fails(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 1009)
    fails(frame(BINARY, bytes(600), False) + b"\x80\x7e\x01\x91", 1009)
    assert messages(opened(1000), frame(BINARY, bytes(600), False) + frame(0, bytes(400)))[0][0] == BINARY


def test_text_fails_at_its_first_bad_byte():
    for bad in (
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90",
        b"\xf8",
        b"\x80",
        b"\xc3(",
    ):
        # The frame is longer than what was received of it: the failure does not wait for its end.
        fails(b"\x81\x7d" + b"ok" + bad, 1007)
        fails(b"\x01\x02ok" + b"\x80\x7d" + bad, 1007)
        assert not valid(b"ok" + bad)
    fails(frame(TEXT, b"\xe2\x82"), 1007)
    assert not valid(b"\xe2\x82")
    text = "aé€😀\ud7ff\ue000".encode()
    assert valid(text) and messages(opened(), frame(TEXT, text), 1) == [(TEXT, text)]
    assert messages(opened(), b"\x01\x01\xe2\x80\x02\x82\xac") == [(TEXT, b"\xe2\x82\xac")]
    fails(b"\x88\x03\x03\xe8\xff", 1007)


def test_a_close_is_answered_once_with_its_code_and_ends_everything():
    for payload, code in ((b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xf3bye", 1011), (b"\x0f\xa0", 4000)):
        ws = opened()
        got = events(ws, frame(CLOSE, payload) + frame(BINARY, b"late"))
        assert got[0][0] == REPLY and got[0][1] == bytes(fresh()._frame(payload[:2], CLOSE))
        assert got[1:] == [(CLOSE, payload[2:], True)]
        assert ws.state == CLOSED and ws.close_code == code
        assert events(ws, frame(PING, b"")) == [] and ws.close() == b""
        raises(ProtocolError, ws.send, b"x")


def test_our_close_waits_for_the_peers_and_answers_nothing_more():
    ws = opened()
    out = ws.close(1001)
    assert out[0] == 0x88 and bytes((out[6] ^ KEY[0], out[7] ^ KEY[1])) == b"\x03\xe9"
    assert ws.state == CLOSING and ws.close() == b""
    raises(ProtocolError, ws.send, b"x")
    assert messages(ws, frame(BINARY, b"rest") + frame(PING, b"?")) == [(BINARY, b"rest"), (PING, b"?")]
    assert messages(ws, frame(CLOSE, b"\x03\xe9")) == [(CLOSE, b"")]
    assert ws.state == CLOSED
