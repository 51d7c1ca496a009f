"""machine.UART of the ESP32 port (1.24), on the board's simulated RS-485 bus.

The board tells characters ahead of time, each with the moment its stop bit ends: they are hidden until then. What
is written is stamped with the moment its first start bit begins. So timing is right however late a process runs.
"""

import errno
import io
import struct
import sys

import _chip
import _held
from _pins import Pin
from _uart_rx import Receiver

_LINE = 0x24  # from the board: uart u8, what u8 (0 forget what ends at t or later, 1 a break), t_us u64
_BREAK = 0x25  # to the board: uart u8, t_us u64, bit times u8

_DEFAULT_PINS = {0: (-1, -1), 1: (10, 9), 2: (17, 16)}
_FIFO = 128
_uarts = {}


def _ticks_us(ms):
    """FreeRTOS waits in whole ticks: less than one is no wait at all."""
    return ms * 1000 // _chip.tick_us * _chip.tick_us


class _Irq:
    def __init__(self, uart):
        self._uart = uart

    def __call__(self):
        self._uart._interrupt(self._uart._flags)

    def flags(self):
        return self._uart._flags

    def trigger(self, trigger=None):
        old = self._uart._trigger
        if trigger is not None:
            self._uart._set_trigger(trigger)
        return old


class UART(io.IOBase):
    INV_TX, INV_RX, INV_RTS, INV_CTS = 32, 4, 64, 8
    RTS, CTS = 1, 2
    IRQ_RX, IRQ_BREAK, IRQ_RXIDLE = 1, 2, 4096

    def __new__(cls, id, *args, **kwargs):
        if not 0 <= id <= 2:
            raise ValueError("UART(%d) does not exist" % id)
        if id not in _uarts:
            base = object if sys.implementation.name == "micropython" else io.IOBase
            uart = base.__new__(cls)
            uart._id = id
            uart._installed = False
            uart._irq = None
            uart._handler = None
            uart._trigger = uart._flags = 0
            uart._alarms = []
            uart._tx_end = 0
            uart._receiver = Receiver(256)
            _uarts[id] = uart
        return _uarts[id]

    def __init__(self, id, *args, **kwargs):
        self.init(*args, **kwargs)

    def _reset(self):
        self._baud, self._bits, self._parity, self._stop = 115200, 8, None, 1
        self._tx, self._rx = _DEFAULT_PINS[self._id]
        self._rts = self._cts = -1
        self._txbuf = self._rxbuf = 256
        self._timeout = self._timeout_char = self._invert = self._flow = 0
        self._receiver.clear()

    def init(
        self, baudrate=0, bits=0, parity=-1, stop=0, *, tx=-1, rx=-1, rts=-1, cts=-1,
        txbuf=-1, rxbuf=-1, timeout=-1, timeout_char=-1, invert=-1, flow=-1,
    ):  # fmt: skip
        if not self._installed:
            self._reset()
        else:
            self._wait_sent(1000000)
        for name, size in (("_txbuf", txbuf), ("_rxbuf", rxbuf)):
            if size >= 0 and size != getattr(self, name):
                if self._id == 0:
                    raise ValueError("REPL UART buffer size is fixed")
                if size <= _FIFO and (size or name == "_rxbuf"):
                    raise OSError(-1, "ESP_FAIL")  # the driver wants more than the FIFO holds
                setattr(self, name, size)
        self._installed = True
        if baudrate > 0:
            self._baud = baudrate
        for name, pin in (("_tx", tx), ("_rx", rx), ("_rts", rts), ("_cts", cts)):
            if pin != -1:
                setattr(self, name, Pin(pin)._id)
        if bits not in (0, 5, 6, 7, 8):
            raise ValueError("invalid data bits")
        self._bits = bits or self._bits
        if parity != -1:
            self._parity = None if parity is None else parity & 1
        if stop not in (0, 1, 2):
            raise ValueError("invalid stop bits")
        self._stop = stop or self._stop
        if timeout != -1:
            self._timeout = timeout
        if timeout_char != -1:
            self._timeout_char = timeout_char
        if invert != -1:
            if invert & ~(UART.INV_TX | UART.INV_RX | UART.INV_RTS | UART.INV_CTS):
                raise ValueError("invalid inversion mask")
            self._invert = invert
        if flow != -1:
            if flow & ~3:
                raise ValueError("invalid flow control mask")
            self._flow = flow
        self._width = 1 + self._bits + (self._parity is not None) + self._stop
        parity = 255 if self._parity is None else self._parity
        settings = (self._id, self._baud, self._bits, parity, self._stop, self._tx & 255, self._rx & 255)
        _chip.send(_chip.UART_CONFIG, struct.pack("<BIBBBBB", *settings))
        self._receiver.size = self._rxbuf
        self._receiver.take_in(_chip.now())
        self._receiver.buffer = bytearray()  # input of the former configuration
        self._plan()

    def deinit(self):
        self._installed = False
        self._receiver.clear()
        self._plan()

    def __repr__(self):
        parity = "None" if self._parity is None else str(self._parity)
        return (
            "UART(%u, baudrate=%u, bits=%u, parity=%s, stop=%u, tx=%d, rx=%d, rts=%d, cts=%d, txbuf=%u, "
            "rxbuf=%u, timeout=%u, timeout_char=%u, irq=%d)"
        ) % (
            self._id, self._baud, self._bits, parity, self._stop, self._tx, self._rx, self._rts, self._cts,
            self._txbuf, self._rxbuf, self._timeout, self._timeout_char, self._trigger,
        )  # fmt: skip

    # - receiving

    def _fill(self, view):
        """One read of the driver: the first character within `timeout`, the others within `timeout_char`."""
        got = 0
        deadline = _chip.now() + _ticks_us(self._timeout)
        while got < len(view):
            _chip.poll()
            coming = self._receiver.take_in(_chip.now())
            n = self._receiver.pull(view[got:])
            if n:
                if not got:
                    deadline = _chip.now() + _ticks_us(self._timeout_char)
                got += n
                continue
            if _chip.now() >= deadline:
                break
            _chip.wait(deadline if coming is None else min(deadline, coming))
        return got

    def any(self):
        if not self._installed:
            raise OSError(-1, "ESP_FAIL")
        _chip.poll()
        self._receiver.take_in(_chip.now())
        return len(self._receiver.buffer)

    def readinto(self, buf, nbytes=-1):
        view = memoryview(buf)
        if 0 <= nbytes < len(view):
            view = view[:nbytes]
        got = 0
        while self._installed and got < len(view):
            n = self._fill(view[got:])
            if not n:
                break
            got += n
        return got if got or not len(view) else None

    def read(self, nbytes=-1):
        if nbytes >= 0:
            buf = bytearray(nbytes)
            n = self.readinto(buf)
            return None if n is None else bytes(buf[:n])
        out = b""
        while True:
            part = self.read(256)
            if part is None:
                return out or None
            out += part

    def readline(self, limit=-1):
        line = b""
        while limit < 0 or len(line) < limit:
            c = self.read(1)
            if c is None:
                return line or None
            line += c
            if c == b"\n":
                break
        return line

    # - sending

    def _sent_at(self, characters):
        """When so many characters that are shifted out from now on, after those under way, have ended."""
        start = max(_chip.now(), self._tx_end)
        return start, start - (-characters * self._width * 1000000 // self._baud)

    def write(self, buf):
        if not self._installed:
            return None
        data = bytes(buf)
        if self._id == 0:
            sys.stdout.write(data.decode())
            return len(data)
        for i in range(0, len(data), 1024):
            part = data[i : i + 1024]
            start, self._tx_end = self._sent_at(len(part))
            _held.wrote(self._tx_end)
            _chip.send(_chip.UART_TX, struct.pack("<BQ", self._id, start) + part)
        # The call returns when the rest fits into buffer and FIFO.
        room_us = (self._txbuf + _FIFO) * self._width * 1000000 // self._baud
        if self._tx_end - _chip.now() > room_us:
            _chip.sleep_us(self._tx_end - room_us - _chip.now())
        return len(data)

    def txdone(self):
        _chip.poll()
        done = _chip.now() >= self._tx_end
        if done:
            _held.sent()
        return done

    def _wait_sent(self, most_us):
        gap = self._tx_end - _chip.now()
        if gap > 0:
            _chip.sleep_us(min(gap, most_us))
        return gap <= most_us

    def flush(self):
        if not self._wait_sent((3 + self._txbuf) * 26000 // self._baud * _chip.tick_us):
            raise OSError(errno.ETIMEDOUT)

    def sendbreak(self):
        self._wait_sent(1000000)
        _chip.send(_BREAK, struct.pack("<BQB", self._id, _chip.now(), 13))
        _chip.sleep_us(13000000 // self._baud)

    # - interrupts

    def irq(self, handler=None, trigger=0, hard=False):
        if self._id == 0:
            raise ValueError("REPL UART does not support IRQs")
        if handler is not None and not callable(handler):
            raise ValueError("handler must be None or callable")
        unsupported = trigger & ~(UART.IRQ_RX | UART.IRQ_RXIDLE | UART.IRQ_BREAK)
        if unsupported:
            raise ValueError("trigger 0x%04x unsupported" % unsupported)
        if hard:
            raise ValueError("hard IRQ is not supported")
        if self._irq is None:
            self._irq = _Irq(self)
        self._handler = handler
        self._set_trigger(trigger)
        return self._irq

    def _set_trigger(self, trigger):
        self._trigger = trigger
        self._receiver.restart()
        self._plan()

    def _interrupt(self, flags):
        self._flags = flags
        if self._handler is not None and self._trigger & flags:
            self._handler(self)

    def _plan(self):
        """Set the alarms for the next character and for the end of the burst."""
        for alarm in self._alarms:
            _chip.cancel(alarm)
        self._alarms = []
        signal = self._receiver.next_signal()
        if signal is not None and self._trigger & UART.IRQ_RX:
            self._alarms.append(_chip.at(signal, self._data))
        idle = self._receiver.next_idle(max(20000000 // self._baud + 1, 500))
        if idle is not None and self._trigger & UART.IRQ_RXIDLE:
            self._alarms.append(_chip.at(idle[0], self._idle, idle[1]))

    def _data(self, _):
        self._receiver.signalled(_chip.now())
        self._interrupt(UART.IRQ_RX)
        self._plan()

    def _idle(self, bursts):
        self._receiver.was_idle(bursts)
        self._interrupt(UART.IRQ_RXIDLE)
        self._plan()

    def _told(self, t, char_ns, data):
        if self._installed:
            trigger = self._trigger
            self._receiver.tell(t, char_ns, data, trigger & UART.IRQ_RX, trigger & UART.IRQ_RXIDLE)
            self._plan()

    def _undone(self, t):
        self._receiver.take_in(_chip.now())
        self._receiver.forget(t)
        self._plan()

    # - as a stream

    def ioctl(self, request, arg):
        if request == 3:  # poll
            ready = 4 if arg & 4 else 0
            if arg & 1 and self.any():
                ready |= 1
            return ready
        if request == 1:
            self.flush()
            return 0
        return -errno.EINVAL


def _on_data(payload):
    uart, t, char_ns = struct.unpack_from("<BQI", payload)
    if uart in _uarts:
        _uarts[uart]._told(t, char_ns, payload[13:])


def _on_line(payload):
    number, what, t = struct.unpack("<BBQ", payload)
    uart = _uarts.get(number)
    if uart is None:
        return
    if what == 0:
        uart._undone(t)
    else:
        _chip.at(t, uart._interrupt, UART.IRQ_BREAK)


_chip.on(_chip.UART_RX, _on_data)
_chip.on(_LINE, _on_line)
