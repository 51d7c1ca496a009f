from check import raises
from coupler.trust import der, pkcs7

_SIGNED_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
_EMPTY = der.tlv(der.SET)


def _certificate(number):
    # pkcs7 does not look inside
    return der.tlv(der.SEQUENCE, der.integer(number))


def _message(*inside, kind=_SIGNED_DATA, content=_DATA, signers=_EMPTY, lists=b"", tail=b""):
    signed = der.tlv(
        der.SEQUENCE,
        der.integer(1),
        _EMPTY,
        der.tlv(der.SEQUENCE, content),
        der.tlv(0xA0, *inside) if inside else b"",
        lists,
        signers,
        tail,
    )
    return der.tlv(der.SEQUENCE, kind, der.tlv(0xA0, signed))


def test_the_certificates_come_out_in_their_order():
    three = [_certificate(i) for i in (3, 1, 2)]
    assert pkcs7.certificates(_message(*three)) == three
    assert pkcs7.certificates(_message(three[0], lists=der.tlv(0xA1, b"\x30\x00"))) == three[:1]
    assert len(pkcs7.certificates(_message(*[_certificate(i) for i in range(8)]))) == 8


def _endless(tag, *inside):
    return bytes((tag, 0x80)) + b"".join(inside) + b"\0\0"


def test_indefinite_lengths_are_taken_as_bouncycastle_writes_them():
    two = [_certificate(1), _certificate(2)]
    content = _endless(der.SEQUENCE, _DATA)
    for certs in (_endless(0xA0, *two), der.tlv(0xA0, *two)):
        signed = _endless(der.SEQUENCE, der.integer(1), _EMPTY, content, certs, _EMPTY)
        message = _endless(der.SEQUENCE, _SIGNED_DATA, _endless(0xA0, signed))
        assert pkcs7.certificates(message) == two
        for end in range(len(message)):
            raises(der.DerError, pkcs7.certificates, message[:end])


def test_what_is_not_certs_only_is_refused_with_its_cause():
    one = _certificate(1)
    good = _message(one)
    cases = (
        ("cut off", b""),
        ("cut off", good[:-1]),
        ("more than expected", good + b"\0"),
        ("not SignedData", _message(one, kind=_DATA)),
        ("more than expected", _message(one, content=_DATA + der.tlv(0xA0, der.tlv(der.OCTET_STRING, b"x")))),
        ("unexpected element", _message(one, content=_SIGNED_DATA)),
        ("no certificate", _message()),
        ("other than X.509", _message(one, der.tlv(0xA1, b"\x05\x00"))),
        ("more than 12", _message(*[_certificate(i) for i in range(13)])),
        ("is signed", _message(one, signers=der.tlv(der.SET, one))),
        ("more than expected", _message(one, tail=b"\x05\x00")),
        ("at most 12288", bytes(12289)),
        ("more than expected", b"\x30\x80" + good[2:] + b"\0\0\0"),
        ("cut off", b"\x30\x80" + good[2:] + b"\0"),
        ("cut off", b"\x30\x80"),
        ("bad length", b"\x30\x80" * 8 + b"\0\0" * 8),
        ("bad length", b"\x30\x80\x04\x80\0\0\0\0"),
        ("cut off", b"\x30\x80" + good[:-1] + b"\0\0"),
    )
    for words, data in cases:
        error = str(raises(der.DerError, pkcs7.certificates, data))
        assert words in error, (words, error)
