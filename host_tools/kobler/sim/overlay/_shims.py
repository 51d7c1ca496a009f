"""What MicroPython's modules have beyond CPython's of the same name, for firmware that runs on CPython."""

import asyncio
import sys
import time
import types

import _chip
import _tty

_PERIOD = 1 << 30
_HALF = _PERIOD >> 1


def ticks_ms():
    _chip.poll()
    return _chip.now() // 1000 & (_PERIOD - 1)


def ticks_us():
    _chip.poll()
    return _chip.now() & (_PERIOD - 1)


def ticks_add(ticks, delta):
    return ticks + delta & (_PERIOD - 1)


def ticks_diff(end, start):
    return (end - start + _HALF & (_PERIOD - 1)) - _HALF


class ThreadSafeFlag:
    """asyncio.ThreadSafeFlag: set by a soft interrupt, awaited by one task."""

    def __init__(self):
        self._event = asyncio.Event()

    def set(self):
        self._event.set()  # soft interrupts run in the loop's own thread

    def clear(self):
        self._event.clear()

    async def wait(self):
        await self._event.wait()
        self._event.clear()


async def sleep_ms(ms):
    await asyncio.sleep(ms / 1000)


async def wait_for_ms(aw, ms):
    return await asyncio.wait_for(aw, ms / 1000)


def _micropython():
    module = types.ModuleType("micropython")
    module.const = lambda value: value
    module.native = module.viper = lambda function: function
    module.schedule = lambda function, arg: _chip.at(_chip.now(), function, arg)
    module.alloc_emergency_exception_buf = lambda size: None
    module.kbd_intr = _tty.kbd_intr
    module.opt_level = lambda level=None: 0
    module.mem_info = lambda verbose=None: None
    return module


def install():
    for name, value in (
        ("ticks_ms", ticks_ms),
        ("ticks_us", ticks_us),
        ("ticks_add", ticks_add),
        ("ticks_diff", ticks_diff),
        ("sleep_ms", lambda ms: _chip.sleep_us(ms * 1000)),
        ("sleep_us", _chip.sleep_us),
    ):
        setattr(time, name, value)
    for name, value in (("ThreadSafeFlag", ThreadSafeFlag), ("sleep_ms", sleep_ms), ("wait_for_ms", wait_for_ms)):
        if not hasattr(asyncio, name):
            setattr(asyncio, name, value)
    # Without asking sys.path: an installed package may be called micropython too.
    sys.modules["micropython"] = _micropython()
