"""Authorities of companies, most of which have RSA keys: the computer at the cable and the unit judge them alike."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import der as unit_der
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from judged_twice import UNIT, altered, der, judged, judged_as_it_is, request
from other_authority import OtherAuthority, rsa_key

SERVER, CLIENT, ANY = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


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
            f"certificate of '{UNIT}' is signed with sha512WithRSAEncryption (1.2.840.113549.1.1.13), not with",
            "is signed with RSA and SHA-512, not with",
        ),
        (
            {"keys": ((2048,), (2048,)), "padding": PSS},
            {},
            "is signed with rsassaPss (1.2.840.113549.1.1.10), not",
            "is signed with RSASSA-PSS, not",
        ),
        ({"digest": hashes.SHA384()}, {}, "is signed with ecdsa-with-SHA384 (", "signed with ECDSA and SHA-384, not"),
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


@pytest.mark.parametrize(("ahead", "good"), [(240, True), (420, False)])
def test_an_authority_whose_clock_is_ahead(tmp_path: Path, ahead: int, good: bool) -> None:
    here, there = judged(tmp_path, OtherAuthority(), days=(ahead / 86400, 30))
    assert (here, there) == ("", "") if good else "is not valid before" in here and "is not valid yet" in there


def test_a_root_that_signed_itself_with_sha_1_is_one(tmp_path: Path) -> None:
    # Nobody can check that any more, and nobody has to.
    other = OtherAuthority(0, keys=((2048,),))
    (tmp_path / "key").write_bytes(
        other._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    command = ["openssl", "req", "-x509", "-sha1", "-key", str(tmp_path / "key"), "-subj", "/CN=Other 0", "-days", "9"]
    found = subprocess.run(command, check=True, capture_output=True).stdout
    other.chain = [x509.load_pem_x509_certificate(found)]
    assert judged(tmp_path, other) == ("", "")


def test_what_a_root_signed_itself_with_does_not_matter(tmp_path: Path) -> None:
    other = OtherAuthority(keys=((2048,), None))
    key = rsa_key(2048)
    builder = other._builder(other.chain[0].subject, other.chain[0].subject, key.public_key(), ca=True)
    other.chain[0] = builder.sign(key, hashes.SHA512())
    assert judged(tmp_path, other) == ("", "")


def with_kind(certificate: x509.Certificate, old: str, new: str) -> x509.Certificate:
    whole = unit_der.Reader(der(certificate)).inside(unit_der.SEQUENCE)
    whole.element()
    algorithm, signature = whole.element(), whole.element()
    changed = unit_der.tlv(unit_der.SEQUENCE, algorithm[2:].replace(bytes.fromhex(old), bytes.fromhex(new)))
    signed = altered(certificate, algorithm=changed).tbs_certificate_bytes
    return x509.load_der_x509_certificate(unit_der.tlv(unit_der.SEQUENCE, signed, changed, signature))


def test_sha_1_in_a_chain_is_called_so(tmp_path: Path) -> None:
    # cryptography neither makes nor checks it, so the one that says that it has it will do.
    key = ec.generate_private_key(ec.SECP256R1())
    for other, kinds, words in (
        (OtherAuthority(), ("06082a8648ce3d040302", "06072a8648ce3d0401"), "ecdsa-with-SHA1 (1.2.840.10045.4.1), not"),
        (
            OtherAuthority(keys=((2048,), (2048,))),
            ("06092a864886f70d01010b", "06092a864886f70d010105"),
            "sha1WithRSAEncryption (1.2.840.113549.1.1.5), not",
        ),
    ):
        leaf = other.sign(request(tmp_path, key))
        here, there = judged_as_it_is(with_kind(leaf, *kinds), other)
        assert f"the certificate of '{UNIT}' is signed with {words}" in here and "SHA-1, not" in there
        other.chain[1] = with_kind(other.chain[1], *kinds)
        here, there = judged_as_it_is(leaf, other)
        assert f"the certificate of 'Other 1' is signed with {words}" in here and "SHA-1, not" in there
