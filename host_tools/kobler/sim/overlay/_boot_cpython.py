"""First file of a guest on CPython: the firmware's sources over the same overlay, for debugging and coverage.

There is no REPL: when the program has ended, Ctrl-D makes a soft reset.
"""

import os
import runpy
import select
import selectors
import sys
import traceback

import _chip

_chip.attach(int(_chip.getenv("KOBLER_LINK")))

import _shims  # noqa: E402

_FIRMWARE = _chip.getenv("KOBLER_FIRMWARE")


class ChipSelector(selectors.DefaultSelector):
    """asyncio in the chip's time: streams are looked at once a tick, or when a soft interrupt has run."""

    def select(self, timeout=None):
        end = None if timeout is None else _chip.now() + int(timeout * 1000000)
        _chip.poll()
        while True:
            ready = super().select(0)
            now = _chip.now()
            if ready or (end is not None and now >= end):
                return ready
            if _chip.wait((now // _chip.tick_us + 1) * _chip.tick_us):
                return super().select(0)


def _run(name):
    """1 done or not there, 0 it raised, -1 it asked for a soft reset."""
    path = os.path.join(_FIRMWARE, name)
    if not os.path.exists(path):
        return 1
    _chip.ctrl_c(True)
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit:
        return -1
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        return 0
    finally:
        _chip.ctrl_c(False)
    return 1


def _wait_for_ctrl_d():
    while True:
        _chip.poll()
        _chip.wait(_chip.now() + 20000)
        if select.select([0], [], [], 0)[0] and b"\x04" in os.read(0, 256):
            return


def main():
    selectors.DefaultSelector = ChipSelector
    _shims.install()
    sys.path.append(_FIRMWARE)
    ended = _run("boot.py")
    if ended == 1:
        ended = _run("main.py")
    if ended >= 0:
        print("%s; Ctrl-D restarts the program" % _shims.banner)
        _wait_for_ctrl_d()
    print("MPY: soft reboot")
    _chip.send(_chip.RESTART, b"\0")
    sys.stdout.flush()
    os._exit(0)


main()
