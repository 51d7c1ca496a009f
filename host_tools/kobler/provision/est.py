"""An authority that speaks EST (RFC 7030, RFC 8951), asked by this computer on behalf of the unit at the cable.

The unit can do the same itself (coupler/trust/est.py); this is for a bench where it has no network of its own. What
came is kept in a file before the unit gets it: a one-time secret is good for one certificate.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import email.utils
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from ..errors import KoblerError, UsageError
from ..pki import certificates, files, requests
from .external import answer, read_certificates
from .steps import Progress

_SECONDS = 30.0  # for each step of a request,
_IN_ALL = 60.0  # and for all of it
_PATIENCE = 30.0  # for a certificate that is pending; the unit's console is held meanwhile
_LEAST_PAUSE = 1.0
_PENDING = 30.0  # where the server does not say
_LIMIT = 1 << 16  # bytes of an answer
_WORDS = 120  # characters of a refusal


@dataclass(frozen=True)
class Access:
    """How to get in: `url` up to the label ("": only the unit knows it), the roots that the server is verified by, and
    a one-time secret (user:password), the PEM file of a registration authority (certificate and key), or neither."""

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


class EstAuthority:
    """One EST server. What it gave is in `folder`, a file for each certificate and its chain."""

    keep = True

    def __init__(self, access: Access, folder: Path, say: Progress) -> None:
        self._access, self._folder, self._say = access, folder, say
        self._roots = read_certificates(access.roots)
        self._context = self._tls()

    def certify(self, csr_der: bytes, unit_id: str) -> requests.Answer:
        """Ask the server, unless it has answered this request before."""
        key = requests.key_of(csr_der, unit_id)
        given = next((one for one in self.of_unit(unit_id) if one.public_key() == key), None)
        if given is not None:
            self._say("it was issued before")
            return self.with_chain(files.certificate_der(given))
        came = self.authorities() + self._enroll(csr_der, unit_id)
        found = self._answer(came, key, unit_id)
        chain = [x509.load_der_x509_certificate(one) for one in (found.certificate, *found.chain)]
        files.write_public(self._path(unit_id, chain[0]), b"".join(map(files.certificate_pem, chain)))
        return found

    def of_unit(self, unit_id: str) -> list[x509.Certificate]:
        """What it gave to this unit and was not taken back, oldest first."""
        found = [read_certificates(path)[0] for path in sorted((self._folder / unit_id).glob("*.pem"))]
        return sorted(found, key=lambda one: one.not_valid_before_utc)

    def with_chain(self, certificate: bytes) -> requests.Answer:
        """One of `of_unit`'s, with all that the unit is to have."""
        leaf = x509.load_der_x509_certificate(certificate)
        unit_id = certificates.common_name(leaf.subject)
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._answer(read_certificates(self._path(unit_id, leaf)), key, unit_id)

    def revoke(self, what: str, reason: str = "unspecified") -> None:
        """EST has no way to do it: only what is here is put away."""
        for path in self._folder.glob(f"*/{what}.pem"):
            path.rename(path.with_suffix(".void"))
        self._say(f"EST cannot revoke: have the certificate {what} revoked at {self._access.url} ({reason})")

    def authorities(self) -> list[x509.Certificate]:
        """Its authorities' certificates (RFC 7030, 4.1)."""
        return _certificates(self._ask("GET", "cacerts"), "cacerts")

    def names(self) -> list[str]:
        """Its authorities, for people."""
        found = [one.subject.rfc4514_string() for one in self.authorities()]
        return [name.removeprefix("CN=") for name in found]

    def _answer(
        self, came: Sequence[x509.Certificate], key: ec.EllipticCurvePublicKey, unit_id: str
    ) -> requests.Answer:
        # A root counts because it was given here, not because it came along.
        others = [one for one in came if one not in self._roots and one.issuer != one.subject]
        try:
            found = answer([*self._roots, *others], key, unit_id)
        except KoblerError as error:
            raise KoblerError(f"the EST server's certificate is of no use: {error}") from None
        return requests.Answer(found.certificate, found.chain, b"".join(map(files.certificate_der, self._roots)))

    def _path(self, unit_id: str, certificate: x509.Certificate) -> Path:
        return self._folder / unit_id / f"{certificates.serial(certificate)}.pem"

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=roots_der(self._access.roots))
        identity = self._access.identity
        if identity is not None:
            remedy = "name a PEM file with a certificate and its key, not encrypted"
            files.read(identity, remedy)
            try:
                context.load_cert_chain(identity, password="")
            except (ssl.SSLError, ValueError):
                raise UsageError(f"{identity} is no identity for TLS: {remedy}") from None
        return context

    def _enroll(self, csr_der: bytes, unit_id: str) -> list[x509.Certificate]:
        until = time.monotonic() + _PATIENCE
        while True:
            found = self._ask("POST", "simpleenroll", base64.encodebytes(csr_der))
            if not isinstance(found, float):
                return _certificates(found, "simpleenroll")
            if time.monotonic() + found > until:
                raise KoblerError(
                    f"the EST server has the request of unit {unit_id} and wants {found:.0f} s: run the same command "
                    f"again then; the key waits on the unit"
                )
            self._say(f"the EST server wants {found:.0f} s")
            time.sleep(found)

    def _ask(self, method: str, operation: str, body: bytes | None = None) -> bytes | float:
        # -> the answer's content, or the seconds that it is to take
        parts = urlsplit(f"{self._access.url}/{operation}")
        where = f"the EST server at {parts.netloc}"
        fields = {"User-Agent": "kobler"}
        if body is not None:
            # RFC 8951, 3: nobody may rely on the second one, but servers of before do.
            fields |= {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
            if self._access.secret:
                fields["Authorization"] = "Basic " + base64.b64encode(self._access.secret.encode()).decode()
        assert parts.hostname and parts.port
        line = http.client.HTTPConnection(parts.netloc)
        try:
            plain = socket.create_connection((parts.hostname, parts.port), _SECONDS)
            line.sock = channel = self._context.wrap_socket(
                plain, server_hostname=parts.hostname, do_handshake_on_connect=False
            )
            with _limited(channel):
                channel.do_handshake()
                line.request(method, parts.path, body, fields)
                reply = line.getresponse()
                data = reply.read(_LIMIT + 1)
        except ssl.SSLCertVerificationError as error:
            raise KoblerError(f"{where} cannot be trusted: {error.verify_message} (see --est-roots)") from None
        except OSError as error:
            raise KoblerError(f"{where} does not answer {operation}: {error}") from None
        except http.client.HTTPException as error:  # its words are the server's
            raise KoblerError(f"{where} does not answer {operation} as HTTP does: {type(error).__name__}") from None
        finally:
            line.close()
        if reply.status == 202 and body is not None:
            return max(_LEAST_PAUSE, _seconds(reply.getheader("Retry-After")))
        if reply.status != 200:
            words = "" if 300 <= reply.status < 400 else self._words(reply.getheader("Content-Type", ""), data)
            raise KoblerError(f"{where} answered {operation} with {reply.status}{words}")
        if len(data) > _LIMIT:
            raise KoblerError(f"{where} answered {operation} with more than {_LIMIT} bytes")
        return data

    def _words(self, kind: str, data: bytes) -> str:
        # What a server says of a secret could repeat it.
        text = "".join(c if c.isprintable() else " " for c in data[:_WORDS].decode("ascii", "replace")).strip()
        return f": {text}" if text and kind.startswith("text/plain") and not self._access.secret else ""


@contextlib.contextmanager
def _limited(channel: ssl.SSLSocket) -> Iterator[None]:
    # Each byte may come in time, and the last one never.
    def cut() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(channel, socket.SHUT_RDWR)  # below TLS, in which a thread is at work

    timer = threading.Timer(_IN_ALL, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _certificates(data: bytes | float, operation: str) -> list[x509.Certificate]:
    assert isinstance(data, bytes)
    try:
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(b"".join(data.split()), validate=True))
        for one in found:
            _ = one.extensions
        return found
    except certificates.MALFORMED as error:
        raise KoblerError(f"the EST server's answer to {operation} has no certificates in it ({error})") from None


def _seconds(text: str | None) -> float:
    # Retry-After (RFC 9110, 10.2.3)
    try:
        if text is None:
            return _PENDING
        if text.strip().isdecimal():
            return float(text)
        return (email.utils.parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()
    except (ValueError, TypeError):
        return _PENDING
