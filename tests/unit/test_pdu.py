from check import raises
from coupler.bus import pdu


def test_a_read_request_is_function_address_and_count_big_endian():
    buf = bytearray(8)
    # Modbus Application Protocol V1.1b3, 6.3: registers 108 to 110, that is from address 107.
    assert pdu.put_read(buf, 1, pdu.READ_HOLDING, 107, 3) == 6
    assert bytes(buf) == b"\x00\x03\x00\x6b\x00\x03\x00\x00"


def test_the_answers_data_is_two_bytes_a_register_and_a_bit_a_coil():
    for fc, count, size in ((3, 1, 2), (3, 125, 250), (4, 2, 4), (1, 1, 1), (1, 8, 1), (2, 9, 2), (1, 2000, 250)):
        assert pdu.byte_count(fc, count) == size


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


def test_only_the_wanted_function_and_byte_count_or_its_exception_is_an_answer():
    for data, size in (
        (b"", 0),
        (b"\x03", 0),
        (b"\x03\x04", 6),
        (b"\x03\x04\x01\x02\x03\x04", 6),
        (b"\x03\x02", -1),
        (b"\x83", 2),
        (b"\x83\x02", 2),
        (b"\x04\x04", -1),
        (b"\x84\x02", -1),
        (b"\x80\x01", -1),
    ):
        assert pdu.answer_size(data, 0, len(data), 3, 4) == size
