"""A unit with nothing but its journal, on flash in memory, under a virtual clock."""

from bus_fakes import Hal
from coupler.store.journal import Journal
from coupler.store.opening import recover
from coupler.store.reader import Reader


class Point:
    def __init__(self, name, unit=None, history=True):
        self.name = name
        self.unit = unit
        self.history = history


class World:
    """Its parts: flash, hal, journal. `boot()` is a start after a power cut, or the first one."""

    def __init__(self, flash, points=3, sectors=None, first=0):
        self.flash = flash
        self.first = first
        self.sectors = sectors or flash.sectors
        self.points = [Point("field/unit/p%d" % i, "W") for i in range(points)]
        self.hal = Hal()
        self.boots = 0
        self.names = 1
        self.old = {}
        self.boot()

    def boot(self, cloud=True):
        self.boots += 1
        self.hal.us = (self.hal.us * 7 + 12345678) % (1 << 40)  # ticks begin anywhere
        self.hal.unix = None
        self.journal = Journal(
            self.hal, self.flash, self.first, self.sectors, self.points, self.boots, self.names, cloud
        )
        self.showed = recover(self.journal)
        return self.journal

    def wait(self, ms):
        self.hal.us += 1000 * ms
        if self.hal.unix is not None:
            self.hal.unix += ms

    def set_clock(self, unix_ms):
        self.hal.unix = unix_ms
        self.journal.clock(unix_ms)

    def put(self, index, value, quality=None):
        self.journal.put(index, value, quality, self.hal.ticks_ms())

    def reader(self, cloud=True):
        return Reader(self.journal, self.old.get, cloud)

    def all(self, cloud=True, seq=0):
        """Every sample there is, as (seq, number of the point, value, quality, unix_ms)."""
        reader = self.reader(cloud)
        reader.seek(seq)
        found = []
        while True:
            sample = reader.read()
            if sample is None:
                return found
            seq, point, value, quality, time = sample
            found.append((seq, self.points.index(point), value, quality, time))
