"""Peripherals with nothing wired to them: they answer as the chip's do then."""

import errno

import _chip


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3
    WIDTH_9BIT = 9
    WIDTH_10BIT = 10
    WIDTH_11BIT = 11
    WIDTH_12BIT = 12

    def __init__(self, pin, *, atten=ATTN_0DB):
        self._bits = 12

    def init(self, *, atten=ATTN_0DB):
        pass

    def atten(self, atten):
        pass

    def width(self, bits):
        if not 9 <= bits <= 12:
            raise ValueError("invalid bits")
        self._bits = bits

    def block(self):
        raise NotImplementedError

    def read(self):
        return 0

    def read_u16(self):
        return 0

    def read_uv(self):
        return 0


class PWM:
    def __init__(self, dest, freq=5000, duty=None, duty_u16=None, duty_ns=None, invert=0):
        self._freq = freq
        self._duty = 32768
        self.init(freq, duty, duty_u16, duty_ns)

    def init(self, freq=None, duty=None, duty_u16=None, duty_ns=None, invert=0):
        if freq is not None:
            self.freq(freq)
        if duty is not None:
            self.duty(duty)
        if duty_u16 is not None:
            self.duty_u16(duty_u16)
        if duty_ns is not None:
            self.duty_ns(duty_ns)

    def deinit(self):
        self._duty = 0

    def freq(self, hz=None):
        if hz is None:
            return self._freq
        if not 0 < hz <= 40000000:
            raise ValueError("frequency must be from 1Hz to 40MHz")
        self._freq = hz

    def duty_u16(self, duty=None):
        if duty is None:
            return self._duty
        if not 0 <= duty <= 65535:
            raise ValueError("duty_u16 must be from 0 to 65535")
        self._duty = duty

    def duty(self, duty=None):
        if duty is None:
            return self._duty >> 6
        if not 0 <= duty <= 1023:
            raise ValueError("duty must be between 0 and 1023")
        self._duty = duty << 6

    def duty_ns(self, ns=None):
        if ns is None:
            return self._duty * 1000000000 // (self._freq * 65536)
        self._duty = min(65535, ns * self._freq * 65536 // 1000000000)


class SoftI2C:
    """A bus without devices: no address is acknowledged."""

    def __init__(self, scl=None, sda=None, *, freq=400000, timeout=50000):
        self.init(scl, sda, freq=freq)

    def init(self, scl=None, sda=None, *, freq=400000, timeout=50000):
        self._byte_us = max(1, 9000000 // freq)

    def _nobody(self):
        _chip.sleep_us(self._byte_us)
        raise OSError(errno.ENODEV)

    def scan(self):
        _chip.sleep_us(112 * self._byte_us)
        return []

    def start(self):
        pass

    def stop(self):
        pass

    def readinto(self, buf, nack=True):
        for i in range(len(buf)):
            buf[i] = 0xFF  # the pull-ups

    def write(self, buf):
        return 0  # acknowledged bytes

    def readfrom(self, addr, nbytes, stop=True):
        self._nobody()

    def readfrom_into(self, addr, buf, stop=True):
        self._nobody()

    def writeto(self, addr, buf, stop=True):
        self._nobody()

    def writevto(self, addr, vector, stop=True):
        self._nobody()

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        self._nobody()

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        self._nobody()

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        self._nobody()


class I2C(SoftI2C):
    def __init__(self, id=-1, *, scl=None, sda=None, freq=400000, timeout=50000):
        if id not in (-1, 0, 1):
            raise ValueError("I2C(%d) doesn't exist" % id)
        self.init(scl, sda, freq=freq)

    def start(self):
        raise OSError("I2C operation not supported")

    stop = start
    readinto = write = lambda self, buf, nack=True: self.start()


class SoftSPI:
    """A bus without devices: the data line in floats low."""

    MSB = 0
    LSB = 1

    def __init__(self, baudrate=500000, *, polarity=0, phase=0, bits=8, firstbit=MSB, sck=None, mosi=None, miso=None):
        self.init(baudrate)

    def init(self, baudrate=1000000, *, polarity=0, phase=0, bits=8, firstbit=MSB, sck=None, mosi=None, miso=None):
        self._baudrate = baudrate

    def deinit(self):
        pass

    def _clock(self, n):
        _chip.sleep_us(n * 8000000 // self._baudrate)

    def read(self, nbytes, write=0):
        self._clock(nbytes)
        return bytes(nbytes)

    def readinto(self, buf, write=0):
        self.write_readinto(buf, buf)

    def write(self, buf):
        self._clock(len(buf))

    def write_readinto(self, write_buf, read_buf):
        self._clock(len(read_buf))
        for i in range(len(read_buf)):
            read_buf[i] = 0


class SPI(SoftSPI):
    def __init__(self, id, baudrate=1000000, **kwargs):
        if id not in (1, 2):
            raise ValueError("SPI(%d) doesn't exist" % id)
        self.init(baudrate, **kwargs)
