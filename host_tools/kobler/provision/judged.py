"""What is wrong with one certificate, for the unit and for the brokers behind it. KoblerError says what to ask for.

The unit reads and judges for itself (coupler/trust/chains.py); here it is said before it has to, and to whom it
concerns.
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import warnings
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from ..errors import KoblerError
from ..pki import certificates, files

SIGNATURES = (SignatureAlgorithmOID.ECDSA_WITH_SHA256, SignatureAlgorithmOID.RSA_WITH_SHA256)

_MOST_BYTES, _MOST_SERIAL_BITS = 4096, 160
_LEAST_BITS, _MOST_BITS = 2048, 4096
_UNDERSTOOD = (x509.BasicConstraints, x509.SubjectAlternativeName)
_NS_CERT_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
_NS_CLIENT = 0x80  # of the bits behind tag, length and the number of those unused
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_TEXTS = (b"\x0c", b"\x13")  # the tags of UTF8String and PrintableString
# An authority's clock may be ahead of ours, and not all date their certificates back. Their ends are taken as they are.
_SKEW = dt.timedelta(seconds=300)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def quietly(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Without cryptography's warnings of strange certificates: with a path and a line of source, they help nobody."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return function(*args, **kwargs)

    return call


def who(certificate: x509.Certificate) -> str:
    return repr(certificates.common_name(certificate.subject) or certificate.subject.rfc4514_string())


def check_form(certificate: x509.Certificate) -> None:
    """What cryptography reads and the unit does not."""
    if certificate.version is not x509.Version.v3:
        raise KoblerError(
            f"the certificate of {who(certificate)} is X.509 version 1: ask for version 3, as from "
            "openssl x509 -req -copy_extensions copy …"
        )
    if why := _strange(certificate):
        raise KoblerError(f"the certificate of {who(certificate)} {why}: units cannot read it, ask for another one")


def _strange(certificate: x509.Certificate) -> str:
    der, signed, serial = (
        files.certificate_der(certificate),
        certificate.tbs_certificate_bytes,
        certificate.serial_number,
    )
    if len(der) > _MOST_BYTES:
        return f"has {len(der)} bytes, more than {_MOST_BYTES}"
    if serial < 0 or serial.bit_length() > _MOST_SERIAL_BITS:
        return "has a serial number that is negative, or of more than 20 bytes"
    # What the signature is said to be stands behind what it is for, and in there behind version and serial number.
    outside = der.partition(signed)[2]
    inside = signed.partition(b"\xa0\x03\x02\x01\x02")[2]
    if not inside[2 + inside[1] :].startswith(outside[: 2 + outside[1]]):
        return "names two kinds of signature"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(serialization.Encoding.DER, form) not in signed:
        return "has its key in a form other than rsaEncryption or an uncompressed point on a named curve"
    for name in certificates.alternatives(certificate.extensions):
        text = name.value if isinstance(name, x509.DNSName | x509.UniformResourceIdentifier) else "-"
        network = isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
        if network or not text or not all("!" <= c <= "~" for c in text):
            return f"has the alternative name {str(name.value)!r}"
    return ""


def check_common_name(certificate: x509.Certificate) -> None:
    """The unit reads a leaf's common name in these forms alone (RFC 5280, 4.1.2.4)."""
    name = certificates.common_name(certificate.subject).encode()
    if not any(_COMMON_NAME + tag + bytes((len(name),)) + name in certificate.subject.public_bytes() for tag in _TEXTS):
        raise KoblerError(
            f"the common name of the certificate of {who(certificate)} is neither UTF8String nor PrintableString, as "
            "units want it: ask for one that is"
        )


def check_begin(certificate: x509.Certificate) -> None:
    begin = certificate.not_valid_before_utc
    if begin > dt.datetime.now(dt.UTC) + _SKEW:
        raise KoblerError(f"the certificate of {who(certificate)} is not valid before {begin}")


def check_end(certificate: x509.Certificate) -> None:
    end = certificate.not_valid_after_utc
    if end <= dt.datetime.now(dt.UTC):
        raise KoblerError(f"the certificate of {who(certificate)} expired at {end}")


def check_signature(certificate: x509.Certificate) -> None:
    """The kind of signature that it has; whose it is, is not looked at."""
    kind = certificate.signature_algorithm_oid
    if kind not in SIGNATURES:
        raise KoblerError(
            f"the certificate of {who(certificate)} is signed with {kind._name} ({kind.dotted_string}), not with ECDSA "
            "or RSA (PKCS #1 v1.5) and SHA-256; units know nothing else: ask for one that is"
        )


def check_path_length(authority: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    """`below`: the certificates between it and the leaf, which is the first one."""
    # RFC 5280, 6.1.4 (l): what is issued to itself, as at a change of its key, does not count.
    between = sum(one.issuer != one.subject for one in below[1:])
    limit = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and between > limit:
        raise KoblerError(
            f"the authority {who(authority)} may not have so many authorities below it (path length {limit})"
        )


def check_use(certificate: x509.Certificate) -> None:
    """What its extensions say, where they say something; a root's too: OpenSSL, and so most brokers, go by them."""
    ca, name = certificates.is_authority(certificate), who(certificate)
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
                f"the certificate of {name} has the extension {one.oid.dotted_string}, which units do not understand: "
                "ask for one without it"
            )
        elif isinstance(value, x509.UnrecognizedExtension) and one.oid == _NS_CERT_TYPE and not ca:
            # Netscape's; units pass it over, OpenSSL does not.
            ask = "" if any(bits & _NS_CLIENT for bits in value.value[3:4]) else "nsCertType client, or without that"
        if ask:
            what = f"authority {name} may not issue for" if ca else f"certificate of {name} is not for"
            raise KoblerError(f"the {what} TLS clients: ask for one with {ask}")


def check_key(authority: x509.Certificate) -> None:
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
        f"the authority {who(authority)} has {found}; units know P-256, and RSA of {_LEAST_BITS} to {_MOST_BITS} bits: "
        "ask for a certificate by such an authority"
    )


def fits(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether what it says of its issuer's key and certificate is so (RFC 5280, 4.2.1.1), as OpenSSL goes by it."""
    try:
        said = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return True
    try:
        key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        key = said.key_identifier or b""
    names = [one.value for one in said.authority_cert_issuer or () if isinstance(one, x509.DirectoryName)]
    return (
        said.key_identifier in (None, key)
        and said.authority_cert_serial_number in (None, issuer.serial_number)
        and (not names or names[0] == issuer.issuer)
    )
