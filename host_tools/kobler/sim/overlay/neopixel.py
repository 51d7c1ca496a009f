"""Stands in for the `neopixel` module that is frozen into the chip's firmware: RGB LEDs on one data line."""

from machine import bitstream


class NeoPixel:
    ORDER = (1, 0, 2, 3)

    def __init__(self, pin, n, bpp=3, timing=1):
        self.pin = pin
        self.n = n
        self.bpp = bpp
        self.buf = bytearray(n * bpp)
        self.pin.init(pin.OUT)
        if isinstance(timing, int):
            timing = (400, 850, 800, 450) if timing else (800, 1700, 1600, 900)
        self.timing = timing

    def __len__(self):
        return self.n

    def __setitem__(self, i, value):
        for j in range(self.bpp):
            self.buf[i * self.bpp + self.ORDER[j]] = value[j]

    def __getitem__(self, i):
        return tuple(self.buf[i * self.bpp + self.ORDER[j]] for j in range(self.bpp))

    def fill(self, value):
        for i in range(self.n):
            self[i] = value

    def write(self):
        bitstream(self.pin, 0, self.timing, self.buf)
