# What statistics are made of: cells in which points are counted, and a ring of groups of what they came to.
import struct
from array import array

from coupler.const import const
from coupler.store.ring import Ring

HOUR = const(3600000)
DAY = const(86400000)
STATE = "<HIQQQIQH"
STATE_SIZE = const(44)
ENDED = const(0x8000)
_HELD = const(1)  # the point's last value holds
_KNOWN = const(2)  # there was a value
_EXACT = const(1 << 24)  # whole numbers up to this are exact as float32
_FLOAT = "f" if float("1.000000001") == 1 else "d"


class Groups:
    """A ring of groups; its anchor, which is also a group's end, is the state in which the next group begins."""

    def __init__(self, flash, first, count, span):
        self.span = span
        self.names = 0  # of the configuration whose points it has
        self.number = 0
        self.seq = 0  # of the last sample before it; of a day: number of its first hour
        self.time = 0  # the unit's own, ms
        self.unix = 0  # what the clock showed then, ms
        self.boot = 0
        self.turned = 0  # seq at the last time that the clock was set back
        self.parts = 0  # frames of this group that came before; ENDED and those of the group that ended here
        self.told = None  # the state that is in flash
        self.ring = Ring(flash, first, count, STATE_SIZE, self)

    def begin(self, names, seq, time, unix, boot, turned):
        self.names = names
        self.seq = seq
        self.time = time
        self.unix = unix
        self.boot = boot
        self.turned = turned

    def state(self):
        return self.names, self.seq, self.time, self.unix, self.boot, self.turned

    def anchor(self):
        return struct.pack(
            STATE, self.names, self.number, self.seq, self.time, self.unix, self.boot, self.turned, self.parts
        )

    def leaving(self, serial):
        pass


def _plain(value):
    # Whole numbers that are in an array come back as floats.
    return int(value) if -_EXACT <= value <= _EXACT and int(value) == value else value


class Cells:
    """What each of the points with history has come to since the group began; times in ms since then."""

    def __init__(self, points):
        indexes = [index for index in range(len(points)) if points[index].history]
        n = len(indexes)
        self.indexes = array("H", indexes)
        self.slots = array("H", [0] * len(points))
        for slot in range(n):
            self.slots[indexes[slot]] = slot
        self.counts = array("I", [0] * n)
        self.durations = array("I", [0] * n)
        self._since = array("I", [0] * n)
        self._flags = bytearray(n)
        self._values = array(_FLOAT, [0] * (4 * n))  # first, last, least, most
        self._means = array(_FLOAT, [0] * n)  # less the first, lest it drowns in a great value
        self._whole = {}  # whole numbers that are not exact as float32, by their place in _values

    def begin(self):
        """The next group begins: what holds goes on."""
        for slot in range(len(self.indexes)):
            self.counts[slot] = self.durations[slot] = self._since[slot] = 0
            self._means[slot] = 0
            self._flags[slot] &= _HELD

    def take(self, slot, value, time):
        """A sample; None: no good one."""
        self._pass(slot, time)
        self._flags[slot] &= ~_HELD
        if value is not None:
            self.counts[slot] += 1
            if not isinstance(value, str):
                self._enter(slot, value)
                self._set(4 * slot + 1, value)
                self._flags[slot] |= _HELD

    def settle(self, time):
        """Count what held until now."""
        for slot in range(len(self.indexes)):
            self._pass(slot, time)

    def release(self):
        """From now on nothing holds."""
        for slot in range(len(self.indexes)):
            self._flags[slot] &= ~_HELD

    def entry(self, slot):
        """[count, duration, first, last, least, most, place of the mean between them (0..1), whether the last holds]

        None for nothing; the values are None if there were only texts."""
        flags = self._flags[slot]
        count = self.counts[slot]
        if not flags and not count:
            return None
        at = 4 * slot
        last = _plain(self._get(at + 1))
        if not flags & _KNOWN:
            if not flags:
                last = None
            return [count, 0, last, last, last, last, 0, flags]
        first = _plain(self._get(at))
        low = _plain(self._get(at + 2))
        high = _plain(self._get(at + 3))
        part = 0
        if high > low:
            part = (first - low + self._means[slot]) / (high - low)
            if not part > 0:  # nor is NaN, from values near the end of the floats
                part = 0
            elif part > 1:
                part = 1
        return [count, self.durations[slot], first, last, low, high, part, flags & _HELD]

    def load(self, slot, entry):
        """The opposite of entry()."""
        count, duration, first, last, low, high, part, held = entry
        self.counts[slot] = count
        self.durations[slot] = duration
        if first is not None:
            at = 4 * slot
            for i in range(4):
                self._set(at + i, entry[2 + i])
            self._means[slot] = part * (high - low) - (first - low)
            self._flags[slot] = _KNOWN

    def hold(self, slot, value):
        self._set(4 * slot + 1, value)
        self._flags[slot] = _HELD

    def _pass(self, slot, time):
        passed = time - self._since[slot]
        self._since[slot] = time
        if passed and self._flags[slot] & _HELD:
            value = self._get(4 * slot + 1)
            self._enter(slot, value)
            duration = self.durations[slot] + passed
            self.durations[slot] = duration
            mean = self._means[slot]
            self._means[slot] = mean + (value - self._get(4 * slot) - mean) * (passed / duration)

    def _enter(self, slot, value):
        at = 4 * slot
        if not self._flags[slot] & _KNOWN:
            self._flags[slot] |= _KNOWN
            for i in (0, 2, 3):
                self._set(at + i, value)
        elif value < self._get(at + 2):
            self._set(at + 2, value)
        elif value > self._get(at + 3):
            self._set(at + 3, value)

    def _get(self, at):
        if at in self._whole:
            return self._whole[at]
        return self._values[at]

    def _set(self, at, value):
        self._values[at] = value
        if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
            self._whole[at] = value
        elif self._whole:
            self._whole.pop(at, None)
