"""The parts of the hal that the uplink and the HTTP client use, over real sockets, on whatever interpreter runs it."""

import asyncio
import gc
import os
import sys
import time

MICROPYTHON = sys.implementation.name == "micropython"


class Hal:
    def __init__(self, files=""):
        if MICROPYTHON:
            from coupler.hal import micropython_net as net
        else:
            from coupler.hal import cpython_net as net
        self.net = net
        self._files = files

    def ticks_ms(self):
        return time.ticks_ms() if MICROPYTHON else time.monotonic_ns() // 1000000

    def ticks_add(self, a, b):
        return time.ticks_add(a, b) if MICROPYTHON else a + b

    def ticks_diff(self, a, b):
        return time.ticks_diff(a, b) if MICROPYTHON else a - b

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def now_ms(self):
        return int(time.time() * 1000)

    def urandom(self, n):
        return os.urandom(n)

    def forget(self, *modules):
        # As on the chip: what is imported again is loaded again.
        if MICROPYTHON:
            for name in modules:
                if sys.modules.pop(name, None):
                    package, _, leaf = name.rpartition(".")
                    delattr(sys.modules[package], leaf)
        gc.collect()

    def network_info(self):
        return {"dns": []}

    def read_file(self, path):
        with open(self._files + "/" + path.split("/")[-1], "rb") as f:  # noqa: PTH123 - MicroPython has no pathlib
            return f.read()


class Bus:
    """The serial bus: whoever has a turn has it alone."""

    def __init__(self):
        self.turns = 0
        self._taken = False

    async def turn(self):
        assert not self._taken
        self._taken = True
        self.turns += 1
        await asyncio.sleep(0.01)

    def done(self):
        assert self._taken
        self._taken = False
