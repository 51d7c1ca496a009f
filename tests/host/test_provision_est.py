"""`kobler provision --est`: an EST server is the authority, asked from the computer at the cable or by the unit itself,
with the virtual board, the real MicroPython and a server that keeps to RFC 7030 and, on request, does not."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import itertools
import json
import random
import re
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shown
from board_at_port import IDENTITY, SITE, Unit, invoke, private_key, unit
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from est_server import DER, PEM, Answer, Authority, EstServer, answer, certs_only, issues, key_bytes, running, says
from kobler.build import Build
from kobler.errors import KoblerError, UsageError
from kobler.pki import certificates, secret
from kobler.provision import certs_only as certs_only_reader
from kobler.provision import est_cli, est_http, steps
from kobler.provision.est import EstAuthority
from kobler.provision.est_http import Access
from time_server import Ntp, time_now

sys.path.insert(0, str(Path(__file__).parents[1] / "board"))
from leaks import leaks

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

SECRET = "line-7:Tr1cky and long"
EST = """ntp = ["{ntp}"]
[est]
url = "https://localhost:{port}"
label = "unit"
"""


class Place:
    """An EST server, and what a technician has of it."""

    def __init__(self, folder: Path, server: EstServer, ntp: str) -> None:
        self.folder, self.server = folder, server
        self.state = folder / "state"
        self.site = folder / "site.toml"
        self.site.write_text(SITE + EST.format(port=server.port, ntp=ntp))
        self.roots = folder / "roots.pem"
        self.trust(server.root)

    def trust(self, *roots: Authority) -> None:
        self.roots.write_bytes(b"".join(one.certificate.public_bytes(PEM) for one in roots))

    def authority(self, secret: str | None = SECRET, identity: Path | None = None) -> EstAuthority:
        return EstAuthority(Access(self.server.url, self.roots, secret, identity), self.state / "est", print)

    def kept(self) -> list[str]:
        """The kinds of files with what the server gave."""
        return sorted(path.suffix for path in self.state.rglob("*") if path.is_file())

    def identity(self, name: str) -> Path:
        """A file with certificate and key for this name."""
        certificate, key = self.server.issuer.identity(name)
        path = self.folder / f"{name}.pem"
        chain = certificate.public_bytes(PEM) + self.server.issuer.certificate.public_bytes(PEM)
        path.write_bytes(chain + key_bytes(key, PEM))
        return path

    def provision(self, it: Unit, way: str, *more: str) -> Any:
        arguments = ("--port", it.board.usb_url, "--config", str(self.site), "--state", str(self.state))
        return invoke(*arguments, "--est", way, "--est-roots", str(self.roots), "--json", *more)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv(secret.EST, SECRET)
    root = Authority("Root")
    time_server = Ntp(lambda request: [time_now(request)])
    try:
        with running(Authority("Issuer", root), root, tmp_path) as server:
            server.users = {SECRET}
            yield Place(tmp_path, server, time_server.name)
    finally:
        time_server.close()


def has(it: Unit, place: Place) -> x509.Certificate:
    """The certificate that the unit has from this server; key and roots belong to it."""
    files = it.files()
    assert sorted(files) == sorted(IDENTITY)
    certificate, *between = shown.certificates(files["cert.der"])
    assert between == [place.server.issuer.certificate]
    certificate.verify_directly_issued_by(place.server.issuer.certificate)
    assert certificate.public_key() == private_key(files["key.der"]).public_key()
    assert certificate.subject.rfc4514_string() == f"CN={it.board.mac.hex()}"
    assert files["ca.der"] == place.server.root.der
    return certificate


def test_the_certificate_is_asked_for_from_here(shared: Unit, place: Place) -> None:
    start = len(shared.wire)
    done = place.provision(shared, "here")
    assert done.exit_code == 0, done.output + done.stderr
    assert place.server.operations() == ["cacerts", "simpleenroll"] and not place.server.users
    certificate = has(shared, place)
    assert certificate == place.server.issued[0]
    assert json.loads(done.stdout)["fingerprint"] == certificate.fingerprint(certificate.signature_hash_algorithm).hex()
    password = SECRET.partition(":")[2].encode()
    image = shared.board.flash.read(0, shared.board.flash.size)
    assert leaks(password, [bytes(shared.wire[start:]), done.output.encode(), done.stderr.encode(), image]) == []


def test_what_came_is_not_asked_for_twice(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def fails(*_: Any) -> Any:
            raise KoblerError("the cable was pulled")

        patch.setattr(steps, "install", fails)
        done = place.provision(shared, "here")
        assert "the cable was pulled" in str(done.exception)
    done = place.provision(shared, "here")
    assert done.exit_code == 0 and "it was issued before" in done.stderr
    assert place.server.operations() == ["cacerts", "simpleenroll"], "the secret was good for one"
    assert has(shared, place) == place.server.issued[0]


def test_not_yet_is_waited_for_a_while_and_else_the_key_waits(shared: Unit, place: Place) -> None:
    seen: list[bytes] = []

    def pending(seconds: str) -> Any:
        def step(server: EstServer, one: Any, request: Any) -> Answer:
            seen.append(one.body)
            return Answer(202, b"", {"Retry-After": seconds})

        return step

    def right(server: EstServer, one: Any, request: Any) -> Answer:
        seen.append(one.body)
        return answer(certs_only(server.issue(request)))

    before = {name: data for name, data in shared.files().items() if name in IDENTITY}
    place.server.script["simpleenroll"] = [pending("86400"), pending("1"), right]
    done = place.provision(shared, "here")
    assert "wants 86400 s: run the same command again" in str(done.exception)
    assert {name: data for name, data in shared.files().items() if name in IDENTITY} == before
    done = place.provision(shared, "here")
    assert done.exit_code == 0 and "wants 1 s" in done.stderr
    assert len(seen) == 3 and len(set(seen)) == 1, "the same request"
    has(shared, place)


def test_a_refusal_leaves_the_unit_as_it_was(shared: Unit, place: Place) -> None:
    before = {name: data for name, data in shared.files().items() if name in IDENTITY}
    place.server.users.clear()
    done = place.provision(shared, "here")
    assert "answered simpleenroll with 401: is the secret wrong, or was it used before?" in str(done.exception)
    assert {name: data for name, data in shared.files().items() if name in IDENTITY} == before


UNIT = "020000000001"
KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, hashes.SHA256()).public_bytes(DER)


def names(*others: str) -> x509.SubjectAlternativeName:
    """The unit's own, in another order, and these."""
    return x509.SubjectAlternativeName([*map(x509.DNSName, others), *certificates.unit_names(UNIT)[::-1]])


TOO_EARLY = (420 / 86400, 90)


@pytest.mark.parametrize(
    ("operation", "step", "words", "kept"),
    [
        ("simpleenroll", says(302, Location="https://localhost:1/"), "answered simpleenroll with 302$", []),
        ("simpleenroll", issues(key=STRANGER.public_key()), "of no use: none of these certificates is for the key", []),
        (
            "simpleenroll",
            issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
            "of '020000000001' is not for TLS clients: ask",
            [".void"],
        ),
        (
            "simpleenroll",
            issues(subject=x509.Name([])),
            "of no use: the certificate is for '', the unit is 020000000001",
            [".void"],
        ),
        ("simpleenroll", issues(by=Authority("Other")), "the authority 'CN=Other' is missing: add it to", [".pem"]),
        (
            "simpleenroll",
            issues(by=Authority("Issuer")),
            "another key than that of the authority 'CN=Issuer' here",
            [".pem"],
        ),
        ("simpleenroll", issues(days=(-9, -1)), "expired at", [".void"]),
        ("simpleenroll", issues(names=names("x.example.com")), "that was not asked for: 'x.example.com'", [".void"]),
        ("simpleenroll", issues(names=names("246f28ffffff")), "that was not asked for: '246f28ffffff'", [".void"]),
        ("simpleenroll", issues(days=TOO_EARLY), "is not valid before", [".pem"]),
        ("simpleenroll", says(200, b"%%%"), "answer to simpleenroll has no certificates in it", []),
        ("cacerts", says(200, base64.b64encode(b"0\x80")), "answer to cacerts has no certificates in it", []),
        ("cacerts", says(200, b"A" * 70000), "answered cacerts with more than 65536 bytes", []),
        ("cacerts", says(202), "answered cacerts with 202", []),
        ("cacerts", says(503), "answered cacerts with 503$", []),
        ("cacerts", says(503, Retry_After="20"), "answered cacerts with 503: try again in 20 s$", []),
        ("simpleenroll", says(429, b"slow", Retry_After="7", Content_Type="text/plain"), "429: try again in 7 s$", []),
        ("simpleenroll", says(429, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"), "429: try again in 0 s$", []),
        ("simpleenroll", says(202, Retry_After="99"), "wants 99 s: run the same command again", []),
    ],
    ids=[
        *("redirect", "key", "purpose", "name", "chain", "namesake", "expired", "DNS name", "other unit"),
        *("early", "rubbish", "cacerts"),
        *("large", "202", "503", "503 with a time", "429", "429 of before", "later"),
    ],
)
def test_what_is_wrong_is_named(place: Place, operation: str, step: Any, words: str, kept: list[str]) -> None:
    place.server.script[operation] = [step]
    with pytest.raises(KoblerError, match=words) as caught:
        place.authority().certify(REQUEST, UNIT)
    assert "Tr1cky" not in str(caught.value) and "--ca-in" not in str(caught.value) and place.kept() == kept


@pytest.mark.parametrize(
    ("secret", "identity", "fields", "words"),
    [
        (SECRET, False, {}, "with 401: is the secret wrong, or was it used before"),
        (SECRET, False, {"WWW_Authenticate": 'Basic realm="a, b"'}, "with 401: is the secret wrong"),
        (SECRET, False, {"WWW_Authenticate": 'Digest realm="a", basic realm="b"'}, "with 401: is the secret wrong"),
        (SECRET, False, {"WWW_Authenticate": 'Digest realm="Basic", nonce="n="'}, "it asks for HTTP Digest, here is"),
        (SECRET, True, {"WWW_Authenticate": "Negotiate, Bearer"}, "it asks for HTTP Negotiate, Bearer, here is only"),
        (None, False, {}, "it wants a secret or a certificate .KOBLER_EST_SECRET, --est-identity"),
        (None, True, {}, "it wants a secret, too, or another certificate .KOBLER_EST_SECRET, --est-identity"),
    ],
)
def test_who_is_not_let_in_hears_what_to_do(
    place: Place, secret: str | None, identity: bool, fields: dict[str, str], words: str
) -> None:
    place.server.script["simpleenroll"] = [says(401, SECRET.encode(), Content_Type="text/plain", **fields)]
    authority = place.authority(secret, place.identity("line-7") if identity else None)
    with pytest.raises(KoblerError, match=words) as caught:
        authority.certify(REQUEST, UNIT)
    assert "Tr1cky" not in str(caught.value) and not place.state.exists()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_lets_nobody_in_without_a_certificate(place: Place, version: ssl.TLSVersion) -> None:
    place.server._context.minimum_version = place.server._context.maximum_version = version
    place.server._context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(KoblerError, match=r"does not answer cacerts: .*may want a certificate \(--est-identity\)"):
        place.authority().certify(REQUEST, UNIT)
    identity = place.identity("line-7")
    assert place.authority(None, identity).certify(REQUEST, UNIT).certificate
    first, middle, rest = identity.read_bytes().partition(b"-----END CERTIFICATE-----\n")
    identity.write_bytes(first + middle + rest.partition(middle)[2])
    with pytest.raises(KoblerError, match="does the file of --est-identity have the intermediates, too"):
        place.authority(None, identity).authorities()
    place.server.close()
    with pytest.raises(KoblerError, match=r"does not answer cacerts: .*refused$"):
        place.authority().authorities()


def test_a_server_that_wants_both_gets_certificate_and_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = place.identity("line-7")
    place.authority(SECRET, identity).certify(REQUEST, UNIT)
    assert [(one.client, one.secret) for one in place.server.seen] == [("line-7", None), ("line-7", SECRET)]
    assert [one.fields["connection"] for one in place.server.seen] == ["close", "close"]

    def access() -> Access | None:
        site: Any = type("Site", (), {"est": type("Est", (), {"base": place.server.url})})
        return est_cli.access(est_cli.Est.HERE, place.roots, identity, False, [], site, False)

    assert access() == Access(place.server.url, place.roots, SECRET, identity)
    monkeypatch.delenv(secret.EST)
    assert access() == Access(place.server.url, place.roots, None, identity), "it was not asked for"


@pytest.mark.parametrize("given", [None, names(), x509.SubjectAlternativeName([x509.DNSName(UNIT)])])
def test_fewer_names_than_were_asked_for_are_fine(place: Place, given: x509.SubjectAlternativeName | None) -> None:
    place.server.script["simpleenroll"] = [issues(names=given)]
    assert place.authority().certify(REQUEST, UNIT).certificate == place.server.issued[0].public_bytes(DER)


def test_an_authority_whose_clock_is_a_little_ahead(place: Place) -> None:
    place.server.script["simpleenroll"] = [issues(days=(240 / 86400, 90))]
    assert place.authority().certify(REQUEST, UNIT).certificate == place.server.issued[0].public_bytes(DER)


def test_a_new_root_counts_when_a_known_one_vouches_for_it(place: Place) -> None:
    new = Authority("New root")
    place.server.issuer = Authority("New issuer", new)
    place.server.cacerts = [new.certificate, place.server.issuer.certificate]
    with pytest.raises(KoblerError, match="the certificate of the authority 'CN=New root' is missing"):
        place.authority().certify(REQUEST, UNIT)
    for path in place.state.rglob("*.pem"):
        path.unlink()
    place.server.users = {SECRET}
    place.server.cacerts.append(place.server.root.certify(new))
    found = place.authority().certify(REQUEST, UNIT)
    assert len(found.chain) == 2 and found.ca == place.server.root.der


def test_a_root_that_changes_its_key_keeps_its_name(place: Place) -> None:
    # RFC 4210, 4.4: old and new root, and each one's key certified by the other.
    old, new = place.server.root, Authority("Root")
    with_old, with_new = old.certify(new), new.certify(old)
    place.server.issuer = Authority("New issuer", new)
    four = [new.certificate, with_new, with_old, old.certificate]
    place.server.cacerts = [*four, place.server.issuer.certificate]
    found = place.authority().certify(REQUEST, UNIT)
    assert found.chain == [place.server.issuer.der, with_old.public_bytes(DER)] and found.ca == old.der
    place.trust(new)
    found = place.authority().with_chain(found.certificate)
    assert found.chain == [place.server.issuer.der] and found.ca == new.der


def test_what_was_paid_for_is_kept_until_the_right_root_is_named(place: Place) -> None:
    other = Authority("Other root")
    place.server.issuer = Authority("Issuer B", other)
    place.server.cacerts = [other.certificate, place.server.issuer.certificate]
    for _ in range(2):
        with pytest.raises(
            KoblerError, match="'CN=Other root' is missing: add it to the file of --est-roots"
        ) as caught:
            place.authority().certify(REQUEST, UNIT)
        (path,) = place.state.rglob("*.pem")
        assert f"kept in {path}" in str(caught.value)
    place.trust(place.server.root, other)
    found = place.authority().certify(REQUEST, UNIT)
    assert found.chain == [place.server.issuer.der] and found.ca == place.server.root.der + other.der
    assert place.server.operations() == ["cacerts", "simpleenroll"] and not place.server.users


def test_a_batch_goes_on_with_what_was_paid_for(shared: Unit, place: Place) -> None:
    other, orders = Authority("Other root"), place.folder / "orders.csv"
    orders.write_text("serial\nK1-002\n")
    place.server.issuer = Authority("Issuer B", other)
    place.server.cacerts = [other.certificate, place.server.issuer.certificate]
    done = place.provision(shared, "here", "--batch", str(orders))
    assert done.exit_code != 0 and "'CN=Other root' is missing" in done.output + done.stderr + str(done.exception)
    place.trust(place.server.root, other)
    done = place.provision(shared, "here", "--batch", str(orders))
    assert done.exit_code == 0, done.output + done.stderr + str(done.exception)
    assert place.server.operations() == ["cacerts", "simpleenroll"]
    assert shared.files()["cert.der"] == shown.der(place.server.issued[0], place.server.issuer.certificate)


def test_what_is_of_no_use_or_has_expired_does_not_stand_in_the_way(place: Place) -> None:
    place.server.users = {SECRET, "second:" + SECRET}
    place.server.script["simpleenroll"] = [
        issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
        issues(days=(-1, 2 / 86400)),
    ]
    with pytest.raises(KoblerError, match="not for TLS clients"):
        place.authority().certify(REQUEST, UNIT)
    place.authority().certify(REQUEST, UNIT)
    assert place.kept() == [".pem", ".void"]
    time.sleep(max(0, (place.server.issued[1].not_valid_after_utc - dt.datetime.now(dt.UTC)).total_seconds()) + 0.1)
    del place.server.script["simpleenroll"]
    found = place.authority().certify(REQUEST, UNIT)
    assert found.certificate == place.server.issued[2].public_bytes(DER)
    assert place.authority().of_unit(UNIT)[0] == place.server.issued[2]
    assert place.authority().certify(REQUEST, UNIT) == found and len(place.server.issued) == 3


def tlv(tag: int, *parts: bytes, marked: bool = False) -> bytes:
    """One element; `marked`: its end is, instead of a length."""
    content = b"".join(parts)
    if marked:
        return bytes((tag, 0x80)) + content + b"\0\0"
    size = len(content).to_bytes(4).lstrip(b"\0")
    return (
        bytes((tag,)) + (bytes((0x80 | len(size),)) + size if len(content) > 127 else bytes((len(content),))) + content
    )


def message(*certificates: bytes, marked: bool = False) -> bytes:
    """certs-only, in this order."""
    end = {"marked": marked}
    version, none, signed = (bytes.fromhex(one) for one in ("020101", "3100", "06092a864886f70d010702"))
    data = tlv(0x30, bytes.fromhex("06092a864886f70d010701"), **end)
    inner = tlv(0x30, version, none, data, tlv(0xA0, *certificates, **end), none, **end)
    return tlv(0x30, signed, tlv(0xA0, inner, **end), **end)


@pytest.mark.parametrize("marked", [False, True], ids=["sets that are not sorted", "BER"])
def test_messages_as_servers_write_them_are_read_in_silence(place: Place, marked: bool) -> None:
    for turned in (1, -1):
        ders = sorted((place.server.root.der, place.server.issuer.der), key=len)[::turned]
        place.server.script["cacerts"] = [lambda *_, ders=ders: answer(message(*ders, marked=marked))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [one.public_bytes(DER) for one in place.authority().authorities()] == ders


def test_a_damaged_message_is_a_value_error_and_nothing_else() -> None:
    rng = random.Random(7030)
    good = [message(b"\x30\x03abc", b"\x30\x00", marked=marked) for marked in (False, True)]
    assert [certs_only_reader.split(one) for one in good] == [[b"\x30\x03abc", b"\x30\x00"]] * 2
    cases = [one[:at] for one in good for at in range(len(one))]
    cases += [one + b"\0" for one in good] + [b"\x30\x80" * 30000, b"\x30\x84\xff\xff\xff\xff", message()]
    cases.append(good[0].replace(bytes.fromhex("010702"), bytes.fromhex("010703")))
    for case in cases:
        with pytest.raises(ValueError):
            certs_only_reader.split(case)
    for _ in range(2000):
        case = bytearray(rng.choice(good))
        case[rng.randrange(len(case))] = rng.randrange(256)
        with contextlib.suppress(ValueError):
            certs_only_reader.split(bytes(case))


def strange(server: EstServer, key: Any) -> bytes:
    """A certificate with an extension that is damaged, and not critical."""
    names = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\x30\x05")
    builder = x509.CertificateBuilder(server.issuer.name, NAME, key, 7)
    now = dt.datetime.now(dt.UTC)
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(1)).add_extension(names, False)
    return builder.sign(server.issuer.key, hashes.SHA256()).public_bytes(DER)


def test_a_strange_certificate_is_passed_over_unless_it_is_the_units(place: Place) -> None:
    other = strange(place.server, STRANGER.public_key())
    place.server.script["cacerts"] = [lambda *_: answer(message(other, b"\x30\x00", place.server.issuer.der))]
    place.server.script["simpleenroll"] = [lambda *_: answer(message(other, strange(place.server, KEY.public_key())))]
    with pytest.raises(KoblerError, match=r"of no use: it cannot be read \(.*subject_alternative_name|SubjectAlt"):
        place.authority().certify(REQUEST, UNIT)
    place.server.script["simpleenroll"] = [
        lambda server, _, request: answer(message(other, server.issue(request).public_bytes(DER)))
    ]
    assert place.authority().certify(REQUEST, UNIT).chain == [place.server.issuer.der]


@contextlib.contextmanager
def speaking(place: Place, serve: Callable[[ssl.SSLSocket, bytes], None]) -> Iterator[EstAuthority]:
    """A server in place of the right one, which does this with each connection after a request has come."""
    channels: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    channel = place.server._context.wrap_socket(listening.accept()[0], server_side=True)
                    channels.append(channel)
                    serve(channel, channel.recv(65536))

        threading.Thread(target=work, daemon=True).start()
        url = f"https://localhost:{listening.getsockname()[1]}/.well-known/est"
        yield EstAuthority(Access(url, place.roots, SECRET), place.state / "est", print)
    for channel in channels:
        channel.close()


def test_the_body_of_not_yet_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(est_http, "_SECONDS", 5.0)

    def serve(channel: ssl.SSLSocket, request: bytes) -> None:
        found = answer(certs_only(place.server.root.certificate)).body
        if request.startswith(b"GET"):
            channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(found), found))
        else:  # no length, and it stays open
            channel.sendall(b"HTTP/1.1 202 Accepted\r\nRetry-After: 77\r\n\r\n")

    with speaking(place, serve) as authority:
        start = time.monotonic()
        with pytest.raises(KoblerError, match="wants 77 s"):
            authority.certify(REQUEST, UNIT)
        assert time.monotonic() - start < 3


def test_a_server_that_the_roots_do_not_vouch_for_hears_nothing(place: Place) -> None:
    place.trust(Authority("Stranger"))
    with pytest.raises(KoblerError, match=r"cannot be trusted: .*--est-roots"):
        place.authority().certify(REQUEST, UNIT)
    assert place.server.operations() == []
    place.trust(place.server.root)
    place.server.close()
    with pytest.raises(KoblerError, match="does not answer cacerts"):
        place.authority().certify(REQUEST, UNIT)


@pytest.mark.parametrize("secured", [True, False], ids=["answer", "handshake"])
def test_a_server_that_never_ends_is_left(place: Place, monkeypatch: pytest.MonkeyPatch, secured: bool) -> None:
    monkeypatch.setattr(est_http, "_IN_ALL", 0.7)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            channel, _ = listening.accept()
            with contextlib.suppress(OSError), channel:
                if secured:
                    channel = place.server._context.wrap_socket(channel, server_side=True)
                for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nX: " if secured else b"\x16\x03\x03\x40\x00"):
                    if stop.wait(0.1):
                        break
                    channel.send(bytes((byte,)))

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        url = f"https://localhost:{listening.getsockname()[1]}/.well-known/est"
        with pytest.raises(KoblerError, match=r"does not answer cacerts: not done after 1 s$"):
            EstAuthority(Access(url, place.roots), place.state / "est", print).certify(REQUEST, UNIT)
        stop.set()
        thread.join(5)


def test_a_line_shows_its_own_certificate(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secret.EST)
    identity, orders = place.identity("line-7"), place.folder / "orders.csv"
    orders.write_text("serial\nK1-001\n")
    done = place.provision(shared, "here", "--est-identity", str(identity), "--batch", str(orders))
    assert done.exit_code == 0, done.output + str(done.exception)
    ledger = (place.state / "production" / "ledger.jsonl").read_text().splitlines()
    fingerprint = has(shared, place).fingerprint(hashes.SHA256()).hex()
    assert [json.loads(line)["event"] for line in ledger] == ["begun", "signed", "done"]
    assert json.loads(ledger[-1])["fingerprint"] == fingerprint
    again = place.provision(shared, "here", "--est-identity", str(identity), "--batch", str(orders))
    assert again.exit_code == 0 and "every serial number is done" in again.stderr
    done = place.provision(
        shared, "here", "--est-identity", str(identity), "--batch", str(orders), "--reissue", "K1-001"
    )
    assert done.exit_code == 0 and "EST cannot revoke: have the certificate" in done.stderr
    assert has(shared, place) == place.server.issued[1], "a new one, for a new key"


def test_the_unit_fetches_its_certificate_itself(built: Build, place: Place) -> None:
    with unit(place.folder / "flash.bin", built) as it:
        place.server.script["simpleenroll"] = [says(202, Retry_After="5"), issues()]
        done = place.provision(it, "unit")
        assert done.exit_code == 0, done.output + str(done.exception)
        said = json.loads(done.stdout)
        assert (said["fingerprint"], said["not_after"]) == (None, None) and "needs to fetch" in done.stderr
        until = time.monotonic() + 60
        while "cert.der" not in it.files():
            assert time.monotonic() < until, bytes(it.wire[-3000:])
            time.sleep(0.2)
        it.said_since(0, b"the unit has a new certificate")
        assert has(it, place) == place.server.issued[0]
        assert [one.secret for one in place.server.seen if one.body] == [SECRET, SECRET]
        # It lay in the unit's flash, and was copied there over the wire; it was not said.
        wire = bytes(it.wire).replace(base64.b64encode(SECRET.encode())[:16], b"")
        assert b"Tr1cky" not in wire and "Tr1cky" not in done.output + done.stderr


def test_the_unit_shows_the_certificate_it_has(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.provision(shared, "here").exit_code == 0
    old = shared.files()["cert.der"]
    monkeypatch.delenv(secret.EST)
    assert place.provision(shared, "unit", "--no-est-secret").exit_code == 0
    until = time.monotonic() + 60
    while shared.files()["cert.der"] == old:
        assert time.monotonic() < until, bytes(shared.wire[-3000:])
        time.sleep(0.2)
    assert shared.files()["cert.der"] == shown.der(place.server.issued[1], place.server.issuer.certificate)


def test_a_dry_run_looks_at_the_server_and_sends_nothing(shared: Unit, place: Place) -> None:
    before = shared.files()
    done = place.provision(shared, "here", "--dry-run")
    assert done.exit_code == 0 and re.search("whose authorities are (Root, Issuer|Issuer, Root)\n", done.stderr)
    assert place.server.operations() == ["cacerts"] and not place.state.exists()
    done = place.provision(shared, "unit", "--dry-run")
    assert done.exit_code == 0 and "the unit would fetch its certificate from https://localhost" in done.stderr
    assert shared.files() == before


def test_options_that_do_not_go_together_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    config, roots = ("--config", str(place.site)), ("--est-roots", str(place.roots))
    plain = place.folder / "plain.toml"
    plain.write_text(SITE)
    for words, arguments in (
        ("--est-roots goes with --est", (*config, *roots)),
        ("--no-est-secret goes with --est", ("--no-est-secret",)),
        ("--est here does not go with --csr-out", (*roots, "--est", "here", "--csr-out", "x")),
        ("--est unit does not go with --scan, which wants a certificate now", (*roots, "--est", "unit", "--scan")),
        ("--est needs --est-roots", (*config, "--est", "here")),
        ("--est-identity goes with --est here", (*roots, *config, "--est", "unit", "--est-identity", str(plain))),
        ("--no-est-secret goes with --est unit", (*roots, *config, "--est", "here", "--no-est-secret")),
        ("--est needs --config with the server's address", (*roots, "--est", "here")),
        ("--est needs --config with the server's address", (*roots, "--config", str(plain), "--est", "unit")),
        ("is no identity for TLS", (*roots, *config, "--est", "here", "--est-identity", str(plain))),
    ):
        done = invoke("--port", "/dev/null", *arguments)
        assert isinstance(done.exception, UsageError) and words in str(done.exception), (words, done.exception)
    for given in ("nobody", "us\u00e9r:pass"):
        monkeypatch.setenv(secret.EST, given)
        done = invoke("--port", "/dev/null", *config, *roots, "--est", "here")
        assert "is not user:password" in str(done.exception) and given not in str(done.exception)
    monkeypatch.delenv(secret.EST)
    done = invoke("--port", "/dev/null", *config, *roots, "--est", "here")
    assert "set KOBLER_EST_SECRET, or run this at a terminal" in str(done.exception)
