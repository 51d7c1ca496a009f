"""A unit fetches and renews its certificate by EST, on both interpreters, from a server that keeps to RFC 7030 and, on
request, does not; and changes to it only when a broker has accepted it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shown
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from est_server import DER, Answer, Authority, EstServer, answer, certs_only, issues, key_bytes, proper, running, says
from kobler.config import compile_config, load
from kobler.config.firewall import rules
from kobler.errors import UsageError
from uplink_world import FIRMWARE, HERE, INTERPRETERS, UNIT_ID, Broker, Loop

both = pytest.mark.parametrize("interpreter", INTERPRETERS)
one_of_them = pytest.mark.parametrize("interpreter", ["micropython"])

OTHER = x509.SubjectAlternativeName([x509.DNSName("other")])
COMMON_NAME = [x509.NameAttribute(x509.NameOID.COMMON_NAME, UNIT_ID)]


class World:
    """A root, an EST server under it, and the files of a unit."""

    def __init__(self, folder: Path, interpreter: str) -> None:
        self.root = Authority("Root")
        self.issuer = Authority("Issuer", self.root)
        self.folder, self.interpreter = folder, interpreter
        self.files = folder / "etc"
        self.files.mkdir()
        self.output = ""
        self._runs = 0

    def born(self, days: tuple[float, float] = (-70, 20), name: str = UNIT_ID) -> x509.Certificate:
        """The unit has a certificate, of which more than two thirds are over."""
        certificate, key = self.issuer.identity(name, days=days)
        (self.files / "cert.der").write_bytes(shown.der(certificate, self.issuer.certificate))
        (self.files / "key.der").write_bytes(key_bytes(key))
        (self.files / "ca.der").write_bytes(self.root.der)
        return certificate

    def given(self, secret: str, *roots: Authority) -> None:
        """What provisioning leaves for a unit that is to fetch its certificate."""
        certificates = b"".join(one.der for one in roots or (self.root,))
        (self.files / "bootstrap").write_bytes(secret.encode() + b"\n" + certificates)

    def read(self, name: str) -> bytes:
        return (self.files / name).read_bytes()

    @property
    def certificate(self) -> x509.Certificate:
        return shown.certificates(self.read("cert.der"))[0]

    def whole(self) -> bool:
        """Whether the key is that of the certificate."""
        key = serialization.load_der_private_key(self.read("key.der"), None)
        return key.public_key() == self.certificate.public_key()

    def run(self, server: EstServer, **settings: Any) -> list[dict[str, Any]]:
        """The unit's steps, in a process: a restart before each call."""
        self._runs += 1
        path = self.folder / f"settings{self._runs}.json"
        path.write_text(json.dumps({"files": str(self.files), "url": server.url, **settings}))
        beside = Path(sys.executable).with_name("micropython")
        program = [str(beside), "-X", "heapsize=1m"] if self.interpreter == "micropython" else [sys.executable]
        command = [*program, str(HERE / "est_unit.py"), str(FIRMWARE), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.output += done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert len(lines) == settings.get("steps", 1), done.stdout[-3000:] + done.stderr[-3000:]
        return lines


@pytest.fixture
def world(tmp_path: Path, interpreter: str) -> World:
    return World(tmp_path, interpreter)


@pytest.fixture
def server(world: World) -> Iterator[EstServer]:
    with running(world.issuer, world.root, world.folder) as found:
        yield found


def _leaks(world: World, secret: bytes) -> bool:
    return any(form in world.output for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]))


@both
def test_a_first_certificate_by_a_one_time_secret(world: World, server: EstServer) -> None:
    server.users = {"line-7:Tr1ck y"}
    world.given("line-7:Tr1ck y")
    server.attributes = bytes.fromhex("3014 0607 2a8648ce3d0201 0609 2a864886f70d01090e".replace(" ", ""))
    line, again = world.run(server, steps=2)
    assert server.operations() == ["cacerts", "csrattrs", "simpleenroll"], line
    assert line["report"]["state"] == "valid" and line["report"]["error"] is None and line["report"]["days"] in (89, 90)
    assert line["files"] == ["ca.der", "cert.der", "identity", "key.der"], "the secret is gone"
    assert line["turns"] >= 5, "a turn of the bus for each piece of arithmetic and for the flash"
    assert again["pause"] > 1000 and world.whole()
    assert world.certificate == server.issued[0]
    names = world.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:dev:kobler:{UNIT_ID}"]
    assert "Tr1ck" not in world.output and not _leaks(world, world.read("key.der")[7:39])


@both
def test_the_secret_goes_only_to_a_server_that_the_anchor_vouches_for(world: World, server: EstServer) -> None:
    world.given("user:secret", Authority("Stranger"))
    (line,) = world.run(server)
    assert server.operations() == [] and "bootstrap" in line["files"]
    assert line["report"]["state"] == "failed" and "authority" in line["report"]["error"]
    assert 30 <= line["pause"] <= 60
    world.given("user:secret")
    wrong = EstServer(world.issuer, world.root, world.folder, host="elsewhere")
    try:
        (line,) = world.run(wrong)
        assert wrong.operations() == [] and "name" in line["report"]["error"]
    finally:
        wrong.close()
    assert "secret" not in world.output


@both
def test_a_certificate_the_unit_was_born_with_gets_it_the_first_one_of_this_site(
    world: World, server: EstServer
) -> None:
    factory = Authority("Factory")
    certificate, key = factory.identity(UNIT_ID)
    (world.files / "cert.der").write_bytes(certificate.public_bytes(DER))
    (world.files / "key.der").write_bytes(key_bytes(key))
    (world.files / "ca.der").write_bytes(factory.der)
    world.given("")
    (line,) = world.run(server)
    assert "refused" in line["report"]["error"] or "401" in line["report"]["error"], "the server does not know it"
    server.clients.append(factory)
    server._context.load_verify_locations(cadata=factory.certificate.public_bytes(serialization.Encoding.PEM).decode())
    server.operations()
    (line,) = world.run(server)
    assert line["report"]["error"] is None, line
    assert server.operations()[2] == "simpleenroll"
    assert world.certificate.issuer == world.issuer.name and world.read("ca.der") == world.root.der


@both
def test_a_certificate_is_renewed_with_the_same_names_and_a_new_key(world: World, server: EstServer) -> None:
    old = world.born()
    seen: list[Any] = []

    def look(server: EstServer, one: Any, request: Any) -> Answer:
        seen.append((one.client, one.secret, request))
        return proper(server, one, request)

    server.script["simplereenroll"] = [look]
    line, _ = world.run(server, steps=2)
    assert server.operations() == ["cacerts", "csrattrs", "simplereenroll", "cacerts"], "the last one shows the new one"
    (client, secret, request), new = seen[0], world.certificate
    assert client == UNIT_ID and secret is None and request.is_signature_valid
    assert request.subject == old.subject and request.public_key() != old.public_key()
    kind = x509.SubjectAlternativeName
    assert request.extensions.get_extension_for_class(kind).value == old.extensions.get_extension_for_class(kind).value
    assert new == server.issued[0] and world.whole() and line["report"]["state"] == "valid"
    assert "next.der" not in line["files"] and line["pause"] >= 30
    assert "coupler.trust.x509" not in line["modules"] or world.interpreter == "cpython", "what was needed is forgotten"


@one_of_them
def test_nothing_is_asked_while_a_certificate_is_young(world: World, server: EstServer) -> None:
    world.born(days=(-40, 50.01))
    first, forced = world.run(server, steps=2, renew=[1])
    assert first["report"] == {"not_after": first["report"]["not_after"], "days": 50, "state": "valid", "error": None}
    assert forced["files"] == first["files"] + ["identity"] or forced["report"]["error"] is None
    assert server.operations() == ["cacerts", "csrattrs", "simplereenroll", "cacerts"], "only when somebody wants it"


@both
def test_not_yet_means_the_same_request_again(world: World, server: EstServer) -> None:
    world.born()
    server.script["simplereenroll"] = [says(202, Retry_After="1"), says(202, Retry_After="9999999"), says(202), proper]
    bodies: list[bytes] = []

    def steps(**more: Any) -> dict[str, Any]:
        (line,) = world.run(server, **more)
        bodies.extend(one.body for one in server.seen if one.operation == "simplereenroll")
        server.operations()
        return line

    assert steps()["pause"] == 5
    (waits,) = world.run(server)
    assert waits["report"]["state"] == "pending" and 1 <= waits["pause"] <= 5 and not server.seen, (
        "a restart is no excuse"
    )
    time.sleep(waits["pause"])
    pauses = [steps()["pause"], steps(renew=[0])["pause"]]
    assert pauses == [604800, 300], "between five seconds and a week, unless somebody asks for it now"
    waiting = world.read("next.der")[32:-4] + struct.pack("<I", int(time.time()) + 2 * 604800)
    (world.files / "next.der").write_bytes(hashlib.sha256(waiting).digest() + waiting)
    last = steps()  # the clock was wrong: no server makes it wait so long
    assert last["report"]["state"] == "valid" and world.whole()
    assert len(bodies) == 4 and len(set(bodies)) == 1, "through restarts, with the key that was made for it"


@both
def test_a_certificate_that_is_valid_from_now_on_is_taken_from_a_clock_that_is_ahead(
    world: World, server: EstServer
) -> None:
    # openssl, libest and Go do not put its beginning back.
    world.born()
    server.days = (3 / 86400, 90)
    (line,) = world.run(server)
    assert line["report"]["error"] is None and 1 <= line["pause"] <= 4 and "next.der" in line["files"], line
    time.sleep(line["pause"])
    (line,) = world.run(server)
    assert line["report"]["error"] is None and world.certificate == server.issued[0], line


@both
def test_libests_answers_are_understood(world: World, server: EstServer) -> None:
    # No length, no word that it closes; csrattrs that end with NUL; each certificate under an issuer with many more.
    world.born()
    server.attributes = bytes.fromhex("300906072a8648ce3d0201")
    nul = answer(server.attributes, "application/csrattrs")
    nul.body += b"\0"
    server.script["csrattrs"] = [lambda *_: nul]

    def issued(server: EstServer, one: Any, request: Any) -> Answer:
        found = proper(server, one, request)
        found.length = False
        return found

    server.script["simplereenroll"] = [lambda *_: Answer(202, fields={"Retry-After": "3600"}, length=False), issued]
    line, last = world.run(server)[0], world.run(server, renew=[0])[0]
    assert line["pause"] == 3600 and line["report"]["state"] == "pending", line
    assert last["report"]["error"] is None and world.whole() and world.certificate == server.issued[0]
    assert "not known" not in world.output
    for one in server.seen:
        assert all(len(row) <= 64 for row in one.body.splitlines()), "OpenSSL spoils longer lines"


@both
@pytest.mark.parametrize("step", [says(500), says(401), lambda *_: Answer(200, b"?"), lambda *_: Answer(200, wait=61)])
def test_a_server_that_cannot_say_what_it_wants_gets_the_request_all_the_same(
    world: World, server: EstServer, step: Any
) -> None:
    world.born()
    server.script["csrattrs"] = [step]
    (line,) = world.run(server, idle=1000)
    assert line["report"]["error"] is None and world.certificate == server.issued[0]
    assert "wishes are not known" in world.output


@both
def test_a_root_that_changes_its_key_keeps_its_name(world: World, server: EstServer) -> None:
    # RFC 4210, 4.4: the new one, and what the old one says of its key, have the same subject and issuer.
    world.born()
    new, old = Authority("Root"), server.root
    issuer = Authority("Issuer", new)
    server.cacerts = [old.certificate, new.certificate, old.certify(new), new.certify(old), issuer.certificate]

    def over(server: EstServer, one: Any, request: Any) -> Answer:
        # From now on the server itself is under the new one, and knows no other.
        server.issuer, server.root, server.clients = issuer, new, [new]
        server.tls(issuer)
        server._server.socket._context = server._context  # of the next connections
        return proper(server, one, request)

    server.script["simplereenroll"] = [over, proper]
    (line,) = world.run(server)
    assert line["report"]["error"] is None and world.certificate.issuer == issuer.name, line
    assert world.read("ca.der") == old.der + new.der
    (line,) = world.run(server, renew=[0])
    assert line["report"]["error"] is None and world.certificate == server.issued[1], line


def below(**options: Any) -> Any:
    """A step in which another authority below the root issues, and comes along."""

    def step(server: EstServer, seen: Any, request: Any) -> Answer:
        other = Authority("Below", server.root, **options)
        return answer(certs_only(other.certificate, server.issue(request, by=other)))

    return step


AGREES = x509.KeyUsage(False, False, False, False, True, False, False, False, False)

NETWORK = (30, 60)  # seconds until the next try, the first time
REFUSED = (43200 // 4, 43200)


@one_of_them
@pytest.mark.parametrize(
    ("operation", "step", "words", "pause"),
    [
        (
            "simplereenroll",
            says(401, b"no", Content_Type="text/plain"),
            "with 401: it does not know the unit's",
            REFUSED,
        ),
        ("simplereenroll", says(401, WWW_Authenticate="Digest realm=x"), "it wants Digest, which", REFUSED),
        ("simplereenroll", says(403, b"no", Content_Type="text/plain"), "with 403: no", REFUSED),
        ("simplereenroll", says(403), "with 403", REFUSED),
        ("simplereenroll", says(404), "with 404", REFUSED),
        ("cacerts", says(404), "with 404", REFUSED),
        ("cacerts", says(302, Location="https://localhost:1/"), "with 302", REFUSED),
        ("simplereenroll", says(500), "with 500", NETWORK),
        ("simplereenroll", says(503, Retry_After="7200"), "with 503", (7200, 7200)),
        ("simplereenroll", says(429, Retry_After="600"), "with 429", (600, 600)),
        ("simplereenroll", lambda *_: Answer(200, b"x" * 100_000), "too large", NETWORK),
        ("simplereenroll", says(200, b"AAAA", Content_Type="text/html"), "type", REFUSED),
        ("simplereenroll", says(200, b"no base64!", Content_Type="application/pkcs7-mime"), "not base64", REFUSED),
        ("simplereenroll", lambda *_: answer(b"\x30\x03\x02\x01\x00"), "not SignedData", REFUSED),
        ("cacerts", lambda *_: answer(b"\x30\x80garbage"), "cut off", REFUSED),
        ("cacerts", lambda *_: Answer(404, b"<p>" * 9000), "with 404", REFUSED),
        ("simplereenroll", issues(key=lambda *_: ec.generate_private_key(ec.SECP256R1()).public_key()), "key", REFUSED),
        ("simplereenroll", issues(days=(-9, -1)), "expired", REFUSED),
        ("simplereenroll", issues(days=(2, 9)), "not valid yet", REFUSED),
        ("simplereenroll", issues(names=OTHER), "not asked for: other", REFUSED),
        (
            "simplereenroll",
            issues(subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")])),
            "this unit is",
            REFUSED,
        ),
        ("simplereenroll", issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH), "not for clients", REFUSED),
        ("simplereenroll", issues(usage=AGREES), "key usage has no digitalSignature", REFUSED),
        ("simplereenroll", below(bits=1024), "'Below' has an RSA key of 1024 bits: too short, at least 2048", REFUSED),
        (
            "simplereenroll",
            below(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
            "'Below' is an authority, but not for clients",
            REFUSED,
        ),
        ("simplereenroll", issues(ca=True), "authority", REFUSED),
        ("simplereenroll", issues(by=Authority("Issuer")), "Issuer", REFUSED),
    ],
)
def test_what_goes_wrong_is_named_and_the_old_certificate_stays(
    world: World, server: EstServer, operation: str, step: Any, words: str, pause: tuple[int, int]
) -> None:
    old = world.born(days=(-200, 40))
    server.script[operation] = [step, proper]
    failed, done = world.run(server, steps=2)
    assert words in failed["report"]["error"], failed["report"]
    assert pause[0] <= failed["pause"] <= pause[1]
    assert failed["report"]["not_after"] == int(old.not_valid_after_utc.timestamp())
    assert ("next.der" in failed["files"]) == (operation == "simplereenroll" and pause != REFUSED)
    assert done["report"]["state"] == "valid" and world.certificate != old and world.whole()


@both
def test_authorities_with_rsa_keys_issue_and_renew(world: World) -> None:
    world.root = Authority("Root", bits=4096)
    world.issuer = Authority("Issuer", world.root, bits=2048)
    world.given("a:b")
    with running(world.issuer, world.root, world.folder) as server:
        server.users = {"a:b"}
        line, renewed = world.run(server, steps=2, renew=[1])
    assert line["report"]["state"] == renewed["report"]["state"] == "valid", (line, renewed)
    assert world.certificate == server.issued[1] != server.issued[0] and world.whole()
    assert world.certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256
    assert world.read("ca.der") == world.root.der
    assert "coupler.trust.rsa" not in line["modules"] or world.interpreter == "cpython", "what was needed is forgotten"


@one_of_them
@pytest.mark.parametrize(
    "changes",
    [
        {"names": None},
        {"names": x509.SubjectAlternativeName([x509.DNSName(UNIT_ID)])},
        {"subject": x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example"), *COMMON_NAME])},
    ],
    ids=["no names", "one name", "organization"],
)
def test_what_the_authority_adds_to_the_subject_and_leaves_out_of_the_names_is_its_business(
    world: World, server: EstServer, changes: dict[str, Any]
) -> None:
    world.born()
    whole = [x509.UniformResourceIdentifier(f"urn:dev:kobler:{UNIT_ID}"), x509.DNSName(UNIT_ID)]
    server.script["simplereenroll"] = [issues(**changes), issues(names=x509.SubjectAlternativeName(whole))]
    for line in world.run(server, steps=2, renew=[1]):  # the second time they are all there again
        assert line["report"]["error"] is None, line["report"]
    assert len(server.issued) == 2 and world.certificate == server.issued[1]


@both
def test_a_server_that_is_slow_or_gone_is_asked_later(world: World, server: EstServer) -> None:
    old = world.born()
    server.close()
    lines = world.run(server, steps=8)
    assert all(line["report"]["state"] == "failed" for line in lines)
    assert [line["pause"] <= 60 << i for i, line in enumerate(lines)] == [True] * 8
    assert lines[-1]["pause"] >= 1800 and lines[0]["pause"] >= 30 and world.certificate == old


@both
def test_what_the_server_wants_and_the_unit_cannot_give_is_said(world: World, server: EstServer) -> None:
    world.born()
    # challengePassword; an attribute with the value secp384r1; something that nobody knows
    wanted = "3022 0609 2a864886f70d010907 3012 0607 2a8648ce3d0201 3107 0605 2b81040022 0601 2a"
    server.attributes = bytes.fromhex(wanted.replace(" ", ""))
    server.script["simplereenroll"] = [says(400), proper]
    failed, done = world.run(server, steps=2)
    assert "challenge password" in failed["report"]["error"] and "P-384" in failed["report"]["error"]
    assert done["report"]["state"] == "valid", "whether it insists is the server's to say"


@one_of_them
@pytest.mark.parametrize("step", [lambda *_: answer(b"garbage", "application/csrattrs"), says(404), says(403)])
def test_attributes_that_make_no_sense_do_not_stop_it(world: World, server: EstServer, step: Any) -> None:
    world.born()
    server.script["csrattrs"] = [step]
    (line,) = world.run(server)
    assert line["report"]["error"] is None, line


def _rolls(world: World, old: Authority, new: Authority) -> list[x509.Certificate]:
    """NewWithNew, NewWithOld, OldWithNew, OldWithOld, the new one first."""
    return [new.certificate, old.certify(new), new.certify(old), old.certificate]


@both
def test_a_new_root_is_trusted_when_the_old_one_vouches_for_it(world: World, server: EstServer) -> None:
    world.born(days=(-20, 70))
    new = Authority("Root 2")
    server.cacerts = [new.certificate, world.root.certificate]
    (line,) = world.run(server, look=0)
    assert world.read("ca.der") == world.root.der, "nobody vouches for it"
    leaf = world.root.sign(new.name, new.key.public_key())
    server.cacerts = [new.certificate, leaf]
    (line,) = world.run(server, look=0)
    assert world.read("ca.der") == world.root.der, "not an authority's certificate"
    server.cacerts = _rolls(world, Authority("Root"), new)
    (line,) = world.run(server, look=0)
    assert world.read("ca.der") == world.root.der, "an old root of the same name"
    server.cacerts = _rolls(world, world.root, new)
    (line,) = world.run(server, look=0)
    assert world.read("ca.der") == world.root.der + new.der, "both, side by side"
    assert line["report"]["error"] is None and "vouches" in world.output
    # From here on the server is under the new root alone.
    server.cacerts = [new.certificate]
    with running(new, new, world.folder) as later:
        later.clients.append(world.root)
        later._context.load_verify_locations(cadata=world.root.certificate.public_bytes(DER))
        (line,) = world.run(later, renew=[0])
        assert line["report"]["error"] is None and world.certificate.issuer == new.name


@both
def test_a_new_root_may_come_with_the_certificate_that_it_signed(world: World, server: EstServer) -> None:
    world.born()
    new = Authority("Root 2")
    server.cacerts = [*_rolls(world, world.root, new)]
    server.script["simplereenroll"] = [issues(by=new)]
    server._context.load_verify_locations(cadata=new.certificate.public_bytes(DER))
    (line,) = world.run(server)
    assert line["report"]["error"] is None, line["report"]
    assert world.certificate.issuer == new.name and world.read("ca.der") == world.root.der + new.der


@both
def test_a_chain_may_come_in_either_answer(world: World, server: EstServer) -> None:
    world.born()
    server.cacerts = [world.root.certificate]
    (line,) = world.run(server)
    assert "unknown authority, or a chain cut off" in line["report"]["error"]

    def whole(server: EstServer, seen: Any, request: Any) -> Answer:
        return answer(certs_only(world.issuer.certificate, server.issue(request)), width=1)

    server.script["simplereenroll"] = [whole]
    (line,) = world.run(server)
    assert line["report"]["state"] == "valid"


# --- the change, with a real broker


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


def _broker(world: World, loop: Loop, *clients: Authority) -> Broker:
    """amqtt for units under these authorities; its own certificate is of the unit's root."""
    import ssl

    certificate, key = world.root.identity("localhost", host=True)
    path = world.folder / "broker.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(certificate.public_bytes(pem) + key_bytes(key, pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for one in clients:
        context.load_verify_locations(cadata=one.der)
    return Broker(loop, context)


def _cloud(broker: Broker) -> dict[str, Any]:
    place = {"host": "localhost", "port": broker.port, "scheme": "wss", "path": "/mqtt"}
    return {"enabled": True, "dialect": "plain", "ack": "broker", **place}


@both
def test_the_new_certificate_replaces_the_old_one_when_the_broker_accepted_it(
    world: World, server: EstServer, loop: Loop
) -> None:
    world.born()
    broker = _broker(world, loop, world.issuer)
    try:
        (line,) = world.run(server, cloud=_cloud(broker))
    finally:
        broker.stop()
    assert server.operations() == ["cacerts", "csrattrs", "simplereenroll"]
    assert line["report"]["state"] == "valid" and line["ours"] and "next.der" not in line["files"]
    assert world.certificate == server.issued[0] and world.whole()
    assert line["status"]["state"] == "online" and line["status"]["count"]["connects"] == 2


@both
def test_a_certificate_that_the_broker_refuses_leaves_the_old_one_in_use(
    world: World, server: EstServer, loop: Loop
) -> None:
    old = world.born()
    stranger = Authority("Issuer 2", world.root)
    server.script["simplereenroll"] = [issues(by=stranger)]
    server.cacerts = [world.root.certificate, stranger.certificate]
    broker = _broker(world, loop, world.issuer)
    try:
        first, again = world.run(server, cloud=_cloud(broker), steps=2)
        assert first["pause"] == 3600 and again["pause"] == 7200
        assert first["report"]["state"] == "trial" and "broker does not accept" in first["report"]["error"]
        assert first["status"]["state"] == "online" and first["ours"], "the old one works again"
        assert world.certificate == old and "next.der" in first["files"]
        assert len(server.issued) == 1, "it is tried again, not asked for again"
    finally:
        broker.stop()
    # The broker learns the other authority: after a restart the unit tries what it has.
    broker = _broker(world, loop, world.issuer, stranger)
    try:
        (line,) = world.run(server, cloud=_cloud(broker))
    finally:
        broker.stop()
    assert line["report"]["state"] == "valid" and world.certificate == server.issued[0] and len(server.issued) == 1


@one_of_them
def test_a_broker_that_is_away_says_nothing_about_the_certificate(world: World, server: EstServer, loop: Loop) -> None:
    old = world.born()
    broker = _broker(world, loop, world.issuer)
    broker.stop()
    (line,) = world.run(server, cloud=_cloud(broker), settle=0)
    assert line["pause"] == 600 and "or the present one" in line["report"]["error"]
    assert world.certificate == old and "next.der" in line["files"]


@one_of_them
def test_a_first_certificate_lets_the_session_in(world: World, server: EstServer, loop: Loop) -> None:
    server.users = {"a:b"}
    world.given("a:b")
    broker = _broker(world, loop, world.issuer)
    try:
        (line,) = world.run(server, cloud=_cloud(broker))
    finally:
        broker.stop()
    assert line["status"]["state"] == "online" and line["ours"] and world.whole()


@pytest.mark.parametrize("interpreter", ["cpython"])
def test_the_whole_unit_fetches_its_certificate_connects_and_reports_it(
    world: World, server: EstServer, loop: Loop
) -> None:
    unit_id = "020000000001"  # of a unit that runs on a computer
    server.users = {"a:b"}
    world.given("a:b")
    broker = _broker(world, loop, world.issuer)
    net = {"kind": "ethernet", "address": "dhcp", "ntp": []}
    config = {"v": 1, "name": "a", "rev": "1", "net": net, "cloud": _cloud(broker), "bus": []}
    (world.files / "config.json").write_text(json.dumps(config | {"est": {"url": server.url}}))
    settings = world.folder / "app.json"
    settings.write_text(json.dumps({"files": str(world.folder), "app": True}))
    command = [sys.executable, str(HERE / "est_unit.py"), str(FIRMWARE), str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        trust = broker.next(f"kobler/{unit_id}/reported", 30)["trust"]
        assert trust["state"] in ("none", "valid") and trust["error"] is None
        while trust["state"] == "none":
            trust = broker.next(f"kobler/{unit_id}/reported", 30)["trust"]
        assert trust["days"] in (89, 90)
    finally:
        process.kill()
        world.output = process.communicate()[0]
        broker.stop()
    assert world.whole() and not (world.files / "bootstrap").exists() and "Traceback" not in world.output


# --- the configuration


def _config(tmp_path: Path, est: str) -> Any:
    path = tmp_path / "site.toml"
    path.write_text(f'[device]\nname = "a"\n[est]\n{est}\n')
    return load(path)


def test_the_configuration_names_the_server_for_the_unit_and_for_the_firewall(tmp_path: Path) -> None:
    for text, url, host, port in (
        ('url = "https://EST.example.com"', "https://est.example.com:443/.well-known/est", "est.example.com", 443),
        (
            'url = "https://10.0.0.1:8443/.well-known/est/"\nlabel = "line-7"',
            "https://10.0.0.1:8443/.well-known/est/line-7",
            "10.0.0.1",
            8443,
        ),
    ):
        config = _config(tmp_path, text)
        assert json.loads(compile_config(config))["est"] == {"url": url}
        found = rules(config)
        assert (found[0].domain, found[0].port, found[0].protocol) == (host, port, "TCP")
        assert any(rule.port == 123 for rule in found), "dates need the time"


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ('url = "http://a"', "est.url", "https://HOST"),
        ('url = "https://"', "est.url", "https://HOST"),
        ('url = "https://u:secret@a"', "est.url", "provisioned"),
        ('url = "https://a/est"', "est.url", "label"),
        ("url = 5", "est.url", "https://HOST"),
        ('url = "https://a"\nlabel = "a/b"', "est.label", "letters"),
        ('url = "https://a"\nlabel = "cacerts"', "est.label", "operations"),
        ('label = "a"', "est.url", "is missing"),
    ],
)
def test_a_mistake_in_it_is_named(tmp_path: Path, text: str, field: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        _config(tmp_path, text)
    assert field in str(caught.value) and words in str(caught.value) and "secret@" not in str(caught.value)


# --- the server itself: curl and openssl are the judges


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="curl and openssl")
def test_the_tests_server_is_understood_by_other_clients(tmp_path: Path) -> None:
    root = Authority("Root")
    issuer = Authority("Issuer", root)
    pem = serialization.Encoding.PEM
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(pem))

    def run(*command: str, data: bytes | None = None) -> bytes:
        return subprocess.run(command, input=data, capture_output=True, check=True, cwd=tmp_path, timeout=20).stdout

    with running(issuer, root, tmp_path) as server:
        server.users = {"a:b"}
        curl = ("curl", "-sS", "--fail", "--cacert", "root.pem")
        found = base64.b64decode(run(*curl, f"{server.url}/cacerts"))
        listed = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout", data=found).decode()
        assert "Root" in listed
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "key.pem")
        request = run("openssl", "req", "-new", *curve, "-subj", "/CN=unit", "-outform", "DER")
        (tmp_path / "request").write_bytes(base64.encodebytes(request))
        post = ("-H", "Content-Type: application/pkcs10", "--data-binary", "@request")
        issued = base64.b64decode(run(*curl, "--user", "a:b", *post, f"{server.url}/simpleenroll"))
        run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-out", "unit.pem", data=issued)
        (tmp_path / "issuer.pem").write_bytes(issuer.certificate.public_bytes(pem))
        verify = ("openssl", "verify", "-purpose", "sslclient", "-CAfile", "root.pem", "-untrusted", "issuer.pem")
        assert b"unit.pem: OK" in run(*verify, "unit.pem")
        (tmp_path / "shown.pem").write_bytes(
            (tmp_path / "unit.pem").read_bytes() + issuer.certificate.public_bytes(pem)
        )
        own = ("--cert", "shown.pem", "--key", "key.pem")
        again = base64.b64decode(run(*curl, *own, *post, f"{server.url}/simplereenroll"))
        run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout", data=again)
        with pytest.raises(subprocess.CalledProcessError):
            run(*curl, "--user", "a:b", *post, f"{server.url}/simpleenroll")
