"""The board's NOR flash: an image file in which programming clears bits and erasing a sector sets them.

An operation is what the chip does in one go: a page program (at most 256 bytes, within a page) or a sector
erase. Power can be made to fail between any two of them, or inside one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kobler.errors import KoblerError

SECTOR = 4096
PAGE = 256


class FlashError(Exception):
    """The chip would not have done what was asked: out of range, not aligned, or a 0 bit programmed to 1."""


class PowerCut(Exception):
    """The supply failed; nothing after this moment reaches the flash until power is back."""


class Flash:
    """`size` bytes in the file at `path`, made blank (all 0xFF) when it is not there. One owner at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.operations = 0
        self._left: int | None = None
        self._within = 0
        self._powered = True
        self._fd = _open(path, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return os.pread(self._fd, length, offset)

    def program(self, offset: int, data: bytes) -> None:
        """Clear bits; FlashError, and nothing changed, where a bit would have to go from 0 to 1."""
        self._check(offset, len(data))
        old = int.from_bytes(os.pread(self._fd, len(data), offset), "big")
        new = int.from_bytes(data, "big")
        wrong = new & ~old
        if wrong:
            at = offset + len(data) - 1 - (wrong.bit_length() - 1) // 8
            raise FlashError(f"byte 0x{at:x} is not erased: programming cannot turn a 0 bit into 1")
        at = 0
        while at < len(data):
            step = PAGE - (offset + at) % PAGE
            self._operation(offset + at, data[at : at + step])
            at += step

    def erase(self, offset: int, length: int) -> None:
        """Erase whole sectors; both arguments are multiples of 4096."""
        self._check(offset, length)
        if offset % SECTOR or length % SECTOR:
            raise FlashError(f"erase of 0x{length:x} bytes at 0x{offset:x} is not in whole 4096-byte sectors")
        blank = b"\xff" * SECTOR
        for sector in range(offset, offset + length, SECTOR):
            self._operation(sector, blank)

    def cut_after(self, operations: int, within: int = 0) -> None:
        """Let `operations` more succeed, then fail: before the next one, or `within` bytes into it."""
        self._left = operations
        self._within = within

    def power(self, on: bool) -> None:
        """Without power every operation raises PowerCut. Power on also disarms a cut that did not happen."""
        self._powered = on
        if on:
            self._left = None

    def _operation(self, offset: int, data: bytes) -> None:
        if not self._powered:
            raise PowerCut("the flash has no power")
        if self._left == 0:
            if self._within:
                os.pwrite(self._fd, data[: self._within], offset)
            self._powered = False
            raise PowerCut(f"power failed at flash operation {self.operations + 1}, address 0x{offset:x}")
        os.pwrite(self._fd, data, offset)
        self.operations += 1
        if self._left is not None:
            self._left -= 1

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FlashError(f"0x{length:x} bytes at 0x{offset:x} are outside the flash (0x{self.size:x})")


def _open(path: Path, size: int) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KoblerError(f"flash image {path}: {error.strerror}; name a file that can be written") from error
    try:
        _claim(fd, path, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _claim(fd: int, path: Path, size: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise KoblerError(
            f"flash image {path} is in use by another virtual board; stop that one or use another file"
        ) from error
    have = os.fstat(fd).st_size
    if have == 0:
        blank = b"\xff" * 0x10000
        for offset in range(0, size, len(blank)):
            os.pwrite(fd, blank, offset)
        os.ftruncate(fd, size)
    elif have != size:
        raise KoblerError(
            f"flash image {path} has {have} bytes, the board's flash {size}; "
            "choose the board it was made for, or another file"
        )
