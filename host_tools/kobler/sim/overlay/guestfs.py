"""The files of the `vfs` partition for a program on CPython: littlefs on the flash image, as the interpreter's own."""

import posixpath

import _flash
from littlefs import LittleFS
from littlefs.context import UserContext


class _Blocks(UserContext):
    """The partition as littlefs-python's block device."""

    def __init__(self, offset):
        self._offset = offset

    def read(self, cfg, block, off, size):
        return _flash.get(self._offset + block * _flash.SECTOR + off, size)

    def prog(self, cfg, block, off, data):
        _flash.program(self._offset + block * _flash.SECTOR + off, data)
        return 0

    def erase(self, cfg, block):
        _flash.erase(self._offset + block * _flash.SECTOR, _flash.SECTOR)
        return 0

    def sync(self, cfg):
        return 0


_mounted = None


def _volume(offset, size, **more):
    blocks = {"block_size": _flash.SECTOR, "block_count": size // _flash.SECTOR, "cache_size": 128}
    return LittleFS(_Blocks(offset), mount=False, read_size=32, prog_size=32, lookahead_size=32, **blocks, **more)


def _fs():
    """Mounted on first use; a blank partition is formatted, as the chip does."""
    global _mounted
    if _mounted is None:
        _, _, offset, size, _ = _flash.find("vfs")
        blank = _flash.get(offset, _flash.SECTOR).count(b"\xff") == _flash.SECTOR
        if blank:
            _volume(offset, size, disk_version=0x20000).format()  # older interpreters mount it too
        fs = _volume(offset, size)
        fs.mount()
        _mounted = fs
    return _mounted


def _path(path):
    return posixpath.normpath("/" + path)


def open(path, mode):
    """A binary file, as the builtin has it."""
    return _fs().open(_path(path), mode)


def read(path):
    """The file's bytes, or None if it is not there."""
    try:
        with _fs().open(_path(path), "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def write(path, data):
    """Replace the file in one step: after a power cut it is the old one or the new one."""
    path = _path(path)
    fs = _fs()
    if posixpath.dirname(path) != "/":
        fs.makedirs(posixpath.dirname(path), exist_ok=True)
    with fs.open(path + ".new", "wb") as f:
        f.write(data)
    fs.rename(path + ".new", path)


def remove(path):
    """Remove the file; one that is not there is no error."""
    try:
        _fs().remove(_path(path))
    except FileNotFoundError:
        pass


def rename(old, new):
    _fs().rename(_path(old), _path(new))
