"""An EST server (RFC 7030) for the tests, on cryptography and the standard library: it issues, and it misbehaves on
request. Nothing in it is shared with the unit's client."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**bits: bool) -> x509.KeyUsage:
    every = dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), False) | bits
    every |= dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    return x509.KeyUsage(**every, encipher_only=False, decipher_only=False)


class Authority:
    """A root, or with `above` an intermediate; its key is on P-256, or with `bits` RSA's.

    purpose: what it may issue for, None: anything."""

    def __init__(
        self,
        name: str,
        above: Authority | None = None,
        years: int = 10,
        bits: int | None = None,
        purpose: x509.ObjectIdentifier | None = None,
    ) -> None:
        self.name = _name(name)
        self.key: Any = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        self.years = years
        self.purpose = purpose
        self.certificate = (above or self).certify(self)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    def certify(self, other: Authority) -> x509.Certificate:
        """Another authority's key, or its own."""
        days = (-1.0, 365.0 * other.years)
        public = other.key.public_key()
        return self.sign(other.name, public, days, usage=_usage(key_cert_sign=True), ca=True, purpose=other.purpose)

    def sign(
        self,
        subject: x509.Name,
        key: Any,
        days: tuple[float, float] = (-1, 90),
        names: x509.SubjectAlternativeName | None = None,
        usage: x509.KeyUsage | None = None,
        ca: bool = False,
        purpose: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage or _usage(digital_signature=True), critical=True)
            # Without these OpenSSL cannot tell two roots of one name apart.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def identity(
        self, name: str, host: bool = False, days: tuple[float, float] = (-1, 90)
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate for a server of this name, or for a unit with the names that units ask for."""
        key = ec.generate_private_key(ec.SECP256R1())
        found: list[x509.GeneralName] = [x509.DNSName(name)]
        if not host:
            found.insert(0, x509.UniformResourceIdentifier(f"urn:dev:kobler:{name}"))
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        names = x509.SubjectAlternativeName(found)
        return self.sign(_name(name), key.public_key(), days, names, purpose=purpose), key


def key_bytes(key: ec.EllipticCurvePrivateKey, encoding: serialization.Encoding = DER) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def certs_only(*certificates: x509.Certificate) -> bytes:
    return pkcs7.serialize_certificates(list(certificates), DER)


@dataclass
class Answer:
    """What goes back. `wait`: seconds before it does; `length`: whether it says how long it is."""

    status: int = 200
    body: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    length: bool = True


def answer(der: bytes, kind: str = "application/pkcs7-mime; smime-type=certs-only", width: int = 64) -> Answer:
    """`der` as EST has it: base64, in lines, under this type."""
    text = base64.b64encode(der).decode()
    lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    return Answer(200, lines.encode() + b"\r\n", {"Content-Type": kind, "Content-Transfer-Encoding": "base64"})


Request = x509.CertificateSigningRequest
Step = Callable[["EstServer", "Seen", Request | None], Answer]


@dataclass
class Seen:
    """One request as it came. `client`: the common name in the certificate that was shown."""

    operation: str
    method: str
    client: str | None
    secret: str | None
    body: bytes
    fields: dict[str, str]


class EstServer:
    """`script`, by operation: steps that are taken one after the other instead of what is right; the last one stays.

    `users`: user:password, each good for one certificate. `attributes`: of /csrattrs, None: it answers 204."""

    label = "unit"

    def __init__(self, issuer: Authority, root: Authority, folder: Path, host: str = "localhost") -> None:
        self.issuer, self.root = issuer, root
        self.clients = [root]
        self.users: set[str] = set()
        self.attributes: bytes | None = None
        self.cacerts = [root.certificate] + ([issuer.certificate] if issuer is not root else [])
        self.days = (-1.0, 90.0)
        self.script: dict[str, list[Step]] = {}
        self.seen: list[Seen] = []
        self.issued: list[x509.Certificate] = []
        self._folder = folder
        self._server = _Http(("127.0.0.1", 0), _Handler)
        self._server.est = self
        self.tls(issuer, host)
        self._server.socket = self._context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """As the unit's configuration has it."""
        return f"https://localhost:{self.port}/.well-known/est/{self.label}"

    def tls(self, issuer: Authority, host: str = "localhost") -> None:
        """What it shows, and whose clients it takes."""
        certificate, key = issuer.identity(host, host=True)
        path = self._folder / "est.pem"
        chain = [certificate] + ([issuer.certificate] if issuer is not self.root else [])
        path.write_bytes(b"".join([one.public_bytes(PEM) for one in chain]) + key_bytes(key, PEM))
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.verify_mode = ssl.CERT_OPTIONAL
        for one in self.clients:  # roots: a client shows what lies between
            context.load_verify_locations(cadata=one.certificate.public_bytes(PEM).decode())

    def operations(self) -> list[str]:
        """What was asked since the last call."""
        found = [one.operation for one in self.seen]
        self.seen.clear()
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what is right

    def answer(self, seen: Seen) -> Answer:
        request = None
        if seen.body:
            try:
                request = x509.load_der_x509_csr(base64.b64decode(seen.body))
            except ValueError:
                return Answer(400, b"not a certificate request")
        steps = self.script.get(seen.operation, [])
        if steps:
            return (steps.pop(0) if len(steps) > 1 else steps[0])(self, seen, request)
        return proper(self, seen, request)

    def issue(self, request: Request, **changes: Any) -> x509.Certificate:
        """As the request wants it, but for the changes."""
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = None
        wanted: dict[str, Any] = {"subject": request.subject, "key": request.public_key(), "names": names}
        wanted |= {"days": self.days, "purpose": ExtendedKeyUsageOID.CLIENT_AUTH} | changes
        issued = changes.get("by", self.issuer)
        wanted.pop("by", None)
        found: x509.Certificate = issued.sign(**wanted)
        self.issued.append(found)
        return found


def proper(server: EstServer, seen: Seen, request: Request | None) -> Answer:
    """What RFC 7030 wants."""
    if seen.operation == "cacerts":
        return answer(certs_only(*server.cacerts))
    if seen.operation == "csrattrs":
        return Answer(204) if server.attributes is None else answer(server.attributes, "application/csrattrs")
    if request is None or seen.fields.get("content-type") != "application/pkcs10" or not request.is_signature_valid:
        return Answer(400, b"not a certificate request", {"Content-Type": "text/plain"})
    if seen.operation == "simpleenroll":
        if seen.secret in server.users:
            server.users.discard(seen.secret)
        elif seen.client is None:
            return Answer(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="est"', "Content-Type": "text/plain"})
    elif [seen.client] != [one.value for one in request.subject]:
        return Answer(403, b"show the certificate that is to be renewed", {"Content-Type": "text/plain"})
    return answer(certs_only(server.issue(request)))


def says(status: int, body: bytes = b"", **fields: str) -> Step:
    """A step that answers so, whatever was asked; `_` in a field's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda server, seen, request: Answer(status, body, dict(named))


def issues(**changes: Any) -> Step:
    """A step that issues something else than was asked for."""

    def step(server: EstServer, seen: Seen, request: Request | None) -> Answer:
        assert request is not None
        made = {name: value(server, request) if callable(value) else value for name, value in changes.items()}
        return answer(certs_only(server.issue(request, **made)))

    return step


class _Http(ThreadingHTTPServer):
    est: EstServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who refuses the server's certificate says so himself


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        est = self.server.est
        path, _, operation = self.path.rpartition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        channel = self.connection
        assert isinstance(channel, ssl.SSLSocket)
        subject: Any = (channel.getpeercert() or {}).get("subject", ())
        client = next((value for part in subject for kind, value in part if kind == "commonName"), None)
        given = self.headers.get("Authorization", "")
        secret = base64.b64decode(given[6:]).decode() if given.startswith("Basic ") else None
        fields = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(operation, self.command, client, secret, body, fields)
        method = "GET" if operation in ("cacerts", "csrattrs") else "POST"
        if path != f"/.well-known/est/{est.label}":
            found = Answer(404)
        elif self.command != method:
            found = Answer(405)
        else:
            est.seen.append(seen)
            found = est.answer(seen)
        time.sleep(found.wait)
        self.send_response(found.status)
        for name, value in found.fields.items():
            self.send_header(name, value)
        if found.length:
            self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        self.wfile.write(found.body)
        channel.settimeout(0.2)
        with contextlib.suppress(OSError):
            channel.unwrap()
        self.close_connection = True

    do_GET = do_POST = _serve


@contextlib.contextmanager
def running(issuer: Authority, root: Authority, folder: Path) -> Iterator[EstServer]:
    server = EstServer(issuer, root, folder)
    try:
        yield server
    finally:
        server.close()
