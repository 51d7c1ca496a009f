# Decides which values of one point are worth a sample.
#
# Rules:
# - The first value, and every change of quality, is a sample at once.
# - Otherwise none before `min` ms after the last one, and one in any case `max` ms after it.
# - Between the two: when the value moved by the deadband (`db` absolute, or `pct` of the last sample's value).
# - With an aggregate other than `last`, the value is that of all readings since the last sample.

from coupler.const import const

_MAX = const(60000)  # default: an unchanged value is confirmed once a minute
_LONGEST = const(86400000)  # well inside what a difference of ticks can tell
NOTHING = const(0)
SAMPLE = const(1)
BOTH = const(2)
AGGREGATES = ("last", "mean", "min", "max", "sum")


def _number(cfg, key, path, default, low, high):
    value = cfg.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError("%s.%s: %r is not a number from %s to %s" % (path, key, value, low, high))
    return value


class Report:
    """cfg: {"db" or "pct", "min", "max", "agg"} or None. period: of the point's block, ms; numeric: it is a number."""

    def __init__(self, cfg, period, numeric, path):
        if cfg is None:
            cfg = {}
        if not isinstance(cfg, dict):
            raise ValueError("%s: not a table" % path)
        if "db" in cfg and "pct" in cfg:
            raise ValueError("%s: db and pct exclude each other" % path)
        least = _number(cfg, "min", path, 0, 0, _LONGEST)
        most = _number(cfg, "max", path, max(_MAX, least), 1, _LONGEST)
        if least > most:
            raise ValueError("%s.min: %d is more than max, %d" % (path, least, most))
        # A reading that comes half a period early is the one meant: polls are never exact to the millisecond.
        self._min = max(0, least - period // 2)
        self._max = max(0, most - period // 2)
        self._db = _number(cfg, "db", path, 0, 0, 1e30)
        self._part = _number(cfg, "pct", path, 0, 0, 100) / 100
        self._agg = cfg.get("agg", "last")
        if self._agg not in AGGREGATES:
            raise ValueError("%s.agg: %r is not one of %s" % (path, self._agg, ", ".join(AGGREGATES)))
        if not numeric and (self._agg != "last" or self._db or self._part):
            raise ValueError("%s: only numbers have a deadband and an aggregate other than last" % path)
        self._at = None  # ticks of the last sample
        self._quality = None
        self.sent = self.rest = 0
        self._count = 0  # readings since then
        self._sum = 0

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
