# Takes a journal up where it was left. Needed once, so app forgets it.
import struct

from coupler.const import const
from coupler.store.journal import ANCHORED, CLOCK, CURSOR, by_number
from coupler.store.recovery import open_ring
from coupler.store.ring import ANCHOR, DATA, MARK, SECTOR
from coupler.store.samples import Samples

_POINTS = const(1024)  # that an earlier configuration may have had


class _Tail:
    # The last sector, read to its end.

    def __init__(self, anchor, points):
        self._known = Samples(max(points, _POINTS))
        self.cursor = 0
        self.take(anchor)

    def take(self, anchor):
        fields = struct.unpack(ANCHORED, anchor)
        self.next, self.time, self.offset, cursor, self.boot, self.dropped, self.names, self.period = fields
        self.cursor = max(self.cursor, cursor)
        self._known.reset()

    def frame(self, kind, frames):
        buf = frames.buf
        at = frames.start
        if kind == ANCHOR:
            self.take(bytes(memoryview(buf)[at : frames.end]))
        elif kind == MARK:
            value = struct.unpack_from("<Q", buf, at + 1)[0]
            if buf[at] == CURSOR:
                self.cursor = max(self.cursor, value)
            elif buf[at] == CLOCK:
                self.offset = value
        elif kind == DATA:
            while at < frames.end:
                try:
                    at = self._known.decode(buf, at)
                except (ValueError, IndexError):  # more points than that
                    self.next += frames.end - at
                    break
                self.next += 1
                self.time += self._known.dt


def recover(journal):
    """Find the journal's end. Returns what the clock showed there, Unix ms, 0 if it was not known then."""
    ring = journal.ring
    points = len(journal.points)
    lost, end = open_ring(ring, lambda anchor: _Tail(anchor, points))
    if end is None:
        # New, or erased: NVS knows which numbers were used.
        journal.restart(journal.reserved + 1, journal.reserved, 0, 0)
        return 0
    journal.names = journal.names or end.names
    # A byte that cannot be read may have been a sample.
    cursor = end.cursor
    oldest = by_number(ring.anchor(ring.oldest))
    if cursor < oldest - 1:
        # The last sector that was given up was not told of any more.
        if journal.cloud:
            end.dropped += oldest - 1 - cursor
        cursor = oldest - 1
    following = end.next + lost
    if journal.reserved >= following + SECTOR:
        following = journal.reserved  # the newest sector is lost
    journal.restart(following, cursor, end.time, end.dropped, end.period)
    return end.time + end.offset if end.offset else 0
