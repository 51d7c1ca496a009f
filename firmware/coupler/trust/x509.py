# The part of X.509 (RFC 5280) that a unit needs to judge a certificate before it takes it for its own: reading one,
# whatever key it has, and checking chains: authorities have keys on P-256, or RSA keys (rsa.py, loaded when there is
# one). A peer's chain in TLS is not judged here: mbedTLS does that.
import hashlib

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
# AlgorithmIdentifiers of RSA: a key's, with its NULL (RFC 3279, 2.3.1), and without tag and length that of a signature
# with SHA-256: its NULL may be missing (RFC 4055, 5).
_RSA_KEY = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
_RSA_SHA256 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
_NULL = b"\x05\x00"
_SIGNATURES = {
    b"\x2a\x86\x48\xce\x3d\x04\x01": "ECDSA and SHA-1",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02": "ECDSA and SHA-256",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03": "ECDSA and SHA-384",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": "RSA and SHA-1",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": "RSASSA-PSS",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": "RSA and SHA-256",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": "RSA and SHA-384",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": "RSA and SHA-512",
}
_PURPOSES = {
    CLIENT: "clients of TLS (extendedKeyUsage clientAuth)",
    SERVER: "servers in TLS (extendedKeyUsage serverAuth)",
}
_LONGEST = const(4)  # a chain's certificates without the anchor
_CHECKS = const(16)  # of signatures, for one chain
_AHEAD_S = const(300)  # that an authority's clock may be ahead, of those that issue from "now" on


class CertificateError(ValueError):
    """The certificate was read, but is not good for what was asked."""


class Certificate:
    """One certificate, read; times in Unix seconds. ValueError if it is none, or has a critical part unknown here.

    public_key: 65 bytes if the key is on P-256, else None; key_info: of any key, SubjectPublicKeyInfo, DER;
    is_ca, path_length (None: any): what it may sign.
    """

    def __init__(self, data):
        if len(data) > _MOST:
            raise der.DerError("certificate of %d bytes, at most %d" % (len(data), _MOST))
        self.der = data
        whole = der.Reader(data)
        outer = whole.inside(der.SEQUENCE)
        if whole.more():
            raise der.DerError("bytes after the certificate's end")
        self._signed = outer.element()
        algorithm = outer.element()
        self._algorithm = der.Reader(algorithm).inside(der.SEQUENCE).rest()
        self._signature = outer.bits()
        outer.finish()

        body = der.Reader(self._signed).inside(der.SEQUENCE)
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
        _common_name(self.subject)
        _common_name(self.issuer)
        self.key_info = body.element()
        self.public_key = _p256_key(self.key_info)
        self._rsa_key()  # should it be damaged, then here
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
                raise der.DerError("unknown critical extension %s" % _dotted(kind))
            else:
                continue
            value.finish()

    def common_name(self):
        """The subject's CN; '' if it has none, or several."""
        return _common_name(self.subject)

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
        return bool(self._usage & _DIGITAL_SIGNATURE) and self._serves(purpose)

    def _serves(self, purpose):
        # Whether its extended usages, if it has any, name this one, or RFC 5280's "any" (4.2.1.12). Those of an
        # authority limit what it issues for: RFC 5280 does not say so, but all who check chains do it.
        extended = self._extended
        return extended is None or purpose in extended or _ANY_USAGE in extended

    def check_time(self, now):
        """CertificateError unless it is valid at `now`, Unix seconds, or in five minutes."""
        if now < self.not_before - _AHEAD_S:
            raise CertificateError("%s is not valid yet, or the unit's clock is slow" % self)
        if now > self.not_after:
            raise CertificateError("%s has expired" % self)

    def check_signed_by(self, issuer):
        """CertificateError unless `issuer`, which may issue certificates, signed this one."""
        if self.issuer != issuer.subject:
            raise CertificateError("%s was issued by %r, not by %s" % (self, _common_name(self.issuer), issuer))
        if not issuer.is_ca or not issuer._usage & _KEY_CERT_SIGN:
            raise CertificateError("%s may not issue certificates" % issuer)
        if self._algorithm == der.ECDSA_SHA256:
            good = self._signed_by_p256(issuer)
        elif self._algorithm in (_RSA_SHA256 + _NULL, _RSA_SHA256):
            good = self._signed_by_rsa(issuer)
        else:
            raise CertificateError(
                "%s is signed with %s, not with SHA-256 and ECDSA or RSA (PKCS #1 v1.5)" % (self, self.signature_name())
            )
        if not good:
            raise CertificateError("%s is not signed by the key of %s" % (self, issuer))

    def _signed_by_p256(self, issuer):
        if issuer.public_key is None:
            raise self._other_key(issuer, "one on P-256")
        signature = der.Reader(self._signature)
        try:
            r, s = signature.signature()
            signature.finish()
        except der.DerError as error:
            raise CertificateError("%s: signature: %s" % (self, error))
        return p256.verify(issuer.public_key, hashlib.sha256(self._signed).digest(), r, s)

    def _signed_by_rsa(self, issuer):
        key = issuer._rsa_key()
        if key is None:
            raise self._other_key(issuer, "an RSA key")
        from coupler.trust import rsa

        try:
            return rsa.verify(key[0], key[1], hashlib.sha256(self._signed).digest(), self._signature)
        except ValueError as error:
            raise CertificateError("%s has %s: %s" % (issuer, issuer.key_name(), error))

    def _other_key(self, issuer, wanted):
        name = self.signature_name()
        key = issuer.key_name()
        return CertificateError("%s is signed with %s, but %s has %s, not %s" % (self, name, issuer, key, wanted))

    def key_name(self):
        """What kind of key it has, for people."""
        if self.public_key:
            return "a key on P-256"
        key = self._rsa_key()
        if key:
            size = 0
            while key[0] >> size:
                size += 8
            while size and not key[0] >> size - 1:
                size -= 1
            return "an RSA key of %d bits" % size
        algorithm = der.Reader(self.key_info).inside(der.SEQUENCE).inside(der.SEQUENCE)
        kind = algorithm.read(der.OID)
        if der.tlv(der.OID, kind) == der.EC_PUBLIC_KEY and algorithm.peek() == der.OID:
            return "a key on the curve " + _dotted(algorithm.read(der.OID))
        return "a key of the kind " + _dotted(kind)

    def _rsa_key(self):
        # -> (modulus, exponent) of an RSA key (RFC 8017, A.1.1), None of any other kind
        info = der.Reader(self.key_info).inside(der.SEQUENCE)
        if info.element() != _RSA_KEY:
            return None
        whole = der.Reader(info.bits())
        key = whole.inside(der.SEQUENCE)
        whole.finish()
        found = key.number(), key.number()
        key.finish()
        return found

    def signature_name(self):
        """What it is signed with, for people."""
        oid = der.Reader(self._algorithm).read(der.OID)
        return _SIGNATURES.get(oid) or _dotted(oid)

    def fingerprint(self):
        return hashlib.sha256(self.der).digest()

    def __str__(self):
        return "certificate of %r" % self.common_name()


def check_chain(leaf, others, anchors, now=None, purpose=None):
    """CertificateError unless a chain leads from `leaf`, by way of `others` in any order, to one of `anchors`.

    now: Unix seconds; None while the time is not known: then validity is not judged. purpose: CLIENT or SERVER, what
    the leaf's key is to do in TLS; None: its usages, and those its authorities issue for, are not judged.
    """
    if purpose and not leaf.allows(purpose):
        what = ", and its key usage has no digitalSignature" if leaf._serves(purpose) else ""
        raise CertificateError("%s is not for %s%s" % (leaf, _PURPOSES[purpose], what))
    if now is not None:
        leaf.check_time(now)
    reason = _climb(leaf, list(others), anchors, int(leaf.is_ca), 1, now, purpose, [_CHECKS])
    if reason:
        raise reason


def _climb(one, others, anchors, below, length, now, purpose, checks):
    # -> None if a chain leads from `one` to an anchor, else why not. below: authorities between it and the leaf, for
    # their path lengths; length: of the chain up to it; checks: how many are left. Authorities that changed their key
    # have two certificates of one name, so one that leads nowhere is not the end. None is tried twice.
    if length > _LONGEST:
        return CertificateError("chain of more than %d certificates" % _LONGEST)
    reason = None
    for trusted in (True, False):
        for issuer in anchors if trusted else others[:]:
            if issuer.subject != one.issuer or not trusted and (issuer is one or issuer not in others):
                continue
            try:
                _check_step(one, issuer, below, now, purpose, checks)
            except CertificateError as error:
                reason = reason or error
                continue
            if trusted:
                return None
            others.remove(issuer)
            # self-issued ones do not count (RFC 5280, 6.1.4 (l))
            more = below + (issuer.subject != issuer.issuer)
            further = _climb(issuer, others, anchors, more, length + 1, now, purpose, checks)
            if not further:
                return None
            reason = further
    if reason:
        return reason
    if one.issuer == one.subject:
        return CertificateError("the authority %r is not one that is trusted here" % one.common_name())
    return CertificateError(
        "%s was issued by %r, which is not trusted here: unknown authority, or a chain cut off"
        % (one, _common_name(one.issuer))
    )


def _check_step(one, issuer, below, now, purpose, checks):
    checks[0] -= 1
    if checks[0] < 0:  # each takes a chip half a second, and who sends them chooses how many there are
        raise CertificateError("chains of too many certificates of one name")
    one.check_signed_by(issuer)
    if issuer.path_length is not None and below > issuer.path_length:
        raise CertificateError("%s may not have so many authorities below it" % issuer)
    # Of a root, too, as OpenSSL and Go have it, and so the brokers. mbedTLS looks at the leaf alone.
    if purpose and not issuer._serves(purpose):
        raise CertificateError("%s is an authority, but not for %s" % (issuer, _PURPOSES[purpose]))
    if now is not None:
        issuer.check_time(now)


def _attributes(name):
    # of a Name, each as its kind and a reader of its value
    names = der.Reader(name).inside(der.SEQUENCE)
    while names.more():
        members = names.inside(der.SET)
        while members.more():
            attribute = members.inside(der.SEQUENCE)
            yield attribute.element(), attribute


def _common_name(name):
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


def _dotted(oid):
    # The text of an object identifier's content.
    numbers = []
    number = 0
    for byte in oid:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        return "?"
    first = min(numbers[0] // 40, 2)
    return ".".join(str(one) for one in [first, numbers[0] - 40 * first] + numbers[1:])


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
