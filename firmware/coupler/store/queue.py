# Samples between being taken and being acknowledged, in RAM: a restart loses those that were not sent. The journal in
# flash takes this place, with the same methods.
#
# A sample's sequence number is unique and rising over the unit's whole life. Numbers are reserved in flash by the
# thousand, so a restart skips some and repeats none.

from coupler.const import const

_NAME = "seq"
_RESERVE = const(1000)


class Queue:
    """Bounded: when full the oldest sample is dropped, and counted. `on_put` is called after each put.

    A sample is (seq, name, value, quality, unix_ms or None, ticks_ms, unit)."""

    def __init__(self, capacity, hal, on_put=None):
        self._hal = hal
        self.on_put = on_put
        self._ring: list = [None] * capacity
        self._first = 0
        self._count = 0
        self._reserved = self._next = (hal.get_number(_NAME) or 0) + 1
        self.dropped = 0
        self.acked = 0

    def __len__(self):
        return self._count

    def put(self, name, value, quality, unix_ms, ticks, unit):
        """Append a sample; returns its sequence number."""
        seq = self._next
        if seq >= self._reserved:
            self._hal.put_number(_NAME, seq + _RESERVE - 1)
            self._reserved = seq + _RESERVE
        self._next = seq + 1
        ring = self._ring
        size = len(ring)
        if self._count == size:
            self._drop()
            self.dropped += 1
        ring[(self._first + self._count) % size] = (seq, name, value, quality, unix_ms, ticks, unit)
        self._count += 1
        if self.on_put:
            self.on_put()
        return seq

    def peek(self, n):
        """The n oldest samples, fewer if there are not so many."""
        ring = self._ring
        first = self._first
        return [ring[i % len(ring)] for i in range(first, first + min(n, self._count))]

    def date(self):
        """The clock has become known: give the samples taken before it the time at which they were taken."""
        hal = self._hal
        ring = self._ring
        unix_ms = hal.now_ms()
        now = hal.ticks_ms()
        for i in range(self._first, self._first + self._count):
            seq, name, value, quality, known, ticks, unit = ring[i % len(ring)]
            if known is None:
                known = unix_ms - hal.ticks_diff(now, ticks)
                ring[i % len(ring)] = (seq, name, value, quality, known, ticks, unit)

    def ack(self, seq):
        """Forget all samples up to seq."""
        while self._count and self._ring[self._first][0] <= seq:
            self._drop()
            self.acked += 1

    def _drop(self):
        self._ring[self._first] = None
        self._first = (self._first + 1) % len(self._ring)
        self._count -= 1
