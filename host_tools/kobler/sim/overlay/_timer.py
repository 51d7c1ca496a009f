"""machine.Timer: soft interrupts by the chip's clock."""

import _chip

_timers = {}


class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __new__(cls, id, *args, **kwargs):
        if not -1 <= id <= 3:
            raise ValueError("invalid Timer number")
        timer = _timers.get(id)
        if timer is None:
            timer = object.__new__(cls)
            timer._id = id
            timer._entry = None
            timer._period_us = timer._start = timer._next = 0
            timer._mode = timer._callback = None
            if id >= 0:
                _timers[id] = timer
        return timer

    def __init__(self, id, *args, **kwargs):
        if args or kwargs:
            self.init(*args, **kwargs)

    def init(self, *, mode=PERIODIC, callback=None, period=None, tick_hz=1000, freq=0, hard=False):
        if hard:
            raise ValueError("hard Timers are not implemented")
        self.deinit()
        if freq:
            self._period_us = int(1000000 / freq)
        elif period is None:
            raise ValueError("one of freq or period must be specified")
        else:
            self._period_us = period * 1000000 // tick_hz
        self._mode = mode
        self._callback = callback
        self._start = _chip.now()
        self._next = self._start + max(1, self._period_us)
        self._entry = _chip.at(self._next, self._fire)

    def _fire(self, _):
        self._entry = None
        if self._mode == Timer.PERIODIC:
            # Ticks that were missed are dropped: the chip schedules a callback once until it has run.
            late = (_chip.now() - self._next) // max(1, self._period_us)
            self._next += (late + 1) * max(1, self._period_us)
            self._entry = _chip.at(self._next, self._fire)
        if self._callback:
            self._callback(self)

    def value(self):
        """Milliseconds into the period."""
        if not self._period_us:
            return 0
        return (_chip.now() - self._start) % self._period_us // 1000

    def deinit(self):
        if self._entry is not None:
            _chip.cancel(self._entry)
            self._entry = None

    def __repr__(self):
        return "Timer(%d, mode=%s, period=%d)" % (self._id, self._mode, self._period_us)
