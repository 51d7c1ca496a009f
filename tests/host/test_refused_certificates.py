"""Certificates that a unit must not take, handed to it as `kobler provision` does: each is refused with its cause, on
the real MicroPython and on CPython, and the identity of before works on at a real broker.

What a TLS peer shows is in test_tls_failures.py, what is revoked in test_revoked.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kobler.sim.interpreter import micropython
from other_authority import OtherAuthority
from uplink_world import FIRMWARE, INTERPRETERS, Broker, Ca, Loop
from uplink_world import unit as connected

NAME = "020000000001"  # of a unit without a chip
DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
IDENTITY = ("key.der", "cert.der", "ca.der", "identity")

WORKER = """
import binascii, json, sys
line = json.loads(sys.stdin.readline())
sys.path.insert(0, line[0])
if sys.implementation.name == "micropython":
    from coupler.hal.micropython import Hal
else:
    from coupler.hal.cpython import Hal
hal = Hal(line[1])
from coupler.trust import enrol, switch
for line in sys.stdin:
    staged = json.loads(line)
    try:
        if staged is None:
            answer = binascii.b2a_base64(enrol.begin(hal)).decode()
        else:
            for name, text in staged.items():
                data = binascii.a2b_base64(text)
                enrol.stage(hal, name, data, switch.digest(data))
            answer = enrol.commit(hal)["fingerprint"]
        print(json.dumps([answer, None]))
    except Exception as error:
        print(json.dumps([None, type(error).__name__ + ": " + str(error)]))
    if sys.implementation.name != "micropython":
        sys.stdout.flush()
"""


class Unit:
    """What provisioning meets on a unit, in a process of its own, and its files."""

    def __init__(self, interpreter: str, root: Path) -> None:
        self.interpreter = interpreter
        self.etc = root / "etc"
        self.etc.mkdir(parents=True)
        program = sys.executable if interpreter == "cpython" else str(micropython())
        self._process = subprocess.Popen(
            [program, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._say([str(FIRMWARE), str(root)])

    def _say(self, line: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _ask(self, line: Any) -> tuple[str | None, str | None]:
        self._say(line)
        assert self._process.stdout
        text = self._process.stdout.readline()
        assert text.startswith("["), text + self._process.stdout.read()
        answer, error = json.loads(text)
        return answer, error

    def request(self) -> x509.CertificateSigningRequest:
        answer, error = self._ask(None)
        assert answer is not None, error
        return x509.load_der_x509_csr(base64.b64decode(answer))

    def take(self, certificate: bytes, ca: bytes, *chain: bytes) -> tuple[str | None, str | None]:
        """(fingerprint, refusal)"""
        cert, root = (base64.b64encode(one).decode() for one in (certificate + b"".join(chain), ca))
        return self._ask({"cert": cert, "ca": root})

    def identity(self) -> dict[str, bytes]:
        return {name: (self.etc / name).read_bytes() for name in IDENTITY}

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def issued(ca: Ca, request: x509.CertificateSigningRequest, name: str = NAME, key: Any = None, **more: Any) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return ca._build(subject, key or request.public_key(), **more).public_bytes(DER)


def by_openssl(ca: Ca, request: x509.CertificateSigningRequest, *options: str, key: Path | None = None) -> bytes:
    """What cryptography does not make any more."""
    folder = ca.folder
    signer = key or folder / "ca.key"
    if key is None:
        form = serialization.PrivateFormat.TraditionalOpenSSL
        signer.write_bytes(ca._key.private_bytes(PEM, form, serialization.NoEncryption()))
    (folder / "unit.csr").write_bytes(request.public_bytes(PEM))
    (folder / "v3.ext").write_text("basicConstraints=critical,CA:FALSE\n")
    return openssl(
        "x509", "-req", "-in", folder / "unit.csr", "-CA", folder / "ca.pem", "-CAkey", signer, "-days", "30",
        "-extfile", folder / "v3.ext", "-set_serial", "77", "-outform", "DER", *options,
    )  # fmt: skip


def openssl(*arguments: object) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def rsa_key(folder: Path, bits: int) -> Path:
    """Also of 512 bits, which OpenSSL still makes."""
    path = folder / f"rsa{bits}.key"
    if not path.exists():
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", path)
    return path


def of_rsa(ca: Ca, request: x509.CertificateSigningRequest) -> bytes:
    """A certificate for a key of 512 bits."""
    path = rsa_key(ca.folder, 512)
    public = ca.folder / "rsa512.pub"
    openssl("pkey", "-in", path, "-pubout", "-out", public)
    return by_openssl(ca, request, "-force_pubkey", str(public))


def rsa_authority(
    ca: Ca, request: x509.CertificateSigningRequest, bits: int, digest: str = "-sha256"
) -> tuple[bytes, bytes]:
    """What an authority of the same name with an RSA key signed, and its own certificate."""
    folder = ca.folder / "rsa"
    folder.mkdir(exist_ok=True)
    key = rsa_key(folder, bits)
    arguments = ("-key", key, "-subj", "/CN=Test CA", "-sha256", "-days", "30", "-out", folder / "ca.pem")
    openssl("req", "-x509", "-new", *arguments, "-addext", "keyUsage=critical,keyCertSign")
    other = Ca(folder / "unused")
    other.folder = folder
    root = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()).public_bytes(DER)
    return by_openssl(other, request, digest, key=key), root


def below(ca: Ca, request: x509.CertificateSigningRequest) -> bytes:
    """Signed by an intermediate, which is not handed over."""
    middle = Ca(ca.folder / "middle", "Middle CA")
    return issued(middle, request)


def large(ca: Ca, request: x509.CertificateSigningRequest) -> bytes:
    return issued(ca, request, names=tuple(f"{n:060d}.example" for n in range(80)))


Make = Callable[[Ca, x509.CertificateSigningRequest], bytes]
CASES: dict[str, tuple[str, Make]] = {
    "expired": (f"certificate of '{NAME}' has expired", lambda ca, csr: issued(ca, csr, days=(-5, -1))),
    "not yet valid": (f"certificate of '{NAME}' is not valid yet", lambda ca, csr: issued(ca, csr, days=(1, 5))),
    "wrong name": ("certificate is for '0200000000ff', but this", lambda ca, csr: issued(ca, csr, "0200000000ff")),
    "no name": (
        "certificate is for '', but this unit",
        lambda ca, csr: ca._build(x509.Name([]), csr.public_key()).public_bytes(DER),
    ),
    "unknown authority": (
        "was issued by 'Other CA', which is not trusted here: unknown authority",
        lambda ca, csr: issued(Ca(ca.folder / "other", "Other CA"), csr),
    ),
    "fake root with the same name": (
        "is not signed by the key of certificate of 'Test CA'",
        lambda ca, csr: issued(Ca(ca.folder / "fake", "Test CA"), csr),
    ),
    "key that does not match": (
        "certificate is not for this unit's key",
        lambda ca, csr: issued(ca, csr, key=ec.generate_private_key(ec.SECP256R1()).public_key()),
    ),
    "truncated chain": (
        "was issued by 'Middle CA', which is not trusted here: unknown authority, or a chain cut off",
        below,
    ),
    "truncated certificate": ("cut off", lambda ca, csr: issued(ca, csr)[:-9]),
    "SHA-1": ("is signed with ECDSA and SHA-1, not with", lambda ca, csr: by_openssl(ca, csr, "-sha1")),
    "RSA-512": ("certificate has an RSA key of 512 bits, not one of P-256", of_rsa),
    "oversized": ("bytes, at most 4096", large),
    "trailing garbage": ("after the certificate's end", lambda ca, csr: issued(ca, csr) + b"\0\0"),
    "empty": ("no certificate", lambda ca, csr: b""),
    "PEM": (
        "not a certificate in DER",
        lambda ca, csr: x509.load_der_x509_certificate(issued(ca, csr)).public_bytes(PEM),
    ),
}


@pytest.fixture(scope="module", params=INTERPRETERS)
def unit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ca: Ca) -> Iterator[Unit]:
    """A unit that has an identity."""
    one = Unit(request.param, tmp_path_factory.mktemp(request.param))
    try:
        certificate = issued(ca, one.request())
        fingerprint, error = one.take(certificate, ca.certificate.public_bytes(DER))
        assert fingerprint == hashlib.sha256(certificate).hexdigest(), error
        yield one
    finally:
        one.close()


def refusal(unit: Unit, *certificates: bytes) -> str:
    before = unit.identity()
    fingerprint, error = unit.take(*certificates)
    assert fingerprint is None and error is not None and error.startswith("EnrolError: "), error
    assert unit.identity() == before
    return error


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_its_cause(unit: Unit, ca: Ca, case: str) -> None:
    words, make = CASES[case]
    error = refusal(unit, make(ca, unit.request()), ca.certificate.public_bytes(DER))
    assert words in error, error


@pytest.mark.parametrize(
    ("bits", "digest", "words"),
    [
        (512, "-sha256", "'Test CA' has an RSA key of 512 bits: too short, at least 2048"),
        (1024, "-sha256", "'Test CA' has an RSA key of 1024 bits: too short, at least 2048"),
        (2048, "-sha1", f"'{NAME}' is signed with RSA and SHA-1, not with SHA-256"),
        (2048, "-sha384", f"'{NAME}' is signed with RSA and SHA-384, not with SHA-256"),
    ],
)
def test_an_rsa_authority_that_is_too_weak_or_not_understood_is_refused(
    unit: Unit, ca: Ca, bits: int, digest: str, words: str
) -> None:
    error = refusal(unit, *rsa_authority(ca, unit.request(), bits, digest))
    assert words in error, error


@pytest.mark.parametrize(
    ("authority", "leaf", "words"),
    [
        (
            {"uses": (None, ExtendedKeyUsageOID.SERVER_AUTH)},
            {},
            "'Other 1' is an authority, but not for clients of TLS",
        ),
        ({"keys": ((2048,), (1024,))}, {}, "'Other 1' has an RSA key of 1024 bits: too short, at least 2048"),
        ({"keys": ((2048,), (2048,))}, {"signs": False}, f"'{NAME}' is not for clients of TLS"),
        ({}, {"server": True}, f"'{NAME}' is not for clients of TLS"),
    ],
    ids=["an authority for servers", "RSA-1024", "a key that must not sign", "a certificate for servers"],
)
def test_a_chain_that_is_not_for_clients_or_too_weak_is_refused(
    unit: Unit, tmp_path: Path, authority: dict[str, Any], leaf: dict[str, Any], words: str
) -> None:
    other = OtherAuthority(**authority)
    (tmp_path / "csr").write_bytes(unit.request().public_bytes(PEM))
    found = (other.sign(tmp_path / "csr", **leaf), *other.chain)
    error = refusal(unit, *(one.public_bytes(DER) for one in found))
    assert words in error, error


@pytest.mark.parametrize(
    ("words", "days"), [("of 'Test CA' has expired", (-5, -1)), ("of 'Test CA' is not valid yet", (1, 5))]
)
def test_an_authority_out_of_its_time_is_refused(
    unit: Unit, ca: Ca, words: str, days: tuple[int, int], tmp_path: Path
) -> None:
    own = Ca(tmp_path / "own", "Test CA")
    root = own._build(own._name, own._key.public_key(), ca=True, days=days)
    assert words in refusal(unit, issued(own, unit.request()), root.public_bytes(DER))


def test_the_identity_of_before_works_on_and_a_good_one_is_still_taken(unit: Unit, ca: Ca, loop: Loop) -> None:
    refusal(unit, issued(ca, unit.request(), days=(-5, -1)), ca.certificate.public_bytes(DER))
    broker = Broker(loop, ca.context())
    try:
        with connected(unit.interpreter, unit.etc, {"port": broker.port}, id=NAME) as one:
            one.online()
        certificate = issued(ca, unit.request())
        fingerprint, error = unit.take(certificate, ca.certificate.public_bytes(DER))
        assert fingerprint == hashlib.sha256(certificate).hexdigest(), error
        with connected(unit.interpreter, unit.etc, {"port": broker.port}, id=NAME) as one:
            one.online()
    finally:
        broker.stop()
