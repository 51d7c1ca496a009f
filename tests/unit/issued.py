"""A unit's files and flash in memory, whose power fails when a test wants it; certificates as authorities make them."""

import hashlib

from coupler.trust import csr, der, p256
from nor import Nor

UID = b"\x24\x6f\x28\xaa\xbb\xcc"
ID = "246f28aabbcc"
NOW = 1800000000  # 2027-01-15
CA_KEY = 0x0C0FFEE0


class PowerCut(Exception):
    pass


class Flash(Nor):
    """Its operations are the hal's."""

    def __init__(self, hal):
        Nor.__init__(self, 32)
        self._hal = hal

    def _operation(self, at, new):
        self._hal._operate()
        Nor._operation(self, at, new)


class Hal:
    """Files in memory and raw flash; the power fails before the flash operation numbered `cut`."""

    def __init__(self, files=None, cut=-1, now=NOW):
        self.files = {} if files is None else files
        self.cut = cut
        self.operations = 0
        self.nor = Flash(self)
        self._now = now

    def again(self, cut=-1):
        """After a reset, on flash of its own."""
        other = Hal(dict(self.files), cut, self._now)
        other.nor.data[:] = self.nor.data
        return other

    def flash(self):
        return self.nor

    def _operate(self):
        if self.operations == self.cut:
            raise PowerCut
        self.operations += 1

    def unique_id(self):
        return UID

    def now_ms(self):
        return None if self._now is None else self._now * 1000

    def read_file(self, path):
        return self.files.get(path)

    def write_file(self, path, data):
        self._operate()
        self.files[path] = bytes(data)

    def remove(self, path):
        self._operate()
        self.files.pop(path, None)


def _name(text):
    return der.tlv(
        der.SEQUENCE,
        der.tlv(der.SET, der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.UTF8_STRING, text.encode()))),
    )


def _time(year):
    return der.tlv(der.UTC_TIME, b"%d0101000000Z" % year)


def extension(kind, value, critical=True):
    flag = der.tlv(der.BOOLEAN, b"\xff") if critical else b""
    return der.tlv(der.SEQUENCE, der.tlv(der.OID, kind), flag, der.tlv(der.OCTET_STRING, value))


CA = (b"\x55\x1d\x13", der.tlv(der.SEQUENCE, der.tlv(der.BOOLEAN, b"\xff")))
NOT_CA = (b"\x55\x1d\x13", der.tlv(der.SEQUENCE))


def certificate(subject, public, key=CA_KEY, issuer="CA", years=(25, 35), extensions=(NOT_CA,)):
    algorithm = der.tlv(der.SEQUENCE, der.ECDSA_SHA256)
    body = der.tlv(
        der.SEQUENCE,
        der.tlv(0xA0, der.integer(2)),
        der.integer(77),
        algorithm,
        _name(issuer),
        der.tlv(der.SEQUENCE, _time(years[0]), _time(years[1])),
        _name(subject),
        csr.public_key_info(public),
        der.tlv(0xA3, der.tlv(der.SEQUENCE, *[extension(*one) for one in extensions])),
    )
    r, s = p256.sign(key, hashlib.sha256(body).digest())
    return der.tlv(der.SEQUENCE, body, algorithm, der.tlv(der.BIT_STRING, b"\0", der.signature(r, s)))


def authority(*extensions, **options):
    return certificate("CA", p256.public_key(CA_KEY), extensions=(CA,) + extensions, **options)


CA_DER = authority()
