# Answers what a point was in the past. Needed for a query, so app forgets it.
#
# Generators: None means nothing yet, a pause may be made. Times in ms Unix, from `since` up to, without, `until`.
# Hours and days come in the order of time, each once, with all that is known of it; where the clock was set back, the
# ring is not in that order and all of it has to be read for every few rows.
from coupler.const import const
from coupler.store.cells import DAY, HOUR
from coupler.store.entries import decode, mean, merge
from coupler.store.groups import by_group, by_time, members, turned, walk
from coupler.store.journal import by_number
from coupler.store.reader import Reader, by_clock
from coupler.store.statistics import BACK

_AT_ONCE = const(16)  # rows that are gathered
_PAUSE = const(8)  # samples or sectors between two pauses


def raw(history, name, since, until, after=None, cloud=False):
    """Each sample, as it was taken: (time, value, quality, number); for the cloud none of when it was switched off.
    Without a name those of all points with history, and with their name.

    A number alone: nothing yet, and to go on behind that one, as `after`, leaves out nothing."""
    journal = history.journal
    reader = Reader(journal, history.old, cloud)
    ring = journal.ring
    if ring.serial < 0:
        return
    oldest = ring.anchor(ring.oldest)
    ordered = oldest is not None and history.hours.turned < by_number(oldest)
    if after is not None:
        reader.seek(after)
    elif ordered:
        reader.seek_time(since - BACK)
    else:
        yield from _first(ring, reader, since)
    count = 0
    begun = reader.well
    while True:
        sample = reader.read(_PAUSE)
        if sample is None:
            if not reader.more:
                return
            yield reader.well if reader.well > begun else None
            continue
        seq, point, value, quality, unix = sample
        if unix is None or ordered and unix >= until + BACK:
            return
        if since <= unix < until:
            if name is None:
                if point.history:
                    yield unix, value, quality, seq, point.name
            elif point.name == name:
                yield unix, value, quality, seq
        count += 1
        if not count % _PAUSE:
            yield reader.well


def _first(ring, reader, since):
    # Go to the first sector that ends later than that.
    serial = ring.oldest
    while serial < ring.serial:
        anchor = ring.anchor(serial + 1)
        clock = anchor and by_clock(anchor)
        if clock and clock > since:
            break
        serial += 1
        if not serial % _PAUSE:
            yield None
    anchor = ring.anchor(serial)
    reader.seek(by_number(anchor) - 1 if anchor else 0)


def hours(history, name, since, until):
    """(time, least, most, mean, count, first, last, ms of which the value is known) of each hour that has any."""
    return _rows(_Pass(history, name, HOUR), since, until)


def days(history, name, since, until):
    """As hours()."""
    return _rows(_Pass(history, name, DAY), since, until)


def _rows(each, since, until):
    while True:
        yield from each.run(since, until)
        for time, entry in each.rows:
            yield time, entry[4], entry[5], mean(entry), entry[0], entry[2], entry[3], entry[1]
        if len(each.rows) < _AT_ONCE:
            return
        since = each.rows[-1][0] + each.span


class _Pass:
    # Gathers the next few rows: the earliest, since the groups need not be in the order of time.

    def __init__(self, history, name, span):
        self._history = history
        self._name = name
        self.span = span
        self.rows = []
        self._over = self._ordered = False
        self._since = self._until = 0
        self._numbers = {}  # of the point, by that of its configuration

    def run(self, since, until):
        self.rows = []
        self._since = since // self.span * self.span
        self._until = until
        self._over = False
        hours = self._history.hours
        days = self._history.days
        self._ordered = not turned(hours) and not turned(days)
        first = 0
        if self.span == DAY:
            yield from self._read(days, self._seek(days), 0)
            first = days.seq  # no pause before this: the day that is not over begins here
            serial = hours.ring.seek(by_group, 2 * first)
        else:
            serial = self._seek(hours)
        if not self._over:
            yield from self._read(hours, serial, first)
        if not self._over:
            index = self._number(hours.names)
            if index is not None:
                self._add(hours.unix, self._history.present(index))

    def _seek(self, groups):
        ring = groups.ring
        return ring.seek(by_time, self._since - 1) if self._ordered else ring.oldest

    def _read(self, groups, serial, first):
        for found in walk(groups.ring, serial):
            if found is None:
                yield None
                continue
            number, unix, names, place = found
            if number < first:
                continue
            if self._beyond(unix // self.span * self.span):
                if self._ordered:
                    self._over = True
                    return
                continue
            index = self._number(names)
            if index is None or unix < self._since:
                continue
            for member, buf, at in members(groups.ring, place):
                if member >= index:
                    if member == index:
                        self._add(unix, decode(buf, at, groups.span))
                    break

    def _beyond(self, time):
        rows = self.rows
        return time >= self._until or len(rows) == _AT_ONCE and time > rows[-1][0]

    def _add(self, unix, entry):
        time = unix // self.span * self.span
        rows = self.rows
        at = len(rows)
        while at and rows[at - 1][0] >= time:
            at -= 1
        if at < len(rows) and rows[at][0] == time:
            rows[at][1] = merge(rows[at][1], entry)
        elif merge(None, entry) and time >= self._since and not self._beyond(time):
            rows.insert(at, [time, entry])
            if len(rows) > _AT_ONCE:
                rows.pop()

    def _number(self, names):
        # Of the point in that configuration, None where it has no history.
        if names not in self._numbers:
            index = None
            points = self._history.points(names) or () if names else ()
            for i in range(len(points)):
                if points[i].name == self._name and points[i].history:
                    index = i
            self._numbers[names] = index
        return self._numbers[names]
