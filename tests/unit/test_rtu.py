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
    receiver.expect(bytes([unit, fc, size]), size + 5, echo)
    return receiver


def data(receiver):
    return bytes(receiver.frame[3:-2])


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
    assert data(receiver) == DATA


def test_an_answer_may_come_in_any_pieces():
    for cut in range(1, len(ANSWER)):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, ANSWER[:cut]) == rtu.PENDING
        assert receiver.quiet() == rtu.PENDING, "a gap is no end"
        assert receive(receiver, ANSWER[cut:]) == rtu.ANSWER
        assert data(receiver) == DATA
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
        assert data(receiver) == DATA


def test_a_false_start_hides_an_exception_only_until_the_line_is_quiet():
    receiver = expecting(17, 4, 40)
    assert receive(receiver, b"\x11\x04\x28" + frame(17, 0x84, 6)) == rtu.PENDING
    assert receiver.quiet() == rtu.EXCEPTION
    assert receiver.code == 6


def test_data_that_looks_like_an_exception_is_data():
    text = b"\x00" + frame(17, 0x84, 2) + b"\x00\x00"
    answer = frame(17, 4, len(text), text)
    receiver = expecting(17, 4, len(text))
    for i in range(len(answer) - 1):
        assert receive(receiver, answer[i : i + 1]) == rtu.PENDING
    assert receive(receiver, answer[-1:]) == rtu.ANSWER
    assert data(receiver) == text


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
        assert receiver.quiet() == rtu.FOREIGN, other
        assert receiver.foreign == 1 and bytes(receiver.frame) == other
        assert receiver.quiet() == rtu.PENDING and receiver.bytes() == 0
        assert receive(receiver, ANSWER) == rtu.ANSWER, other
        assert data(receiver) == DATA


def test_a_flipped_bit_anywhere_is_noticed():
    for i in range(8 * len(ANSWER)):
        broken = bytearray(ANSWER)
        broken[i >> 3] ^= 1 << (i & 7)
        receiver = expecting(17, 4, 4)
        assert receive(receiver, broken) == rtu.PENDING
        assert receiver.quiet() in (rtu.BROKEN, rtu.PENDING)
        assert not receiver.frame


def test_a_broken_answer_is_given_up_when_the_line_is_quiet():
    receiver = expecting(17, 4, 4)
    assert receive(receiver, ANSWER[:-1] + b"\x00") == rtu.PENDING
    assert receiver.quiet() == rtu.BROKEN


def test_an_announced_echo_is_no_noise():
    request = frame(17, 4, b"\x00\x34\x00\x02")
    for cut in range(len(request) + 1):
        receiver = expecting(17, 4, 4, request)
        assert not receiver.echoed
        assert receive(receiver, request[:cut], request[cut:]) == rtu.PENDING
        assert receiver.bytes() == 0 and receiver.echoed
        assert receive(receiver, ANSWER) == rtu.ANSWER


def test_an_echo_nobody_announced_is_skipped_too():
    # The request's address begins like the byte count of its answer.
    for request in (frame(17, 4, b"\x04\x34\x00\x02"), frame(17, 4, b"\x00\x34\x00\x02")):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, request + ANSWER) == rtu.ANSWER
        receiver = expecting(17, 4, 4)
        assert receive(receiver, request) == rtu.PENDING
        assert receiver.quiet() in (rtu.PENDING, rtu.FOREIGN)
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
    assert state == rtu.ANSWER and data(receiver) == bytes(250)


COIL = frame(17, 5, b"\x00\xac\xff\x00")


def writing(request, size=8, echo=None):
    receiver = rtu.Receiver()
    receiver.expect(request[: size - 2], size, echo)
    return receiver


def test_a_write_is_answered_by_its_fields():
    many = frame(17, 16, b"\x00\x01\x00\x02\x04\x00\x0a\x01\x02")
    for request, answer in ((COIL, COIL), (many, frame(17, 16, b"\x00\x01\x00\x02"))):
        for cut in range(len(answer)):
            receiver = writing(request)
            assert receive(receiver, answer[:cut]) == rtu.PENDING
            assert receive(receiver, b"", answer[cut:]) == rtu.ANSWER
            assert bytes(receiver.frame) == answer
        for i in range(2, 6):
            other = bytearray(answer[:-2])
            other[i] ^= 1
            receiver = writing(request)
            assert receive(receiver, frame(bytes(other))) == rtu.PENDING, "it is sound, but answers something else"
            assert receiver.quiet() == rtu.FOREIGN
            assert receive(receiver, answer) == rtu.ANSWER


def test_an_echo_that_looks_like_the_answer_is_not_taken_for_it():
    for cut in range(len(COIL)):
        receiver = writing(COIL, 8, COIL)
        assert receive(receiver, COIL[:cut], COIL[cut:]) == rtu.PENDING
        assert receiver.quiet() == rtu.PENDING and receiver.echoed
        assert receive(receiver, COIL) == rtu.ANSWER
    receiver = writing(COIL, 8, COIL)
    assert receive(receiver, COIL + COIL) == rtu.ANSWER
    receiver = writing(COIL, 8, COIL)
    assert receive(receiver, COIL) == rtu.PENDING
    assert receive(receiver, frame(17, 0x85, 3)) == rtu.EXCEPTION


def test_an_identification_is_as_long_as_its_objects_say():
    answer = frame(17, b"\x2b\x0e\x01\x01\x00\x00\x02\x00\x03ABC\x01\x00")
    for cut in range(1, len(answer)):
        receiver = rtu.Receiver()
        receiver.expect(b"\x11\x2b\x0e\x01", 0)
        assert receive(receiver, b"\x11\x2b" + answer[:cut]) == rtu.PENDING
        assert receive(receiver, answer[cut:]) == rtu.ANSWER
        assert bytes(receiver.frame) == answer
    receiver.expect(b"\x11\x2b\x0e\x01", 0)
    assert receive(receiver, frame(17, 0xAB, 1)) == rtu.EXCEPTION
    receiver.expect(b"\x11\x2b\x0e\x01", 0)
    assert receive(receiver, answer[:-1] + b"?") == rtu.PENDING
    assert receiver.quiet() == rtu.BROKEN


def test_after_an_exception_the_answer_may_still_be_found():
    receiver = expecting(17, 4, 4)
    assert receive(receiver, b"\xff" + frame(17, 0x84, 6) + ANSWER[:4]) == rtu.EXCEPTION
    assert receive(receiver, ANSWER[4:]) == rtu.ANSWER
    assert data(receiver) == DATA


def test_only_a_whole_answer_with_a_wrong_crc_is_a_broken_one():
    for junk in (b"\x55" * 9, b"\x11\x04" + bytes(20), frame(17, 0x84, 2)[:-1] + b"\0", ANSWER[1:] + b"\0\0"):
        receiver = expecting(17, 4, 4)
        assert receive(receiver, junk) == rtu.PENDING
        assert receiver.quiet() == rtu.PENDING, junk
    # What stands inside the frame of another was no answer either.
    receiver = expecting(17, 4, 4)
    assert receive(receiver, frame(9, 3, 12, ANSWER[:-1] + b"\0\0\0\0")) == rtu.PENDING
    assert receiver.quiet() == rtu.FOREIGN
    assert receiver.quiet() == rtu.PENDING
    assert receive(receiver, b"\0") == rtu.PENDING
    assert receiver.quiet() == rtu.PENDING


def test_an_answer_that_its_request_begins_with_is_found_when_the_line_is_quiet():
    # The CRC of the answer can look like the byte count and the first value of the request.
    for address in range(65536):
        answer = frame(17, 16, bytes([address >> 8, address & 255, 0, 1]))
        if answer[6] == 2:
            break
    request = frame(answer[:6], 2, answer[7], 0)
    assert request.startswith(answer)
    receiver = writing(request, 8, request)
    assert receive(receiver, answer) == rtu.PENDING
    assert receiver.quiet() == rtu.ANSWER
    receiver = writing(request, 8, request)
    assert receive(receiver, request[:8], request[8:], answer) == rtu.ANSWER and receiver.echoed
