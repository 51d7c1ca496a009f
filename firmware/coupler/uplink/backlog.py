# What an outage left in the journal, while it is drained beside what is new: how fast it may go, and which parts of it
# went up already, when they were new. Loaded while there is one.
from coupler.const import const

_PASSED = const(4)  # parts that are remembered; what is forgotten is sent again
_PACK = const(24)  # samples; these as in the outbox
_GATHERED = const(48)
_AHEAD = const(256)
_WINDOW = const(2)  # packs on the way: behind no more than these what is new has to wait


class Backlog:
    """source: a Reader at its begin. sent: seq of the last sample of it that was sent. end: what is above is new.

    rate: samples a second, 0: as many as go."""

    def __init__(self, source, sent, end, rate):
        self.source = source
        self.sent = sent
        self.end = end
        self._passed = []  # (after, upto), rising
        self._rate = rate
        self._credit = 1000 * rate  # a thousandth of a sample is 1

    def grow(self, upto, end):
        """Another outage: what was new reached `upto`, and is new from `end` on."""
        passed = self._passed
        passed.append((self.end, upto))
        if len(passed) > _PASSED:
            passed.remove(min(passed, key=lambda part: part[1] - part[0]))
        self.end = end

    def elapsed(self, ms):
        rate = self._rate
        self._credit = min(1000 * rate, self._credit + rate * ms)

    def rewind(self):
        """Begin at the cursor again."""
        self.sent = 0
        self.source.seek(self.source.cursor)

    def next(self, box, flying):
        """The outbox's next packet of the backlog, or None; flying: how many are on the way."""
        if flying >= (1 if box.interval else _WINDOW) or self._rate and self._credit <= 0:
            return None
        if box.by_store and self.sent - self.source.cursor >= _AHEAD:
            return None
        samples = self._peek(_GATHERED if box.interval else _PACK)
        if samples:
            before = box.count["samples"]
            packet = box.packet(self, samples)
            box.behind = True
            if self._rate:
                self._credit -= 1000 * (box.count["samples"] - before)
            return packet
        if samples is None:
            box.drained()
        else:
            box.more = True
        return None

    def _peek(self, n):
        # The next samples, at most n; none: ask again soon; None: all are on the way, or were. Where numbers are
        # missing before a part that went up already, its first sample comes again: it tells the store that they do not
        # exist.
        source = self.source
        while True:
            limit = self._passed[0][0] if self._passed else self.end
            if self.sent < limit:
                samples = source.peek(n)
                if not samples:
                    return samples if source.more else None
                for i, sample in enumerate(samples):
                    if sample[0] >= limit:
                        return samples[: i + 1]
                return samples
            if not self._passed:
                return None
            self.sent = self._passed.pop(0)[1]
            source.seek(self.sent)
