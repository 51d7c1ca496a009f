"""`kobler provision --est`: an EST server is the authority, asked from the computer at the cable or by the unit itself,
with the virtual board, the real MicroPython and a server that keeps to RFC 7030 and, on request, does not."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_at_port import IDENTITY, Unit, invoke, private_key, unit
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from est_server import DER, PEM, Answer, Authority, EstServer, answer, certs_only, issues, key_bytes, running, says
from kobler import boards
from kobler.build import Build, build
from kobler.errors import KoblerError, UsageError
from kobler.pki import secret
from kobler.provision import est, steps
from kobler.provision.est import Access, EstAuthority
from time_server import Ntp, time_now

sys.path.insert(0, str(Path(__file__).parents[1] / "board"))
from leaks import leaks

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

SECRET = "line-7:Tr1cky and long"
SITE = """
[device]
name = "test"
[network]
kind = "ethernet"
address = "dhcp"
ntp = ["{ntp}"]
[est]
url = "https://localhost:{port}"
label = "unit"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(boards.load("virtual"), tmp_path_factory.mktemp("build") / "build" / "virtual")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, built: Build) -> Iterator[Unit]:
    with unit(tmp_path_factory.mktemp("board") / "flash.bin", built) as it:
        yield it


class Place:
    """An EST server, and what a technician has of it."""

    def __init__(self, folder: Path, server: EstServer, ntp: str) -> None:
        self.folder, self.server = folder, server
        self.state = folder / "state"
        self.site = folder / "site.toml"
        self.site.write_text(SITE.format(port=server.port, ntp=ntp))
        self.roots = folder / "roots.pem"
        self.trust(server.root)

    def trust(self, *roots: Authority) -> None:
        self.roots.write_bytes(b"".join(one.certificate.public_bytes(PEM) for one in roots))

    def authority(self) -> EstAuthority:
        return EstAuthority(Access(self.server.url, self.roots, SECRET), self.state / "est", print)

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
    certificate = x509.load_der_x509_certificate(files["cert.der"])
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
    assert "answered simpleenroll with 401" in str(done.exception)
    assert {name: data for name, data in shared.files().items() if name in IDENTITY} == before


UNIT = "020000000001"
KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, hashes.SHA256()).public_bytes(DER)


@pytest.mark.parametrize(
    ("operation", "step", "words"),
    [
        ("simpleenroll", says(401, SECRET.encode(), Content_Type="text/plain"), "answered simpleenroll with 401"),
        ("simpleenroll", says(302, Location="https://localhost:1/"), "answered simpleenroll with 302"),
        (
            "simpleenroll",
            issues(key=STRANGER.public_key()),
            "of no use: none of these certificates is for the key of",
        ),
        (
            "simpleenroll",
            issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
            "of '020000000001' is not for TLS clients: ask",
        ),
        ("simpleenroll", issues(by=Authority("Other")), "of no use: the certificate of the authority 'CN=Other' is"),
        ("simpleenroll", issues(days=(-9, -1)), "expired at"),
        ("simpleenroll", says(200, b"%%%"), "answer to simpleenroll has no certificates in it"),
        ("cacerts", says(200, base64.b64encode(b"0\x80")), "answer to cacerts has no certificates in it"),
        ("cacerts", says(200, b"A" * 70000), "answered cacerts with more than 65536 bytes"),
        ("cacerts", says(202), "answered cacerts with 202"),
        ("simpleenroll", says(202, Retry_After="99"), "wants 99 s: run the same command again"),
    ],
    ids=["refused", "redirect", "key", "purpose", "chain", "expired", "rubbish", "cacerts", "large", "202", "later"],
)
def test_what_is_wrong_is_named(place: Place, operation: str, step: Any, words: str) -> None:
    place.server.script[operation] = [step]
    with pytest.raises(KoblerError, match=words) as caught:
        place.authority().certify(REQUEST, UNIT)
    assert "Tr1cky" not in str(caught.value) and not place.state.exists()


def test_a_new_root_counts_when_a_known_one_vouches_for_it(place: Place) -> None:
    new = Authority("New root")
    place.server.issuer = Authority("New issuer", new)
    place.server.cacerts = [new.certificate, place.server.issuer.certificate]
    with pytest.raises(KoblerError, match="the certificate of the authority 'CN=New root' is missing"):
        place.authority().certify(REQUEST, UNIT)
    place.server.users = {SECRET}
    place.server.cacerts.append(place.server.root.certify(new))
    found = place.authority().certify(REQUEST, UNIT)
    assert len(found.chain) == 2 and found.ca == place.server.root.der


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
    monkeypatch.setattr(est, "_IN_ALL", 0.7)
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
        with pytest.raises(KoblerError, match="does not answer cacerts"):
            EstAuthority(Access(url, place.roots), place.state / "est", print).certify(REQUEST, UNIT)
        stop.set()
        thread.join(5)


def test_a_line_shows_its_own_certificate(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secret.EST)
    certificate, key = place.server.issuer.identity("line-7")
    identity, orders = place.folder / "line.pem", place.folder / "orders.csv"
    identity.write_bytes(certificate.public_bytes(PEM) + key_bytes(key, PEM))
    orders.write_text("serial\nK1-001\n")
    done = place.provision(shared, "here", "--est-identity", str(identity), "--batch", str(orders))
    assert done.exit_code == 0, done.output + str(done.exception)
    ledger = (place.state / "production" / "ledger.jsonl").read_text().splitlines()
    fingerprint = has(shared, place).fingerprint(certificate.signature_hash_algorithm).hex()  # type: ignore[arg-type]
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
    assert shared.files()["cert.der"] == place.server.issued[1].public_bytes(DER)


def test_a_dry_run_looks_at_the_server_and_sends_nothing(shared: Unit, place: Place) -> None:
    before = shared.files()
    done = place.provision(shared, "here", "--dry-run")
    assert done.exit_code == 0 and "whose authorities are Root, Issuer" in done.stderr
    assert place.server.operations() == ["cacerts"] and not place.state.exists()
    done = place.provision(shared, "unit", "--dry-run")
    assert done.exit_code == 0 and "the unit would fetch its certificate from https://localhost" in done.stderr
    assert shared.files() == before


def test_options_that_do_not_go_together_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    config, roots = ("--config", str(place.site)), ("--est-roots", str(place.roots))
    plain = place.folder / "plain.toml"
    plain.write_text(SITE.partition("[est]")[0].format(ntp="ntp.example.com"))
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
