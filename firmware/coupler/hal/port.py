# The UART of an RS-485 bus with its driver enable (DE).
#
# DE has to fall within a character after the last stop bit, or it destroys the answer; and asyncio on the chip looks
# at its tasks every 10 ms only. So a timer's soft interrupt wakes us a millisecond before the end, the rest is spun.
# The same timer bounds the wait for bytes, which the UART's receive-idle interrupt ends.

from coupler.const import const

_SPIN_US = const(1000)
_STUCK_US = const(20000)
_LONGEST_US = const(10000000)
_TICK_MS = const(50)  # how long a lost interrupt can go unnoticed
_MORE_MS = const(25)  # while bytes come, how often to look whether that was all
_COARSE_US = const(12000)  # without a timer: a tick of asyncio and some margin
_RUNS = const(20)  # how often stray input may restart the silence before a request
_FAST = const(19200)  # above, the silence between frames is fixed (Modbus over Serial Line V1.02, 2.5.1.1)
_FAST_SILENCE_US = const(1750)
PARITIES = {"none": None, "even": 0, "odd": 1}  # as machine.UART has them


class Alarm:
    """Wakes one task at its time, where asyncio alone looks at the clock every 10 ms. timer: machine.Timer or None."""

    def __init__(self, hal, timer):
        self._hal = hal
        self.timer = timer
        self.flag = hal.flag()
        self._wake = self._on_timer

    def _on_timer(self, _):
        self.flag.set()

    def start(self, us):
        # Periodic, for the scheduler of soft interrupts may drop one when it is full.
        period = us // 100 + 1
        self.timer.init(period=period, tick_hz=10000, mode=self.timer.PERIODIC, callback=self._wake)

    async def sleep(self, us):
        hal = self._hal
        if self.timer is None:
            await hal.sleep_ms(us // 1000 + 1)
            return
        begin = hal.ticks_us()
        self.flag.clear()
        self.start(us)
        try:
            # Something else may have set the flag.
            while hal.ticks_diff(hal.ticks_us(), begin) < us:
                await self.flag.wait()
        finally:
            self.timer.deinit()


class Port:
    """uart: machine.UART; de: Pin or None; alarm: Alarm. line: its (baud, parity: even, odd or none, stop bits).

    echo: the transceiver hands us back what we send; None: to be learned."""

    def __init__(self, hal, uart, de, alarm, line, echo):
        self._hal = hal
        self._uart = uart
        self._de = de
        self._alarm = alarm
        self.echo = echo
        self._note(*line)
        self._active = hal.ticks_us()  # last time something was on the line
        self._junk = bytearray(32)
        self._idle = False  # the line fell silent two characters ago
        self._rest = None  # ticks at which a frame that was given up half sent is out
        self._listen()

    def _note(self, baud, parity, stop):
        self.line = (baud, parity, stop)
        bits = 9 + (parity != "none") + stop
        self._char_ns = -(-bits * 1000000000 // baud)
        self.char_us = -(-bits * 1000000 // baud)
        self._silence_us = _FAST_SILENCE_US if baud > _FAST else 7 * self.char_us // 2

    def _listen(self):
        alarm = self._alarm
        if alarm.timer is not None:
            try:
                self._uart.irq(self._on_idle, self._uart.IRQ_RXIDLE)
            except AttributeError:
                alarm.timer = None

    def set_line(self, baud, parity, stop):
        """Another speed and format, at once; what was received is gone."""
        self._uart.init(baud, bits=8, parity=PARITIES[parity], stop=stop)
        self._note(baud, parity, stop)
        self._listen()

    def _on_idle(self, _):
        self._idle = True
        self._alarm.flag.set()

    async def send(self, frame):
        """Put the frame on the line, after the silence that ends what came before; back when its last bit is out."""
        await self._silence()
        hal = self._hal
        de = self._de
        total = len(frame) * self._char_ns // 1000
        try:
            if de is not None:
                de.value(1)
            begin = hal.ticks_us()
            self._rest = hal.ticks_add(begin, total)
            self._uart.write(frame)
            await self._until(begin, total)
            while hal.ticks_diff(hal.ticks_us(), begin) < total - self.char_us // 2:
                pass
            while not self._uart.txdone() and hal.ticks_diff(hal.ticks_us(), begin) < total + _STUCK_US:
                pass
        finally:
            if de is not None:
                de.value(0)
        self._rest = None
        self._active = hal.ticks_us()
        self._idle = False

    async def wait(self, timeout_ms):
        """True when bytes were received and no more are coming; False after timeout_ms without any.

        To take them as they come would keep the processor busy for as long as a frame lasts."""
        uart = self._uart
        hal = self._hal
        deadline = hal.ticks_add(hal.ticks_ms(), timeout_ms)
        alarm = self._alarm
        if alarm.timer is None:
            while not uart.any():
                if hal.ticks_diff(deadline, hal.ticks_ms()) <= 0:
                    return False
                await hal.sleep_ms(2)
            return True
        seen = tick = 0
        alarm.flag.clear()
        try:
            while True:
                n = uart.any()
                if n and (self._idle or n == seen):
                    return True
                if hal.ticks_diff(deadline, hal.ticks_ms()) <= 0:
                    return n > 0
                if not tick or n and not seen:
                    tick = min(timeout_ms, _MORE_MS if n else _TICK_MS)
                    alarm.start(1000 * tick)
                seen = n
                await alarm.flag.wait()
        finally:
            alarm.timer.deinit()

    def readinto(self, buf):
        """Received bytes into buf, never waiting; returns how many."""
        n = min(self._uart.any(), len(buf))
        if not n:
            return 0
        self._active = self._hal.ticks_us()
        if self._idle:
            self._idle = False
            self._active = self._hal.ticks_add(self._active, -2 * self.char_us)
        return self._uart.readinto(buf, n) or 0

    def flush(self):
        """Drop what was received."""
        while self.readinto(self._junk):
            pass

    def release(self):
        """The driver off the line and no more interrupts: after Ctrl-C nobody resumes who waits in here."""
        if self._de is not None:
            self._de.value(0)
        if self._alarm.timer is not None:
            self._alarm.timer.deinit()

    async def _silence(self):
        hal = self._hal
        if self._rest is not None:
            left = hal.ticks_diff(self._rest, hal.ticks_us())
            self._rest = None
            if 0 < left < _LONGEST_US:  # else ticks have wrapped since
                await self._alarm.sleep(left)
        for _ in range(_RUNS):
            self.flush()
            passed = hal.ticks_diff(hal.ticks_us(), self._active)
            if not 0 <= passed < self._silence_us:  # negative: longer ago than ticks can tell
                return
            await self._alarm.sleep(self._silence_us - passed)

    async def _until(self, begin, total):
        # Give the loop away for the bulk of the time.
        if self._alarm.timer is None:
            if total > _COARSE_US:
                await self._hal.sleep_ms((total - _COARSE_US) // 1000)
            return
        left = total - self._hal.ticks_diff(self._hal.ticks_us(), begin)
        if left > 2 * _SPIN_US:
            await self._alarm.sleep(left - _SPIN_US)
