"""What goes into each kind of certificate: RFC 5280's profile, as strict as `openssl verify -x509_strict`."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .. import RELEASED
from ..errors import KoblerError

# A unit serves for ten years, and not every site has a way to renew in the field.
UNIT_DAYS = 3653
LEAF_DAYS = 825
CA_DAYS = 7305
ISSUER_DAYS = 5479
# A unit or a PC whose clock is somewhat slow must not find its new certificate "not yet valid".
BACKDATE = dt.timedelta(days=1)

UNIT_URI = "urn:dev:kobler:"
CLIENT_URI = "urn:kobler:client:"

# What a strange certificate or request raises, and only when the part that is strange is looked at.
MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether this issuer is named in it and signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def check_clock() -> None:
    """Before an authority is made: KoblerError if this computer's clock cannot be right."""
    now = dt.datetime.now(dt.UTC)
    if now < RELEASED:
        raise KoblerError(
            f"this computer's clock says {now:%Y-%m-%d}, but this software is of {RELEASED:%Y-%m-%d}: set it first"
        )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Certificate | None, key: ec.EllipticCurvePublicKey, days: int, *, ca: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    end = now + dt.timedelta(days=days)
    if issuer is not None:
        end = min(end, issuer.not_valid_after_utc)  # what outlives its issuer is of no use
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    return builder if issuer is None else builder.add_extension(authority_key(issuer), critical=False)


def authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How what `issuer` signs names its key."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _authority_name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Kobler"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def root(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """What units and clients trust; below it is one level of intermediates (path length 1)."""
    return (
        _builder(_authority_name(name), None, key.public_key(), CA_DAYS, ca=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(key, hashes.SHA256())
    )


def intermediate(
    issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey, name: str
) -> x509.Certificate:
    """Signs for units, clients and servers, and nothing that could sign again (path length 0)."""
    return (
        _builder(_authority_name(name), issuer, key, ISSUER_DAYS, ca=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def leaf(
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    days: int,
    *,
    server: bool,
) -> x509.Certificate:
    use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(subject, issuer, key, days, ca=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def unit_names(unit_id: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(UNIT_URI + unit_id), x509.DNSName(unit_id)]


def client_names(name: str) -> list[x509.GeneralName]:
    # Never the unit's URI: that is how a broker tells a unit from a viewer that took a unit's name.
    return [x509.UniformResourceIdentifier(CLIENT_URI + name)]


def server_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def alternatives(extensions: x509.Extensions) -> list[x509.GeneralName]:
    try:
        return list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def kind(certificate: x509.Certificate) -> str:
    """unit, client or server, by what its names say; intermediate if it may sign."""
    if is_authority(certificate):
        return "intermediate"
    for name in alternatives(certificate.extensions):
        if isinstance(name, x509.UniformResourceIdentifier):
            return "unit" if name.value.startswith(UNIT_URI) else "client"
    return "server"


def serial(certificate: x509.Certificate) -> str:
    """Its serial number as it is written everywhere here."""
    return f"{certificate.serial_number:040x}"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
