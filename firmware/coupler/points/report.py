# Decides which values of one point are worth a sample.
#
# Rules:
# - The first value, and every change of quality, is a sample at once.
# - Otherwise none before `min` ms after the last one, and one in any case `max` ms after it.
# - Between the two: when the value moved by the deadband (`db` absolute, or `pct` of the last sample's value).
# - With an aggregate other than `last`, the value is that of all readings since the last sample.

from coupler.const import const

NOTHING = const(0)
SAMPLE = const(1)
BOTH = const(2)


class Report:
    """cfg: {"db" or "pct", "min", "max", "agg"} or None. period: of the point's block, ms; numeric: it is a number."""

    # What most points do not have is no field of each of their reports.
    _min = _db = _part = 0
    _agg = "last"
    _at = None  # ticks of the last sample
    _quality = None
    sent = rest = 0
    _count = 0  # readings since then
    _sum = 0

    def __init__(self, cfg, period, numeric, path):
        from coupler.points.load import settings  # once: app forgets it

        least, self._max, band, part, aggregate = settings(cfg, period, numeric, path)
        if least:
            self._min = least
        if band:
            self._db = band
        if part:
            self._part = part
        if aggregate != "last":
            self._agg = aggregate

    def feed(self, value, quality, now, diff):
        """Take a reading at ticks `now`; its value is None unless quality is None, which is good.

        NOTHING; or SAMPLE: `sent` is the value to send; or BOTH: before it `rest`, of good quality, is due too."""
        if self._at is None or quality != self._quality:
            due = SAMPLE
            if self._count and self._agg != "last":
                self.rest = self._aggregate()
                due = BOTH
            self._quality = quality
            self._sample(value, now)
            return due
        if quality is None:
            self._add(value)
        age = diff(now, self._at)  # negative: so long ago that ticks cannot tell
        if 0 <= age < self._min:
            return NOTHING
        if quality is None:
            value = self._aggregate()
        if not 0 <= age < self._max or (quality is None and self._moved(value)):
            self._sample(value, now)
            return SAMPLE
        return NOTHING

    def _sample(self, value, now):
        self._at = now
        self.sent = value
        self._count = 0
        self._sum = 0

    def _add(self, value):
        agg = self._agg
        self._count += 1
        if self._count == 1 or agg == "last":
            self._sum = value
        elif agg == "min":
            self._sum = min(self._sum, value)
        elif agg == "max":
            self._sum = max(self._sum, value)
        else:
            self._sum += value

    def _aggregate(self):
        return self._sum / self._count if self._agg == "mean" else self._sum

    def _moved(self, value):
        sent = self.sent
        if value == sent:
            return False
        if not self._db and not self._part:
            return True
        return abs(value - sent) >= max(self._db, abs(sent) * self._part)
