"""machine.Pin and machine.Signal: levels that the board drives and is told of."""

import struct

import _chip

# The pins there are, and the first that can only be input.
_PINS = {
    "esp32": (set(range(40)) - {24, 28, 29, 30, 31}, 34),
    "esp32s3": (set(range(49)) - {22, 23, 24, 25}, 49),
}
_valid, _first_input_only = _PINS[_chip.getenv("KOBLER_CHIP") or "esp32"]

_pins = {}
_outside = {0: 1}  # levels the outside drives; the boot button's pull-up holds GPIO0 high


class _Irq:
    def __init__(self, pin):
        self._pin = pin
        self._flags = 0

    def __call__(self):
        handler = self._pin._handler
        if handler:
            handler(self._pin)

    def flags(self):
        return self._flags

    def trigger(self, trigger=None):
        old = self._pin._trigger
        if trigger is not None:
            self._pin._trigger = trigger
        return old


class _Named:
    """Pin.board: pins by name."""

    def __getattr__(self, name):
        if name.startswith("GPIO") and name[4:].isdigit() and int(name[4:]) in _valid:
            return Pin(int(name[4:]))
        raise AttributeError(name)


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2
    WAKE_LOW = 4
    WAKE_HIGH = 5
    DRIVE_0 = 0
    DRIVE_1 = 1
    DRIVE_2 = 2
    DRIVE_3 = 3
    board = _Named()

    def __new__(cls, id, *args, **kwargs):
        if isinstance(id, Pin):
            return id
        if isinstance(id, str):
            id = int(id[4:]) if id.startswith("GPIO") and id[4:].isdigit() else -1
        if id not in _valid:
            raise ValueError("invalid pin")
        if id not in _pins:
            pin = object.__new__(cls)
            pin._id = id
            pin._mode = Pin.IN
            pin._level = 0
            pin._pull = None
            pin._handler = None
            pin._trigger = 0
            pin._irq = None
            _pins[id] = pin
        return _pins[id]

    def __init__(self, id, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        self.init(mode, pull, value=value, drive=drive, hold=hold)

    def init(self, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        if mode not in (-1, Pin.IN, Pin.OUT, Pin.OPEN_DRAIN):
            raise ValueError("invalid pin mode")
        if mode in (Pin.OUT, Pin.OPEN_DRAIN) and self._id >= _first_input_only:
            raise ValueError("pin can only be input")
        if pull != -1:
            self._pull = pull
        changed = mode != -1 and mode != self._mode
        if mode != -1:
            self._mode = mode
        if value is not None:
            self._level = 1 if value else 0
        # Always told: after a soft reset the board may still see the level of the program before.
        if self._mode != Pin.IN and (changed or value is not None):
            self._tell()

    def __repr__(self):
        return "Pin(%d)" % self._id

    def __hash__(self):
        return self._id

    def __call__(self, value=None):
        return self.value(value)

    def value(self, value=None):
        if value is not None:
            level = 1 if value else 0
            if level != self._level:
                self._level = level
                if self._mode != Pin.IN:
                    self._tell()
            return None
        _chip.poll()
        if self._mode == Pin.OUT or (self._mode == Pin.OPEN_DRAIN and not self._level):
            return self._level
        return _outside.get(self._id, 1 if self._pull == Pin.PULL_UP else 0)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=IRQ_RISING | IRQ_FALLING, *, wake=None, hard=False):
        if hard:
            raise ValueError("hard IRQ not supported")
        self._handler = handler
        self._trigger = trigger
        if self._irq is None:
            self._irq = _Irq(self)
        return self._irq

    def _tell(self):
        _chip.send(_chip.GPIO_OUT, struct.pack("<BBQ", self._id, self._level, _chip.stamp()))


def _level_from_outside(payload):
    number, level = payload[0], payload[1]
    old = _outside.get(number)
    _outside[number] = level
    pin = _pins.get(number)
    if pin is None or pin._handler is None or pin._mode == Pin.OUT or old == level:
        return
    edge = Pin.IRQ_RISING if level else Pin.IRQ_FALLING
    if pin._trigger & edge:
        pin._irq._flags = edge
        _chip.at(_chip.now(), pin._handler, pin)


_chip.on(_chip.GPIO_IN, _level_from_outside)


class Signal:
    def __init__(self, pin, *args, invert=False, **kwargs):
        if not hasattr(pin, "value"):
            pin = Pin(pin, *args, **kwargs)
        self._pin = pin
        self._invert = bool(invert)

    def __call__(self, value=None):
        return self.value(value)

    def value(self, value=None):
        if value is None:
            return self._pin.value() ^ self._invert
        self._pin.value(bool(value) ^ self._invert)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)
