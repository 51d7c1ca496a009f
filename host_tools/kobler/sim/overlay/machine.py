"""Stands in for `machine` on the virtual board: names, signatures and errors of the ESP32's module."""

import struct

import _chip
from _absent import ADC, I2C, PWM, SPI, SoftI2C, SoftSPI  # noqa: F401
from _clock import RTC  # noqa: F401
from _pins import Pin, Signal  # noqa: F401
from _timer import Timer  # noqa: F401
from _uart import UART  # noqa: F401

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
SLEEP = 2
DEEPSLEEP = 4
PIN_WAKE = 2
EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4
TOUCHPAD_WAKE = 5
ULP_WAKE = 6

_FREQUENCIES = (20, 40, 80, 160, 240)
_cause = int(_chip.getenv("KOBLER_CAUSE") or PWRON_RESET)
_mac = bytes.fromhex(_chip.getenv("KOBLER_MAC") or "02000000c0b1")
_freq = 160000000


class WDT:
    """Task watchdog: once started it cannot be stopped, constructing it again re-times it."""

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        _chip.send(_chip.WDT, struct.pack("<I", timeout))

    def feed(self):
        _chip.poll()
        _chip.send(_chip.WDT, struct.pack("<I", 0))


def unique_id():
    return _mac


def reset():
    _chip.reset(HARD_RESET)


def soft_reset():
    raise SystemExit


def reset_cause():
    return _cause


def wake_reason():
    return TIMER_WAKE if _cause == DEEPSLEEP_RESET else 0


def freq(hz=None):
    global _freq
    if hz is None:
        return _freq
    if hz // 1000000 not in _FREQUENCIES or hz % 1000000:
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")
    _freq = hz


def idle():
    _chip.wait(_chip.now() + 1000)


def lightsleep(time_ms=0):
    """Sleep that long; without a time until something wakes the chip, here a soft interrupt."""
    if time_ms:
        _chip.sleep_us(time_ms * 1000)
    else:
        while not _chip.wait(_chip.now() + 1000000):
            pass


sleep = lightsleep


def deepsleep(time_ms=0):
    _chip.reset(DEEPSLEEP_RESET, time_ms or 0xFFFFFFFF)


def disable_irq():
    state = not _chip.masked
    _chip.masked = True
    return state


def enable_irq(state=True):
    _chip.masked = not state


def time_pulse_us(pin, pulse_level, timeout_us=1000000):
    """Length of a pulse: -2 if it did not begin in time, -1 if it did not end."""
    for level, error in ((pulse_level, -2), (1 - pulse_level, -1)):
        start = _chip.now()
        while pin.value() != level:
            if _chip.now() - start > timeout_us:
                return error
    return _chip.now() - start


def bitstream(pin, encoding, timing, data):
    """Clock a self-clocked stream out (RGB LEDs); it takes its time and ends with the pin low."""
    if encoding != 0 or len(timing) != 4:
        raise ValueError("encoding")
    zero, one = timing[0] + timing[1], timing[2] + timing[3]
    ones = sum(bin(byte).count("1") for byte in data)
    _chip.sleep_us((ones * one + (len(data) * 8 - ones) * zero) // 1000)
    pin.value(0)
