# Modbus RTU framing (Modbus over Serial Line V1.02, section 2.5.1), sans-IO: bytes in, one answer out.
#
# Rules:
# - A frame ends where its length says and counts only if its CRC is right. Silence never delimits: receivers behind
#   FIFOs and converters see gaps that were not on the wire.
# - Only unit, function (or its exception) and byte count of the request under way make a candidate.
# - The earliest candidate is judged first; while it is incomplete, nothing inside it counts, since data may look like
#   a frame. What precedes it (stray bytes, an echo) is skipped.
# - When the line went quiet (`quiet`), incomplete candidates are given up and later ones may count.

from array import array

from coupler.bus.pdu import answer_size
from coupler.const import const

_SIZE = const(544)  # an echoed request, the longest answer (256) and as much noise
_SHORTEST = const(5)

PENDING = const(0)
ANSWER = const(1)
EXCEPTION = const(2)
BROKEN = const(3)  # an answer's worth of bytes came, and none of it can become one


def _make_table():
    table = array("H", bytes(512))
    crc = 1
    step = 128
    while step:
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        for i in range(0, 256, 2 * step):
            table[step + i] = crc ^ table[i]
        step >>= 1
    return table


_table = _make_table()


def crc16(data):
    """CRC of a bytes-like; over a frame with its CRC it is 0."""
    table = _table
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc


def seal(view, end):
    """Append the CRC to the frame in view[:end], a memoryview; returns the frame's length."""
    crc = crc16(view[:end])
    view[end] = crc & 255
    view[end + 1] = crc >> 8
    return end + 2


class Receiver:
    """Finds the answer to one request in what the line delivers.

    expect(), then for each piece: n = port.readinto(space()); took(n) -> state; quiet() when the line fell silent.
    After ANSWER `data` views the answer's data bytes until the next expect(); after EXCEPTION `code` is its code.
    """

    def __init__(self):
        self._buf = bytearray(_SIZE)
        self._view = memoryview(self._buf)
        self._echo = None
        self.expect(0, 0, 0)

    def expect(self, unit, fc, size, echo=None):
        """Forget all bytes and wait for the answer of `unit` to `fc` with `size` data bytes.

        `echo` is the request's frame where the transceiver hands us back what we send, else None."""
        self._unit = unit
        self._fc = fc
        self._size = size
        self._echo = echo
        self._end = 0
        self._from = 0  # nothing before it can begin an answer
        self._noise = 0  # bytes already dropped
        self.code = 0
        self.data = None
        self.foreign = 0  # whole frames that answered something else

    def space(self):
        """A view to read bytes into; never empty."""
        if self._end > _SIZE - 32:
            # More than any echo and answer: noise. A candidate this late is false or lost.
            n = self._from or _SIZE // 2
            self._noise += n
            self._cut(n)
        return self._view[self._end :]

    def took(self, n):
        """n bytes were read into space(): PENDING, ANSWER or EXCEPTION."""
        self._end += n
        return self._scan(False)

    def quiet(self):
        """The line fell silent, so an incomplete candidate may have been none. Bytes may still follow."""
        state = self._scan(True)
        if state == PENDING and self._from == self._end:
            if self._end >= _SHORTEST and crc16(self._view[: self._end]) == 0:
                self.foreign += 1
                self._end = self._from = 0
            if self.bytes() >= self._size + _SHORTEST:
                return BROKEN
        return state

    def bytes(self):
        """Bytes that came, without the echo and frames of others."""
        return self._noise + self._end

    def _scan(self, quiet):
        buf = self._buf
        end = self._end
        i = self._from
        waits = False
        while i < end:
            if self._echo is not None:
                n = len(self._echo)
                if self._view[i : min(i + n, end)] == self._echo[: end - i]:
                    if i + n <= end:
                        self._echo = None
                        self._cut(i + n)
                        return self._scan(quiet)
                    if not quiet:
                        break
            if buf[i] == self._unit:
                size = answer_size(buf, i + 1, end, self._fc, self._size)
                stop = i + 3 + size
                if size == 0 or (size > 0 and stop > end):
                    waits = True
                    if not quiet:
                        break
                elif size > 0 and crc16(self._view[i:stop]) == 0:
                    if buf[i + 1] == self._fc:
                        self.data = self._view[i + 3 : stop - 2]
                        return ANSWER
                    self.code = buf[i + 2]
                    return EXCEPTION
            i += 1
            if not waits:
                self._from = i
        return PENDING

    def _cut(self, n):
        rest = self._end - n
        self._view[:rest] = self._view[n : self._end]
        self._end = rest
        self._from = 0
