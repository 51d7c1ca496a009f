# The hal on CPython: over the virtual board's modules where they can be imported, else over the host alone.

import asyncio
import os
import time

try:
    from coupler.hal.chip import Chip
except ImportError:
    from coupler.hal.bare import Bare as Chip
try:
    import guestfs  # the file system in the virtual board's flash
except ImportError:
    guestfs = None

_PERIOD = 1 << 30  # ticks wrap as on the chip, so that what cannot stand it shows here
_HALF = _PERIOD >> 1


class Flag:
    """asyncio.ThreadSafeFlag of MicroPython, to be set from the loop's own thread (soft interrupts are run there)."""

    def __init__(self):
        self._set = False
        self._waiter = None

    def set(self):
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self):
        self._set = False

    async def wait(self):
        if not self._set:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._set = False


class Hal(Chip):
    name = "cpython"

    urandom = staticmethod(os.urandom)

    def __init__(self, root=None):
        self._root = root or os.environ.get("KOBLER_ROOT") or os.getcwd()
        super().__init__()

    def flag(self):
        """To be set by a soft interrupt and awaited by one task."""
        return Flag()

    def ticks_ms(self):
        return time.monotonic_ns() // 1000000 % _PERIOD

    def ticks_us(self):
        return time.monotonic_ns() // 1000 % _PERIOD

    def ticks_diff(self, end, start):
        return (end - start + _HALF) % _PERIOD - _HALF

    def ticks_add(self, ticks, delta):
        if not -_HALF < delta < _HALF:
            raise OverflowError("ticks interval overflow")
        return (ticks + delta) % _PERIOD

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def mem_free(self):
        return 0  # there is no limit worth a number

    @property
    def net(self):
        from coupler.hal import cpython_net

        return cpython_net

    def _path(self, path):
        return os.path.join(self._root, path.lstrip("/"))

    def open_file(self, path, mode):
        """A binary file to seek, read and write in; None if there is none."""
        try:
            return guestfs.open(path, mode) if guestfs else open(self._path(path), mode)
        except FileNotFoundError:
            return None

    def read_file(self, path):
        """The file's bytes, None if there is none."""
        f = self.open_file(path, "rb")
        if f is None:
            return None
        with f:
            return f.read()

    def write_file(self, path, data):
        """All of the new content or all of the old, whenever the power fails."""
        if guestfs:
            guestfs.write(path, data)
            return
        path = self._path(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(path + ".new", path)

    def flush(self, f):
        """What was written to this file is durable."""
        f.flush()
        if not guestfs:
            os.fsync(f.fileno())

    def remove(self, path):
        """Removing what is not there is no error."""
        if guestfs:
            guestfs.remove(path)
            return
        try:
            os.remove(self._path(path))
        except FileNotFoundError:
            pass
