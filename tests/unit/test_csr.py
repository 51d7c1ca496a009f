import binascii
import hashlib

from check import raises
from coupler.trust import csr, der, p256

_ID = "246f28aabbcc"
_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721


def _request():
    whole = der.Reader(csr.request(_KEY, _ID, "Example"))
    outer = whole.inside(der.SEQUENCE)
    whole.finish()
    return outer


def test_a_request_is_signed_by_the_key_in_it():
    outer = _request()
    signed = outer.element()
    outer.expect(der.tlv(der.SEQUENCE, der.ECDSA_SHA256))
    r, s = der.Reader(outer.bits()).signature()
    outer.finish()
    assert p256.verify(p256.public_key(_KEY), hashlib.sha256(signed).digest(), r, s)


def test_a_request_names_the_unit_as_subject_urn_and_dns_name():
    info = _request().inside(der.SEQUENCE)
    assert info.number() == 0
    subject = info.inside(der.SEQUENCE)
    found = []
    while subject.more():
        attribute = subject.inside(der.SET).inside(der.SEQUENCE)
        found.append((attribute.element(), attribute.read(der.UTF8_STRING)))
    assert found == [(der.ORGANIZATION, b"Example"), (der.COMMON_NAME, _ID.encode())]
    assert info.element() == csr.public_key_info(p256.public_key(_KEY))
    wanted = info.inside(0xA0).inside(der.SEQUENCE)
    assert wanted.read(der.OID) == binascii.unhexlify("2a864886f70d01090e")  # 1.2.840.113549.1.9.14
    extension = wanted.inside(der.SET).inside(der.SEQUENCE).inside(der.SEQUENCE)
    extension.expect(der.SUBJECT_ALT_NAME)
    names = der.Reader(extension.read(der.OCTET_STRING)).inside(der.SEQUENCE)
    assert names.read(0x86) == b"urn:dev:kobler:" + _ID.encode()
    assert names.read(0x82) == _ID.encode()
    names.finish()
    info.finish()


def test_a_key_file_reads_back_as_the_key():
    assert csr.read_key(csr.write_key(_KEY)) == _KEY
    assert csr.read_key(csr.write_key(1)) == 1


def test_damaged_key_files_are_refused():
    good = csr.write_key(_KEY)
    at = good.index(_KEY.to_bytes(32, "big"))
    bad = (
        b"",
        good[:-1],
        good + b"\0",
        good[:at] + bytes(32) + good[at + 32 :],
        good[:at] + b"\xff" * 32 + good[at + 32 :],
        good.replace(der.PRIME256V1, der.PRIME256V1[:-1] + b"\x06"),
        good.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1),
        b"\x30" + bytes((good[1] + 2,)) + good[2:] + b"\x05\x00",
    )
    for data in bad:
        error = raises(ValueError, csr.read_key, data)
        assert hex(_KEY)[2:10] not in str(error)


def _names(request):
    info = der.Reader(request).inside(der.SEQUENCE).inside(der.SEQUENCE)
    info.number()
    subject = info.element()
    key = info.element()
    wanted = info.inside(0xA0)
    if not wanted.more():
        return subject, key, None
    wanted = wanted.inside(der.SEQUENCE)
    wanted.element()
    extension = wanted.inside(der.SET).inside(der.SEQUENCE).inside(der.SEQUENCE)
    extension.expect(der.SUBJECT_ALT_NAME)
    return subject, key, extension.read(der.OCTET_STRING)


def test_a_request_can_name_addresses():
    names = der.Reader(_names(csr.request(_KEY, _ID, None, (b"\xc0\x00\x02\x01",)))[2]).inside(der.SEQUENCE)
    names.read(0x86)
    names.read(0x82)
    assert names.read(0x87) == b"\xc0\x00\x02\x01"
    names.finish()


def test_a_renewal_asks_for_another_key_under_the_same_names():
    class Certificate:
        subject = b"\x30\x00"
        alternatives = der.tlv(der.SEQUENCE, der.tlv(0x82, b"a.example"))

    subject, key, names = _names(csr.renewal(4711, Certificate))
    assert (subject, names) == (Certificate.subject, Certificate.alternatives)
    assert key == csr.public_key_info(p256.public_key(4711))
    Certificate.alternatives = None
    assert _names(csr.renewal(4711, Certificate))[2] is None


def test_names_that_no_subject_may_have_are_refused():
    for unit_id, organization in (("", None), ("x" * 65, None), (_ID, "x" * 65)):
        assert "1 to 64 characters" in str(raises(ValueError, csr.request, _KEY, unit_id, organization))
