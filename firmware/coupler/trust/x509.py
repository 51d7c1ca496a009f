# The part of X.509 (RFC 5280) that a unit needs to judge a certificate before it takes it for its own. The
# chain of a peer in TLS is not judged here: mbedTLS does that.
import hashlib

from coupler.trust import der, p256

_BASIC_CONSTRAINTS = b"\x55\x1d\x13"
_KEY_USAGE = b"\x55\x1d\x0f"
_EXTENDED_KEY_USAGE = b"\x55\x1d\x25"
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
_KEY_CERT_SIGN = 0x04  # bit 5, counted from the top


class Certificate:
    """One certificate, parsed; times in Unix seconds, the public key 65 bytes. ValueError if it is none."""

    def __init__(self, data):
        self.der = data
        whole = der.Reader(data)
        outer = whole.inside(der.SEQUENCE)
        whole.finish()
        self._signed = outer.element()
        algorithm = outer.element()
        if algorithm != der.tlv(der.SEQUENCE, der.ECDSA_SHA256):
            raise der.DerError("signature is not ECDSA with SHA-256")
        signature = der.Reader(outer.bits())
        self._signature = signature.signature()
        signature.finish()
        outer.finish()

        body = der.Reader(self._signed).inside(der.SEQUENCE)
        version = body.inside(0xA0)
        if version.number() != 2:
            raise der.DerError("not X.509 version 3")
        self.serial = body.number()
        body.expect(algorithm)
        self.issuer = body.element()
        validity = body.inside(der.SEQUENCE)
        self.not_before = _time(validity)
        self.not_after = _time(validity)
        self.subject = body.element()
        self.public_key = _public_key(body.inside(der.SEQUENCE))
        self.is_ca = False
        self._usage = -1
        while body.more() and body.peek() != 0xA3:
            body.element()
        if body.more():
            self._read_extensions(body.inside(0xA3).inside(der.SEQUENCE))
        body.finish()

    def _read_extensions(self, extensions):
        while extensions.more():
            extension = extensions.inside(der.SEQUENCE)
            kind = extension.read(der.OID)
            critical = extension.peek() == der.BOOLEAN and extension.read(der.BOOLEAN) != b"\0"
            value = der.Reader(extension.read(der.OCTET_STRING))
            if kind == _BASIC_CONSTRAINTS:
                value = value.inside(der.SEQUENCE)
                self.is_ca = value.peek() == der.BOOLEAN and value.read(der.BOOLEAN) != b"\0"
            elif kind == _KEY_USAGE:
                bits = value.read(der.BIT_STRING)
                self._usage = bits[1] if len(bits) > 1 else 0
            elif critical and kind not in (_EXTENDED_KEY_USAGE, _SUBJECT_ALT_NAME):
                # RFC 5280, 4.2: what is critical and not understood makes the certificate unusable.
                raise der.DerError("unknown critical extension")

    def common_name(self):
        """The subject's CN; '' if it has none."""
        return _common_name(self.subject)

    def signed_by(self, issuer):
        """Whether `issuer`, a CA, signed this certificate."""
        if self.issuer != issuer.subject or not issuer.is_ca or not issuer._usage & _KEY_CERT_SIGN:
            return False
        r, s = self._signature
        return p256.verify(issuer.public_key, hashlib.sha256(self._signed).digest(), r, s)

    def fingerprint(self):
        return hashlib.sha256(self.der).digest()


def _common_name(name):
    names = der.Reader(name).inside(der.SEQUENCE)
    while names.more():
        attribute = names.inside(der.SET).inside(der.SEQUENCE)
        if attribute.element() == der.COMMON_NAME:
            tag = attribute.peek()
            if tag in (der.UTF8_STRING, der.PRINTABLE_STRING):
                return str(attribute.read(tag), "utf-8")
    return ""


def _public_key(info):
    algorithm = info.inside(der.SEQUENCE)
    algorithm.expect(der.EC_PUBLIC_KEY)
    algorithm.expect(der.PRIME256V1)
    public = info.bits()
    p256.point(public)
    return public


def _time(reader):
    # RFC 5280, 4.1.2.5: YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from 2050 on
    if reader.peek() == der.UTC_TIME:
        text = reader.read(der.UTC_TIME)
        text = (b"20" if text[:1] < b"5" else b"19") + text
    else:
        text = reader.read(der.GENERALIZED_TIME)
    if len(text) != 15 or text[14:] != b"Z":
        raise der.DerError("bad time")
    for digit in text[:14]:
        if not 0x30 <= digit <= 0x39:
            raise der.DerError("bad time")
    year = int(text[:4])
    month, day, hour, minute, second = (int(text[i : i + 2]) for i in range(4, 14, 2))
    if not (0 < month < 13 and 0 < day < 32 and hour < 24 and minute < 60 and second < 61):
        raise der.DerError("bad time")
    # Days since 1970 in the Gregorian calendar, the year taken to begin in March. time.mktime would do, but
    # its epoch is 2000 on one port and 1970 on the other, and it knows time zones on the third.
    if month < 3:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second
