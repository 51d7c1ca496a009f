# What the runtimes share: wall clock, board file, atomic writes. Each Hal adds its own primitives.

import json
import time

from coupler import RELEASED_MS
from coupler.const import const

# The chip counts seconds from 2000-01-01, hosts from 1970-01-01.
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0
_BOARD = "/board.json"
_NS = const(1000000)


def certificates(data):
    """Those in `data`, DER behind one another; a certificate's length has two bytes."""
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at:end]
        at = end


class Base:
    floor_ms = RELEASED_MS  # it is later than this
    doubt = None  # of net.sntp: the first of the answers that nothing confirms

    def __init__(self):
        self._board = None
        self._known = False
        self._correction = 0  # ms, where this program may not set the clock

    def _clock_ms(self):
        return time.time_ns() // _NS + 1000 * _EPOCH_S + self._correction

    def now_ms(self):
        """Milliseconds since 1970, None as long as the clock is not known."""
        now = self._clock_ms()
        # Not set by this program, it may have been running through a reset.
        return now if self._known or now >= self.floor_ms else None

    def raise_floor(self, unix_ms):
        """It is later than this, as an earlier run of the unit has seen."""
        self.floor_ms = max(self.floor_ms, unix_ms)

    def forget(self, *modules):
        """Free the memory of modules that are needed now and then; the next import loads them again."""

    def set_time(self, unix_ms):
        seconds, ms = divmod(unix_ms, 1000)
        if not self._set_clock(time.gmtime(seconds - _EPOCH_S), ms):
            self._correction += unix_ms - self._clock_ms()
        self._known = True
        self.raise_floor(unix_ms)

    # What each Hal has its own way for:

    def _set_clock(self, calendar, ms) -> bool:
        return False

    def read_file(self, path):
        raise NotImplementedError

    def write_file(self, path, data):
        raise NotImplementedError

    def open_file(self, path, mode):
        raise NotImplementedError

    def flush(self, f):
        """What was written to this file is durable."""
        f.flush()

    def flag(self):
        raise NotImplementedError

    def alarm(self):
        """`await alarm().sleep(us)`, as exact as this runtime can."""
        from coupler.hal.port import Alarm

        return Alarm(self, None)

    def sleep_ms(self, ms):
        raise NotImplementedError

    @property
    def board(self):
        """board.json, an empty table without one."""
        if self._board is None:
            text = self.read_file(_BOARD)
            self._board = json.loads(text) if text else {}
        return self._board
