"""An authority that is asked by files: the request as it goes there, the certificates as they come back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from ..errors import KoblerError
from ..pki import certificates, files
from ..pki.requests import Answer

# All of this as the unit's own coupler/trust/x509.py has it.
_MOST_LINKS = 4
_LEAST_BITS, _MOST_BITS = 2048, 4096
_SIGNATURES = (SignatureAlgorithmOID.ECDSA_WITH_SHA256, SignatureAlgorithmOID.RSA_WITH_SHA256)
_UNDERSTOOD = (x509.BasicConstraints, x509.SubjectAlternativeName)


def request_pem(csr_der: bytes) -> bytes:
    """The request as authorities want it."""
    return x509.load_der_x509_csr(csr_der).public_bytes(serialization.Encoding.PEM)


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
        _check_use(one, who)
        if one is not certificate:
            _check_key(one, who)
        # A root is trusted as it is: what it signed itself with is nobody's concern.
        if one.issuer != one.subject and one.signature_algorithm_oid not in _SIGNATURES:
            raise KoblerError(
                f"the certificate of {who!r} is not signed with ECDSA or RSA (PKCS #1 v1.5) and SHA-256; units know "
                "nothing else: ask for one that is"
            )
    der = [files.certificate_der(one) for one in chain]
    return Answer(der[0], der[1:-1], der[-1])


def _check_use(certificate: x509.Certificate, who: str) -> None:
    # What its extensions say, where they say something; a root's too, since OpenSSL, and so most brokers, go by them.
    ca = certificates.is_authority(certificate)
    for one in certificate.extensions:
        value, ask = one.value, ""
        if isinstance(value, x509.KeyUsage):
            if not (value.key_cert_sign if ca else value.digital_signature):
                ask = "keyUsage " + ("keyCertSign" if ca else "digitalSignature")
        elif isinstance(value, x509.ExtendedKeyUsage):
            if ExtendedKeyUsageOID.CLIENT_AUTH not in value and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in value:
                ask = "extendedKeyUsage clientAuth"
        elif isinstance(value, x509.NameConstraints) or (one.critical and not isinstance(value, _UNDERSTOOD)):
            raise KoblerError(
                f"the certificate of {who!r} has the extension {one.oid.dotted_string}, which units do not understand: "
                "ask for one without it"
            )
        if ask:
            what = f"authority {who!r} may not issue for" if ca else f"certificate of {who!r} is not for"
            raise KoblerError(f"the {what} TLS clients: ask for one with {ask}")


def _check_key(authority: x509.Certificate, who: str) -> None:
    public = authority.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        exponent = public.public_numbers().e
        if _LEAST_BITS <= public.key_size <= _MOST_BITS and exponent % 2 and 3 <= exponent < 1 << 32:
            return
        found = f"an RSA key of {public.key_size} bits and exponent {exponent}"
    elif isinstance(public, ec.EllipticCurvePublicKey):
        if isinstance(public.curve, ec.SECP256R1):
            return
        found = f"a key on {public.curve.name}"
    else:
        found = "a key of another kind"
    raise KoblerError(
        f"the authority {who!r} has {found}; units know P-256, and RSA of {_LEAST_BITS} to {_MOST_BITS} bits: ask for "
        "a certificate by such an authority"
    )


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
