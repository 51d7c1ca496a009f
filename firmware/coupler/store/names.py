# The names of the points of each configuration whose samples may still lie in the journal: samples know their point by
# its place in the configuration only. They have a ring of their own on the raw flash, since flashing firmware replaces
# the files. Needed at the start and for what an earlier configuration left, so app forgets it.
#
# Frame: number of the configuration, how many points it has, how many come before; rows [name, unit, history] as JSON.
import json
import struct

from coupler.const import const
from coupler.store.recovery import open_ring
from coupler.store.ring import END, SECTOR, Frames, Ring

_HEAD = "<HHH"
_SIZE = const(6)
_FULL = const(700)  # bytes of rows in a frame, before the last one


class Point:
    """A point of an earlier configuration."""

    def __init__(self, name, unit, history):
        self.name = name
        self.unit = unit
        self.history = history


class Names:
    def __init__(self, flash, first, count):
        self._ring = ring = Ring(flash, first, count, 0, self)
        if open_ring(ring)[0]:
            ring.at = SECTOR  # a torn frame: what is behind it would not be found

    def anchor(self):
        return b""

    def leaving(self, serial):
        pass

    def load(self, number):
        """The points that a number stands for, None if they are lost."""
        found = []
        for known, total, before, rows in self._frames():
            if known == number and before == len(found):
                found += [Point(*row) for row in json.loads(rows)]
                if len(found) == total:
                    return found
        return None

    def keep(self, points, number):
        """The number for these points: `number`, that of before, if they are the same, else a new one."""
        known = self.load(number)
        rows = [[point.name, point.unit, point.history] for point in points]
        if known and rows == [[point.name, point.unit, point.history] for point in known]:
            return number
        number = max([number] + [frame[0] for frame in self._frames()]) % 65535 + 1
        before = done = 0
        parts = []
        size = 0
        for row in rows:
            text = json.dumps(row)
            parts.append(text)
            size += len(text.encode()) + 2
            done += 1
            if size > _FULL or done == len(rows):
                self._append(struct.pack(_HEAD, number, len(rows), before) + ("[%s]" % ",".join(parts)).encode())
                before = done
                parts = []
                size = 0
        return number

    def _append(self, payload):
        ring = self._ring
        if ring.at + len(payload) + 4 > SECTOR:
            ring.advance()
        ring.put(payload)

    def _frames(self):
        ring = self._ring
        frames = Frames(ring)
        for serial in range(ring.oldest, ring.serial + 1):
            frames.begin(serial)
            while frames.next() != END:
                start = frames.start + _SIZE
                head = struct.unpack_from(_HEAD, frames.buf, frames.start)
                yield head + (bytes(memoryview(frames.buf)[start : frames.end]),)
