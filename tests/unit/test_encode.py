from check import raises
from coupler.points.codec import ORDERS
from coupler.points.describe import describe
from coupler.points.encode import encode, limits, mask
from coupler.points.table import Point

NAN = float("nan")
INFINITE = float("inf")


def point(kind, fc=3, **row):
    cfg = {"n": "field/meter/a", "o": 0, "t": kind}
    cfg.update(row)
    return Point(cfg, {"fc": fc, "a": 0, "n": 125, "ms": 1000}, "p")


def bits(first, count, **row):
    row.update({"from": first, "count": count})
    return point("bits", **row)


def test_each_type_is_written_big_endian():
    for kind, value, wire in (
        ("u16", 0x1234, b"\x12\x34"),
        ("u16", 65535, b"\xff\xff"),
        ("i16", -2, b"\xff\xfe"),
        ("u32", 0x01020304, b"\x01\x02\x03\x04"),
        ("i32", -2, b"\xff\xff\xff\xfe"),
        ("u64", 0x0102030405060708, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        ("u64", 18446744073709551615, b"\xff" * 8),
        ("i64", -9223372036854775808, b"\x80" + bytes(7)),
        ("float32", 23.0, b"\x41\xb8\x00\x00"),
        ("float32", 23, b"\x41\xb8\x00\x00"),
        ("float64", 23.0, b"\x40\x37" + bytes(6)),
        ("bool", True, b"\x00\x01"),
        ("bool", 0, b"\x00\x00"),
    ):
        assert encode(point(kind), value) == wire, (kind, value)


def test_each_order_is_the_one_that_is_read():
    for kind, value, straight in (
        ("u16", 0x1234, (b"\x12\x34", b"\x12\x34", b"\x34\x12", b"\x34\x12")),
        ("bool", True, (b"\0\1", b"\0\1", b"\1\0", b"\1\0")),
        ("u32", 0x41B80000, (b"\x41\xb8\0\0", b"\0\0\x41\xb8", b"\xb8\x41\0\0", b"\0\0\xb8\x41")),
        (
            "u64",
            0x0102030405060708,
            (
                b"\x01\x02\x03\x04\x05\x06\x07\x08",
                b"\x07\x08\x05\x06\x03\x04\x01\x02",
                b"\x02\x01\x04\x03\x06\x05\x08\x07",
                b"\x08\x07\x06\x05\x04\x03\x02\x01",
            ),
        ),
    ):
        for order, wire in zip(ORDERS, straight):
            assert encode(point(kind, w=order), value) == wire, (kind, order)


def test_a_coil_is_on_or_off():
    for value, wire in ((True, b"\xff\0"), (1, b"\xff\0"), (False, b"\0\0"), (0, b"\0\0")):
        assert encode(point("bool", 1), value) == wire
    for fc in (1, 3):
        for value in (2, -1, 1.0, 0.5, "on", "", None, []):
            assert "neither true nor false" in str(raises(ValueError, encode, point("bool", fc), value))


def test_whole_numbers_of_a_whole_scale_are_exact_however_large():
    raw = 18446744073709550592  # of 64 bits, a double keeps 53
    assert encode(point("u64", k=10), 10 * raw) == raw.to_bytes(8, "big")
    assert encode(point("u32", k=10), 42949672950) == b"\xff\xff\xff\xff"


def test_scale_and_offset_are_undone_to_the_nearest_raw_value():
    for value, scale, offset, raw in (
        (21.4, 0.1, 0, 214),
        (0.3, 0.1, 0, 3),
        (12.345, 0.001, 0, 12345),
        (1.4, 0.1, -20, 214),
        (21.44, 0.1, 0, 214),
        (21.46, 0.1, 0, 215),
        (13.5, 2.5, 1, 5),
        (50, 10, 0, 5),
        (54, 10, 0, 5),
        (56, 10, 0, 6),
        (-5, -1, 0, 5),
        (5.4, 1, 0, 5),
        (4.6, 1, 0, 5),
        (25, 1, 20, 5),
        (25.0, 1, 20.0, 5),
    ):
        assert encode(point("u16", k=scale, b=offset), value) == bytes((raw >> 8, raw & 255)), (value, scale, offset)
    assert encode(point("i16", k=0.1), -21.4) == b"\xff\x2a"
    assert encode(point("float32", k=0.5), 11.5) == b"\x41\xb8\0\0"
    assert encode(point("float32", k=2, b=-4), 42.0) == b"\x41\xb8\0\0"


def test_a_whole_number_is_written_with_all_its_digits():
    for kind, value in (("u64", 0xFFFFFFFFFFFFFFF1), ("i64", -0x7FFFFFFFFFFFFFF1), ("u32", 0xFFFFFFF1)):
        n = {"u32": 4}.get(kind, 8)
        assert int.from_bytes(encode(point(kind), value), "big") == value % (1 << 8 * n)
    assert encode(point("u64", k=0.1), 123456789012345678) == b"\x11\x22\x10\xf4\x7d\xe9\x81\x0c"


def test_the_edges_of_each_type():
    for kind, row, low, high in (
        ("u16", {}, 0, 65535),
        ("i16", {}, -32768, 32767),
        ("u32", {}, 0, 4294967295),
        ("i32", {}, -2147483648, 2147483647),
        ("u64", {}, 0, 18446744073709551615),
        ("i64", {}, -9223372036854775808, 9223372036854775807),
        ("bits", {"from": 2, "count": 3}, 0, 7),
        ("u16", {"k": 10}, 0, 655350),
        ("u16", {"k": -1, "b": 5}, -65530, 5),
    ):
        a = point(kind, **row)
        step = abs(row.get("k", 1))
        assert limits(a) == (low, high)
        encode(a, low)
        encode(a, high)
        for value in (low - step, high + step):
            text = str(raises(ValueError, encode, a, value))
            assert text == "%d is not allowed: from %d to %d" % (value, low, high)


def test_a_number_that_no_float_holds_is_refused():
    for value in (1e39, -1e39, 10**400, INFINITE, NAN, -INFINITE):
        raises(ValueError, encode, point("float32"), value)
    for value in (10**400, INFINITE, NAN):
        raises(ValueError, encode, point("float64"), value)
        raises(ValueError, encode, point("u16"), value)
        raises(ValueError, encode, point("u16", k=1e-20), value)
    raises(ValueError, encode, point("u16", k=1e-300), 1e300)
    assert "1e+39 W is more than a float32 can hold" in str(raises(ValueError, encode, point("float32", u="W"), 1e39))


def test_what_is_no_number_is_named():
    for kind in ("u16", "float32"):
        for value in ("21", None, True, False, [1], {}, b"1"):
            assert str(raises(ValueError, encode, point(kind), value)).endswith(" is not a number")
    text = str(raises(ValueError, encode, point("u16"), "x" * 5000))
    assert len(text) < 80


def test_bits_are_masked_where_they_stand_on_the_wire():
    for first, count, order, value, wire, own in (
        (0, 1, "ABCD", 1, b"\0\1", 0x0001),
        (4, 8, "ABCD", 0xBC, b"\x0b\xc0", 0x0FF0),
        (4, 8, "BADC", 0xBC, b"\xc0\x0b", 0xF00F),
        (15, 1, "CDAB", 1, b"\x80\0", 0x8000),
        (15, 1, "DCBA", 1, b"\0\x80", 0x0080),
        (0, 16, "BADC", 0x1234, b"\x34\x12", 0xFFFF),
    ):
        a = bits(first, count, w=order)
        assert (encode(a, value), mask(a)) == (wire, own), (first, count, order)
    assert encode(bits(4, 4, k=0.5, b=1), 3.5) == b"\0\x50"
    assert mask(point("u16")) == 0xFFFF


def test_text_is_padded_with_nuls():
    for value, length, order, wire in (
        ("Kobler", 6, "ABCD", b"Kobler"),
        ("Kob", 6, "ABCD", b"Kob\0\0\0"),
        ("Koble", 5, "ABCD", b"Koble\0"),
        ("", 3, "ABCD", b"\0\0\0\0"),
        ("21 \xb0C", 5, "ABCD", b"21 \xb0C\0"),
        ("Kobler", 6, "BADC", b"oKlbre"),
        ("Kobler", 6, "DCBA", b"oKlbre"),
        ("Kobler", 6, "CDAB", b"Kobler"),
    ):
        assert encode(point("string", len=length, w=order), value) == wire
    for value, said in (
        ("Koblerx", "longer than 6 characters"),
        ("a\0b", "Latin-1"),
        ("a\n", "Latin-1"),
        ("\x7f", "Latin-1"),
        ("\x85", "Latin-1"),
        ("\u20ac", "Latin-1"),
        (5, "not a text"),
        (None, "not a text"),
        (b"a", "not a text"),
    ):
        assert said in str(raises(ValueError, encode, point("string", len=6), value)), value


def test_an_enumeration_is_written_by_its_texts_or_their_numbers():
    a = point("i16", e={"0": "off", "1": "heat", "-1": "fault"})
    for value, wire in (("off", b"\0\0"), ("heat", b"\0\1"), ("fault", b"\xff\xff"), (1, b"\0\1"), (-1, b"\xff\xff")):
        assert encode(a, value) == wire
    for value in ("Heat", "", 2, 1.0, True, False, None, [], {}):
        assert str(raises(ValueError, encode, a, value)).endswith(" is not one of fault, off, heat"), value
    assert encode(bits(4, 2, e={"2": "auto"}), "auto") == b"\0\x20"


def test_a_text_that_stands_for_several_values_is_not_guessed():
    a = point("u16", e={"0": "off", "1": "on", "9": "off"})
    assert "0, 9" in str(raises(ValueError, encode, a, "off"))
    assert encode(a, 9) == b"\0\x09"


def test_no_value_becomes_one_that_means_not_available():
    for a, value, beside in (
        (point("u16", na=[65535]), 65535, 65534),
        (point("u16", na=[65535], k=0.1), 6553.5, 6553.4),
        (point("i16", na=[0x8000]), -32768, -32767),
        (point("i16", na=[0x8000], w="BADC"), -32768, -32767),
        (point("u32", na=[0xFFFFFFFF], w="CDAB"), 4294967295, 4294967294),
        (point("i64", na=[1 << 63]), -(1 << 63), 1 - (1 << 63)),
        (point("float32", na=[0xC61C4000], w="DCBA"), -10000, -9999),
        (point("float64", na=[0x8000000000000000]), -0.0, 0.0),
        (bits(3, 4, na=[15]), 15, 14),
        (point("u16", na=[255], e={"255": "none", "254": "on"}), "none", "on"),
    ):
        assert "not available" in str(raises(ValueError, encode, a, value)), value
        encode(a, beside)


def test_a_description_says_what_may_be_written():
    wr = {"role": "engineer", "min": 10.0, "verify": True}
    assert describe(point("i16", k=0.1, u="Cel", wr=wr)) == {
        "name": "field/meter/a",
        "type": "i16",
        "unit": "Cel",
        "write": {"role": "engineer", "verify": True, "min": 10.0, "max": 3276.7},
    }
    assert describe(point("float32", wr={"role": "a"}))["write"] == {"role": "a", "verify": False}
    assert describe(point("u16", wr={"role": "a", "max": 0}))["write"] == {
        "role": "a",
        "verify": False,
        "min": 0,
        "max": 0,
    }
    assert describe(point("string", len=5)) == {"name": "field/meter/a", "type": "string(5)"}
    row = describe(bits(4, 2, e={"1": "on"}, wr={"role": "a"}))
    assert row["type"] == "bits(4,2)" and row["texts"] == {"1": "on"}
    assert row["write"] == {"role": "a", "verify": False}
    assert describe(point("bool", 1, wr={"role": "a"}))["write"] == {"role": "a", "verify": False}
