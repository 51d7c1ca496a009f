from bus_fakes import frame, registers
from coupler.bus import rtu


def receive(receiver, *pieces):
    state = rtu.PENDING
    for piece in pieces:
        receiver.space()[: len(piece)] = piece
        state = receiver.took(len(piece))
        if state != rtu.PENDING:
            break
    return state


def expecting(unit, fc, size, echo=None):
    receiver = rtu.Receiver()
    receiver.expect(unit, fc, size, echo)
    return receiver


ANSWER = registers(17, 4, 0x1234, 0x5678)
DATA = b"\x12\x34\x56\x78"


def test_crc_of_published_frames():
    # The check value of CRC-16/MODBUS, and the request that the libmodbus manual and simplymodbus.ca show.
    assert rtu.crc16(b"123456789") == 0x4B37
    assert frame(0x11, 0x03, b"\x00\x6b\x00\x03") == b"\x11\x03\x00\x6b\x00\x03\x76\x87"
    assert rtu.crc16(b"") == 0xFFFF
    assert rtu.crc16(memoryview(b"\x11\x03\x00\x6b\x00\x03\x76\x87")) == 0


def test_a_clean_answer_gives_its_data():
    receiver = expecting(17, 4, 4)
    assert receive(receiver, ANSWER) == rtu.ANSWER
    assert bytes(receiver.data) == DATA


def test_an_answer_may_come_in_any_pieces():
    for cut in range(1, len(ANSWER)):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, ANSWER[:cut]) == rtu.PENDING
        assert receiver.quiet() == rtu.PENDING, "a gap is no end"
        assert receive(receiver, ANSWER[cut:]) == rtu.ANSWER
        assert bytes(receiver.data) == DATA
    receiver = expecting(17, 4, 4)
    assert receive(receiver, *[ANSWER[i : i + 1] for i in range(len(ANSWER))]) == rtu.ANSWER


def test_an_exception_gives_its_code():
    receiver = expecting(17, 4, 4)
    assert receive(receiver, frame(17, 0x84, 2)) == rtu.EXCEPTION
    assert receiver.code == 2


def test_stray_bytes_before_an_answer_are_skipped():
    for stray in (b"\x00", b"\xff", b"\x11", b"\x11\x04", b"\x11\x04\x04", b"\x11\x84", b"\x11\x11\x11", bytes(100)):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, stray + ANSWER) == rtu.ANSWER, stray
        assert bytes(receiver.data) == DATA


def test_a_false_start_hides_an_exception_only_until_the_line_is_quiet():
    receiver = expecting(17, 4, 40)
    assert receive(receiver, b"\x11\x04\x28" + frame(17, 0x84, 6)) == rtu.PENDING
    assert receiver.quiet() == rtu.EXCEPTION
    assert receiver.code == 6


def test_data_that_looks_like_an_exception_is_data():
    data = b"\x00" + frame(17, 0x84, 2) + b"\x00\x00"
    answer = frame(17, 4, len(data), data)
    receiver = expecting(17, 4, len(data))
    for i in range(len(answer) - 1):
        assert receive(receiver, answer[i : i + 1]) == rtu.PENDING
    assert receive(receiver, answer[-1:]) == rtu.ANSWER
    assert bytes(receiver.data) == data


def test_answers_to_something_else_are_refused():
    for other in (
        registers(18, 4, 1, 2),  # unit
        registers(17, 3, 1, 2),  # function
        registers(17, 4, 1),  # byte count
        registers(17, 4, 1, 2, 3),
        frame(17, 0x83, 2),
        frame(17, 0x80, 1),  # pymodbus 3.16.1's idea of an exception
        frame(0, 4, 4, DATA),
    ):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, other) == rtu.PENDING, other
        assert receiver.quiet() == rtu.PENDING, other
        assert receiver.foreign == 1
        assert receive(receiver, ANSWER) == rtu.ANSWER, other
        assert bytes(receiver.data) == DATA


def test_a_flipped_bit_anywhere_is_noticed():
    for i in range(8 * len(ANSWER)):
        broken = bytearray(ANSWER)
        broken[i >> 3] ^= 1 << (i & 7)
        receiver = expecting(17, 4, 4)
        assert receive(receiver, broken) == rtu.PENDING
        assert receiver.quiet() in (rtu.BROKEN, rtu.PENDING)
        assert receiver.data is None


def test_a_broken_answer_is_given_up_when_the_line_is_quiet():
    receiver = expecting(17, 4, 4)
    assert receive(receiver, ANSWER[:-1] + b"\x00") == rtu.PENDING
    assert receiver.quiet() == rtu.BROKEN


def test_an_announced_echo_is_no_noise():
    request = frame(17, 4, b"\x00\x34\x00\x02")
    for cut in range(len(request) + 1):
        receiver = expecting(17, 4, 4, request)
        assert receive(receiver, request[:cut], request[cut:]) == rtu.PENDING
        assert receiver.bytes() == 0
        assert receive(receiver, ANSWER) == rtu.ANSWER


def test_an_echo_nobody_announced_is_skipped_too():
    # The request's address begins like the byte count of its answer.
    for request in (frame(17, 4, b"\x04\x34\x00\x02"), frame(17, 4, b"\x00\x34\x00\x02")):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, request + ANSWER) == rtu.ANSWER
        receiver = expecting(17, 4, 4)
        assert receive(receiver, request) == rtu.PENDING
        assert receiver.quiet() == rtu.PENDING
        assert receive(receiver, ANSWER) == rtu.ANSWER


def test_endless_noise_never_fills_the_receiver():
    receiver = expecting(17, 4, 250)
    for i in range(3000):
        space = receiver.space()
        assert len(space) >= 32
        space[0] = i * 7 & 255
        space[1] = 17
        assert receiver.took(2) == rtu.PENDING
    assert receiver.bytes() == 6000
    big = frame(17, 4, 250, bytes(250))
    for i in range(0, len(big), 16):
        state = receive(receiver, big[i : i + 16])
    assert state == rtu.ANSWER and bytes(receiver.data) == bytes(250)
