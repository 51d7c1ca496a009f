"""The littlefs image of the partition `vfs`, as MicroPython's VfsLfs2 mounts it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from ..boards import SECTOR
from ..errors import KoblerError
from .modules import Module

# The cache must be VfsLfs2's (4 times the program size of 32): a file kept inside its directory entry may be
# as long as the writer's cache, and a reader with a smaller one would cut it off.
_GEOMETRY = {"read_size": 32, "prog_size": 32, "cache_size": 128, "lookahead_size": 32}
# Version 2.0 on disk: later minor versions are refused by littlefs before 2.6, which MicroPython 1.24 has.
_DISK_VERSION = 0x20000


def make(files: Iterable[Module], size: int) -> tuple[bytes, int]:
    """(image, bytes in use); `/etc` is there for what provisioning brings."""
    # Python delivers Ctrl-C to the main thread; there, it would be raised in a callback of the C library and lost.
    with ThreadPoolExecutor(1) as other:
        return other.submit(_make, files, size).result()


def _make(files: Iterable[Module], size: int) -> tuple[bytes, int]:
    from littlefs import LittleFS, LittleFSError

    fs = LittleFS(block_size=SECTOR, block_count=size // SECTOR, disk_version=_DISK_VERSION, **_GEOMETRY)
    try:
        fs.mkdir("/etc")
        for file in files:
            parent = PurePosixPath(file.target).parent
            if parent.name:
                fs.makedirs(f"/{parent}", exist_ok=True)
            with fs.open(f"/{file.target}", "wb") as out:
                out.write(file.data)
    except LittleFSError as e:
        if e.code != LittleFSError.Error.LFS_ERR_NOSPC:
            raise
        raise KoblerError(f"the firmware does not fit into the partition 'vfs' of {size:,} bytes") from None
    used = fs.used_block_count * SECTOR
    fs.unmount()
    return bytes(fs.context.buffer), used
