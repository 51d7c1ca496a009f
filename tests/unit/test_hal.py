import os

from bus_fakes import Hal, run
from check import raises
from coupler import RELEASED_MS, hal
from coupler.hal.port import Alarm, Port

CHAR = 573  # microseconds, 8E1 at 19200


def make():
    """A hal of this runtime on a folder of its own."""
    folder = "/tmp/kobler-hal-%d" % hal.get().ticks_us()
    os.mkdir(folder)
    return type(hal.get())(folder), folder


def clean(folder):
    for name in os.listdir(folder):
        path = folder + "/" + name
        if os.stat(path)[0] & 0x4000:
            clean(path)
        else:
            os.remove(path)
    os.rmdir(folder)


def test_there_is_one_hal_and_it_says_what_it_is():
    assert hal.get() is hal.get()
    assert hal.get().name in ("micropython", "cpython")
    assert isinstance(hal.get().unique_id(), bytes) and len(hal.get().unique_id()) == 6
    assert len(hal.get().urandom(16)) == 16 and hal.get().urandom(16) != hal.get().urandom(16)
    assert isinstance(hal.get().mem_free(), int)


def test_ticks_count_and_may_wrap():
    h = hal.get()
    a = h.ticks_us()
    b = h.ticks_ms()
    while h.ticks_diff(h.ticks_us(), a) < 3000:
        pass
    assert 2 <= h.ticks_diff(h.ticks_ms(), b) < 2000
    assert h.ticks_diff(h.ticks_add(b, -7), b) == -7
    assert h.ticks_diff(b, h.ticks_add(b, 100000)) == -100000


def test_a_file_comes_back_as_it_was_written():
    h, folder = make()
    try:
        assert h.read_file("/etc/config.json") is None
        h.write_file("/etc/config.json", b"one")
        assert h.read_file("/etc/config.json") == b"one"
        h.write_file("/etc/config.json", b"\x00\xff" * 3000)
        assert h.read_file("/etc/config.json") == b"\x00\xff" * 3000
        assert os.listdir(folder + "/etc") == ["config.json"], "nothing is left over"
        h.remove("/etc/config.json")
        h.remove("/etc/config.json")
        assert h.read_file("/etc/config.json") is None
    finally:
        clean(folder)


def test_a_file_that_cannot_be_read_is_an_error_and_not_absent():
    h, folder = make()
    try:
        os.mkdir(folder + "/etc")
        raises(OSError, h.read_file, "/etc")
    finally:
        clean(folder)


def test_numbers_outlive_the_program():
    h, folder = make()
    try:
        assert h.get_number("boot") is None
        h.put_number("boot", 7)
        h.put_number("seq", 1 << 40)
        again = type(h)(folder)
        assert again.get_number("boot") == 7 and again.get_number("seq") == 1 << 40
    finally:
        clean(folder)


def test_a_forgotten_module_is_loaded_again():
    from coupler.net import sntp

    hal.get().forget("coupler.net.sntp", "coupler.net.never_loaded")
    from coupler.net import sntp as again

    assert again.request(bytes(8)) == sntp.request(bytes(8))
    assert (again is not sntp) == (hal.get().name == "micropython"), "there it takes no memory in between"


def test_the_time_is_unknown_until_it_is_set_or_plausible():
    h, folder = make()
    try:
        h._clock_ms = lambda: 946684800000 + 5000 + h._correction  # a chip after power-on: the year 2000
        assert h.now_ms() is None
        now = RELEASED_MS + 4000123
        h.set_time(now)
        assert h.now_ms() == now
        fresh = type(h)(folder)
        h._clock_ms = lambda: now + fresh._correction
        fresh._clock_ms = h._clock_ms
        assert fresh.now_ms() == now, "a clock that ran on through a reset is known"
        fresh.raise_floor(now + 1)
        fresh.raise_floor(now - 1)
        assert fresh.now_ms() is None, "it is later than that"
        fresh.set_time(now - 10)
        assert fresh.now_ms() == now - 10 and fresh.floor_ms == now + 1
    finally:
        clean(folder)


def test_the_clock_counts_from_1970():
    assert 1735689600000 < hal.get().now_ms() < 4102444800000


def test_a_board_without_a_file_has_no_wiring():
    h, folder = make()
    try:
        assert h.board == {}
        h.write_file("/board.json", b'{"led": 2}')
        assert type(h)(folder).board == {"led": 2}
    finally:
        clean(folder)


class Pin:
    def __init__(self, clock):
        self.clock = clock
        self.edges = []

    def value(self, level):
        self.edges.append((level, self.clock.us))


class Flag:
    """Waiting lets the time pass until the next event of the bench."""

    def __init__(self, bench):
        self.bench = bench
        self.up = False

    def set(self):
        self.up = True

    def clear(self):
        self.up = False

    async def wait(self):
        while not self.up:
            self.bench.advance()
        self.up = False


class Timer:
    PERIODIC = 1

    def __init__(self, bench):
        self.bench = bench
        self.next = None

    def init(self, period, tick_hz, mode, callback):
        self.period = period * 1000000 // tick_hz
        self.next = self.bench.us + self.period
        self.callback = callback

    def deinit(self):
        self.next = None


class Uart:
    IRQ_RXIDLE = 4096

    def __init__(self, bench):
        self.bench = bench
        self.end = 0

    def irq(self, handler, trigger):
        self.handler = handler

    def init(self, baud, bits, parity, stop):
        self.format = (baud, bits, parity, stop)

    def write(self, data):
        self.bench.wrote.append((bytes(data), self.bench.us))
        self.end = self.bench.us + CHAR * len(data)

    def txdone(self):
        self.bench.us += 12  # what a turn of the loop takes on the chip
        return self.bench.us >= self.end

    def any(self):
        return len([1 for at, _ in self.bench.input if at <= self.bench.us])

    def readinto(self, buf, n):
        for i in range(n):
            buf[i] = self.bench.input.pop(0)[1]
        return n


class Bench(Hal):
    """A port whose parts are timed by a virtual clock; deaf: interrupts get lost."""

    def __init__(self, timer=True, deaf=False):
        Hal.__init__(self)
        self.input = []  # (us when it is there, byte)
        self.wrote = []
        self.deaf = deaf
        self.de = Pin(self)
        self.uart = Uart(self)
        self.timer = Timer(self) if timer else None
        self.port = Port(self, self.uart, self.de, Alarm(self, self.timer), (19200, "even", 1), False)
        self.us += 10000

    def flag(self):
        return Flag(self)

    def ticks_us(self):
        self.us += 3
        return Hal.ticks_us(self)

    def ticks_ms(self):
        self.us += 3
        return Hal.ticks_ms(self)

    def hear(self, after_us, data):
        for i, byte in enumerate(data):
            self.input.append((self.us + after_us + CHAR * i, byte))

    def advance(self):
        events = []
        coming = [at for at, _ in self.input if at + 2 * CHAR > self.us]
        if coming and not self.deaf:
            events.append((coming[-1] + 2 * CHAR, self.uart.handler))
        if self.timer.next is not None:
            events.append((self.timer.next, self.timer.callback))
        at, handler = min(events, key=lambda event: event[0])
        if handler is self.timer.callback:
            self.timer.next += self.timer.period
        self.us = at + 150  # until the task runs
        handler(None)


def test_the_driver_is_on_for_the_frame_and_off_right_after_its_last_bit():
    for timer in (True, False):
        for n in (1, 2, 3, 8, 100, 256):
            bench = Bench(timer)
            run(bench.port.send(bytes(n)))
            (on, raised), (off, fell) = bench.de.edges
            assert (on, off) == (1, 0)
            ((data, at),) = bench.wrote
            assert data == bytes(n), "one write"
            assert 0 <= at - raised < 100
            late = fell - bench.uart.end
            assert 0 <= late < 100, (n, late)


def test_the_loop_has_the_bulk_of_the_sending_time():
    bench = Bench()
    spun = []
    txdone = bench.uart.txdone
    bench.uart.txdone = lambda: spun.append(bench.us) or txdone()
    ticks = bench.ticks_us
    asked = []
    bench.ticks_us = lambda: asked.append(bench.us) or ticks()
    run(bench.port.send(bytes(256)))
    gaps = [b - a for a, b in zip(asked, asked[1:])]
    assert max(gaps) > 256 * CHAR - 3000
    assert bench.uart.end - spun[0] < 1500


def test_a_transmitter_that_hangs_does_not_hold_the_driver_on():
    bench = Bench()
    bench.uart.txdone = lambda: False
    run(bench.port.send(bytes(8)))
    assert bench.de.edges[-1][0] == 0
    assert bench.de.edges[-1][1] - bench.wrote[0][1] < 8 * CHAR + 30000


def test_the_driver_falls_whatever_goes_wrong():
    bench = Bench()

    def broken(data):
        raise OSError(5)

    bench.uart.write = broken
    raises(OSError, lambda: run(bench.port.send(bytes(8))))
    assert bench.de.edges[-1][0] == 0


def test_another_speed_and_format_change_all_that_depends_on_them():
    bench = Bench()
    port = bench.port
    port.set_line(9600, "none", 2)
    assert bench.uart.format == (9600, 8, None, 2)
    assert port.line == (9600, "none", 2) and port.char_us == 1146
    before = bench.us
    run(port.send(bytes(10)))
    assert bench.us - before >= 9 * 1146


def test_a_released_port_leaves_the_line_to_others():
    bench = Bench()
    sending = bench.port.send(bytes(100))
    bench.de.value(1)
    bench.timer.next = 1
    sending.close()  # nobody resumes it
    bench.port.release()
    assert bench.de.edges[-1][0] == 0
    assert bench.timer.next is None


def test_a_frame_follows_three_and_a_half_silent_characters():
    bench = Bench()
    bench.hear(0, b"\x55\x55\x55")
    bench.us += 2 * CHAR
    last = bench.us
    run(bench.port.send(bytes(8)))
    assert bench.wrote[0][1] - last >= 3.5 * CHAR
    assert bench.wrote[0][1] - last < 3.5 * CHAR + 1000
    assert not bench.uart.any(), "stray input is dropped"


def test_a_silent_line_is_not_waited_for():
    bench = Bench()
    before = bench.us
    run(bench.port.send(bytes(8)))
    assert bench.wrote[0][1] - before < 200


def test_waiting_ends_when_the_line_falls_silent():
    bench = Bench()
    bench.hear(20000, bytes(9))
    before = bench.us
    assert run(bench.port.wait(500)) is True
    assert 20000 + 8 * CHAR <= bench.us - before <= 20000 + 11 * CHAR + 300
    buf = bytearray(16)
    assert bench.port.readinto(memoryview(buf)) == 9
    assert bench.port.readinto(memoryview(buf)) == 0


def test_waiting_without_an_answer_ends_in_time():
    for timer in (True, False):
        for ms in (3, 50, 500):
            bench = Bench(timer)
            before = bench.us
            assert run(bench.port.wait(ms)) is False
            assert ms <= (bench.us - before) / 1000 <= ms + 52


def test_lost_interrupts_and_a_uart_without_any_are_only_slower():
    for bench in (Bench(deaf=True), Bench(timer=False)):
        bench.hear(20000, bytes(9))
        before = bench.us
        assert run(bench.port.wait(500)) is True
        assert bench.us - before <= 80000


def test_bytes_that_are_there_are_not_waited_for():
    for timer, heard, most in ((True, True, 100), (True, False, 26000), (False, False, 100)):
        bench = Bench(timer)
        bench.hear(0, b"\x01")
        if heard:
            bench.uart.handler(None)
        before = bench.us
        assert run(bench.port.wait(500)) is True
        assert bench.us - before < most


def test_a_long_answer_is_taken_in_one_piece_and_without_looking_at_each_byte():
    for count in (20, 53, 105, 255):
        for latency in (0, 1000, 20000, 49000, 333000):
            bench = Bench()
            bench.hear(latency, bytes(count))
            end = bench.us + latency + CHAR * (count - 1)
            waits = []
            wait = Flag.wait

            async def counted(flag):
                waits.append(bench.us)
                await wait(flag)

            Flag.wait = counted
            try:
                assert run(bench.port.wait(500)) is True
            finally:
                Flag.wait = wait
            assert bench.uart.any() == count
            assert bench.us - end <= 3 * CHAR + 300
            assert len(waits) <= 3 + latency // 50000 + (CHAR * count) // 25000


def test_a_line_that_never_falls_silent_is_not_waited_for_longer_than_asked():
    bench = Bench()
    bench.hear(0, bytes(3000))
    before = bench.us
    assert run(bench.port.wait(500)) is True
    assert 500000 <= bench.us - before <= 530000


def test_a_frame_given_up_half_sent_is_let_out_before_the_next():
    bench = Bench()
    sending = bench.port.send(bytes(200))

    async def stop():
        raise KeyboardInterrupt

    Flag.wait, wait = (lambda flag: stop()), Flag.wait
    try:
        raises(KeyboardInterrupt, run, sending)
    finally:
        Flag.wait = wait
    assert bench.de.edges[-1][0] == 0, "the line is free at once"
    end = bench.uart.end
    assert end - bench.us > 100000
    run(bench.port.send(bytes(8)))
    assert bench.wrote[1][1] >= end, "else it would go out as the end of the other"
    assert bench.wrote[1][1] - end < 5000


def test_readinto_never_takes_more_than_there_is_room():
    bench = Bench()
    bench.hear(0, bytes(range(20)))
    bench.us += 20 * CHAR
    buf = bytearray(8)
    assert bench.port.readinto(memoryview(buf)) == 8 and bytes(buf) == bytes(range(8))
    assert bench.port.readinto(memoryview(buf)) == 8
    assert bench.port.readinto(memoryview(buf)) == 4
    bench.hear(0, bytes(70))
    bench.us += 70 * CHAR
    bench.port.flush()
    assert bench.uart.any() == 0
