# A ring of flash sectors that is only ever appended to. It knows nothing of what its frames hold.
#
#   sector  header, frames, blank (0xFF)
#   header  magic u16, serial u32, anchor (the owner's, of one size), CRC-32
#   frame   length 1..239, or 0xF0 | kind << 2 | length >> 8 and the rest of the length; payload; CRC-16
#
# Serial numbers rise by one from sector to sector for ever; serial % count is the sector's place, so that wear is even
# by construction. Every byte is programmed once. A frame that a power cut tore is left where it is, and the next sector
# begun. Behind a frame that the flash refused the next one lies on a multiple of 32 and is an anchor, so that a reader
# finds it again. CRCs start from the serial number: no frame of a former lap is ever taken for one of this.
import binascii
import struct

from coupler.const import const

SECTOR = const(4096)
DATA = const(0)
ANCHOR = const(1)  # a frame that says all that a header says
MARK = const(2)
END = const(-1)
SHORT = const(239)  # longest payload with one byte of length
OVERHEAD = const(3)  # of a short frame
_MAGIC = const(0x4B52)
_HEAD = "<HI"
_LEAD = const(6)
_ALIGN = const(32)
_BUFFER = const(256)
_BLANK = const(-1)
_DAMAGED = const(-2)
_AHEAD = const(3072)  # of a sector are used: now the next one is to be erased


def _crc(view, serial):
    # Never 0xFFFF, which is what a cut leaves there: a frame that a cut tore is not taken for a whole one by chance.
    crc = binascii.crc32(view, serial)
    return ((crc ^ crc >> 16) & 0xFFFF) % 0xFFFF


class Ring:
    """`count` sectors from `first` on. owner: anchor() -> bytes for a new sector; leaving(serial) before one is erased.

    Call open() of coupler.store.recovery before anything else."""

    def __init__(self, flash, first, count, size, owner):
        self._flash = flash
        self._base = first * SECTOR
        self._owner = owner
        self._prepared = -1  # serial of the sector that is known to be blank
        self.first = first
        self.count = count
        self.size = size  # of an anchor
        self.start = _LEAD + size + 4  # where a sector's first frame lies
        self.serial = -1  # of the sector that is written now
        self.oldest = 0  # serial of the first sector that may be there
        self.at = SECTOR  # where the next frame goes

    def room(self):
        """Bytes of payload that a short frame may still have in this sector; none when 0 or less."""
        room = SECTOR - self.at - OVERHEAD
        return room if room < SHORT else SHORT

    def append(self, buf, n, kind=DATA):
        """Write the payload buf[2 : 2 + n]; the frame's other bytes go around it. There is room for it."""
        if n <= SHORT and not kind:
            start = 1
            buf[1] = n
        else:
            start = 0
            buf[0] = 0xF0 | kind << 2 | n >> 8
            buf[1] = n & 0xFF
        end = n + 2
        view = memoryview(buf)
        crc = _crc(view[start:end], self.serial)
        buf[end] = crc & 0xFF
        buf[end + 1] = crc >> 8
        at = self.at
        self.at = at + n + 4 - start  # also when the flash refuses: what it took of it is there
        self._flash.program(self._place(self.serial) + at, view[start : end + 2])

    def put(self, payload, kind=DATA):
        """Write a payload that is not in a buffer made for it. There is room for it."""
        n = len(payload)
        buf = bytearray(n + 4)
        buf[2:-2] = payload
        self.append(buf, n, kind)

    def advance(self):
        """Begin the next sector. What lay there is gone, as the owner was told."""
        self.prepare()
        serial = self._prepared
        self._prepared = -1
        header = bytearray(self.start)
        struct.pack_into(_HEAD, header, 0, _MAGIC, serial)
        header[_LEAD:-4] = self._owner.anchor()
        struct.pack_into("<I", header, self.start - 4, binascii.crc32(memoryview(header)[:-4]))
        self.serial = serial
        self.at = SECTOR  # should it refuse: the next one then
        self._flash.program(self._place(serial), header)
        self.at = self.start

    def prepare(self):
        """Erase the next sector, if it is not blank: that takes long, so do it while nothing else is urgent."""
        serial = self.serial + 1
        if self.prepared():
            return
        last = serial + self.count - 2  # never the sector that is in use
        while serial < last and self.header(serial % self.count) == _DAMAGED and self._torn(serial):
            serial += 1
        gone = serial - self.count
        while self.oldest <= gone:
            self._owner.leaving(self.oldest)
            self.oldest += 1
        if not self._blank(serial):
            self._flash.erase(self.first + serial % self.count)
        self._prepared = serial

    def _torn(self, serial):
        # A header that a power cut tore: erasing for it would wear this sector more than the others. It is left out,
        # and marked with a byte that tells the lap, so that it is erased in the next one.
        mark = bytes((serial // self.count & 0x7F,))
        found = bytearray(1)
        self.read(serial, self.start, found)
        if found == mark:
            return True
        if not self._blank(serial, self.start):
            return False
        self._flash.program(self._place(serial) + self.start, mark)
        return True

    def due(self):
        """Whether the next sector should be erased, by prepare(), when nothing else is urgent."""
        return self.at > _AHEAD and not self.prepared()

    def prepared(self):
        """Whether the next sector is blank already."""
        return self._prepared > self.serial

    def header(self, place, anchor=None):
        """Serial number of the sector at this place; -1 where it is blank, -2 where it is damaged."""
        header = bytearray(self.start)
        self._flash.read(self._base + place * SECTOR, header)
        magic, serial = struct.unpack_from(_HEAD, header)
        if binascii.crc32(memoryview(header)[:-4]) == struct.unpack_from("<I", header, self.start - 4)[0]:
            if magic == _MAGIC and serial % self.count == place:
                if anchor is not None:
                    anchor[:] = header[_LEAD:-4]
                return serial
        return _BLANK if header == b"\xff" * self.start else _DAMAGED

    def anchor(self, serial):
        """The anchor in the header of a sector, None when it is not there."""
        anchor = bytearray(self.size)
        return anchor if self.header(serial % self.count, anchor) == serial else None

    def seek(self, key, wanted):
        """Serial of the last sector with key(anchor) <= wanted, or of the oldest: some twelve reads for any ring.

        key gives None for an anchor that cannot tell."""
        low = self.oldest
        high = self.serial + 1
        while high - low > 1:
            probe = middle = (low + high) // 2
            value = self._key(key, probe)
            while value is None and probe + 1 < high:
                probe += 1
                value = self._key(key, probe)
            if value is not None and value <= wanted:
                low = probe
            else:
                high = middle
        return low

    def _key(self, key, serial):
        anchor = self.anchor(serial)
        return key(anchor) if anchor else None

    def read(self, serial, at, view):
        self._flash.read(self._place(serial) + at, view)

    def blank_from(self, serial, at):
        """The offset behind the last byte of a sector that is not blank, at least `at`."""
        buf = bytearray(_BUFFER)
        blank = b"\xff" * _BUFFER
        end = at
        while at < SECTOR:
            n = min(_BUFFER, SECTOR - at)
            view = memoryview(buf)[:n]
            self.read(serial, at, view)
            if view != blank[:n]:
                i = n - 1
                while buf[i] == 0xFF:
                    i -= 1
                end = at + i + 1
            at += n
        return end

    def _blank(self, serial, at=0):
        return self.blank_from(serial, at) == at

    def _place(self, serial):
        return self._base + serial % self.count * SECTOR


class Frames:
    """Reads the frames of one sector after another. After next() the payload is buf[start:end]."""

    def __init__(self, ring):
        self._ring = ring
        self.buf = bytearray(_BUFFER)
        self.serial = -1
        self.at = SECTOR
        self.start = self.end = 0
        self.damaged = 0  # how often a frame was not as it had been written

    def begin(self, serial):
        self.serial = serial
        self.at = self._ring.start

    def next(self):
        """The kind of the next frame, END behind the last one. ANCHOR may mean that frames in between are damaged."""
        ring = self._ring
        while SECTOR - self.at > OVERHEAD:
            first = self.look(self.at)
            if first >= 0 and first != 0xFF:
                self.at += self.end + 2
                return first
            end = ring.at if self.serial == ring.serial else SECTOR
            if self.at >= end:
                return END
            found = self.resync()
            if found or first != 0xFF:
                self.damaged += 1
            if not found:
                self.at = end
        return END

    def resync(self):
        """Go to the next anchor behind a damaged place; False if there is none in this sector."""
        at = self.at
        while True:
            at = (at | _ALIGN - 1) + 1
            if at + self._ring.size > SECTOR:
                return False
            if self.look(at) == ANCHOR:
                self.at = at
                return True

    def look(self, at):
        """Kind of the frame at `at`, 0xFF where it is blank, -2 where it is damaged."""
        left = SECTOR - at
        buf = self.buf
        view = memoryview(buf)
        if left < len(buf):
            view = view[:left]
        self._ring.read(self.serial, at, view)
        first = buf[0]
        if first <= SHORT or first == 0xFF:
            kind = DATA
            start = 1
            end = 1 + first
        else:
            kind = first >> 2 & 3
            start = 2
            end = 2 + ((first & 3) << 8 | buf[1])
        self.start = start
        self.end = end
        if first == 0xFF:
            return first
        if end == start or end + 2 > left:
            return _DAMAGED
        if end + 2 > len(view):
            self.buf = buf = bytearray(end + 2)
            view = memoryview(buf)
            self._ring.read(self.serial, at, view)
        return kind if _crc(view[:end], self.serial) == buf[end] | buf[end + 1] << 8 else _DAMAGED
