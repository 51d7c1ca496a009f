# Modbus TCP framing (Modbus Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3), sans-IO, for both ends.

from struct import pack

from coupler.const import const

_HEADER = const(6)  # what comes before the bytes that `length` counts
_LONGEST = const(254)  # unit and PDU
_SIZE = const(260)


def adu(tid, unit, pdu):
    """The bytes that carry a PDU."""
    return pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


class Framer:
    """Cuts a stream into ADUs: n = stream.readinto(space()); took(n); then next() as long as it is True.

    tid, unit and pdu (a view) are those of the last one, until space() is called again."""

    def __init__(self):
        self._buf = bytearray(_SIZE)
        self._view = memoryview(self._buf)
        self._from = self._end = 0
        self.tid = self.unit = 0
        self.pdu = None

    def space(self):
        """A view to read bytes into; never empty."""
        rest = self._end - self._from
        self._view[:rest] = self._view[self._from : self._end]
        self._from = 0
        self._end = rest
        return self._view[rest:]

    def took(self, n):
        self._end += n

    def partial(self):
        """Whether an ADU has begun that is not whole yet."""
        return self._end > self._from

    def next(self):
        """True when a whole ADU is there. ValueError as soon as it cannot be Modbus: there is no way back into step."""
        buf = self._buf
        at = self._from
        have = self._end - at
        if have >= 4 and (buf[at + 2] or buf[at + 3]):
            raise ValueError("protocol %d instead of 0" % (buf[at + 2] << 8 | buf[at + 3]))
        if have < _HEADER:
            return False
        length = buf[at + 4] << 8 | buf[at + 5]
        if not 2 <= length <= _LONGEST:
            raise ValueError("length %d: 2 to 254" % length)
        end = at + _HEADER + length
        if end > self._end:
            return False
        self.tid = buf[at] << 8 | buf[at + 1]
        self.unit = buf[at + 6]
        self.pdu = self._view[at + 7 : end]
        self._from = end
        return True
