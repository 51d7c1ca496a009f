"""The local certificate authority, judged by OpenSSL and by what a person does wrong with its files."""

from __future__ import annotations

import datetime as dt
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
from kobler.errors import KoblerError
from kobler.pki import Authority, certificates
from kobler.pki.cli import app
from typer.testing import CliRunner

UNIT = "246f28aabbcc"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


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


@needs_openssl
@pytest.mark.parametrize(
    ("kind", "purpose", "host"),
    [("unit", "sslclient", None), ("client", "sslclient", None), ("server", "sslserver", "localhost")],
)
def test_openssl_verifies_every_kind_of_certificate_by_its_strictest_rules(
    authority: Authority, tmp_path: Path, kind: str, purpose: str, host: str | None
) -> None:
    if kind == "unit":
        path = tmp_path / "unit.pem"
        certificate = x509.load_der_x509_certificate(authority.sign_csr(request(UNIT), UNIT))
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    else:
        path = (authority.issue_client("viewer") if kind == "client" else authority.server()).cert_pem
    arguments = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(authority.ca_pem)]
    if host:
        arguments += ["-verify_hostname", host]
    assert "OK" in openssl(*arguments, str(path))


@needs_openssl
def test_the_server_certificate_holds_for_the_loopback_address_too(authority: Authority) -> None:
    path = authority.server().cert_pem
    openssl("verify", "-x509_strict", "-verify_ip", "127.0.0.1", "-CAfile", str(authority.ca_pem), str(path))


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
        authority.folder / "ca.key",
        authority.server().key_pem,
        authority.issue_client("viewer").key_pem,
    ):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert authority.ca_pem.stat().st_mode & 0o777 == 0o644


def damage_mismatch(folder: Path) -> None:
    other = Authority.open_or_create(folder.parent / "other")
    shutil.copy(other.ca_pem, folder / "ca.pem")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "ca.key").unlink(), "ca.key: No such file"),
        (lambda folder: (folder / "ca.pem").unlink(), "ca.pem: No such file"),
        (
            lambda folder: (folder / "ca.key").write_bytes(b"\0rubbish"),
            "ca.key is not an unencrypted private key",
        ),
        (lambda folder: (folder / "ca.pem").write_text("rubbish"), "ca.pem is not a certificate"),
        (damage_mismatch, "ca.pem does not belong to the key"),
    ],
)
def test_a_damaged_authority_is_an_error_that_names_the_file_and_never_replaced(
    tmp_path: Path, damage: Any, words: str
) -> None:
    folder = Authority.open_or_create(tmp_path / "pki").folder
    damage(folder)
    files = {path: path.read_bytes() for path in folder.glob("ca.*")}
    with pytest.raises(KoblerError, match=words) as caught:
        Authority.open_or_create(folder)
    assert "restore it from a backup" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.glob("ca.*")} == files


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


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KoblerError, match="cannot write"):
        Authority.open_or_create(tmp_path / "file" / "pki")


def test_the_commands_print_json_lines(tmp_path: Path) -> None:
    run = CliRunner()
    state = ["--state", str(tmp_path / "state"), "--json"]
    made = json.loads(run.invoke(app, ["init", *state]).stdout)
    issued = json.loads(run.invoke(app, ["issue", "dashboard", *state]).stdout)
    listed = [json.loads(line) for line in run.invoke(app, ["list", *state]).stdout.splitlines()]
    assert Path(made["ca"]) == Path(issued["ca"])
    assert Path(issued["key"]).read_text().startswith("-----BEGIN PRIVATE KEY")
    assert [(row["name"], row["kind"], row["fingerprint"]) for row in listed] == [
        ("dashboard", "client", issued["fingerprint"])
    ]


def test_issue_tells_a_person_where_the_files_are(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["issue", "dashboard", "--state", str(tmp_path)]).stdout
    for name in ("dashboard.pem", "dashboard.key", "ca.pem"):
        assert name in shown
