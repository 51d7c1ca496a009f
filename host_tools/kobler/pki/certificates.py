"""What goes into each kind of certificate: RFC 5280's profile, as strict as `openssl verify -x509_strict`."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A unit serves for ten years, and this release has no way to renew in the field.
UNIT_DAYS = 3653
LEAF_DAYS = 825
CA_DAYS = 7305
# A unit or a PC whose clock is somewhat slow must not find its new certificate "not yet valid".
BACKDATE = dt.timedelta(days=1)

UNIT_URI = "urn:dev:kobler:"
CLIENT_URI = "urn:kobler:client:"


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
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, *, ca: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def authority(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """A root that may certify leaves and, later, one intermediate (path length 1)."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Kobler"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    return (
        _builder(subject, subject, key.public_key(), CA_DAYS, ca=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(key, hashes.SHA256())
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
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(subject, issuer.subject, key, days, ca=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
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


def kind(certificate: x509.Certificate) -> str:
    """unit, client or server, by what its names say."""
    for name in alternatives(certificate.extensions):
        if isinstance(name, x509.UniformResourceIdentifier):
            return "unit" if name.value.startswith(UNIT_URI) else "client"
    return "server"


def common_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
