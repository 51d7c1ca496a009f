"""Stands in for `sys`, `micropython` and `vfs`: the real modules, but for what shows where the program runs."""

import sys
from collections import namedtuple

import _identity
import _tty
import micropython
import vfs

_FIELDS = ("name", "version", "_machine", "_mpy", "_build")


class _Sys:
    def __init__(self):
        real = sys.implementation
        self.platform = "esp32"
        values = (real.name, real.version, _identity.machine, getattr(real, "_mpy", 0), "VIRTUAL")
        self.implementation = namedtuple("implementation", _FIELDS)(*values)
        self.stdout = _tty.Output(sys.stdout)
        self.path = sys.path
        self.modules = sys.modules
        self.argv = []

    def __getattr__(self, name):
        if name in ("atexit", "executable"):
            raise AttributeError(name)
        return getattr(sys, name)


class _Micropython:
    kbd_intr = staticmethod(_tty.kbd_intr)

    def alloc_emergency_exception_buf(self, size):
        """For hard interrupts, which this board has not."""

    def __getattr__(self, name):
        return getattr(micropython, name)


class _Vfs:
    VfsFat = vfs.VfsFat
    VfsLfs2 = vfs.VfsLfs2
    mount = staticmethod(vfs.mount)
    umount = staticmethod(vfs.umount)


sys_ = _Sys()
vfs_ = _Vfs()
micropython_ = _Micropython()
