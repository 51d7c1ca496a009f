"""A client for tests that can also break every rule: MQTT packets built by hand, over the `websockets`
package.

Its sans-IO half, on a plain blocking socket: the threads of `websockets.sync` read and write one TLS socket at a time,
which CPython before 3.13 does not lock, and now and then a handshake is lost.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kobler.pki import Authority
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri


@dataclass(frozen=True)
class Holder:
    """Certificate and key as PEM files, and the authority to trust."""

    cert: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context


def observer(authority: Authority, name: str) -> Holder:
    issued = authority.issue_client(name)
    return Holder(issued.cert_pem, issued.key_pem, issued.ca_pem)


def unit(authority: Authority, unit_id: str, folder: Path) -> Holder:
    """What a provisioned coupler holds: its own key, and a certificate for the request it signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, unit_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    der = authority.sign_csr(request.public_bytes(serialization.Encoding.DER), unit_id)
    cert_pem, key_pem = folder / f"{unit_id}.pem", folder / f"{unit_id}.key"
    cert_pem.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Holder(cert_pem, key_pem, authority.ca_pem)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    head, left = bytearray([first]), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        head.append(digit | (0x80 if left else 0))
        if not left:
            return bytes(head) + body


def connect_packet(
    client_id: str = "",
    *,
    clean: bool = True,
    keep_alive: int = 60,
    will: tuple[str, bytes] | None = None,
    user: str | None = None,
    level: int = 4,
) -> bytes:
    flags = (2 if clean else 0) | (0x2C if will else 0) | (0x80 if user else 0)
    body = text("MQTT") + bytes([level, flags]) + keep_alive.to_bytes(2, "big") + text(client_id)
    if will:
        body += text(will[0]) + text(will[1])
    if user:
        body += text(user)
    return packet(0x10, body)


def publish_packet(topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, pid: int = 7) -> bytes:
    number = pid.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1 | retain, text(topic) + number + payload)


class Peer:
    """One connection. Messages that arrive are acknowledged and kept in `inbox` as (topic, payload,
    retained).
    """

    def __init__(self, url: str, holder: Holder) -> None:
        where = parse_uri(url)
        self._protocol = ClientProtocol(where, subprotocols=[Subprotocol("mqtt")])
        raw = socket.create_connection((where.host, where.port), 5)
        self.socket = holder.context().wrap_socket(raw, server_hostname=where.host)
        self._messages: list[bytes] = []
        self.inbox: list[tuple[str, bytes, bool]] = []
        self._protocol.send_request(self._protocol.connect())
        while self._protocol.state is State.CONNECTING:
            self._exchange()
        if self._protocol.handshake_exc is not None:
            self.socket.close()
            raise self._protocol.handshake_exc

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _exchange(self) -> None:
        """Send what is due, wait for bytes, sort what they bring."""
        self._flush()
        data = self.socket.recv(65536)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.socket.close()
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._messages.append(bytes(event.data))
            assert isinstance(event, (Frame, Response))
        if data:
            self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)

    def _message(self, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while not self._messages:
            if self._protocol.state is State.CLOSED:
                raise self._protocol.close_exc
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                self._exchange()
            except TimeoutError:
                return None
        return self._messages.pop(0)

    def send(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        self._flush()

    def next(self, seconds: float = 3.0) -> bytes | None:
        """The next packet that is not a PUBLISH; None when there is none in time. Raises ConnectionClosed."""
        while True:
            data = self._message(seconds)
            if data is None or data[0] >> 4 != 3:
                return data
            at = 1
            while data[at] & 0x80:
                at += 1
            size = int.from_bytes(data[at + 1 : at + 3], "big")
            end = at + 3 + size
            if data[0] & 6:
                self.send(b"\x40\x02" + data[end : end + 2])
            payload = data[end + (2 if data[0] & 6 else 0) :]
            self.inbox.append((data[at + 3 : end].decode(), payload, bool(data[0] & 1)))

    def join(self, client_id: str = "", **options: object) -> bytes:
        self.send(connect_packet(client_id, **options))  # type: ignore[arg-type]
        answer = self.next()
        assert answer is not None
        return answer

    def subscribe(self, pattern: str, qos: int = 1) -> int:
        """The granted QoS, 0x80 when refused."""
        self.send(packet(0x82, b"\0\x05" + text(pattern) + bytes([qos])))
        answer = self.next()
        assert answer is not None and answer[:4] == b"\x90\x03\0\x05", answer
        return answer[4]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.send(publish_packet(topic, payload, retain=retain))
        assert self.next() == b"\x40\x02\0\x07"

    def ended(self, seconds: float = 5.0) -> tuple[int, str] | None:
        """Close code and reason once the broker ends the connection; None if it does not."""
        try:
            while self.next(seconds) is not None:
                pass
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        return None

    def settle(self, seconds: float = 0.3) -> list[tuple[str, bytes, bool]]:
        """What has arrived when nothing more does."""
        while self.next(seconds) is not None:
            pass
        return self.inbox
