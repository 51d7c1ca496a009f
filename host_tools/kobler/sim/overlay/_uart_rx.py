"""A UART's receiver: the driver's buffer, and the characters that the board has told of ahead of time.

A stretch is [t, char_ns, count, taken, data]: evenly spaced characters, the first one ending at t microseconds, of
which `taken` have been dealt with.
"""


def _time(s, n):
    """When character n of a stretch has ended."""
    return s[0] + n * s[1] // 1000


def _count_before(s, t):
    """How many of its characters end before t."""
    if s[0] >= t:
        return 0
    n = min(s[2], (t - s[0]) * 1000 // s[1] + 1)
    while n and _time(s, n - 1) >= t:
        n -= 1
    return n


def _cut(stretches, t):
    """Without the characters that end at t or later."""
    for s in stretches:
        s[2] = max(s[3], _count_before(s, t))
    return [s for s in stretches if s[2] > s[3]]


class Receiver:
    def __init__(self, size):
        self.size = size
        self.overflow = 0  # characters dropped because nobody had read the ones before
        self.clear()

    def clear(self):
        self.buffer = bytearray()
        self._coming = []
        self._taken = 0  # when the last character that was taken in had ended
        self.restart()

    def restart(self):
        """Forget which interrupts are outstanding."""
        self._signals = []  # data events that IRQ_RX has not been told of
        self._bursts = []  # [first, last] data events that RXIDLE has not been told of

    def tell(self, t, char_ns, data, signal, idle):
        """`signal`, `idle`: whether IRQ_RX and RXIDLE are wanted for it."""
        stretch = [t, char_ns, len(data), 0, data]
        # What is told anew of the time that has been taken in comes too late to be heard differently.
        stretch[3] = _count_before(stretch, self._taken + 1)
        if stretch[3] == len(data):
            return
        self._coming.append(stretch)
        if signal:
            self._signals.append(stretch[:4])
        if idle:
            self._bursts.append([t, t + (len(data) - 1) * char_ns // 1000])

    def forget(self, t):
        """What was told to end at t or later was destroyed by something that happened after it was told."""
        self._coming = _cut(self._coming, t)
        self._signals = _cut(self._signals, t)
        self._bursts = [[a, min(b, t)] for a, b in self._bursts if a < t]

    def take_in(self, now):
        """Move the characters that have ended into the buffer; returns the next one's time, or None."""
        while self._coming:
            s = self._coming[0]
            n = _count_before(s, now + 1)
            new = n - s[3]
            if new:
                self._taken = _time(s, n - 1)
            room = self.size - len(self.buffer)
            if new > room:
                self.overflow += new - room
            self.buffer.extend(s[4][s[3] : s[3] + min(new, room)])
            if n < s[2]:
                s[3] = n
                return _time(s, n)
            self._coming.pop(0)
        return None

    def pull(self, view):
        """Move what fits from the buffer into the view; returns how many."""
        n = min(len(view), len(self.buffer))
        if n:
            view[:n] = self.buffer[:n]
            self.buffer = self.buffer[n:]
        return n

    # - interrupts

    def next_signal(self):
        return _time(self._signals[0], self._signals[0][3]) if self._signals else None

    def signalled(self, now):
        """IRQ_RX has been raised for all that has ended."""
        while self._signals:
            s = self._signals[0]
            s[3] = _count_before(s, now + 1)
            if s[3] < s[2]:
                break
            self._signals.pop(0)

    def next_idle(self, period):
        """When RXIDLE comes, and how many bursts it ends.

        The port's timer ticks from the first data event on and fires at the second tick without data between.
        """
        if not self._bursts:
            return None
        first, last = self._bursts[0]
        n = 1
        while True:
            fire = first + ((last - first) // period + 2) * period
            if n == len(self._bursts) or self._bursts[n][0] > fire:
                return fire, n
            last = self._bursts[n][1]
            n += 1

    def was_idle(self, n):
        self._bursts = self._bursts[n:]
