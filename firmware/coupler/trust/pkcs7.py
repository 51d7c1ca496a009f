# PKCS #7 as EST servers answer with it: SignedData that is signed by nobody and only carries certificates
# ("certs-only", RFC 5652, 5.1; RFC 7030, 4.1.3 and 4.2.3).
from coupler.const import const
from coupler.trust import der

_SIGNED_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
_MOST = const(8)  # certificates
_SIZE = const(16384)  # bytes


def certificates(data):
    """The certificates in a certs-only message (DER), as bytes each, in the order found; DerError if it is none."""
    if len(data) > _SIZE:
        raise der.DerError("PKCS #7 of %d bytes, at most %d" % (len(data), _SIZE))
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
