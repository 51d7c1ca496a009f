import struct

from check import raises
from coupler.points.table import Point
from coupler.points.write import check_raw, holds, plan_write, read_back

ANYONE = {"role": "operator"}


def block(fc, address, *rows):
    """Rows: (name, offset, type, more)."""
    cfg = {"fc": fc, "a": address, "n": 125, "ms": 1000}
    cfg["p"] = points = []
    for name, at, kind, more in rows:
        row = {"n": name, "o": at, "t": kind, "wr": ANYONE}
        row.update(more)
        points.append(Point(row, cfg, name))
    return cfg


def plan(kind, value, fc=3, multi=False, at=7, **more):
    cfg = block(fc, 1000, ("a", at, kind, more))
    return plan_write(cfg["p"][0], cfg, value, multi)


def wr(low, high):
    return {"role": "operator", "min": low, "max": high}


def bits(first, count):
    return {"from": first, "count": count}


def test_what_is_sent_for_each_kind_of_point():
    for kind, value, more, sent in (
        ("bool", True, {"fc": 1}, b"\x05\x03\xef\xff\x00"),
        ("bool", False, {"fc": 1, "multi": True}, b"\x05\x03\xef\x00\x00"),
        ("bool", True, {}, b"\x06\x03\xef\x00\x01"),
        ("i16", 21.4, {"k": 0.1}, b"\x06\x03\xef\x00\xd6"),
        ("i16", 21.4, {"k": 0.1, "multi": True}, b"\x10\x03\xef\x00\x01\x02\x00\xd6"),
        ("float32", 23.0, {"w": "CDAB"}, b"\x10\x03\xef\x00\x02\x04\x00\x00\x41\xb8"),
        ("u64", 1, {}, b"\x10\x03\xef\x00\x04\x08" + bytes(7) + b"\x01"),
        ("string", "Kobl", {"len": 5}, b"\x10\x03\xef\x00\x03\x06Kobl\0\0"),
        ("string", "K", {"len": 2}, b"\x06\x03\xefK\0"),
        ("bits", 5, bits(4, 3), b"\x16\x03\xef\xff\x8f\x00\x50"),
        ("bits", 5, {"w": "BADC", "from": 4, "count": 3}, b"\x16\x03\xef\x8f\xff\x50\x00"),
        ("bits", 5, {"multi": True, "from": 4, "count": 3}, b"\x16\x03\xef\xff\x8f\x00\x50"),
        ("bits", 0x1234, bits(0, 16), b"\x06\x03\xef\x12\x34"),
        ("u16", "heat", {"e": {"1": "heat"}}, b"\x06\x03\xef\x00\x01"),
    ):
        assert plan(kind, value, **more) == sent, (kind, more)


def test_a_point_of_the_longest_text_is_one_request():
    pdu = plan("string", "x" * 246, len=246, at=0)
    assert len(pdu) == 252 and pdu[3:6] == b"\x00\x7b\xf6"


def test_a_point_that_is_not_writable_is_not_written():
    assert str(raises(ValueError, lambda: plan("u16", 1, wr=None))) == "a is not writable"


def test_limits_are_those_of_the_value():
    for value, kind, low, high, more, said in (
        (30.04, "i16", 10.0, 30.0, {"k": 0.1}, "a: 30.04 is not allowed: from 10.0 to 30.0"),
        (9.9, "i16", 10.0, 30.0, {"k": 0.1, "u": "Cel"}, "a: 9.9 Cel is not allowed: from 10.0 to 30.0 Cel"),
        (31, "float32", None, 30, {}, "a: 31 is not allowed: at most 30"),
        (9, "float32", 10, None, {"u": "bar"}, "a: 9 bar is not allowed: at least 10 bar"),
        (9, "u16", 10, None, {}, "a: 9 is not allowed: from 10 to 65535"),
        (70000, "u16", 10, None, {}, "a: 70000 is not allowed: from 10 to 65535"),
        (8, "bits", 0, 5, bits(0, 3), "a: 8 is not allowed: from 0 to 5"),
        (6, "bits", 0, 5, bits(0, 3), "a: 6 is not allowed: from 0 to 5"),
        (float("nan"), "float32", 0, 5, {}, "a: nan is not a number"),
        ("7", "u16", 0, 5, {}, "a: '7' is not a number"),
    ):
        limits = {"role": "a"}
        if low is not None:
            limits["min"] = low
        if high is not None:
            limits["max"] = high
        error = str(raises(ValueError, lambda: plan(kind, value, wr=limits, **more)))
        assert error == said, error
    for value in (10.0, 10, 21.4, 30, 30.0):
        assert plan("i16", value, k=0.1, wr=wr(10.0, 30.0))
    # In a float32 it is a little more than the limit, which is this very number.
    assert plan("float32", 0.1, wr=wr(0, 0.1)) and plan("float32", 0.1, k=0.001, wr=wr(0.1, 1))
    # 3 * 0.3 - 0.9 is -1.1e-16.
    assert plan("u16", 0, k=0.3, b=-0.9, wr=wr(0, 5)) == b"\x06\x03\xef\x00\x03"
    # 1.4 is 214 / 10 - 20, plus the noise of binary fractions.
    assert plan("u16", 1.4, k=0.1, b=-20, wr=wr(1.4, 1.4)) == b"\x06\x03\xef\x00\xd6"


def test_a_value_is_not_rounded_out_of_its_limits():
    limits = wr(0, 29.97)
    assert plan("i16", 29.94, k=0.1, wr=limits)[3:] == b"\x01\x2b"
    assert "29.97" in str(raises(ValueError, lambda: plan("i16", 29.96, k=0.1, wr=limits)))
    raises(ValueError, lambda: plan("i16", 0.6, wr=wr(0.6, 0.9)))


def test_what_was_written_is_recognized_when_it_is_read_back():
    for pdu, where, same, other in (
        (plan("bool", True, 1), (1, 1007, 1), b"\x01", b"\x00"),
        (plan("bool", False, 1), (1, 1007, 1), b"\x00", b"\x01"),
        (plan("i16", -2), (3, 1007, 1), b"\xff\xfe", b"\xff\xff"),
        (plan("i16", -2, multi=True), (3, 1007, 1), b"\xff\xfe", b"\xff\xff"),
        (plan("float32", 23.0), (3, 1007, 2), b"\x41\xb8\x00\x00", b"\x41\xb8\x00\x01"),
        (plan("bits", 5, **bits(4, 3)), (3, 1007, 1), b"\xff\xdf", b"\xff\xcf"),
        (plan("bits", 2, **bits(4, 3)), (3, 1007, 1), b"\x00\x20", b"\x00\x30"),
    ):
        assert read_back(pdu) == where
        assert holds(pdu, memoryview(same)) is True and holds(pdu, memoryview(other)) is False, pdu


# A unit as the gateway sees it: coils from 0, holding registers from 100.
def unit():
    return {
        "blocks": [
            block(1, 0, ("coil", 1, "bool", {}), ("other", 2, "bool", {}), ("seen", 3, "bool", {"wr": None})),
            block(4, 100, ("input", 0, "u16", {"wr": None})),
            block(
                3,
                100,
                ("setpoint", 0, "i16", {"k": 0.1, "wr": wr(10.0, 30.0), "na": [0x8000]}),
                ("flow", 1, "float32", {"wr": wr(0, 5)}),
                ("seen too", 3, "u16", {"wr": None}),
                ("low", 4, "bits", {"from": 0, "count": 8, "wr": wr(0, 9)}),
                ("high", 4, "bits", {"from": 8, "count": 8}),
                ("nibble", 5, "bits", {"from": 4, "count": 4, "wr": wr(0, 9)}),
                ("mode", 6, "u16", {"e": {"0": "off", "1": "heat"}}),
                ("text", 7, "string", {"len": 3}),
            ),
            block(3, 100, ("view", 5, "u16", {"wr": None}), ("free", 10, "u16", {})),
        ]
    }


def request(fc, address, *values):
    """The rest of a PDU after the address: one register, masks, several coils or several registers."""
    if fc in (5, 6, 22):
        return address, struct.pack(">" + "H" * len(values), *values)
    if fc == 15:
        data = bytearray((len(values) + 7) // 8)
        for i, on in enumerate(values):
            data[i >> 3] |= on << (i & 7)
    else:
        data = struct.pack(">" + "H" * len(values), *values)
    return address, struct.pack(">HB", len(values), len(data)) + bytes(data)


def test_a_foreign_request_that_writes_whole_points_within_their_limits_may_pass():
    for fc, address, values in (
        (5, 1, (0xFF00,)),
        (5, 1, (0,)),
        (15, 1, (1, 0)),
        (6, 100, (214,)),
        (16, 100, (214,)),
        (16, 100, (100,)),
        (16, 100, (300, 0x3F80, 0)),
        (23, 101, (0x3F80, 0)),
        (6, 104, (0xFF09,)),
        (22, 104, (0xFF00, 0x0009)),
        (22, 104, (0xFF00, 0xFF09)),
        (22, 104, (0x00FF, 0xAB00)),
        (22, 105, (0xFF0F, 0x0090)),
        (6, 106, (1,)),
        (16, 107, (0x4142, 0x4300)),
        (6, 110, (65535,)),
    ):
        check_raw(unit(), fc, *request(fc, address, *values))
        where, data = request(fc, address, *values)
        check_raw(unit(), fc, where, memoryview(data))


def test_a_foreign_request_that_writes_anything_else_is_refused():
    for fc, address, values, said in (
        (5, 0, (0xFF00,), "coil 0 belongs to no writable point"),
        (5, 3, (0xFF00,), "coil 3 belongs to no writable point"),
        (5, 100, (0xFF00,), "coil 100 belongs to no writable point"),
        (15, 1, (1, 0, 1), "coil 3 belongs to no writable point"),
        (15, 0, (1, 0), "coil 0 belongs to no writable point"),
        (6, 99, (1,), "register 99 belongs to no writable point"),
        (6, 103, (1,), "register 103 belongs to no writable point"),
        (6, 1, (1,), "register 1 belongs to no writable point"),
        (16, 104, (9, 9), "bits ff0f of register 105 belongs to no writable point"),
        (6, 105, (0x0010,), "bits ff0f of register 105 belongs to no writable point"),
        (22, 105, (0xFE0F, 0x0010), "bits 0100 of register 105 belongs to no writable point"),
        (6, 100, (301,), "setpoint: 30.1 is not allowed: from 10.0 to 30.0"),
        (16, 100, (99,), "setpoint: 9.9 is not allowed: from 10.0 to 30.0"),
        (6, 100, (0x8000,), "setpoint: what would be written means not available"),
        (6, 101, (0x3F80,), "flow: only a part of it would be written"),
        (6, 102, (0x3F80,), "flow: only a part of it would be written"),
        (16, 102, (0, 0), "flow: only a part of it would be written"),
        (22, 101, (0xFFFE, 1), "flow: only a part of it would be written"),
        (16, 101, (0x40C0, 0), "flow: 6.0 is not allowed: from 0 to 5"),
        (23, 101, (0xBF80, 0), "flow: -1.0 is not allowed: from 0 to 5"),
        (16, 101, (0x7FC0, 0), "flow: what would be written is not a number"),
        (6, 104, (0x000A,), "low: 10 is not allowed: from 0 to 9"),
        (22, 104, (0xFF00, 0x000A), "low: 10 is not allowed: from 0 to 9"),
        (22, 104, (0xFFF0, 0x0001), "low: only a part of it would be written"),
        (22, 105, (0xFF0F, 0x00A0), "nibble: 10 is not allowed: from 0 to 9"),
        (22, 104, (0xFFFF, 0x0001), "this function 22 changes no bit"),
        (6, 106, (2,), "mode: 2 is none of the point's values"),
        (6, 107, (0x4142,), "text: only a part of it would be written"),
        (16, 109, (1, 1), "register 109 belongs to no writable point"),
    ):
        kind = LookupError if "belongs to no" in said else ValueError
        error = str(raises(kind, check_raw, unit(), fc, *request(fc, address, *values)))
        assert error == said, (fc, address, error)


def test_a_request_that_does_not_add_up_is_refused():
    for fc, data in (
        (5, b"\x12\x34"),
        (5, b"\xff\x01"),
        (5, b"\xff"),
        (6, b"\0"),
        (6, b"\0\0\0"),
        (15, b"\0\x01\x01"),
        (15, b"\0\x00\x00\x00"),
        (15, b"\0\x09\x01\x00"),
        (16, b"\0\x01\x02\0"),
        (16, b"\0\x01\x04\0\0"),
        (16, b"\0\x02\x02\0\0"),
        (22, b"\0\0\0"),
        (23, b""),
        (3, b"\0\1"),
        (7, b"\0\1"),
    ):
        assert "is no request that writes" in str(raises(ValueError, check_raw, unit(), fc, 100, data)), (fc, data)


def test_no_step_beyond_a_large_limit_is_taken_for_noise():
    rows = (("a", 0, "u32", {"k": 0.1, "wr": wr(0, 1000000)}), ("b", 2, "i32", {"b": 0.5, "wr": wr(-5000000, 5)}))
    cfg = {"blocks": [block(3, 0, *rows)]}
    check_raw(cfg, 16, *request(16, 0, 0x98, 0x9680))
    assert "a: 1000000.1" in str(raises(ValueError, check_raw, cfg, 16, *request(16, 0, 0x98, 0x9681)))
    check_raw(cfg, 16, *request(16, 2, 0xFFB3, 0xB4C0))
    raises(ValueError, check_raw, cfg, 16, *request(16, 2, 0xFFB3, 0xB4BF))


def test_points_of_the_same_registers_each_set_their_limits():
    cfg = {"blocks": [block(3, 0, ("a", 0, "u16", {"wr": wr(0, 9)}), ("b", 0, "u32", {"wr": wr(0, 0x50000)}))]}
    check_raw(cfg, 16, *request(16, 0, 4, 1))
    for values in ((5, 1), (10, 0)):
        raises(ValueError, check_raw, cfg, 16, *request(16, 0, *values))
    raises(ValueError, check_raw, cfg, 6, *request(6, 0, 4))
