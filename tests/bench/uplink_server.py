"""The far end of the uplink's bench, a process of its own: it does as little as the protocol allows, so that the client
is what is measured.

usage: uplink_server.py CERTIFICATE KEY CA
Prints a JSON object: the port of a TLS WebSocket that sends messages back, of one that acknowledges MQTT publishes
(client certificate required), and of MQTT over bare TLS (likewise). Ends with its standard input.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def mqtt(connection: ssl.SSLSocket) -> None:
    buffer = b""
    while data := connection.recv(65536):
        buffer += data
        answers = []
        while size := _packet_size(buffer):
            answers.append(acknowledgement(buffer[:size]))
            buffer = buffer[size:]
        if answers:
            connection.sendall(b"".join(answers))


def _packet_size(data: bytes) -> int:
    """Of the MQTT packet at the beginning; 0 if it is not whole."""
    size = shift = 0
    for at in range(1, min(len(data), 5)):
        size |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            return at + 1 + size if len(data) > at + size else 0
    return 0


def acknowledgement(packet: bytes) -> bytes:
    """What a broker says at once: CONNACK, PUBACK, SUBACK, PINGRESP; empty for the rest."""
    kind = packet[0] & 0xF0
    if kind == 0x30 and packet[0] & 6:
        at = 1
        while packet[at] & 128:
            at += 1
        behind = at + 3 + int.from_bytes(packet[at + 1 : at + 3], "big")
        return b"\x40\x02" + packet[behind : behind + 2]
    if kind == 0x80:
        return b"\x90\x03" + packet[2:4] + b"\x01"
    return {0x10: b"\x20\x02\0\0", 0xC0: b"\xd0\0"}.get(kind, b"")


def websocket(connection: ssl.SSLSocket, answer: Callable[[bytes], bytes]) -> None:
    """Messages of one frame each, which answer() may answer."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += connection.recv(65536)
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    connection.sendall(_accept(head))
    while True:
        answers = []
        while found := _frame_bounds(buffer):
            start, end = found
            opcode = buffer[0] & 15
            payload = _unmasked(buffer[start - 4 : start], buffer[start:end])
            buffer = buffer[end:]
            if opcode == 8:
                connection.sendall(_frame(8, payload))
                return
            if opcode < 3 and (data := answer(payload)):
                answers.append(_frame(opcode, data))
        if answers:
            connection.sendall(b"".join(answers))
        data = connection.recv(65536)
        if not data:
            return
        buffer += data


def _frame_bounds(data: bytes) -> tuple[int, int] | None:
    """Of the payload of the masked frame at the beginning; None if it is not whole."""
    if len(data) < 6:
        return None
    length, at = data[1] & 127, 2
    if length > 125:
        at = 4 if length == 126 else 10
        length = int.from_bytes(data[2:at], "big")
    end = at + 4 + length
    return (at + 4, end) if len(data) >= end else None


def _unmasked(key: bytes, data: bytes) -> bytes:
    n = len(data)
    pad = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big")


def _accept(head: bytes) -> bytes:
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    digest = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + _MAGIC).digest())
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    if b"sec-websocket-protocol" in fields:
        answer += b"Sec-WebSocket-Protocol: " + fields[b"sec-websocket-protocol"] + b"\r\n"
    return answer + b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"


def _frame(opcode: int, payload: bytes) -> bytes:
    n = len(payload)
    if n < 126:
        return bytes((0x80 | opcode, n)) + payload
    return bytes((0x80 | opcode, 126)) + n.to_bytes(2, "big") + payload


def serve(listener: socket.socket, context: ssl.SSLContext, behave: Callable[[ssl.SSLSocket], None]) -> None:
    def one(raw: socket.socket) -> None:
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(raw, server_side=True) as connection:
                behave(connection)
        except OSError as error:  # the client that went too early has told what it thought of it
            print(f"uplink_server: {error}", file=sys.stderr)

    while True:
        raw, _ = listener.accept()
        threading.Thread(target=one, args=(raw,), daemon=True).start()


def main(certificate: str, key: str, ca: str) -> None:
    ports = {}
    kinds: dict[str, tuple[Callable[[ssl.SSLSocket], None], ssl.VerifyMode]] = {
        "echo": (lambda connection: websocket(connection, bytes), ssl.CERT_NONE),
        "wss": (lambda connection: websocket(connection, acknowledgement), ssl.CERT_REQUIRED),
        "mqtts": (mqtt, ssl.CERT_OPTIONAL),
    }
    for name, (behave, verify) in kinds.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(ca)
        context.verify_mode = verify
        listener = socket.create_server(("127.0.0.1", 0))
        ports[name] = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener, context, behave), daemon=True).start()
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:4])
