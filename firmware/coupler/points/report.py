# Decides which values of one point are worth a sample.
#
# Rules:
# - The first value, and every change of quality, is a sample at once.
# - Otherwise none before `min` ms after the last one, and one in any case `max` ms after it.
# - Between the two: when the value moved by the deadband (`db` absolute, or `pct` of the last sample's value).
# A point that sends an aggregate of its readings has the rules in aggregate.py instead. Nothing but the readings and
# their ticks decides, so the same readings give the same samples.

from coupler.const import const

NOTHING = const(0)
SAMPLE = const(1)
BOTH = const(2)


class Report:
    """least, most: of the interval, ms; band, part: the deadband, absolute and as a part of the last sample's value."""

    # What most points do not have is no field of each of their reports.
    _min = _db = _part = 0
    _at = None  # ticks of the last sample
    _quality = None
    sent = 0

    def __init__(self, least, most, band, part):
        self._max = most
        if least:
            self._min = least
        if band:
            self._db = band
        if part:
            self._part = part

    def feed(self, value, quality, now, diff) -> int:
        """Take a reading at ticks `now`; its value is None unless quality is None, which is good.

        NOTHING; or SAMPLE: `sent` is the value to send; or BOTH: before it `rest`, of good quality, is due too."""
        if self._at is not None and quality == self._quality:
            age = diff(now, self._at)  # negative: so long ago that ticks cannot tell
            if 0 <= age < self._min or (0 <= age < self._max and not self._moved(value)):
                return NOTHING
        self._at = now
        self._quality = quality
        self.sent = value
        return SAMPLE

    def _moved(self, value):
        sent = self.sent
        if value == sent:
            return False
        if not self._db and not self._part:
            return True
        # This way round, since no comparison with NaN is true: it must not keep a sample back for ever.
        return not abs(value - sent) < max(self._db, abs(sent) * self._part)
