"""A bus under virtual time, for the unit tests of the client, the poller and the port: nothing here waits."""

from coupler.bus import rtu

_PERIOD = 1 << 30


def run(coroutine):
    """The result of a coroutine that awaits nothing but fakes."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the coroutine waits for something real")


class Hal:
    """Virtual clock; ticks begin just before they wrap, as they do on a unit that runs for long."""

    def __init__(self):
        self.us = (_PERIOD - 3000) * 1000
        self.numbers = {}
        self.unix = None

    def ticks_ms(self):
        return self.us // 1000 % _PERIOD

    def ticks_us(self):
        return self.us % _PERIOD

    def ticks_diff(self, end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def ticks_add(self, ticks, delta):
        return (ticks + delta) % _PERIOD

    async def sleep_ms(self, ms):
        self.us += 1000 * ms

    def now_ms(self):
        return self.unix

    def get_number(self, name):
        return self.numbers.get(name)

    def put_number(self, name, value):
        self.numbers[name] = value


class Port:
    """answer(frame) -> [(ms after the request's last bit, bytes), ...]: what then comes in."""

    def __init__(self, hal, answer, char_us=573, echo=False):
        self.hal = hal
        self.answer = answer
        self.char_us = char_us
        self.echo = echo
        self.sent = []  # the last frames
        self.count = 0
        self._coming = []  # (us, bytes)
        self._there = b""

    def say(self, after_ms, data):
        at = self.hal.us + int(after_ms * 1000)
        i = len(self._coming)
        while i and self._coming[i - 1][0] > at:
            i -= 1
        self._coming.insert(i, (at, data))

    def _take(self):
        while self._coming and self._coming[0][0] <= self.hal.us:
            self._there += self._coming.pop(0)[1]

    def flush(self):
        self._take()
        self._there = b""

    async def send(self, frame):
        self.flush()
        frame = bytes(frame)
        self.hal.us += self.char_us * len(frame)
        self.count += 1
        self.sent.append(frame)
        if len(self.sent) > 20:
            self.sent.pop(0)
        if self.echo:
            self.say(0, frame)
        for after, data in self.answer(frame):
            self.say(after, data)

    async def wait(self, timeout_ms):
        self._take()
        if not self._there:
            end = self.hal.us + 1000 * timeout_ms
            self.hal.us = min(end, self._coming[0][0]) if self._coming else end
            self._take()
        return bool(self._there)

    def readinto(self, view):
        self._take()
        n = min(len(view), len(self._there))
        view[:n] = self._there[:n]
        self._there = self._there[n:]
        return n


def frame(*parts):
    """Bytes and byte strings, sealed with their CRC."""
    data = b"".join([bytes([part]) if isinstance(part, int) else part for part in parts])
    buf = bytearray(len(data) + 2)
    buf[: len(data)] = data
    rtu.seal(memoryview(buf), len(data))
    return bytes(buf)


def registers(unit, fc, *values):
    """A well-formed answer."""
    data = b"".join([bytes([value >> 8, value & 255]) for value in values])
    return frame(unit, fc, len(data), data)
