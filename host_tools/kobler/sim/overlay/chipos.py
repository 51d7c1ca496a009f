"""Stands in for `os`: the chip's names only, so the host's environment and file system stay out of reach."""

from uos import *
from uos import VfsFat, VfsLfs2, chdir, getcwd, ilistdir, listdir, mkdir, mount, remove, rename, rmdir, sep, stat
from uos import statvfs, umount, unlink, urandom
from collections import namedtuple
import _identity

_uname = namedtuple("uname_result", ("sysname", "nodename", "release", "version", "machine"))


def uname():
    return _uname("esp32", "esp32", _identity.release, _identity.version, _identity.machine)


def sync():
    """Everything is in the flash when a call returns."""


def dupterm(stream, index=0):
    """Streams besides the USB port are not served; asking for none changes nothing."""
    if index != 0:
        raise ValueError("invalid dupterm index")
    if stream is not None:
        raise OSError(1)
    return None


def dupterm_notify(stream):
    return None


for _name in ("getenv", "putenv", "unsetenv", "system", "VfsPosix", "VfsLfs1", "errno", "_name", "namedtuple"):
    globals().pop(_name, None)
