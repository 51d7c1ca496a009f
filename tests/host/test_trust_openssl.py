"""The unit's requests, keys and reading of certificates, judged by OpenSSL, cryptography and mbedTLS."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import certifi
import pytest
from coupler.trust import chains, csr, p256, pkcs7, x509
from cryptography import x509 as host_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization import pkcs7 as host_pkcs7
from kobler.pki import Authority

UNIT = "246f28aabbcc"
FIRMWARE = Path(csr.__file__).parents[2]
MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def signed_by(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        chains.check_signed_by(one, issuer)
    except chains.ChainError:
        return False
    return True


@needs_openssl
def test_openssl_verifies_the_units_request_and_reads_its_key(tmp_path: Path) -> None:
    private = p256.generate()
    (tmp_path / "csr").write_bytes(csr.request(private, UNIT, "Example"))
    (tmp_path / "key").write_bytes(csr.write_key(private))
    command = ["openssl", "req", "-inform", "der", "-in", str(tmp_path / "csr"), "-verify", "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verify OK" in shown.stdout + shown.stderr
    assert f"URI:urn:dev:kobler:{UNIT}, DNS:{UNIT}" in shown.stdout
    assert "Example" in shown.stdout
    command = ["openssl", "ec", "-inform", "der", "-in", str(tmp_path / "key"), "-check", "-noout"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "EC Key valid" in shown.stdout + shown.stderr


def test_the_authority_signs_the_units_request_and_the_unit_understands_the_certificate(
    tmp_path: Path,
) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    private = p256.generate()
    signed = authority.sign_csr(csr.request(private, UNIT), UNIT)
    unit, ca = x509.Certificate(signed), x509.Certificate(authority.ca_der)
    host = host_x509.load_der_x509_certificate(signed)
    assert unit.public_key == p256.public_key(private)
    assert unit.common_name() == UNIT
    (issuer,) = (x509.Certificate(one) for one in authority.chain_der)
    assert signed_by(unit, issuer) and signed_by(issuer, ca)
    assert not signed_by(unit, ca)
    assert signed_by(ca, ca)
    assert not signed_by(ca, unit)
    assert unit.serial == host.serial_number
    assert unit.not_before == host.not_valid_before_utc.timestamp()
    assert unit.not_after == host.not_valid_after_utc.timestamp()
    other = Authority.open_or_create(tmp_path / "other")
    assert not signed_by(unit, x509.Certificate(other.chain_der[0]))


def micropython(code: str, *options: str, path: Path = FIRMWARE) -> str:
    command = [str(MICROPYTHON), *options, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mbedtls_loads_the_key_and_the_certificate(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    made = micropython(
        "from coupler.trust import csr, p256\n"
        "d = p256.generate()\n"
        f"open({str(tmp_path / 'key')!r}, 'wb').write(csr.write_key(d))\n"
        f"print(csr.request(d, {UNIT!r}).hex())"
    )
    signed = authority.sign_csr(bytes.fromhex(made), UNIT)
    load = (
        "import tls\n"
        "context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)\n"
        f"context.load_verify_locations(bytes.fromhex({authority.ca_der.hex()!r}))\n"
        f"key = open({str(tmp_path / 'key')!r}, 'rb').read()\n"
        f"context.load_cert_chain(bytes.fromhex({signed.hex()!r}), key)\n"
        "print('loaded')\n"
    )
    assert micropython(load) == "loaded\n"
    with pytest.raises(AssertionError, match="invalid key"):
        micropython(load.replace(".read()", ".read()[:-1]"))


def openssl(*arguments: str, folder: Path) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout + done.stderr


@needs_openssl
def test_openssl_reads_a_request_with_addresses_and_a_renewal(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    first = csr.request(4711, UNIT, "Ångström & Søn", (b"\xc0\x00\x02\x01", bytes(15) + b"\x01"))
    certificate = x509.Certificate(authority.sign_csr(csr.request(4711, UNIT), UNIT))
    for name, data in (("first", first), ("renewal", csr.renewal(4712, certificate))):
        (tmp_path / name).write_bytes(data)
        shown = openssl(
            "req", "-inform", "der", "-in", name, "-verify", "-noout", "-text", "-nameopt", "utf8", folder=tmp_path
        )
        assert "verify OK" in shown
        assert f"URI:urn:dev:kobler:{UNIT}, DNS:{UNIT}" in shown
        if name == "first":
            assert "IP Address:192.0.2.1, IP Address:0:0:0:0:0:0:0:1" in shown
            assert "Ångström & Søn" in shown
    request = host_x509.load_der_x509_csr(csr.renewal(4712, certificate))
    host = host_x509.load_der_x509_certificate(certificate.der)
    kind = host_x509.SubjectAlternativeName
    assert request.subject == host.subject
    assert request.extensions.get_extension_for_class(kind).value == host.extensions.get_extension_for_class(kind).value
    assert request.public_key() != host.public_key()


def agrees(data: bytes) -> x509.Certificate:
    """The unit's reading of a certificate, found the same as cryptography's."""
    unit, host = x509.Certificate(data), host_x509.load_der_x509_certificate(data)
    assert unit.serial == host.serial_number
    assert unit.subject == host.subject.public_bytes() and unit.issuer == host.issuer.public_bytes()
    assert unit.not_before == host.not_valid_before_utc.timestamp()
    assert unit.not_after == host.not_valid_after_utc.timestamp()
    key = host.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        numbers = key.public_numbers()
        assert unit.public_key == b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    else:
        assert unit.public_key is None
    if isinstance(key, rsa.RSAPublicKey):
        assert chains.key_name(unit) == f"an RSA key of {key.key_size} bits"
    try:
        basic = host.extensions.get_extension_for_class(host_x509.BasicConstraints).value
        assert (unit.is_ca, unit.path_length) == (basic.ca, basic.path_length)
    except host_x509.ExtensionNotFound:
        assert not unit.is_ca
    return unit


# Some roots have a serial number of 0.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_the_roots_of_the_public_web_are_read_as_cryptography_reads_them() -> None:
    found, checked = 0, set()
    for host in host_x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes()):
        data = host.public_bytes(Encoding.DER)
        if host.version is not host_x509.Version.v3:
            with pytest.raises(ValueError, match="version 3"):
                x509.Certificate(data)
            continue
        unit = agrees(data)
        assert unit.is_ca
        found += 1
        if chains.signature_name(unit) == "RSA and SHA-256" or (
            unit.public_key is not None and chains.signature_name(unit) == "ECDSA and SHA-256"
        ):
            chains.check_signed_by(unit, unit)
            checked.add(chains.key_name(unit))
    assert found > 80
    assert {"a key on P-256", "an RSA key of 2048 bits", "an RSA key of 4096 bits"} <= checked


def test_names_and_times_of_all_kinds_are_read_as_cryptography_reads_them() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = host_x509.Name([host_x509.NameAttribute(host_x509.NameOID.COMMON_NAME, "x")])
    moments = [dt.datetime(1950, 1, 1), dt.datetime(1999, 12, 31, 23, 59, 59), dt.datetime(2000, 2, 29),
               dt.datetime(2049, 12, 31, 23, 59, 59), dt.datetime(2050, 1, 1), dt.datetime(2100, 3, 1),
               dt.datetime(9999, 12, 31, 23, 59, 59)]  # fmt: skip
    for begins, ends in itertools.pairwise(moments):
        made = (
            host_x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(host_x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(
                host_x509.SubjectAlternativeName(
                    [host_x509.DNSName("a.example"), host_x509.RFC822Name("a@b.example"),
                     host_x509.UniformResourceIdentifier("urn:x")]
                ),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        unit = agrees(made.public_bytes(Encoding.DER))
        assert unit.names() == [(x509.DNS, "a.example"), (x509.URI, "urn:x")]


@needs_openssl
def test_messages_of_openssl_and_cryptography_give_their_certificates(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "pki")
    ders = [authority.sign_csr(csr.request(4711, UNIT), UNIT), authority.ca_der]
    (tmp_path / "both.pem").write_text("".join(ssl.DER_cert_to_PEM_cert(one) for one in ders))
    openssl("crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", "der", "-out", "openssl.p7", folder=tmp_path)
    hosts = [host_x509.load_der_x509_certificate(one) for one in ders]
    for data in (
        (tmp_path / "openssl.p7").read_bytes(),
        host_pkcs7.serialize_certificates(hosts, Encoding.DER),
    ):
        assert sorted(pkcs7.certificates(data)) == sorted(ders)


def self_signed(folder: Path, *options: str) -> bytes:
    command = ["req", "-x509", "-nodes", "-keyout", "key", "-out", "cert", "-outform", "der", "-subj", "/CN=weak"]
    openssl(*command, "-days", "10", *options, folder=folder)
    return (folder / "cert").read_bytes()


P256_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
WEAK = [
    ((*P256_KEY, "-sha1"), "signed with ECDSA and SHA-1, not with"),
    ((*P256_KEY, "-sha384"), "signed with ECDSA and SHA-384, not with"),
    (("-newkey", "rsa:512"), "has an RSA key of 512 bits: too short, at least 2048"),
    (("-newkey", "rsa:1024"), "has an RSA key of 1024 bits: too short, at least 2048"),
    (("-newkey", "rsa:2048", "-sha1"), "signed with RSA and SHA-1, not with"),
    (("-newkey", "rsa:2048", "-sha384"), "signed with RSA and SHA-384, not with"),
    (("-newkey", "rsa:2048", "-sha512"), "signed with RSA and SHA-512, not with"),
    (("-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"), "signed with RSASSA-PSS, not with"),
    (("-newkey", "rsa-pss"), "signed with RSASSA-PSS, not with"),
    (("-newkey", "ed25519"), "signed with 1.3.101.112, not with"),
    (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha256"), "has a key on the curve 1.3.132.0.34"),
]


@needs_openssl
@pytest.mark.parametrize(("options", "words"), WEAK, ids=[words for _, words in WEAK])
def test_weak_certificates_are_read_and_not_trusted(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    found = x509.Certificate(self_signed(tmp_path, *options))
    with pytest.raises(chains.ChainError, match=words):
        chains.check(found, [], [found])
    assert not signed_by(found, found)


@needs_openssl
@pytest.mark.parametrize("options", [("rsa:2048",), ("rsa:3072",), ("rsa:4096",), ("rsa:2050",),
                                     ("rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"),
                                     ("rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:4294967295")])  # fmt: skip
def test_rsa_certificates_of_openssl_are_trusted(options: tuple[str, ...], tmp_path: Path) -> None:
    found = x509.Certificate(self_signed(tmp_path, "-newkey", *options))
    chains.check(found, [], [found])
    assert found.public_key is None and chains.key_name(found) == f"an RSA key of {options[0][4:]} bits"
    spoilt = x509.Certificate(found.der[:-1] + bytes((found.der[-1] ^ 1,)))
    assert signed_by(found, found) and not signed_by(spoilt, found)
