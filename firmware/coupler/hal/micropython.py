# The hal on MicroPython: the chip, the virtual board, and the unix port under the unit tests.

import asyncio
import errno
import gc
import os
import sys
import time

from coupler.const import const

try:
    from coupler.hal.chip import Chip
except ImportError:  # the unix port has no esp32 module
    from coupler.hal.bare import Bare as Chip


# Collecting only when the heap is full lets what stays settle all over it, until no piece is left that holds a TLS
# record. So collect after a part of what is free was used: what stays moves together at the bottom. Not more often:
# each time stops the loop for some milliseconds.
_PART = const(4)


class Hal(Chip):  # pyright: ignore[reportGeneralTypeIssues] - one of the two above
    name = "micropython"

    ticks_ms = staticmethod(time.ticks_ms)
    ticks_us = staticmethod(time.ticks_us)
    ticks_diff = staticmethod(time.ticks_diff)
    ticks_add = staticmethod(time.ticks_add)
    urandom = staticmethod(os.urandom)

    def __init__(self, root=""):
        self._root = root
        gc.collect()
        gc.threshold(gc.mem_free() // _PART)
        super().__init__()

    def flag(self):
        """To be set by an interrupt and awaited by one task."""
        return asyncio.ThreadSafeFlag()

    def sleep_ms(self, ms):
        return asyncio.sleep_ms(ms)

    def mem_free(self):
        """Bytes of heap that are really free: what nobody needs any more is collected first."""
        gc.collect()
        return gc.mem_free()

    def forget(self, *modules):
        for name in modules:
            if sys.modules.pop(name, None):
                package, _, leaf = name.rpartition(".")
                delattr(sys.modules[package], leaf)

    @property
    def net(self):
        from coupler.hal import micropython_net

        return micropython_net

    def open_file(self, path, mode):
        """A binary file to seek, read and write in; None if there is none."""
        try:
            return open(self._root + path, mode)
        except OSError as e:
            if e.errno == errno.ENOENT:
                return None
            raise

    def read_file(self, path):
        """The file's bytes, None if there is none."""
        f = self.open_file(path, "rb")
        if f is None:
            return None
        with f:
            return f.read()

    def write_file(self, path, data):
        """All of the new content or all of the old, whenever the power fails."""
        path = self._root + path
        new = path + ".new"
        try:
            self._write(new, data)
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise
            self._make_folder(path)
            self._write(new, data)
        os.rename(new, path)

    def _write(self, path, data):
        with open(path, "wb") as f:
            f.write(data)
        if hasattr(os, "sync"):
            os.sync()

    def _make_folder(self, path):
        parts = path.split("/")[:-1]
        for i in range(1, len(parts)):
            try:
                os.mkdir("/".join(parts[: i + 1]))
            except OSError as e:
                if e.errno != errno.EEXIST:
                    raise

    def remove(self, path):
        """Removing what is not there is no error."""
        try:
            os.remove(self._root + path)
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise
