"""Calendar and clock of the chip, epoch 2000-01-01. The clock goes on through every reset but a power-on."""

import struct

import _chip

_DAYS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
NS_PER_US = 1000


def _days_before_year(year):
    y = year - 1
    return y * 365 + y // 4 - y // 100 + y // 400 - 730119  # days from 2000-01-01


def _leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def seconds(year, month, day, hour, minute, second):
    """Seconds since 2000-01-01; month and the smaller fields may run over, as in mktime."""
    year += (month - 1) // 12
    month = (month - 1) % 12 + 1
    days = _days_before_year(year) + _DAYS[month - 1] + (1 if month > 2 and _leap(year) else 0) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def calendar(t):
    """(year, month, mday, hour, minute, second, weekday, yearday) of seconds since 2000-01-01."""
    days, rest = divmod(t, 86400)
    year = 2000 + days * 400 // 146097
    while _days_before_year(year + 1) <= days:
        year += 1
    while _days_before_year(year) > days:
        year -= 1
    yearday = days - _days_before_year(year)
    leap = _leap(year)
    month = 12
    while yearday < _DAYS[month - 1] + (1 if leap and month > 2 else 0):
        month -= 1
    mday = yearday - _DAYS[month - 1] - (1 if leap and month > 2 else 0) + 1
    return (year, month, mday, rest // 3600, rest // 60 % 60, rest % 60, (days + 5) % 7, yearday + 1)


# What outlives a reset: the clock's zero on the board's monotonic clock, and the RTC memory.
_kept = bytes.fromhex(_chip.getenv("KOBLER_KEEP") or "")
if _kept:
    _zero_us = struct.unpack("<q", _kept[:8])[0]
    _memory = _kept[8:]
else:
    _zero_us = _chip.now()
    _memory = b""
    _chip.send(_chip.KEEP, struct.pack("<q", _zero_us))


def microseconds():
    """Microseconds since 2000-01-01 by the real-time clock."""
    return _chip.now() - _zero_us


def set_microseconds(us):
    global _zero_us
    _zero_us = _chip.now() - us
    _chip.send(_chip.KEEP, struct.pack("<q", _zero_us) + _memory)


class RTC:
    """machine.RTC"""

    def __init__(self, id=0):
        if id != 0:
            raise ValueError("RTC(%d) doesn't exist" % id)

    def datetime(self, value=None):
        """(year, month, day, weekday, hour, minute, second, microsecond)"""
        if value is None:
            us = microseconds()
            y, mo, d, h, mi, s, wd, _ = calendar(us // 1000000)
            return (y, mo, d, wd, h, mi, s, us % 1000000)
        if len(value) != 8:
            raise ValueError("requested length 8 but object has length %d" % len(value))
        y, mo, d, _, h, mi, s, us = value
        set_microseconds(seconds(y, mo, d, h, mi, s) * 1000000 + us)

    def init(self, value):
        self.datetime(value)

    def memory(self, data=None):
        global _memory
        if data is None:
            return _memory
        if len(data) > 2048:
            raise ValueError("buffer too long")
        _memory = bytes(data)
        _chip.send(_chip.KEEP, struct.pack("<q", _zero_us) + _memory)
