"""What is read in a certificate, and what is refused when it is read. What a chain of them is good for: test_chains."""

from check import raises
from coupler.trust import csr, der, p256, x509
from issued import ID, extension
from made_x509 import (
    BASIC,
    CERT_SIGN,
    ECDSA_SHA1,
    EXTENDED,
    LEAF_KEY,
    NOT_CA,
    ROOT_KEY,
    USAGE,
    YES,
    a_leaf,
    a_middle,
    certificate,
    named,
    rsa_info,
)

_ALTERNATIVE = b"\x55\x1d\x11"
_RSA_NUMBERS = b"\x02\x01\x0f\x02\x01\x03"


def test_what_is_in_a_certificate_is_read():
    names = der.tlv(
        der.SEQUENCE,
        der.tlv(x509.URI, b"urn:dev:kobler:" + ID.encode()),
        der.tlv(0x81, b"someone@example.org"),
        der.tlv(x509.DNS, ID.encode()),
        der.tlv(x509.IP, b"\xc0\x00\x02\x01"),
    )
    leaf = a_leaf(extensions=(NOT_CA, extension(_ALTERNATIVE, names, False)))
    assert leaf.common_name() == ID
    assert leaf.names() == [(x509.URI, "urn:dev:kobler:" + ID), (x509.DNS, ID), (x509.IP, b"\xc0\x00\x02\x01")]
    assert leaf.serial == 77
    assert (leaf.not_before, leaf.not_after) == (1735689600, 2051222400)
    assert leaf.issuer == named("Middle") and leaf.subject == named(ID)
    assert leaf.public_key == p256.public_key(LEAF_KEY)
    assert not leaf.is_ca and leaf.path_length is None
    assert a_middle().is_ca and a_middle().path_length == 0


def test_what_is_no_certificate_for_us_is_refused_with_its_cause():
    good = certificate(ID, LEAF_KEY, "Root", ROOT_KEY, (NOT_CA,))
    make = lambda **options: certificate(ID, LEAF_KEY, "Root", ROOT_KEY, **options)  # noqa: E731
    off = csr.public_key_info(b"\x04" + bytes(63) + b"\x01")
    strange = extension(b"\x55\x1d\x7f", b"\x05\x00")
    alternative = lambda *names: (extension(_ALTERNATIVE, der.tlv(der.SEQUENCE, *names)),)  # noqa: E731
    cases = (
        ("after the certificate's end", good + b"\0"),
        ("cut off", good[:-1]),
        ("cut off", b""),
        ("instead of", b"\x02\x01\x00"),
        ("at most 4096", good + bytes(4096)),
        ("not X.509 version 3", make(version=1)),
        ("not X.509 version 3", good.replace(der.tlv(0xA0, der.integer(2)), b"\x05\x03\0\0\0", 1)),
        ("more than 20 bytes", make(serial=1 << 160)),
        ("negative", good.replace(b"\x02\x01\x4d", b"\x02\x01\xcd", 1)),
        ("unexpected element", make(outer=ECDSA_SHA1)),
        ("before it begins", make(years=(35, 25))),
        ("not a point", make(info=off)),
        ("negative", make(info=rsa_info(_RSA_NUMBERS[:-1] + b"\xff"))),
        ("cut off", make(info=rsa_info(_RSA_NUMBERS[:3]))),
        ("more than expected", make(info=rsa_info(_RSA_NUMBERS + b"\x05\x00"))),
        ("more than expected", make(info=rsa_info(_RSA_NUMBERS, tail=b"\0"))),
        ("bit string", make(info=rsa_info(_RSA_NUMBERS, unused=b"\x01"))),
        ("unknown critical extension 2.5.29.127", make(extensions=(strange,))),
        ("critical extension 2.5.29.30", make(extensions=(extension(b"\x55\x1d\x1e", b"\x30\x00", False),))),
        ("given twice", make(extensions=(NOT_CA, NOT_CA))),
        ("boolean neither", make(extensions=(extension(BASIC, der.tlv(der.SEQUENCE, b"\x01\x01\x01")),))),
        ("negative", make(extensions=(extension(BASIC, der.tlv(der.SEQUENCE, YES, b"\x02\x01\xff")),))),
        ("more than expected", make(extensions=(extension(BASIC, der.tlv(der.SEQUENCE) + b"\0"),))),
        ("bad key usage", make(extensions=(extension(USAGE, b"\x03\x01\x00"),))),
        ("bad character", make(extensions=alternative(der.tlv(x509.DNS, b"a\0b")))),
        ("bad character", make(extensions=alternative(der.tlv(x509.URI, b"urn:a b")))),
        ("bad character", make(extensions=alternative(der.tlv(x509.DNS, b"")))),
        ("bad IP address", make(extensions=alternative(der.tlv(x509.IP, b"\x7f\0\0")))),
        ("instead of a3", make(tail=b"\x05\x00")),
    )
    for words, data in cases:
        error = str(raises(ValueError, x509.Certificate, data))
        assert words in error, (words, error)
    assert x509.Certificate(make(extensions=(extension(b"\x55\x1d\x7f", b"\x05\x00", False),))).serial == 77


def test_usages_say_what_a_key_may_do_in_tls():
    client = extension(EXTENDED, der.tlv(der.SEQUENCE, der.tlv(der.OID, x509.CLIENT)), False)
    anything = extension(EXTENDED, der.tlv(der.SEQUENCE, der.tlv(der.OID, b"\x55\x1d\x25\x00")), False)
    signs = extension(USAGE, b"\x03\x02\x07\x80")
    for extensions, as_client, as_server in (
        ((), True, True),
        ((signs,), True, True),
        ((client,), True, False),
        ((signs, client), True, False),
        ((signs, anything), True, True),
        ((CERT_SIGN, client), False, False),
    ):
        found = a_leaf(extensions=extensions)
        assert (found.allows(x509.CLIENT), found.allows(x509.SERVER)) == (as_client, as_server)


def test_a_subject_with_no_or_several_common_names_has_none():
    one = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.UTF8_STRING, b"a"))
    other = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.PRINTABLE_STRING, b"b"))
    wide = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(0x1E, b"\0a"))
    for sets, name in (
        ((), ""),
        ((der.tlv(der.SET, other),), "b"),
        ((der.tlv(der.SET, one), der.tlv(der.SET, other)), ""),
        ((der.tlv(der.SET, one, other),), ""),
        ((der.tlv(der.SET, wide),), ""),
    ):
        assert x509.common_name(der.tlv(der.SEQUENCE, *sets)) == name


def test_times_are_unix_seconds_in_every_century():
    # checked against datetime on the host
    for tag, text, seconds in (
        (der.UTC_TIME, b"700101000000Z", 0),
        (der.UTC_TIME, b"240229123456Z", 1709210096),
        (der.UTC_TIME, b"491231235959Z", 2524607999),
        (der.UTC_TIME, b"500101000000Z", -631152000),
        (der.GENERALIZED_TIME, b"20500101000000Z", 2524608000),
        (der.GENERALIZED_TIME, b"20000229000000Z", 951782400),
        (der.GENERALIZED_TIME, b"99991231235959Z", 253402300799),
    ):
        assert x509.time(der.Reader(der.tlv(tag, text))) == seconds


def test_what_is_no_time_in_der_is_refused():
    for tag, text in (
        (der.UTC_TIME, b""),
        (der.UTC_TIME, b"2402291234Z"),  # without seconds
        (der.UTC_TIME, b"240229123456"),
        (der.UTC_TIME, b"240229123456+0100"),
        (der.UTC_TIME, b"24022912345 Z"),
        (der.UTC_TIME, b"240229123460Z"),  # a leap second
        (der.UTC_TIME, b"240229126056Z"),
        (der.UTC_TIME, b"240229243456Z"),
        (der.UTC_TIME, b"241329123456Z"),
        (der.UTC_TIME, b"240029123456Z"),
        (der.UTC_TIME, b"240200123456Z"),
        (der.UTC_TIME, b"250229123456Z"),  # no leap year
        (der.UTC_TIME, b"240431123456Z"),
        (der.UTC_TIME, b"-40101000000Z"),
        (der.UTC_TIME, b"20240229123456Z"),
        (der.GENERALIZED_TIME, b"240229123456Z"),
        (der.GENERALIZED_TIME, b"20240229123456.5Z"),
        (der.GENERALIZED_TIME, b"21000229123456Z"),
        (der.OCTET_STRING, b"20240229123456Z"),
    ):
        raises(der.DerError, x509.time, der.Reader(der.tlv(tag, text)))
