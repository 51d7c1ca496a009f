"""Stands in for `os`: the chip's names only, so the host's environment and file system stay out of reach."""

from collections import namedtuple as _namedtuple

import _identity
import uos as _os

_NAMES = "VfsFat VfsLfs2 chdir getcwd ilistdir listdir mkdir mount remove rename rmdir sep stat statvfs umount"
for _name in (_NAMES + " unlink urandom").split():
    globals()[_name] = getattr(_os, _name)

_uname = _namedtuple("uname_result", ("sysname", "nodename", "release", "version", "machine"))


def uname():
    return _uname("esp32", "esp32", _identity.release, _identity.version, _identity.machine)


def sync():
    """Everything is in the flash when a call returns."""


def dupterm(stream, index=0):
    """Streams besides the serial line are not served; asking for none changes nothing."""
    if index != 0:
        raise ValueError("invalid dupterm index")
    if stream is not None:
        raise OSError(1)
    return None


def dupterm_notify(stream):
    return None
