from bus_fakes import Hal
from check import raises
from coupler.points.table import Table


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
        self.table = Table(cfg, self.hal, self.put)
        self.unit = cfg[0]["units"][0]
        self.block = self.unit["blocks"][0]

    def put(self, name, value, quality, unix_ms, ticks, unit):
        self.samples.append((name[12:], value, quality, unix_ms, unit))

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
    points = (point("a", u="W"), point("b", "i32", 1, w="CDAB"), point("c", "string", 3, len=4))
    world = World(config(*points, a=100))
    world.hal.unix = 1764000000123
    samples = world.read(7, 0xFFFE, 0xFFFF, 0x4B6F, 0x6200)
    assert samples == [
        ("a", 7, None, 1764000000123, "W"),
        ("b", -2, None, 1764000000123, None),
        ("c", "Kob", None, 1764000000123, None),
    ]
    assert world.table.find("field/meter/b").value == -2
    assert world.table.find("field/meter/x") is None


def test_samples_before_the_time_is_known_say_so():
    assert World(config(point())).read(1) == [("a", 1, None, None, None)]


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
    assert world.read(0x7FC0, 0) == [("a", None, "range", None, None)]
    assert world.table.find("field/meter/a").quality == "range"
    assert world.read(0x3F80, 0)[1:] == [("a", 1.0, None, None, None)]


def test_a_failed_block_fails_each_of_its_points_once():
    world = World(config(point("a"), point("b", at=1)))
    world.read(1, 2)
    assert world.fail()[2:] == [("a", None, "timeout", None, None), ("b", None, "timeout", None, None)]
    world.fail()
    assert len(world.samples) == 4
    assert world.read(1, 2)[4:] == [("a", 1, None, None, None), ("b", 2, None, None, None)]


def test_a_good_value_that_is_not_read_again_goes_stale():
    world = World(config(point()))
    world.read(1)
    world.table.age()
    world.hal.us += 11000000
    world.table.age()
    assert len(world.samples) == 1
    world.hal.us += 2000000
    world.table.age()
    assert world.samples[1:] == [("a", None, "stale", None, None)]
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
    assert [(s[0], s[1]) for s in world.samples] == [("a", 100), ("b", 10), ("a", 105), ("b", 30)]


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
    ):
        error = raises(ValueError, World, config(*cfg))
        assert str(error).startswith(path + field + ":"), (path + field, str(error))
    error = raises(ValueError, World, config(point("a", "u16"), fc=2))
    assert str(error).startswith(path + "[0].t:")
