from bus_fakes import Hal, Port, frame, registers, run
from check import raises
from coupler.bus.client import Client
from coupler.bus.errors import BusError

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


def test_coils_are_read_as_packed_bits():
    client, port, _ = make([(5, frame(3, 1, 2, b"\x05\x01"))])
    assert read(client, unit=3, fc=1, address=0, count=9) == b"\x05\x01"
    assert port.sent == [frame(3, 1, b"\x00\x00\x00\x09")]


def test_what_cannot_be_asked_is_refused_before_anything_is_sent():
    client, port, _ = make([])
    for request in ({"unit": 0}, {"unit": 248}, {"count": 126}, {"fc": 6}, {"address": 65535}):
        raises(ValueError, lambda: read(client, **request))
    assert not port.sent


def test_a_second_request_at_the_same_time_is_a_mistake():
    client, port, _ = make([(5, ANSWER)])
    raised = []

    async def meanwhile(frame):
        raised.append(raises(RuntimeError, lambda: read(client)))
        raise OSError

    send, port.send = port.send, meanwhile
    raises(OSError, lambda: read(client))
    assert raised
    port.send = send
    assert read(client) == b"\x12\x34\x56\x78", "the bus is free again after the error"
