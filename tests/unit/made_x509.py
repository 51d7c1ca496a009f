"""Certificates with whatever a test wants in them, right or wrong, signed on P-256 or with the one RSA key; those in
issued.py are as authorities make them."""

import binascii
import hashlib

from coupler.trust import csr, der, p256, x509
from issued import ID, extension
from rsa_key import encoded, sign

ROOT_KEY = 0xC0FFEE
MIDDLE_KEY = 0xBEEF
LEAF_KEY = 0xCAFE

BASIC = b"\x55\x1d\x13"
USAGE = b"\x55\x1d\x0f"
EXTENDED = b"\x55\x1d\x25"
YES = der.tlv(der.BOOLEAN, b"\xff")


def oid(text):
    return der.tlv(der.OID, binascii.unhexlify(text))


_ECDSA = der.tlv(der.SEQUENCE, der.ECDSA_SHA256)
ECDSA_SHA1 = der.tlv(der.SEQUENCE, oid("2a8648ce3d0401"))


def by_rsa(body):
    return sign(encoded(hashlib.sha256(body).digest()))


def rsa_info(numbers, parameters=b"\x05\x00", tail=b"", unused=b"\0"):
    public = der.tlv(der.BIT_STRING, unused, der.tlv(der.SEQUENCE, numbers), tail)
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, oid("2a864886f70d010101"), parameters), public)


def named(text):
    attribute = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.UTF8_STRING, text.encode()))
    return der.tlv(der.SEQUENCE, der.tlv(der.SET, attribute))


def may_issue(*path_length):
    return extension(BASIC, der.tlv(der.SEQUENCE, YES, *[der.integer(one) for one in path_length]))


CERT_SIGN = extension(USAGE, b"\x03\x02\x02\x04")
NOT_CA = extension(BASIC, der.tlv(der.SEQUENCE))


def _utc(year):
    return der.tlv(der.UTC_TIME, b"%d0101000000Z" % year)


def certificate(
    subject, key, issuer, issuer_key, extensions=(), years=(25, 35), algorithm=_ECDSA, outer=None, info=None,
    version=2, serial=77, signature=None, tail=b"",
):  # fmt: skip
    body = der.tlv(
        der.SEQUENCE,
        der.tlv(0xA0, der.integer(version)),
        der.integer(serial),
        algorithm,
        named(issuer),
        der.tlv(der.SEQUENCE, _utc(years[0]), _utc(years[1])),
        named(subject),
        info or csr.public_key_info(p256.public_key(key)),
        der.tlv(0xA3, der.tlv(der.SEQUENCE, *extensions)) if extensions else b"",
        tail,
    )
    if signature is None:
        if issuer_key is by_rsa:
            signature = by_rsa(body)
        else:
            signature = der.signature(*p256.sign(issuer_key, hashlib.sha256(body).digest()))
    return der.tlv(der.SEQUENCE, body, outer or algorithm, der.tlv(der.BIT_STRING, b"\0", signature))


def a_middle(extensions=(may_issue(0), CERT_SIGN), issuer_key=ROOT_KEY, **options):
    return x509.Certificate(certificate("Middle", MIDDLE_KEY, "Root", issuer_key, extensions, **options))


def a_leaf(issuer="Middle", issuer_key=MIDDLE_KEY, extensions=(NOT_CA,), **options):
    return x509.Certificate(certificate(ID, LEAF_KEY, issuer, issuer_key, extensions, **options))
