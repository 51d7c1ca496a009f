"""The Modbus TCP client against a server of this file; the times are real and short."""

import asyncio
import gc

from coupler import hal as hals
from coupler.bus.errors import BusError
from coupler.bus.mbap import Framer, adu
from coupler.bus.tcp import TcpClient
from test_pdu import ANSWERS, BAD, GOOD

TIMEOUT = 2000  # of what will be answered
SHORT = 30  # of what will not


class Stream:
    """One connection. answer(stream, tid, unit, pdu) is called for each request and says things with say()."""

    where = "test"

    def __init__(self, answer):
        self.answer = answer
        self.framer = Framer()
        self.news = asyncio.Event()
        self.out = b""
        self.ended = None  # 0, or an exception that reading raises
        self.closed = False
        self.requests = []
        self.stalled = False  # it takes a byte and then no more
        self.chunk = 300  # bytes it takes at once

    def say(self, data):
        self.out += data
        self.news.set()

    def end(self, how=0):
        self.ended = how
        self.news.set()

    async def readinto(self, buf):
        while not self.out:
            assert not self.closed
            if self.ended is not None:
                if self.ended:
                    raise self.ended
                return 0
            self.news.clear()
            await self.news.wait()
        await asyncio.sleep(0)
        n = min(len(buf), len(self.out))
        buf[:n] = self.out[:n]
        self.out = self.out[n:]
        return n

    async def write(self, data):
        assert not self.closed
        if self.ended:
            raise self.ended
        if self.stalled:
            await asyncio.Event().wait()
        data = bytes(data)
        while data:
            await asyncio.sleep(0)
            space = self.framer.space()
            n = min(len(space), len(data), self.chunk)
            space[:n] = data[:n]
            data = data[n:]
            self.framer.took(n)
            while self.framer.next():
                request = (self.framer.tid, self.framer.unit, bytes(self.framer.pdu))
                self.requests.append(request)
                if self.answer:
                    self.answer(self, *request)

    def close(self):
        self.closed = True


class Hal:
    """Its connections are those of `script`: an answer function, or an exception that connecting raises."""

    def __init__(self, *script):
        self.net = self
        self.script = list(script)
        self.streams = []
        self.asked = []
        self.pauses = []
        self.hold = None
        real = hals.get()
        self.ticks_us = real.ticks_us
        self.ticks_ms = real.ticks_ms
        self.ticks_diff = real.ticks_diff

    async def sleep_ms(self, ms):
        self.pauses.append(ms)
        await hals.get().sleep_ms(ms // 50)

    async def tcp(self, ip, port, timeout_ms):
        self.asked.append((ip, port))
        await asyncio.sleep(0)
        if self.hold:
            await self.hold.wait()
        what = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(what, Exception):
            raise what
        self.streams.append(Stream(what))
        return self.streams[-1]


async def resolve(hal, host):
    assert host == "meter.example"
    return ["192.0.2.1"]


def values(stream, tid, unit, pdu):
    """Registers that hold their address."""
    address, count = pdu[1] << 8 | pdu[2], pdu[4]
    data = b"".join([bytes([at >> 8, at & 255]) for at in range(address, address + count)])
    stream.say(adu(tid, unit, bytes([pdu[0], len(data)]) + data))


def play(test, *script, flight=4, resolve=resolve):
    hal = Hal(*script)

    async def main():
        client = TcpClient(hal, "meter.example", 502, resolve, flight)
        try:
            await test(client, hal)
        finally:
            await client.close()
        assert all([stream.closed for stream in hal.streams]), "every connection is closed"
        assert not client._pending and client._free == flight and not client._waiting

    asyncio.run(main())


async def failure(awaitable):
    try:
        await awaitable
    except BusError as error:
        return error
    raise AssertionError("BusError was not raised")


def ask(client, address=7, unit=1, timeout=TIMEOUT):
    return client.read(unit, 3, address, 2, timeout)


def test_it_connects_when_asked_and_reads():
    async def test(client, hal):
        assert not hal.asked
        for address in range(5):
            assert bytes(await ask(client, address)) == bytes([0, address, 0, address + 1])
        assert hal.asked == [("192.0.2.1", 502)]
        stats = client.stats
        assert stats["requests"] == stats["answers"] == 5 and stats["connects"] == 1
        assert stats["sent"] == 60 and stats["received"] == 65
        assert 0 <= client.rtt < TIMEOUT and client.settles_in(1, 3) == 0

    play(test, values)


def test_every_function_is_sent_as_it_is_and_its_answer_taken():
    async def test(client, hal):
        for request, answer in ANSWERS:
            for unit in (0, 1, 247, 255):
                got = await client.transact(unit, request, TIMEOUT)
                assert bytes(got) == answer
                assert hal.streams[0].requests[-1][1:] == (unit, request)

    def server(stream, tid, unit, pdu):
        stream.say(adu(tid, unit, dict(ANSWERS)[pdu]))

    play(test, server)


def test_what_may_not_be_sent_is_refused_before_it_connects():
    async def test(client, hal):
        for request, unit in [(request, 1) for request in BAD] + [(GOOD[0], -1), (GOOD[0], 256)]:
            try:
                await client.transact(unit, request, TIMEOUT)
            except ValueError as error:
                assert str(error)
            else:
                raise AssertionError(request)
        assert not hal.asked

    play(test, values)


def test_exceptions_are_told_with_their_code():
    async def test(client, hal):
        error = await failure(ask(client))
        assert (error.kind, error.code, error.unit, error.fc, error.address, error.count) == (
            "exception",
            11,
            1,
            3,
            7,
            2,
        )

    play(test, lambda stream, tid, unit, pdu: stream.say(adu(tid, unit, b"\x83\x0b")))


def test_several_requests_are_in_flight_and_their_answers_come_in_any_order():
    async def test(client, hal):
        tasks = [asyncio.create_task(ask(client, address)) for address in range(7)]
        for i, task in enumerate(tasks):
            assert bytes(await task) == bytes([0, i, 0, i + 1])
        assert most[0] == 3

    held = []
    most = [0]

    def server(stream, tid, unit, pdu):
        held.append((tid, unit, pdu))
        most[0] = max(most[0], len(held))
        if len(held) == 3 or len(stream.requests) == 7:
            while held:
                values(stream, *held.pop())

    play(test, server, flight=3)


def test_requests_are_written_one_after_the_other():
    async def test(client, hal):
        await ask(client)
        hal.streams[0].chunk = 5
        tasks = [asyncio.create_task(ask(client, address, timeout=1000)) for address in range(4)]
        for i, task in enumerate(tasks):
            assert bytes(await task) == bytes([0, i, 0, i + 1])

    play(test, values)


def test_a_silent_unit_costs_its_request_the_timeout_and_delays_no_other():
    async def test(client, hal):
        dead = asyncio.create_task(failure(ask(client, unit=9, timeout=300)))
        begin = hal.ticks_ms()
        for address in range(10):
            await ask(client, address, timeout=1000)
        assert hal.ticks_diff(hal.ticks_ms(), begin) < 250
        error = await dead
        assert error.kind == "timeout"
        assert 280 <= hal.ticks_diff(hal.ticks_ms(), begin) < 1000
        assert client.stats["errors"]["timeout"] == 1 and client.stats["connects"] == 1

    play(test, lambda stream, tid, unit, pdu: unit == 9 or values(stream, tid, unit, pdu))


def test_an_answer_to_a_request_that_was_given_up_is_dropped():
    async def test(client, hal):
        assert (await failure(ask(client, 1, timeout=SHORT))).kind == "timeout"
        assert bytes(await ask(client, 2)) == b"\0\2\0\3"
        assert client.stats["foreign"] == 1

    late = []

    def server(stream, tid, unit, pdu):
        late.append((tid, unit, pdu))
        if len(late) == 2:
            values(stream, *late[0])
            values(stream, *late[1])

    play(test, server)


def test_only_the_answer_to_the_request_is_an_answer():
    def wrong(change):
        def server(stream, tid, unit, pdu):
            stream.say(change(tid, unit, pdu))

        return server

    for change, kind in (
        (lambda tid, unit, pdu: adu(tid, unit + 1, b"\3\4\0\1\0\2"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\4\4\0\1\0\2"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\3\2\0\1"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\3\4\0\1\0\2\0"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\3\4\0\1\0"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\x80\1"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\x83"), "frame"),
        (lambda tid, unit, pdu: adu(tid, unit, b"\x83\2\0"), "frame"),
        (lambda tid, unit, pdu: adu((tid + 1) & 0xFFFF, unit, b"\3\4\0\1\0\2"), "timeout"),
        (lambda tid, unit, pdu: b"\0\0" + adu(tid, unit, b"\3\4\0\1\0\2"), "link"),
    ):

        async def test(client, hal):
            assert (await failure(ask(client, timeout=SHORT if kind == "timeout" else TIMEOUT))).kind == kind
            assert client.stats["errors"][kind] == 1 and client.stats["answers"] == 0

        play(test, wrong(change))


def test_a_connection_that_ends_fails_what_is_in_flight_at_once():
    for end in (
        lambda stream: stream.end(),
        lambda stream: stream.end(OSError(104)),
        lambda stream: stream.say(b"\x55" * 300),
        lambda stream: stream.say(b"\0\1\0\0\x40\0"),
        lambda stream: stream.say(b"\0\1\0\1\0\2\1\3"),
        lambda stream: stream.say(b"SSH-2.0-dropbear\r\n"),
    ):

        async def test(client, hal):
            begin = hal.ticks_ms()
            tasks = [asyncio.create_task(failure(ask(client, i, timeout=5000))) for i in range(6)]
            for task in tasks:
                assert (await task).kind == "link"
            assert hal.ticks_diff(hal.ticks_ms(), begin) < 1000
            assert client.why and client.stats["errors"]["link"] == 6

        def server(stream, tid, unit, pdu):
            if len(stream.requests) == 3:
                end(stream)

        play(test, server)


def test_after_a_lost_connection_it_fails_at_once_until_the_back_off_is_over_and_then_connects_again():
    async def test(client, hal):
        await ask(client)
        hal.streams[0].end()
        await hals.get().sleep_ms(5)
        begin = hal.ticks_ms()
        for _ in range(5):
            assert (await failure(ask(client, timeout=5000))).kind == "link"
        assert hal.ticks_diff(hal.ticks_ms(), begin) < 10 and len(hal.streams) == 1
        assert hal.pauses == [1000]
        await hals.get().sleep_ms(60)
        assert bytes(await ask(client, 3)) == b"\0\3\0\4"
        assert len(hal.streams) == 2

    play(test, values)


def test_the_back_off_grows_to_half_a_minute_while_nothing_answers_and_begins_anew_after_an_answer():
    async def test(client, hal):
        while len(hal.pauses) < 7:
            assert (await failure(ask(client, timeout=5000))).kind == "link"
            await hals.get().sleep_ms(2)
        assert hal.pauses == [1000, 2000, 4000, 8000, 16000, 30000, 30000]
        while not hal.streams:
            await hals.get().sleep_ms(5)
            try:
                await ask(client)
            except BusError:
                pass
        await ask(client)
        hal.streams[0].end()
        await hals.get().sleep_ms(5)
        assert hal.pauses[-1] == 1000

    refused = [OSError(111) for _ in range(7)]
    play(test, *(refused + [values]))


def test_a_host_without_an_address_and_one_with_several():
    async def nowhere(hal, host):
        return []

    async def test(client, hal):
        assert (await failure(ask(client))).kind == "link"
        assert "address" in client.why

    play(test, values, resolve=nowhere)

    async def broken(hal, host):
        raise OSError("no DNS")

    async def test(client, hal):
        assert (await failure(ask(client))).kind == "link"
        assert client.why == "no DNS"

    play(test, values, resolve=broken)

    async def several(hal, host):
        return ["192.0.2.%d" % i for i in range(1, 9)]

    async def test(client, hal):
        await ask(client)
        assert [ip for ip, _ in hal.asked] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]

    play(test, OSError(1), OSError(2), values, resolve=several)

    async def test(client, hal):
        assert (await failure(ask(client))).kind == "link"
        assert len(hal.asked) == 4

    play(test, OSError(1), resolve=several)


def test_an_attempt_to_connect_is_waited_for_no_longer_than_an_answer():
    async def test(client, hal):
        hal.hold = asyncio.Event()
        begin = hal.ticks_ms()
        assert (await failure(ask(client, timeout=50))).kind == "link"
        assert 40 <= hal.ticks_diff(hal.ticks_ms(), begin) < 500
        waiting = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        hal.hold.set()
        assert bytes(await waiting) == b"\0\7\0\x08"
        assert len(hal.asked) == 1

    play(test, values)


def test_a_server_that_takes_no_more_bytes_costs_the_connection():
    async def test(client, hal):
        await ask(client)
        hal.streams[0].stalled = True
        tasks = [asyncio.create_task(failure(ask(client, i, timeout=SHORT))) for i in range(3)]
        for task in tasks:
            assert (await task).kind in ("timeout", "link")
        assert hal.streams[0].closed, "half a request cannot be taken back"
        await hals.get().sleep_ms(60)
        await ask(client)

    play(test, values)


def test_a_connection_on_which_nothing_answers_any_more_is_given_up():
    async def test(client, hal):
        for connection in range(3):
            for _ in range(6):
                assert (await failure(ask(client, timeout=10))).kind == "timeout"
            await asyncio.sleep(0)
            assert hal.streams[connection].closed and "silent" in client.why
            assert (await failure(ask(client))).kind == "link"
            await hals.get().sleep_ms(120)

    play(test, None, flight=2)


def test_a_unit_that_is_silent_behind_a_gateway_does_not_cost_the_connection():
    async def test(client, hal):
        for _ in range(10):
            assert (await failure(ask(client, unit=9, timeout=10))).kind == "timeout"
            await ask(client)
        assert len(hal.streams) == 1

    play(test, lambda stream, tid, unit, pdu: unit == 9 or values(stream, tid, unit, pdu), flight=1)


def test_a_cancelled_request_leaves_the_client_usable_wherever_it_was():
    for turns in range(14):

        async def test(client, hal):
            others = [asyncio.create_task(ask(client, i, timeout=1000)) for i in range(2)]
            task = asyncio.create_task(ask(client, 9, timeout=1000))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            for i, other in enumerate(others):
                try:
                    assert bytes(await other) == bytes([0, i, 0, i + 1])
                except BusError as error:
                    assert error.kind == "link", "it was given up while it was written"
            while True:
                try:
                    assert bytes(await ask(client, 5)) == b"\0\5\0\6"
                    break
                except BusError as error:
                    assert error.kind == "link"
                    await hals.get().sleep_ms(5)

        play(test, values, flight=2)


def test_closing_fails_what_is_in_flight_and_all_that_comes_later():
    for turns in range(14):

        async def test(client, hal):
            begin = hal.ticks_ms()
            task = asyncio.create_task(failure(ask(client, timeout=5000)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            assert (await task).kind == "link"
            assert (await failure(ask(client, timeout=5000))).kind == "link"
            assert hal.ticks_diff(hal.ticks_ms(), begin) < 1000

        play(test, None)


def test_transaction_ids_wrap_around():
    async def test(client, hal):
        client._tid = 0xFFFD
        for address in range(6):
            assert bytes(await ask(client, address)) == bytes([0, address, 0, address + 1])
        assert [request[0] for request in hal.streams[0].requests] == [0xFFFE, 0xFFFF, 0, 1, 2, 3]

    play(test, values)


def test_a_flood_of_answers_nobody_asked_for_is_dropped():
    async def test(client, hal):
        await ask(client)
        hal.streams[0].say(adu(99, 1, b"\3\4\0\0\0\0") * 500)
        assert bytes(await ask(client, 3)) == b"\0\3\0\4"
        assert client.stats["foreign"] == 500

    play(test, values)


def test_memory_does_not_grow():
    if not hasattr(gc, "mem_alloc"):
        return

    async def test(client, hal):
        async def many(n):
            for i in range(n):
                if i % 10:
                    await ask(client)
                else:
                    await failure(ask(client, unit=9, timeout=8))
                hal.streams[0].requests.clear()
            gc.collect()
            return gc.mem_alloc()

        await many(50)
        before = await many(50)
        assert await many(400) <= before + 2000  # some is still held from the stack

    play(test, lambda stream, tid, unit, pdu: unit == 9 or values(stream, tid, unit, pdu))


def test_errors_name_the_request():
    async def test(client, hal):
        error = await failure(client.transact(3, b"\x06\x00\x10\x12\x34", TIMEOUT))
        assert "unit 3, function 6, address 16, count 1: link" == str(error) and error.quality == "link"

    play(test, OSError(111))
