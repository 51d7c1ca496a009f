# Reporting of a point that sends an aggregate of its readings. Loaded only where there is one.
#
# Rules:
# - A window of `min` ms ends at the reading that is nearest to its end. All windows count from one start, so those of
#   points with the same `min` end together. With a `min` of 0, or not above the period, each reading ends a window.
# - At the end of a window the aggregate of everything since the last sample is compared with the last one sent. If it
#   is within the deadband there is no sample and the gathering goes on: nothing is dropped. A sum or a count without a
#   deadband is always sent: it tells what came in, and the same again is news.
# - The first value, and every change of quality, is a sample at once; what was gathered goes before it. One is due in
#   any case `max` ms after the last one, also within a window.
# - mean: each good reading holds until the next reading, good or bad; that which ends a window counts in the next one.
#   Time without good quality does not count, nor does time that ticks cannot tell. Over no time at all it is the
#   latest reading.
# - min, max, sum, count: of the good readings after the last sample, the one at which they are sent included.
# - What no float can hold is None.
# Only numbers are aggregated, and what is held has a value:
# pyright: reportOperatorIssue=false

from coupler.points.report import BOTH, NOTHING, SAMPLE, Report


class Aggregate(Report):
    """window, most: ms; half: ms by which a reading may come early; band, part: as of Report; now: ticks of the start.

    `sent` or `rest` is None, although of good quality, when no float can hold the aggregate: its quality is "range"."""

    def __init__(self, kind, window, half, most, band, part, now):
        Report.__init__(self, 0, most, band, part)
        self._kind = kind
        self._window = window
        self._half = half
        self._time = now  # of the latest reading
        self._left = window  # from then to the end of the window
        self._held = self._first = None  # mean: the latest value if it was good, that at the last sample
        # Since the last sample: good time in ms (mean) or good readings; and what they add up to. For a mean that is
        # the distance from `_first` times ms: float32 has no digits to spend on what all readings have in common.
        self._weight = self._sum = self._lost = 0
        self.rest = None

    def feed(self, value, quality, now, diff):
        kind = self._kind
        passed = diff(now, self._time)
        over = passed < 0  # longer ago than ticks can tell
        if over:
            passed = 0
        self._time = now
        half = self._half
        left = self._left - passed
        if left <= half:
            over = True
            left = half + 1 + (left - half - 1) % self._window if self._window else 0
        self._left = left
        if kind == "mean":
            if self._held is not None:
                self._weight += passed
                self._add((self._held - self._first) * float(passed))
            self._held = value
        elif kind == "count" and quality is None:
            value = 1
        due = SAMPLE
        if self._at is None or quality != self._quality:
            if self._weight:
                self.rest = self._aggregate()
                due = BOTH
        else:
            if quality is None and kind != "mean":
                self._take(value)
            forced = not 0 <= diff(now, self._at) < self._max
            if not over and not forced:
                return NOTHING
            if quality is None:
                value = self._aggregate()
                if value is None:
                    quality = "range"  # so the next reading is a change of quality
                elif not forced and not self._moved(value):
                    return NOTHING
            elif not forced:
                return NOTHING
        self._at = now
        self._quality = quality
        self.sent = value
        self._first = self._held
        self._weight = self._sum = self._lost = 0
        return due

    def _take(self, value):
        self._weight += 1
        if self._weight == 1:
            self._sum = value
        elif self._kind == "min":
            self._sum = min(self._sum, value)
        elif self._kind == "max":
            self._sum = max(self._sum, value)
        else:
            self._add(value)

    def _add(self, value):
        # Neumaier's sum: `_lost` is what the additions rounded off. An hour of seconds would else cost float32 the
        # third digit.
        old = self._sum
        self._sum = new = old + value
        self._lost += old - new + value if abs(old) >= abs(value) else value - new + old

    def _aggregate(self):
        value = self._sum + self._lost
        if self._kind == "mean":
            value = self._first + value / self._weight if self._weight else self._held
        return value if value - value == 0 else None

    def _moved(self, value):
        if self._kind in ("sum", "count") and not self._db and not self._part:
            return True
        return Report._moved(self, value)
