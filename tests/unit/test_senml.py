"""SenML packs: what is in them, how numbers and times are written, and that every one is JSON."""

import json

from coupler.uplink.senml import number, pack, seconds

INF = float("inf")


class Point:
    def __init__(self, name, unit, history):
        self.name = name
        self.unit = unit
        self.history = history


def sample(seq=1, name="bus/unit/point", value=1, quality=None, unix_ms=1732158000000, unit=None, history=False):
    return (seq, Point(name, unit, history), value, quality, unix_ms)


def one(**fields):
    return json.loads(pack("246f28aabbcc", [sample(**fields)]))[0]


def test_a_record_has_base_name_time_value_unit_and_sequence():
    text = pack("246f28aabbcc", [sample(9, "field/meter/power", 12.5, None, 1732158000250, "W")])
    assert text == (
        b'[{"bn":"urn:dev:kobler:246f28aabbcc:","bt":1732158000.25,"n":"field/meter/power","v":12.5,"u":"W","seq":9}]'
    )


def test_only_what_the_owner_enabled_may_be_kept():
    assert one(history=True)["h"] is True and "h" not in one()


def test_times_are_relative_to_the_first():
    text = pack(
        "x", [sample(1, unix_ms=1000), sample(2, unix_ms=1000), sample(3, unix_ms=2250), sample(4, unix_ms=999)]
    )
    records = json.loads(text)
    assert records[0]["bt"] == 1 and "t" not in records[0] and "t" not in records[1]
    assert records[2]["t"] == 1.25 and b'"t":-0.001,' in text
    assert [r["seq"] for r in records] == [1, 2, 3, 4] and "bn" not in records[1]


def test_an_unknown_time_means_now_and_never_takes_its_neighbours_time():
    times = (None, 5000, None, None, 7000)
    records = json.loads(pack("x", [sample(i, unix_ms=t) for i, t in enumerate(times)]))
    base = 0
    seen = []
    for record in records:
        base = record.get("bt", base)
        seen.append(base + record.get("t", 0))
    assert seen == [0, 5, 0, 0, 7]
    assert "bt" not in records[0] and "bt" not in records[3]


def test_values_of_every_type():
    assert one(value=True)["vb"] is True and one(value=False)["vb"] is False
    assert one(value='é"\\\n')["vs"] == 'é"\\\n'
    assert one(value=0)["v"] == 0 and one(value=-32768)["v"] == -32768
    assert b'"v":18446744073709551615,' in pack("x", [sample(value=18446744073709551615)])
    for record in (one(value=True), one(value="a"), one(value=0)):
        assert len([k for k in record if k in ("v", "vs", "vb")]) == 1


def test_what_is_no_number_is_never_written_as_one():
    for value in (float("nan"), INF, -INF, None):
        record = one(value=value, quality="timeout")
        assert record["vs"] == "" and record["q"] == "timeout" and "v" not in record
    assert one(value=INF)["q"] == "range"


def test_quality_is_there_only_when_it_is_not_good():
    assert "q" not in one()
    assert one(quality="exception:2")["q"] == "exception:2"


def test_numbers_are_as_short_as_they_can_be():
    for value, text in (
        (0.0, "0"),
        (1.0, "1"),
        (-0.5, "-0.5"),
        (12.5, "12.5"),
        (0.125, "0.125"),
        (65536.0, "65536"),
        (16777215.0, "16777215"),
    ):
        assert number(value) == text, (value, number(value))
    for value in (1e-7, 3.4e38, 1.5e10, 230.1, 0.1):
        assert abs(float(number(value)) - value) <= abs(value) * 1e-6
        assert len(number(value)) <= 12, number(value)


def test_a_float32_of_the_bus_is_written_with_its_own_digits():
    import struct

    for text in ("230.1", "49.98", "0.001", "-12.34", "1234.567"):
        value = struct.unpack("f", struct.pack("f", float(text)))[0]
        assert number(value) == text, number(value)


def test_scaling_noise_is_not_written():
    assert len(number(0.1 * 2345)) <= 7 and abs(float(number(0.1 * 2345)) - 234.5) < 1e-3


def test_seconds_are_exact():
    for ms, text in (
        (0, "0"),
        (1, "0.001"),
        (-1, "-0.001"),
        (1500, "1.5"),
        (-61000, "-61"),
        (4102444800001, "4102444800.001"),
    ):
        assert seconds(ms) == text


def test_no_samples_make_an_empty_pack():
    assert pack("x", []) == b"[]"
