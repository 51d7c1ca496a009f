# The part of X.509 (RFC 5280) that a unit needs to read a certificate, whatever key it has. chains.py judges it.
from coupler.const import const
from coupler.trust import der, p256

CLIENT = b"\x2b\x06\x01\x05\x05\x07\x03\x02"  # id-kp-clientAuth
SERVER = b"\x2b\x06\x01\x05\x05\x07\x03\x01"  # id-kp-serverAuth
URI = const(0x86)  # kinds of names: the tags of GeneralName
DNS = const(0x82)
IP = const(0x87)

_MOST = const(4096)  # bytes of a certificate; no flash place of an identity holds more
_BASIC_CONSTRAINTS = b"\x55\x1d\x13"
_KEY_USAGE = b"\x55\x1d\x0f"
_EXTENDED_KEY_USAGE = b"\x55\x1d\x25"
_ANY_USAGE = b"\x55\x1d\x25\x00"
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
_NAME_CONSTRAINTS = b"\x55\x1d\x1e"
_DIGITAL_SIGNATURE = const(0x80)  # bits 0 and 5, counted from the top
_KEY_CERT_SIGN = const(0x04)
_RSA_KEY = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"  # with its NULL (RFC 3279, 2.3.1)


def split(data):
    """The certificates in `data`, DER behind one another, as bytes each; ValueError where one does not end with it."""
    found = []
    while data:
        if data[:2] != b"\x30\x82":
            raise der.DerError("bytes after the certificate's end" if found else "not a certificate in DER")
        end = 4 + int.from_bytes(data[2:4], "big")
        if end > len(data):
            raise der.DerError("certificate cut off: %d of %d bytes" % (len(data), end))
        found.append(data[:end])
        data = data[end:]
    return found


def own(data):
    """A unit's certificate, read: the first of these; those that lead to its authority are behind it."""
    return Certificate((split(data) or [b""])[0])


class Certificate:
    """One certificate, read; times in Unix seconds. ValueError if it is none, or has a critical part unknown here.

    public_key: 65 bytes if the key is on P-256, else None; key_info: of any key, SubjectPublicKeyInfo, DER; is_ca,
    path_length (None: any): what it may sign. signed, algorithm (without tag and length), signature: as chains.py
    needs them.
    """

    def __init__(self, data):
        if len(data) > _MOST:
            raise der.DerError("certificate of %d bytes, at most %d" % (len(data), _MOST))
        self.der = data
        whole = der.Reader(data)
        outer = whole.inside(der.SEQUENCE)
        if whole.more():
            raise der.DerError("bytes after the certificate's end")
        self.signed = outer.element()
        algorithm = outer.element()
        self.algorithm = der.Reader(algorithm).inside(der.SEQUENCE).rest()
        self.signature = outer.bits()
        outer.finish()

        body = der.Reader(self.signed).inside(der.SEQUENCE)
        if body.peek() != 0xA0:
            raise der.DerError("not X.509 version 3")
        version = body.inside(0xA0)
        if version.number() != 2:
            raise der.DerError("not X.509 version 3")
        version.finish()
        self.serial = body.number()
        if self.serial >> 160:
            raise der.DerError("serial number of more than 20 bytes")
        body.expect(algorithm)
        self.issuer = body.element()
        validity = body.inside(der.SEQUENCE)
        self.not_before = time(validity)
        self.not_after = time(validity)
        validity.finish()
        if self.not_after < self.not_before:
            raise der.DerError("validity ends before it begins")
        self.subject = body.element()
        common_name(self.subject)
        common_name(self.issuer)
        self.key_info = body.element()
        self.public_key = _p256_key(self.key_info)
        self.rsa_key()  # should it be damaged, then here
        self.is_ca = False
        self.path_length = None
        self.alternatives = None  # GeneralNames, DER
        self._usage = -1
        self._extended = None
        for tag in (0x81, 0x82):  # unique identifiers, long out of use
            if body.peek() == tag:
                body.element()
        if body.more():
            wrapper = body.inside(0xA3)
            self._read_extensions(wrapper.inside(der.SEQUENCE))
            wrapper.finish()
        body.finish()

    def _read_extensions(self, extensions):
        seen = []
        while extensions.more():
            extension = extensions.inside(der.SEQUENCE)
            kind = extension.read(der.OID)
            if kind in seen:
                raise der.DerError("extension given twice")
            seen.append(kind)
            critical = extension.flag()
            content = extension.read(der.OCTET_STRING)
            extension.finish()
            value = der.Reader(content)
            if kind == _BASIC_CONSTRAINTS:
                inner = value.inside(der.SEQUENCE)
                self.is_ca = inner.flag()
                if inner.more():
                    self.path_length = inner.number()
                inner.finish()
            elif kind == _KEY_USAGE:
                bits = value.read(der.BIT_STRING)
                if len(bits) < 2 or bits[0] > 7:
                    raise der.DerError("bad key usage")
                self._usage = bits[1]
            elif kind == _EXTENDED_KEY_USAGE:
                inner = value.inside(der.SEQUENCE)
                self._extended = []
                while inner.more():
                    self._extended.append(inner.read(der.OID))
            elif kind == _SUBJECT_ALT_NAME:
                self.alternatives = value.element()
                self.names()
            elif critical or kind == _NAME_CONSTRAINTS:
                # RFC 5280, 4.2: what is critical and not understood makes the certificate unusable. So do limits on
                # names, which have to be critical (4.2.1.10).
                raise der.DerError("unknown critical extension %s" % der.dotted(kind))
            else:
                continue
            value.finish()

    def common_name(self):
        """The subject's."""
        return common_name(self.subject)

    def names(self):
        """The alternative names: (URI, text), (DNS, text), (IP, bytes); other kinds are left out."""
        found = []
        if self.alternatives:
            names = der.Reader(self.alternatives).inside(der.SEQUENCE)
            while names.more():
                tag = names.peek()
                if tag not in (URI, DNS, IP):
                    names.element()
                    continue
                name = names.read(tag)
                if tag == IP:
                    if len(name) not in (4, 16):
                        raise der.DerError("bad IP address")
                elif not name or min(name) <= 0x20 or max(name) >= 0x7F:
                    # A NUL or a blank in a name has fooled others.
                    raise der.DerError("bad character in an alternative name")
                else:
                    name = str(name, "utf-8")
                found.append((tag, name))
        return found

    def allows(self, purpose):
        """Whether its usages let its key authenticate in TLS, as CLIENT or as SERVER."""
        return bool(self._usage & _DIGITAL_SIGNATURE) and self.serves(purpose)

    def serves(self, purpose):
        """Whether its extended usages, if it has any, name this one, or RFC 5280's "any" (4.2.1.12). Those of an
        authority limit what it issues for: RFC 5280 does not say so, but all who check chains do it."""
        extended = self._extended
        return extended is None or purpose in extended or _ANY_USAGE in extended

    def issues(self):
        """Whether it may issue certificates."""
        return self.is_ca and bool(self._usage & _KEY_CERT_SIGN)

    def rsa_key(self):
        """(modulus, exponent) of an RSA key (RFC 8017, A.1.1), None of any other kind."""
        info = der.Reader(self.key_info).inside(der.SEQUENCE)
        if info.element() != _RSA_KEY:
            return None
        whole = der.Reader(info.bits())
        key = whole.inside(der.SEQUENCE)
        whole.finish()
        found = key.number(), key.number()
        key.finish()
        return found

    def __str__(self):
        return "certificate of %r" % self.common_name()


def _attributes(name):
    # of a Name, each as its kind and a reader of its value
    names = der.Reader(name).inside(der.SEQUENCE)
    while names.more():
        members = names.inside(der.SET)
        while members.more():
            attribute = members.inside(der.SEQUENCE)
            yield attribute.element(), attribute


def common_name(name):
    """The CN in a Name, DER; '' if it has none, or several."""
    found = []
    for kind, value in _attributes(name):
        if kind == der.COMMON_NAME:
            if value.peek() not in (der.UTF8_STRING, der.PRINTABLE_STRING):
                return ""
            try:
                found.append(str(value.read(value.peek()), "utf-8"))
            except UnicodeError:
                raise der.DerError("bad character in a common name")
    return found[0] if len(found) == 1 else ""


def _p256_key(element):
    # -> the 65 bytes of a key on P-256, None of any other kind
    info = der.Reader(element).inside(der.SEQUENCE)
    kind = info.inside(der.SEQUENCE).rest()
    public = info.bits()
    info.finish()
    if kind != der.EC_PUBLIC_KEY + der.PRIME256V1:
        return None
    p256.point(public)
    return public


def time(reader):
    """Unix seconds of the next element (RFC 5280, 4.1.2.5): YYMMDDHHMMSSZ of 1950 to 2049, or YYYYMMDDHHMMSSZ."""
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
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (0 < month < 13 and hour < 24 and minute < 60 and second < 60):
        raise der.DerError("bad time")
    if not 0 < day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        raise der.DerError("bad time")
    # Days since 1970 in the Gregorian calendar, the year taken to begin in March. time.mktime would do, but
    # its epoch is 2000 on one port and 1970 on the other, and it knows time zones on the third.
    if month < 3:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second
