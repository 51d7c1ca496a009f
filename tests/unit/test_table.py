import sys

from bus_fakes import Hal
from check import raises
from coupler.points.table import Table

# With this scale 3e38 is more than a float of this interpreter can be, with a twelfth of it two of them are.
_SCALE = 10 if 1.0 + 2.0**-30 == 1.0 else 6e270


class Error:
    quality = "timeout"


def config(*points, **block):
    cfg = {"fc": 4, "a": 0, "n": 20, "ms": 1000, "p": list(points)}
    cfg.update(block)
    return [{"name": "field", "units": [{"id": 1, "name": "meter", "timeout": 500, "blocks": [cfg]}]}]


def point(name="a", kind="u16", at=0, **more):
    cfg = {"n": "field/meter/" + name, "o": at, "t": kind}
    cfg.update(more)
    return cfg


class World:
    def __init__(self, cfg):
        self.hal = Hal()
        self.samples = []
        self.table = Table(cfg, self.hal)
        self.table.put = self.put
        self.unit = cfg[0]["units"][0]
        self.block = self.unit["blocks"][0]

    def put(self, number, value, quality, ticks):
        assert ticks == self.hal.ticks_ms()
        self.samples.append((self.table.points[number].name[12:], value, quality))

    def read(self, *registers):
        data = b"".join([bytes([r >> 8, r & 255]) for r in registers])
        self.table.on_block(self.unit, self.block, data + bytes(40 - len(data)), None)
        self.hal.us += 1000000
        return self.samples

    def fail(self):
        self.table.on_block(self.unit, self.block, None, Error())
        self.hal.us += 1000000
        return self.samples


def test_a_block_becomes_the_samples_of_its_points():
    points = (point("a", u="W"), point("b", "i32", 1, w="CDAB", h=True), point("c", "string", 3, len=4))
    world = World(config(*points, a=100))
    blocks = []
    world.table.done = lambda: blocks.append(len(world.samples))
    samples = world.read(7, 0xFFFE, 0xFFFF, 0x4B6F, 0x6200)
    assert samples == [
        ("a", 7, None),
        ("b", -2, None),
        ("c", "Kob", None),
    ]
    assert blocks == [3], "once for all of a block"
    assert [p.history for p in world.table.points] == [False, True, False]
    assert world.table.find("field/meter/b").value == -2
    assert world.table.find("field/meter/x") is None


def test_scale_and_offset_without_the_noise_of_binary_fractions():
    for raw, scale, offset, value in (
        (214, 0.1, 0, 21.4),
        (3, 0.1, 0, 0.3),
        (12345, 0.001, 0, 12.345),
        (214, 0.1, -20, 1.4),
        (5, 2.5, 1, 13.5),
        (5, 10, 0, 50),
        (5, -1, 0, -5),
    ):
        got = World(config(point(k=scale, b=offset))).read(raw)[0][1]
        assert abs(got - value) < 1e-6 * abs(value) and ("%.6g" % got) == ("%.6g" % value), (raw, scale, got)
    got = World(config(point(k=1.0))).read(65535)[0][1]
    assert got == 65535 and not isinstance(got, float), "a whole number stays one"


def test_what_is_no_number_has_the_quality_range():
    world = World(config(point("a", "float32")))
    assert world.read(0x7FC0, 0) == [("a", None, "range")]
    assert world.table.find("field/meter/a").quality == "range"
    assert world.read(0x3F80, 0)[1:] == [("a", 1.0, None)]


def test_a_raw_value_that_means_not_available_is_none():
    for kind, order, more, na, gone, there, value in (
        ("u16", "ABCD", {}, [0xFFFF], (0xFFFF,), (0xFFFE,), 0xFFFE),
        ("u16", "BADC", {}, [0x80FF], (0xFF80,), (0x80FF,), 0xFF80),
        ("i16", "ABCD", {}, [0x8000, 0x7FFF], (0x8000,), (0x8001,), -32767),
        ("i16", "ABCD", {"k": 0.1}, [0x8000, 0x7FFF], (0x7FFF,), (214,), 21.4),
        ("u32", "CDAB", {}, [0xFFFF0000], (0x0000, 0xFFFF), (0xFFFF, 0x0000), 0xFFFF),
        ("i32", "DCBA", {}, [0x80000000], (0x0000, 0x0080), (0xFEFF, 0xFFFF), -2),
        ("u64", "ABCD", {}, [0xFFFFFFFFFFFFFFFF], (0xFFFF,) * 4, (0, 0, 0, 7), 7),
        ("i64", "ABCD", {}, [1 << 63], (0x8000, 0, 0, 0), (0xFFFF,) * 4, -1),
        ("float32", "ABCD", {}, [0x7FC00000], (0x7FC0, 0), (0x41B8, 0), 23.0),
        ("float32", "CDAB", {}, [0xC61C3C00], (0x3C00, 0xC61C), (0, 0x41B8), 23.0),
        ("float64", "DCBA", {}, [0x7FF8000000000000], (0, 0, 0, 0xF87F), (0, 0, 0, 0x3740), 23.0),
        ("bits", "ABCD", {"from": 4, "count": 4}, [15], (0x00F0,), (0xFF1F,), 1),
        ("bits", "BADC", {"from": 4, "count": 4}, [15], (0xF000,), (0x1FFF,), 1),
    ):
        world = World(config(point("a", kind, 1, w=order, na=na, **more)))
        assert world.read(0, *gone) == [("a", None, "not-available")], (kind, order)
        assert world.table.find("field/meter/a").quality == "not-available"
        assert world.read(0, *there)[1:] == [("a", value, None)], (kind, order)


def test_of_two_values_that_are_no_number_only_the_named_one_is_not_available():
    world = World(config(point("a", "float32", 0, na=[0x7FC00000, 0x80000000])))
    for registers, quality in (
        ((0x7FC0, 0), "not-available"),
        ((0x7F80, 0), "range"),
        ((0x8000, 0), "not-available"),
        ((0, 0), None),
    ):
        assert world.read(*registers)[-1][2] == quality, registers
    assert world.samples[-1][1] == 0.0


def test_a_text_is_never_taken_for_not_available():
    samples = World(config(point("a", "string", 0, len=13))).read(
        0x6E6F, 0x742D, 0x6176, 0x6169, 0x6C61, 0x626C, 0x6500
    )
    assert samples == [("a", "not-available", None)]


def test_not_available_counts_in_no_aggregate():
    world = World(config(point("a", na=[0xFFFF], r={"agg": "mean", "min": 2000})))
    for raw in (10, 20, 0xFFFF, 0xFFFF, 30):
        world.read(raw)
    assert [s[1:3] for s in world.samples] == [(10, None), (15, None), (None, "not-available"), (30, None)]


def test_an_enumeration_gives_texts_and_what_it_does_not_name_as_a_number():
    texts = {"0": "off", "1": "heat", "-1": "fault"}
    world = World(config(point("a", "i16", 0, e=texts), point("b", "bits", 1, e={"2": "auto"}, count=2, **{"from": 6})))
    for raw in (0, 1, 1, 7, 0xFFFF):
        world.read(raw, 0xFFBF)
    assert [s[1:3] for s in world.samples if s[0] == "a"] == [
        ("off", None), ("heat", None), (7, None), ("fault", None),
    ]  # fmt: skip
    assert [s[1] for s in world.samples if s[0] == "b"] == ["auto"]


def test_an_enumeration_may_have_a_value_that_means_not_available():
    world = World(config(point("a", "u16", 0, e={"1": "heat"}, na=[255])))
    world.read(255)
    assert [s[1:3] for s in world.read(1)] == [(None, "not-available"), ("heat", None)]


def test_data_that_begin_at_the_point_are_taken_for_it_alone():
    world = World(config(point("a", at=3), point("b", at=4)))
    a = world.table.find("field/meter/a")
    world.table.on_block(world.unit, {"p": (a,)}, b"\x00\x07", None, -a.at)
    assert world.samples == [("a", 7, None)]


def test_the_age_of_a_point_counts_from_its_last_reading():
    world = World(config(point()))
    a = world.table.find("field/meter/a")
    world.read(1)
    world.hal.us += 2500000
    assert world.table.age_ms(a) == 3500
    world.fail()
    assert world.table.age_ms(a) == 1000


class Split:
    """The parts of a block, split until nothing is left to part."""

    def __init__(self, *points, **block):
        self.world = World(config(*points, a=100, **block))
        self.parts = self.part(self.world.block)

    def part(self, block):
        pair = self.world.table.split(block)
        if pair is None:
            return [block]
        assert all([len(half["p"]) < len(block["p"]) for half in pair])
        return self.part(pair[0]) + self.part(pair[1])

    def reads(self):
        return [(part["a"], part["n"], [p.name[12:] for p in part["p"]]) for part in self.parts]


def test_a_refused_block_is_halved_and_trimmed_to_its_points():
    points = (point("c", "u32", 12), point("a", "u16", 0), point("d", "string", 17, len=6), point("b", "u16", 2))
    world = World(config(*points, a=100))
    first, second = world.table.split(world.block)
    assert world.unit["blocks"] == [first, second] and world.unit["blocks"][0] is first
    assert (first["fc"], first["a"], first["n"], first["ms"]) == (4, 100, 3, 1000)
    assert (second["fc"], second["a"], second["n"], second["ms"]) == (4, 112, 8, 1000)
    for name, block, at in (("a", first, 0), ("b", first, 2), ("c", second, 0), ("d", second, 5)):
        found = world.table.find("field/meter/" + name)
        assert found in block["p"] and found.at == at and world.table.place(found)[2] is block, name
    assert world.table.place(found)[0]["name"] == "field" and world.table.place(found)[1] is world.unit
    world.table.on_block(world.unit, second, b"\0\1\0\2" + bytes(6) + b"Kobler", None)
    assert [s[:2] for s in world.samples] == [("c", 65538), ("d", "Kobler")]


def test_a_block_is_split_until_each_part_is_one_read():
    split = Split(*[point("p%d" % i, "u16", 2 * i) for i in range(5)], **{"n": 9})
    assert sorted(split.reads()) == [(100 + 2 * i, 1, ["p%d" % i]) for i in range(5)]
    assert len(split.world.unit["blocks"]) == 5 and split.world.table.split(split.parts[0]) is None


def test_points_that_share_registers_stay_right_when_they_are_parted():
    points = (
        point("low", "bits", 5, **{"from": 0, "count": 8}),
        point("high", "bits", 5, **{"from": 8, "count": 8}),
        point("whole", "u32", 5),
        point("half", "u16", 6),
    )
    split = Split(*points)
    assert split.reads() == [(105, 1, ["low", "high"]), (105, 2, ["whole"]), (106, 1, ["half"])]
    wire = b"\x12\x34\x56\x78"
    for part in split.parts:
        at = 2 * (part["a"] - 105)
        split.world.table.on_block(split.world.unit, part, wire[at : at + 2 * part["n"]], None)
    values = {s[0]: s[1] for s in split.world.samples}
    assert values == {"low": 0x34, "high": 0x12, "whole": 0x12345678, "half": 0x5678}


def test_a_block_is_split_where_the_hole_most_likely_is():
    world = World(config(*[point("p%d" % at, "u16", at) for at in (0, 1, 2, 3, 9)], **{"n": 10, "a": 100}))
    first, second = world.table.split(world.block)
    assert [(block["a"], block["n"]) for block in (first, second)] == [(100, 4), (109, 1)]


def test_a_block_of_bits_is_split_by_bits():
    split = Split(point("a", "bool", 0), point("b", "bool", 13), point("c", "bool", 14), fc=1)
    assert split.reads() == [(100, 1, ["a"]), (113, 1, ["b"]), (114, 1, ["c"])]
    split.world.table.on_block(split.world.unit, split.parts[2], b"\x01", None)
    assert [s[:2] for s in split.world.samples] == [("c", True)]


def test_the_points_of_a_split_block_still_go_stale():
    world = World(config(point("a"), point("b", at=1)))
    world.read(1, 2)
    world.table.split(world.block)
    world.hal.us += 20000000
    world.table.age()
    assert [s[:3] for s in world.samples[2:]] == [("a", None, "stale"), ("b", None, "stale")]


def test_points_that_are_alike_share_what_they_are():
    rows = [point("p%d" % i, "i16", i, k=k, na=[9], u="W") for i, k in enumerate((0.1, 0.1, 0.5))]
    a, b, c = World(config(*rows)).table.points
    assert a.form is b.form and c.form is not a.form
    assert [p.read(b"\0\x05" * 3) for p in (a, b, c)] == [0.5, 0.5, 2.5]


def test_a_failed_block_fails_each_of_its_points_once():
    world = World(config(point("a"), point("b", at=1)))
    world.read(1, 2)
    assert world.fail()[2:] == [("a", None, "timeout"), ("b", None, "timeout")]
    world.fail()
    assert len(world.samples) == 4
    assert world.read(1, 2)[4:] == [("a", 1, None), ("b", 2, None)]


def test_a_good_value_that_is_not_read_again_goes_stale():
    world = World(config(point()))
    world.read(1)
    world.table.age()
    world.hal.us += 11000000
    world.table.age()
    assert len(world.samples) == 1
    world.hal.us += 2000000
    world.table.age()
    assert world.samples[1:] == [("a", None, "stale")]
    world.hal.us += 20000000
    world.table.age()
    assert len(world.samples) == 2


def test_coils_are_switches():
    world = World(config(point("a", "bool", 0), point("b", "bool", 9), fc=1))
    world.table.on_block(world.unit, world.block, b"\x01\x00\x00", None)
    assert [(s[0], s[1]) for s in world.samples] == [("a", True), ("b", False)]


def test_bits_of_a_register():
    assert World(config(point("a", "bits", 0, **{"from": 4, "count": 8}))).read(0xABCD)[0][1] == 0xBC


def test_reporting_follows_the_points_own_rules():
    world = World(config(point("a", r={"db": 5.0}), point("b", at=1, r={"agg": "mean", "min": 2000})))
    for a, b in ((100, 10), (104, 20), (105, 40)):
        world.read(a, b)
    assert [(s[0], s[1]) for s in world.samples] == [("a", 100), ("b", 10), ("a", 105), ("b", 15)]


def test_what_is_due_at_the_end_of_a_window_is_due_together():
    # Two devices, read one after the other; the second one did not answer at first.
    rule = {"min": 5000}
    cfg = config(*[point(agg, r=dict(rule, agg=agg)) for agg in ("mean", "sum", "count")])
    late = [point(agg, r=dict(rule, agg=agg)) for agg in ("min", "max")]
    block = {"fc": 4, "a": 0, "n": 20, "ms": 1000, "p": late}
    valve = {"id": 2, "name": "valve", "timeout": 500, "blocks": [block]}
    cfg[0]["units"].append(valve)
    world = World(cfg)
    start = world.hal.us
    due = {}
    for i in range(21):
        del world.samples[:]
        world.hal.us = start + 1000000 * i + 20000
        data = bytes([0, i]) * 20
        world.table.on_block(world.unit, world.block, data, None)
        world.hal.us += 300000
        if i in (0, 1, 12):
            world.table.on_block(valve, block, None, Error())
        else:
            world.table.on_block(valve, block, data, None)
        if i > 2 and world.samples:
            due[i] = [s[0] for s in world.samples]
    together = ["mean", "sum", "count", "min", "max"]
    assert due.pop(12) == ["min", "min", "max", "max"], "12 and 13: a change of quality waits for no window"
    assert due.pop(13) == ["min", "max"]
    assert due == {5: together, 10: together, 15: together, 20: together}


def test_what_the_scale_makes_too_large_for_a_float_has_the_quality_range():
    large = (0x7F61, 0xB1E6)  # 3e38
    for more in ({"k": _SCALE}, {"k": _SCALE, "b": 1}, {"k": _SCALE, "r": {"agg": "sum", "min": 2000}}):
        world = World(config(point("a", "float32", **more)))
        world.read(*large)
        assert world.samples == [("a", None, "range")], more
        assert world.table.find("field/meter/a").value is None
        world.read(*large)
        assert [s[1:3] for s in world.read(0, 0)[1:]] == [(more.get("b", 0), None)], more


def test_an_aggregate_too_large_for_a_float_has_the_quality_range():
    large = (0x7F61, 0xB1E6)
    world = World(config(point("a", "float32", k=_SCALE / 12, r={"agg": "sum", "min": 2000})))
    for registers in ((0, 0), large, large, (0, 0)):
        world.read(*registers)
    assert [s[1:3] for s in world.samples] == [(0, None), (None, "range"), (0, None)]
    world = World(config(point("a", "float32", k=_SCALE / 12, r={"agg": "sum", "min": 9000})))
    for registers in ((0, 0), large, large):
        world.read(*registers)
    assert [s[1:3] for s in world.fail()] == [(0, None), (None, "range"), (None, "timeout")]


def test_only_who_aggregates_pays_for_it():
    name = "coupler.points.aggregate"
    sys.modules.pop(name, None)
    World(config(point(r={"db": 1.0, "min": 5000})))
    assert name not in sys.modules
    World(config(point(r={"agg": "count"})))
    assert name in sys.modules


def test_a_broken_point_is_refused_with_the_name_of_the_field():
    path = "bus[0].units[0].blocks[0].p"
    for cfg, field in (
        ([None], "[0].n"),
        ([point(""), point("b", n=7)], "[1].n"),
        ([point(t=None)], "[0].t"),
        ([point(t="u8")], "[0].t"),
        ([point(w="ABDC")], "[0].w"),
        ([point(at=20)], "[0].o"),
        ([point("a", "u32", 19)], "[0].o"),
        ([point(at="0")], "[0].o"),
        ([point(k="0.1")], "[0].k"),
        ([point(b=None)], "[0].b"),
        ([point("a", "bool", 0, k=2)], "[0].k"),
        ([point("a", "bits", 0)], "[0].from"),
        ([point("a", "bits", 0, **{"from": 10, "count": 7})], "[0].count"),
        ([point("a", "string", 0)], "[0].len"),
        ([point(r={"agg": "best"})], "[0].r.agg"),
        ([point("a"), point("a")], ""),
        ([], ""),
        ([point(k=0)], "[0].k"),
        ([point(na=[])], "[0].na"),
        ([point(na=65535)], "[0].na"),
        ([point(na=[65535, 65536])], "[0].na[1]"),
        ([point(na=[-1])], "[0].na[0]"),
        ([point(na=[True])], "[0].na[0]"),
        ([point("a", "float32", 0, na=[1.5])], "[0].na[0]"),
        ([point("a", "float32", 0, na=[1 << 32])], "[0].na[0]"),
        ([point("a", "bits", 0, na=[8], count=3, **{"from": 2})], "[0].na[0]"),
        ([point("a", "bool", 0, na=[0])], "[0].na"),
        ([point("a", "string", 0, na=[0], len=2)], "[0].na"),
        ([point(e=["off"])], "[0].e"),
        ([point(e={})], "[0].e"),
        ([point(e={"1": ""})], "[0].e.1"),
        ([point(e={"1": 2})], "[0].e.1"),
        ([point(e={"one": "a"})], "[0].e"),
        ([point(e={"01": "a"})], "[0].e"),
        ([point(e={"-1": "a"})], "[0].e"),
        ([point(e={"65536": "a"})], "[0].e"),
        ([point("a", "i16", 0, e={"65535": "a"})], "[0].e"),
        ([point("a", "bits", 0, e={"2": "a"}, count=1, **{"from": 2})], "[0].e"),
        ([point("a", "float32", 0, e={"1": "a"})], "[0].e"),
        ([point("a", "bool", 0, e={"1": "a"})], "[0].e"),
        ([point(e={"1": "a"}, k=0.1)], "[0].k"),
        ([point(e={"1": "a"}, b=1)], "[0].b"),
        ([point(e={"1": "a"}, r={"db": 1})], "[0].r"),
    ):
        error = raises(ValueError, World, config(*cfg))
        assert str(error).startswith(path + field + ":"), (path + field, str(error))
    error = raises(ValueError, World, config(point("a", "u16"), fc=2))
    assert str(error).startswith(path + "[0].t:")


def test_only_what_can_be_written_is_said_to_be_writable():
    path = "bus[0].units[0].blocks[0].p[0].wr"
    good = {"role": "operator", "min": -1, "max": 2.5, "verify": True, "ms": 1000}
    for wr, more, block, field in (
        (good, {}, {"fc": 4}, ""),
        (good, {"t": "bool"}, {"fc": 2}, ""),
        ("yes", {}, {}, ".role"),
        ({"min": 1}, {}, {}, ".role"),
        ({"role": ""}, {}, {}, ".role"),
        ({"role": "a", "min": "1"}, {}, {}, ".min"),
        ({"role": "a", "max": None}, {}, {}, ".max"),
        ({"role": "a", "max": float("nan")}, {}, {}, ".max"),
        ({"role": "a", "min": 2, "max": 1}, {}, {}, ".min"),
        ({"role": "a", "min": 0}, {"t": "bool"}, {}, ".min"),
        ({"role": "a", "max": 1}, {"t": "bool"}, {"fc": 1}, ".max"),
        ({"role": "a", "max": 1}, {"t": "string", "len": 2}, {}, ".max"),
        ({"role": "a", "max": 1}, {"e": {"1": "heat"}}, {}, ".max"),
        ({"role": "a", "verify": 1}, {}, {}, ".verify"),
        ({"role": "a", "ms": 1.5}, {}, {}, ".ms"),
        ({"role": "a", "ms": -1}, {}, {}, ".ms"),
        ({"role": "a"}, {"t": "string", "len": 247}, {"n": 125}, ""),
    ):
        row = point("a", wr=wr)
        row.update(more)
        block = {"fc": block.get("fc", 3), "n": block.get("n", 20)}
        error = raises(ValueError, World, config(row, **block))
        assert str(error).startswith(path + field + ":"), (wr, more, str(error))
    assert World(config(point("a", wr=good), fc=3)).table.find("field/meter/a").wr == good
    assert World(config(point("a", "bool", wr={"role": "a"}), fc=1)).table.find("field/meter/a").wr
    assert World(config(point("a", "string", 0, len=246, wr={"role": "a"}), fc=3, n=125))
    assert World(config(point())).table.find("field/meter/a").wr is None
