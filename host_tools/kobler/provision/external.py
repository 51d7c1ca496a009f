"""An authority that is asked by files: the request as it goes there, the certificates as they come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError
from ..pki import certificates, files
from ..pki.requests import Answer
from . import judged
from .judged import quietly, who

_MOST_LINKS = 4  # as the unit's own coupler/trust/chains.py has it


def request_pem(csr_der: bytes) -> bytes:
    """The request as authorities want it."""
    return x509.load_der_x509_csr(csr_der).public_bytes(serialization.Encoding.PEM)


@quietly
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
            read_through(one)
        except certificates.MALFORMED as error:
            raise KoblerError(f"{path}: certificate {number} cannot be used ({error}): take it out") from None
    return found


@quietly
def read_through(certificate: x509.Certificate) -> None:
    """Look at all that is needed of it: certificates.MALFORMED now rather than later."""
    _ = certificate.public_key(), certificate.extensions, certificate.subject, certificate.issuer
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_algorithm_oid


class Unusable(KoblerError):
    """The certificate itself is wrong: other authorities or roots beside it would not help."""


def of_key(found: Sequence[x509.Certificate], key: ec.EllipticCurvePublicKey, unit_id: str) -> x509.Certificate:
    """The one among these that is for the unit's key."""
    for one in found:
        if one.public_key() == key:
            return one
    raise KoblerError(
        f"none of these certificates is for the key of unit {unit_id}: is it the answer to its last request?"
    )


@quietly
def answer(
    found: Sequence[x509.Certificate],
    key: ec.EllipticCurvePublicKey,
    unit_id: str,
    roots: Sequence[x509.Certificate] | None = None,
    remedy: str = "name its file with --ca-in",
) -> Answer:
    """The unit's certificate among these and its chain up to a root; KoblerError for all that the unit would refuse.

    `roots`: the only ones to trust; None: whatever is signed by itself. `remedy`: against an authority that is missing.
    """
    certificate = of_key(found, key, unit_id)
    _check_leaf(certificate, unit_id)
    der = [files.certificate_der(one) for one in _chain(certificate, found, roots, remedy)]
    return Answer(der[0], der[1:-1], der[-1])


def _check_leaf(certificate: x509.Certificate, unit_id: str) -> None:
    name = certificates.common_name(certificate.subject)
    if name != unit_id:
        raise Unusable(f"the certificate is for {name!r}, the unit is {unit_id}: it needs that as common name")
    if certificates.is_authority(certificate):
        raise Unusable("the certificate is an authority's; a unit must not have that")
    if _self_signed(certificate):
        raise Unusable("the certificate is signed by itself, not by an authority")
    judged.check_begin(certificate)
    try:
        judged.check_form(certificate)
        judged.check_common_name(certificate)
        judged.check_end(certificate)
        judged.check_use(certificate)
        judged.check_signature(certificate)
    except KoblerError as error:
        raise Unusable(str(error)) from None
    own = certificates.unit_names(unit_id)
    for other in certificates.alternatives(certificate.extensions):
        if str(other.value).lower().startswith(certificates.UNIT_URI) and other not in own:
            raise Unusable(f"the certificate has the name {other.value!r}, of another unit than {unit_id}")


def _check_authority(authority: x509.Certificate, below: Sequence[x509.Certificate], is_root: bool) -> None:
    judged.check_form(authority)
    judged.check_path_length(authority, below)
    judged.check_begin(authority)
    judged.check_end(authority)
    judged.check_use(authority)
    judged.check_key(authority)
    if not is_root:  # a root is trusted as it is: what it signed itself with is nobody's concern
        judged.check_signature(authority)
    elif authority.issuer == authority.subject and not judged.fits(authority, authority):
        raise _unfit(authority, authority)


def _chain(
    certificate: x509.Certificate,
    found: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate] | None,
    remedy: str,
) -> list[x509.Certificate]:
    # The shortest that is good, root included. Each authority is taken up once at most: a knot of them has an end, too.
    there = list(dict.fromkeys([*(roots or ()), *found]))
    paths, taken = [[certificate]], {certificate}
    refused = [(0, KoblerError("the authorities of this certificate vouch for each other, and none is a root"))]
    for path in paths:
        above = [one for one in there if one not in path and _issued_by(path[-1], one)]
        if not above:
            refused.append((len(path), _missing(path, there, remedy)))
        elif len(path) > _MOST_LINKS:
            refused.append((len(path), KoblerError(f"the chain has more than {_MOST_LINKS} authorities: is it one?")))
            continue
        for one in above:
            if one in taken:
                continue
            is_root = _self_signed(one) if roots is None else one in roots
            try:
                _check_authority(one, path, is_root)
            except KoblerError as error:
                refused.append((len(path), error))
                continue
            if is_root:
                return [*path, one]
            taken.add(one)
            paths.append([*path, one])
    raise max(refused, key=lambda one: one[0])[1]  # of the way that led farthest


def _missing(path: Sequence[x509.Certificate], there: Sequence[x509.Certificate], remedy: str) -> KoblerError:
    certificate = path[-1]
    wanted = certificate.issuer.rfc4514_string()
    namesakes = [one for one in there if one.subject == certificate.issuer and one not in path]
    for one in namesakes:
        if _signed_by(certificate, one):
            return _unfit(certificate, one)
        if not certificates.is_authority(one):
            try:
                judged.check_form(one)
            except KoblerError as error:
                return error
            return KoblerError(f"the certificate of {wanted!r} is no authority's: ask for one with basicConstraints CA")
    if namesakes:
        return KoblerError(
            f"the certificate of {who(certificate)} is signed by another key than that of the authority {wanted!r} "
            f"here; the certificate with that key is missing: {remedy}"
        )
    return KoblerError(f"the certificate of the authority {wanted!r} is missing: {remedy}")


def _unfit(certificate: x509.Certificate, issuer: x509.Certificate) -> KoblerError:
    return KoblerError(
        f"the authorityKeyIdentifier in the certificate of {who(certificate)} does not fit that of {who(issuer)}, who "
        "signed it: OpenSSL, and so most brokers, would refuse it; ask for one that fits"
    )


def _self_signed(certificate: x509.Certificate) -> bool:
    # Not all that names itself as its issuer is: an authority vouches so for its next key (RFC 4210, 4.4).
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # With SHA-1 nobody can tell. It can only be a root: as another's certificate it is refused for that.
        return certificate.signature_algorithm_oid not in judged.SIGNATURES
    return True


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return _signed_by(certificate, issuer) and judged.fits(certificate, issuer)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return certificates.is_authority(issuer) and certificates.signed_by(certificate, issuer)
