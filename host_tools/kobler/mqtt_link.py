"""The way from the host to a broker: TCP, TLS with a client certificate, and the coupler's own WebSocket codec.

It goes up in steps (resolve, tcp, tls, upgrade), so that `kobler doctor` can tell which one fails; once up it is the
socket that minimqtt reads and writes. Every step is bounded by `timeout` seconds.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import KoblerError, UsageError
from .pki import files
from .resources import firmware_dir

# What OpenSSL calls a key of other numbers, and one of another kind.
_NOT_ITS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class LinkError(KoblerError):
    """One step failed: what happened, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class Endpoint:
    """A broker's URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """From `wss://HOST[:PORT][/PATH]` or `mqtts://HOST[:PORT]`. Raises UsageError."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(
                f"{url!r} is no URL ({error}): give wss://HOST[:PORT]/mqtt or mqtts://HOST[:PORT]"
            ) from None
        if parts.scheme not in ("wss", "mqtts") or not host:
            raise UsageError(f"{url!r} is no broker's URL: give wss://HOST[:PORT]/mqtt or mqtts://HOST[:PORT]")
        secure_web = parts.scheme == "wss"
        path = (parts.path or "/mqtt") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or (443 if secure_web else 8883), path if secure_web else "")

    @property
    def url(self) -> str:
        """The URL again, the port always in it."""
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Credentials:
    """PEM files: whom to trust, and who we are. Without `ca`, this computer's own trust store."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, state: Path, name: str, ca: Path | None, cert: Path | None, key: Path | None) -> Credentials:
        """What is named; for the rest, what the authority in the state folder issues to the client `name`."""
        if (cert is None) != (key is None):
            raise UsageError("--cert and --key go together")
        if (state / "pki" / "ca.pem").exists() and (ca is None or cert is None):
            from .pki import Authority

            authority = Authority.open(state / "pki")
            if cert is None:
                issued = authority.issue_client(name)
                cert, key = issued.cert_pem, issued.key_pem
            ca = ca or authority.ca_pem
        return cls(ca, cert, key)

    def context(self) -> ssl.SSLContext:
        """Raises KoblerError naming the file that is not good."""
        if self.ca is not None:
            files.read(self.ca, "name another")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise KoblerError(f"{self.ca} is not a certificate authority's PEM file ({error}); name another") from None
        if self.cert is not None:
            self._load(context, self.cert, self.key or self.cert)
        return context

    def _load(self, context: ssl.SSLContext, cert: Path, key: Path) -> None:
        # Read by ourselves first: OpenSSL does not say which file it means, and asks the terminal for a password.
        remedy = "make both with `kobler pki issue NAME`"
        files.read_certificate(cert, remedy)
        files.read_any_key(key, remedy)
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            if getattr(error, "reason", None) in _NOT_ITS_KEY:
                raise KoblerError(f"{key} is not the key of the certificate {cert}; {remedy}") from None
            raise KoblerError(f"{cert} with {key} cannot be used for TLS ({error}); {remedy}") from None


class Link:
    """The way to a broker; see the module's text. Also the socket that minimqtt uses."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials, timeout: float = 10.0) -> None:
        self.endpoint, self.timeout = endpoint, timeout
        self._context = credentials.context()
        self._addresses: list[tuple[Any, ...]] = []
        self._socket: socket.socket | None = None
        self._codec: Any = None
        self._inbox = bytearray()
        self._closed: str | None = None
        self._late = False

    def resolve(self) -> list[str]:
        """The addresses of the broker's name."""
        host = self.endpoint.host
        try:
            self._addresses = look_up(host, self.endpoint.port, self.timeout)
        except (OSError, UnicodeError) as error:
            raise LinkError(
                f"{host} has no address ({error})", "check the name and this network's DNS servers"
            ) from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in self._addresses))

    def tcp(self) -> str:
        """Connect to the first address that answers, which is returned."""
        reasons = []
        for family, kind, protocol, _, address in self._addresses:
            found = socket.socket(family, kind, protocol)
            found.settimeout(self.timeout)
            try:
                found.connect(address)
            except OSError as error:
                found.close()
                reasons.append(f"{address[0]}: {error}")
                continue
            # minimqtt writes a packet in pieces; with Nagle's algorithm each would wait for an
            # acknowledgement.
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = found
            return str(address[0])
        port = self.endpoint.port
        raise LinkError(
            f"nothing answers on TCP port {port} ({'; '.join(reasons)})",
            f"is the broker running? does the firewall let TCP port {port} out to {self.endpoint.host}?",
        )

    def tls(self) -> tuple[str, dict[str, Any]]:
        """Handshake; returns the protocol version and the broker's verified certificate."""
        assert self._socket is not None
        try:
            with self._deadline():
                secure = self._context.wrap_socket(self._socket, server_hostname=self.endpoint.host)
        except ssl.SSLCertVerificationError as error:
            raise _distrust(error, self.endpoint) from None
        except (OSError, ValueError) as error:
            raise self._refusal(error) from None
        self._socket = secure
        return str(secure.version()), dict(secure.getpeercert() or {})

    def upgrade(self) -> None:
        """From HTTP to WebSocket; nothing to do for mqtts."""
        if self.endpoint.scheme == "mqtts":
            return
        websocket = _coupler("websocket")
        host = f"[{self.endpoint.host}]" if ":" in self.endpoint.host else self.endpoint.host
        codec = websocket.WebSocket(f"{host}:{self.endpoint.port}", self.endpoint.path, "mqtt", os.urandom, 1 << 22)
        assert self._socket is not None
        try:
            with self._deadline():
                self._socket.sendall(codec.request())
                self._codec = codec
                while codec.state == websocket.CONNECTING and self._closed is None:
                    self._receive()
        except protocol_error() as error:
            text = f"no WebSocket at {self.endpoint.path} ({error})"
            raise LinkError(text, http_remedy(str(error), self.endpoint.host, self.endpoint.port)) from None
        except OSError as error:
            raise self._refusal(error) from None
        if self._late:
            raise self._refusal(TimeoutError())
        if self._closed is not None:
            # With TLS 1.3 a broker judges our certificate after our side of the handshake is done.
            raise LinkError(
                "the broker hung up right behind the TLS handshake",
                "most likely it refused our certificate, or we have none: `kobler pki issue NAME` makes one",
            )

    def open(self) -> None:
        """All steps."""
        self.resolve()
        self.tcp()
        self.tls()
        self.upgrade()

    # What minimqtt calls; `connect` comes when the link has been up for long.

    def settimeout(self, seconds: float) -> None:
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def connect(self, _address: object) -> None:
        return

    def send(self, data: bytes) -> int:
        if self._socket is None or self._closed is not None:
            raise ConnectionResetError(f"the broker hung up ({self._closed})")
        self._socket.sendall(self._codec.send(data) if self._codec else data)
        return len(data)

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0) -> int:
        """As socket.recv_into, except that the end of the connection is an OSError: minimqtt spins on 0."""
        while not self._inbox:
            if self._closed is not None:
                raise ConnectionResetError(f"the broker hung up ({self._closed})")
            self._receive()
        count = min(size or len(buffer), len(self._inbox))
        buffer[:count] = self._inbox[:count]
        del self._inbox[:count]
        return count

    def close(self) -> None:
        """Say goodbye if that is still possible, and drop the connection."""
        found, self._socket = self._socket, None
        if found is None:
            return
        try:
            found.settimeout(1.0)
            if self._codec is not None and (farewell := self._codec.close()):
                found.sendall(farewell)
        except OSError:
            self._closed = self._closed or "broken"
        finally:
            found.close()

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        # A socket's own timeout begins anew with each byte that a slow peer sends.
        def cut() -> None:
            self._late = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # it is closed

        timer = threading.Timer(self.timeout, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _refusal(self, error: Exception) -> LinkError:
        text = str(getattr(error, "reason", None) or error).replace("_", " ").lower()
        host, port = self.endpoint.host, self.endpoint.port
        if self._late or isinstance(error, TimeoutError):
            return LinkError(
                "no answer in time",
                "something in between swallows the connection, a firewall or a proxy: ask the site's IT to let "
                f"TCP port {port} pass to {host} unchanged",
            )
        if "alert" in text or "certificate" in text:
            return LinkError(
                f"the broker refused our certificate ({text})",
                "use one of its own authority: `kobler pki issue NAME`",
            )
        return LinkError(f"no TLS there ({text})", "check the port; a firewall that inspects TLS also looks like this")

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            self._closed = self._closed or "without a reason"
        elif self._codec is None:
            self._inbox += data
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        websocket = _coupler("websocket")
        assert self._socket is not None
        for kind, piece, _last in self._codec.receive(data):
            if kind == websocket.BINARY:
                self._inbox += piece
            elif kind == websocket.REPLY:
                self._socket.sendall(piece)
            elif kind == websocket.CLOSE:
                reason = bytes(piece).decode(errors="replace") or f"code {self._codec.close_code}"
                self._closed = reason


def protocol_error() -> type[Exception]:
    """What the coupler's codec raises where a peer breaks the protocol."""
    found: type[Exception] = _coupler("errors").ProtocolError
    return found


def _coupler(name: str) -> Any:
    """A module of the firmware's uplink: the same source that runs on the coupler."""
    import importlib

    folder = str(firmware_dir())
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"coupler.uplink.{name}")


def _distrust(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> LinkError:
    # OpenSSL's X509_V_ERR_* numbers.
    code = error.verify_code
    if code in (9, 10):
        text = "is not valid yet" if code == 9 else "has expired"
        return LinkError(
            f"the broker's certificate {text}", "check this computer's clock, then the certificate's dates"
        )
    if code in (62, 64):
        return LinkError(
            f"the broker's certificate is not for {endpoint.host} ({error.verify_message})",
            "use the name that is in the certificate, or give the broker one for this name",
        )
    return LinkError(
        f"the broker's certificate is not from a trusted authority ({error.verify_message})",
        "name the folder of the broker's authority with --state, or try its CA with `kobler doctor --ca FILE`; "
        "if that is the right one, something in between breaks TLS open",
    )


def http_remedy(said: str, host: str, port: int) -> str:
    """What to do about a server that did not upgrade to a WebSocket; `said`: an error that may hold `HTTP STATUS`."""
    found = re.search(r"HTTP (\d{3})", said)
    status = int(found[1]) if found else 0
    around = f"ask the site's IT to let TCP port {port} pass to {host} without the proxy"
    if status == 407:
        return f"a proxy wants a name and a password, which a coupler has not: {around}"
    if status == 404:
        return "check the path in the broker's URL: nothing speaks MQTT there"
    if status in (401, 403):
        return f"whoever runs the broker does not let this certificate in; or it is a proxy that refuses: {around}"
    if status in (502, 503, 504):
        return "the broker behind this server does not run: ask whoever runs it"
    return f"check the URL's path; or a proxy stands between: {around}"


def look_up(host: str, port: int, timeout: float, kind: int = socket.SOCK_STREAM) -> list[tuple[Any, ...]]:
    """As socket.getaddrinfo, within `timeout` seconds; TimeoutError."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=kind))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if not found:
        raise TimeoutError(f"the DNS servers have not answered in {timeout:.0f} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return list(found[0])
