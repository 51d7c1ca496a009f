"""The composition root: what it refuses, and that a unit without cloud touches no network."""

import asyncio
import json
import time

from check import raises
from coupler import app, compose
from coupler.bus import rtu
from coupler.store.reader import Reader
from nor import Nor


def ticks_ms():
    return time.ticks_ms() if hasattr(time, "ticks_ms") else time.monotonic_ns() // 1000000


class Port:
    """A unit 17 on the line that answers every read with the same register."""

    char_us = 573
    echo = False

    def __init__(self):
        self.answer = b""
        self.wish = None
        self.released = 0

    def release(self):
        self.released += 1

    async def send(self, frame):
        count = frame[5]
        body = bytes([frame[0], frame[1], 2 * count]) + b"\x00\x2a" * count
        crc = rtu.crc16(body)
        self.answer = body + bytes([crc & 255, crc >> 8])

    async def wait(self, timeout_ms):
        await asyncio.sleep(0)
        if self.wish:
            raise self.wish
        return bool(self.answer)

    def readinto(self, view):
        n = min(len(view), len(self.answer))
        view[:n] = self.answer[:n]
        self.answer = self.answer[n:]
        return n

    def flush(self):
        self.answer = b""


class Dog:
    fed = relaxed = 0

    def feed(self):
        self.fed += 1

    def relax(self):
        self.relaxed += 1


class Hal:
    name = "test"
    board = {"name": "test", "rs485": {"uart": 1, "tx": 17, "rx": 18, "de": 21}}

    def __init__(self):
        self.numbers = {}
        self.dog = Dog()
        self.port = Port()
        self.files = {}
        self.patience = None
        self.nor = Nor(64)
        self.floor = 0

    def flash(self):
        return self.nor

    def raise_floor(self, unix_ms):
        self.floor = unix_ms

    def ticks_ms(self):
        return ticks_ms()

    def ticks_us(self):
        return 1000 * ticks_ms()

    def ticks_diff(self, a, b):
        return a - b

    def ticks_add(self, a, d):
        return a + d

    def now_ms(self):
        return None

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def get_number(self, name):
        return self.numbers.get(name)

    def put_number(self, name, value):
        self.numbers[name] = value

    def unique_id(self):
        return b"\x02\x00\x00\x00\x00\x01"

    def reset_cause(self):
        return "power"

    def uart(self, wiring, baud, parity, stop):
        return self.port

    def alarm(self):
        return self

    def sleep(self, us):
        return self.sleep_ms(us // 1000)

    def watchdog(self, ms):
        self.patience = ms
        return self.dog

    def forget(self, *modules):
        pass

    def mem_free(self):
        return 100000

    def network_info(self):
        return None

    def read_file(self, path):
        return self.files.get(path)

    def write_file(self, path, data):
        self.files[path] = data

    def remove(self, path):
        del self.files[path]

    @property
    def net(self):
        raise AssertionError("a unit whose cloud is off asked for sockets")

    async def network_up(self, net, board):
        raise AssertionError("a unit whose cloud is off brought the network up")


def config(history=False, **changes):
    point = {"n": "field/meter/power", "o": 0, "t": "u16", "u": "W", "h": history}
    block = {"fc": 4, "a": 52, "n": 1, "ms": 20, "p": [point]}
    answer = {
        "v": 1,
        "rev": "00000000",
        "name": "test",
        "net": {"kind": "ethernet", "address": "dhcp", "ntp": []},
        "cloud": {"enabled": False},
        "bus": [
            {
                "name": "field",
                "kind": "rtu",
                "baud": 19200,
                "parity": "even",
                "stop": 1,
                "units": [{"id": 17, "name": "meter", "timeout": 200, "blocks": [block]}],
            }
        ],
    }
    answer.update(changes)
    return json.dumps(answer).encode()


def run_for(seconds, coroutine):
    async def bounded():
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(seconds)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(bounded())


def test_without_cloud_the_bus_is_read_and_no_network_is_touched():
    hal = Hal()
    coupler = app.Coupler(hal, compose.check(hal, config(history=True)), hal.board)
    run_for(0.3, coupler.run())
    ((_, point, value, quality, _),) = Reader(coupler.journal, None, False).peek(10)
    assert (point.name, value, quality) == ("field/meter/power", 42, None)
    assert Reader(coupler.journal, None).peek(10) == [], "of this unit alone"
    assert hal.dog.fed >= 1
    assert hal.dog.relaxed == 1  # whoever stopped it may need time at the console


def test_without_cloud_and_history_nothing_is_kept():
    hal = Hal()
    coupler = app.Coupler(hal, compose.check(hal, config()), hal.board)
    run_for(0.3, coupler.run())
    assert coupler.journal is None and hal.nor.operations == 0 and not hal.files


def test_samples_keep_their_names_when_the_configuration_changes():
    hal = Hal()
    for name in ("a", "a", "b"):
        text = config(history=True).replace(b"power", name.encode())
        coupler = app.Coupler(hal, compose.check(hal, text), hal.board)
        run_for(0.1, coupler.run())
    assert not hal.files, "flashing firmware would replace them"
    assert coupler.journal.names == 2
    reader = Reader(coupler.journal, coupler.former, False)
    reader.seek(0)
    assert [sample[1].name for sample in reader.peek(10)] == ["field/meter/a", "field/meter/a", "field/meter/b"]


class Gateway:
    """Serves until it is cancelled, or until its fault."""

    def __init__(self):
        self.at = []
        self.fault = None

    async def run(self, ip):
        self.at.append(ip)
        while not self.fault:
            await asyncio.sleep(0)
        raise self.fault


def test_the_gateway_goes_with_the_address_of_the_unit():
    hal = Hal()
    coupler = app.Coupler(hal, compose.check(hal, config()), hal.board)
    gateway = Gateway()
    ip = "192.0.2.7"
    hal.network_info = lambda: {"ip": ip}
    hal.sleep_ms = lambda ms: asyncio.sleep(0)

    async def whole():
        nonlocal ip
        coupler._online.set()
        task = asyncio.create_task(coupler._serve(gateway))
        for ip in ("192.0.2.7", "0.0.0.0", "192.0.2.7", "192.0.2.8"):  # noqa: S104 - what an interface without a link has
            for _ in range(5):
                await asyncio.sleep(0)
        gateway.fault = OSError(98)
        try:
            await asyncio.wait_for(task, 1)
        except OSError as error:
            return error.args[0]

    assert asyncio.run(whole()) == 98, "the watch is told, and starts it again"
    assert gateway.at == ["192.0.2.7", "0.0.0.0", "192.0.2.7", "192.0.2.8"]  # noqa: S104


class Doubting:
    """A session whose broker's certificate is out of its time, by the unit's clock."""

    def __init__(self):
        self.clock_doubted = False


def test_the_time_is_asked_again_every_six_hours_and_soon_while_certificates_are_out_of_it():
    hal = Hal()
    coupler = app.Coupler(hal, compose.check(hal, config()), hal.board)
    coupler.session = session = Doubting()
    coupler._online.set()
    now = 0
    asked = []

    async def sleep_ms(ms):
        nonlocal now
        now += ms
        if now > 12 * 3600000 and len(asked) < 6:
            session.clock_doubted = True
        if len(asked) == 6:
            session.clock_doubted = False
        await asyncio.sleep(0)

    async def ask():
        asked.append(now // 1000)
        return len(asked) != 2  # the second time nobody answers

    hal.sleep_ms = sleep_ms
    coupler._ask_time = ask

    async def whole():
        task = asyncio.create_task(coupler._clock())
        while len(asked) < 7:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(whole())
    six = 6 * 3600
    again = 2 * six + 15  # noticed at the next look
    assert asked[:3] == [0, six, six + 15]
    assert asked[3:6] == [again, again + 30, again + 90], "ever more slowly: it may be the certificate that is wrong"
    assert asked[6] - asked[5] >= six, "when it is good again"


def test_every_start_counts_as_a_boot():
    hal = Hal()
    for expected in (1, 2, 3):
        app.Coupler(hal, compose.check(hal, config()), hal.board)
        assert hal.numbers["boot"] == expected


def test_a_configuration_that_cannot_be_run_is_refused_by_field():
    for changes, field in (
        ({"v": 2}, "v:"),
        ({"bus": None}, "bus:"),
        ({"cloud": []}, "cloud:"),
        ({"bus": [{"name": "x", "kind": "canbus", "units": []}]}, "bus[0].kind"),
    ):
        error = raises(ValueError, compose.check, Hal(), config(**changes))
        assert str(error).startswith(field), (str(error), field)
    raises(ValueError, compose.check, Hal(), b"{not json")


def test_a_point_that_ends_beyond_its_block_is_refused():
    data = json.loads(config())
    data["bus"][0]["units"][0]["blocks"][0]["p"][0]["t"] = "float32"
    error = raises(ValueError, compose.check, Hal(), json.dumps(data).encode())
    assert "bus[0].units[0].blocks[0].p[0].o" in str(error), error


def test_two_buses_on_one_port_are_refused():
    data = json.loads(config())
    data["bus"].append(dict(data["bus"][0], name="second", units=[]))
    error = raises(ValueError, app.Coupler, Hal(), data, Hal.board)
    assert "bus[1]" in str(error)


def test_reported_shows_requests_and_errors_of_each_bus():
    hal = Hal()
    coupler = app.Coupler(hal, compose.check(hal, config()), hal.board)
    run_for(0.2, coupler.run())
    reported = json.loads(json.dumps(coupler.health.report()))
    assert reported["bus"]["field"]["requests"] >= 2
    assert reported["bus"]["field"]["errors"] == 0
    assert reported["boot"] == 1 and reported["revision"] == "00000000"


def test_ctrl_c_anywhere_leaves_the_bus_free_and_time_at_the_console():
    hal = Hal()
    hal.files[app.CONFIG] = config()
    hal.port.wish = KeyboardInterrupt()
    app.main(hal)
    assert hal.port.released == 1
    assert hal.dog.relaxed >= 1


def test_a_start_that_fails_unexpectedly_is_tried_again_by_the_watchdog():
    hal = Hal()
    hal.files[app.CONFIG] = config()

    def full(name, value):
        raise OSError(28)

    hal.put_number = full
    raises(OSError, app.main, hal)
    assert hal.patience == 600000  # time enough at the console


def test_a_refused_configuration_arms_no_watchdog():
    hal = Hal()
    hal.files[app.CONFIG] = config(v=2)
    app.main(hal)
    assert hal.patience is None
