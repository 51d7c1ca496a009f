# Keeps one piece of bytes through any power cut: the newest whole snapshot in a few sectors of raw flash counts.
#
# A snapshot goes behind the last one. When its sector is full, the next sector is erased and takes it; the sector with
# the newest whole one is never erased. So before, during and after a change there is always one, and all wear alike.
# Snapshot: magic, length u16, generation u32, CRC-32 of these and of what follows; content; blank up to 4 bytes.
import binascii
import errno
import struct

from coupler.const import const

_SECTOR = const(4096)
_MAGIC = b"\xfeS"  # begins with a byte that no text has: nothing in a text looks like a snapshot
_HEADER = const(12)
_CRC = const(8)  # where it is in there
_PIECE = const(128)
MOST = const(4084)  # bytes of content: a sector less a header


class Snapshot:
    """In `count` sectors from `first` on. damaged: places in them where something is written and no whole snapshot."""

    def __init__(self, flash, first, count=2):
        self._flash = flash
        self._first = first
        self._count = count
        self._scan()

    def load(self):
        """The newest whole content, None without one."""
        if self._at is not None and not self._check(self._at):
            self._scan()  # it was damaged since
        if self._at is None:
            return None
        data = bytearray(self._size)
        self._flash.read(self._at + _HEADER, data)
        return data

    def save(self, data):
        """Durable when it returns; after an error the last one still counts. OSError: the flash does not keep it."""
        size = len(data)
        if size > MOST:
            raise ValueError("%d bytes, but only %d fit in a sector" % (size, MOST))
        head = struct.pack("<2sHI", _MAGIC, size, self._generation + 1)
        head += struct.pack("<I", binascii.crc32(data, binascii.crc32(head)))
        for _ in range(self._count):
            at = self._place(_HEADER + size)
            end = self._end
            self._end = _SECTOR  # should it go wrong: another sector then
            self._flash.program(at, head)
            self._flash.program(at + _HEADER, data)
            if self._check(at):
                self._at = at
                self._size = size
                self._generation += 1
                self._end = end + _room(size)
                return
        raise OSError(errno.EIO, "flash sectors %d+%d keep nothing" % (self._first, self._count))

    def _place(self, size):
        # -> the address for the next snapshot
        if self._end + size > _SECTOR:
            newest = None if self._at is None else self._at // _SECTOR
            self._sector = self._next(self._sector)
            if self._sector == newest:
                self._sector = self._next(self._sector)
            self._flash.erase(self._sector)
            self._end = 0
        return self._sector * _SECTOR + self._end

    def _next(self, sector):
        return self._first + (sector - self._first + 1) % self._count

    def _scan(self):
        self.damaged = 0
        self._at = None
        self._size = 0
        self._generation = 0
        self._sector = self._first - 1
        self._end = _SECTOR
        for sector in range(self._first, self._first + self._count):
            start = sector * _SECTOR
            end = start + self._written(start)
            at = start
            good = True
            while at < end:
                found = self._check(at)
                if found:
                    size, generation = found
                    if generation > self._generation:
                        self._generation = generation
                        self._at = at
                        self._size = size
                        self._sector = sector
                    at += _room(size)
                else:
                    if good:
                        self.damaged += 1
                    at += 4
                good = found
            if self._sector == sector:
                self._end = at - start

    def _written(self, start):
        # -> up to where the sector is not blank
        buf = bytearray(_PIECE)
        for at in range(_SECTOR - _PIECE, -1, -_PIECE):
            self._flash.read(start + at, buf)
            n = len(bytes(buf).rstrip(b"\xff"))
            if n:
                return at + n
        return 0

    def _check(self, at):
        # -> (size, generation) of the whole snapshot there, None if it is none
        room = _SECTOR - at % _SECTOR - _HEADER
        if room < 0:
            return None
        head = bytearray(_HEADER)
        self._flash.read(at, head)
        magic, size, generation, crc = struct.unpack("<2sHII", head)
        if magic != _MAGIC or size > room:
            return None
        found = binascii.crc32(memoryview(head)[:_CRC])
        buf = memoryview(bytearray(min(size, _PIECE)))
        for done in range(0, size, _PIECE):
            piece = buf[: size - done]
            self._flash.read(at + _HEADER + done, piece)
            found = binascii.crc32(piece, found)
        return (size, generation) if found == crc else None


def _room(size):
    return _HEADER + (size + 3 & ~3)
