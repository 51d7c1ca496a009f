"""The virtual chip, seen from inside: its clock, its soft interrupts and the link to the board.

Runs on MicroPython (unix port) and on CPython. Handlers given to `on` are hardware: short, and they never call
the program's code; what the program is to notice goes through `at`, the chip's scheduler of soft interrupts.
"""

try:
    import uos as _os
    import uselect as _select
    import ustruct as _struct
    import utime as _time

    now = _time.ticks_us  # CLOCK_MONOTONIC in microseconds, as on the board's side of the link
    _sleep_us = _time.sleep_us
    getenv = _os.getenv

    def _cpu():
        return int(_time.clock() * 1000000)
except ImportError:
    import os as _os
    import select as _select
    import struct as _struct
    import time as _time

    def now():
        return _time.monotonic_ns() // 1000

    def _sleep_us(us):
        _time.sleep(us / 1000000)

    getenv = _os.environ.get

    def _cpu():
        return _time.process_time_ns() // 1000


import sys as _sys

FLASH_PROGRAM = 0x01
FLASH_ERASE = 0x02
INTERRUPT = 0x0F  # from the board: Ctrl-C; to the board: it is taken
RESET = 0x10  # cause u8 [, ms u32: stay off that long]
WDT = 0x11
GPIO_IN = 0x12
RESTART = 0x13  # raw u8: the interpreter ends for a soft reset; raw = come back in the raw REPL
KEEP = 0x14  # what outlives a reset but not a loss of power
CTRL_C = 0x15  # u8: Ctrl-C interrupts the program, or is a byte
UART_CONFIG = 0x20
UART_TX = 0x21
UART_RX = 0x22
GPIO_OUT = 0x23
CARRIER = 0x30  # from the board: interface u8, there u8

chip_time = getenv("KOBLER_CHIP_TIME") != "0"
tick_us = 10000 if chip_time else 1000  # FreeRTOS at 100 Hz

_file = None
_poller = _select.poll()
_buffer = memoryview(bytearray(8192))  # more than any message
_filled = 0
_answers = {}
_handlers = {}
_due = []  # soft interrupts, soonest first: [deadline_us, fn, arg]
_busy = False
masked = False  # machine.disable_irq()
unplugged = {int(number) for number in (getenv("KOBLER_UNPLUGGED") or "").split()}  # interfaces without a network
interrupted = False  # Ctrl-C was typed and not taken yet
stamp = now  # when an output changes, to the rest of the board; _held corrects it for what the host held up
_woke = [0, 0]


def attach(fd):
    """Take the link. Its descriptor does not block, so a read takes what is there."""
    global _file
    _file = open(fd, "r+b", 0)
    _poller.register(_file, 1)


def on(kind, fn):
    """fn(payload) for each message of this kind from the board."""
    _handlers[kind] = fn


def send(kind, payload=b""):
    if _file is None:
        return
    data = _struct.pack("<BH", kind, len(payload)) + payload
    n = _file.write(data)
    while n is None or n < len(data):
        data = data[n or 0 :]
        _sleep_us(200)  # the board is behind: its end of the socket is full
        n = _file.write(data)


def call(kind, payload=b""):
    """Send a request and wait for its answer."""
    answer = kind | 0x80
    send(kind, payload)
    while answer not in _answers:
        _poller.poll(1000)
        _take()
    return _answers.pop(answer)


def ctrl_c(interrupts):
    """From now on Ctrl-C interrupts the program (poll and wait raise KeyboardInterrupt), or comes as a byte."""
    global interrupted
    if not interrupts:
        _take()
        interrupted = False
    send(CTRL_C, b"\1" if interrupts else b"\0")


def mask():
    """From now on Ctrl-C comes as a byte; one typed before is still raised, as micropython.kbd_intr leaves it."""
    call(CTRL_C, b"\0\1")


def _on_interrupt(_):
    global interrupted
    interrupted = True


_handlers[INTERRUPT] = _on_interrupt


def _on_carrier(payload):
    (unplugged.discard if payload[1] else unplugged.add)(payload[0])


_handlers[CARRIER] = _on_carrier


def _check():
    global interrupted
    if interrupted and not masked:
        interrupted = False
        send(INTERRUPT)
        raise KeyboardInterrupt


def _take():
    """Take in the messages that have arrived."""
    global _filled
    if _file is None:
        return
    n = _file.readinto(_buffer[_filled:])
    if n is None:
        return
    if not n:
        raise SystemExit  # the board is gone
    _filled += n
    while _filled >= 3:
        kind, size = _struct.unpack_from("<BH", _buffer)
        end = 3 + size
        if _filled < end:
            break
        payload = bytes(_buffer[3:end])
        _filled -= end
        _buffer[:_filled] = _buffer[end : end + _filled]
        if kind & 0x80:
            _answers[kind] = payload
        elif kind in _handlers:
            _handlers[kind](payload)


def at(deadline_us, fn, arg=None):
    """Run fn(arg) as a soft interrupt when the clock reaches the deadline; returns a handle for `cancel`."""
    entry = [deadline_us, fn, arg]
    i = len(_due)
    while i and _due[i - 1][0] > deadline_us:
        i -= 1
    _due.insert(i, entry)
    return entry


def cancel(handle):
    """Forget a soft interrupt; one that has run or was cancelled is no error."""
    for i in range(len(_due)):
        if _due[i] is handle:
            _due.pop(i)
            return


def _run():
    """Run the soft interrupts that are due, one after the other, never inside one another, as the chip does."""
    global _busy
    if _busy or masked or not _due or _due[0][0] > now():
        return False
    _busy = True
    try:
        while _due and _due[0][0] <= now() and not masked:
            entry = _due.pop(0)
            try:
                entry[1](entry[2])
            except Exception as e:  # the chip prints it and goes on
                print_exception(e)
    finally:
        _busy = False
    return True


def print_exception(e, file=None):
    if hasattr(_sys, "print_exception"):
        _sys.print_exception(e, file or _sys.stdout)
    else:
        import traceback

        traceback.print_exception(e, file=file or _sys.stdout)


def poll():
    """Take in what arrived and run what is due: true if a soft interrupt ran. Never waits."""
    _take()
    _check()
    return _run()


def wait(until):
    """Sleep until the clock shows `until`, or until a soft interrupt has run: then true.

    A soft interrupt runs within some 20 us of its time: the last quarter millisecond is spun, the rest slept.
    """
    while True:
        _take()
        _check()
        if _run():
            return True
        t = now()
        if t >= until:
            return False
        exact = bool(_due) and _due[0][0] <= until and not _busy and not masked
        gap = (_due[0][0] if exact else until) - t
        if gap >= 1500:
            _poller.poll((gap - 400) // 1000)  # ends at once when a message arrives
        elif not exact:
            _sleep_us(min(gap, 300))
        elif gap > 350:
            _sleep_us(min(gap - 250, 300))
        else:
            continue
        awake(t + gap)


def sleep_us(us):
    """Sleep right to some 20 us while soft interrupts run, as time.sleep_us does on the chip."""
    until = now() + us
    while True:
        gap = until - now()
        if gap <= 250:
            break
        wait(until - 200)
    while now() < until:
        pass
    awake(until)


def stall(until):
    """Stand still until the clock shows `until`, soft interrupts too: the chip cannot run code from a busy flash."""
    gap = until - now()
    if gap > 0:
        _sleep_us(gap)
    awake(until)


def awake(planned):
    """The program goes on: on a chip at `planned` at the latest, here when the host lets it."""
    _woke[0] = min(now(), planned)
    _woke[1] = _cpu()


def own():
    """How late it would be had this process never been kept waiting for a processor since `awake`."""
    return min(now(), _woke[0] + _cpu() - _woke[1])


def reset(cause, ms=0):
    """Ask the board for a reset and wait for it: the board ends this process."""
    send(RESET, _struct.pack("<BI", cause, ms) if ms else bytes([cause]))
    while True:
        try:
            _poller.poll(1000)
            _file.read(8192)
        except KeyboardInterrupt:
            pass
