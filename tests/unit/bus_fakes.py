"""A bus under virtual time, for the unit tests of the client, the poller and the port: nothing here waits."""

import asyncio

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
        self.random = b"\xff\xff"

    def urandom(self, n):
        return self.random[:n]

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

    def alarm(self):
        return self

    async def sleep(self, us):
        self.us += us

    def now_ms(self):
        return self.unix

    def get_number(self, name):
        return self.numbers.get(name)

    def put_number(self, name, value):
        self.numbers[name] = value

    def forget(self, *_modules):
        pass


class Port:
    """answer(frame) -> [(ms after the request's last bit, bytes), ...]: what then comes in, its last byte at that time.

    echo: what the board's file says. echoes: what the transceiver does. silence_us: kept before each request."""

    def __init__(self, hal, answer, char_us=573, echo=False, echoes=None, silence_us=0):
        self.hal = hal
        self.answer = answer
        self.char_us = char_us
        self.echo = echo
        self.echoes = bool(echo) if echoes is None else echoes
        self.silence_us = silence_us
        self._last = 0  # when the last byte came
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
            self._last, data = self._coming.pop(0)
            self._there += data

    def flush(self):
        self._take()
        self._there = b""

    def _silence(self):
        # As hal.port: drop what comes until nothing came for long enough.
        while True:
            self.flush()
            passed = self.hal.us - self._last
            if passed >= self.silence_us:
                return
            end = self.hal.us + self.silence_us - passed
            if self._coming and self._coming[0][0] - self.char_us * (len(self._coming[0][1]) - 1) <= end:
                end = max(self.hal.us, self._coming[0][0])  # it has begun: to its end
            self.hal.us = end

    def _deafen(self):
        # While we drive the line nothing is heard: of what began meanwhile only the end is left.
        self.flush()
        coming = []
        for at, data in self._coming:
            heard = -(-(at - self.hal.us) // self.char_us)
            coming.append((at, data[max(0, len(data) - heard) :]))
        self._coming = coming

    async def send(self, frame):
        self._silence()
        frame = bytes(frame)
        self.hal.us += self.char_us * len(frame)
        self._deafen()
        self.count += 1
        self.sent.append(frame)
        if len(self.sent) > 20:
            self.sent.pop(0)
        if self.echoes:
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


class LiveHal(Hal):
    """Virtual time for several tasks: drive() lets it pass when all of them wait."""

    def __init__(self):
        Hal.__init__(self)
        self._sleepers = []

    async def sleep_ms(self, ms):
        await self.until(self.us + 1000 * ms)

    async def until(self, us):
        event = asyncio.Event()
        i = 0
        while i < len(self._sleepers) and self._sleepers[i][0] <= us:
            i += 1
        self._sleepers.insert(i, (us, event))
        await event.wait()

    async def settle(self):
        """Until every task waits for time to pass."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def drive(self, *tasks):
        """Until these tasks are done."""
        await self.settle()
        while not all([task.done() for task in tasks]):
            us, event = self._sleepers.pop(0)
            self.us = max(self.us, us)
            event.set()
            await self.settle()


class LivePort(Port):
    """For LiveHal; fails when two talk at once."""

    def __init__(self, *args, **options):
        Port.__init__(self, *args, **options)
        self.busy = False

    async def send(self, frame):
        assert not self.busy, "two requests at once"
        self.busy = True
        try:
            begin = self.hal.us
            await Port.send(self, frame)
            end, self.hal.us = self.hal.us, begin
            await self.hal.until(end)
        finally:
            self.busy = False

    async def wait(self, timeout_ms):
        end = self.hal.us + 1000 * timeout_ms
        self._take()
        while not self._there and self.hal.us < end:
            await self.hal.until(min(end, self._coming[0][0]) if self._coming else end)
            self._take()
        return bool(self._there)


def frame(*parts):
    """Bytes and byte strings, sealed with their CRC."""
    return rtu.seal(b"".join([bytes([part]) if isinstance(part, int) else bytes(part) for part in parts]))


def registers(unit, fc, *values):
    """A well-formed answer."""
    data = b"".join([bytes([value >> 8, value & 255]) for value in values])
    return frame(unit, fc, len(data), data)
