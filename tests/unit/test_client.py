import gc

from bus_fakes import Hal, Port, frame, registers, run
from check import raises
from coupler.bus import request as requests
from coupler.bus.client import Client
from coupler.bus.errors import BusError
from test_pdu import ANSWERS, BAD, GOOD

ANSWER = registers(17, 4, 0x1234, 0x5678)


def make(*script, **options):
    """A client on a port that plays one entry of the script for each request; the last one again and again."""
    hal = Hal()
    left = list(script)

    def answer(_):
        return left.pop(0) if len(left) > 1 else left[0]

    port = Port(hal, answer, **options)
    return Client(port, hal), port, hal


def read(client, unit=17, fc=4, address=52, count=2, timeout=500):
    return bytes(run(client.read(unit, fc, address, count, timeout)))


def failure(client, **request):
    return raises(BusError, lambda: read(client, **request))


def test_a_read_sends_one_frame_and_returns_the_registers():
    client, port, _ = make([(20, ANSWER)])
    assert read(client) == b"\x12\x34\x56\x78"
    assert port.sent == [frame(17, 4, b"\x00\x34\x00\x02")]
    stats = client.stats
    assert stats["requests"] == stats["answers"] == 1
    assert stats["sent"] == 8 and stats["received"] == 9
    assert stats["rtt_min"] == stats["rtt_mean"] == stats["rtt_max"] and 24 <= stats["rtt_max"] <= 26


def test_silence_is_a_timeout_after_the_configured_time():
    client, port, hal = make([])
    begin = hal.us
    error = failure(client)
    assert error.kind == error.quality == "timeout"
    assert "unit 17" in str(error) and "address 52" in str(error)
    assert 500 <= (hal.us - begin) / 1000 <= 520
    assert len(port.sent) == 1, "a missing answer is not asked for again at once"
    assert client.stats["errors"]["timeout"] == 1


def test_the_timeout_is_the_devices_and_does_not_count_the_time_on_the_wire():
    # 125 registers at 2400 baud take 1.2 s to come in.
    client, _, _ = make([(490 + 1170, registers(17, 4, *([7] * 125)))], char_us=4584)
    assert len(read(client, count=125)) == 250


def test_an_exception_is_told_with_its_code():
    client, port, _ = make([(5, frame(17, 0x84, 2))])
    error = failure(client)
    assert (error.kind, error.code, error.quality) == ("exception", 2, "exception:2")
    assert "illegal data address" in str(error)
    assert len(port.sent) == 1


def test_a_broken_answer_is_asked_for_once_more_without_waiting_for_the_timeout():
    client, port, hal = make([(5, ANSWER[:-1] + b"\x00")], [(5, ANSWER)])
    begin = hal.us
    assert read(client) == b"\x12\x34\x56\x78"
    assert len(port.sent) == 2 and hal.us - begin < 100000
    assert client.stats["retries"] == client.stats["errors"]["crc"] == 1


def test_retries_are_bounded():
    client, port, _ = make([(5, ANSWER[:-1] + b"\x00")])
    assert failure(client).kind == "crc"
    assert len(port.sent) == 2


def test_a_frame_from_another_unit_is_never_taken():
    client, _, _ = make([(5, registers(18, 4, 1, 2))])
    assert failure(client).kind == "frame"
    assert client.stats["foreign"] == 1
    client, _, _ = make([(5, registers(18, 4, 1, 2)), (100, ANSWER)])
    assert read(client) == b"\x12\x34\x56\x78"


def test_stray_bytes_and_gaps_do_no_harm():
    client, port, _ = make([(1, b"\xff"), (30, ANSWER[:3]), (70, ANSWER[3:4]), (160, ANSWER[4:])])
    assert read(client) == b"\x12\x34\x56\x78"
    assert len(port.sent) == 1


def test_noise_without_end_does_not_hold_the_bus():
    client, _, hal = make([(ms, b"\x55" * 3) for ms in range(1, 2000, 2)])
    begin = hal.us
    assert failure(client).kind == "crc"
    assert hal.us - begin < 1200000


def test_an_echoing_transceiver_is_understood():
    client, _, _ = make([(20, ANSWER)], echo=True)
    assert read(client) == b"\x12\x34\x56\x78"
    client, _, _ = make([], echo=True)
    assert failure(client).kind == "timeout"


def test_a_late_answer_is_never_taken_for_the_next_one():
    late = registers(17, 4, 0xDEAD, 0xDEAD)
    for delay in (510, 520, 600, 900, 1200, 1400):
        client, port, hal = make([(delay, late)], [(30, ANSWER)])
        failure(client)
        assert client.settles_in(17, 4) > 0
        assert read(client, address=60) == b"\x12\x34\x56\x78", delay
        assert len(port.sent) == 2 and client.settles_in(17, 4) == 0


def test_a_late_answer_that_came_ends_the_waiting():
    client, _, hal = make([(600, ANSWER)], [(30, ANSWER)])
    begin = hal.us
    failure(client)
    read(client)
    assert hal.us - begin < 700000


def test_a_late_answer_delays_no_other_unit_and_no_other_function():
    for unit, fc in ((18, 4), (17, 3)):
        late = registers(17, 4, 0xDEAD, 0xDEAD)
        client, _, hal = make([(520, late)], [(40, registers(unit, fc, 1, 2))])
        failure(client)
        assert client.settles_in(unit, fc) == 0
        begin = hal.us
        assert read(client, unit=unit, fc=fc) == b"\x00\x01\x00\x02"
        assert hal.us - begin < 60000


def test_a_late_exception_is_never_taken_for_the_next_one():
    client, _, _ = make([(700, frame(17, 0x84, 4))], [(30, ANSWER)])
    failure(client)
    assert read(client, address=60) == b"\x12\x34\x56\x78"


def test_a_late_answer_is_waited_for_even_when_the_reader_was_cancelled():
    client, port, hal = make([(300, ANSWER)], [(30, registers(17, 4, 1, 2))])

    async def cancelled(timeout_ms):
        raise KeyboardInterrupt

    wait, port.wait = port.wait, cancelled
    raises(KeyboardInterrupt, read, client)
    port.wait = wait
    assert read(client, address=60) == b"\x00\x01\x00\x02"


def test_a_cancelled_request_may_be_answered_as_late_as_any():
    client, port, hal = make([(1400, ANSWER)], [(30, registers(17, 4, 1, 2))])

    async def cancelled(timeout_ms):
        raise KeyboardInterrupt

    wait, port.wait = port.wait, cancelled
    raises(KeyboardInterrupt, read, client)
    port.wait = wait
    assert client.settles_in(17, 4) >= 1500
    assert read(client, address=60) == b"\x00\x01\x00\x02"


def test_coils_are_read_as_packed_bits():
    client, port, _ = make([(5, frame(3, 1, 2, b"\x05\x01"))])
    assert read(client, unit=3, fc=1, address=0, count=9) == b"\x05\x01"
    assert port.sent == [frame(3, 1, b"\x00\x00\x00\x09")]


def test_what_cannot_be_asked_is_refused_before_anything_is_sent():
    client, port, _ = make([])
    for request in ({"unit": 0}, {"unit": 248}, {"count": 126}, {"fc": 6}, {"address": 65535}):
        raises(ValueError, lambda: read(client, **request))
    assert not port.sent


# --- writes and the other functions


def transact(client, request, unit=17, timeout=500):
    answer = run(client.transact(unit, request, timeout))
    return answer if answer is None else bytes(answer)


def test_every_function_is_sent_as_it_is_and_its_answer_taken():
    for request, answer in ANSWERS:
        client, port, _ = make([(20, frame(17, answer))])
        assert transact(client, request) == answer
        assert transact(client, memoryview(bytearray(request))) == answer
        assert port.sent == [frame(17, request)] * 2
        assert client.stats["answers"] == 2 and client.stats["busy_us"] >= 40000


def test_an_identification_is_read_in_any_pieces():
    request = b"\x2b\x0e\x04\x01"
    answer = frame(17, request[:3], b"\x01\x00\x00\x01\x01\x07Product")
    for cut in range(1, len(answer)):
        client, _, _ = make([(20, answer[:cut]), (60, answer[cut:])])
        assert transact(client, request) == answer[1:-2]
    other = frame(17, request[:3], b"\x01\x00\x00\x01\x02\x07Product")
    client, _, _ = make([(20, other)])
    assert raises(BusError, lambda: transact(client, request)).kind == "frame"


def test_what_may_not_be_sent_is_refused_before_anything_is_sent():
    client, port, _ = make([])
    for request in BAD:
        raises(ValueError, lambda: transact(client, request))
    for unit in (-1, 248, 255):
        raises(ValueError, lambda: transact(client, GOOD[0], unit))
    for request in GOOD:
        if request[0] not in (5, 6, 15, 16, 22):
            raises(ValueError, lambda: transact(client, request, 0))
    assert not port.sent


def test_exceptions_are_told_by_name():
    for code, name in (
        (1, "illegal function"),
        (5, "acknowledge"),
        (6, "device busy"),
        (8, "memory parity error"),
        (10, "gateway path unavailable"),
        (11, "gateway target did not respond"),
        (7, "unknown"),
        (255, "unknown"),
    ):
        client, port, _ = make([(5, frame(17, 0x90, code))])
        error = raises(BusError, lambda: transact(client, b"\x10\x00\x07\x00\x01\x02\x00\x01"))
        assert (error.kind, error.code, error.address, error.count) == ("exception", code, 7, 1)
        assert "exception %d (%s)" % (code, name) in str(error)
        assert len(port.sent) == 1


def test_a_write_is_confirmed_by_nothing_but_its_own_answer():
    for request, answer in ANSWERS:
        if request[0] not in (5, 6, 15, 16, 22):
            continue
        for i in range(len(answer)):
            wrong = bytearray(answer)
            wrong[i] ^= 2
            client, _, _ = make([(20, frame(17, bytes(wrong)))])
            assert raises(BusError, lambda: transact(client, request)).kind == "frame", (request, i)
            client, _, _ = make([(20, frame(17, bytes(wrong))), (90, frame(17, answer))])
            assert transact(client, request) == answer


def test_a_broken_answer_is_asked_for_again_only_if_that_changes_nothing():
    for request, answer in ANSWERS:
        broken = frame(17, answer)[:-1] + b"?"
        client, port, _ = make([(20, broken)], [(20, frame(17, answer))])
        if request[0] <= 4:
            assert transact(client, request) == answer
            assert len(port.sent) == 2
        else:
            assert raises(BusError, lambda: transact(client, request)).kind == "crc"
            assert len(port.sent) == 1 and client.stats["retries"] == 0
    request = b"\x2b\x0e\x01\x00"
    answer = frame(17, request[:3], b"\x01\x00\x00\x01\x00\x07Company")
    client, port, _ = make([(20, answer[:-1] + b"?")], [(20, answer)])
    assert transact(client, request) == answer[1:-2] and len(port.sent) == 2


def test_a_broadcast_is_sent_once_and_the_bus_left_to_the_devices():
    client, port, hal = make([(3, registers(5, 6, 1, 2))])
    for request in (
        b"\x05\0\1\xff\0",
        b"\x06\0\1\0\7",
        b"\x0f\0\1\0\1\1\1",
        b"\x10\0\1\0\1\2\0\7",
        b"\x16\0\1\0\1\0\1",
    ):
        begin = hal.us
        assert transact(client, request, 0, 100) is None
        assert 100 <= (hal.us - begin) / 1000 <= 115
        assert port.sent[-1] == frame(0, request)
    assert port.count == client.stats["requests"] == 5
    assert client.stats["answers"] == 0 and client.settles_in(0, 6) == 0


# --- answers that come too late, or twice

# (request that went unanswered, its answer, [requests that wait for it], [requests that need not])
SHAPES = (
    (
        b"\x03\0\1\0\2",
        b"\x03\4\xde\xad\xde\xad",
        [b"\x03\0\1\0\2", b"\x03\x12\x34\0\2"],
        [b"\x03\0\1\0\3", b"\x04\0\1\0\2", b"\x06\0\1\0\2", b"\x17\0\1\0\2\0\1\0\1\2\0\0"],
    ),
    (b"\x01\0\1\0\x09", b"\x01\2\xff\1", [b"\x01\0\7\0\x10"], [b"\x01\0\1\0\x08", b"\x02\0\1\0\x09"]),
    (
        b"\x06\0\1\0\2",
        b"\x06\0\1\0\2",
        [b"\x06\0\1\0\2"],
        [b"\x06\0\1\0\3", b"\x06\0\2\0\2", b"\x03\0\1\0\2"],
    ),
    (
        b"\x10\0\1\0\1\2\0\2",
        b"\x10\0\1\0\1",
        [b"\x10\0\1\0\1\2\7\7"],
        [b"\x10\0\1\0\2\4\0\2\0\2", b"\x10\0\2\0\1\2\0\2", b"\x06\0\1\0\1"],
    ),
    (b"\x05\0\1\xff\0", b"\x05\0\1\xff\0", [b"\x05\0\1\xff\0"], [b"\x05\0\1\0\0"]),
    (
        b"\x2b\x0e\1\0",
        b"\x2b\x0e\1\1\0\0\1\0\3old",
        [b"\x2b\x0e\1\0"],
        [b"\x2b\x0e\2\0", b"\x03\0\1\0\2"],
    ),
)


def answer_to(request):
    head, size = requests.answer(request)
    return head + (bytes(range(1, 1 + size - len(head))) if size else b"\1\0\0\1\0\3new")


def due(request):
    """Milliseconds after which an answer is late."""
    return 501 + 0.573 * (requests.answer(request)[1] + 3 if requests.answer(request)[1] else 256 + 1)


def test_a_late_answer_is_never_taken_for_another_of_its_shape():
    for request, late, same, _ in SHAPES:
        for again in same:
            for delay in (10, 200, 600, 980):
                right = answer_to(again)
                client, port, hal = make([(due(request) + delay, frame(17, late))], [(40, frame(17, right))])
                assert raises(BusError, lambda: transact(client, request)).kind == "timeout"
                begin = hal.us
                assert transact(client, again) == right, (request, again)
                waited = (hal.us - begin) / 1000
                assert delay <= waited <= delay + 90, "it waits until that came and no longer"
                assert client.settles_in(17, request[0]) == 0 and len(port.sent) == 2


def test_a_late_answer_that_never_comes_is_waited_for_as_long_as_it_may_come():
    for request, _, same, _ in SHAPES:
        client, _, hal = make([], [(40, frame(17, answer_to(same[0])))])
        raises(BusError, lambda: transact(client, request))
        begin = hal.us
        transact(client, same[0])
        assert 1000 <= (hal.us - begin) / 1000 <= 1400


def test_a_late_answer_delays_no_request_of_another_shape_and_is_skipped():
    for request, late, _, others in SHAPES:
        for other in others:
            right = answer_to(other)
            for delay in (2, 20, 35, 70):
                client, _, hal = make([(due(request) + delay, frame(17, late))], [(60, frame(17, right))])
                raises(BusError, lambda: transact(client, request))
                begin = hal.us
                assert transact(client, other) == right, (request, other, delay)
                assert (hal.us - begin) / 1000 <= 90


def test_a_late_answer_that_came_during_another_request_is_not_waited_for():
    client, _, hal = make([(560, ANSWER)], [(200, registers(18, 4, 1, 2))], [(20, registers(17, 4, 3, 4))])
    failure(client)
    assert read(client, unit=18) == b"\0\1\0\2"
    assert client.settles_in(17, 4) == 0 and client.stats["foreign"] == 1
    begin = hal.us
    assert read(client) == b"\0\3\0\4"
    assert hal.us - begin < 40000


def test_a_late_exception_does_not_hide_the_answer_to_another_request():
    # Both begin alike, so which request it refuses shows only when an answer follows.
    right = registers(17, 4, 1, 2, 3)
    client, _, _ = make([(540, frame(17, 0x84, 6))], [(80, right)])
    failure(client)
    assert read(client, count=3) == right[3:-2]
    # None follows: it may have been this request's, and any answer may still come.
    client, _, hal = make([], [(20, frame(17, 0x84, 2))], [(20, right)])
    failure(client)
    error = failure(client, count=3)
    assert (error.kind, error.code) == ("exception", 2)
    assert client.settles_in(17, 4) > 900
    begin = hal.us
    assert read(client, count=3) == right[3:-2]
    assert hal.us - begin > 900000


def test_an_answer_that_comes_twice_is_no_answer_to_the_next_request():
    # hal.port sends only after 3.5 silent characters and drops what came before; while it sends, nothing is heard. So a
    # second copy that begins before the next request is out is not taken for its answer.
    again = registers(17, 4, 0xDEAD, 0xDEAD)
    for gap in range(0, 60):
        for pause in (0, 1, 20, 200):
            script = [(20, again), (20 + 9 * 0.573 + gap / 10, again)], [(30, ANSWER)], [(30, again)]
            client, port, hal = make(*script, silence_us=2005)
            assert read(client, address=1) == again[3:-2]
            hal.us += 1000 * pause
            assert read(client, address=60) == b"\x12\x34\x56\x78", (gap, pause)
            assert read(client, address=1) == again[3:-2]


def test_noise_as_long_as_an_answer_is_not_taken_for_a_broken_one():
    # Asking again would bring two answers, and the second would be the next request's.
    for noise in (b"\x55" * 9, b"\x55" * 30, registers(17, 4, 7, 7)[2:], b"\x11\x04\x04" + bytes(5)):
        client, port, hal = make([(20, noise), (400, ANSWER)], [(30, registers(17, 4, 1, 2))])
        assert read(client) == b"\x12\x34\x56\x78"
        assert read(client, address=60) == b"\0\1\0\2"
        assert len(port.sent) == 2
        client, port, hal = make([(20, noise), (900, ANSWER)], [(30, registers(17, 4, 1, 2))])
        assert failure(client).kind == "crc"
        assert read(client, address=60) == b"\0\1\0\2"


def test_a_late_exception_is_the_oldest_requests():
    # The first request's, so the second one's answer is still to come and must not confirm the third.
    write = b"\x06\0\2\0\7"
    client, _, _ = make([(1015, frame(17, 0x86, 1))], [(554, frame(17, write))], [])
    for request in (b"\x06\0\0\0\7", write, write):
        assert raises(BusError, lambda: transact(client, request)).kind == "timeout"


def test_a_repeated_write_waits_for_the_answer_to_the_first():
    # Else the late answer to the first would confirm the second, which may have been lost.
    write = b"\x06\0\1\0\2"
    client, _, _ = make([(700, frame(17, write))], [])
    assert raises(BusError, lambda: transact(client, write)).kind == "timeout"
    assert raises(BusError, lambda: transact(client, write)).kind == "timeout"


# --- transceivers that hand back what is sent


def test_an_echo_is_learnt_from_reads():
    client, port, _ = make([(20, ANSWER)], echo=None, echoes=True)
    for _ in range(3):
        assert port.echo is None
        assert read(client) == b"\x12\x34\x56\x78"
    assert port.echo is True
    assert client.stats["foreign"] == 0


def test_that_there_is_no_echo_is_learnt_from_a_clean_answer_or_from_nothing():
    for script, learnt in (
        ([(20, ANSWER)], False),
        ([], False),
        ([(20, frame(17, 0x84, 2))], False),
        ([(5, b"\x55"), (20, ANSWER)], None),
        ([(20, ANSWER[:-1] + b"?")], None),
        ([(5, b"\x55")], None),
    ):
        client, port, _ = make(script, echo=None)
        try:
            read(client)
        except BusError:
            pass
        assert port.echo is learnt, script


def test_neither_an_unanswered_read_nor_a_write_teaches_that_there_is_an_echo():
    client, port, _ = make([], echo=None, echoes=True)
    for _ in range(5):
        failure(client)
    assert port.echo is None
    # A device that answers twice, on a line where the read that asks is disturbed.
    write = b"\x06\0\1\0\7"
    client, port, hal = live(
        lambda sent: [(20, frame(17, write))] * 2 if sent[1] == 6 else [(20, b"\xff")], echo=None, echoes=False
    )
    for _ in range(5):
        transact(client, write)
        hal.us += 2000000
    assert port.echo is None


WRITES = (b"\x05\0\1\xff\0", b"\x06\0\1\0\7", b"\x16\0\1\0\1\0\1", b"\x0f\0\1\0\1\1\1", b"\x10\0\1\0\1\2\0\7")


def server(alive=True, writes=True):
    """Answers reads of one coil or register, and writes."""

    def play(request):
        if not alive:
            return []
        if request[1] <= 4:
            size = 1 if request[1] <= 2 else 2
            return [(20, frame(17, request[1], size, bytes(size)))]
        return [(20, frame(17, requests.answer(request[1:-2])[0]))] if writes else []

    return play


def live(play, **options):
    hal = Hal()
    port = Port(hal, play, **options)
    return Client(port, hal), port, hal


def test_the_echo_of_a_write_is_never_taken_for_its_answer():
    for write in WRITES:
        for echo, echoes in ((True, True), (None, True), (False, False), (None, False)):
            for before in (0, 1, 3):
                for writes in (True, False):
                    client, _, _ = live(server(writes=writes), echo=echo, echoes=echoes)
                    for _ in range(before):
                        read(client, fc=3, count=1)
                    if writes:
                        assert transact(client, write) == requests.answer(write)[0], (write, echo, echoes, before)
                    else:
                        error = raises(BusError, lambda: transact(client, write))
                        assert error.kind == "timeout", (write, echo, echoes, before)


def test_a_write_to_a_dead_unit_tells_so_whether_or_not_there_is_an_echo():
    for write in WRITES:
        for echoes in (True, False):
            client, _, _ = live(server(alive=False), echo=None, echoes=echoes)
            assert raises(BusError, lambda: transact(client, write)).kind == "timeout"


def test_the_question_is_asked_once_and_with_a_read_only():
    client, port, _ = live(server(), echo=None, echoes=False)
    transact(client, WRITES[0])
    transact(client, WRITES[1])
    assert [sent[1] for sent in port.sent] == [1, 5, 6]


def test_figures():
    client, _, _ = make([(20, ANSWER)], [], [(20, frame(17, 0x84, 2))], [(10, ANSWER)])
    read(client)
    failure(client)
    failure(client, count=3)
    read(client, count=2)
    stats = client.stats
    assert stats["requests"] == 4 and stats["answers"] == 2
    assert stats["errors"] == {"timeout": 1, "crc": 0, "exception": 1, "frame": 0, "link": 0}
    assert stats["rtt_min"] < stats["rtt_max"] and client.rtt == stats["rtt_min"]
    assert stats["busy_us"] > 500000


def collects():
    """Whether what is not needed can be told from what is: not on CPython, nor inside the build for browsers."""
    if not hasattr(gc, "mem_alloc"):
        return False
    before = gc.mem_alloc()
    for _ in range(100):
        bytearray(1000)
    gc.collect()
    return gc.mem_alloc() < before + 50000


def test_memory_does_not_grow_with_the_number_of_transactions():
    if not collects():
        return
    hal = Hal()
    port = Fast(frame(17, 3, 100, bytes(100)))
    client = Client(port, hal)

    def many(n):
        for _ in range(n):
            run(client.read(17, 3, 100, 50, 500))
        gc.collect()
        return gc.mem_alloc()

    many(1000)
    assert many(1000) == many(100000)


class Fast:
    """Answers at once, always the same."""

    char_us = 573
    echo = False

    def __init__(self, answer):
        self.answer = answer

    async def send(self, frame):
        pass

    async def wait(self, timeout_ms):
        return True

    def readinto(self, view):
        n = len(self.answer)
        view[:n] = self.answer
        return n
