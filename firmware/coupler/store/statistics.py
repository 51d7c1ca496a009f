# What the samples of the points with history come to in each hour and each day (UTC).
#
# It depends on the journal's samples alone: on their order and their times by the unit's own clock, which never jumps.
# Samples are counted in memory. When one of a later hour comes, a group is written to the ring of hours: what each
# point came to, then up to which sample that goes. After a restart the journal is read again from there; a group that
# a power failure cut off never had its end and is written again. Hours become days in the same way.
#
# A value holds until the next sample of its point, or until the last sample of any before the power failed. Time of
# which nothing good is known counts for nothing. The clock only says to which hour a time belongs: where it is set
# back, and in an hour that another configuration began, one hour has several groups; who asks gets their sum.
from coupler.const import const
from coupler.store.cells import DAY, HOUR, Cells, Groups
from coupler.store.journal import by_number
from coupler.store.reader import Reader, by_clock

BACK = const(5000)  # ms that the clock may be set back and count as going on
_PATIENCE = const(8)  # samples that are read at a time and not wanted


class History:
    """What the unit remembers of its points. old: as of Reader. hours, days: first and how many of the flash's sectors.

    Call resume() of coupler.store.resuming before anything else."""

    def __init__(self, hal, journal, old, flash, hours, days):
        self.hal = hal
        self.journal = journal
        self.old = old
        self.hours = Groups(flash, hours[0], hours[1], HOUR)
        self.days = Groups(flash, days[0], days[1], DAY)
        self.cells = Cells(())  # of the hour that is not over
        self.failed = 0  # times that the flash refused
        self._reader = Reader(journal, old, False)
        self._sample = None  # not yet counted
        self._counted = 0  # samples in this group
        self._end = None  # in which state the next group begins, once this one is written
        self._work = None
        self._roll = True  # there may be a day to be written
        self._serial = -1
        # Of the last sample that was counted:
        self._seq = 0
        self._time = 0
        self._unix = 0
        self._boot = 0

    def restart(self, cells):
        """Go on from the state of `hours`."""
        hours = self.hours
        self.cells = cells
        self._seq = hours.seq
        self._time = hours.time
        self._unix = hours.unix
        self._boot = hours.boot
        self._reader.seek(min(hours.seq, self.journal.durable))

    def points(self, names):
        """The points of a configuration, None if they are no longer known."""
        return self.journal.points if names == self.journal.names else self.old(names)

    def present(self, index):
        """What a point has come to in the hour that is not over: an entry of its cells, None for nothing."""
        cells = self.cells
        if not self._end:
            cells.settle(self._time - self.hours.time)
        return cells.entry(cells.slots[index])

    def figures(self):
        """What `reported` shows of it; behind: numbers of samples that are not yet counted."""
        return {
            "hours": self.hours.number,
            "days": self.days.number,
            "behind": self.journal.durable - self._seq,
            "failed": self.failed,
        }

    def step(self, n):
        """Count up to n samples, or write a piece of a group: some ms. False: there is nothing more to do for now."""
        if not self._work:
            if self._end:
                self._work = self._write()
            elif self._roll:
                self._roll = False
                self._work = self._days()
        if self._work:
            return self._go_on(self._work)
        ring = self.journal.ring
        if ring.serial != self._serial:
            self._serial = ring.serial
            self._hurry()
        while n and not self._end:
            n -= 1
            if not self._next():
                return self._reader.more
            if self._count(*self._sample):
                self._sample = None
        return True

    def _go_on(self, work):
        try:
            next(work)
            return True
        except StopIteration:
            more = True
        except (OSError, MemoryError):
            self.failed += 1
            more = False
        self._work = None
        self.hal.forget("coupler.store.rollup", "coupler.store.groups", "coupler.store.entries")
        return more

    def _next(self):
        sample = self._sample
        if sample and sample[4] is not None:
            return True
        if not sample:
            self._sample = self._reader.read(_PATIENCE)
        elif by_clock(self.journal.anchor()) is not None:
            self._sample = self._reader.again()
        return self._sample and self._sample[4] is not None

    def _count(self, seq, point, value, quality, unix):
        # Whether the sample belongs to the present group; else that is to be ended first.
        reader = self._reader
        hours = self.hours
        time = reader.time
        expected = self._unix
        if reader.boot != self._boot:
            self.cells.settle(self._time - hours.time)
            self.cells.release()
            self._boot = reader.boot
        else:
            expected += time - self._time
            over = hours.unix // HOUR * HOUR + HOUR
            if expected >= over:
                self._finish(seq - 1, self._time + over - self._unix, over, hours.turned)
                return False
        self._time = time
        turned = unix < expected - BACK or unix // HOUR < hours.unix // HOUR
        other = unix // HOUR != hours.unix // HOUR or reader.names != hours.names
        if turned or other or time < hours.time:  # the last: the journal was erased
            self._finish(seq - 1, time, unix, seq if turned else hours.turned, reader.names)
            return False
        self._seq = seq
        self._unix = unix
        self.cells.take(self.cells.slots[reader.index], value, time - hours.time)
        self._counted += 1
        return True

    def _finish(self, seq, time, unix, turned, names=None):
        # The present group ends at this own time, and the next one begins when the clock showed `unix`.
        hours = self.hours
        if time > hours.time:
            self.cells.settle(time - hours.time)
        self._end = (hours.names if names is None else names, seq, time, unix, self._boot, turned)

    def _write(self):
        hours = self.hours
        before = (hours.unix // DAY, hours.names)
        if self._counted or any(self.cells.durations):
            from coupler.store.rollup import write

            yield from write(hours, self.cells, self._end)
        else:
            hours.begin(*self._end)  # nothing happened
        if before[1] != hours.names:
            self.cells = Cells(self._reader.points)
        else:
            self.cells.begin()
        self._counted = 0
        self._time = hours.time
        self._unix = hours.unix
        self._end = None
        self._roll = before != (hours.unix // DAY, hours.names)

    def _days(self):
        from coupler.store.rollup import roll

        try:
            yield from roll(self)
        except (OSError, MemoryError):
            self._roll = True
            raise

    def _hurry(self):
        # The journal is about to lose samples of this group, which a restart needs: end it early.
        ring = self.journal.ring
        if ring.oldest and self._counted:
            anchor = ring.anchor(ring.oldest + ring.count // 4)
            if anchor and by_number(anchor) > self.hours.seq + 1:
                hours = self.hours
                self._finish(self._seq, self._time, self._unix, hours.turned)
