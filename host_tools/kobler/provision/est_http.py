"""One request to an EST server, and what its answer means (RFC 7030, 3.2 and 4.2.3)."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import email.utils
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import KoblerError, UsageError
from ..pki import files
from .external import read_certificates

_SECONDS = 30.0  # for each step of a request,
_IN_ALL = 60.0  # and for all of it
_LEAST_PAUSE = 1.0
_PENDING = 30.0  # where the server does not say
_LIMIT = 1 << 16  # bytes of an answer
_WORDS = 120  # characters of a refusal
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?=\s+[^\s=,]|\s*(?:,|$))")  # RFC 9110, 11.6.1


@dataclass(frozen=True)
class Access:
    """How to get in: `url` up to the label ("": only the unit knows it), the roots that the server is verified by, and
    a one-time secret (user:password), the PEM file of a registration authority (certificate and key), both or neither.
    """

    url: str
    roots: Path
    secret: str | None = None
    identity: Path | None = None


def check_secret(text: str) -> str:
    """What HTTP Basic can carry (RFC 7617): user:password in printable ASCII. UsageError does not show it."""
    if ":" not in text or not text.isascii() or not text.isprintable():
        raise UsageError("the EST secret is not user:password in printable ASCII")
    return text


def roots_der(path: Path) -> bytes:
    """The certificates in a file (PEM or DER), DER, one behind the other."""
    return b"".join(files.certificate_der(one) for one in read_certificates(path))


class Server:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_verify_locations(cadata=roots_der(access.roots))
        if access.identity is not None:
            remedy = "name a PEM file with a certificate and its key, not encrypted"
            files.read(access.identity, remedy)
            try:
                self._context.load_cert_chain(access.identity, password="")
            except (ssl.SSLError, ValueError):
                raise UsageError(f"{access.identity} is no identity for TLS: {remedy}") from None

    def ask(self, operation: str, request: bytes | None = None) -> bytes | float:
        """-> what is in the answer, or the seconds that it is to take (202). `request`: DER; the secret goes with it.

        KoblerError says why there is no answer, and what to do."""
        parts = urlsplit(f"{self._access.url}/{operation}")
        where = f"the EST server at {parts.netloc}"
        assert parts.hostname and parts.port
        line, plain = http.client.HTTPConnection(parts.netloc), None
        try:
            plain = socket.create_connection((parts.hostname, parts.port), _SECONDS)
            line.sock = channel = self._context.wrap_socket(
                plain, server_hostname=parts.hostname, do_handshake_on_connect=False
            )
            with _limited(channel):
                channel.do_handshake()
                self._send(line, parts.path, request)
                reply = line.getresponse()
                if reply.status == 202 and request is not None:
                    # Its body is nobody's concern, and need not have an end.
                    pause = _seconds(reply)
                    return max(_LEAST_PAUSE, _PENDING if pause is None else pause)
                if reply.status != 200:
                    why = self._why(reply, request is not None)
                    raise KoblerError(f"{where} answered {operation} with {reply.status}{why}")
                data = reply.read(_LIMIT + 1)
        except ssl.SSLCertVerificationError as error:
            raise KoblerError(f"{where} cannot be trusted: {error.verify_message} (see --est-roots)") from None
        except OSError as error:
            raise KoblerError(
                f"{where} does not answer {operation}: {error}{self._hint(error) if plain else ''}"
            ) from None
        except http.client.HTTPException as error:  # its words are the server's
            raise KoblerError(f"{where} does not answer {operation} as HTTP does: {type(error).__name__}") from None
        finally:
            line.close()
        if len(data) > _LIMIT:
            raise KoblerError(f"{where} answered {operation} with more than {_LIMIT} bytes")
        return data

    def _send(self, line: http.client.HTTPConnection, path: str, request: bytes | None) -> None:
        fields = {"User-Agent": "kobler", "Connection": "close"}
        if request is None:
            return line.request("GET", path, headers=fields)
        # RFC 8951, 3: nobody may rely on the second one, but servers of before do.
        fields |= {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        if self._access.secret:
            fields["Authorization"] = "Basic " + base64.b64encode(self._access.secret.encode()).decode()
        line.request("POST", path, base64.encodebytes(request), fields)

    def _hint(self, error: OSError) -> str:
        # In TLS 1.3 a server finds out that it misses a certificate when the client's side of the handshake is over.
        hung_up = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        reason = getattr(error, "reason", None) or ""
        if self._access.identity:
            unknown = hung_up or "UNKNOWN_CA" in reason
            return "; does the file of --est-identity have the intermediates, too?" if unknown else ""
        return "; it may want a certificate (--est-identity)" if hung_up or "ALERT" in reason else ""

    def _why(self, reply: http.client.HTTPResponse, asked: bool) -> str:
        if reply.status == 401:
            return ": " + self._unknown(reply, asked)
        words = again = ""
        # What a server says of a secret could repeat it.
        plain = reply.getheader("Content-Type", "").startswith("text/plain")
        if plain and not self._access.secret and not 300 <= reply.status < 400:
            said = reply.read1(_WORDS).decode("ascii", "replace")
            words = "".join(c if c.isprintable() else " " for c in said).strip()
        if reply.status in (429, 503) and (pause := _seconds(reply)) is not None:
            again = f"try again in {max(0, pause):.0f} s"
        return "".join(f": {text}" for text in (words, again) if text)

    def _unknown(self, reply: http.client.HTTPResponse, asked: bool) -> str:
        schemes = _SCHEME.findall(", ".join(reply.headers.get_all("WWW-Authenticate", [])))
        if schemes and "basic" not in [one.lower() for one in schemes]:
            wanted = ", ".join(schemes[:3])
            return f"it asks for HTTP {wanted}, here is only Basic: have it take that, or show it --est-identity"
        if asked and self._access.secret:
            return "is the secret wrong, or was it used before?"
        also = "a secret, too, or another certificate" if self._access.identity else "a secret or a certificate"
        return f"it wants {also} (KOBLER_EST_SECRET, --est-identity)"


@contextlib.contextmanager
def _limited(channel: ssl.SSLSocket) -> Iterator[None]:
    # Each byte may come in time, and the last one never.
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(channel, socket.SHUT_RDWR)  # below TLS, in which a thread is at work

    timer = threading.Timer(_IN_ALL, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError(f"not done after {_IN_ALL:.0f} s") from None
        raise
    finally:
        timer.cancel()


def _seconds(reply: http.client.HTTPResponse) -> float | None:
    # Retry-After (RFC 9110, 10.2.3); None: it does not say
    text = reply.getheader("Retry-After", "").strip()
    with contextlib.suppress(ValueError, TypeError):
        if text.isdecimal():
            return float(text)
        return (email.utils.parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()
    return None
