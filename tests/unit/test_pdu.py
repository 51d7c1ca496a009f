from check import raises
from coupler.bus import pdu
from coupler.bus.request import WRITES, answer, answer_size, check_request, objects_size, probe


def words(*values):
    return b"".join([bytes([value >> 8, value & 255]) for value in values])


def test_the_answers_data_is_two_bytes_a_register_and_a_bit_a_coil():
    for fc, count, size in ((3, 1, 2), (3, 125, 250), (4, 2, 4), (1, 1, 1), (1, 8, 1), (2, 9, 2), (1, 2000, 250)):
        assert pdu.byte_count(fc, count) == size
        assert pdu.check(fc, 0, count) == size


def test_what_no_server_could_answer_is_refused():
    for fc, address, count in (
        (3, 0, 0),
        (3, 0, 126),
        (4, 0, 126),
        (1, 0, 2001),
        (2, 0, 0),
        (3, 65535, 2),
        (3, -1, 1),
        (3, 65536, 1),
        (5, 0, 1),
        (0, 0, 1),
    ):
        assert str(raises(ValueError, pdu.check, fc, address, count))
    for fc, address, count in ((3, 0, 125), (4, 65535, 1), (1, 0, 2000), (2, 65535, 1)):
        pdu.check(fc, address, count)


GOOD = (
    b"\x01" + words(0, 2000),
    b"\x02" + words(63536, 2000),
    b"\x03" + words(65411, 125),
    b"\x04" + words(65535, 1),
    b"\x05" + words(65535, 0xFF00),
    b"\x05" + words(0, 0),
    b"\x06" + words(65535, 65535),
    b"\x0f" + words(0, 1) + b"\x01\xff",
    b"\x0f" + words(63568, 1968) + b"\xf6" + bytes(246),
    b"\x0f" + words(0, 9) + b"\x02\xff\x01",
    b"\x10" + words(65535, 1) + b"\x02\x12\x34",
    b"\x10" + words(65413, 123) + b"\xf6" + bytes(246),
    b"\x16" + words(65535, 0x00F2, 0x0025),
    b"\x17" + words(65411, 125, 65415, 121) + b"\xf2" + bytes(242),
    b"\x17" + words(0, 1, 65535, 1) + b"\x02\0\0",
    b"\x2b\x0e\x01\x00",
    b"\x2b\x0e\x04\xff",
)
BAD = (
    b"",
    b"\x00",
    b"\x07",
    b"\x83\x02",
    b"\x03",
    b"\x03" + words(0, 1)[:3],
    b"\x03" + words(0, 1) + b"\0",
    b"\x01" + words(0, 0),
    b"\x01" + words(0, 2001),
    b"\x02" + words(63537, 2000),
    b"\x03" + words(0, 126),
    b"\x03" + words(65412, 125),
    b"\x04" + words(0, 0),
    b"\x05" + words(0, 0x1234),
    b"\x05" + words(0, 0xFF01),
    b"\x05" + words(0, 1),
    b"\x05" + words(0, 0xFF00) + b"\0",
    b"\x06" + words(0) + b"\1",
    b"\x0f" + words(0, 0) + b"\0",
    b"\x0f" + words(0, 1969) + b"\xf7" + bytes(247),
    b"\x0f" + words(0, 9) + b"\x01\xff",
    b"\x0f" + words(0, 8) + b"\x02\xff\xff",
    b"\x0f" + words(0, 9) + b"\x02\xff",
    b"\x0f" + words(65535, 2) + b"\x01\xff",
    b"\x10" + words(0, 0) + b"\0",
    b"\x10" + words(0, 124) + b"\xf8" + bytes(248),
    b"\x10" + words(0, 2) + b"\x02" + bytes(2),
    b"\x10" + words(0, 1) + b"\x04" + bytes(4),
    b"\x10" + words(0, 1) + b"\x02" + bytes(3),
    b"\x10" + words(65535, 2) + b"\x04" + bytes(4),
    b"\x10" + words(0, 1),
    b"\x16" + words(0, 1),
    b"\x16" + words(0, 1, 2, 3),
    b"\x17" + words(0, 0, 0, 1) + b"\x02\0\0",
    b"\x17" + words(0, 126, 0, 1) + b"\x02\0\0",
    b"\x17" + words(0, 1, 0, 122) + b"\xf4" + bytes(244),
    b"\x17" + words(0, 1, 0, 0) + b"\0",
    b"\x17" + words(65535, 2, 0, 1) + b"\x02\0\0",
    b"\x17" + words(0, 1, 65535, 2) + b"\x04" + bytes(4),
    b"\x17" + words(0, 1, 0, 2) + b"\x02\0\0",
    b"\x2b\x0d\x01\x00",
    b"\x2b\x0e\x00\x00",
    b"\x2b\x0e\x05\x00",
    b"\x2b\x0e\x01",
    b"\x2b\x0e\x01\x00\x00",
)


def test_a_request_within_the_limits_of_its_function_may_be_sent():
    for request in GOOD:
        for kind in (bytes, bytearray, memoryview):
            check_request(kind(request))


def test_any_other_request_is_refused_with_the_reason():
    for request in BAD:
        assert len(str(raises(ValueError, check_request, request))) > 8, request


def test_only_functions_that_write_may_be_broadcast():
    assert sorted(WRITES) == [5, 6, 15, 16, 22]


# (request, its answer)
ANSWERS = (
    (b"\x01" + words(19, 19), b"\x01\x03\xcd\x6b\x05"),
    (b"\x02" + words(196, 22), b"\x02\x03\xac\xdb\x35"),
    (b"\x03" + words(107, 3), b"\x03\x06\x02\x2b\x00\x00\x00\x64"),
    (b"\x04" + words(8, 1), b"\x04\x02\x00\x0a"),
    (b"\x05" + words(172, 0xFF00), b"\x05" + words(172, 0xFF00)),
    (b"\x06" + words(1, 3), b"\x06" + words(1, 3)),
    (b"\x0f" + words(19, 10) + b"\x02\xcd\x01", b"\x0f" + words(19, 10)),
    (b"\x10" + words(1, 2) + b"\x04" + words(10, 258), b"\x10" + words(1, 2)),
    (b"\x16" + words(4, 0x00F2, 0x0025), b"\x16" + words(4, 0x00F2, 0x0025)),
    (b"\x17" + words(3, 6, 14, 3) + b"\x06" + bytes(6), b"\x17\x0c" + words(254, 2765, 1, 3, 13, 255)),
)


def test_the_examples_of_the_standard_answer_each_other():
    # Modbus Application Protocol V1.1b3, 6.1 to 6.17.
    for request, right in ANSWERS:
        head, size = answer(request)
        assert size == len(right) and right.startswith(head)
        assert answer_size(request, right, 0, size) == size
        assert answer_size(request, b"??" + right + b"?", 2, size + 2) == size
        for have in range(size):
            assert answer_size(request, right, 0, have) in (0, size), (request, have)
        assert answer_size(request, right, 0, 0) == 0


def test_an_answer_that_differs_in_what_the_request_fixes_is_none():
    for request, right in ANSWERS:
        fixed = len(answer(request)[0])
        for i in range(fixed):
            for bit in (1, 0x80):
                wrong = bytearray(right)
                wrong[i] ^= bit
                if i or bit != 0x80:
                    assert answer_size(request, wrong, 0, len(wrong)) == -1, (request, i)
        for i in range(fixed, len(right)):  # the rest is data
            other = bytearray(right)
            other[i] ^= 1
            assert answer_size(request, other, 0, len(other)) == len(right)


def test_the_exception_of_the_function_and_no_other_is_an_answer():
    for request, _ in ANSWERS:
        fc = request[0]
        assert answer_size(request, bytes([fc | 0x80]), 0, 1) == 2
        assert answer_size(request, bytes([fc | 0x80, 2]), 0, 2) == 2
        for other in (0x80, fc ^ 0x81, fc ^ 1, 0):
            assert answer_size(request, bytes([other, 2]), 0, 2) == -1


def objects(code, *pairs, more=0, following=0):
    data = b"".join([bytes([number, len(text)]) + text for number, text in pairs])
    return bytes([0x2B, 0x0E, code, 0x83, more, following, len(pairs)]) + data


IDENTITY = objects(1, (0, b"Company"), (1, b"Product 7"), (2, b"V2.11"))


def test_the_length_of_an_identification_follows_from_its_objects():
    request = b"\x2b\x0e\x01\x00"
    for right in (
        IDENTITY,
        objects(1),
        objects(1, (0, b"")),
        objects(1, (0, b"x" * 244)),
        objects(1, (0, b"x"), more=255, following=1),
    ):
        assert objects_size(right, 0, len(right)) == answer_size(request, right, 0, len(right)) == len(right)
        for have in range(1, len(right)):
            assert answer_size(request, right, 0, have) in (0, len(right)), have
        assert answer_size(request, right, 0, 6) == 0
    assert answer_size(request, b"\xab\x02", 0, 2) == 2


def test_an_identification_that_contradicts_itself_or_the_request_is_none():
    request = b"\x2b\x0e\x01\x00"
    for wrong in (
        objects(2, (0, b"x")),
        b"\x2b\x0d" + IDENTITY[2:],
        objects(1, (0, b"x"), more=1),
        objects(1, (0, b"x"), (0, b"y")),
        objects(1, (5, b"x"), (4, b"y")),
        objects(1, (0, b"x" * 245)),
        objects(1, (0, b"x" * 200), (1, b"x" * 200)),
    ):
        assert answer_size(request, wrong, 0, len(wrong)) == -1, wrong
    one = b"\x2b\x0e\x04\x01"
    for wrong in (objects(4, (0, b"x")), objects(4), objects(4, (1, b"x"), (2, b"x"))):
        assert answer_size(one, wrong, 0, len(wrong)) == -1, wrong
    right = objects(4, (1, b"Product"))
    assert answer_size(one, right, 0, len(right)) == len(right)


def test_what_a_write_changes_is_read_with():
    for write, read in (
        (b"\x05\x00\xac\xff\x00", b"\x01\x00\xac\x00\x01"),
        (b"\x06\x12\x34\x00\x03", b"\x03\x12\x34\x00\x01"),
        (b"\x16\x00\x04\x00\xf2\x00\x25", b"\x03\x00\x04\x00\x01"),
    ):
        assert probe(write) == read
        check_request(read)
