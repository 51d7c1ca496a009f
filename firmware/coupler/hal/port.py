# The UART of an RS-485 bus with its driver enable (DE).
#
# DE has to fall within a character after the last stop bit, or it destroys the answer; and asyncio on the chip looks
# at its tasks every 10 ms only. So a timer's soft interrupt wakes us a millisecond before the end, the rest is spun.
# The same timer bounds the wait for bytes, which the UART's receive-idle interrupt ends.

from coupler.const import const

_SPIN_US = const(1000)
_STUCK_US = const(20000)
_TICK_MS = const(50)  # how long a lost interrupt can go unnoticed
_COARSE_US = const(12000)  # without a timer: a tick of asyncio and some margin
_RUNS = const(20)  # how often stray input may restart the silence before a request
_FAST = const(19200)  # above, the silence between frames is fixed (Modbus over Serial Line V1.02, 2.5.1.1)
_FAST_SILENCE_US = const(1750)


class Port:
    """uart: machine.UART; de: Pin or None; timer: machine.Timer or None; flag: as from hal.flag().

    bits: of a character, start, parity and stop included. echo: the transceiver hands us back what we send."""

    def __init__(self, hal, uart, de, timer, flag, baud, bits, echo):
        self._hal = hal
        self._uart = uart
        self._de = de
        self._timer = timer
        self._flag = flag
        self._wake = self._on_timer
        self._baud = baud
        self._bits = bits
        self.echo = echo
        self.char_us = -(-bits * 1000000 // baud)
        self._silence_us = _FAST_SILENCE_US if baud > _FAST else 7 * self.char_us // 2
        self._active = hal.ticks_us()  # last time something was on the line
        self._junk = bytearray(32)
        self._idle = False  # the line fell silent two characters ago
        if timer is not None:
            try:
                uart.irq(self._on_idle, uart.IRQ_RXIDLE)
            except AttributeError:
                self._timer = None

    def _on_timer(self, _):
        self._flag.set()

    def _on_idle(self, _):
        self._idle = True
        self._flag.set()

    async def send(self, frame):
        """Put the frame on the line, after the silence that ends what came before; back when its last bit is out."""
        await self._silence()
        hal = self._hal
        de = self._de
        total = len(frame) * self._bits * 1000000 // self._baud
        try:
            if de is not None:
                de.value(1)
            begin = hal.ticks_us()
            self._uart.write(frame)
            await self._until(begin, total)
            while hal.ticks_diff(hal.ticks_us(), begin) < total - self.char_us // 2:
                pass
            while not self._uart.txdone() and hal.ticks_diff(hal.ticks_us(), begin) < total + _STUCK_US:
                pass
        finally:
            if de is not None:
                de.value(0)
        self._active = hal.ticks_us()
        self._idle = False

    async def wait(self, timeout_ms):
        """True as soon as received bytes are there, False after timeout_ms without."""
        uart = self._uart
        hal = self._hal
        if uart.any():
            return True
        deadline = hal.ticks_add(hal.ticks_ms(), timeout_ms)
        if self._timer is None:
            while hal.ticks_diff(deadline, hal.ticks_ms()) > 0:
                await hal.sleep_ms(2)
                if uart.any():
                    return True
            return False
        self._flag.clear()
        self._start_timer(1000 * min(timeout_ms, _TICK_MS))
        try:
            while not uart.any():
                if hal.ticks_diff(deadline, hal.ticks_ms()) <= 0:
                    return False
                await self._flag.wait()
        finally:
            self._timer.deinit()
        return True

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
        if self._timer is not None:
            self._timer.deinit()

    async def _silence(self):
        hal = self._hal
        for _ in range(_RUNS):
            self.flush()
            passed = hal.ticks_diff(hal.ticks_us(), self._active)
            if not 0 <= passed < self._silence_us:  # negative: longer ago than ticks can tell
                return
            await self._sleep(self._silence_us - passed)

    async def _until(self, begin, total):
        # Give the loop away for the bulk of the time.
        if self._timer is None:
            if total > _COARSE_US:
                await self._hal.sleep_ms((total - _COARSE_US) // 1000)
            return
        left = total - self._hal.ticks_diff(self._hal.ticks_us(), begin)
        if left > 2 * _SPIN_US:
            await self._sleep(left - _SPIN_US)

    async def _sleep(self, us):
        hal = self._hal
        if self._timer is None:
            await hal.sleep_ms(us // 1000 + 1)
            return
        begin = hal.ticks_us()
        self._flag.clear()
        self._start_timer(us)
        try:
            # Input may wake us earlier.
            while hal.ticks_diff(hal.ticks_us(), begin) < us:
                await self._flag.wait()
        finally:
            self._timer.deinit()

    def _start_timer(self, us):
        # Periodic, for the scheduler of soft interrupts may drop one when it is full.
        period = us // 100 + 1
        self._timer.init(period=period, tick_hz=10000, mode=self._timer.PERIODIC, callback=self._wake)
