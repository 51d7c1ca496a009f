# Modbus RTU framing (Modbus over Serial Line V1.02, section 2.5.1), sans-IO: bytes in, one answer out.
#
# Rules:
# - A frame ends where its length says and counts only if its CRC is right. Silence never delimits: receivers behind
#   FIFOs and converters see gaps that were not on the wire.
# - Only what the request under way fixes makes a candidate: unit, function and byte count or echoed fields, or its
#   exception.
# - The earliest candidate is judged first; while it is incomplete, nothing inside it counts, since data may look like
#   a frame. What precedes it (stray bytes, an echo) is skipped.
# - When the line went quiet (`quiet`), incomplete candidates are given up and later ones may count.

from array import array

from coupler.const import const

_SIZE = const(544)  # an echoed request, the longest answer (256) and as much noise
_EXCEPTION = const(5)

PENDING = const(0)
ANSWER = const(1)
EXCEPTION = const(2)
BROKEN = const(3)  # the answer came, and its CRC is wrong
FOREIGN = const(4)  # a whole frame came that answers something else


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
del _make_table


def crc16(data):
    """CRC of a bytes-like; over a frame with its CRC it is 0."""
    table = _table
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc


def seal(data):
    """The frame: unit and PDU, as bytes, with their CRC."""
    crc = crc16(data)
    return data + bytes((crc & 255, crc >> 8))


class Receiver:
    """Finds the answer to one request in what the line delivers.

    expect(), then for each piece: n = port.readinto(space()); took(n) -> state; quiet() when the line fell silent.
    After ANSWER, EXCEPTION and FOREIGN `frame` is the frame until more is read; after EXCEPTION `code` is its code.
    After EXCEPTION and FOREIGN it may go on.
    """

    def __init__(self):
        self._buf = bytearray(_SIZE)
        self._view = memoryview(self._buf)
        self.expect(b"\0\0", _EXCEPTION)

    def expect(self, head, size, echo=None):
        """Forget all bytes and wait for the frame of `size` bytes that begins with `head` (unit, function, ...).

        size 0: an answer to FC 43, which tells its length. `echo` is the request's frame where the transceiver may
        hand us back what we send, else None; `echoed` then tells whether it did."""
        self.head = head
        self._size = size
        self._echo = echo
        self.echoed = False
        self._end = 0
        self._from = 0  # nothing before it can begin an answer
        self._noise = 0  # bytes already dropped
        self._broken = False
        self.code = 0
        self.frame = b""
        self.foreign = 0  # whole frames that answered something else

    def space(self):
        """A view to read bytes into; never empty."""
        end = self._end
        if not end:
            return self._view
        if end > _SIZE - 32:
            # More than any echo and answer: noise. A candidate this late is false or lost.
            n = self._from or _SIZE // 2
            self._noise += n
            self._cut(n)
            end = self._end
        return self._view[end:]

    def took(self, n):
        """n bytes were read into space(): PENDING, ANSWER or EXCEPTION."""
        self._end = end = self._end + n
        if end == self._size and self._echo is None:  # nothing but the answer, as nearly always
            frame = self._view[:end]
            if frame[: len(self.head)] == self.head and crc16(frame) == 0:
                self.frame = frame
                return ANSWER
        return self._scan(False)

    def quiet(self):
        """The line fell silent, so an incomplete candidate may have been none. Bytes may still follow."""
        state = self._scan(True)
        end = self._end
        if state == PENDING and self._from == end:
            if end >= _EXCEPTION and crc16(self._view[:end]) == 0:
                self.foreign += 1
                self.frame = self._view[:end]
                self._end = self._from = 0
                self._broken = False
                return FOREIGN
            if self._broken:
                return BROKEN
        return state

    def bytes(self):
        """Bytes that came, without the echo and frames of others."""
        return self._noise + self._end

    def _scan(self, quiet):
        view = self._view
        end = self._end
        unit = self.head[0]
        i = self._from
        waits = False
        while i < end:
            if self._echo is not None:
                stop = i + len(self._echo)
                if view[i : min(stop, end)] == self._echo[: end - i]:
                    if stop <= end:
                        self._echo = None
                        self.echoed = True
                        self._cut(stop)
                        return self._scan(quiet)
                    if not quiet:
                        break
            if self._buf[i] == unit:
                stop = self._stop(i, end)
                if stop > end:
                    waits = True
                    if not quiet:
                        break
                elif stop:
                    answer = self._buf[i + 1] == self.head[1]
                    if crc16(view[i:stop]):
                        self._broken |= answer
                    elif answer:
                        self.frame = view[i:stop]
                        return ANSWER
                    else:
                        self.code = self._buf[i + 2]
                        self.frame = bytes(view[i:stop])
                        self._cut(stop)
                        return EXCEPTION
            i += 1
            if not waits:
                self._from = i
        return PENDING

    def _stop(self, i, end):
        # Where the candidate at buf[i] would end, beyond `end` while too little of it came to tell; 0 if it is none.
        head = self.head
        have = min(len(head), end - i)
        if self._view[i : i + have] == head[:have]:
            if have < len(head):
                return end + 1
            return i + self._size if self._size else self._identity(i, end)
        return i + _EXCEPTION if self._buf[i + 1] == head[1] | 0x80 else 0

    def _identity(self, i, end):
        from coupler.bus.request import objects_size

        size = objects_size(self._buf, i + 1, end)
        if size > 0:
            return i + 3 + size
        return 0 if size else end + 1

    def _cut(self, n):
        rest = self._end - n
        self._view[:rest] = self._view[n : self._end]
        self._end = rest
        self._from = 0
