"""The way from this network to a broker, checked step by step as a coupler would go it: name, TCP, TLS,
WebSocket, MQTT; and the time, without which no certificate can be judged.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import KoblerError
from ..mqtt_client import Credentials, Endpoint, Link, LinkError, MqttClient
from ..mqtt_link import look_up
from .finding import Finding

_NTP_EPOCH = 2_208_988_800
# A coupler that is this far off may take a certificate for expired.
_OFFSET_S = 60.0
_NTP_S = 3.0


@dataclass(frozen=True)
class Target:
    """What to check. `devices_only`: the broker admits none but its registered devices, which we are not."""

    endpoints: list[Endpoint]
    credentials: Credentials
    time_servers: list[str]
    devices_only: bool = False


def examine(target: Target, timeout: float = 10.0) -> Iterator[Finding]:
    """Check after check, as they are done; each bounded by `timeout` seconds, TCP for each address."""
    for endpoint in target.endpoints:
        yield from _way(endpoint, target, timeout)
    for server in target.time_servers:
        yield _try("time", lambda server=server: _time(server))  # type: ignore[misc]


def _way(endpoint: Endpoint, target: Target, timeout: float) -> Iterator[Finding]:
    link = Link(endpoint, target.credentials, timeout)
    client: list[MqttClient] = []
    steps: list[tuple[str, Callable[[], str]]] = [
        ("dns", lambda: f"{endpoint.host} is {', '.join(link.resolve())}"),
        ("tcp", lambda: f"{link.tcp()} port {endpoint.port} answers"),
        ("tls", lambda: _certificate(*link.tls())),
    ]
    if endpoint.scheme == "wss":
        steps.append(("websocket", lambda: _websocket(link)))
    if not target.devices_only:
        steps.append(("mqtt", lambda: _mqtt(link, client)))
    failed = False
    try:
        for name, work in steps:
            if failed:
                yield Finding(name, None, "not tried: the step before failed", "", 0.0)
                continue
            finding = _try(name, work)
            failed = not finding.ok
            yield finding
    finally:
        for one in client:
            one.close()
        link.close()
    if target.devices_only:
        text = "not tried: a hub admits its registered devices only"
        yield Finding("mqtt", None, text, "ask a coupler itself: `kobler doctor --port PORT`", 0.0)


def _try(name: str, work: Callable[[], str]) -> Finding:
    began = time.monotonic()
    try:
        detail, remedy, ok = work(), "", True
    except LinkError as error:
        detail, remedy, ok = error.what, error.remedy, False
    except KoblerError as error:
        detail, remedy, ok = str(error), "", False
    return Finding(name, ok, detail, remedy, time.monotonic() - began)


def _websocket(link: Link) -> str:
    link.upgrade()
    return f"{link.endpoint.path} speaks MQTT"


def _certificate(version: str, certificate: dict[str, Any]) -> str:
    issuer = next((value for rdn in certificate.get("issuer", ()) for key, value in rdn if key == "commonName"), "?")
    return f"{version}; certificate by {issuer}, valid until {certificate.get('notAfter', '?')}"


def _mqtt(link: Link, client: list[MqttClient]) -> str:
    found = MqttClient(link)
    found.connect()
    client.append(found)
    return "the broker accepts this client"


def _time(server: str) -> str:
    host, _, port = server.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise LinkError(f"{server!r} is no time server", "give HOST or HOST:PORT, the port from 1 to 65535")
    number = int(port or 123)
    try:
        offset = clock_offset(host, number)
    except (OSError, ValueError) as error:
        raise LinkError(
            f"no time from {server} ({error})",
            f"let UDP port {number} out to {host}, or name another server in [network] ntp",
        ) from None
    if abs(offset) > _OFFSET_S:
        raise LinkError(f"this computer's clock is {-offset:+.0f} s off by {server}", "set the clock of this computer")
    return f"{server} agrees within {abs(offset) * 1000:.0f} ms"


def clock_offset(host: str, port: int = 123, timeout: float = _NTP_S) -> float:
    """Seconds to add to this computer's clock, by one SNTP exchange (RFC 4330). OSError, ValueError."""
    family, kind, protocol, _, address = look_up(host, port, timeout, socket.SOCK_DGRAM)[0]
    mine = secrets.token_bytes(8)  # our "transmit time": unpredictable, since it is all that ties the answer to us
    with socket.socket(family, kind, protocol) as link:
        link.settimeout(timeout)
        link.connect(address)
        sent = time.time()
        link.send(bytes([0x23]) + bytes(39) + mine)
        answer = link.recv(512)
        got = time.time()
    if len(answer) < 48 or answer[0] & 7 != 4 or answer[24:32] != mine:
        raise ValueError("an answer that is none")
    if answer[0] >> 6 == 3 or not 1 <= answer[1] <= 15:
        raise ValueError("the server does not know the time itself")
    received, transmitted = (_seconds(answer[at : at + 8]) for at in (32, 40))
    return ((received - sent) + (transmitted - got)) / 2


def _seconds(stamp: bytes) -> float:
    whole, fraction = struct.unpack(">II", stamp)
    return float(whole - _NTP_EPOCH + fraction / (1 << 32) + (1 << 32 if whole < 1 << 31 else 0))
