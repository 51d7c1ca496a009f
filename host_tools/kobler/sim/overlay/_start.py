"""What the chip's firmware does after a reset: mount the flash, run boot.py and main.py, serve the REPL."""

import builtins
import sys

import _chip
import _flash
import _program
import _repl
import _ticks
import _tty
import chipos
import chipsys
import chiptime
import vfs

for _name in ("esp32", "machine", "neopixel", "network"):
    __import__(_name)  # while the overlay can still be found

_BOOT_PY = """# This file is executed on every boot (including wake-boot from deepsleep)
#import esp
#esp.osdebug(None)
#import webrepl
#webrepl.start()
"""


def _replace_modules():
    """From here on an import finds the chip's modules."""
    for name, module in (
        ("time", chiptime),
        ("os", chipos),
        ("sys", chipsys.sys_),
        ("micropython", chipsys.micropython_),
        ("vfs", chipsys.vfs_),
    ):
        module.__name__ = name
        sys.modules[name] = module
        sys.modules["u" + name] = module
    builtins.open = _open
    sys.path[:] = ["", ".frozen", "/lib"]


class Volume:
    """The `vfs` partition as a block device, cheaper than esp32.Partition."""

    def __init__(self, offset, size):
        self.offset = offset
        self.blocks = size // _flash.SECTOR

    def readblocks(self, n, buf, offset=0):
        _flash.read(self.offset + n * _flash.SECTOR + offset, buf)

    def writeblocks(self, n, buf, offset=0):
        _flash.program(self.offset + n * _flash.SECTOR + offset, buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return _flash.SECTOR
        if op == 6:
            _flash.erase(self.offset + arg * _flash.SECTOR, _flash.SECTOR)
        return 0


def _open(*args, **kwargs):
    """The builtin, and a place where Ctrl-C is noticed: not inside littlefs, where nothing may be raised."""
    _chip.poll()
    return _real_open(*args, **kwargs)


_real_open = builtins.open


def _mount():
    vfs.umount("/")  # the machine's own files
    try:
        _, _, offset, size, _ = _flash.find("vfs")
    except OSError:
        print("no partition 'vfs' in the flash: nothing is mounted")
        return
    volume = Volume(offset, size)
    try:
        vfs.mount(vfs.VfsLfs2(volume), "/")
    except OSError:
        _set_up(volume)


def _set_up(volume):
    """Make a file system on a blank volume; one with content is left for a person to look at."""
    sector = _flash.get(volume.offset, _flash.SECTOR)
    if sector.count(b"\xff") == len(sector):
        print("Performing initial setup")
        vfs.VfsLfs2.mkfs(volume)
        vfs.mount(vfs.VfsLfs2(volume), "/")
        with open("boot.py", "w") as f:
            f.write(_BOOT_PY)
        return
    _repl.serving(True)
    try:
        while True:
            print(
                "The filesystem starting at sector %d with size %d sectors looks corrupt. If you had important data\n"
                "there, you may want to make a flash snapshot to try to recover it. Otherwise, perform\n"
                "factory reprogramming of the flash." % (volume.offset // _flash.SECTOR, volume.blocks)
            )
            chiptime.sleep(3)
    except KeyboardInterrupt:
        pass


def run():
    _tty.text(True)
    _ticks.install()
    _mount()
    _replace_modules()
    _program.run()
