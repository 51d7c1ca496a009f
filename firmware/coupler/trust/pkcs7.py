# PKCS #7 as EST servers answer with it: SignedData that is signed by nobody and only carries certificates
# ("certs-only", RFC 5652, 5.1; RFC 7030, 4.1.3 and 4.2.3).
from coupler.const import const
from coupler.trust import der

_SIGNED_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
_MOST = const(12)  # certificates
_SIZE = const(12288)  # bytes
_DEEP = const(6)


def certificates(data):
    """The certificates in a certs-only message, as bytes each, in the order found; DerError if it is none.

    DER (RFC 8951, 3), or BER with indefinite lengths around the certificates, as BouncyCastle writes it."""
    if len(data) > _SIZE:
        raise der.DerError("PKCS #7 of %d bytes, at most %d" % (len(data), _SIZE))
    if data[1:2] == b"\x80":
        sent = len(data)
        data, end = _definite(data, 0, _DEEP)
        if end != sent:
            raise der.DerError("more than expected")
    whole = der.Reader(data)
    outer = whole.inside(der.SEQUENCE)
    whole.finish()
    if outer.element() != _SIGNED_DATA:
        raise der.DerError("PKCS #7, but not SignedData")
    wrapper = outer.inside(0xA0)
    outer.finish()
    signed = wrapper.inside(der.SEQUENCE)
    wrapper.finish()
    signed.number()
    signed.inside(der.SET)
    content = signed.inside(der.SEQUENCE)
    content.expect(_DATA)
    content.finish()
    found = []
    if signed.peek() == 0xA0:
        inside = signed.inside(0xA0)
        while inside.more():
            if inside.peek() != der.SEQUENCE:
                raise der.DerError("PKCS #7 has something other than X.509 certificates")
            if len(found) == _MOST:
                raise der.DerError("PKCS #7 has more than %d certificates" % _MOST)
            found.append(inside.element())
    if signed.peek() == 0xA1:  # revocation lists
        signed.element()
    if signed.inside(der.SET).more():
        raise der.DerError("PKCS #7 is signed, not certs-only")
    signed.finish()
    if not found:
        raise der.DerError("PKCS #7 has no certificate")
    return found


def _definite(data, pos, deep):
    # -> (the element at pos, its length and those of elements inside in the definite form; where it ended)
    if data[pos + 1 : pos + 2] != b"\x80":
        found = der.Reader(data, pos).element()
        return found, pos + len(found)
    tag = data[pos]
    if not deep or not tag & 0x20:
        raise der.DerError("bad length")
    pos += 2
    inside = []
    while data[pos : pos + 2] != b"\0\0":
        found, pos = _definite(data, pos, deep - 1)
        inside.append(found)
    return der.tlv(tag, *inside), pos + 2
