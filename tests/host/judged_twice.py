"""A certificate and those of its authority, judged by the computer at the cable and by the unit: what each has against
them. And certificates as no library makes them."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

from coupler.trust import chains
from coupler.trust import der as unit_der
from coupler.trust import x509 as unit_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kobler.errors import KoblerError
from kobler.provision import external
from other_authority import OtherAuthority

UNIT = "246f28aabbcc"
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, UNIT)])


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def request(folder: Path, key: Any) -> Path:
    signed = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    (folder / "csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "csr"


def judged(folder: Path, other: OtherAuthority, **options: Any) -> tuple[str, str]:
    """What the computer and the unit have against a certificate of this authority; "" for nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    return judged_as_it_is(other.sign(request(folder, key), **options), other)


def judged_as_it_is(certificate: x509.Certificate, other: OtherAuthority) -> tuple[str, str]:
    here = there = ""
    key: Any = certificate.public_key()
    try:
        found = external.answer([certificate, *other.chain], key, UNIT)
        assert found.certificate == der(certificate) and found.ca == der(other.chain[0])
        assert found.chain == [der(one) for one in reversed(other.chain[1:])]
    except KoblerError as error:
        here = str(error)
    try:
        root, *between = (unit_x509.Certificate(der(one)) for one in other.chain)
        leaf = unit_x509.Certificate(der(certificate))
        chains.check(leaf, between, [root], int(time.time()), unit_x509.CLIENT)
    except ValueError as error:
        there = str(error)
    return here, there


def altered(certificate: x509.Certificate, **parts: bytes) -> x509.Certificate:
    """With other elements in it; the signature is left as it was, which nobody comes to look at."""
    whole = unit_der.Reader(der(certificate)).inside(unit_der.SEQUENCE)
    body = unit_der.Reader(whole.element()).inside(unit_der.SEQUENCE)
    names = ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions")
    found = {name: body.element() for name in names} | parts
    signed = unit_der.tlv(unit_der.SEQUENCE, *found.values())
    with warnings.catch_warnings(action="ignore"):
        return x509.load_der_x509_certificate(unit_der.tlv(unit_der.SEQUENCE, signed, whole.rest()))


def named(key: Any = None, name: str = "Other 0", serial: int | None = None) -> x509.AuthorityKeyIdentifier:
    """An authorityKeyIdentifier; the certificate of "Other 1" has the issuer "Other 0" and the serial number 18."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key).digest if key else None
    above = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.AuthorityKeyIdentifier(digest, [x509.DirectoryName(above)] if serial else None, serial)
