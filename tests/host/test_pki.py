"""The local certificate authority, judged by OpenSSL and by what a person does wrong with its files."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kobler import cli
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority, certificates, files, revocation
from kobler.pki.cli import app
from kobler.pki.register import Entry, Register
from typer.testing import CliRunner

UNIT = "246f28aabbcc"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that takes no time."""
    assert files._COST >= 1 << 17
    monkeypatch.setattr(files, "_COST", 1 << 8)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("state") / "pki")


def request(name: str, *names: x509.GeneralName, key: Any = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def verify(authority: Authority, path: Path, *options: str) -> str:
    """What OpenSSL says of a certificate by its strictest rules; AssertionError when it refuses it."""
    arguments = ["verify", "-x509_strict", "-crl_check_all", "-check_ss_sig", "-CAfile", str(authority.ca_pem)]
    arguments += ["-CRLfile", str(authority.crl_pem), *options]
    for one in authority.chain:
        (authority.folder / "untrusted.pem").write_bytes(one.public_bytes(serialization.Encoding.PEM))
        arguments += ["-untrusted", str(authority.folder / "untrusted.pem")]
    return openssl(*arguments, str(path))


def old_folder(folder: Path) -> Authority:
    """An authority as Kobler 0.1 made it: the root's key signs directly."""
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    files.write(folder / "ca.key", files.key_pem(key))
    files.write_public(folder / "ca.pem", files.certificate_pem(certificates.root(key, "Kobler CA 0badcafe")))
    return Authority.open_or_create(folder)


def pem_of_unit(authority: Authority, folder: Path) -> Path:
    certificate = x509.load_der_x509_certificate(authority.sign_csr(request(UNIT), UNIT))
    path = folder / "unit.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def file_of(authority: Authority, kind: str, folder: Path) -> Path:
    if kind == "unit":
        return pem_of_unit(authority, folder)
    return (authority.issue_client("viewer") if kind == "client" else authority.server()).cert_pem


@needs_openssl
@pytest.mark.parametrize("make", [Authority.open_or_create, old_folder], ids=["intermediate", "old folder"])
@pytest.mark.parametrize(
    ("kind", "purpose", "host"),
    [("unit", "sslclient", None), ("client", "sslclient", None), ("server", "sslserver", "localhost")],
)
def test_openssl_verifies_every_kind_of_certificate_by_its_strictest_rules(
    tmp_path: Path, make: Any, kind: str, purpose: str, host: str | None
) -> None:
    authority = make(tmp_path / "pki")
    path = file_of(authority, kind, tmp_path)
    options = ["-verify_hostname", host] if host else []
    assert "OK" in verify(authority, path, "-purpose", purpose, *options)
    authority.revoke(authority.entries()[-1].serial, "key-compromise")
    if not path.exists():  # the file goes with its certificate
        path = next((authority.folder / "issued").glob("*.pem"))
    with pytest.raises(AssertionError, match="certificate revoked"):
        verify(authority, path, "-purpose", purpose, *options)


@needs_openssl
def test_the_server_certificate_holds_for_the_loopback_address_too(authority: Authority) -> None:
    verify(authority, authority.server().cert_pem, "-verify_ip", "127.0.0.1")


def critical(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return certificate.extensions.get_extension_for_class(kind).critical


def test_every_certificate_says_all_that_the_profile_asks_for(authority: Authority, tmp_path: Path) -> None:
    root, (issuer,) = authority.certificate, authority.chain
    leaves = [
        x509.load_pem_x509_certificates(file_of(authority, kind, tmp_path).read_bytes())[0]
        for kind in ("unit", "client", "server")
    ]
    now, serials = dt.datetime.now(dt.UTC), set()
    for one in (root, issuer, *leaves):
        serials.add(one.serial_number)
        assert 1 << 64 < one.serial_number < 1 << 159
        assert isinstance(one.signature_hash_algorithm, hashes.SHA256)
        assert critical(one, x509.KeyUsage) and critical(one, x509.BasicConstraints)
        assert dt.timedelta(hours=1) < now - one.not_valid_before_utc < dt.timedelta(days=2)
        assert one.not_valid_after_utc <= issuer.not_valid_after_utc or one is root
        one.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert len(serials) == 5
    lengths = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for one in (root, issuer)
    ]
    assert lengths == [1, 0]
    for one in (issuer, *leaves):
        one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    for one in leaves:
        one.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        one.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert not certificates.is_authority(one)


def test_the_roots_key_is_nowhere_in_the_folder(authority: Authority) -> None:
    root = authority.certificate.public_key()
    keys = [path for path in authority.folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert authority.folder / "issuer.key" in keys
    for path in keys:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert key.public_key() != root  # type: ignore[union-attr]


def test_a_folder_of_kobler_0_1_goes_on_as_it_is(tmp_path: Path) -> None:
    authority = old_folder(tmp_path / "state" / "pki")
    before = authority.ca_der
    authority.issue_client("viewer")
    shown = CliRunner().invoke(app, ["list", "--state", str(tmp_path / "state")]).stdout
    assert "the root itself" in shown and "viewer" in shown
    again = Authority.open(authority.folder)
    assert again.ca_der == before and again.chain == [] and again.chain_pem == again.ca_pem
    assert not (authority.folder / "issuer.pem").exists()


PASSPHRASE = "four words for tests"


def init(tmp_path: Path, *options: str, state: str = "state") -> Any:
    return CliRunner().invoke(app, ["init", *options, "--state", str(tmp_path / state)])


def test_a_root_on_a_medium_signs_a_second_intermediate_and_takes_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", PASSPHRASE)
    medium = tmp_path / "medium"
    assert init(tmp_path, "--root-out", str(medium)).exit_code == 0
    key = medium / "root.key"
    assert b"ENCRYPTED" in key.read_bytes()
    if os.name == "posix":
        assert key.stat().st_mode & 0o777 == 0o600
    first = Authority.open(tmp_path / "state" / "pki")
    medium.rename(tmp_path / "away")  # everything else goes without it
    assert first.issue_client("viewer").cert_pem.exists() and first.revoke("viewer")
    medium = medium.with_name("away")
    assert init(tmp_path, "--root", str(medium), state="second").exit_code == 0
    second = Authority.open(tmp_path / "second" / "pki")
    assert second.ca_der == first.ca_der and second.chain != first.chain
    serial = certificates.serial(second.chain[0])
    run = CliRunner()
    shown = run.invoke(app, ["list", "--root", str(medium), "--json"]).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in shown] == ["intermediate"] * 2
    because = ["revoke", serial, "--root", str(medium), "--reason", "because", "--state", str(tmp_path / "state")]
    refused = run.invoke(app, because)
    assert isinstance(refused.exception, UsageError) and "choose one of unspecified" in str(refused.exception)
    revoked = ["revoke", serial.upper(), "--root", str(medium), "--reason", "key-compromise"]
    assert run.invoke(app, [*revoked, "--state", str(tmp_path / "state")]).exit_code == 0
    lost = second.issue_client("lost").cert_pem
    assert not first.revocations().objection(files.certificate_der(first.chain[0]))
    assert (first.certificate.subject.public_bytes(), second.chain[0].serial_number) in first.revocations()._revoked
    if shutil.which("openssl"):
        assert "OK" in verify(second, lost)  # it has not heard of it yet
        renewed = ["crl", "--root", str(medium), "--state", str(tmp_path / "second")]
        assert run.invoke(app, renewed).exit_code == 0
        # So does a broker that asks no list about the intermediate itself: there is none any more by which it is good.
        for option in ("-crl_check", "-crl_check_all"):
            arguments = ["-CAfile", str(second.chain_pem), "-CRLfile", str(second.crl_pem), option]
            with pytest.raises(AssertionError, match="unable to get certificate CRL"):
                openssl("verify", *arguments, str(lost))
        before = second.crl_pem.read_bytes()
        assert not second.refresh_crl() and second.crl_pem.read_bytes() == before
        there = second.entries()
        with pytest.raises(
            KoblerError, match="the root has revoked this authority, nobody takes what it signs; make a new one"
        ):
            second.issue_client("later")
        assert second.entries() == there


@pytest.mark.parametrize(
    ("passphrase", "options", "words"),
    [
        ("short", ["--root-out", "new"], "at least 12 characters"),
        (None, ["--root-out", "new"], "set KOBLER_ROOT_PASSPHRASE"),
        ("not the right one", ["--root", "medium"], "does not open with this passphrase"),
        (PASSPHRASE, ["--root-out", "medium"], "has a root already"),
        (PASSPHRASE, ["--root", "nowhere"], "bring the medium"),
        (PASSPHRASE, ["--root", "medium", "--root-out", "new"], "choose"),
        (None, ["--token", "line"], "need --pkcs11"),
        (None, ["--pkcs11", "lib.so"], "needs --token or --root-token"),
        (None, ["--pkcs11", "lib.so", "--root-token", "root"], "needs --root-out"),
        (None, ["--pkcs11", "x", "--token", "a", "--root-token", "a", "--root-out", "new"], "a token of its own"),
        ("x" * 1024, ["--root-out", "new"], "at most 1023 bytes"),
        ("twelve\nlines long", ["--root-out", "new"], "printable characters only"),
    ],
)
def test_an_init_that_cannot_be_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None, options: list[str], words: str
) -> None:
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", PASSPHRASE)
    assert init(tmp_path, "--root-out", str(tmp_path / "medium"), state="other").exit_code == 0
    monkeypatch.delenv("KOBLER_ROOT_PASSPHRASE")
    if passphrase:
        monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", passphrase)
    monkeypatch.chdir(tmp_path)
    done = init(tmp_path, *options)
    assert isinstance(done.exception, KoblerError) and words in str(done.exception)
    assert passphrase not in (PASSPHRASE, None) or PASSPHRASE not in done.output + str(done.exception)
    assert not (tmp_path / "state").exists() and not (tmp_path / "new").exists()


def test_a_passphrase_is_stretched_and_a_key_of_before_still_opens(tmp_path: Path) -> None:
    path, key = tmp_path / "root.key", ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(files.key_pem(key, PASSPHRASE))
    assert files.read_encrypted_key(path, PASSPHRASE, "").private_numbers() == key.private_numbers()
    with pytest.raises(ValueError, match=r"."):  # by itself it does not open what is there
        serialization.load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    assert files.key_pem(key, PASSPHRASE).splitlines()[0] != path.read_bytes().splitlines()[0]  # salted
    for old, new in ((b"n=256", b"n=257"), (b"n=256", b"n=9999999"), (b"scrypt", b"bcrypt"), (b"salt=", b"salt=00")):
        path.write_bytes(files.key_pem(key, PASSPHRASE).replace(old, new))
        with pytest.raises(KoblerError, match="does not open with this passphrase, or is damaged"):
            files.read_encrypted_key(path, PASSPHRASE, "")
    form = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    before = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form)
    path.write_bytes(before)
    assert files.read_encrypted_key(path, PASSPHRASE, "").private_numbers() == key.private_numbers()


@pytest.mark.parametrize("name", ["root.pem", "root.key", "root.token"])
def test_what_is_left_of_a_root_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", PASSPHRASE)
    (tmp_path / "medium").mkdir()
    (tmp_path / "medium" / name).write_text("all that is left")
    done = init(tmp_path, "--root-out", str(tmp_path / "medium"))
    assert isinstance(done.exception, UsageError) and f"has a root already ({name})" in str(done.exception)
    assert [path.name for path in (tmp_path / "medium").iterdir()] == [name]
    assert (tmp_path / "medium" / name).read_text() == "all that is left"


def test_an_authority_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    init(tmp_path)
    before = (tmp_path / "state" / "pki" / "ca.pem").read_bytes()
    assert init(tmp_path).exit_code == 0
    done = init(tmp_path, "--root-out", str(tmp_path / "medium"))
    assert isinstance(done.exception, UsageError) and "has an authority already" in str(done.exception)
    assert (tmp_path / "state" / "pki" / "ca.pem").read_bytes() == before and not (tmp_path / "medium").exists()


def test_what_is_revoked_is_on_the_list_and_gets_a_new_key(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    old = authority.issue_client("viewer")
    key, kept = old.key_pem.read_bytes(), authority.issue_client("other")
    (entry,) = authority.revoke("viewer", "key-compromise")
    assert entry.status == "revoked" and not old.key_pem.exists() and not old.cert_pem.exists()
    mine = revocation.read(authority.crl_pem)[0]
    (listed,) = mine
    assert f"{listed.serial_number:040x}" == entry.serial
    assert listed.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert (authority.folder / "locked-out").read_text() == "viewer\n"
    new = authority.issue_client("viewer")
    assert new.key_pem.read_bytes() != key
    assert authority.issue_client("other") == kept
    assert authority.revoke(entry.serial) == []  # it is already
    there = sorted((one.name, one.status) for one in authority.entries())
    assert there == [("other", "good"), ("viewer", "good"), ("viewer", "revoked")]
    assert (authority.folder / "locked-out").read_text() == ""
    with pytest.raises(KoblerError, match="no certificate has the name or serial number 'nobody'"):
        authority.revoke("nobody")
    with pytest.raises(UsageError, match="choose one of unspecified, key-compromise"):
        authority.revoke("viewer", "because")


def test_a_list_is_made_anew_in_time_with_a_higher_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")

    def number() -> int:
        first = revocation.read(authority.crl_pem)[0]
        return first.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    numbers = [number()]
    assert not authority.refresh_crl()
    authority.issue_client("viewer")
    assert number() == numbers[0]  # good for another year
    assert authority.refresh_crl(days=1, force=True)
    numbers.append(number())
    monkeypatch.setattr(revocation, "_BACKDATE", dt.timedelta(days=2))
    authority.refresh_crl(days=1, force=True)
    numbers.append(number())
    assert authority.refresh_crl()  # it has lived more than half its life
    numbers.append(number())
    authority.crl_pem.write_text("rubbish")
    assert authority.refresh_crl()
    numbers.append(number())
    assert numbers == sorted(set(numbers))


def test_a_crash_between_record_and_list_loses_no_revocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    issued = authority.issue_client("viewer")
    der = files.certificate_der(files.read_certificate(issued.cert_pem, ""))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(revocation, "make", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        authority.revoke("viewer")
    assert not authority.revocations().objection(der)
    Authority.open(authority.folder).refresh_crl()
    assert authority.revocations().objection(der)


def test_a_revocation_while_another_process_makes_the_list_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Authority.open_or_create(tmp_path / "pki")
    slow.issue_client("thief")
    make = revocation.make

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(revocation, "make", make)
        made = make(*arguments)
        Authority.open(slow.folder).revoke("thief")
        return made

    monkeypatch.setattr(revocation, "make", meanwhile)
    slow.refresh_crl(force=True)
    assert len(revocation.read(slow.crl_pem)[0]) == 1
    assert (slow.folder / "locked-out").read_text() == "thief\n"


def test_a_revocation_while_the_pin_is_asked_for_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Authority.open_or_create(tmp_path / "pki")
    slow.issue_client("thief")
    private, first = slow._private, []

    def meanwhile() -> Any:
        if not first:
            first.append(Authority.open(slow.folder).revoke("thief"))
        return private()

    monkeypatch.setattr(slow, "_private", meanwhile)
    monkeypatch.setattr(files, "write_public", _never_without(slow.crl_pem, files.write_public))
    slow.refresh_crl(force=True)
    assert len(revocation.read(slow.crl_pem)[0]) == 1


def _never_without(path: Path, write: Any) -> Any:
    """`write`, that finds a list without what was revoked, even if it is there for a moment only."""

    def checked(where: Path, data: bytes) -> None:
        write(where, data)
        assert where != path or len(revocation.read(path)[0]) == 1

    return checked


def test_a_list_that_could_not_be_read_once_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    der = files.certificate_der(files.read_certificate(authority.issue_client("viewer").cert_pem, ""))
    revocations = authority.revocations()
    authority.revoke("viewer")
    with monkeypatch.context() as patch, pytest.raises(KoblerError, match="Too many open files"):
        patch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        revocations.update()
    assert revocations.update() and revocations.objection(der)


def test_a_key_of_a_revoked_certificate_is_not_certified_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    old = authority.issue_client("viewer").key_pem.read_bytes()
    monkeypatch.setattr(authority, "_forget", lambda _: None)  # as if a crash had come before
    authority.revoke("viewer", "key-compromise")
    assert authority.issue_client("viewer").key_pem.read_bytes() != old


def test_a_unit_and_a_client_never_have_one_name(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    authority.issue_client("cafe0001")
    with pytest.raises(KoblerError, match="'cafe0001' is the name of one of the clients already"):
        authority.sign_csr(request("cafe0001"), "cafe0001")
    authority.sign_csr(request(UNIT), UNIT)
    with pytest.raises(KoblerError, match=f"'{UNIT}' is the name of one of the units already"):
        authority.issue_client(UNIT)
    assert sorted(entry.kind for entry in authority.entries()) == ["client", "unit"]


def test_only_names_of_units_and_clients_are_locked_out(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    authority.issue_client("store")
    authority.server(["store"])  # its name lets no client in
    authority.revoke(next(one.serial for one in authority.entries() if one.kind == "client"))
    assert (authority.folder / "locked-out").read_text() == "store\n"
    authority.server(["store", "other"])
    assert (authority.folder / "locked-out").read_text() == "store\n"
    authority.server(["alone"])
    authority.revoke("alone")
    assert (authority.folder / "locked-out").read_text() == "store\n"
    (authority.folder / "locked-out").write_bytes(b"\xff\n")
    authority.issue_client("another")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0" * 40, '{"at": "2026-01-01", "reason": "unspecified"}'),
        ("f" * 40, '{"at": "2026-01-01", "reason": "unspecified"}'),
        ("1" * 40, '{"at": "0001-01-01", "reason": "unspecified"}'),
        ("1" * 40, '{"at": "2026-01-01", "reason": ["because"]}'),
        ("1" * 40, '{"at": "2026-01-01", "reason": "because"}'),
        ("1" * 40, "[" * 100_000),
        ("1" * 40, "[]"),
        ("thief", '{"at": "2026-01-01", "reason": "unspecified"}'),
    ],
)
def test_a_damaged_record_of_a_revocation_is_an_error_that_names_the_file(tmp_path: Path, name: str, text: str) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    (authority.folder / "revoked").mkdir()
    (authority.folder / "revoked" / f"{name}.json").write_text(text)
    with pytest.raises(KoblerError, match=rf"{name}\.json is damaged: restore it"):
        authority.refresh_crl(force=True)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"module": "x", "token": "x", "serial": "1", "id": "xyz"}', "[]"])
def test_a_damaged_note_of_a_tokens_key_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    (authority.folder / "issuer.token").write_text(text)
    with pytest.raises(KoblerError, match=r"issuer\.token does not say where a token's key is"):
        Authority.open(authority.folder)


def test_a_list_that_the_authority_did_not_sign_is_not_taken(tmp_path: Path) -> None:
    authority, other = (Authority.open_or_create(tmp_path / name) for name in ("pki", "other"))
    issued = authority.issue_client("viewer")
    der = files.certificate_der(files.read_certificate(issued.cert_pem, ""))
    authority.revoke("viewer")
    revocations = authority.revocations()
    shutil.copy(other.crl_pem, authority.crl_pem)
    with pytest.raises(KoblerError, match="this authority did not sign"):
        revocations.update()
    assert revocations.objection(der)
    authority.refresh_crl(force=True)
    assert revocations.update() and revocations.objection(der)


def test_server_and_client_certificates_make_a_mutual_tls_session(authority: Authority) -> None:
    server, client = authority.server(), authority.issue_client("viewer")
    left = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.ca_pem))
    left.load_cert_chain(server.cert_pem, server.key_pem)
    left.verify_mode = ssl.CERT_REQUIRED
    right = ssl.create_default_context(cafile=str(client.ca_pem))
    right.load_cert_chain(client.cert_pem, client.key_pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = left.wrap_bio(to_server, to_client, server_side=True)
    two = right.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = {one, two}
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    peer = one.getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "viewer"),),)
    assert peer["subjectAltName"] == (("URI", "urn:kobler:client:viewer"),)


def test_a_units_certificate_names_it_as_urn_and_dns_name(authority: Authority) -> None:
    names = certificates.unit_names(UNIT)
    certificate = x509.load_der_x509_certificate(authority.sign_csr(request(UNIT, *names), UNIT))
    assert certificates.alternatives(certificate.extensions) == names
    assert certificates.common_name(certificate.subject) == UNIT
    assert certificates.kind(certificate) == "unit"


EC_KEY = bytes.fromhex("06072a8648ce3d0201")  # the OID id-ecPublicKey
BAD_NAME = b"\x0c" + len(UNIT).to_bytes() + b"\xff" * len(UNIT)  # no UTF-8


def spoilt_request() -> bytes:
    """A request whose name was changed after it was signed."""
    return request("246f28aabbcd").replace(b"246f28aabbcd", UNIT.encode())


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        (lambda: request("246f28aabbcd"), "is for '246f28aabbcd'"),
        (lambda: request(UNIT, x509.DNSName("broker.example")), "also asks for 'broker.example'"),
        (lambda: request(UNIT, key=ec.generate_private_key(ec.SECP384R1())), "not for a P-256 key"),
        (spoilt_request, "not signed by the key it names"),
        (lambda: b"", "malformed"),
        (lambda: request(UNIT)[:-9], "malformed"),
        (lambda: request(UNIT).replace(b"\x02\x01\x00", b"\x02\x01\x05", 1), "malformed"),  # its version
        (lambda: request(UNIT).replace(EC_KEY, EC_KEY[:-1] + b"\x7f", 1), "malformed"),
        (lambda: request(UNIT).replace(b"\x0c" + len(UNIT).to_bytes() + UNIT.encode(), BAD_NAME, 1), "malformed"),
    ],
)
def test_a_request_that_is_not_the_units_own_is_refused(authority: Authority, csr: Any, words: str) -> None:
    before = len(authority.entries())
    with pytest.raises(KoblerError, match=words):
        authority.sign_csr(csr(), UNIT)
    assert len(authority.entries()) == before


def test_issuing_again_gives_the_same_certificate_while_it_is_good(authority: Authority) -> None:
    assert authority.issue_client("again") == authority.issue_client("again")


def test_a_certificate_near_its_end_is_renewed_for_the_same_key(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LEAF_DAYS", 1)
    monkeypatch.setattr(certificates, "BACKDATE", dt.timedelta(days=10))
    first = authority.issue_client("tired")
    key = first.key_pem.read_bytes()
    second = authority.issue_client("tired")
    assert second.fingerprint != first.fingerprint
    assert second.key_pem.read_bytes() == key


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_private_keys_are_readable_by_the_owner_only(authority: Authority) -> None:
    for path in (
        authority.folder / "issuer.key",
        authority.server().key_pem,
        authority.issue_client("viewer").key_pem,
    ):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert authority.ca_pem.stat().st_mode & 0o777 == 0o644


def damage_mismatch(folder: Path, name: str) -> None:
    other = Authority.open_or_create(folder.parent / "other")
    shutil.copy(other.folder / name, folder / name)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "issuer.key").unlink(), "issuer.key: No such file"),
        (lambda folder: (folder / "issuer.pem").unlink(), "issuer.pem: No such file"),
        (lambda folder: (folder / "ca.pem").unlink(), "ca.pem: No such file"),
        (lambda folder: (folder / "issuer.key").write_bytes(b"\0rubbish"), "issuer.key is not an unencrypted"),
        (lambda folder: (folder / "ca.pem").write_text("rubbish"), "ca.pem is not a certificate"),
        (lambda folder: damage_mismatch(folder, "ca.pem"), "issuer.pem is not signed by the root"),
        (lambda folder: damage_mismatch(folder, "issuer.pem"), "issuer.pem does not belong to the key"),
    ],
)
def test_a_damaged_authority_is_an_error_that_names_the_file_and_never_replaced(
    tmp_path: Path, damage: Any, words: str
) -> None:
    folder = Authority.open_or_create(tmp_path / "pki").folder
    damage(folder)
    there = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(KoblerError, match=words) as caught:
        Authority.open_or_create(folder)
    assert "restore it from a backup" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == there


def test_a_damaged_client_key_is_an_error_that_names_the_files_to_remove(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    issued = authority.issue_client("viewer")
    issued.key_pem.write_text("rubbish")
    with pytest.raises(KoblerError, match=r"viewer\.key is not .* remove"):
        authority.issue_client("viewer")


def test_two_processes_at_once_make_one_authority(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(Authority.open_or_create(tmp_path / "pki").ca_der))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]


@pytest.mark.parametrize("name", ["", "../ca", "a b", "x" * 65, ".hidden", "a/b"])
def test_a_name_that_could_leave_the_folder_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(KoblerError, match="cannot be a certificate's name"):
        authority.issue_client(name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/media/stick"), "kobler: /media/stick: No space left on device\n"),
        (OSError("cannot"), "kobler: cannot\n"),
    ],
)
def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and capsys.readouterr().err == words


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "\x7f"])
def test_what_cannot_be_a_servers_name_is_refused(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["issue", "ok", "--server", "--also", name, "--state", str(tmp_path)])
    assert isinstance(done.exception, KoblerError) and f"{name!r} cannot be a server's name" in str(done.exception)


def test_a_roots_folder_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["list", "--root", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, KoblerError) and "name the root's folder with --root" in str(done.exception)


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KoblerError, match="cannot write"):
        Authority.open_or_create(tmp_path / "file" / "pki")


@pytest.mark.parametrize("command", [["list"], ["revoke", "viewer"], ["crl"]])
def test_a_folder_without_an_authority_gets_none_by_being_looked_at(tmp_path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--state", str(tmp_path / "typo")])
    assert isinstance(done.exception, KoblerError), done.output
    assert "there is no authority in" in str(done.exception) and "`kobler pki init`" in str(done.exception)
    assert not (tmp_path / "typo").exists()


def test_the_list_shows_what_is_revoked_in_80_columns_and_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", PASSPHRASE)
    medium, state = str(tmp_path / "medium"), ["--state", str(tmp_path / "state")]
    assert init(tmp_path, "--root-out", medium).exit_code == 0
    authority = Authority.open(tmp_path / "state" / "pki")
    authority.sign_csr(request(UNIT), UNIT)
    authority.revoke(UNIT)
    for options in (state, ["--root", medium]):
        *_, head, row = CliRunner().invoke(app, ["list", *options]).stdout.splitlines()
        assert head.split() == ["name", "status", "kind", "until", "serial"]
        (entry,) = authority.entries() if options is state else Register(tmp_path / "medium").entries()
        assert row.split() == entry_row(entry), "its serial number is whole"
        assert f" {entry.status} " in row[:80]
    assert entry.status == "good" and authority.entries()[0].status == "revoked"
    assert len(CliRunner().invoke(app, ["list", *state]).stdout.splitlines()[-1]) < 80


def entry_row(entry: Entry) -> list[str]:
    return [*entry.name.split(), entry.status, entry.kind, f"{entry.not_after:%Y-%m-%d}", entry.serial]


def test_a_clock_that_is_wrong_is_named_and_makes_no_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", PASSPHRASE)
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "RELEASED", dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        for options in ([], ["--root-out", str(tmp_path / "medium")]):
            done = init(tmp_path, *options)
            assert "this computer's clock says" in str(done.exception) and "but this software is of" in str(
                done.exception
            )
            assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "BACKDATE", dt.timedelta(days=-2))
        assert "the authority was made after" in str(init(tmp_path).exception)
    with pytest.raises(KoblerError, match=r"the authority was made after .*: is the clock wrong\?"):
        Authority.open(tmp_path / "state" / "pki")


def test_a_full_disk_asks_for_space_not_for_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KoblerError, match=r"No space left on device; free some space$"):
        files.write(tmp_path / "file", b"x")


def test_the_commands_print_json_lines(tmp_path: Path) -> None:
    run = CliRunner()
    state = ["--state", str(tmp_path / "state"), "--json"]
    made = json.loads(run.invoke(app, ["init", *state]).stdout)
    issued = json.loads(run.invoke(app, ["issue", "dashboard", *state]).stdout)
    listed = [json.loads(line) for line in run.invoke(app, ["list", *state]).stdout.splitlines()]
    assert Path(made["ca"]) == Path(issued["ca"])
    assert Path(issued["key"]).read_text().startswith("-----BEGIN PRIVATE KEY")
    assert listed[0]["event"] == "authority" and "intermediate" in listed[0]["signs"]
    assert [(row["name"], row["kind"], row["fingerprint"], row["status"]) for row in listed[1:]] == [
        ("dashboard", "client", issued["fingerprint"], "good")
    ]
    taken = [json.loads(line) for line in run.invoke(app, ["revoke", "dashboard", *state]).stdout.splitlines()]
    assert [(row["event"], row.get("status")) for row in taken] == [("revoked", "revoked"), ("crl", None)]
    served = json.loads(run.invoke(app, ["issue", "broker.example", "--server", "--also", "192.0.2.1", *state]).stdout)
    names = certificates.alternatives(x509.load_pem_x509_certificate(Path(served["cert"]).read_bytes()).extensions)
    assert [str(name.value) for name in names] == ["broker.example", "192.0.2.1"]
    made = json.loads(run.invoke(app, ["crl", "--days", "7", *state]).stdout)
    left = revocation.read(Path(made["crl"]))[0].next_update_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=6) < left < dt.timedelta(days=8)


def test_issue_tells_a_person_where_the_files_are(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["issue", "dashboard", "--state", str(tmp_path)]).stdout
    for name in ("dashboard.pem", "dashboard.key", "ca.pem"):
        assert name in shown
