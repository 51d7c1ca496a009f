"""An authority that is asked by files: the request as it goes there, the certificates as they come back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from ..errors import KoblerError
from ..pki import certificates, files

_MOST_LINKS = 4


def request_pem(csr_der: bytes) -> bytes:
    """The request as authorities want it."""
    return x509.load_der_x509_csr(csr_der).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Answer:
    """What came back for one unit: its certificate, those between it and the root, the root (all DER)."""

    certificate: bytes
    chain: list[bytes]
    ca: bytes


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates in a file: PEM, one or several, or one in DER."""
    data = files.read(path, "name the file that the authority gave you")
    try:
        if b"-----BEGIN" in data:
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(data)]
    except (ValueError, x509.InvalidVersion):
        raise KoblerError(f"{path} has no certificate, neither in PEM nor in DER") from None
    for number, one in enumerate(found, 1):
        try:
            _ = one.public_key(), one.extensions, one.subject, one.issuer
            _ = one.not_valid_before_utc, one.not_valid_after_utc, one.signature_algorithm_oid
        except certificates.MALFORMED as error:
            raise KoblerError(f"{path}: certificate {number} cannot be used ({error}): take it out") from None
    return found


def answer(found: Sequence[x509.Certificate], key: ec.EllipticCurvePublicKey, unit_id: str) -> Answer:
    """The unit's certificate among these and its chain up to a root; KoblerError for all that the unit would refuse."""
    mine = [one for one in found if one.public_key() == key]
    if not mine:
        raise KoblerError(
            f"none of these certificates is for the key of unit {unit_id}: is it the answer to its last request?"
        )
    certificate = mine[0]
    name = certificates.common_name(certificate.subject)
    if name != unit_id:
        raise KoblerError(f"the certificate is for {name!r}, the unit is {unit_id}: it needs that as common name")
    if certificates.is_authority(certificate):
        raise KoblerError("the certificate is an authority's; a unit must not have that")
    _check_use(certificate)
    chain = _chain(certificate, found)
    now = dt.datetime.now(dt.UTC)
    for below, one in enumerate(chain, -1):  # so many authorities stand between it and the unit's certificate
        who = certificates.common_name(one.subject) or one.subject.rfc4514_string()
        limit = _path_length(one)
        if limit is not None and below > limit:
            raise KoblerError(f"the authority {who!r} may not have so many authorities below it (path length {limit})")
        if one.not_valid_before_utc > now:
            raise KoblerError(f"the certificate of {who!r} is not valid before {one.not_valid_before_utc}")
        if one.not_valid_after_utc <= now:
            raise KoblerError(f"the certificate of {who!r} expired at {one.not_valid_after_utc}")
        public = one.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise KoblerError(f"the certificate of {who!r} has no P-256 key; units know no other")
        if one.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise KoblerError(f"the certificate of {who!r} is not signed with ECDSA and SHA-256; units know no other")
    der = [files.certificate_der(one) for one in chain]
    return Answer(der[0], der[1:-1], der[-1])


def _check_use(certificate: x509.Certificate) -> None:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in uses and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses:
        raise KoblerError("the certificate is not for TLS clients (extendedKeyUsage clientAuth)")


def _path_length(certificate: x509.Certificate) -> int | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return None


def _chain(certificate: x509.Certificate, found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    chain = [certificate]
    while chain[-1].issuer != chain[-1].subject:
        above = next((one for one in found if _signed_by(chain[-1], one)), None)
        if above is None:
            wanted = chain[-1].issuer.rfc4514_string()
            raise KoblerError(f"the certificate of the authority {wanted!r} is missing: name its file with --ca-in")
        if len(chain) > _MOST_LINKS:
            raise KoblerError(f"the chain has more than {_MOST_LINKS} authorities: is it one?")
        chain.append(above)
    if len(chain) == 1:
        raise KoblerError("the certificate is signed by itself, not by an authority")
    return chain


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if not certificates.is_authority(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
