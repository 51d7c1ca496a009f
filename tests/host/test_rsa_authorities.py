"""Authorities of companies, most of which have RSA keys: the computer at the cable and the unit judge them alike."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import anchors
from coupler.trust import x509 as unit_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from kobler.errors import KoblerError
from kobler.provision import external
from other_authority import OtherAuthority, rsa_key

UNIT = "246f28aabbcc"
SERVER, CLIENT, ANY = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def judged(folder: Path, other: OtherAuthority, **options: Any) -> tuple[str, str]:
    """What the computer and the unit have against a certificate of this authority; "" for nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, UNIT)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (folder / "csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    certificate = other.sign(folder / "csr", **options)
    here = there = ""
    try:
        found = external.answer([certificate, *other.chain], key.public_key(), UNIT)
        assert found.certificate == der(certificate) and found.ca == der(other.chain[0])
        assert found.chain == [der(one) for one in reversed(other.chain[1:])]
    except KoblerError as error:
        here = str(error)
    try:
        root, *between = (unit_x509.Certificate(der(one)) for one in other.chain)
        leaf = unit_x509.Certificate(der(certificate))
        unit_x509.check_chain(leaf, between, [root], int(time.time()), unit_x509.CLIENT)
    except ValueError as error:
        there = str(error)
    return here, there


@pytest.mark.parametrize(
    "options",
    [
        {"keys": ((2048,), (2048,))},
        {"keys": ((4096,), (3072,)), "uses": (None, CLIENT)},
        {"keys": ((2048, 3), (4096, 3)), "uses": (CLIENT, ANY)},
        {"keys": ((4096,), None)},
        {"keys": (None, (4096,)), "lengths": (1, 0)},
        {"keys": ((2049,),), "levels": 0},
    ],
    ids=["2048", "4096, 3072", "exponent 3", "a P-256 intermediate", "a P-256 root", "a root alone"],
)
def test_authorities_that_are_taken_here_and_there(tmp_path: Path, options: dict[str, Any]) -> None:
    assert judged(tmp_path, OtherAuthority(**options)) == ("", "")


@pytest.mark.parametrize(
    ("options", "leaf", "here", "there"),
    [
        (
            {"keys": ((2048,), (1024,))},
            {},
            "'Other 1' has an RSA key of 1024 bits and exponent 65537; units know P-256, and RSA of 2048 to 4096 bits",
            "'Other 1' has an RSA key of 1024 bits: too short, at least 2048",
        ),
        ({"keys": ((1024,), None)}, {}, "'Other 0' has an RSA key of 1024 bits", "RSA key of 1024 bits: too short"),
        ({"keys": ((4098,), None)}, {}, "an RSA key of 4098 bits", "4098 bits: too long, at most 4096"),
        ({"curve": ec.SECP384R1()}, {}, "'Other 1' has a key on secp384r1", "has a key on the curve 1.3.132.0.34"),
        (
            {"keys": ((2048,), (2048,)), "digest": hashes.SHA512()},
            {},
            f"certificate of '{UNIT}' is not signed with ECDSA or RSA (PKCS #1 v1.5) and SHA-256",
            "is signed with RSA and SHA-512, not with",
        ),
        (
            {"keys": ((2048,), (2048,)), "padding": PSS},
            {},
            "is not signed with ECDSA or RSA",
            "is signed with RSASSA-PSS, not",
        ),
        ({"digest": hashes.SHA384()}, {}, "is not signed with ECDSA or RSA", "signed with ECDSA and SHA-384, not"),
        (
            {"keys": ((2048,), (2048,)), "uses": (None, SERVER)},
            {},
            "authority 'Other 1' may not issue for TLS clients: ask for one with extendedKeyUsage clientAuth",
            "'Other 1' is an authority, but not for clients of TLS (extendedKeyUsage clientAuth)",
        ),
        ({"uses": (SERVER, CLIENT)}, {}, "authority 'Other 0' may not issue", "'Other 0' is an authority, but not for"),
        (
            {},
            {"server": True},
            f"certificate of '{UNIT}' is not for TLS clients: ask for one with extendedKeyUsage clientAuth",
            "is not for clients of TLS (extendedKeyUsage clientAuth)",
        ),
        (
            {},
            {"signs": False},
            f"certificate of '{UNIT}' is not for TLS clients: ask for one with keyUsage digitalSignature",
            "is not for clients of TLS (extendedKeyUsage clientAuth), and its key usage has no digitalSignature",
        ),
        ({"signs": (True, False)}, {}, "ask for one with keyUsage keyCertSign", "'Other 1' may not issue certificates"),
        (
            {"more": x509.NameConstraints([x509.DNSName("example.com")], None)},
            {},
            "has the extension 2.5.29.30, which units do not understand: ask for one without it",
            "unknown critical extension 2.5.29.30",
        ),
        ({"more": x509.InhibitAnyPolicy(0)}, {}, "has the extension 2.5.29.54", "unknown critical extension 2.5.29.54"),
    ],
)
def test_authorities_that_are_refused_here_and_there_with_the_cause(
    tmp_path: Path, options: dict[str, Any], leaf: dict[str, Any], here: str, there: str
) -> None:
    found = judged(tmp_path, OtherAuthority(**options), **leaf)
    assert here in found[0] and there in found[1], found


def test_what_a_root_signed_itself_with_does_not_matter(tmp_path: Path) -> None:
    other = OtherAuthority(keys=((2048,), None))
    key = rsa_key(2048)
    builder = other._builder(other.chain[0].subject, other.chain[0].subject, key.public_key(), ca=True)
    other.chain[0] = builder.sign(key, hashes.SHA512())
    assert judged(tmp_path, other) == ("", "")


def root(name: str, key: Any, issuer: str | None = None, signer: Any = None) -> unit_x509.Certificate:
    """An authority's certificate as the unit reads it."""
    subject, above = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer or name)
    )
    made = OtherAuthority(0)._builder(subject, above, key.public_key(), ca=True).sign(signer or key, hashes.SHA256())
    return unit_x509.Certificate(der(made))


def test_an_rsa_root_rolls_over_to_the_key_that_the_old_one_vouches_for_and_to_no_other() -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    old_key, new_key, third = rsa_key(2048), rsa_key(3072), rsa_key(2048, 3)
    old, new = root("Old", old_key), root("New", new_key)
    proof = root("New", new_key, "Old", old_key)
    assert anchors.rolled([old], [new, proof], now) == ([old, new], [new])
    # The key is the third's, and the one that is vouched for signed it.
    other = root("New", third, signer=new_key)
    other.check_signed_by(proof)
    assert other.issuer == other.subject
    assert anchors.rolled([old], [other, proof], now) == ([old], [])
    assert anchors.rolled([old], [new, root("New", new_key, "Old", third)], now) == ([old], [])
