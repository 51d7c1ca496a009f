# Takes the statistics up where they were left. Needed once, so app forgets it.
import struct

from coupler.store.cells import ENDED, STATE, Cells
from coupler.store.entries import decode
from coupler.store.groups import by_group, members, walk
from coupler.store.recovery import open_ring
from coupler.store.ring import ANCHOR, DATA


def resume(history):
    """Find the ends of the rings of hours and days, and what held when the last hour ended."""
    hours = history.hours
    days = history.days
    _open(hours)
    _open(days)
    if hours.number < days.seq:
        hours.number = days.seq  # the hours were lost: their numbers go on
        hours.told = None
    cells = Cells((hours.names and history.points(hours.names)) or ())
    if len(cells.indexes):
        _hold(hours, cells)
    history.restart(cells)


class _Tail:
    # What the last sector's frames say.

    def __init__(self, anchor):
        self.take(anchor)
        self.cut = 0 < self.parts < ENDED

    def take(self, anchor):
        self.names, self.number, self.seq, self.time, self.unix, self.boot, self.turned, self.parts = struct.unpack(
            STATE, anchor
        )
        self.cut = False

    def frame(self, kind, frames):
        if kind == ANCHOR:
            self.take(memoryview(frames.buf)[frames.start : frames.end])
        elif kind == DATA:
            self.cut = True  # unless an anchor follows


def _open(groups):
    ring = groups.ring
    lost, end = open_ring(ring, _Tail)
    if end is None:
        return
    groups.number = end.number
    groups.begin(end.names, end.seq, end.time, end.unix, end.boot, end.turned)
    if not lost and not end.cut:
        groups.told = groups.anchor()[:-2]


def _hold(hours, cells):
    ring = hours.ring
    last = hours.number - 1
    for found in walk(ring, ring.seek(by_group, 2 * last)):
        if found and found[0] == last and found[2] == hours.names:
            for index, buf, at in members(ring, found[3]):
                entry = decode(buf, at, hours.span)
                if entry[7] and index < len(cells.slots):
                    cells.hold(cells.slots[index], entry[3])
