"""The loader's flash commands: begin, data and end of a download, deflate, MD5, erase and read.

The ROM erases at the beginning; the stub erases each sector as it comes to it, as the stub of esptool does.
"""

from __future__ import annotations

import hashlib
import zlib

from kobler.sim.flash import SECTOR, Flash
from kobler.sim.rom_protocol import DEFLATE_ERROR, FAILED, LoaderError


class Download:
    """One transfer into flash, from FLASH_BEGIN or FLASH_DEFL_BEGIN to its end."""

    def __init__(self, flash: Flash, stub: bool) -> None:
        self._flash = flash
        self._stub = stub
        self._at = self._left = self._erased = 0
        self._inflate: zlib._Decompress | None = None
        self.active = False

    def begin(self, size: int, offset: int, compressed: bool) -> None:
        if offset + size > self._flash.size:
            raise LoaderError(FAILED, f"0x{size:x} bytes at 0x{offset:x} do not fit into the flash")
        if not self._stub and offset % SECTOR:
            raise LoaderError(FAILED, f"0x{offset:x} is not the start of a sector")
        self._at, self._left = offset, size
        self._erased = offset - offset % SECTOR
        self._inflate = zlib.decompressobj() if compressed else None
        self.active = True
        if not self._stub:
            self._erase_to(offset + size)

    def data(self, block: bytes) -> None:
        """A block of a plain transfer, the last one padded with 0xFF to the block size."""
        if not self.active or self._inflate is not None:
            raise LoaderError(FAILED, "no plain download was begun")
        if not self._left:
            raise LoaderError(FAILED, "more data than announced")
        self._write(block[: self._left])

    def deflated(self, block: bytes) -> None:
        if not self.active or self._inflate is None:
            raise LoaderError(FAILED, "no compressed download was begun")
        try:
            # One byte more than is left tells enough: a small block may claim to be gigabytes.
            plain = self._inflate.decompress(block, self._left + 1)
        except zlib.error as error:
            raise LoaderError(DEFLATE_ERROR, str(error)) from error
        if len(plain) > self._left:
            raise LoaderError(FAILED, "more data than announced")
        self._write(plain)

    def end(self) -> None:
        self.active = False
        self._inflate = None

    def _write(self, data: bytes) -> None:
        self._erase_to(self._at + len(data))
        self._flash.program(self._at, data)
        self._at += len(data)
        self._left -= len(data)

    def _erase_to(self, end: int) -> None:
        end = -(-end // SECTOR) * SECTOR
        if end > self._erased:
            self._flash.erase(self._erased, end - self._erased)
            self._erased = end


class ReadOut:
    """The stub's READ_FLASH: at most `ahead` blocks before the host acknowledges, then an MD5 of it all."""

    def __init__(self, flash: Flash, offset: int, length: int, block: int, ahead: int) -> None:
        if offset + length > flash.size or not block or not ahead:
            raise LoaderError(FAILED, f"0x{length:x} bytes at 0x{offset:x} are not in the flash")
        self._flash = flash
        self._offset, self._length, self._block = offset, length, block
        self._window = block * ahead
        self._sent = self._acknowledged = 0
        self._digest = hashlib.md5(usedforsecurity=False)
        self.done = False

    def acknowledge(self, total: int) -> None:
        self._acknowledged = total

    def packets(self) -> list[bytes]:
        out: list[bytes] = []
        while self._sent < self._length and self._sent - self._acknowledged < self._window:
            size = min(self._block, self._length - self._sent)
            data = self._flash.read(self._offset + self._sent, size)
            self._digest.update(data)
            self._sent += size
            out.append(data)
        if self._acknowledged >= self._length and not self.done:
            self.done = True
            out.append(self._digest.digest())
        return out


def md5(flash: Flash, offset: int, length: int) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for at in range(offset, offset + length, 0x10000):
        digest.update(flash.read(at, min(0x10000, offset + length - at)))
    return digest.digest()
