"""NOR flash in memory, on every interpreter: with its rules, its wear, and power that fails inside an operation.

An operation is what the chip does in one go: a page program (at most 256 bytes, within a page) or a sector erase.
"""

SECTOR = 4096
_PAGE = 256


class FlashError(Exception):
    """The chip would not have done what was asked: out of range, or a 0 bit programmed to 1."""


class PowerCut(Exception):
    """The supply failed; nothing after this moment reaches the flash until `power`."""


class Nor:
    """What hal.flash() gives: `sectors`, `read`, `program`, `erase`; blank at first."""

    def __init__(self, sectors):
        self.sectors = sectors
        self.data = bytearray(b"\xff" * (sectors * SECTOR))
        self.operations = 0
        self.erases = [0] * sectors
        self.programmed = 0  # bytes
        self._left = None
        self._within = 0
        self._torn = 0xFF
        self._powered = True

    def read(self, at, buf):
        self._check(at, len(buf))
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def program(self, at, buf):
        """FlashError, and nothing changed, where a bit would have to go from 0 to 1."""
        self._check(at, len(buf))
        view = memoryview(buf)
        old = memoryview(self.data)[at : at + len(buf)]
        if int.from_bytes(bytes(view), "big") & ~int.from_bytes(bytes(old), "big"):
            for i in range(len(view)):
                if view[i] & ~old[i]:
                    raise FlashError("byte 0x%x is not erased: programming cannot turn a 0 bit into 1" % (at + i))
        done = 0
        while done < len(view):
            step = min(_PAGE - (at + done) % _PAGE, len(view) - done)
            self._operation(at + done, view[done : done + step])
            self.programmed += step
            done += step

    def erase(self, sector):
        at = sector * SECTOR
        self._check(at, SECTOR)
        self._operation(at, memoryview(b"\xff" * SECTOR))
        self.erases[sector] += 1

    def cut_after(self, operations, within=0, torn=0xFF):
        """Let `operations` more succeed, then fail: before the next one, or `within` bytes into it; of the last of
        these bytes only the bits of the mask `torn` change."""
        self._left = operations
        self._within = within
        self._torn = torn

    def power(self):
        """Power is back; also disarms a cut that did not happen."""
        self._left = None
        self._powered = True

    def flip(self, at, bit):
        """A bit that fell over, either way."""
        self.data[at] ^= 1 << bit

    def _operation(self, at, new):
        if not self._powered:
            raise PowerCut("the flash has no power")
        if self._left == 0:
            n = min(self._within, len(new))
            if n:
                last = at + n - 1
                self.data[last] ^= (self.data[last] ^ new[n - 1]) & self._torn
                self.data[at:last] = new[: n - 1]
            self._powered = False
            raise PowerCut("power failed at flash operation %d, address 0x%x" % (self.operations + 1, at))
        self.data[at : at + len(new)] = new
        self.operations += 1
        if self._left is not None:
            self._left -= 1

    def _check(self, at, n):
        if at < 0 or at + n > len(self.data):
            raise FlashError("0x%x bytes at 0x%x are outside the flash (0x%x)" % (n, at, len(self.data)))
