"""A unit with its journal and its statistics, and what they should say, by a model that keeps every sample."""

from coupler.store import history
from coupler.store.cells import DAY, HOUR
from coupler.store.reader import Reader
from coupler.store.resuming import resume
from coupler.store.statistics import History
from journal_world import Point, World
from nor import Nor

UNIX = 1764000000000  # a full hour, 16:00 UTC
LATEST = 1 << 50


class Unit(World):
    """regions: how many sectors the hours, the days and the journal have."""

    def __init__(self, points=2, hours=8, days=8, sectors=24, flash=None):
        self.counts = (hours, days)
        self.forgotten = []
        World.__init__(self, flash or Nor(hours + days + sectors), points, sectors, hours + days)

    def boot(self, cloud=True):
        World.boot(self, cloud)
        self.hal.forget = lambda *modules: None
        hours, days = self.counts
        self.history = History(self.hal, self.journal, self.old.get, self.flash, (0, hours), (hours, days))
        resume(self.history)
        return self.journal

    def configure(self, points):
        """A restart with other points."""
        self.old[self.names] = self.points
        self.names += 1
        self.points = points
        self.boot()

    def sample(self, ms, index, value, quality=None):
        """Time passes, then this is taken, and is durable."""
        self.wait(ms)
        self.put(index, value, quality)
        self.journal.flush()

    def settle(self, n=8):
        """Until there is nothing to do."""
        steps = 0
        while self.history.step(n):
            steps += 1
            assert steps < 1000000
        return steps

    def hours(self, name, since=0, until=LATEST):
        return [row for row in history.hours(self.history, name, since, until) if row]

    def days(self, name, since=0, until=LATEST):
        return [row for row in history.days(self.history, name, since, until) if row]

    def raw(self, name, since=0, until=LATEST, after=None):
        rows = history.raw(self.history, name, since, until, after)
        return [row for row in rows if isinstance(row, tuple)]

    def durable(self):
        """(name, value, quality, own time, boot, unix_ms) of every sample of a point with history, up to the first
        whose time is not known."""
        reader = Reader(self.journal, self.old.get, False)
        reader.seek(0)
        found = []
        while True:
            sample = reader.read()
            if sample is None or sample[4] is None:
                return found
            found.append((sample[1].name, sample[2], sample[3], reader.time, reader.boot, sample[4]))

    def check(self, exact=float, tolerance=1e-6, names=None):
        """Hours and days of every point, or of these, are what the model says."""
        samples = self.durable()
        names = names or set([sample[0] for sample in samples])
        for span, ask in ((HOUR, self.hours), (DAY, self.days)):
            expected = model(samples, span, exact)
            for name in names:
                compare(ask(name), expected.get(name, {}), tolerance, name)


class Model:
    """What one point came to in one span."""

    def __init__(self):
        self.count = self.duration = self.total = 0
        self.first = self.last = self.low = self.high = None

    def enter(self, value):
        if self.first is None:
            self.first = self.low = self.high = value
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        self.last = value


def model(samples, span, exact):
    """{name: {time: Model}}, from all samples in the order of their numbers."""
    found = {}
    held = {}
    before = None

    def at(name, unix):
        times = found.setdefault(name, {})
        return times.setdefault(unix // span * span, Model())

    for name, value, quality, time, boot, unix in samples:
        assert (value is None) == (quality not in (None, "time")), quality
        if before:
            last_time, last_boot, clock = before
            if boot != last_boot:
                held = {}
            left = time - last_time
            while left:
                piece = min(left, HOUR - clock % HOUR)
                for each in held:
                    cell = at(each, clock)
                    cell.enter(held[each])
                    cell.duration += piece
                    cell.total += exact(held[each]) * piece
                clock += piece
                left -= piece
        before = time, boot, unix
        held.pop(name, None)
        if value is not None:
            cell = at(name, unix)
            cell.count += 1
            if not isinstance(value, str):
                cell.enter(value)
                held[name] = value
    return found


def compare(rows, expected, tolerance, name):
    times = sorted([time for time in expected if expected[time].count or expected[time].duration])
    assert [row[0] for row in rows] == times, (name, [row[0] for row in rows], times)
    for time, low, high, mean, count, first, last, duration in rows:
        cell = expected[time]
        shown = (low, high, count, first, last, duration)
        wanted = (cell.low, cell.high, cell.count, cell.first, cell.last, cell.duration)
        assert shown == wanted, (name, time, shown, wanted)
        if cell.low is None:
            assert mean is None
        elif not duration:
            assert mean == cell.last
        else:
            right = cell.total / cell.duration
            assert abs(mean - right) <= tolerance * (high - low), (name, time, mean, right)


def points(*names, history=True):
    return [Point("field/unit/" + name, None, history) for name in names]
