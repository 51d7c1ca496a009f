"""Stands in for `time`: epoch 2000, ticks that wrap as on the chip, soft interrupts run during sleeps."""

import _chip
import _clock

_PERIOD = 1 << 30
_HALF = _PERIOD >> 1


def ticks_ms():
    _chip.poll()
    return _chip.now() // 1000 & (_PERIOD - 1)


def ticks_us():
    _chip.poll()
    return _chip.now() & (_PERIOD - 1)


def ticks_cpu():
    return _chip.now() * 240 & (_PERIOD - 1)


def ticks_add(ticks, delta):
    if not -_HALF < delta < _HALF:
        raise OverflowError("ticks interval overflow")
    return ticks + delta & (_PERIOD - 1)


def ticks_diff(end, start):
    return (end - start + _HALF & (_PERIOD - 1)) - _HALF


def sleep(seconds):
    _chip.sleep_us(int(seconds * 1000000))


def sleep_ms(ms):
    _chip.sleep_us(ms * 1000)


def sleep_us(us):
    _chip.sleep_us(us)


def time():
    return _clock.microseconds() // 1000000


def time_ns():
    return _clock.microseconds() * 1000


def gmtime(t=None):
    return _clock.calendar(time() if t is None else int(t))


localtime = gmtime  # the chip has no time zone


def mktime(t):
    if not 8 <= len(t) <= 9:
        raise TypeError("mktime needs a tuple of length 8 or 9 (%d given)" % len(t))
    return _clock.seconds(*t[:6])
