# DER (X.690): a writer, and a reader that never leaves its bounds and takes nothing that is not DER.
from coupler.const import const

BOOLEAN = const(0x01)
INTEGER = const(0x02)
BIT_STRING = const(0x03)
OCTET_STRING = const(0x04)
OID = const(0x06)
UTF8_STRING = const(0x0C)
PRINTABLE_STRING = const(0x13)
UTC_TIME = const(0x17)
GENERALIZED_TIME = const(0x18)
SEQUENCE = const(0x30)
SET = const(0x31)

# Object identifiers, whole elements.
EC_PUBLIC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
PRIME256V1 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
ECDSA_SHA256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
COMMON_NAME = b"\x06\x03\x55\x04\x03"
ORGANIZATION = b"\x06\x03\x55\x04\x0a"
SUBJECT_ALT_NAME = b"\x06\x03\x55\x1d\x11"


class DerError(ValueError):
    pass


def tlv(tag, *parts):
    """One element; its content is the parts, joined."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    raise DerError("element too large")


def integer(number):
    """INTEGER of a number from 0 to 2^264 - 1."""
    data = number.to_bytes(33, "big")
    start = 0
    while start < 32 and not data[start] and data[start + 1] < 0x80:
        start += 1
    return tlv(INTEGER, data[start:])


def signature(r, s):
    """ECDSA-Sig-Value (RFC 3279, 2.2.3)."""
    return tlv(SEQUENCE, integer(r), integer(s))


class Reader:
    """Takes the elements of data[pos:end] one by one; raises DerError for what it does not find."""

    def __init__(self, data, pos=0, end=None):
        self._data = data
        self._pos = pos
        self._end = len(data) if end is None else end

    def _header(self):
        # -> (tag, where the content begins, where it ends), all within this reader's bounds
        data = self._data
        pos = self._pos
        end = self._end
        if end - pos < 2:
            raise DerError("element cut off")
        tag = data[pos]
        if tag & 0x1F == 0x1F:
            raise DerError("tag of several bytes")
        size = data[pos + 1]
        pos += 2
        if size & 0x80:
            # 64 KB is more than any certificate; the indefinite form (0x80) is BER, not DER.
            count = size & 0x7F
            if not 0 < count < 3 or end - pos < count:
                raise DerError("bad length")
            size = int.from_bytes(data[pos : pos + count], "big")
            pos += count
            if size < 0x80 or (count == 2 and size < 0x100):
                raise DerError("length not in its shortest form")
        if size > end - pos:
            raise DerError("element cut off")
        return tag, pos, pos + size

    def more(self):
        return self._pos < self._end

    def peek(self):
        """The tag of the next element, -1 at the end."""
        return self._data[self._pos] if self._pos < self._end else -1

    def finish(self):
        if self._pos < self._end:
            raise DerError("more than expected")

    def _enter(self, tag):
        found, start, end = self._header()
        if found != tag:
            raise DerError("tag %02x instead of %02x" % (found, tag))
        self._pos = end
        return start, end

    def read(self, tag):
        """The content of the next element, as bytes."""
        start, end = self._enter(tag)
        return bytes(self._data[start:end])

    def inside(self, tag):
        """A reader of the content of the next element."""
        start, end = self._enter(tag)
        return Reader(self._data, start, end)

    def element(self):
        """The next element whole, as bytes."""
        start = self._pos
        self._pos = self._header()[2]
        return bytes(self._data[start : self._pos])

    def rest(self):
        """All that is left, as bytes."""
        start = self._pos
        self._pos = self._end
        return bytes(self._data[start : self._end])

    def expect(self, element):
        if self.element() != element:
            raise DerError("unexpected element")

    def number(self):
        """A non-negative INTEGER."""
        content = self.read(INTEGER)
        if not content:
            raise DerError("empty integer")
        if content[0] & 0x80:
            raise DerError("negative integer")
        if len(content) > 1 and not content[0] and content[1] < 0x80:
            raise DerError("integer not in its shortest form")
        return int.from_bytes(content, "big")

    def flag(self):
        """A BOOLEAN, False where there is none (DEFAULT FALSE; some write it all the same)."""
        if self.peek() != BOOLEAN:
            return False
        content = self.read(BOOLEAN)
        if content not in (b"\0", b"\xff"):
            raise DerError("boolean neither 00 nor ff")
        return content != b"\0"

    def bits(self):
        """A BIT STRING of whole bytes, as bytes."""
        content = self.read(BIT_STRING)
        if not content or content[0]:
            raise DerError("bit string not of whole bytes")
        return content[1:]

    def signature(self):
        """ECDSA-Sig-Value -> (r, s)."""
        pair = self.inside(SEQUENCE)
        r = pair.number()
        s = pair.number()
        pair.finish()
        return r, s


def dotted(oid):
    """The text of an object identifier's content."""
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
