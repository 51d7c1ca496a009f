import struct

from check import raises
from coupler.points.codec import ORDERS, decode, decode_bit
from coupler.points.kinds import size, span

# 0x41B80000 is 23.0 as float32, 0x4037000000000000 as float64.
WIRE = {
    "ABCD": b"\x41\xb8\x00\x00",
    "CDAB": b"\x00\x00\x41\xb8",
    "BADC": b"\xb8\x41\x00\x00",
    "DCBA": b"\x00\x00\xb8\x41",
}
WIRE64 = {
    "ABCD": b"\x01\x02\x03\x04\x05\x06\x07\x08",
    "CDAB": b"\x07\x08\x05\x06\x03\x04\x01\x02",
    "BADC": b"\x02\x01\x04\x03\x06\x05\x08\x07",
    "DCBA": b"\x08\x07\x06\x05\x04\x03\x02\x01",
}


def test_a_float_in_each_order():
    for order in ORDERS:
        assert decode("float32", order, WIRE[order], 0) == 23.0
        assert decode("float32", order, b"\xaa\xaa\xaa\xaa" + WIRE[order] + b"\xaa", 2) == 23.0


def test_whole_numbers_of_32_bits_in_each_order():
    for order in ORDERS:
        assert decode("u32", order, WIRE[order], 0) == 0x41B80000
    assert decode("i32", "ABCD", b"\xff\xff\xff\xfe", 0) == -2
    assert decode("i32", "CDAB", b"\xff\xfe\xff\xff", 0) == -2
    assert decode("u32", "ABCD", b"\xff\xff\xff\xff", 0) == 4294967295


def test_64_bits_in_each_order():
    for order in ORDERS:
        assert decode("u64", order, WIRE64[order], 0) == 0x0102030405060708
    assert decode("i64", "ABCD", b"\xff" * 8, 0) == -1
    assert decode("u64", "ABCD", b"\xff" * 8, 0) == 18446744073709551615
    assert decode("float64", "CDAB", b"\x00\x00\x00\x00\x00\x00\x40\x37", 0) == 23.0


def test_one_register():
    assert decode("u16", "ABCD", b"\x00\x00\x12\x34", 1) == 0x1234
    assert decode("u16", "CDAB", b"\x12\x34", 0) == 0x1234
    assert decode("u16", "BADC", b"\x12\x34", 0) == 0x3412
    assert decode("u16", "DCBA", b"\x12\x34", 0) == 0x3412
    assert decode("i16", "ABCD", b"\xff\xfe", 0) == -2
    assert decode("i16", "BADC", b"\xfe\xff", 0) == -2


def test_what_is_no_number_gives_none():
    for data in (b"\x7f\xc0\x00\x00", b"\x7f\x80\x00\x00", b"\xff\x80\x00\x00", b"\xff\xff\xff\xff"):
        assert decode("float32", "ABCD", data, 0) is None
    assert decode("float64", "ABCD", b"\x7f\xf8" + bytes(6), 0) is None
    assert decode("float32", "ABCD", bytes(4), 0) == 0.0


def test_bits_count_from_the_least_significant():
    data = b"\xa5\xc3"
    for first, count, value in ((0, 1, 1), (2, 1, 0), (0, 4, 3), (4, 4, 12), (8, 8, 0xA5), (15, 1, 1), (0, 16, 0xA5C3)):
        assert decode("bits", "ABCD", data, 0, first, count) == value
    assert decode("bits", "BADC", data, 0, 0, 8) == 0xA5


def test_a_register_is_true_unless_it_is_zero():
    for data, value in ((b"\x00\x00", False), (b"\x00\x01", True), (b"\x01\x00", True), (b"\xff\x00", True)):
        for order in ORDERS:
            assert decode("bool", order, data, 0) is value


def test_coils_are_packed_from_the_least_significant_bit():
    data = b"\x05\x80"
    assert [i for i in range(16) if decode_bit(data, i)] == [0, 2, 15]
    assert decode_bit(data, 0) is True


def test_text_ends_at_a_nul_and_loses_its_padding():
    for data, length, text in (
        (b"Kobler", 6, "Kobler"),
        (b"Kob\x00er", 6, "Kob"),
        (b"Kobler  \x00\x00", 10, "Kobler"),
        (b"Koblerxx", 7, "Koblerx"),
        (b"\x00\x00", 2, ""),
        (b"21 \xb0C\x07\x80!", 8, "21 \xb0C??!"),
    ):
        assert decode("string", "ABCD", data, 0, length) == text
    assert decode("string", "BADC", b"oKlbre", 0, 6) == "Kobler"
    assert decode("string", "DCBA", b"oKlbre", 0, 6) == "Kobler"
    assert decode("string", "CDAB", b"\x00\x00Kobler", 1, 6) == "Kobler"


def test_sizes_on_the_wire():
    for kind, length, n in (
        ("u16", 0, 2),
        ("bool", 0, 2),
        ("bits", 0, 2),
        ("i32", 0, 4),
        ("float64", 0, 8),
        ("string", 5, 6),
        ("string", 250, 250),
    ):
        assert size(kind, length) == n
    for kind, length in (("u8", 0), ("string", 0), ("string", 251), ("string", None), (None, 0)):
        raises(ValueError, size, kind, length)


def test_raw_values_that_a_type_can_hold():
    for kind, count, limits in (
        ("u16", 0, (0, 65535)),
        ("i16", 0, (-32768, 32767)),
        ("u32", 0, (0, 4294967295)),
        ("i32", 0, (-2147483648, 2147483647)),
        ("u64", 0, (0, 18446744073709551615)),
        ("i64", 0, (-9223372036854775808, 9223372036854775807)),
        ("bits", 3, (0, 7)),
        ("float32", 0, None),
        ("bool", 0, None),
        ("string", 0, None),
    ):
        assert span(kind, count) == limits, kind


def test_every_float_that_fits_comes_out_as_it_went_in():
    for value in (0.0, 1.0, -1.5, 230.25, 1e-10, 3.0e38, -0.0):
        wire = struct.pack(">f", value)
        assert decode("float32", "ABCD", wire, 0) == struct.unpack(">f", wire)[0]
